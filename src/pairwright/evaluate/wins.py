"""Verdicts from scored answers of two models to the same prompts."""

from collections.abc import Callable
from typing import Any, Literal

import polars as pl

from pairwright.chat import Conversation, text_of
from pairwright.errors import InputError
from pairwright.evaluate.alpaca_eval import COLUMNS, Verdicts
from pairwright.evaluate.answers import scored_answers
from pairwright.plug import nearest
from pairwright.preferences import Preferences

Reading = Literal["higher", "share"]
_ROUNDING = 1e-9
"""Shares that a judge gave to two answers add up to one but for this."""


def verdicts_of(
    answers: Preferences,
    *,
    generator: str | None,
    opponent: str | None,
    score: str,
    reading: Reading,
    asked: str = "generator",
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
        asked: the setting that names the model, for messages.

    Returns:
        A row for each prompt that either answered, in the order of the prompts; without a verdict where one of them has
        no scored answer.

    Raises:
        InputError: it cannot be told which the models are, there is no such column, or shares do not add up to one.
    """
    scored_answers(answers, score, what="evaluate winrate")  # what is wrong with the column
    model, other = _sides(answers, generator, opponent, asked)
    prompts = answers.prompts.select("prompt_id", "prompt", *_there(answers, "dataset")).collect()
    scores = pl.col(score).cast(pl.Float64).alias("score")
    frame = answers.responses.select("prompt_id", "response", "model", scores).collect()
    of_model, of_other = _by_prompt(frame, model), _by_prompt(frame, other)
    rows: list[dict[str, Any]] = []
    for prompt in prompts.iter_rows(named=True):
        name = prompt["prompt_id"]
        mine, theirs = of_model.get(name, []), of_other.get(name, [])
        if not mine and not theirs:
            continue
        rows.append(
            {
                "prompt": name,
                "prompt_number": None,
                "text": _text_of(prompt["prompt"], name),
                "position": len(rows),
                "win": _READINGS[reading]([score for _, score in mine], [score for _, score in theirs], name),
                "answer": mine[0][0] if len(mine) == 1 else None,
                "other_answer": theirs[0][0] if len(theirs) == 1 else None,
                "length": _mean_length(mine),
                "other_length": _mean_length(theirs),
                "dataset": prompt.get("dataset"),
            }
        )
    unnamed = frame["model"].null_count()
    return Verdicts(
        source="the answers",
        model=model,
        opponent=other,
        rows=pl.DataFrame(rows, schema=COLUMNS),
        notes=(
            *_unmet(other, len(rows), [row["prompt"] for row in rows if row["prompt"] not in of_other]),
            *_unmet(model, len(rows), [row["prompt"] for row in rows if row["prompt"] not in of_model]),
            *([f"{unnamed:,} of {len(frame):,} answers name no model and are left out."] if unnamed else []),
        ),
    )


def models_of(answers: Preferences) -> list[str]:
    """The models that the answers name, in order."""
    models = answers.responses.select(pl.col("model").drop_nulls().unique(maintain_order=True)).collect()
    return models["model"].to_list()


def _unmet(model: str, of: int, prompts: list[str]) -> list[str]:
    if not prompts:
        return []
    return [f"{len(prompts):,} of {of:,} prompts have no answer of {model}, so there is no verdict."]


def _text_of(prompt: Conversation, name: str) -> str:
    """What a prompt is known by where other files have texts: a single turn by its text, others by their name."""
    return prompt[0]["content"] if [turn["role"] for turn in prompt] == ["user"] else name


def _there(answers: Preferences, name: str) -> list[str]:
    return [name] if name in answers.prompts.collect_schema() else []


def _sides(answers: Preferences, generator: str | None, opponent: str | None, setting: str) -> tuple[str, str]:
    """The names of the model and its opponent."""
    names = models_of(answers)
    told = ", ".join(names) or "none"
    for asked, what in ((generator, setting), (opponent, "opponent")):
        if asked is not None and asked not in names:
            raise InputError(
                f"evaluate winrate: no answer is of {what} {asked!r}{nearest(asked, names)}; there are {told}"
            )
    if generator is None and (opponent is None or len(names) != 2):
        raise InputError(f"evaluate winrate: name the model as {setting}; the answers are of {told}")
    if opponent is None and len(names) != 2:
        raise InputError(f"evaluate winrate: name both {setting} and opponent; the answers are of {told}")
    if generator is None:
        generator = next(name for name in names if name != opponent)
    if opponent is None:
        opponent = next(name for name in names if name != generator)
    if generator == opponent:
        raise InputError(
            f"evaluate winrate: {setting} and opponent are both {generator!r}; a model has no win over itself"
        )
    return generator, opponent


def _by_prompt(frame: pl.DataFrame, model: str) -> dict[str, list[tuple[str, float | None]]]:
    """Texts and scores of a model's answers, by prompt."""
    found: dict[str, list[tuple[str, float | None]]] = {}
    for prompt, response, _, score in frame.filter(pl.col("model") == model).iter_rows():
        found.setdefault(prompt, []).append((text_of(response), score))
    return found


def _mean_length(answers: list[tuple[str, float | None]]) -> float | None:
    return sum(len(text) for text, _ in answers) / len(answers) if answers else None


def _higher(mine: list[float | None], theirs: list[float | None], prompt: str) -> float | None:
    wins = [
        0.5 if one == two else float(one > two) for one in mine if one is not None for two in theirs if two is not None
    ]
    return sum(wins) / len(wins) if wins else None


def _share(mine: list[float | None], theirs: list[float | None], prompt: str) -> float | None:
    if len(mine) > 1 or len(theirs) > 1:
        raise InputError(f"evaluate winrate: share needs one answer of each model, and prompt {prompt} has more of one")
    one, two = (scores[0] if scores else None for scores in (mine, theirs))
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
