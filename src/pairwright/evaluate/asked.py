"""Generated answers under the prompts that the model really read."""

from pathlib import Path
from typing import Literal

import polars as pl

from pairwright.chat import prompt_id
from pairwright.errors import InputError
from pairwright.goals import GoalFormat, place
from pairwright.preferences import MESSAGES, PAIR_COLUMNS, Preferences, Step


def as_asked(answers: Preferences, *, model: str | Path | None = None) -> Preferences:
    """The same answers, each under the prompt that it was given to: the goal stands in the text.

    `logprobs` reads an answer after its prompt, and the goal of a generated answer is a number beside it. What a model
    says of an answer that was asked for a score is only right after the prompt as it was asked, so this comes between
    `generate` and `logprobs`. Scorers that read prompts, such as judges, come before it.

    Args:
        answers: what `generate` gave, scored or not.
        model: whose chat template decides where an `auto` goal goes; the model that `generate` asked when not given.

    Returns:
        A prompt for each prompt and goal that was asked, with a `prompt_id` of its own and the old one in
        `source_prompt_id`, and all answers in their order. Answers that were asked for no score keep their prompt.

    Raises:
        InputError: goals were asked and the lineage has no `generate` that says how.
    """
    names = answers.responses.collect_schema()
    goal = pl.col("goal") if "goal" in names else pl.lit(None, dtype=pl.Float64)
    rows = answers.responses.select("prompt_id", goal=goal).join(
        answers.prompts.select("prompt_id", "prompt"), on="prompt_id", how="left", maintain_order="left"
    )
    rows = rows.with_columns(text=pl.lit(None, dtype=pl.String))
    if rows.select(pl.col("goal").is_not_null().any()).collect().item():
        placement, form = _said(answers, model)
        rows = rows.with_columns(text=form.text(pl.col("goal")))
        rows = rows.with_columns(prompt=place(pl.col("prompt"), pl.col("text"), placement))
    ids: list[str] = []
    made: dict[tuple[str, str | None], tuple[str, str, list[dict[str, str]]]] = {}
    for source, text, prompt in rows.select("prompt_id", "text", "prompt").collect().iter_rows():
        if (source, text) not in made:
            made[source, text] = (source if text is None else prompt_id(prompt), source, prompt)
        ids.append(made[source, text][0])
    asked = pl.LazyFrame(
        list(made.values()), schema=dict.fromkeys(("_id", "prompt_id"), pl.String) | {"_prompt": MESSAGES}, orient="row"
    )
    others = answers.prompts.drop("prompt", "source_prompt_id", strict=False)
    prompts = asked.join(others, on="prompt_id", how="left", maintain_order="left").rename(
        {"prompt_id": "source_prompt_id", "_id": "prompt_id", "_prompt": "prompt"}
    )
    responses = answers.responses.with_columns(pl.Series("prompt_id", ids, dtype=pl.String))
    step = Step(name="as_asked", rows_in=len(ids), rows_out=len(ids))
    return answers.then(step, prompts=prompts, responses=responses, pairs=pl.LazyFrame(schema=PAIR_COLUMNS))


def _said(answers: Preferences, model: str | Path | None) -> tuple[Literal["system", "user"], GoalFormat]:
    """Where `generate` put the goals, and how it said them."""
    step = next((step for step in reversed(answers.lineage) if step.name == "generate"), None)
    form = step.settings.get("goal_format") if step else None
    if step is None or form is None:
        raise InputError(
            "as_asked: these answers were asked for scores, and nothing says in which words; give it what `generate` "
            "wrote as a directory, which keeps them"
        )
    made = GoalFormat.model_validate(form)
    if made.placement != "auto":
        return made.placement, made
    from pairwright.logprobs.columns import placement_for
    from pairwright.logprobs.models import open_tokenizer

    return placement_for(made, open_tokenizer(model or str(step.settings["model"]))) or "user", made
