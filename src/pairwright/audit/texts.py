"""Checks on the texts of answers: equal, empty, with characters that nobody sees, with turns in a wrong order."""

import polars as pl

from pairwright.audit.facts import Facts
from pairwright.audit.finding import Finding, finding
from pairwright.preferences import Preferences

Data = Preferences | Facts


def equal_text(data: Data) -> Finding:
    """Chosen and rejected are the same text, and no score tells them apart.

    Equal means equal messages, white space included. Equal texts whose scores differ are counted by
    `equal_text_different_score` and not here.
    """
    facts = Facts.of(data)
    hits = _equal(facts) & ~_differ(facts)
    return finding(
        "equal_text",
        hits,
        says=f"{hits.sum():,} of {len(hits):,} pairs compare a text with itself, with no difference of score.",
        remedy="Drop them: their gradient is zero and they only dilute the batch; `pair` and `relabel` leave them out "
        "and count them.",
    )


def equal_text_different_score(data: Data) -> Finding:
    """Chosen and rejected are the same text, with two different scores."""
    facts = Facts.of(data)
    hits = _equal(facts) & _differ(facts)
    return finding(
        "equal_text_different_score",
        hits,
        level="error",
        says=f"{hits.sum():,} of {len(hits):,} pairs compare a text with itself under two different scores.",
        remedy="Drop them; the difference is the judge's own noise, a measure of how far smaller gaps can be trusted.",
    )


def empty_chosen(data: Data) -> Finding:
    """The chosen answer is empty: no message of it has a character other than white space."""
    hits = Facts.of(data).side("chosen", "empty").fill_null(False)
    return finding(
        "empty_chosen",
        hits,
        level="error",
        says=f"{hits.sum():,} of {len(hits):,} pairs prefer an empty answer.",
        remedy="Drop them, or look at what made the answer empty; they teach the model to say nothing.",
    )


def empty_rejected(data: Data) -> Finding:
    """The rejected answer is empty: no message of it has a character other than white space."""
    hits = Facts.of(data).side("rejected", "empty").fill_null(False)
    return finding(
        "empty_rejected",
        hits,
        says=f"{hits.sum():,} of {len(hits):,} pairs have an empty rejected answer.",
        remedy="Drop them: any text beats an empty one, so they teach nothing about the better of two answers.",
    )


def empty_answer(data: Data) -> Finding:
    """An answer that no pair uses is empty; `empty_chosen` and `empty_rejected` count the others."""
    facts = Facts.of(data)
    used = pl.concat([facts.pairs.get_column(side) for side in ("chosen", "rejected")]).drop_nulls().unique()
    numbers = pl.Series(range(len(facts.responses)), dtype=used.dtype)
    hits = facts.responses.get_column("empty") & ~numbers.is_in(used.implode())
    return finding(
        "empty_answer",
        hits,
        of="responses",
        says=f"{hits.sum():,} of {len(hits):,} answers are empty and in no pair.",
        remedy="Drop them before `pair`, which else takes them as the worst answer.",
    )


def control_characters(data: Data) -> Finding:
    """A text has control characters, bidirectional overrides, or the mark of a broken decoding (U+FFFD).

    Control characters are C0 and C1 without tab, line feed and carriage return. Zero-width characters are told in the
    sentence and not counted: emoji and several scripts need them.
    """
    facts = Facts.of(data)
    kinds = {name: facts.either(name) for name in ("control", "bidi", "replacement", "zero_width")}
    flags = {name: flag | facts.asked(name) for name, (flag, _) in kinds.items()}
    of = kinds["control"][1]
    hits = flags["control"] | flags["bidi"] | flags["replacement"]
    return finding(
        "control_characters",
        hits,
        of=of,
        level="note",
        says=f"{hits.sum():,} of {len(hits):,} {of} have invisible or broken characters: "
        f"{flags['control'].sum():,} with control characters, {flags['bidi'].sum():,} with bidirectional overrides, "
        f"{flags['replacement'].sum():,} with U+FFFD; zero-width characters, not counted: "
        f"{flags['zero_width'].sum():,}.",
        remedy="Decode the source again where U+FFFD stands; remove the others unless the text is about them.",
    )


def same_role_turns(data: Data) -> Finding:
    """Two neighbouring turns of a conversation have the same role (tool results excepted)."""
    facts = Facts.of(data)
    last = facts.prompts.get_column("last_role").gather(facts.responses.get_column("prompt"))
    first = facts.responses.get_column("first_role")
    meets = ((last == first) & (first != "tool")).fill_null(False)
    inside, of = facts.either(facts.responses.get_column("same_role") | meets)
    hits = inside | facts.asked("same_role")
    return finding(
        "same_role_turns",
        hits,
        of=of,
        says=f"{hits.sum():,} of {len(hits):,} {of} have a conversation in which one role speaks twice in a row.",
        remedy="Join or drop such turns: many chat templates refuse them, and others drop or repeat a header.",
    )


def _equal(facts: Facts) -> pl.Series:
    return (facts.side("chosen", "text") == facts.side("rejected", "text")).fill_null(False)


def _differ(facts: Facts) -> pl.Series:
    return (facts.side("chosen", "score") != facts.side("rejected", "score")).fill_null(False)
