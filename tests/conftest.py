"""What every test shares. Nothing here imports torch, so that the tests of the torch-free floors stay quick."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Tests use no network, whatever a library would like to look up; set before any of them is imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
# Two workers with all cores each are slower than two workers with one core each, on models this small.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """`shared("data/extra/x.gz")`: a file of the folder `shared` beside the checkout, or a skip with the reason.

    The folder holds real preference data that the project may not republish. PAIRWRIGHT_SHARED names another place.
    """
    folder = Path(os.environ.get("PAIRWRIGHT_SHARED") or ROOT.parent / "shared")

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"there is no {name} in the shared folder; set PAIRWRIGHT_SHARED to the folder that has it")
        return path

    return find


@pytest.fixture(autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of log-probabilities for each test, empty; nobody's own is read or written."""
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path_factory.mktemp("store")))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
