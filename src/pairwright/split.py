"""Split by prompt: every pair of a prompt lies on one side."""

from typing import Annotated

import polars as pl
from pydantic import Field

from pairwright.draws import draw_of_text
from pairwright.errors import InputError
from pairwright.pairing import goals_inside, unrelabelled
from pairwright.preferences import Preferences, Step


def split(prefs: Preferences, *, test: Annotated[float, Field(ge=0, le=1)] = 0.1, seed: int = 0) -> Preferences:
    """Put each prompt, with all its pairs, into `train` or `test`.

    The side is decided by a hash of the prompt's id and the seed, so it does not change when other prompts come or
    go, when rows change their order, or when pairs are made again. An earlier split is replaced.

    In a flat file of relabelled pairs the copies of one pair have different prompts, as their goals are in them. There
    the prompt before relabelling decides (`source_prompt_id`), so that the copies stay together.

    Args:
        prefs: prompts, with or without pairs.
        test: share of the prompts that goes to `test`, in expectation; 0 is none, 1 is all.
        seed: another seed is another split.

    Returns:
        The same rows, with the column `split` in prompts and pairs.

    Raises:
        InputError: `test` is not a share, a pair speaks of a prompt that is not there, or nothing says which copies of
            relabelled pairs belong together.
    """
    if not 0.0 <= test <= 1.0:
        raise InputError(f"split: test is a share from 0 to 1, not {test:g}")
    ids = prefs.prompts.select(pl.col("prompt_id").unique(maintain_order=True)).collect().to_series()
    sides = pl.LazyFrame(
        {
            "prompt_id": ids,
            "split": (draw_of_text(_asked(prefs, ids), seed=seed) < test).replace_strict(
                {True: "test", False: "train"}
            ),
        },
        schema={"prompt_id": pl.String, "split": pl.String},
    )
    had = "split" in prefs.prompts.collect_schema()
    prompts = _with_side(prefs.prompts, sides)
    pairs = _with_side(prefs.pairs, sides)
    rows, lost = pairs.select(pl.len(), pl.col("split").is_null().sum()).collect().row(0)
    if lost:
        raise InputError(f"split: {lost} pairs speak of prompts that are not in prompts; read the data again")
    at_test = int(sides.select((pl.col("split") == "test").sum()).collect().item())
    notes = [f"{at_test:,} of {len(ids):,} prompts are in test."]
    if had:
        notes.append("An earlier split was replaced.")
    settings = {"test": test, "seed": seed}
    step = Step(name="split", settings=settings, rows_in=rows, rows_out=rows, notes=tuple(notes))
    return prefs.then(step, prompts=prompts, pairs=pairs)


def _asked(prefs: Preferences, ids: pl.Series) -> pl.Series:
    """For each prompt, the id of the prompt as it was without a goal in it; its own where it is that."""
    found = unrelabelled(prefs)
    if found is not None:
        known = found.collect()
        return ids.replace(known["prompt_id"], known["source_prompt_id"])
    if "copy" in prefs.pairs.collect_schema() and goals_inside(prefs):
        raise InputError(
            "split: these pairs were relabelled and do not say from which prompt (no source_prompt_id), so the copies "
            "of one pair cannot be kept together; split the data before relabelling"
        )
    return ids


def _with_side(frame: pl.LazyFrame, sides: pl.LazyFrame) -> pl.LazyFrame:
    return frame.drop("split", strict=False).join(sides, on="prompt_id", how="left", maintain_order="left")
