"""STEPS: which function a step of a recipe calls, where its data comes from and what it leaves behind."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pairwright.errors import InputError
from pairwright.pipeline import plugs
from pairwright.pipeline.signature import Function, Setting, Signature, check, load, signature
from pairwright.plug import nearest

Kind = Literal["data", "answers", "model", "audit", "result", "diagnosis", "report", "file"]
"""`data` are preferences; `answers` are preferences without pairs, as `generate` writes them."""

Rest = Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Setting], str], dict[str, Any]]
"""Checks the settings that a verb hands on (`**settings`): `(own, others, known, title) -> others, converted`."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """How a step calls a verb."""

    call: str
    """The function, `module:function`; its module is imported when a recipe uses it."""
    gives: Kind
    """What it leaves behind."""
    data: str | None = "prefs"
    """The parameter that takes the data of an earlier step; None takes none."""
    takes: tuple[Kind, ...] = ("data", "answers")
    """Which kinds of data it takes."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """Parameters that the run fills in: a path in the step's directory (`.` is the directory itself)."""
    reads: tuple[str, ...] = ()
    """Settings that may be paths of files or directories; what these hold is digested."""
    whole_run: str | None = None
    """The parameter that takes the run directory itself, so that the step depends on all before it."""
    rest: Rest | None = None
    """Checks the settings that the verb hands on; None: it takes none of others."""
    resumable: bool = False
    """Whether an unfinished attempt is continued by the verb itself instead of being removed."""
    slow: bool = False
    """Whether a log should say when it starts."""


_MODELS = ("model", "reference", "tokenizer")

STEPS: dict[str, Verb] = {
    "world lists": Verb(call="pairwright.worlds.lists:make", gives="data", data=None),
    "world lists_text": Verb(call="pairwright.worlds.lists:text", gives="data", data=None),
    "read": Verb(
        call="pairwright.formats.read:read",
        gives="data",
        data=None,
        paths={"rejects": "rejected.jsonl"},
        reads=("source",),
    ),
    "audit": Verb(call="pairwright.audit:audit", gives="audit", reads=("tokenizer",)),
    "split": Verb(call="pairwright.split:split", gives="data"),
    "pair": Verb(call="pairwright.pairing:pair", gives="data", rest=plugs.rule_settings),
    "score": Verb(
        call="pairwright.scorers:score",
        gives="data",
        paths={"keep": "checkpoints"},
        reads=(*_MODELS, "policy", "like", "prompt"),
        rest=plugs.scorer_settings,
        resumable=True,
        slow=True,
    ),
    "logprobs": Verb(call="pairwright.logprobs:logprobs", gives="data", takes=("data",), reads=_MODELS, slow=True),
    "select": Verb(
        call="pairwright.select:select",
        gives="data",
        takes=("data",),
        reads=_MODELS,
        rest=plugs.metric_settings,
        slow=True,  # with a model
    ),
    "relabel": Verb(
        call="pairwright.relabel:relabel",
        gives="data",
        takes=("data",),
        reads=("tokenizer",),
        rest=plugs.mode_settings,
    ),
    "scratch": Verb(call="pairwright.train:scratch", gives="model", paths={"output": "model"}),
    "train": Verb(
        call="pairwright.train:train",
        gives="model",
        takes=("data",),
        paths={"output": "."},
        reads=(*_MODELS, "reference_model"),
        rest=plugs.training_settings,
        resumable=True,
        slow=True,
    ),
    "generate": Verb(
        call="pairwright.generate:generate",
        gives="answers",
        data="prompts",
        paths={"keep": "checkpoints"},
        reads=(*_MODELS, "goal_format"),
        rest=plugs.engine_settings,
        resumable=True,
        slow=True,
    ),
    "evolve": Verb(
        call="pairwright.evolve:evolve",
        gives="answers",
        paths={"keep": "checkpoints"},
        reads=("model", "operators"),
        rest=plugs.engine_settings,
        resumable=True,
        slow=True,
    ),
    "merge": Verb(call="pairwright.merge:merge", gives="data"),
    "evaluate pairs": Verb(call="pairwright.evaluate:pairs", gives="result", takes=("data",), reads=_MODELS, slow=True),
    "evaluate control": Verb(call="pairwright.evaluate:control", gives="result", data="answers"),
    "evaluate compare": Verb(call="pairwright.evaluate:compare", gives="result", data=None),
    "evaluate agreement": Verb(call="pairwright.evaluate:agreement", gives="result"),
    "evaluate rounds": Verb(call="pairwright.evaluate:rounds", gives="result", data=None),
    "evaluate winrate": Verb(
        call="pairwright.evaluate:winrate",
        gives="result",
        data=None,
        reads=("source", "difficulty", "anchors", "others", "weights", "against"),
    ),
    "evaluate rewardbench2": Verb(
        call="pairwright.evaluate:rewardbench2",
        gives="result",
        data=None,
        paths={"scores_to": "scores.jsonl"},
        reads=("rows", *_MODELS),
        slow=True,  # with a model or a scorer
    ),
    "evaluate accuracy": Verb(
        call="pairwright.evaluate:accuracy", gives="result", takes=("data",), reads=_MODELS, slow=True
    ),
    "evaluate arena": Verb(call="pairwright.evaluate:arena", gives="result", data=None, reads=("judgments", "answers")),
    "evaluate mtbench": Verb(call="pairwright.evaluate:mtbench", gives="result", data=None, reads=("judgments",)),
    "evaluate harness": Verb(
        call="pairwright.evaluate:harness",
        gives="result",
        data=None,
        reads=("model", "before", "data", "include_path"),
        slow=True,
    ),
    "evaluate humans": Verb(
        call="pairwright.evaluate:humans",
        gives="result",
        data=None,
        reads=("source", "verdicts"),
        slow=True,  # with a scorer
    ),
    "as_asked": Verb(call="pairwright.evaluate:as_asked", gives="data", data="answers", reads=("model",)),
    "export": Verb(call="pairwright.pipeline.export:export", gives="file", paths={"output": "."}),
    "diagnose": Verb(
        call="pairwright.diagnose.verb:diagnose",
        gives="diagnosis",
        data=None,
        paths={"output": "diagnosis.json"},
        reads=("start",),
        whole_run="runs",
        slow=True,  # with data
    ),
    "report": Verb(
        call="pairwright.report:report",
        gives="report",
        data=None,
        paths={"output": "report.html"},
        whole_run="run_dirs",
    ),
}
"""Every verb that a step may name in `do:`; a verb and its `what:` are one name here."""

