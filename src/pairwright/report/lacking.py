"""What a run does not have, and the step or command that makes it."""

from collections.abc import Callable
from typing import NamedTuple

from pairwright.report.charts import goal_rows, training_charts
from pairwright.report.views import Lack, RunView


class Wanted(NamedTuple):
    """A part of the page."""

    label: str
    has: Callable[[RunView], bool]
    says: str
    remedy: str


WANTED = {
    "result": Wanted(
        "Measures",
        lambda run: bool(run.of("result")),
        "This run measured nothing.",
        "A step `- {do: evaluate, what: control}` or `what: pairs` fills this table.",
    ),
    "diagnosis": Wanted(
        "Diagnosis",
        lambda run: run.diagnosis is not None,
        "Nobody asked what training did to the model.",
        "`pairwright diagnose RUN`, or a step `- {do: diagnose}` before the report; `probe_every` in the training "
        "lets it see more.",
    ),
    "data": Wanted(
        "Data",
        lambda run: bool(run.of("lineage")),
        "This run kept no data with a lineage.",
        "Begin with a `read` step.",
    ),
    "scores": Wanted(
        "Scores",
        lambda run: any(set(step.scores) != {"unscored"} for step in run.of("scores")),
        "No answers of this run have scores.",
        "Read data with scores, or add a step `- {do: score, scorer: …}`.",
    ),
    "audit": Wanted(
        "Audit",
        lambda run: bool(run.of("audit")),
        "The data were not audited.",
        "Add a step `- do: audit` behind the one that reads them.",
    ),
    "selection": Wanted(
        "Selection",
        lambda run: bool(run.of("selection")),
        "No step of this run selected pairs.",
        "A step `- {do: select, metric: explicit_gap, keep: 0.5}` keeps a part of them.",
    ),
    "relabelling": Wanted(
        "Relabelling",
        lambda run: bool(run.of("relabelling")),
        "No step of this run relabelled pairs.",
        "A step `- {do: relabel, mode: ra}` before training.",
    ),
    "training": Wanted(
        "Training curves",
        lambda run: bool(training_charts([(step.name, step) for step in run.of("metrics")])),
        "No training of this run logged anything.",
        "A step `- {do: train, model: …}` draws its curves here.",
    ),
    "probes": Wanted(
        "Probes",
        lambda run: bool(run.of("probed")),
        "No training was probed, so nothing is known of the same held-out pairs as training went on.",
        "Set `probe_every: 50` in the training.",
    ),
    "goals": Wanted(
        "Goal control",
        lambda run: any(goal_rows(step) for step in run.of("result")),
        "No model of this run was asked for several scores.",
        "Generate with `goal: [2, 4, 6, 8, 10]`, score the answers, and evaluate with `what: control`.",
    ),
    "samples": Wanted(
        "Answers",
        lambda run: bool(run.samples),
        "This run generated no answers.",
        "A step `- {do: generate, model: step:train, split: test}` puts them here.",
    ),
}
"""Every part that a run can lack, in the order of the page."""


OF_TRAINING = {
    "diagnosis": "`pairwright diagnose DIRECTORY`, with the directory of this training.",
    "training": "What `train` logs, or the callback `Probe` in a trainer of TRL, is drawn here.",
    "probes": "`pairwright diagnose DIRECTORY --data DATA` probes it now; `probe_every=50`, or the callback `Probe` in "
    "a trainer of TRL, while it trains.",
}
"""The parts that one training by itself can lack, and how to get them."""


def lacks(run: RunView) -> list[Lack]:
    """The parts that a run does not have; of one training by itself, those that a training has."""
    remedies = OF_TRAINING if run.is_training else {part: wanted.remedy for part, wanted in WANTED.items()}
    return [
        Lack(part=part, says=WANTED[part].says, remedy=remedy)
        for part, remedy in remedies.items()
        if not WANTED[part].has(run)
    ]
