"""Agreement with human labels: does a judge or a scorer choose as people do, and where does it not?"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pairwright.errors import InputError
from pairwright.evaluate.kappa import cohen, cohen_either_order, fleiss
from pairwright.evaluate.labelled import Labelled, labelled
from pairwright.evaluate.result import Metric, Result, as_json
from pairwright.evaluate.said import Said, by_columns, by_file, by_scorer_now
from pairwright.plug import nearest
from pairwright.preferences import Preferences
from pairwright.stats import Interval, grouped_bootstrap, wilson

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
_WHAT = "evaluate humans"
_CLASSES = (-1.0, 0.0, 1.0)
_NAMES = ("second", "tie", "first")
_RIGHT = "share of comparisons decided by people where the verdict is theirs; a tie is wrong"
_SAYS = {
    "accuracy": _RIGHT,
    "accuracy_decided": "the same, of those where the verdict is no tie",
    "agreement": "share of all comparisons where verdict and label are the same, a tie as a label of its own",
    "kappa": "Cohen's kappa of verdict and label in three classes: first, second, tie",
    "kappa_decided": "Cohen's kappa where neither is a tie",
    "position/first": "share of verdicts, ties apart, for the answer in the first place",
    "position/bias": "that share beyond one half, each answer having stood in both places",
    "position/flip": "share of comparisons where the two orders name different answers",
    "position/consistent": "share of comparisons where both orders say the same, ties among it",
    "length/longer": "share of verdicts for the longer answer (characters), where neither verdict nor label is a tie",
    "length/humans": "share of labels for the longer answer, of the same comparisons",
    "length/bias": "the difference: how much more often the longer answer is chosen than people choose it",
    "length/longer_right": "accuracy where people choose the longer answer",
    "length/shorter_right": "accuracy where people choose the shorter answer",
}
_FIRST_ONCE = "that share beyond people's own, of the same comparisons: each was shown in one order only"


def humans(
    source: Path | Preferences,
    *,
    scores: Sequence[str] | None = None,
    scorer: str | Mapping[str, Any] | None = None,
    verdicts: Path | None = None,
    key: str | None = None,
    by: str | None = None,
    split: str | None = None,
    draws: Annotated[int, Field(gt=0)] = 2000,
    seed: int = 0,
) -> Result:
    """How far the verdicts of a judge or a scorer are those of people, beyond chance, by position and by length.

    Verdicts come from score columns of the data, from a scorer that is asked now (a judge with `kind: pairwise` sees
    each comparison in both orders), or from a file with a `verdict` for each comparison (`first`, `second`, `tie`,
    `abstained`, or A, B, C as MT-bench writes; null where it could not be read) and, for the exchanged order,
    `verdict_swapped`. Where there are both orders the verdict is what they agree on, and else a tie.

    Where several people labelled a comparison, the label is what more than half of them say, a tie too; comparisons
    without a majority are left out, and counted. Verdicts that are not there are left out, and counted.

    Labels come from a file of a known format (LLMBar, Auto-J, PandaLM, JudgeBench, HHH and any pairs), which keeps ties
    and which answer stood first; or from pairs, which have neither. Where the better answer is always listed first,
    kappa counts each comparison in both orders, as the order then means nothing; it is not known where such comparisons
    were shown in that one order only.

    Intervals are at 95%: of accuracies Wilson's where no prompt has two comparisons, of all else percentiles of a
    bootstrap over prompts.

    Args:
        source: a file of labelled comparisons, a directory of preference data, or preferences.
        scores: score columns of the answers; all when nothing else is given.
        scorer: scores the answers now: a name of `pairwright list scorers`, or a mapping with its name under `with` and
            its settings beside it.
        verdicts: a file of verdicts, a row for each of the labels' in their order, or by `key`.
        key: a column of labels and verdicts that tells which comparison a verdict is on.
        by: a column of the labels, such as `subset`: the accuracy for each of its values, and their unweighted mean.
        split: of the labels; None takes all.
        draws: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        Of the labels alone: `humans/ties`, `humans/first`, `humans/longer`, and of several people `fleiss_kappa`,
        `unanimous` and `kappa/A ~ B`. Of the verdicts `accuracy`, `accuracy_decided`, `agreement`, `kappa`,
        `kappa_decided`, `position/...`, `length/...` and `<by>=<value>`, `average`; where there are several score
        columns `/<column>` ends each name. The table has the counts: rows are labels, columns are verdicts.

    Raises:
        InputError: labels or verdicts cannot be read or do not belong together, or there is no such column.

    Source: Cohen (1960), Educational and Psychological Measurement 20:37-46; Fleiss (1971), Psychological Bulletin
        76:378-382; arXiv 2306.05685, section 3.4 (a win where both orders agree).
    """
    asked: dict[str, Any] = {"scores": scores, "scorer": scorer, "verdicts": verdicts}
    if len(given := [name for name, value in asked.items() if value is not None]) > 1:
        raise InputError(f"{_WHAT}: give one of scores, scorer and verdicts, not {' and '.join(given)}")
    if key is not None and verdicts is None:
        raise InputError(f"{_WHAT}: key tells which comparison a row of verdicts is on; give verdicts too")
    people = labelled(source, split=split)
    parts = _parts(people, by)
    found = _said(people, scores, scorer, verdicts, key)
    notes = [*people.notes]
    if no_majority := int(np.isnan(people.label).sum()):
        notes.append(f"{no_majority:,} of {len(people.label):,} comparisons have no majority of people; left out.")
    if not found:
        notes.append("There are no verdicts: the data has no scores, and neither scorer nor verdicts are given.")
    metrics = _of_people(people, draws=draws, seed=seed)
    table: list[dict[str, Any]] = []
    for said in found:
        ending = "" if len(found) == 1 else f"/{said.name}"
        numbers = _of_verdicts(people, said, draws=draws, seed=seed)
        if parts is not None:
            groups, rows = _of_groups(people, said, str(by), parts, draws=draws, seed=seed)
            numbers += groups
            table += rows
        metrics += [Metric.of(f"{name}{ending}", interval, says) for name, interval, says in numbers]
        table += _counts(people, said)
        notes += [*said.notes, *_missing(people, said)]
    settings = {**asked, "source": None if isinstance(source, Preferences) else str(source)}
    settings |= {"verdicts": None if verdicts is None else str(verdicts)}
    settings |= {"key": key, "by": by, "split": split, "draws": draws, "seed": seed}
    return Result(
        name="humans",
        n=len(people.label),
        settings=settings,
        metrics=tuple(metrics),
        table=tuple(table),
        notes=tuple(notes),
    )


Found = list[tuple[str, Interval, str]]


def _said(
    people: Labelled,
    scores: Sequence[str] | None,
    scorer: str | Mapping[str, Any] | None,
    verdicts: Path | None,
    key: str | None,
) -> list[Said]:
    """The verdicts that are asked for; none where nothing is and the answers have no scores."""
    if verdicts is not None:
        return [by_file(people, verdicts, key)]
    if scorer is not None:
        return [by_scorer_now(people, scorer)]
    return by_columns(people, scores) if scores is not None or _has_scores(people) else []


def _has_scores(people: Labelled) -> bool:
    schema = people.alone.responses.collect_schema()
    names = [name for name, kind in schema.items() if kind.is_float() and name.split("_")[0] == "score"]
    frame = people.alone.responses.select(names).collect()
    return any(frame[name].is_finite().any() for name in names)


def _parts(people: Labelled, by: str | None) -> NDArray[np.object_] | None:
    if by is None:
        return None
    if by not in people.beside.columns:
        hint = nearest(by, people.beside.columns) or f"; there are {', '.join(people.beside.columns) or 'none'}"
        raise InputError(f"{_WHAT}: the labels have no column {by!r}{hint}")
    return np.array(people.beside[by].fill_null("none").to_list(), dtype=object)


class _Share(NamedTuple):
    """A number over rows: the sum of `values` where `there`, over that of `calls`."""

    values: Floats
    there: NDArray[np.bool_]
    calls: Floats | None = None
    """How many verdicts each comparison holds; None is one."""

    def of(self, rows: Rows) -> float:
        kept = rows[self.there[rows]]
        calls = float(len(kept) if self.calls is None else self.calls[kept].sum())
        return float(self.values[kept].sum()) / calls if calls else np.nan


def _counted(first: Floats, second: Floats) -> NDArray[np.int64]:
    """How often the first says the class of the row and the second that of the column; NaN counts nowhere."""
    known = ~(np.isnan(first) | np.isnan(second))
    cells = 3 * (first[known] + 1) + second[known] + 1
    return np.bincount(cells.astype(np.int64), minlength=9).reshape(3, 3)


def _of_people(people: Labelled, *, draws: int, seed: int) -> list[Metric]:
    """What is to be said of the labels themselves."""
    label, longer = people.label, _longer(people)
    known, decided = ~np.isnan(label), np.abs(label) == 1
    shares = {"humans/ties": (_Share((label == 0).astype(np.float64), known), "share of labels that are a tie")}
    if people.ordered:
        first = _Share((label > 0).astype(np.float64), decided)
        shares["humans/first"] = (first, "share of labels, ties apart, for the answer that stands first")
    of_longer = _Share((label == longer).astype(np.float64), decided & (longer != 0))
    shares["humans/longer"] = (of_longer, "share of labels, ties apart, for the longer answer (characters)")
    found = _bootstrapped(people, [share for share, _ in shares.values()], draws=draws, seed=seed)
    metrics = [Metric.of(name, one, says) for (name, (_, says)), one in zip(shares.items(), found, strict=True)]
    if not people.votes:
        return metrics
    every = np.stack(list(people.votes.values()), axis=1)
    whole = np.count_nonzero(np.isnan(every), axis=1) == 0
    table = np.stack([np.count_nonzero(every == said, axis=1) for said in _CLASSES], axis=1)
    pairs = list(combinations(people.votes, 2))

    def numbers(rows: Rows) -> list[float]:
        kept = rows[whole[rows]]
        alike = float((table[kept].max(axis=1) == every.shape[1]).mean()) if len(kept) else np.nan
        two = [cohen(_counted(people.votes[a][rows], people.votes[b][rows])) for a, b in pairs]
        return [fleiss(table[kept]), alike, *two]

    told = {
        "fleiss_kappa": f"Fleiss' kappa of {every.shape[1]} people, in three classes: first, second, tie",
        "unanimous": "share of comparisons on which all people say the same",
    } | {f"kappa/{a} ~ {b}": "Cohen's kappa of two people, in three classes" for a, b in pairs}
    bounds = grouped_bootstrap(numbers, people.prompt, draws=draws, seed=seed)
    voted = ~np.isnan(every)
    columns = {name: at for at, name in enumerate(people.votes)}
    sizes = [int(whole.sum())] * 2 + [int((voted[:, columns[a]] & voted[:, columns[b]]).sum()) for a, b in pairs]
    return metrics + [
        Metric.of(name, _with_n(one, n), says) for (name, says), one, n in zip(told.items(), bounds, sizes, strict=True)
    ]


def _longer(people: Labelled) -> Floats:
    """Which answer is longer: 1 the first, -1 the second, 0 neither."""
    return np.sign(people.length[:, 0] - people.length[:, 1])


def _bootstrapped(people: Labelled, shares: Sequence[_Share], *, draws: int, seed: int) -> list[Interval]:
    found = grouped_bootstrap(lambda rows: [share.of(rows) for share in shares], people.prompt, draws=draws, seed=seed)
    return [_with_n(one, int(share.there.sum())) for one, share in zip(found, shares, strict=True)]


def _with_n(interval: Interval, n: int) -> Interval:
    """The interval with the number of comparisons in place of that of prompts."""
    return Interval(interval.value, interval.low, interval.high, n)


def _right(people: Labelled, share: _Share, *, draws: int, seed: int) -> Interval:
    """An accuracy: Wilson's interval where every comparison is of a prompt of its own."""
    rows = np.flatnonzero(share.there)
    prompts = [people.prompt[at] for at in rows]
    if len(set(prompts)) == len(prompts):
        return wilson(int(share.values[rows].sum()), len(rows))
    right = share.values[rows]
    (found,) = grouped_bootstrap(lambda drawn: [float(right[drawn].mean())], prompts, draws=draws, seed=seed)
    return _with_n(found, len(rows))


