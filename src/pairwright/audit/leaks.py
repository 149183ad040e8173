"""Checks for prompts that occur more than once: in one split, or on both sides of a split."""

from collections.abc import Iterator
from typing import Annotated

import polars as pl
from pydantic import Field

from pairwright.audit.facts import Facts, folded, text_of
from pairwright.audit.finding import Finding, finding
from pairwright.preferences import Preferences

Data = Preferences | Facts

# A letter of a script that puts no space between words is a word by itself.
WORD = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}]|[\p{L}\p{N}]+"
ASCII_WORD = r"(?-u:[a-z0-9]+)"
CHARACTERS = 4000
"""A prompt is compared by its first so many characters."""
SKETCH = 64, 8
"""Of a prompt with more than 64 words, only every eighth (by its hash) is looked up to find candidates."""
BATCH = 50_000


def duplicate_prompt(data: Data) -> Finding:
    """A prompt that stands in several pairs, or differs from another only in case, spacing or Unicode form.

    Prompts with equal messages are one row of `prompts` from the start, so a repeat shows as a second pair of that
    prompt. That is by design where a prompt has many answers (then the finding is a note); an exact repeat of a pair
    (same answers, same goal) or a second spelling of a prompt is a warning. The two directions of a relabelled pair are
    one comparison.
    """
    facts = Facts.of(data)
    pairs = facts.pairs.select("prompt", "chosen", "rejected", "goal").filter(pl.col("prompt").is_not_null())
    answers = pairs.select(
        "prompt", low=pl.min_horizontal("chosen", "rejected"), high=pl.max_horizontal("chosen", "rejected")
    )
    several = _repeated(answers.unique().get_column("prompt"), len(facts.prompts))
    once = pairs.with_row_index("row").unique(["prompt", "chosen", "rejected", "goal"], keep="first")
    copies = pairs.get_column("prompt").filter(~_marked(once.get_column("row"), len(pairs)))
    exact = _marked(copies, len(facts.prompts))
    spelled = facts.prompts.get_column("norm").is_duplicated()
    hits = several | exact | spelled
    bad = bool(exact.any() or spelled.any())
    return finding(
        "duplicate_prompt",
        hits,
        of="prompts",
        level="warning" if bad else "note",
        says=f"{several.sum():,} of {len(hits):,} prompts are compared in several pairs; {len(copies):,} pairs are "
        f"exact repeats of an earlier one; {spelled.sum():,} prompts differ from another only in case, spacing or "
        "Unicode form.",
        remedy="Drop exact repeats and join second spellings, which otherwise weigh more than others; split by prompt "
        "(`split` does), so that no prompt is in two splits.",
    )


def split_leakage(data: Data) -> Finding:
    """A prompt that is in two or more splits, up to case, spacing and Unicode form.

    One prompt counts once, however many pairs and spellings it has; its row is that of a spelling outside `train` (of
    the first, where there is none). In a flat file of relabelled pairs, prompts that differ in their goals alone are
    one prompt (`source_prompt_id`).
    """
    facts = Facts.of(data)
    member = _members(facts)
    splits = sorted(member.get_column("split").unique().to_list())
    norms = facts.asked_for
    leaked = (
        member.with_columns(norm=norms.gather(member.get_column("prompt")))
        .group_by("norm")
        .agg(
            splits=pl.col("split").n_unique(),
            held=pl.col("prompt").filter(pl.col("split") != "train").min(),
            first=pl.col("prompt").min(),
        )
        .filter(pl.col("splits") > 1)
        .select(pl.coalesce("held", "first").alias("row"))
    )
    hits = _marked(leaked.get_column("row"), len(norms))
    where = f"the splits {', '.join(splits)}" if len(splits) > 1 else "one split only, so there is nothing to leak"
    return finding(
        "split_leakage",
        hits,
        of="prompts",
        level="error",
        says=f"{hits.sum():,} of {len(hits):,} prompts are in more than one split ({where}).",
        remedy="Split again by prompt (`split`); until then a measurement on the held-out split is too good.",
    )


def near_duplicate_across_splits(
    data: Data,
    *,
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.8,
    common: Annotated[int, Field(gt=0)] = 50,
) -> Finding:
    """A held-out prompt that is nearly one of the training prompts, and not equal to it.

    Nearly: the Jaccard similarity of their sets of three-word sequences is at least `similarity`. Sequences that stand
    in more than `common` held-out prompts are boilerplate and do not count. The training split is `train`, or the
    largest where there is no `train`. Prompts of fewer than three words are only found by `split_leakage`. Candidates
    share a looked-up sequence (see `SKETCH`) and are then compared in full, so the work grows with the number of
    words, not of pairs of prompts.

    Source: Broder (1997), On the resemblance and containment of documents, section 2 (shingles and resemblance).
    """
    facts = Facts.of(data)
    held, base = _held_and_base(facts)
    near = pl.DataFrame(schema=_NEAR)
    if len(held) and len(base):
        near = _near(facts, held, base, similarity, common)
    hits = _marked(near.get_column("held"), len(facts.prompts))
    example = ""
    if len(near):
        closest = near.sort("similarity", "held", descending=[True, False]).row(0, named=True)
        example = f" The closest: {closest['held']} and {closest['base']}, similarity {closest['similarity']:.2f}."
    compared = f"compared with {len(base):,}" if len(held) else "one split only"
    return finding(
        "near_duplicate_across_splits",
        hits,
        of="prompts",
        total=len(held),
        says=f"{hits.sum():,} of {len(held):,} held-out prompts are nearly a training prompt ({compared}).{example}",
        remedy="Move each with its neighbour into one split, or leave it out of the measurement.",
    )


