"""The pair explorer: the pairs of a run with everything that is known of them, packed for the page.

What is gathered: the pairs that each training took (the last data before it), with their scores, goals, metrics and
findings of audits, and with the log-probabilities that later steps put on them; and the held-out pairs on which a
training was probed, with the credit of each token. `templates/explorer.js` searches, filters, sorts and shows them.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
from markupsafe import Markup

from pairwright.draws import draw_of_ids
from pairwright.goals import GoalFormat
from pairwright.metrics.gaps import explicit_gap
from pairwright.preferences import Preferences
from pairwright.probes.store import FOLDER, Probes, load_probes
from pairwright.report.files import BROKEN, dicts, items
from pairwright.report.packed import packed_column, packed_indices, packed_texts
from pairwright.report.shown import HIDDEN, clean, json_island, plain
from pairwright.select import numbers

if TYPE_CHECKING:
    from pairwright.report.views import StepView

PAIRS = 10_000
"""At most so many pairs of a run are on its page; of more, a seeded sample."""
CHARACTERS = 60_000_000
"""At most so many characters of text are on the page; the sample is smaller where the texts are longer."""
LONGEST = 2_000_000
"""A longer text is cut there, and the page says how much of it is missing."""
SEED = 0
SIDES = ("chosen", "rejected")
GOALS = 64
"""So many different goals are shown with the sentence that the model reads."""
CATEGORIES = 50
"""A column of strings with more different values is a text and no category."""

_IDS = {"row": "row of the data, from 0", "chosen_id": "chosen_id", "rejected_id": "rejected_id"}
_SAID = {"chars": "characters", "logp_end": "logp in the end", "logp_start": "logp at the start"}
"""What columns are called on the page, where not by their name."""


@dataclass(frozen=True)
class PairSet:
    """Pairs that belong together: the data of one step, or the held-out pairs of one training.

    Attributes:
        name: what the reader chooses it by.
        says: where it comes from.
        pairs: how many of its pairs are on the page.
        of: how many there are.
        values: what the script reads: columns, indices of texts, findings.
        series: packed texts by name: `prompts`, `answers`, `details`.
    """

    name: str
    says: str
    pairs: int
    of: int
    values: Mapping[str, Any]
    series: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Explorer:
    """What `explorer.html.j2` puts on the page.

    Attributes:
        sets: the sets of pairs, the first one is shown first.
        island: the elements that hold the packed pairs.
    """

    sets: tuple[PairSet, ...]
    island: Markup

    def about(self) -> list[dict[str, Any]]:
        """What is on the page, as JSON values: name, pairs shown, pairs that there are."""
        return [{"name": one.name, "says": one.says, "pairs": one.pairs, "of": one.of} for one in self.sets]


@dataclass(frozen=True)
class _Source:
    """A set before it is sampled and packed.

    Attributes:
        frame: a row for each pair: `row`, ids, `goal` (number or text), `split`, and every number of the pair.
        prefs: the prompts and answers.
        findings: `check`, `level`, `says`, `remedy` and a Boolean for each row of `frame`.
        details: by row, what is known of single pairs only: credit, course of the training.
    """

    name: str
    says: str
    prefs: Preferences
    frame: pl.DataFrame
    findings: Sequence[tuple[Mapping[str, str], pl.Series]] = ()
    details: Mapping[int, Mapping[str, Any]] | None = None
    form: GoalFormat | None = None


def explorer_of(steps: "Sequence[StepView]", *, pairs: int = PAIRS) -> Explorer | None:
    """The pairs of a run; None where it kept none. Data that are damaged are left out.

    Args:
        steps: the steps of a run in order, or the one of a single training, each with its folder.
        pairs: how many pairs the page may hold; the sets share them.
    """
    sources = [*_of_data(steps), *_of_probes(steps)]
    sources = [source for source in sources if len(source.frame)]
    if not sources:
        return None
    sets, left, characters = [], pairs, CHARACTERS
    for i, source in enumerate(sorted(sources, key=lambda source: len(source.frame))):
        share = len(sources) - i  # the smallest first: what it does not need is left for the others
        packed, used = _packed(source, limit=left // share, characters=characters // share)
        left, characters = left - packed.pairs, characters - used
        sets.append(packed)
    order = [source.name for source in sources]
    ordered = tuple(sorted(sets, key=lambda one: order.index(one.name)))
    return Explorer(ordered, _island(ordered))


def _island(sets: Sequence[PairSet]) -> Markup:
    """JSON elements: the columns of all sets in one, each piece of text in its own."""
    head = {"hidden": HIDDEN.pattern, "sets": [clean(dict(one.values)) for one in sets]}
    parts = [Markup('<script type="application/json" class="explorer-head">{}</script>\n').format(json_island(head))]
    for i, one in enumerate(sets):
        for name, chunks in one.series.items():
            parts += [
                Markup('<script type="application/json" data-set="{}" data-series="{}">"{}"</script>\n').format(
                    i, name, chunk
                )
                for chunk in chunks
            ]
    return Markup("").join(parts)


def _of_data(steps: "Sequence[StepView]") -> Iterator[_Source]:
    """The pairs that trainings took, the last training's first; without a training, those of the last step."""
    loaded = dict(_loaded(steps))
    taken = [step.take for step in reversed(steps) if step.verb == "train" and step.take in loaded]
    names = [name for name in dict.fromkeys(taken) if name and _has_pairs(loaded[name])]
    if not names:
        names = [name for name in reversed(loaded) if _has_pairs(loaded[name])][:1]
    margins = _margins(steps)
    for name in names:
        prefs = loaded[name]
        later = [other for other in loaded.values() if _extends(other, prefs)]
        try:
            frame = _frame(prefs, later, margins)
            findings = list(_findings(frame, prefs, loaded, steps))
        except BROKEN:
            continue
        users = [step.name for step in steps if step.verb == "train" and step.take == name]
        says = f"data of step {name}" + (f", from which {' and '.join(users)} was trained" if users else "")
        yield _Source(name, says, prefs, frame, findings, form=prefs.goal_format)