def _of_verdicts(people: Labelled, said: Said, *, draws: int, seed: int) -> Found:
    label, verdict, longer = people.label, said.verdict, _longer(people)
    known = ~(np.isnan(label) | np.isnan(verdict))
    decided = known & (label != 0)
    both = decided & (verdict != 0)
    same = (label == verdict).astype(np.float64)
    accuracies = {"accuracy": _Share(same, decided), "accuracy_decided": _Share(same, both)}
    accuracies["agreement"] = _Share(same, known)
    found: Found = [
        (name, _right(people, share, draws=draws, seed=seed), _SAYS[name]) for name, share in accuracies.items()
    ]
    beyond, told = _beyond_chance(people, said)

    def kappas(rows: Rows) -> list[float]:
        counts = _counted(label[rows], verdict[rows])
        return [beyond(counts), beyond(counts[::2, ::2])]

    bounds = grouped_bootstrap(kappas, people.prompt, draws=draws, seed=seed)
    for name, bound, there in zip(("kappa", "kappa_decided"), bounds, (known, both), strict=True):
        found.append((name, _with_n(bound, int(there.sum())), _SAYS[name] + told))
    shares = _of_position(people, said)
    uneven = both & (longer != 0)
    chooses, they = ((one == longer).astype(np.float64) for one in (verdict, label))
    shares |= {
        "length/longer": (_Share(chooses, uneven), _SAYS["length/longer"]),
        "length/humans": (_Share(they, uneven), _SAYS["length/humans"]),
        "length/bias": (_Share(chooses - they, uneven), _SAYS["length/bias"]),
        "length/longer_right": (_Share(same, decided & (longer == label)), _SAYS["length/longer_right"]),
        "length/shorter_right": (_Share(same, decided & (longer == -label)), _SAYS["length/shorter_right"]),
    }
    intervals = _bootstrapped(people, [share for share, _ in shares.values()], draws=draws, seed=seed)
    found += [(name, one, says) for (name, (_, says)), one in zip(shares.items(), intervals, strict=True)]
    return found


