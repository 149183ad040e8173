"""`pairwright list TOPIC`: what there is, with one line and a source for each."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from pairwright.cli.flags import DEBUG, JSON, parse, words
from pairwright.cli.out import show_json, table
from pairwright.errors import InputError, need
from pairwright.plug import listing, nearest

TOPICS: dict[str, str] = {
    "losses": "pairwright.losses.table:LOSSES",
    "metrics": "pairwright.metrics.table:METRICS",
    "cuts": "pairwright.cuts:CUTS",
    "modes": "pairwright.relabel.table:MODES",
    "rules": "pairwright.pairing:PAIRINGS",
    "scorers": "pairwright.scorers.table:SCORERS",
    "verifiers": "pairwright.scorers.rules:VERIFIERS",
    "checks": "pairwright.audit.table:CHECKS",
    "formats": "pairwright.formats.table:FORMATS",
    "engines": "pairwright.generate.table:ENGINES",
    "operators": "pairwright.evolve.operators:OPERATORS",
    "evaluations": "pairwright.evaluate.table:EVALUATIONS",
    "diagnostics": "pairwright.diagnose.table:DIAGNOSTICS",
    "claims": "pairwright.reproduce.table:CLAIMS",
    "steps": "pairwright.pipeline.steps:STEPS",
    "profiles": "pairwright.train.profiles:PROFILES",
}
"""The table of each topic."""

NEEDED: dict[str, str] = {
    "ref": "reference",
    "length": "lengths",
    "score": "scores",
    "scores": "named scores",
    "token_logp": "tokens",
    "token_ref": "tokens",
    "token_collision": "tokens",
    "anchor": "goals",
}
"""What a loss may need, as people call it. These words stand in docs/losses too."""
BASELINES: dict[str, str] = {"mismatched_kl": "baseline (KL)", "running_mean": "baseline (running mean)"}
"""What a loss may have as baseline, as people call it."""
BATCH = "whole batch"
"""Of a loss whose value for one row depends on the other rows."""


def show(verb: str, arguments: Sequence[str]) -> int:
    """`pairwright list TOPIC [--json]`."""
    topics = ", ".join(TOPICS)
    flags = [words("topic", "TOPIC", f"One of: {topics}."), JSON, DEBUG]
    says = "What there is: name, one line, source. Your own is always `module:function`."
    given = parse(verb, says, flags, arguments)
    topic = given["topic"]
    if topic not in TOPICS:
        raise InputError(f"there is no list of {topic!r}{nearest(topic, TOPICS) or f'; there are {topics}'}")
    rows = rows_of(topic)
    if given["json"]:
        show_json(rows)
    elif topic == "losses":
        cells = [
            (row["name"], ", ".join(asked_in_words(row)) or "-", ", ".join(row["takes"]), row["says"], row["source"])
            for row in rows
        ]
        print(table(cells, ("name", "needs", "takes", "what it is", "source")))
    else:
        print(table([(row["name"], row["says"], row["source"]) for row in rows], ("name", "what it is", "source")))
    return 0


def rows_of(topic: str) -> list[dict[str, Any]]:
    """The rows of one list: `name, says, source, settings`.

    Those of losses have besides: what the loss needs (`needs`), the examples that it takes in the words of the setting
    `examples` (`takes`), what it would have as `baseline`, and whether a row's value depends on the other rows of its
    batch (`of_batch`).
    """
    if topic == "losses":
        need("torch", extra="train")
    module, _, name = TOPICS[topic].partition(":")
    found: Mapping[str, Any] = getattr(import_module(module), name)
    shape = _SHAPES.get(topic)
    return shape(found) if shape else listing(found)


def asked_in_words(row: Mapping[str, Any]) -> list[str]:
    """What a loss asks for, each in a word or two; empty where the log-probabilities of the answers are enough.

    Args:
        row: of the list of losses.
    """
    words = [word for name, word in NEEDED.items() if name in row["needs"]]
    words += [BASELINES[row["baseline"]]] if row["baseline"] else []
    words += [BATCH] if row["of_batch"] else []
    return list(dict.fromkeys(words))


def _losses(table_of_losses: Mapping[str, Any]) -> list[dict[str, Any]]:
    from pairwright.losses import asks
    from pairwright.train.losses import kinds_of

    rows = []
    for row in listing(table_of_losses):
        loss = table_of_losses[row["name"]]
        asked = asks(loss)
        row |= {"needs": sorted(asked.needs), "takes": kinds_of(loss)}
        row |= {"baseline": asked.baseline, "of_batch": asked.of_batch}
        rows.append(row)
    return rows


def _formats(table_of_formats: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "says": form.says, "source": form.source, "columns": list(form.columns)}
        for name, form in table_of_formats.items()
    ]


def _steps(verbs: Mapping[str, Any]) -> list[dict[str, Any]]:
    from pairwright.pipeline.signature import REQUIRED, as_json, first_sentence
    from pairwright.pipeline.steps import settings_schema

    rows = []
    for name, verb in verbs.items():
        function, schema = settings_schema(verb)
        settings = {
            key: "required" if setting.default is REQUIRED else as_json(setting.default)
            for key, setting in schema.settings.items()
        }
        rows.append({"name": name, "says": first_sentence(function), "source": verb.call, "settings": settings})
    return rows


def _profiles(files: Mapping[str, Any]) -> list[dict[str, Any]]:
    from pairwright.train.profiles import says

    return [{"name": name, "says": says(path), "source": str(path)} for name, path in files.items()]


def _operators(files: Mapping[str, Any]) -> list[dict[str, Any]]:
    from pairwright.evolve.operators import read_operator

    return [{"name": name, "says": read_operator(name).says, "source": str(path)} for name, path in files.items()]


def _claims(claims: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "says": claim.says, "source": claim.source, "world": claim.world, "paper": claim.paper}
        for name, claim in claims.items()
    ]


_SHAPES: dict[str, Callable[[Mapping[str, Any]], list[dict[str, Any]]]] = {
    "formats": _formats,
    "losses": _losses,
    "steps": _steps,
    "profiles": _profiles,
    "operators": _operators,
    "claims": _claims,
}