WHAT: dict[str, tuple[str, ...]] = {
    "evaluate": (
        "pairs",
        "control",
        "compare",
        "agreement",
        "rounds",
        "rewardbench2",
        "accuracy",
        "winrate",
        "arena",
        "mtbench",
        "humans",
        "harness",
    ),
    "world": ("lists", "lists_text"),
}
"""Verbs whose step says `what:`, and what there is in this version; the first is taken when it does not."""


def verb_names() -> list[str]:
    """The words that may stand in `do:`."""
    return list(dict.fromkeys(name.split(" ")[0] for name in STEPS))


def find_verb(do: str, settings: Mapping[str, Any], *, title: str) -> tuple[str, Verb, dict[str, Any]]:
    """The verb of a step, its name in STEPS, and the step's settings without what named the verb.

    Args:
        do: a name, or `module:function`: your own function, which takes preferences and gives preferences.
        settings: the step's settings; `what` chooses the kind of an evaluation.
        title: how to call the step in a message.

    Raises:
        InputError: there is no such verb; the message has the nearest right one.
    """
    if ":" in do:
        data = _data_parameter(load(do))
        return do, Verb(call=do, gives="data", data=data, reads=("source", *_MODELS)), dict(settings)
    if do in WHAT:
        what = settings.get("what", WHAT[do][0])
        if what not in WHAT[do]:
            hint = nearest(str(what), WHAT[do]) or f"; there are {', '.join(WHAT[do])}"
            raise InputError(f"{title}: {do} has no {what!r} in this version{hint}")
        do = f"{do} {what}"
        settings = {key: value for key, value in settings.items() if key != "what"}
    if do not in STEPS:
        hint = nearest(do, verb_names()) or f"; there are {', '.join(verb_names())}"
        raise InputError(f"{title}: there is no verb {do!r}{hint} (your own is 'module:function')")
    return do, STEPS[do], dict(settings)


def settings_schema(verb: Verb) -> tuple[Function, Signature]:
    """A verb's function, and what may be set: neither its data nor the paths that a run fills in."""
    function = load(verb.call)
    hidden = [*verb.paths, *(name for name in (verb.data, verb.whole_run) if name)]
    return function, signature(function, without=hidden)


def check_step(verb: Verb, settings: Mapping[str, Any], *, title: str) -> dict[str, Any]:
    """All settings of a step, checked and converted, defaults filled in, ready to be passed to its function.

    Raises:
        InputError: a setting is unknown, missing, or of the wrong kind.
    """
    _, schema = settings_schema(verb)
    if verb.rest is None or not schema.rest:
        return check(schema.settings, settings, title=title)
    own = {name: value for name, value in settings.items() if name in schema.settings}
    others = {name: value for name, value in settings.items() if name not in schema.settings}
    checked = check(schema.settings, own, title=title)
    return {**checked, **verb.rest(checked, others, schema.settings, title)}


def _data_parameter(function: Function) -> str | None:
    """The parameter of a user's function that takes preferences: the first, unless it has a default."""
    first = next(iter(inspect.signature(function).parameters.values()), None)
    if first is None or first.default is not first.empty or first.kind is not first.POSITIONAL_OR_KEYWORD:
        return None
    return first.name