def _beyond_chance(people: Labelled, said: Said) -> tuple[Callable[[NDArray[np.int64]], float], str]:
    """The kappa for these labels, and what is to be said of it."""
    if people.ordered:
        return cohen, ""
    if _place_is_label(people, said):
        return (lambda _: np.nan), "; not known, as each comparison was shown in one order, the better answer first"
    return cohen_either_order, "; each comparison in both orders"


def _place_is_label(people: Labelled, said: Said) -> bool:
    """Whether the better answer was always shown first, so that to name the place is to be right."""
    return not people.ordered and said.ahead is not None and said.back is None


def _of_position(people: Labelled, said: Said) -> dict[str, tuple[_Share, str]]:
    """What the place of the answers did; nothing where nobody saw two at a time."""
    if said.ahead is None:
        return {}
    return _of_one_order(people, said.ahead) if said.back is None else _of_two_orders(said, said.ahead, said.back)


def _of_one_order(people: Labelled, ahead: Floats) -> dict[str, tuple[_Share, str]]:
    """Against people's own share of first ones; without that where the better answer always stood first."""
    if not people.ordered:
        named = np.nan_to_num(ahead) != 0
        return {"position/first": (_Share((ahead > 0).astype(np.float64), named), _SAYS["position/first"])}
    both = np.nan_to_num(people.label * ahead) != 0
    first, theirs = ((one > 0).astype(np.float64) for one in (ahead, people.label))
    return {
        "position/first": (_Share(first, both), _SAYS["position/first"]),
        "position/bias": (_Share(first - theirs, both), _FIRST_ONCE),
    }


