"""How a loss is used, as text that its page shows and the tests run: in a recipe, by `train`, and by itself."""

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pairwright.losses import LOSSES, GroupLogps, PairLogps, PointLogps, asks, takes
from pairwright.plug import settings_of

Loss = Callable[..., Any]

WIDTH = 120
"""Of a line of Python; pages are formatted as code is."""

LIKELIHOODS = ("sft", "sft_sum")
"""Losses of single answers that do not ask which are wanted, and so take no threshold."""


SHOWN: dict[str, dict[str, Any]] = {"modpo": {"margins": {"honesty": 0.5}}}
"""Settings that a page gives although their default is no plain value, because the default is seldom what is meant."""


def recipe_lines(name: str) -> Iterator[str]:
    """A step of a recipe for each kind of example that the loss can be trained on."""
    said = ", ".join(f"{key}: {_yaml(value)}" for key, value in _defaults(name).items())
    end = f", {said}}}" if said else "}"
    for extra in _examples(name):
        more = "".join(f", {key}: {_yaml(value)}" for key, value in extra.items())
        yield f"- {{do: train, model: MODEL, loss: {name}{more}{end}"


def train_lines(name: str) -> Iterator[str]:
    """The same as a call of `train`."""
    said = "".join(f", {key}={_python(value)}" for key, value in _defaults(name).items())
    given = f'prefs, model="MODEL", output="run", loss="{name}"{said}'
    whole = f"run = pw.train({given})"
    yield from [whole] if len(whole) <= WIDTH else ["run = pw.train(", f"    {given}", ")"]


def call_lines(name: str) -> list[str]:
    """A program that calls the loss on each record that it takes, with all that it needs and nothing else."""
    loss = LOSSES[name]
    made: dict[Any, Any] = {PairLogps: _pair_lines, GroupLogps: _group_lines, PointLogps: _point_lines}
    kinds = [kind.__name__ for kind in takes(loss)]
    lines = [
        "from torch import tensor",
        "",
        f"from pairwright.losses import {', '.join(sorted([*kinds, 'Side']))}, {name}",
    ]
    for kind in takes(loss):
        variable, rows = made[kind](loss)
        lines += ["", *rows, f"print({name}({variable}).loss)"]
    return lines


def _examples(name: str) -> Iterator[dict[str, Any]]:
    """What a recipe says of the examples, for each record that the loss takes."""
    ways: dict[Any, dict[str, Any]] = {
        PairLogps: {},
        GroupLogps: {"examples": "groups"},
        PointLogps: {"examples": "responses"} | ({} if name in LIKELIHOODS else {"threshold": 7.0}),
    }
    return (ways[kind] for kind in takes(LOSSES[name]))


def _defaults(name: str) -> dict[str, Any]:
    """The settings that have a plain default, and those of `SHOWN`."""
    return {
        key: parameter.default
        for key, parameter in settings_of(LOSSES[name]).items()
        if parameter.default is not None and parameter.default is not parameter.empty
    } | SHOWN.get(name, {})


# The worked example of the tests, and a third answer for groups; a token's share is even.
LOGPS, LENGTHS, REFS, SCORES = (-10.0, -12.0, -14.0), (8, 10, 10), (-11.0, -11.5, -13.0), (9.0, 6.0, 2.0)
CHANCES = (0.8, 0.3, 0.1)


def _fields(loss: Loss, places: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """The fields of a side that the loss needs, for these answers of the worked example, as Python."""
    needs = asks(loss).needs
    scores = CHANCES if loss is LOSSES.get("sppo") else SCORES
    rows: dict[str, tuple[Any, ...]] = {"length": LENGTHS, "ref": REFS, "score": scores}
    yield "logp", _many([LOGPS[place] for place in places])
    yield from ((field, _many([row[place] for place in places])) for field, row in rows.items() if field in needs)
    for field, sums in (("token_logp", LOGPS), ("token_ref", REFS)):
        if field in needs:
            yield field, f"tensor([{', '.join(_tokens(sums[place], LENGTHS[place]) for place in places)}])"


def _many(values: list[Any]) -> str:
    return f"tensor([{', '.join(str(value) for value in values)}])"


def _tokens(total: float, length: int) -> str:
    rest = max(LENGTHS) - length
    return f"[{total / length:g}] * {length}" + (f" + [0.0] * {rest}" if rest else "")


def _side(fields: Iterable[tuple[str, str]]) -> str:
    return f"Side({', '.join(f'{name}={value}' for name, value in fields)})"


def _broken(name: str, fields: Iterator[tuple[str, str]]) -> list[str]:
    """A side as an argument, on one line where it fits."""
    each = list(fields)
    whole = f"    {name}={_side(each)},"
    return (
        [whole]
        if len(whole) <= WIDTH
        else [f"    {name}=Side(", *(f"        {key}={value}," for key, value in each), "    ),"]
    )


def _pair_lines(loss: Loss) -> tuple[str, list[str]]:
    rows = [*_broken("chosen", _fields(loss, (0,))), *_broken("rejected", _fields(loss, (1,)))]
    if "anchor" in asks(loss).needs:
        rows.append("    anchor=Side(logp=tensor([-9.0])),")
    return "pair", ["pair = PairLogps(", *rows, ")"]


def _group_lines(loss: Loss) -> tuple[str, list[str]]:
    rows = (
        f"    {name}={value.replace('([', '([[').replace('])', ']])')}," for name, value in _fields(loss, (0, 1, 2))
    )
    return "group", ["answers = Side(", *rows, ")", "group = GroupLogps(answers)"]


def _point_lines(loss: Loss) -> tuple[str, list[str]]:
    return "points", [
        f"answers = {_side(_fields(loss, (0, 1)))}",
        "points = PointLogps(answers, wanted=tensor([True, False]))",
    ]


def printed(lines: list[str]) -> list[str]:
    """The program with what each `print` prints beside it."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile("\n".join(lines), "a page of docs/losses", "exec"), {"__name__": "page"})
    said = iter(out.getvalue().splitlines())
    return [f"{line}  # {next(said)}" if line.startswith("print(") else line for line in lines]


def _python(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict) else repr(value)


def _yaml(value: Any) -> str:
    """A value as YAML reads it: `1e-3` would be text there, so small numbers are written out."""
    if isinstance(value, float):
        return f"{value:.10f}".rstrip("0") + ("0" if value == int(value) else "")
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml(each)}' for key, each in value.items())}}}"
    return str(value)