def _loaded(steps: "Sequence[StepView]") -> Iterator[tuple[str, Preferences]]:
    for step in steps:
        folder = step.folder / "data"
        if (folder / "manifest.json").is_file():
            try:
                yield step.name, Preferences.load(folder)
            except BROKEN:
                continue  # the page says so where it shows the step


def _has_pairs(prefs: Preferences) -> bool:
    return bool(prefs.counts().pairs)


def _extends(other: Preferences, prefs: Preferences) -> bool:
    """Whether some data were made of others without new ids: their lineage goes on where the other one ends."""
    return len(other.lineage) > len(prefs.lineage) and other.lineage[: len(prefs.lineage)] == prefs.lineage


def _margins(steps: "Sequence[StepView]") -> list[tuple[str, str]]:
    """Names of a policy and its reference whose log-probabilities some step put on the data."""
    found = []
    for step in steps:
        policy = step.settings.get("policy") or step.settings.get("name")
        reference = (
            step.settings.get("reference_name") if step.settings.get("model") else step.settings.get("reference")
        )
        if step.verb in {"logprobs", "select", "evaluate pairs"} and isinstance(policy, str):
            found.append((plain(policy), plain(reference)))
    return list(dict.fromkeys(found))


def _frame(prefs: Preferences, later: Sequence[Preferences], margins: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """A row for each pair, with the numbers of its answers and what later steps added."""
    frame = _numbers(prefs)
    for other in later:
        more = _numbers(other)
        new = [name for name in more.columns if name.startswith(("logp_", "len_")) and name not in frame.columns]
        if new:
            key = ["prompt_id", "chosen_id", "rejected_id", "goal"]
            beside = more.select(*key, *new).unique(key, keep="first", maintain_order=True)
            frame = frame.join(beside, on=key, how="left", nulls_equal=True, maintain_order="left")
    for policy, reference in margins:
        columns = [f"logp_{name}_{side}" for name in (policy, reference) for side in SIDES]
        if set(columns) <= set(frame.columns):
            chosen, rejected, ref_chosen, ref_rejected = map(pl.col, columns)
            margin = (chosen - ref_chosen) - (rejected - ref_rejected)
            frame = frame.with_columns(margin.alias(f"margin {policy} − {reference}"))
    return frame


def _numbers(prefs: Preferences) -> pl.DataFrame:
    """The pairs in order: `row`, ids, goal as a number or a text, split, categories, and every number."""
    view = numbers(prefs)
    goal = pl.col("goal")
    schema = view.collect_schema()
    if isinstance(schema["goal"], pl.List):
        goal = goal.list.eval(pl.element().cast(pl.String)).list.join(", ")
    kept = [name for name, kind in schema.items() if name != "row" and (kind.is_numeric() or kind == pl.String)]
    try:
        gap = explicit_gap(view)
    except BROKEN:  # vector goals of which nothing says what they are of
        gap = pl.lit(None, dtype=pl.Float64)
    frame = view.with_columns(gap=gap).select(*dict.fromkeys([*kept, "gap"]), *([] if "goal" in kept else ["goal"]))
    return frame.with_columns(goal=goal).collect().with_row_index("row")


def _findings(
    frame: pl.DataFrame, prefs: Preferences, loaded: Mapping[str, Preferences], steps: "Sequence[StepView]"
) -> Iterator[tuple[Mapping[str, str], pl.Series]]:
    """Which pairs each finding of an audit is about, followed from the rows of the audited data by their ids."""
    ends = {"low": pl.min_horizontal("chosen_id", "rejected_id"), "high": pl.max_horizontal("chosen_id", "rejected_id")}
    for step in steps:
        audited = loaded.get(step.take or "")
        if step.audit is None or audited is None or not (_related(audited, prefs)):
            continue
        for found in dicts(step.audit.get("findings")):
            rows = [row for row in items(found.get("rows")) if isinstance(row, int)]
            of = found.get("of", "pairs")
            if not rows or of not in {"pairs", "prompts", "responses"}:
                continue
            hit = getattr(audited, of).with_row_index("row").filter(pl.col("row").is_in(rows)).collect()
            if of == "responses":
                ids = hit["response_id"].implode()
                mask = frame.select(pl.col("chosen_id").is_in(ids) | pl.col("rejected_id").is_in(ids)).to_series()
            elif of == "prompts":
                mask = frame["prompt_id"].is_in(hit["prompt_id"].implode())
            else:  # a relabelled copy has its sides exchanged and is the same comparison
                pairs = hit.select(prompt_id="prompt_id", **ends).unique().with_columns(hit=pl.lit(True))
                mine = frame.select(prompt_id="prompt_id", **ends)
                joined = mine.join(pairs, on=["prompt_id", "low", "high"], how="left", maintain_order="left")
                mask = joined["hit"].fill_null(False)
            if mask.any():
                told = {key: plain(found.get(key, "")) for key in ("check", "level", "says", "remedy")}
                yield told, mask


def _related(one: Preferences, other: Preferences) -> bool:
    return one.lineage == other.lineage or _extends(one, other) or _extends(other, one)


def _of_probes(steps: "Sequence[StepView]") -> Iterator[_Source]:
    """The held-out pairs of each probed training, with what the model says of them in the end."""
    for step in steps:
        try:
            probes = load_probes(step.folder)
            if probes is None or probes.rows.is_empty():
                continue
            prefs = Preferences.load(step.folder / FOLDER / "data")
            frame, details = _probed(prefs, probes, step.name)
        except BROKEN:
            continue
        says = f"held-out pairs on which {step.name} was probed, as it was at step {probes.steps[-1]:,}"
        yield _Source(f"held out, {step.name}", says, prefs, frame, details=details)


def _probed(prefs: Preferences, probes: Probes, name: str) -> tuple[pl.DataFrame, dict[int, dict[str, Any]]]:
    """The pairs with the log-probabilities of the last probe, and the details of each: course and credit."""
    plain_rows = probes.rows.filter(pl.col("asked") == "none")
    last = plain_rows.filter(pl.col("step") == probes.steps[-1])
    frame = _numbers(prefs).drop("goal").with_columns(goal=pl.lit(None, dtype=pl.Float64))
    for side in SIDES:
        mine = last.filter(pl.col("side") == side).unique("pair", keep="first")
        names = {"logp_end": "logp", "logp_start": "start_logp", "tokens": "length", "top_mass": "top_mass"}
        beside = mine.select(pl.col("pair").alias("row"), **{f"{to}_{side}": pl.col(of) for to, of in names.items()})
        frame = frame.join(beside, on="row", how="left", maintain_order="left")
    chosen, rejected = (pl.col(f"logp_end_{side}") - pl.col(f"logp_start_{side}") for side in SIDES)
    frame = frame.with_columns((chosen - rejected).alias(f"margin {name} − start"))
    details: dict[int, dict[str, Any]] = {}
    for (pair,), rows in plain_rows.sort("step").group_by("pair", maintain_order=True):
        course = {side: rows.filter(pl.col("side") == side) for side in SIDES}
        steps = course["chosen"]["step"].to_list()
        if len(steps) > 1:
            details.setdefault(int(str(pair)), {})["course"] = {
                "steps": steps,
                **{side: [_rounded(value) for value in one["logp"]] for side, one in course.items()},
            }
    for pair, side, asked, tokens, credit in probes.credit.iter_rows():
        kept = details.setdefault(pair, {}).setdefault("credit", {}).setdefault(asked, {})
        kept[side] = [[plain(token) for token in tokens], [_rounded(value) for value in credit]]
    has_credit = [bool(details.get(row, {}).get("credit")) for row in frame["row"]]
    named = pl.Series("credit of tokens", ["yes" if one else "no" for one in has_credit])
    return frame.with_columns(named), details


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)


