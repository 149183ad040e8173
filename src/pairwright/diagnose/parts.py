"""Which diagnostics there are, what each looks at, and what is said where that is not there."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

import polars as pl

from pairwright.diagnose.answers import Answers
from pairwright.diagnose.drawn import DRAWING
from pairwright.diagnose.finding import Missing, Part
from pairwright.diagnose.sources import Drawn, Sources
from pairwright.diagnose.table import DIAGNOSTICS, ON_PROBES
from pairwright.diagnose.trainings import Training
from pairwright.errors import InputError
from pairwright.plug import settings_of
from pairwright.probes.store import Probes

Settings = Mapping[str, Any]
Told = Part | Missing
Goal = float | Literal["top"] | None
"""What a model was asked for: a score, none, or the best of what is no single number."""

_PROBE = (
    "`pairwright diagnose RUN --data DATA` asks the models that are there about the held-out pairs of DATA; "
    "`probe_every: 50` in the training asks as it goes on."
)
_CALLBACK = (
    "Train with `trainer.add_callback(Probe(trainer, prefs, output=...))` of pairwright.probes.callback: nothing here "
    "says which model training started from, so it cannot be asked afterwards."
)
_ANSWERS = (
    "Let `generate` ask both the model and the model it started from, the same held-out prompts and the same goal; "
    "or probe with `--data DATA --samples 1`."
)
_RATIOS = (
    "Draw answers at temperature 1, then `score`, `as_asked` and `logprobs` with the start as reference; "
    "or probe with `--data DATA --samples 1 --scorer SCORER`."
)
_GOALS = "Generate with `goal: [2, 4, 6, 8, 10]` and score the answers."
_OVERLAP = "Select by a model's margin: `- {do: select, metric: alignment_potential, model: MODEL, keep: 0.4}`."
REMEDIES: Mapping[str, str] = {
    **dict.fromkeys((*ON_PROBES, "displacement_of_logs"), _PROBE),
    **dict.fromkeys(("length_drift", "length_matched", "diversity"), _ANSWERS),
    "budget": _RATIOS,
    "goals": _GOALS,
    "overlap": _OVERLAP,
}
"""How to get what a diagnostic needs."""


def of_trainings(found: Sources, settings: Settings) -> list[Told]:
    """What probes and logged rows say of each training."""
    told: list[Told] = []
    wanting: dict[str, list[str]] = {}
    for training in found.trainings:
        if not training.prefers:
            continue
        if training.probes is not None and training.probes.steps:
            own = _own(found, training, training.probes, settings)
            told += [
                _tried(name, settings, training.probes, subject=training.name, **own.get(name, {}))
                for name in ON_PROBES
            ]
            continue
        remedy = _PROBE if training.start else _CALLBACK
        wanting.setdefault(remedy, []).append(training.name)
        if any("logps/rejected" in row for row in training.rows):
            told.append(_tried("displacement_of_logs", settings, training.rows, subject=training.name))
    for remedy, names in wanting.items():
        says = f"{', '.join(names)}: nobody asked the model about held-out pairs as training went on."
        told += [Missing(part=name, says=says, remedy=remedy) for name in ON_PROBES]
    if not any(training.prefers for training in found.trainings):
        says = "There is no training on preferences here."
        told.append(Missing(part="training", says=says, remedy="Give the directory of one, or of a run that has one."))
    return told


def _own(found: Sources, training: Training, probes: Probes, settings: Settings) -> Mapping[str, Settings]:
    """What some diagnostics of probes are told besides, by their names."""
    return {
        "margins": {"beta": settings.get("beta") or probes.about.beta},
        "over_optimisation": {"answers": _both(found, training)},
    }


def of_answers(found: Sources, settings: Settings) -> list[Told]:
    """What the models' own answers say: divergence, length, diversity, goals."""
    return [*_of_comparisons(found, settings), *_of_budgets(found, settings), *_of_goals(found, settings)]


def of_selections(found: Sources) -> list[Told]:
    """How far metrics chose the same pairs, where a selection compared them."""
    if not found.selections:
        return [Missing(part="overlap", says="No selection compared metrics of these pairs.", remedy=_OVERLAP)]
    return [_tried("overlap", {}, each.found, subject=each.name) for each in found.selections]


def _of_comparisons(found: Sources, settings: Settings) -> list[Told]:
    """Each trained model against the model it started from, both asked alike."""
    told: list[Told] = []
    wanting = []
    for training in found.trainings:
        if not training.prefers:
            continue
        both = _both(found, training)
        if both is None:
            wanting.append(training.name)
            continue
        scored = min(each.frame["score"].count() for each in both)
        names = ("length_drift", *(("length_matched",) if scored else ()), "diversity")
        told += [_tried(name, settings, *both) for name in names]
    if wanting:
        says = f"{', '.join(wanting)}: no answers of the model and of its start to the same prompts, asked alike."
        parts = ("length_drift", "length_matched", "diversity")
        told += [Missing(part=part, says=says, remedy=_ANSWERS) for part in parts]
    return told


def _both(found: Sources, training: Training) -> tuple[Answers, Answers] | None:
    """Answers of a trained model and of its start, under the goal that it is meant to be asked."""
    meant = "top" if training.asks else "none"
    drawn = sorted(found.of(training), key=lambda each: each.answers.asked not in ("", meant))
    ended = [each for each in drawn if each.answers.step is None]
    before = [each for each in drawn if each.answers.step is not None]
    for policy in (*ended, *sorted(before, key=lambda each: -(each.answers.step or 0))):
        goal = _meant(training, policy.answers)
        for start in found.starts(training.start):
            two = _at(policy.answers, goal), _as_start(start, goal)
            same = _drawing(policy.answers) == _drawing(start.answers)
            if same and two[0].frame.join(two[1].frame, on="prompt_id", how="semi").height:
                return two
    return None


