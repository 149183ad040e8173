"""The verb `evolve`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import polars as pl
from pydantic import Field

from pairwright.chat import Message, prompt_id, user
from pairwright.errors import InputError
from pairwright.evolve.operators import OPERATORS, Operator, read_operator
from pairwright.generate import generate
from pairwright.pairing import splits
from pairwright.preferences import MESSAGES, PAIR_COLUMNS, RESPONSE_COLUMNS, Preferences, Step

REASONS = ("no_user_message", "unfinished", "empty", "too_short", "too_long", "unchanged", "repeated")
"""Why an evolved prompt is dropped; one with several reasons counts under the first. An engine's own come before."""
_ENDED = ("eos", "stop", "unsaid")
"""How a prompt ends that ended by itself. A server that does not say how its answers end (`unsaid`) is believed."""


class _Wanted(NamedTuple):
    """One new prompt that is asked for."""

    source: str
    prompt: list[Message]
    operator: str


def evolve(
    prefs: Preferences,
    *,
    model: str | Path,
    operators: Sequence[str] = tuple(OPERATORS),
    over: Literal["prompts", "pairs"] = "prompts",
    split: str | None = None,
    limit: Annotated[int, Field(gt=0)] | None = None,
    ratio: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 5.0,
    temperature: Annotated[float, Field(ge=0)] = 0.8,
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95,
    max_new_tokens: Annotated[int, Field(gt=0)] = 1024,
    engine: str = "hf",
    seed: int = 0,
    keep: str | Path | None = None,
    **settings: Any,
) -> Preferences:
    """Let a model write new prompts out of these, one for each prompt and operator.

    The last user message is evolved; what stands before it stays. A new prompt is kept when it ended by itself (by
    `eos` or a stop string; of a server that does not say how an answer ended this is believed), is not empty, differs
    from the old ones and from each other, and is neither `ratio` times as long as the old message nor so much shorter,
    in characters. Nobody has checked that it is a good prompt: score answers to it, and select.

    Source: arXiv 2503.01864, its code (the operators, the lengths, temperature and top-p; evolve, then select by
    alignment potential).

    Args:
        prefs: whose prompts are evolved; answers play no part.
        model: who writes them: a directory, a hub name, or with a served engine its name there.
        operators: names of `OPERATORS`, or files of your own (`version: 1`, an empty line, a text with `{prompt}`).
        over: `prompts` evolves every prompt, `pairs` those that have a pair left, so that `select` can choose them.
        split: only prompts of this side. A new prompt is on the side of the one that it came from.
        limit: only the first so many prompts.
        ratio: most that the lengths of the old and the new message may differ by, as a factor.
        temperature: as in `generate`.
        top_p: as in `generate`.
        max_new_tokens: of a new prompt; one that is cut there, or by a filter of its server, is dropped.
        engine: as in `generate`.
        seed: another seed gives other prompts.
        keep: as in `generate`.
        settings: the engine's own settings.

    Returns:
        The new prompts in the order of the old ones and the operators, with `evolved_from` (the old `prompt_id`) and
        `operator`; no answers and no pairs. Other columns of the old prompts, such as a reference answer, do not hold
        for the new ones and are left behind. `merge` puts both together.

    Raises:
        InputError: there is no such operator, model or prompt.
    """
    ways = [read_operator(operator) for operator in operators]
    if not ways or len({way.name for way in ways}) < len(ways):
        raise InputError("evolve: give at least one operator, and none twice")
    chosen = _chosen(prefs, over, split, limit)
    wanted, skipped = _wanted(chosen, ways)
    texts = {way.name: way for way in ways}
    asked = pl.DataFrame(
        {
            # Not the identity of the question: two prompts may ask the same after other system messages.
            "prompt_id": [f"{each.source}:{each.operator}" for each in wanted],
            "prompt": [[user(texts[each.operator].ask(each.prompt[-1]["content"]))] for each in wanted],
        },
        schema={"prompt_id": pl.String, "prompt": MESSAGES},
    )
    drawing: dict[str, Any] = {
        "temperature": temperature,
        "top_p": top_p,
        "max_new_tokens": max_new_tokens,
        "engine": engine,
    }
    questions = Preferences.of(asked, pl.LazyFrame(schema=RESPONSE_COLUMNS))
    answers = generate(model, questions, n=1, seed=seed, keep=keep, **drawing, **settings)
    rows, why = _judged(
        wanted, answers, {row[0] for row in prefs.prompts.select("prompt_id").collect().iter_rows()}, ratio
    )
    drawn = answers.lineage[-1]
    dropped = {"no_user_message": skipped * len(ways)} | dict(drawn.dropped) | why
    step = Step(
        name="evolve",
        settings={"model": str(model), "operators": {way.name: way.version for way in ways}, "over": over}
        | {"split": split, "limit": limit, "ratio": ratio, "seed": seed, **drawing, **settings},
        inputs={"prompts": prefs.digest()} | {f"operator {way.name}": way.digest for way in ways},
        rows_in=len(chosen) * len(ways),
        rows_out=len(rows),
        dropped={reason: count for reason, count in dropped.items() if count},
        found={"kept": dict(Counter(row["operator"] for row in rows))},
    )
    prompts = _prompts(rows, prefs)
    lineage = [*answers.lineage, step]
    return Preferences.of(prompts, pl.LazyFrame(schema=RESPONSE_COLUMNS), pl.LazyFrame(schema=PAIR_COLUMNS), lineage)