def _packed(source: _Source, *, limit: int, characters: int) -> tuple[PairSet, int]:
    """A set as the script reads it, sampled where it is too large; and how many characters of text it has."""
    keep = _sample(source, limit=limit, characters=characters)
    frame = source.frame[keep]
    prompts = _numbered(frame["prompt_id"])
    answers = _numbered(pl.concat([frame[f"{side}_id"] for side in SIDES]))
    prompt_texts, answer_texts = _texts(source.prefs, prompts, answers)
    details = [(source.details or {}).get(row) for row in frame["row"]]
    used = sum(map(_length, prompt_texts)) + sum(map(_length, answer_texts))
    series = {"prompts": packed_texts(prompt_texts), "answers": packed_texts(answer_texts)}
    if any(details):
        series["details"] = packed_texts([clean(one) for one in details])
    findings = [
        {**told, "rows": packed_indices(mask[keep].arg_true())} for told, mask in source.findings if mask[keep].any()
    ]
    values = {
        "name": source.name,
        "says": source.says,
        "pairs": len(frame),
        "of": len(source.frame),
        "seed": SEED,
        "columns": list(_columns(frame)),
        "prompt": packed_indices(prompts[one] for one in frame["prompt_id"]),
        **{side: packed_indices(answers[one] for one in frame[f"{side}_id"]) for side in SIDES},
        "findings": findings,
        "asks": _asks(frame, source.form),
        "starts": {name: list(one.starts) for name, one in series.items()},
    }
    chunks = {name: one.chunks for name, one in series.items()}
    return PairSet(source.name, source.says, len(frame), len(source.frame), values, chunks), used


