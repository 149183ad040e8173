"""Answers side by side: what each model of a run, or a training before and after, answered to held-out prompts."""

from collections.abc import Sequence
from contextlib import suppress

import polars as pl

from pairwright.preferences import Preferences
from pairwright.probes.store import load_probes
from pairwright.report.data import conversation
from pairwright.report.files import BROKEN
from pairwright.report.shown import clean, is_number, plain
from pairwright.report.views import Answer, SamplePrompt, StepView

SAMPLE_PROMPTS = 12
"""So many held-out prompts are shown side by side."""

Table = tuple[str, pl.DataFrame]
"""A column's name, and `prompt_id`, `prompt`, `goal`, `text`, `score`."""


def answers_of(steps: Sequence[StepView]) -> list[Table]:
    """The answers of each `generate` step, with the scores that a later step put on them; else those of probes."""
    return _generated(steps) or [table for step in steps if step.probed for table in _probed(step)]


def side_by_side(tables: Sequence[Table]) -> tuple[int, list[SamplePrompt]]:
    """The first answer of each model under each goal to the first prompts that all of them answered.

    Returns:
        How many such prompts there are, and the first of them.
    """
    if not tables:
        return 0, []
    orders = [table["prompt_id"].unique(maintain_order=True).to_list() for _, table in tables]
    others = [set(order) for order in orders[1:]]
    common = [prompt for prompt in orders[0] if all(prompt in other for other in others)] or orders[0]
    shown = []
    for prompt_id in common[:SAMPLE_PROMPTS]:
        answers, text = [], ""
        for name, table in tables:
            mine = table.filter(pl.col("prompt_id") == prompt_id).unique("goal", keep="first", maintain_order=True)
            for row in mine.iter_rows(named=True):
                text = text or row["prompt"]
                goal = row["goal"] if is_number(row["goal"]) else None
                answers.append(Answer(column=name, goal=goal, text=row["text"], score=clean(row["score"])))
        shown.append(SamplePrompt(prompt=text, answers=answers))
    return len(common), shown


def _generated(steps: Sequence[StepView]) -> list[Table]:
    verbs = {step.name: step.verb for step in steps}
    takes = {step.name: step.take for step in steps}
    found = {}
    for step in steps:
        origin: str | None = step.name
        while origin and verbs.get(origin) in {"score", "read"}:
            origin = takes.get(origin)
        if origin and verbs.get(origin) == "generate" and (step.folder / "data" / "manifest.json").is_file():
            found[origin] = step.folder / "data"  # a later step (a scorer) has the same answers and knows more
    tables = []
    for name, folder in found.items():
        with suppress(*BROKEN):  # its step says so
            tables.append((name, _table(Preferences.load(folder))))
    return tables


def _table(prefs: Preferences) -> pl.DataFrame:
    answers = prefs.responses
    if "goal" not in answers.collect_schema():
        answers = answers.with_columns(goal=pl.lit(None, dtype=pl.Float64))
    joined = answers.join(
        prefs.prompts.select("prompt_id", "prompt"), on="prompt_id", how="left", maintain_order="left"
    )
    frame = joined.select("prompt_id", "prompt", "goal", "response", "score").collect()
    said = {"prompt": "prompt", "text": "response"}
    return frame.with_columns(
        **{
            name: pl.Series([conversation(row) for row in frame[column].to_list()], dtype=pl.String)
            for name, column in said.items()
        }
    )


def _probed(step: StepView) -> list[Table]:
    """What a training's model wrote at the first and at the last probed step."""
    tables = []
    with suppress(*BROKEN):
        probes, held = load_probes(step.folder), step.folder / "probes" / "data"
        if probes is None or not len(probes.samples):
            return []
        prompts = dict(Preferences.load(held).prompts.select("prompt_id", "prompt").collect().iter_rows())
        asked = {key: conversation(prompt) for key, prompt in prompts.items()}
        written = probes.samples.with_columns(
            prompt=pl.Series([asked.get(key, "") for key in probes.samples["prompt_id"]], dtype=pl.String),
            text=pl.Series([plain(text) for text in probes.samples["text"]], dtype=pl.String),
        )
        steps = written["step"].unique().sort().to_list()
        ends = dict.fromkeys((steps[0], steps[-1]))
        tables = [(f"{step.name} step {end}", written.filter(step=end)) for end in ends]
    return tables
