"""MT-bench: ratings of two turns, and comparisons in both orders, with what could not be read counted."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pairwright.errors import InputError
from pairwright.evaluate.grouped_means import grouped_means, percentiles
from pairwright.evaluate.judgments import Figure, listed, number, rating, rows_of
from pairwright.evaluate.result import Metric, Result, as_json
from pairwright.plug import nearest
from pairwright.stats import Interval, wilson

WHAT = "evaluate mtbench"
FAILED = -1.0
"""What the files have where a judge's text could not be read."""
LOW, HIGH = 1.0, 10.0
"""The scale of a rating."""
TIE = 0.1
"""Two ratings within this are a tie."""
Winner = Literal["model_1", "model_2", "tie", "error"]
Numbers = NDArray[np.float64]
_SAYS = {
    "average": "mean rating over all questions and turns that could be read; n are questions",
    "turn_1": "mean rating of the first turn",
    "turn_2": "mean rating of the second turn",
    "average_of_turns": "mean of the means of the turns: a turn that fails more often weighs no less",
    "average_as_upstream": "mean of every score but -1, as upstream: ratings outside of 1 to 10 are in it",
    "average_failed_lowest": "mean rating if every judgment that could not be read were a 1: the least it can be",
}
_WON = {
    "win_rate_adjusted": "share of comparisons won, ties as half; n are questions",
    "win_rate": "share of comparisons won",
    "loss_rate": "share of comparisons lost",
}


_MANY = 0.1
"""Share of failures above which an average says too little to stand without a warning."""
_Found = tuple[list[Metric], list[dict[str, Any]], list[str], int]
"""Metrics, rows of the table, notes, and the number of judgments."""


Turn = Annotated[int, BeforeValidator(number), Field(ge=1)]
_ONE_KIND = "give files of one kind, ratings or comparisons, and evaluate the others by themselves"


class _Single(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, protected_namespaces=())

    question_id: str
    model: str
    turn: Turn
    judge: str | list[str] = ""
    score: Figure | None = None
    judgment: str | None = None
    category: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_comparison(cls, row: dict[str, Any]) -> dict[str, Any]:
        if "g1_winner" in row:
            raise ValueError(f"this is a comparison, and the first row is a rating: {_ONE_KIND}")
        return row