def _sample(source: _Source, *, limit: int, characters: int) -> list[int]:
    """Rows of `source.frame`, rising: all of them, or a seeded draw that fits."""
    frame = source.frame
    order = list(range(len(frame)))
    chars = frame.select(pl.sum_horizontal(pl.col("^chars_(chosen|rejected)$").clip(0, LONGEST))).to_series()
    if len(order) > limit or int(chars.sum() or 0) > characters:
        draws = frame.select(draw_of_ids(pl.col("row"), seed=SEED)).to_series()
        order = draws.arg_sort().to_list()
    kept: list[int] = []
    total = 0
    for row in order[:limit]:
        total += int(chars[row])
        if total > characters and kept:
            break
        kept.append(row)
    return sorted(kept)


def _numbered(ids: pl.Series) -> dict[Any, int]:
    return {one: i for i, one in enumerate(ids.unique(maintain_order=True))}


def _texts(
    prefs: Preferences, prompts: Mapping[str, int], answers: Mapping[int, int]
) -> tuple[list[list[Any]], list[list[Any]]]:
    """`[id, turns]` of each prompt and answer, turns as `[role, content]`; no turns where the row is missing."""
    found = prefs.prompts.filter(pl.col("prompt_id").is_in(list(prompts))).select("prompt_id", "prompt").collect()
    asked: list[list[Any]] = [[one, []] for one in prompts]
    for prompt_id, prompt in found.iter_rows():
        asked[prompts[prompt_id]][1] = _turns(prompt)
    given: list[list[Any]] = [[one, []] for one in answers]
    rows = prefs.responses.filter(pl.col("response_id").is_in(list(answers))).select("response_id", "response")
    for response_id, response in rows.collect().iter_rows():
        given[answers[response_id]][1] = _turns(response)
    return asked, given


