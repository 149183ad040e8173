"""Two answers at a time, in both orders."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from itertools import combinations
from typing import NamedTuple

import polars as pl

from pairwright.scorers.judge.rated import Ask, Brief, Judgement, Row
from pairwright.scorers.judge.readings import COMPARERS, Judged, Verdict
from pairwright.served import Answer, Call, Failure


class Outcome(StrEnum):
    """What the two orders of a comparison say together."""

    FIRST = "first"
    SECOND = "second"
    TIE = "tie"
    """Both orders say so."""
    POSITION_FLIP = "position_flip"
    """The judge chose the same place twice, so that it chose by the place: a tie, or the mean of both orders."""
    HALF_TIE = "half_tie"
    """One order is a tie: a tie, or the mean of both orders."""
    ABSTAINED = "abstained"
    """The judge abstained in one order: no outcome."""
    UNANSWERED = "unanswered"
    """One order has no verdict: no outcome."""


_TURNED = {
    Verdict.FIRST: Verdict.SECOND,
    Verdict.SECOND: Verdict.FIRST,
    Verdict.TIE: Verdict.TIE,
    Verdict.ABSTAINED: Verdict.ABSTAINED,
}
_AGREED = {Verdict.FIRST: Outcome.FIRST, Verdict.SECOND: Outcome.SECOND, Verdict.TIE: Outcome.TIE}
_NONE = frozenset({Outcome.ABSTAINED, Outcome.UNANSWERED})


def settle(forward: Verdict | None, backward: Verdict | None) -> Outcome:
    """What two orders say together of the answer that stood first in the first of them.

    Args:
        forward: the verdict on (i, j).
        backward: the verdict on (j, i), as the judge gave it.
    """
    if forward is None or backward is None:
        return Outcome.UNANSWERED
    turned = _TURNED[backward]
    if Verdict.ABSTAINED in (forward, turned):
        return Outcome.ABSTAINED
    if forward is turned:
        return _AGREED[forward]
    return Outcome.HALF_TIE if Verdict.TIE in (forward, turned) else Outcome.POSITION_FLIP


def agreed(outcome: Outcome, forward: Judged, backward: Judged) -> float:
    """The win of the first answer, 1, 0 or 1/2: both orders must agree, else it is a tie."""
    return {Outcome.FIRST: 1.0, Outcome.SECOND: 0.0}.get(outcome, 0.5)


def averaged(outcome: Outcome, forward: Judged, backward: Judged) -> float:
    """The mean of what the first answer has in both orders."""
    return ((forward.share or 0.0) + 1.0 - (backward.share or 0.0)) / 2.0


WINS: dict[str, Callable[[Outcome, Judged, Judged], float]] = {"said": agreed, "expected": averaged}
"""The win of a comparison, by how the verdicts are read."""


class _Pair(NamedTuple):
    """Places of two answers to one prompt."""

    first: int
    second: int


def pairwise(rows: Sequence[Row], brief: Brief, ask: Ask) -> Judgement:
    """Each answer's mean win over the other answers to its prompt, each pair judged in both orders.

    The mean is over the comparisons that have an outcome. An answer without one has the commonest reason of its
    calls, and `lone_answer` where its prompt has no other answer.
    """
    pairs = _pairs(rows)
    orders = [order for pair in pairs for order in (pair, _Pair(pair.second, pair.first))]
    answers = ask([_call(brief, rows, order) for order in orders])
    read = COMPARERS[brief.reading]
    judged = [read(answer) for answer in answers]
    wins: list[list[float]] = [[] for _ in rows]
    outcomes: Counter[str] = Counter()
    for pair, forward, backward in zip(pairs, judged[::2], judged[1::2], strict=True):
        outcome = settle(forward.verdict, backward.verdict)
        outcomes[outcome] += 1
        if outcome not in _NONE:
            win = WINS[brief.reading](outcome, forward, backward)
            wins[pair.first].append(win)
            wins[pair.second].append(1.0 - win)
    values = [math.fsum(each) / len(each) if each else None for each in wins]
    why = _reasons(values, orders, judged)
    verdicts = Counter(each.verdict for each in judged if each.verdict is not None)
    found = {
        "comparisons": len(pairs),
        "outcomes": {str(each): outcomes[each] for each in Outcome},
        "verdicts": {str(each): verdicts[each] for each in Verdict},
    }
    columns = {"text": _texts(len(rows), orders, answers), "why": pl.Series(why, dtype=pl.String)}
    return Judgement(values, Counter(filter(None, why)), columns, found, _notes(len(pairs), outcomes, verdicts, brief))


def _pairs(rows: Sequence[Row]) -> list[_Pair]:
    """Every two answers to one prompt, in the order of the rows."""
    groups: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        groups.setdefault(row.prompt_id, []).append(at)
    return [_Pair(*two) for group in groups.values() for two in combinations(group, 2)]


def _call(brief: Brief, rows: Sequence[Row], order: _Pair) -> Call:
    first, second = rows[order.first], rows[order.second]
    return brief.call(prompt=first.prompt, first=first.answer, second=second.answer)


def _reasons(values: Sequence[float | None], orders: Sequence[_Pair], judged: Sequence[Judged]) -> list[str | None]:
    """Why an answer has no score: the commonest reason of its calls, the first by name of several."""
    whys: list[Counter[str]] = [Counter() for _ in values]
    for order, each in zip(orders, judged, strict=True):
        if each.verdict is None or each.verdict is Verdict.ABSTAINED:
            for at in order:
                whys[at][each.why or "abstained"] += 1
    return [
        None if value is not None else min(counts, key=lambda why: (-counts[why], why), default="lone_answer")
        for value, counts in zip(values, whys, strict=True)
    ]


def _texts(num_rows: int, orders: Sequence[_Pair], answers: Sequence[Answer | Failure]) -> pl.Series:
    """What the judge wrote of the comparisons in which an answer stood first, in their order."""
    texts: list[list[str]] = [[] for _ in range(num_rows)]
    for order, each in zip(orders, answers, strict=True):
        texts[order.first].append((each.text or each.refusal or "") if isinstance(each, Answer) else each.said)
    return pl.Series(texts, dtype=pl.List(pl.String))


def _notes(num_pairs: int, outcomes: Counter[str], verdicts: Counter[Verdict], brief: Brief) -> list[str]:
    if not num_pairs:
        return ["No prompt has two answers, so nothing was compared."]
    settled = _SETTLED[brief.reading]
    parts = [f"{outcomes[each]:,} {word.format(settled)}" for each, word in _WORDS.items() if outcomes[each]]
    decided = verdicts[Verdict.FIRST] + verdicts[Verdict.SECOND]
    places = f" The first place won {verdicts[Verdict.FIRST]:,} of {decided:,} decided calls." if decided else ""
    return [f"{num_pairs:,} comparisons in both orders: {', '.join(parts)}.{places}"]


_SETTLED = {"said": "ties", "expected": "both orders averaged"}
"""What a comparison comes to whose orders do not agree, by how the verdicts are read."""
_WORDS = {
    Outcome.FIRST: "won by the first in file order",
    Outcome.SECOND: "won by the second",
    Outcome.TIE: "ties",
    Outcome.HALF_TIE: "with a tie in one order ({})",
    Outcome.POSITION_FLIP: "flipped with the position ({})",
    Outcome.ABSTAINED: "with an abstention",
    Outcome.UNANSWERED: "without an answer",
}