class _Pair(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, protected_namespaces=())

    question_id: str
    model_1: str
    model_2: str
    g1_winner: Winner
    g2_winner: Winner
    turn: Turn = 1
    judge: str | list[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _no_rating(cls, row: dict[str, Any]) -> dict[str, Any]:
        if "g1_winner" not in row and "model" in row:
            raise ValueError(f"this is a rating, and the first row is a comparison: {_ONE_KIND}")
        return row


class _Either(BaseModel):
    """A row before it is known which kind it is."""

    model_config = ConfigDict(extra="allow")


class _Turn(NamedTuple):
    """One judgment of one turn."""

    question: str
    model: str
    turn: int
    judge: str
    category: str
    score: float
    """As upstream has it: -1 where nothing could be read."""

    def read(self) -> bool:
        """Whether it is a rating on the scale."""
        return LOW <= self.score <= HIGH


class _Battle(NamedTuple):
    question: str
    model: str
    other: str
    turn: int
    share: float | None
    """1 where the model wins, 0 where the other does, 1/2 for a tie; None where a game has no verdict."""


def mtbench(
    judgments: Sequence[Path],
    *,
    opponent: str | None = None,
    draws: Annotated[int, Field(gt=0)] = 2000,
    seed: int = 0,
) -> Result:
    """Ratings of MT-bench by model, turn and category, or its comparisons in both orders, from its own files.

    A rating is the score that a file recorded; where it recorded none, the first number in double brackets of the
    judge's text, else the first in single ones. A score of -1, and one that is not between 1 and 10, was not read:
    upstream drops the former without a word and averages the latter (a single bracket is often code, `array[0]`). Both
    are left out here and counted (`failed`), and `average_failed_lowest` is what the average would be at the worst.
    `average` pools both turns, as upstream does, so a turn that fails more often weighs less; `average_of_turns` does
    not depend on that.

    Files of comparisons (`g1_winner`, `g2_winner`): a model wins where both orders say so, else it is a tie. With an
    `opponent`, ratings are compared too: within 0.1 is a tie. A pair of ratings of which one could not be read has no
    winner and is counted (`failed_comparisons`); a rating without another of the same turn by the same judge is noted.

    Intervals are at 95%: percentiles of a bootstrap over questions, each with its turns and judges; of `failed`
    Wilson's over judgments. Names of metrics end in `/MODEL` where there are several models.

    Source: arXiv 2306.05685; FastChat, llm_judge/show_result.py and common.py.

    Args:
        judgments: files of judgments, all of ratings or all of comparisons.
        opponent: the model to compare with; comparisons without it are left out.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        Of ratings `average`, `failed` (a share), `turn_1`, `turn_2`, `average_as_upstream`, `average_of_turns` and
        `average_failed_lowest`, with an opponent also `win_rate_adjusted`, `failed_comparisons`, `win_rate` and
        `loss_rate`; of comparisons `win_rate_adjusted`, `failed`, `win_rate` and `loss_rate`. The table has a row for
        each model, and of ratings one for each of its categories.

    Raises:
        InputError: a file cannot be read, a row is of neither kind, or the files mix kinds.
    """
    _, first = next(rows_of(judgments, _Either, what=WHAT))
    kind = "comparisons" if "g1_winner" in (first.model_extra or {}) else "ratings"
    metrics, table, notes, n = _KINDS[kind](judgments, opponent, draws, seed)
    settings = {"judgments": [str(path) for path in judgments], "opponent": opponent, "draws": draws, "seed": seed}
    return Result(
        name="mtbench", n=n, settings=settings, metrics=tuple(metrics), table=tuple(table), notes=tuple(notes)
    )


def _ratings(paths: Sequence[Path], opponent: str | None, draws: int, seed: int) -> _Found:
    found, notes = _turns(paths)
    models = list(dict.fromkeys(each.model for each in found))
    _refuse_unknown(opponent, models)
    metrics: list[Metric] = []
    table: list[dict[str, Any]] = []
    by_model: dict[str, list[_Turn]] = defaultdict(list)
    for each in found:
        by_model[each.model].append(each)
    for model, mine in by_model.items():
        end = f"/{model}" if len(models) > 1 else ""
        means = _means(mine, draws, seed)
        failed = sum(not each.read() for each in mine)
        (first, *others) = [Metric.of(f"{name}{end}", mean, _says(name)) for name, mean in means.items()]
        metrics += [first, _failed(f"failed{end}", failed, len(mine), "judgments"), *others]
        table.append({"model": model, "category": None, **_counts(mine), **_flat(means)})
        parts: dict[str, list[_Turn]] = defaultdict(list)
        for each in mine:
            parts[each.category].append(each)
        for category, part in sorted(parts.items()):
            if category:
                of_part = _flat(_means(part, draws, seed))
                table.append({"model": model, "category": category, **_counts(part), **of_part})
        notes += _on_failures(model, mine)
    if opponent is not None:
        battles, more = _by_ratings(by_model, opponent)
        won, rows = _won(battles, draws, seed, with_model=len(models) > 2, failed="failed_comparisons")
        metrics, table, notes = [*metrics, *won], [*table, *rows], [*notes, *more]
    return metrics, table, notes, len(found)


def _turns(paths: Sequence[Path]) -> tuple[list[_Turn], list[str]]:
    """The judgments of all turns, and notes. Of two of the same turn by the same judge the later one counts."""
    found: dict[tuple[str, str, int, str], _Turn] = {}
    counts = Counter[str]()
    for _, row in rows_of(paths, _Single, what=WHAT):
        said = None if row.judgment is None else rating(row.judgment)
        by_text = FAILED if said is None else said.value
        score = by_text if row.score is None else row.score
        counts["rows"] += 1
        counts["other"] += row.judgment is not None and score != by_text
        counts["single"] += said is not None and not said.doubled and score == by_text
        judge = _judge(row.judge)
        turn = _Turn(row.question_id, row.model, row.turn, judge, row.category or "", score)
        found[(row.question_id, row.model, row.turn, judge)] = turn
    notes = []
    if again := counts["rows"] - len(found):
        notes.append(f"{again:,} judgments stand there again later; the later one counts.")
    if counts["other"]:
        notes.append(f"{counts['other']:,} recorded scores are not what the text says by the rule; they are used.")
    if counts["single"]:
        notes.append(f"{counts['single']:,} scores come from single brackets, which code has too (`array[0]`).")
    return list(found.values()), notes


def _means(mine: Sequence[_Turn], draws: int, seed: int) -> dict[str, Interval]:
    """The means of one model, or of one category of it; the cases are the questions that are in the mean."""
    score = np.array([each.score for each in mine], dtype=np.float64)
    read = np.array([each.read() for each in mine], dtype=np.bool_)
    turn = np.array([each.turn for each in mine])
    turns = sorted(set(turn.tolist()))
    kept: dict[str, NDArray[np.bool_]] = {
        "average": read,
        **{f"turn_{number}": read & (turn == number) for number in turns},
        "average_as_upstream": score != FAILED,
    }
    columns = [*(np.where(mask, score, np.nan) for mask in kept.values()), np.where(read, score, LOW)]
    means = grouped_means(np.column_stack(columns), [each.question for each in mine], draws=draws, seed=seed)
    found = dict(zip((*kept, "average_failed_lowest"), means.intervals(), strict=True))
    of_turns = [list(kept).index(f"turn_{number}") for number in turns]
    found["average_of_turns"] = percentiles(
        float(means.value[of_turns].mean()),
        means.drawn[:, of_turns].mean(axis=1),
        found["average"].n,
        cases=min(means.n[at] for at in of_turns),
    )
    return {name: found[name] for name in (*kept, "average_of_turns", "average_failed_lowest")}


def _says(name: str) -> str:
    return _SAYS.get(name) or f"mean rating of {name.replace('_', ' ')}"


def _counts(mine: Sequence[_Turn]) -> dict[str, int]:
    return {
        "judgments": len(mine),
        "failed": sum(not each.read() for each in mine),
        "off_scale": sum(not each.read() and each.score != FAILED for each in mine),
    }


def _flat(means: Mapping[str, Interval]) -> dict[str, float | None]:
    """Value and ends of each as columns of a row."""
    return {
        name if end == "value" else f"{name}_{end}": value
        for name, interval in means.items()
        for end, value in as_json(interval).items()
    }


def _on_failures(model: str, mine: Sequence[_Turn]) -> list[str]:
    failed = [each for each in mine if not each.read()]
    if not failed:
        return []
    by_turn = Counter(each.turn for each in mine)
    lost = Counter(each.turn for each in failed)
    parts = ", ".join(f"{lost[turn]:,} of {by_turn[turn]:,} of turn {turn}" for turn in sorted(by_turn))
    off = sum(each.score != FAILED for each in failed)
    told = f"; {off:,} of them have a score that is not between 1 and 10" if off else ""
    notes = [f"{model}: {len(failed):,} of {len(mine):,} judgments could not be read ({parts}){told}."]
    if len(failed) > _MANY * len(mine):
        notes.append(
            f"{model}: more than a tenth of the judgments are missing, so the average is one of the answers that the "
            "judge managed to rate; judge again, or read the average with what it would be at the lowest."
        )
    return notes


def _comparisons(paths: Sequence[Path], opponent: str | None, draws: int, seed: int) -> _Found:
    found: dict[tuple[str, str, str, int, str], _Pair] = {}
    rows = 0
    for _, row in rows_of(paths, _Pair, what=WHAT):
        rows += 1
        found[(row.question_id, row.model_1, row.model_2, row.turn, _judge(row.judge))] = row
    pairs = list(found.values())
    notes = [f"{rows - len(pairs):,} comparisons stand there again later; the later one counts."] * (len(pairs) < rows)
    models = list(dict.fromkeys(model for each in pairs for model in (each.model_1, each.model_2)))
    _refuse_unknown(opponent, models)
    battles = []
    for each in pairs:
        share = _OF_BOTH.get((each.g1_winner, each.g2_winner), _unlike(each))
        battles.append(_Battle(each.question_id, each.model_1, each.model_2, each.turn, share))
        turned = None if share is None else 1.0 - share
        battles.append(_Battle(each.question_id, each.model_2, each.model_1, each.turn, turned))
    if opponent is not None:
        battles = [each for each in battles if each.other == opponent]
        if left := len(pairs) - len(battles):
            notes.append(f"{left:,} comparisons are without {opponent} and are left out.")
    several = len({each.model for each in battles}) > 1
    metrics, table = _won(battles, draws, seed, with_model=several, failed="failed")
    return metrics, table, notes, len(pairs)


def _unlike(pair: _Pair) -> float | None:
    """A tie where the two orders disagree; nothing where a game has no verdict."""
    return None if "error" in (pair.g1_winner, pair.g2_winner) else 0.5


def _by_ratings(by_model: Mapping[str, Sequence[_Turn]], opponent: str) -> tuple[list[_Battle], list[str]]:
    """Every rating of a model against the opponent's of the same turn by the same judge, and notes.

    Raises:
        InputError: no two are of the same turn by the same judge.
    """
    theirs = {(each.question, each.turn, each.judge): each for each in by_model[opponent]}
    battles, notes = [], []
    for model, mine in by_model.items():
        if model == opponent:
            continue
        both = [(each, theirs.get((each.question, each.turn, each.judge))) for each in mine]
        there = [(one, two) for one, two in both if two is not None]
        battles += [_Battle(one.question, model, opponent, one.turn, _higher(one, two)) for one, two in there]
        if (left := len(mine) - len(there)) or len(theirs) > len(there):
            other = len(theirs) - len(there)
            notes.append(
                f"{model} against {opponent}: {left:,} ratings of {model} and {other:,} of {opponent} "
                "have no other of the same turn by the same judge, and are compared with none."
            )
    if not battles:
        raise InputError(
            f"{WHAT}: no rating of another model stands beside one of {opponent} at the same turn by the same judge; "
            "give the files of both models by one judge"
        )
    return battles, notes


def _higher(mine: _Turn, other: _Turn) -> float | None:
    """1 where the first is rated higher, 0 where the other is, 1/2 for a tie; None where one could not be read."""
    if not (mine.read() and other.read()):
        return None
    gap = round(mine.score - other.score, 9)
    return 0.5 if abs(gap) <= TIE else float(gap > 0)


def _won(
    battles: Sequence[_Battle], draws: int, seed: int, *, with_model: bool, failed: str
) -> tuple[list[Metric], list[dict[str, Any]]]:
    """Shares of comparisons won and lost by model, and of those without a verdict under the name `failed`."""
    metrics: list[Metric] = []
    table: list[dict[str, Any]] = []
    by_model: dict[str, list[_Battle]] = defaultdict(list)
    for each in battles:
        by_model[each.model].append(each)
    for model, mine in by_model.items():
        read = [(each.question, each.share) for each in mine if each.share is not None]
        shares = np.array([share for _, share in read], dtype=np.float64)
        columns = np.column_stack([shares, shares == 1.0, shares == 0.0])
        means = grouped_means(columns, [question for question, _ in read], draws=draws, seed=seed)
        found = dict(zip(_WON, means.intervals(), strict=True))
        end = f"/{model}" if with_model else ""
        (first, *others) = [Metric.of(f"{name}{end}", share, _WON[name]) for name, share in found.items()]
        lost = len(mine) - len(read)
        metrics += [first, _failed(f"{failed}{end}", lost, len(mine), "comparisons"), *others]
        counts = {name: int((shares == share).sum()) for name, share in (("win", 1.0), ("loss", 0.0), ("tie", 0.5))}
        against = listed(sorted({each.other for each in mine}))
        table.append({"model": model, "against": against, **counts, "error": lost, **_flat(found)})
    return metrics, table


def _failed(name: str, failed: int, of: int, cases: str) -> Metric:
    says = f"share of {cases} that could not be read; they are left out"
    return Metric.of(name, wilson(failed, of), says)


def _judge(names: str | list[str]) -> str:
    return names if isinstance(names, str) else " ".join(names)


def _refuse_unknown(opponent: str | None, models: Sequence[str]) -> None:
    if opponent is not None and opponent not in models:
        hint = nearest(opponent, models) or f"; there are {listed(models)}"
        raise InputError(f"{WHAT}: the files have no model {opponent!r}{hint}")


_OF_BOTH: dict[tuple[str, str], float] = {("model_1", "model_1"): 1.0, ("model_2", "model_2"): 0.0}
_KINDS: dict[str, Callable[[Sequence[Path], str | None, int, int], _Found]] = {
    "ratings": _ratings,
    "comparisons": _comparisons,
}