def _meant(training: Training, answers: Answers) -> Goal:
    """The goal that a model is meant to be asked: the best where it was trained with goals, else none."""
    return _best(answers) if training.asks else None


def _best(answers: Answers) -> Goal:
    """The best goal that answers were asked for; None where they were asked for none."""
    best = answers.frame["goal"].max()
    if isinstance(best, int | float):
        return float(best)
    return "top" if answers.asked == "top" else None


def _at(answers: Answers, goal: Goal) -> Answers:
    """The answers that were asked for one goal."""
    # Where the best goal is no single number, it is null beside those that were asked for none.
    alike = pl.lit((answers.asked == "top") == (goal == "top"))
    wanted = pl.col("goal") == goal if isinstance(goal, float) else pl.col("goal").is_null() & alike
    return replace(answers, name=answers.name + _said(goal), frame=answers.frame.filter(wanted))


def _said(goal: Goal) -> str:
    if goal is None:
        return ""
    return " asked for the best" if goal == "top" else f" asked for {goal:g}"


def _drawing(answers: Answers) -> tuple[Any, ...]:
    return tuple(answers.settings.get(key) for key in DRAWING)


def _of_budgets(found: Sources, settings: Settings) -> list[Told]:
    """Quality against divergence: one for each start, goal and way of drawing, with all models that have a divergence.

    Answers that were asked otherwise, or cut at another length, are of other distributions; samples of probes are
    answers to other prompts.
    """
    groups: dict[tuple[Any, ...], list[Drawn]] = {}
    for each in found.drawn:
        if each.start in ("", each.model):
            continue
        for goal in _goals_asked(found, each):
            at = _at(each.answers, goal)
            if at.frame.select(pl.col("kl").count() + pl.col("start_logp").count()).item():
                groups.setdefault((each.start, goal, each.probed, *_drawing(at)), []).append(replace(each, answers=at))
    told: list[Told] = []
    for (start, goal, probed, *drawing), alike in groups.items():
        same = [each for each in found.starts(start) if [each.probed, *_drawing(each.answers)] == [probed, *drawing]]
        first = next((each for each in (_as_start(each, goal) for each in same) if each.frame.height), None)
        said = _tried("budget", settings, [each.answers for each in alike], start=first)
        said = _noted(said, [f"{each.answers.name}: {note}" for each in alike for note in each.notes])
        told.append(_of(said, goal, " (samples of their probes)" if probed else ""))
    measured = {each.answers.training for alike in groups.values() for each in alike}
    wanting = [each for each in found.trainings if each.prefers and each.name not in measured]
    if wanting or not told:
        theirs = [note for training in wanting for each in found.of(training) for note in each.notes]
        why = next((note for note in theirs if note.startswith("There is no KL")), "")
        says = why or "No answers have log-probabilities of the model and of its start."
        names = ", ".join(each.name for each in wanting)
        told.append(Missing(part="budget", says=f"{names}: {says}" if names else says, remedy=_RATIOS))
    return told


def _goals_asked(found: Sources, drawn: Drawn) -> list[Goal]:
    """None, and of a model that was trained with goals the best one, where the answers have them."""
    training = next((each for each in found.trainings if each.name == drawn.answers.training), None)
    best = _meant(training, drawn.answers) if training else None
    plain = drawn.answers.asked != "top" and drawn.answers.frame["goal"].null_count()
    goals: list[Goal] = [None] if plain else []
    return goals if best is None else [*goals, best]


def _of_goals(found: Sources, settings: Settings) -> list[Told]:
    """Scores given against scores asked for, of all models that were asked for several."""
    asked = [
        each.answers
        for each in found.drawn
        if each.answers.settings.get("asks", "scores") == "scores"
        and each.answers.frame.filter(pl.col("score").is_not_null())["goal"].drop_nulls().n_unique() > 1
    ]
    if not asked:
        says = "No model was asked for several scores, or nobody scored what it answered."
        return [Missing(part="goals", says=says, remedy=_GOALS)]
    without = {training.name for training in found.trainings if not training.asks}
    return [_tried("goals", settings, asked, untaught={each.name for each in asked if each.training in without})]


def _as_start(drawn: Drawn, goal: Goal) -> Answers:
    """Answers of a model from which trainings started, as a start's."""
    return replace(_at(drawn.answers, goal), training="", step=None)


def _tried(name: str, settings: Settings, *data: Any, **own: Any) -> Told:
    """A diagnostic with those of the settings that it has, or why there is none of it."""
    diagnostic = DIAGNOSTICS[name]
    given = {key: value for key, value in settings.items() if key in settings_of(diagnostic)}
    try:
        return diagnostic(*data, **{**given, **own})
    except InputError as error:
        subject = own.get("subject")
        return Missing(part=name, says=f"{subject}: {error}" if subject else str(error), remedy=REMEDIES[name])


def _of(told: Told, goal: Goal, which: str) -> Told:
    """A part whose subject tells which answers it is of."""
    if isinstance(told, Missing):
        return told
    return told.model_copy(update={"subject": f"{told.subject}{_said(goal)}{which}"})


def _noted(told: Told, notes: Iterable[str]) -> Told:
    """A part with further notes."""
    if isinstance(told, Missing):
        return told
    result = told.result
    return told.model_copy(
        update={"result": result.model_copy(update={"notes": (*result.notes, *dict.fromkeys(notes))})}
    )