def _turns(conversation: Sequence[Mapping[str, str | None]] | None) -> list[list[Any]]:
    """`[role, content]` of each message and, where the content is cut, how many characters of it are missing."""
    turns: list[list[Any]] = []
    for message in conversation or []:
        content = plain(message["content"] or "")
        missing = [len(content) - LONGEST] if len(content) > LONGEST else []
        turns.append([plain(message["role"] or ""), content[:LONGEST], *missing])
    return turns


def _length(item: list[Any]) -> int:
    return sum(len(turn[1]) for turn in item[1])


def _columns(frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """The columns worth showing: what kind they are, and whether one may filter and sort by them."""
    first = (*_IDS, "gap", "goal", "split", *(f"score_{side}" for side in SIDES))
    margins = [name for name in frame.columns if name.startswith("margin ")]
    others = [name for name in frame.columns if name not in {"prompt_id", "weight", "preference"}]
    for name in dict.fromkeys([*first, *margins, *others]):
        values = frame[name]
        side = next((side for side in SIDES if name.endswith(f"_{side}")), None)
        base = name.removesuffix(f"_{side}") if side else name
        if name in _IDS:
            yield {"name": name, "base": _IDS[name], "kind": "id", **packed_column(values)}
        elif values.null_count() == len(values) or (side and _is_the_score(frame, name, side)):
            continue
        elif values.dtype.is_numeric():
            ranks = not base.startswith(("logp_", "len_", "source_pair", "tokens"))
            said = _SAID.get(base, base)
            yield {"name": name, "base": said, "side": side, "kind": "number", "ranks": ranks, **packed_column(values)}
        elif values.n_unique() <= CATEGORIES:
            yield {"name": name, "base": base, "side": side, "kind": "category", **packed_column(values)}


def _is_the_score(frame: pl.DataFrame, name: str, side: str) -> bool:
    """Whether a column of the answers only says again what their score is."""
    return name.startswith("score_") and name != f"score_{side}" and frame[name].equals(frame[f"score_{side}"])


def _asks(frame: pl.DataFrame, form: GoalFormat | None) -> dict[str, str]:
    """The sentence that a model reads for each goal, where the goals are few."""
    goals = frame["goal"].drop_nulls().unique()
    if form is None or form.attributes or not goals.dtype.is_numeric() or len(goals) > GOALS:
        return {}
    return {str(float(goal)): plain(form.say(goal)) for goal in goals.sort()}