_NEAR: dict[str, pl.DataType] = {"held": pl.UInt32(), "base": pl.UInt32(), "similarity": pl.Float64()}


def _members(facts: Facts) -> pl.DataFrame:
    """Which prompt (row) is in which split: from its pairs, and from `prompts.split` where the source had that."""
    parts = [facts.pairs.select("prompt", "split")]
    if "split" in facts.prompts.columns:
        parts.append(facts.prompts.with_row_index("prompt").select("prompt", "split"))
    return pl.concat(parts).drop_nulls().unique(maintain_order=True)


def _held_and_base(facts: Facts) -> tuple[pl.Series, pl.Series]:
    """Rows of the held-out and of the training prompts; prompts that are in both (as normalised) are in neither."""
    member = _members(facts)
    names = member.get_column("split")
    if names.n_unique() < 2:
        return pl.Series([], dtype=pl.UInt32), pl.Series([], dtype=pl.UInt32)
    sizes = member.group_by("split").len().sort("len", "split", descending=[True, False])
    base = "train" if (names == "train").any() else sizes.row(0)[0]
    norm = facts.asked_for.gather(member.get_column("prompt"))
    member = member.with_columns(norm=norm, is_base=pl.col("split") == base)
    one_side = member.filter(pl.col("is_base").n_unique().over("norm") == 1)
    held = one_side.filter(~pl.col("is_base")).get_column("prompt").unique().sort()
    return held, one_side.filter(pl.col("is_base")).get_column("prompt").unique().sort()


def _near(facts: Facts, held: pl.Series, base: pl.Series, similarity: float, common: int) -> pl.DataFrame:
    """The nearest training prompt of each held-out prompt that has one: columns of `_NEAR`."""
    index = pl.concat(_shingles(facts, held)).unique()
    lookup = _sketch(index).select("shingle", held="row")
    boiler = index.group_by("shingle").len().filter(pl.col("len") > common).select("shingle")
    lookup = lookup.join(boiler, on="shingle", how="anti")
    index = index.join(boiler, on="shingle", how="anti").select("shingle", held="row")
    sizes = index.group_by("held").len("held_size")
    found = [pl.DataFrame(schema=_NEAR)]
    for batch in _shingles(facts, base):
        candidates = _sketch(batch).join(lookup, on="shingle", how="semi").select("row").unique()
        kept = batch.join(candidates, on="row", how="semi").unique().join(boiler, on="shingle", how="anti")
        own = kept.group_by("row").len("size")
        shared = kept.join(index, on="shingle").group_by("row", "held").len("shared")
        union = pl.col("size").cast(pl.Int64) + pl.col("held_size") - pl.col("shared")
        scored = shared.join(own, on="row").join(sizes, on="held").with_columns(similarity=pl.col("shared") / union)
        close = scored.filter(pl.col("similarity") >= similarity)
        found.append(close.select("held", pl.col("row").alias("base"), "similarity"))
    nearest = pl.concat(found).sort("similarity", "base", descending=[True, False])
    return nearest.unique("held", keep="first", maintain_order=True).sort("held")


def _sketch(shingles: pl.DataFrame) -> pl.DataFrame:
    """The sequences by which a prompt is looked up: all of a short one, an even sample of a long one's."""
    short, every = SKETCH
    return shingles.filter((pl.col("words") <= short) | (pl.col("shingle") % every == 0))


def _shingles(facts: Facts, rows: pl.Series) -> Iterator[pl.DataFrame]:
    """Hashes of three neighbouring words of the given prompts: `row`, `words` (of the prompt), `shingle`."""
    wanted = pl.DataFrame({"row": rows.cast(pl.UInt32)})
    start = 0
    for batch in facts.prefs.prompts.select("prompt").collect_batches(chunk_size=BATCH, maintain_order=True):
        numbered = batch.with_row_index("row", offset=start).join(wanted, on="row", how="semi", maintain_order="left")
        start += len(batch)
        listed = numbered.select("row", word=_words("prompt")).with_columns(words=pl.col("word").list.len())
        long = listed.explode("word").drop_nulls()
        # A sixteenth of the hash range each, so that the weighted sum of three stays below 2^64.
        word = pl.col("word").hash() // 16
        shingle = word + 3 * word.shift(-1) + 9 * word.shift(-2)
        hashed = long.select("row", "words", ahead=pl.col("row").shift(-2), shingle=shingle)
        yield hashed.filter(pl.col("row") == pl.col("ahead")).drop("ahead")


def _words(messages: str) -> pl.Expr:
    """The words of a conversation, folded."""
    text = folded(text_of(messages)).str.head(CHARACTERS)
    wide = text.str.len_bytes() != text.str.len_chars()
    others = pl.when(wide).then(text).str.extract_all(WORD)
    return pl.when(wide).then(others).otherwise(pl.when(~wide).then(text).str.extract_all(ASCII_WORD))


def _repeated(rows: pl.Series, height: int) -> pl.Series:
    """True for every row number that occurs more than once."""
    return _marked(rows.filter(rows.is_duplicated()), height)


def _marked(rows: pl.Series, height: int) -> pl.Series:
    """A Boolean series of `height`, True at the given row numbers."""
    return pl.Series("row", range(height), dtype=pl.UInt32).is_in(rows.cast(pl.UInt32).unique().implode())
