"""`each:` in a recipe: the same steps for every value of something, such as the rounds of a training or a sweep.

    - each: {beta: [0.01, 0.1, 1.0], seed: [1, 2]}
      do:
        - {name: "dpo-{beta}-{seed}", do: train, from: select, model: step:base, beta: "{beta}", seed: "{seed}"}
    - {do: diagnose}

becomes six trainings, the last value changing fastest. `{round-1}` is one less than `{round}`, so that a round can name
the one before; `{{goal}}` is the text `{goal}`. Afterwards `step:measured-*` in a list stands for every earlier step of
such a name, in order.
"""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from pairwright.errors import InputError
from pairwright.pipeline.signature import unfit

MOST = 1000
"""Steps that one block may become: a slip of the keyboard should not plan a million."""

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(-1)?\}")
_PLACE_OR_TEXT = re.compile(r"\{\{(?P<text>[^{}]*)\}\}|" + _PLACE.pattern)
_NUMBER = re.compile(r"[-+]?(\d+|\d+\.\d*|\.\d+)([eE][-+]?\d+)?")
_STAR = re.compile(r"step:\S*\*\S*")


def expanded(items: Sequence[Any], *, title: str) -> list[Any]:
    """A recipe's list of steps with every `each:` block written out; all other items as they are.

    Args:
        items: the steps, as read.
        title: of the recipe, for messages.

    Raises:
        InputError: a block has no values or no steps, names a value that it does not have, takes one from a value that
            is no whole number, or becomes too many steps.
    """
    found: list[Any] = []
    for number, item in enumerate(items, 1):
        if isinstance(item, Mapping) and "each" in item:
            found += _written_out(item, f"{title}, step {number}")
        else:
            found.append(item)
    return found


def gathered(settings: Mapping[str, Any], names: Sequence[str], *, title: str) -> dict[str, Any]:
    """A step's settings in which `step:measured-*`, in a list, has become every earlier step of such a name.

    Args:
        settings: of the step.
        names: of the steps before it, in order.
        title: of the step, for messages.

    Raises:
        InputError: no earlier step has such a name.
    """
    return {key: _gathered(value, names, title) for key, value in settings.items()}


def _gathered(value: Any, names: Sequence[str], title: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _gathered(item, names, title) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    found: list[Any] = []
    for item in value:
        if not (isinstance(item, str) and _STAR.fullmatch(item)):
            found.append(_gathered(item, names, title))
            continue
        fitting = [f"step:{name}" for name in names if fnmatchcase(name, item.removeprefix("step:"))]
        if not fitting:
            raise InputError(f"{title}: no earlier step has a name like {item.removeprefix('step:')!r}")
        found += fitting
    return found


def _written_out(block: Mapping[str, Any], title: str) -> list[Any]:
    for key, value in block.items():
        if problem := unfit(value):
            raise InputError(f"{title}: {key}: {problem}")
    values, steps = block["each"], block.get("do")
    if unknown := [str(key) for key in block if key not in ("each", "do")]:
        raise InputError(
            f"{title}: an `each:` block has no {unknown[0]!r}; it has the values (`each:`) and the steps (`do:`)"
        )
    if not (
        isinstance(values, Mapping) and values and all(isinstance(each, list) and each for each in values.values())
    ):
        raise InputError(f"{title}: `each:` names what changes and its values, such as `each: {{seed: [1, 2, 3]}}`")
    if not (isinstance(steps, list) and steps and all(isinstance(step, Mapping) for step in steps)):
        raise InputError(f"{title}: an `each:` block needs `do:` with a list of steps")
    count = len(steps)
    for each in values.values():
        count *= len(each)
    if count > MOST:
        raise InputError(f"{title}: this block becomes {count:,} steps, and {MOST:,} are the most; give fewer values")
    names = [str(name) for name in values]
    return [
        _filled(step, dict(zip(names, combination, strict=True)), title)
        for combination in product(*values.values())
        for step in steps
    ]


def _filled(value: Any, values: Mapping[str, Any], title: str) -> Any:
    """A setting with its places filled; one that is nothing but a place gets the value itself."""
    if isinstance(value, Mapping):
        return {key: _filled(item, values, title) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values, title) for item in value]
    if not isinstance(value, str):
        return value
    whole = _PLACE.fullmatch(value)
    if whole:
        return _value(whole, values, title)
    if not _PLACE_OR_TEXT.search(value):
        return value
    text = _PLACE_OR_TEXT.sub(lambda place: _text_at(place, values, title), value)
    # `seed: "2{round}"` is a number, and stays the text that it is where it could be none.
    if _NUMBER.fullmatch(text):
        return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
    return text


def _text_at(place: re.Match[str], values: Mapping[str, Any], title: str) -> str:
    if place["text"] is not None:
        return "{" + place["text"] + "}"
    value = _value(place, values, title)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _value(place: re.Match[str], values: Mapping[str, Any], title: str) -> Any:
    name, less = place.groups()[-2:]
    if name not in values:
        raise InputError(f"{title}: there is no value {name!r} for {place.group()}; there are {', '.join(values)}")
    value = values[name]
    if not less:
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{title}: {place.group()} is one less than a whole number, and {name} is {value!r}")
    return value - 1