def _chosen(prefs: Preferences, over: str, split: str | None, limit: int | None) -> pl.DataFrame:
    frame = prefs.prompts.select("prompt_id", "prompt")
    if over == "pairs":
        frame = frame.join(prefs.pairs.select("prompt_id").unique(), on="prompt_id", how="semi", maintain_order="left")
    if split is not None:
        side = splits(prefs).filter(pl.col("split") == split).select("prompt_id")
        frame = frame.join(side, on="prompt_id", how="semi", maintain_order="left")
    chosen = (frame if limit is None else frame.head(limit)).collect()
    if chosen.is_empty():
        have = {"prompts": "no prompts", "pairs": "no prompts with a pair"}[over]
        where = "" if split is None else f" in split {split!r}"
        raise InputError(f"evolve: there are {have}{where}; say with over and split which prompts to evolve")
    return chosen


def _wanted(chosen: pl.DataFrame, ways: Sequence[Operator]) -> tuple[list[_Wanted], int]:
    """What is asked for, and how many prompts do not end with a user's message."""
    wanted, skipped = [], 0
    for source, prompt in chosen.iter_rows():
        if not prompt or prompt[-1]["role"] != "user" or not (prompt[-1]["content"] or "").strip():
            skipped += 1
            continue
        wanted += [_Wanted(source, prompt, way.name) for way in ways]
    return wanted, skipped


def _judged(
    wanted: Sequence[_Wanted], answers: Preferences, known: set[str], ratio: float
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The new prompts that are kept, and how many are not, by reason."""
    written = answers.responses.select("prompt_id", "response", "stopped").collect()
    texts = {
        asked: ((response[0]["content"] or "").strip(), stopped) for asked, response, stopped in written.iter_rows()
    }
    why: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    seen = set(known)
    for each in wanted:
        text, stopped = texts.get(f"{each.source}:{each.operator}", (None, ""))
        if text is None:
            continue  # the engine gave no answer, and counted why
        prompt = [*each.prompt[:-1], user(text)]
        fresh = prompt_id(prompt)
        reason = "unfinished" if stopped not in _ENDED else _fault(text, each.prompt[-1]["content"], ratio)
        if not reason and fresh in seen:
            reason = "repeated"
        if reason:
            why[reason] += 1
            continue
        seen.add(fresh)
        rows.append({"prompt_id": fresh, "prompt": prompt, "evolved_from": each.source, "operator": each.operator})
    return rows, {reason: why[reason] for reason in REASONS if why[reason]}


def _fault(text: str, old: str, ratio: float) -> str:
    """What speaks against a new message by itself."""
    if not text:
        return "empty"
    if len(text) * ratio <= len(old):
        return "too_short"
    if len(old) * ratio <= len(text):
        return "too_long"
    return "unchanged" if text == old.strip() else ""


def _prompts(rows: Sequence[dict[str, Any]], prefs: Preferences) -> pl.LazyFrame:
    """The new prompts as a frame, on the side of the split where the old ones are."""
    names = ("prompt_id", "evolved_from", "operator")
    frame = pl.LazyFrame(
        rows, schema={"prompt_id": pl.String, "prompt": MESSAGES, **dict.fromkeys(names[1:], pl.String)}
    )
    sides = splits(prefs).rename({"prompt_id": "evolved_from"})
    if sides.select(pl.len()).collect().item() == 0:
        return frame
    return frame.join(sides, on="evolved_from", how="left", maintain_order="left")
