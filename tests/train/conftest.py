"""What the tests of training start from: two tiny models of other weights, and eight pairs."""

from pathlib import Path

import pytest

import tiny
from pairwright.preferences import Preferences


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.model(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.model(tmp_path_factory.mktemp("tiny") / "other", seed=1)


@pytest.fixture(scope="module")
def prefs() -> Preferences:
    return tiny.preferences(8)