def _of_two_orders(said: Said, ahead: Floats, back: Floats) -> dict[str, tuple[_Share, str]]:
    """Each answer stood in each place once, so that chance is one half."""
    known = ~(np.isnan(ahead) | np.isnan(back))
    shares = {
        "position/flip": _Share((ahead * back < 0).astype(np.float64), known),
        "position/consistent": _Share((ahead == back).astype(np.float64), known),
    }
    if said.placed:
        first = (ahead > 0).astype(np.float64) + (back < 0)
        calls = (ahead != 0).astype(np.float64) + (back != 0)
        of_place = {
            "position/first": _Share(first, known, calls),
            "position/bias": _Share(first - calls / 2.0, known, calls),
        }
        shares = of_place | shares
    return {name: (share, _SAYS[name]) for name, share in shares.items()}


def _of_groups(
    people: Labelled, said: Said, by: str, parts: NDArray[np.object_], *, draws: int, seed: int
) -> tuple[Found, list[dict[str, Any]]]:
    """The accuracy of each part, and their unweighted mean."""
    decided = ~np.isnan(said.verdict) & (np.nan_to_num(people.label) != 0)
    same = (people.label == said.verdict).astype(np.float64)
    shares = {str(part): _Share(same, decided & (parts == part)) for part in sorted(set(parts))}
    found: Found = []
    rows: list[dict[str, Any]] = []
    for part, share in shares.items():
        right = _right(people, share, draws=draws, seed=seed)
        found.append((f"{by}={part}", right, _RIGHT))
        rows.append({"scores": said.name, by: part, "comparisons": right.n, **as_json(right)})
    (mean,) = grouped_bootstrap(
        lambda drawn: [float(np.mean([share.of(drawn) for share in shares.values() if share.there.any()]))],
        people.prompt,
        draws=draws,
        seed=seed,
    )
    found.insert(0, ("average", _with_n(mean, int(decided.sum())), f"unweighted mean of the accuracy over {by}"))
    return found, rows


def _counts(people: Labelled, said: Said) -> list[dict[str, Any]]:
    """A row for each label: how often each verdict was given there."""
    rows = []
    for value, name in zip(_CLASSES[::-1], _NAMES[::-1], strict=True):
        there = said.verdict[np.flatnonzero(people.label == value)]
        counts = {f"said_{other}": int((there == one).sum()) for one, other in zip(_CLASSES, _NAMES, strict=True)}
        rows.append({"scores": said.name, "label": name, **counts, "unknown": int(np.isnan(there).sum())})
    return rows


def _missing(people: Labelled, said: Said) -> list[str]:
    without = int(np.isnan(said.verdict).sum())
    total = len(said.verdict)
    notes = []
    if without:
        notes.append(f"{without:,} of {total:,} comparisons have no verdict of {said.name}; they are left out.")
    if _place_is_label(people, said):
        notes.append(
            f"{said.name} saw each comparison in one order, the better answer first: who always says first is always "
            "right, so accuracy says nothing of agreement and kappa is not known; give verdict_swapped too."
        )
    return notes
