"""Verdicts from scored answers of two models to the same prompts."""

from collections.abc import Callable
from typing import Literal

import polars as pl

from pairwright.chat import text_of
from pairwright.errors import InputError
from pairwright.evaluate.alpaca_eval import COLUMNS, Verdicts
from pairwright.evaluate.answers import scored_answers
from pairwright.plug import nearest
from pairwright.preferences import Preferences

Reading = Literal["higher", "share"]
_ROUNDING = 1e-9
"""Shares that a judge gave to two answers add up to one but for this."""


def verdicts_of(
    answers: Preferences, *, generator: str | None, opponent: str | None, score: str, reading: Reading
) -> Verdicts:
    """The win of one model's answers over another's at each prompt, by their scores.

    Readings: `higher` is 1 where the model's answer has the higher score, 1/2 where both have the same, else 0; with
    several answers the mean over every two of them. `share` takes the score itself, which must be the answer's win over
    the other one: what `score --with judge --set kind=pairwise` gives for two answers to a prompt, after both orders.

    Args:
        answers: scored answers with a `model`, such as `merge` makes of two.
        generator: the model, as `model` calls it.
        opponent: the model that it is compared with; either may be left out where there are two.
        score: the column of the scores.
        reading: of the scores.

    Returns:
        A row for each prompt that the model answered, in the order of the answers; without a verdict where the opponent
        has no scored answer or the model's own have no score.

    Raises:
        InputError: it cannot be told which the models are, there is no such column, or shares do not add up to one.
    """
    scored_answers(answers, score, what="evaluate winrate")  # what is wrong with the column
    model, other = _sides(answers, generator, opponent)
    asked = answers.prompts.select("prompt_id", "prompt", *_there(answers, "dataset"))
    scores = pl.col(score).cast(pl.Float64).alias("score")
    frame = answers.responses.select("prompt_id", "response", "model", scores).collect()
    of_other = dict(_by_prompt(frame, other))
    prompts = {row["prompt_id"]: row for row in asked.collect().iter_rows(named=True)}
    rows, unmet = [], 0
    for position, (prompt, mine) in enumerate(_by_prompt(frame, model)):
        theirs = of_other.get(prompt, [])
        unmet += not theirs
        rows.append(
            {
                "prompt": prompt,
                "prompt_number": None,
                "position": position,
                "win": _READINGS[reading]([score for _, score in mine], [score for _, score in theirs], prompt),
                "answer": mine[0][0] if len(mine) == 1 else None,
                "other_answer": theirs[0][0] if len(theirs) == 1 else None,
                "length": _mean_length(mine),
                "other_length": _mean_length(theirs),
                "dataset": prompts[prompt].get("dataset") if prompt in prompts else None,
            }
        )
    said = f"{unmet:,} of {len(rows):,} prompts have no answer of {other}, so there is no verdict."
    return Verdicts(
        source="the answers",
        model=model,
        opponent=other,
        rows=pl.DataFrame(rows, schema=COLUMNS),
        notes=(said,) if unmet else (),
    )


def _there(answers: Preferences, name: str) -> list[str]:
    return [name] if name in answers.prompts.collect_schema() else []


def _sides(answers: Preferences, generator: str | None, opponent: str | None) -> tuple[str, str]:
    """The names of the model and its opponent."""
    models = answers.responses.select(pl.col("model").drop_nulls().unique(maintain_order=True)).collect()
    names = models["model"].to_list()
    told = ", ".join(names) or "none"
    for asked, what in ((generator, "generator"), (opponent, "opponent")):
        if asked is not None and asked not in names:
            raise InputError(
                f"evaluate winrate: no answer is of {what} {asked!r}{nearest(asked, names)}; there are {told}"
            )
    if generator is None and opponent is None:
        raise InputError(f"evaluate winrate: name the model as generator; the answers are of {told}")
    if (generator is None or opponent is None) and len(names) != 2:
        raise InputError(f"evaluate winrate: name both generator and opponent; the answers are of {told}")
    if generator is None:
        generator = next(name for name in names if name != opponent)
    if opponent is None:
        opponent = next(name for name in names if name != generator)
    if generator == opponent:
        raise InputError(
            f"evaluate winrate: generator and opponent are both {generator!r}; a model has no win over itself"
        )
    return generator, opponent


def _by_prompt(frame: pl.DataFrame, model: str) -> list[tuple[str, list[tuple[str, float | None]]]]:
    """Texts and scores of a model's answers, by prompt."""
    found: dict[str, list[tuple[str, float | None]]] = {}
    for prompt, response, _, score in frame.filter(pl.col("model") == model).iter_rows():
        found.setdefault(prompt, []).append((text_of(response), score))
    return list(found.items())


def _mean_length(answers: list[tuple[str, float | None]]) -> float | None:
    return sum(len(text) for text, _ in answers) / len(answers) if answers else None


def _higher(mine: list[float | None], theirs: list[float | None], prompt: str) -> float | None:
    wins = [
        0.5 if one == two else float(one > two) for one in mine if one is not None for two in theirs if two is not None
    ]
    return sum(wins) / len(wins) if wins else None


def _share(mine: list[float | None], theirs: list[float | None], prompt: str) -> float | None:
    if len(mine) != 1 or len(theirs) > 1:
        raise InputError(f"evaluate winrate: share needs one answer of each model, and prompt {prompt} has more of one")
    one, two = mine[0], theirs[0] if theirs else None
    if one is None or two is None:
        return None
    if not 0.0 <= one <= 1.0 or abs(one + two - 1.0) > _ROUNDING:
        raise InputError(
            f"evaluate winrate: at prompt {prompt} the scores {one:g} and {two:g} are no shares of one win; judge "
            "these two models alone with kind pairwise, or read the scores as higher"
        )
    return one


_READINGS: dict[Reading, Callable[[list[float | None], list[float | None], str], float | None]] = {
    "higher": _higher,
    "share": _share,
}
