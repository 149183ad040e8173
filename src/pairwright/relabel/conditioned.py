"""Ways to ask for each answer by itself, for supervised training under a condition.

No two answers are compared here, so ties are no loss. A mode whose first parameter is called `answers` gets `Answers`
and gives them back: rows that it keeps, each with its `goal` (and perhaps another `weight`), and how the goals are
said. Train on them with the loss `sft`, which looks at the chosen side alone; the rejected side holds another answer to
the prompt, because a pair has two.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import polars as pl

from pairwright.draws import draw_of_text
from pairwright.errors import InputError
from pairwright.goals import GoalFormat
from pairwright.relabel.ranges import AS_THEY_ARE

CLASS_TEMPLATE = (
    "You are an assistant whose answers are of quality class {class} of {scale}, where 1 is the lowest class and "
    "{scale} is the highest."
)
"""Ours; the paper says the class by the name of a role."""


class Answers(NamedTuple):
    """Scored answers, each once, and how their goals are said.

    Attributes:
        rows: the columns of pairs, `chosen_id` being the answer and `rejected_id` another one to the same prompt, and
            `goal_chosen`, what the answer attains (a number, or a list of one for each attribute), in score units.
            `copy` and `source_pair` say which pair the two stand in, and which way round.
        form: how the scores are said; a mode that asks for something else gives another one.
    """

    rows: pl.LazyFrame
    form: GoalFormat


def steerlm(answers: Answers) -> Answers:
    """Each answer once, under its own scores, tied or not: N answers give N rows.

    One pair to each prompt gives the rows of `ra`. Of more answers `ra` gives an answer as often as it stands in a
    pair, and this gives it once.

    Source: arXiv 2310.05344, step 3 (attribute-conditioned supervised fine-tuning).
    """
    return answers._replace(rows=answers.rows.with_columns(goal=pl.col("goal_chosen")))


def c_rlft(answers: Answers, *, edges: Sequence[float], weights: Sequence[float] = (0.1, 1.0)) -> Answers:
    """Each answer once, under its class of scores, with the weight of that class.

    Class 1 is everything below the first edge, class 2 what lies from it up to the second, and so on. The weight of a
    row is that of its pair times that of its class.

    Args:
        answers: scored answers, one score each.
        edges: the lowest score of each class but the first, rising, in score units.
        weights: of each class, the lowest class first.

    Raises:
        InputError: the edges do not rise, the weights are not one for each class, or there are attributes.

    Source: arXiv 2309.11235 and its released code (weights 1 and 0.1; classes from scores are ours).
    """
    if answers.form.attributes or answers.form.ranges != (AS_THEY_ARE,):
        raise InputError("c_rlft: classes are of one score as it is, so attributes and source_range play no part")
    if not edges or not all(map(math.isfinite, edges)) or not all(low < high for low, high in pairwise(edges)):
        raise InputError(f"c_rlft: edges are one or more rising numbers, not {list(edges)}")
    count = len(edges) + 1
    if (
        len(weights) != count
        or not all(math.isfinite(weight) and weight >= 0 for weight in weights)
        or not any(weights)
    ):
        raise InputError(
            f"c_rlft: {len(edges)} edges make {count} classes, and each needs a weight from 0 up, not all 0; "
            f"the weights are {list(weights)}"
        )
    above = pl.sum_horizontal([(pl.col("goal_chosen") >= edge).cast(pl.Int64) for edge in edges])
    weight = above.replace_strict(list(range(count)), list(weights), return_dtype=pl.Float64)
    rows = answers.rows.with_columns(
        goal=pl.concat_list((above + 1).cast(pl.Float64)), weight=pl.col("weight").fill_null(1.0) * weight
    )
    top = float(count)
    return Answers(
        rows,
        _form(answers.form, CLASS_TEMPLATE, scale=count, ranges=((1.0, top),), attributes=("class",), asks="class"),
    )


def dpa(answers: Answers, *, angles: tuple[float, float] = (-45.0, 45.0), seed: int = 0) -> Answers:
    """For each prompt a drawn direction, and of its answers the one that goes farthest that way.

    The direction is v = (cos a, sin a) with a drawn evenly from `angles`; the answer kept has the largest v1 r1 + v2 r2
    (of equal ones the first in row order) and is asked for by v, printed as whole numbers of -100 to 100. Scores count
    as shares of `source_range`, which need not hold them. The draw is a hash of the prompt's id and the seed: neither
    row order nor other prompts change it.

    Args:
        answers: answers with two attributes each; the first is what the angle 0 asks for alone.
        angles: the least and the largest angle, in degrees.
        seed: of the draw.

    Raises:
        InputError: there are not two attributes, or the angles do not rise.

    Source: arXiv 2402.18571 and its released README (the sentence and the range of directions); here one round, on the
    answers that are there.
    """
    form, (least, largest) = answers.form, angles
    if len(form.attributes) != 2:
        raise InputError(
            f"dpa: a direction is between two attributes, not {len(form.attributes)}; give attributes ONE OTHER"
        )
    if not (math.isfinite(least) and math.isfinite(largest) and least <= largest):
        raise InputError(f"dpa: angles are the least and the largest, in degrees, not {least:g} and {largest:g}")
    drawn = answers.rows.select(pl.col("prompt_id").unique(maintain_order=True)).collect()
    draw = draw_of_text(drawn["prompt_id"], seed=seed)
    angle = pl.lit(least) + pl.col("_draw") * (largest - least)
    directions = drawn.lazy().with_columns(_draw=draw).select("prompt_id", _angle=angle.radians())
    parts = [pl.col("_angle").cos(), pl.col("_angle").sin()]
    shares = [(pl.col("goal_chosen").list.get(i) - low) / (high - low) for i, (low, high) in enumerate(form.ranges)]
    rows = (
        answers.rows.join(directions, on="prompt_id", how="left", maintain_order="left")
        .with_columns(goal=pl.concat_list(parts), _worth=parts[0] * shares[0] + parts[1] * shares[1])
        .filter(pl.col("_worth") == pl.col("_worth").max().over("prompt_id"))
        .unique("prompt_id", keep="first", maintain_order=True)
        .drop("_angle", "_worth")
    )
    first, other = form.attributes
    template = f"Your response should maximize weighted rating = {first}*{{{first}}} + {other}*{{{other}}}"
    wide = ((-1.0, 1.0), (-1.0, 1.0))
    said = {"scale": 100, "lowest": -100, "ranges": wide, "asks": "direction", "angles": angles}
    return Answers(rows, _form(form, template, **said))


def _form(form: GoalFormat, template: str, **parts: object) -> GoalFormat:
    """Another format in whole numbers, with the placement of this one."""
    return GoalFormat(**{**form.model_dump(), "template": template, "decimals": 0, **parts})
