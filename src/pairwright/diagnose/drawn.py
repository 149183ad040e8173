"""The answers of a `generate` step as the diagnostics read them, with what later steps put beside them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from pairwright.diagnose.answers import ANSWERS, Answers
from pairwright.evaluate.rounds import by_answer
from pairwright.preferences import Preferences, Step

DRAWING = ("temperature", "top_p", "max_new_tokens")
"""Settings that decide what distribution answers are of."""


class Known(NamedTuple):
    """Answers, how their divergence was started from, and what to know of it."""

    answers: Answers
    start: str
    notes: tuple[str, ...]


def of_generation(known: Sequence[tuple[Sequence[str], Preferences]], *, name: str, model: str) -> Known:
    """Put together what is known of the answers of one `generate` step.

    Args:
        known: what the step gave and what later steps made of it, in order; each with the models whose
            log-probabilities are in it, in the order of its lineage. The same answers by `response_id`.
        name: of the answers.
        model: the model that gave them, as it is called in `known`.

    Returns:
        The answers: scores are the last ones that any step gave; log-probabilities are those of the last step that
        has both of policy and start, and only where `evaluate rounds` would take a divergence from them. Without such a
        step the length is that of what was drawn. `kl` is null: answers that were read again have no exact one.
    """
    first = known[0][1]
    frame = _texts(first).with_columns(_drawn_length(first))
    notes: tuple[str, ...] = ()
    scores: pl.DataFrame | None = None
    ratios: pl.DataFrame | None = None
    start, unknown = "", pl.lit(None, dtype=pl.Float64)
    for models, prefs in known:
        given = prefs.responses.select("response_id", "score").collect()
        if given["score"].null_count() < len(given):
            scores = given
        columns = _columns(prefs, models, model)
        if columns is not None:
            policy, other, start = columns
            said, found = by_answer(prefs, score="score", policy=policy, start=other, what=f"diagnose: {name}")
            notes = tuple(found)
            ratios = pl.concat(
                [
                    prefs.responses.select("response_id").collect(),
                    said.select(_read=f"len_{policy}", logp=f"logp_{policy}", _kl="kl", source="prompt_id"),
                ],
                how="horizontal",
            )
    if scores is not None:
        frame = frame.join(scores, on="response_id", how="left", maintain_order="left")
    else:
        frame = frame.with_columns(score=unknown)
    if ratios is not None:
        frame = frame.join(ratios, on="response_id", how="left", maintain_order="left").with_columns(
            length=pl.coalesce(pl.col("_read").cast(pl.Int64), "length"),
            logp=pl.when(pl.col("_kl").is_not_null()).then("logp"),
            start_logp=pl.col("logp") - pl.col("_kl"),
        )
    else:
        frame = frame.with_columns(logp=unknown, start_logp=unknown)
    frame = frame.with_columns(kl=unknown)
    frame = frame.select(pl.col(column).cast(kind) for column, kind in ANSWERS.items())
    return Known(Answers(name, frame, settings=_settings(first)), start, notes)


def drawing_of(said: Mapping[str, Any]) -> dict[str, Any]:
    """How answers were drawn; `seed` is the drawing's and not a training's, so it is called `draw_seed`."""
    names = {**{key: key for key in DRAWING}, "seed": "draw_seed"}
    return {new: said[key] for key, new in names.items() if said.get(key) is not None}


def _texts(prefs: Preferences) -> pl.DataFrame:
    """Prompt, goal and text of each answer. A goal of one attribute or of a class is a number; others are left out."""
    rows = prefs.responses
    if "goal" not in (schema := rows.collect_schema()):
        rows = rows.with_columns(goal=pl.lit(None, dtype=pl.Float64))
    elif isinstance(schema["goal"], pl.List):
        rows = rows.filter(pl.col("goal").list.len().fill_null(1) == 1).with_columns(pl.col("goal").list.first())
    text = pl.col("response").list.eval(pl.element().struct.field("content").fill_null("")).list.join("")
    return rows.select("response_id", "prompt_id", "goal", text=text.fill_null("")).collect()


def _drawn_length(prefs: Preferences) -> pl.Series:
    """Tokens that were drawn, where the engine said so."""
    step = _generate(prefs)
    label = str(step.settings.get("name") or "").removeprefix("logp_") if step else ""
    texts = _texts(prefs).select("response_id")
    if not label or f"len_{label}" not in prefs.responses.collect_schema():
        return pl.Series("length", [None] * len(texts), dtype=pl.Int64)
    lengths = prefs.responses.select("response_id", length=pl.col(f"len_{label}").cast(pl.Int64)).collect()
    return texts.join(lengths, on="response_id", how="left", maintain_order="left")["length"]


def _columns(prefs: Preferences, models: Sequence[str], model: str) -> tuple[str, str, str] | None:
    """Names of the columns of policy and start, and the start's model; None where there are not both."""
    labels = [str(step.settings.get("name")) for step in prefs.lineage if step.name == "logprobs"]
    if len(labels) != len(models):
        return None
    policy = next((label for label, place in zip(labels, models, strict=True) if place == model), None)
    others = [(label, place) for label, place in zip(labels, models, strict=True) if label != policy]
    schema = prefs.responses.collect_schema()
    others = [(label, place) for label, place in others if f"logp_{label}" in schema]
    if policy is None or not others or not {f"logp_{policy}", f"len_{policy}"} <= set(schema):
        return None
    return policy, *others[-1]


def _generate(prefs: Preferences) -> Step | None:
    return next((step for step in reversed(prefs.lineage) if step.name == "generate"), None)


def _settings(prefs: Preferences) -> dict[str, Any]:
    """How the answers were drawn, and what kind of goal they were asked for."""
    step = _generate(prefs)
    if step is None:
        return {}
    found = drawing_of(step.settings)
    form = step.settings.get("goal_format")
    return found | ({"asks": form["asks"]} if isinstance(form, dict) and "asks" in form else {})
