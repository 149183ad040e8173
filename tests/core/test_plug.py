"""The extension mechanism: names, settings, conversions, and the sentence for each mistake."""

import sys
from functools import partial

import pytest

from pairwright.errors import InputError, MissingExtra, need
from pairwright.plug import bind, find, listing, nearest


def scale(values: list[float], *, factor: float, offset: float = 0.0) -> list[float]:
    """Scale values.

    Source: arXiv 0000.00000,
        eq. 3.
    """
    return [factor * value + offset for value in values]


TABLE = {"scale": scale}


def test_a_plug_is_found_by_name_and_by_module() -> None:
    assert find(TABLE, "scale", kind="metric") is scale
    from math import fsum

    assert find(TABLE, "math:fsum", kind="metric") is fsum


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("scael", "there is no metric 'scael'; did you mean 'scale'? (your own is 'module:function')"),
        ("zzz", "there is no metric 'zzz'; there are scale (your own is 'module:function')"),
        (
            "no_such_module:f",
            "metric 'no_such_module:f': there is no module 'no_such_module' on the Python path",
        ),
        ("math:nope", "metric 'math:nope': module 'math' has no function 'nope'"),
        ("math:pi", "metric 'math:pi' is not a function"),
    ],
)
def test_a_wrong_name_is_one_sentence(spec: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        find(TABLE, spec, kind="metric")
    assert str(caught.value) == sentence
    assert caught.value.exit_code == 2


def test_settings_are_converted_by_type() -> None:
    """YAML 1.1 reads 1e-1 as a string: 0.1 * 5 + 2 = 2.5."""
    assert bind(scale, {"factor": "1e-1", "offset": 2}, kind="metric")([5.0]) == [2.5]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"facto": 1.0}, "metric 'scale' has no setting 'facto'; did you mean 'factor'?"),
        ({}, "factor: Field required"),
        ({"factor": "hot"}, "factor: Input should be a valid number"),
    ],
)
def test_a_wrong_setting_is_one_sentence(settings: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match="scale") as caught:
        bind(scale, settings, kind="metric")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_listing_reads_the_docstring_and_the_signature() -> None:
    assert listing(TABLE) == [
        {
            "name": "scale",
            "says": "Scale values.",
            "source": "arXiv 0000.00000, eq. 3.",
            "settings": {"factor": "required", "offset": 0.0},
        }
    ]


def test_nearest_is_silent_when_nothing_is_near() -> None:
    assert nearest("beta", ["gamma", "tau"]) == ""


def test_a_missing_library_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"torch is not installed; run: pip install 'pairwright\[train\]'"):
        need("torch", extra="train")


class Scaled:
    """A plug that is an object."""

    def __call__(self, values: list[float], *, factor: float, offset: float = 0.0) -> list[float]:
        return scale(values, factor=factor, offset=offset)


scaled = Scaled()
half = partial(scale, factor=0.5)


@pytest.mark.parametrize("spec", [f"{__name__}:scaled", f"{__name__}:half"])
def test_objects_and_plugs_with_bound_settings_are_plugs_too(spec: str) -> None:
    """0.25 * 8 + 1 = 3; the text is converted by the declared type."""
    plug = find({}, spec, kind="metric")
    assert bind(plug, {"factor": "2.5e-1", "offset": 1}, kind="metric")([8.0]) == [3.0]
    with pytest.raises(InputError, match="factor: Input should be a valid number"):
        bind(plug, {"factor": "hot"}, kind="metric")


def test_a_bound_setting_is_the_default() -> None:
    """0.5 * 8 + 1 = 5."""
    assert bind(half, {"offset": 1}, kind="metric")([8.0]) == [5.0]
