"""What the checks look at: a few numbers about every prompt, answer and pair, computed once.

Texts are read in one pass, each prompt and each answer once, and only numbers and flags are kept (about a hundred bytes
for a row), so an audit of data larger than memory needs no more than those. Everything in these frames is in file
order; rows are numbered from 0, and `pairs.chosen`, `pairs.rejected`, `pairs.prompt`, `responses.prompt` are such row
numbers (null where an id points at nothing).

Equal texts are recognised by a 64-bit hash, which is only compared between the two answers of a pair or among prompts:
among a million prompts a false equality has a probability below 1e-7. A completion is empty when no message of it has
a character that is not white space; texts are equal when the contents of all
their messages are, white space included.
"""

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any, Literal, NamedTuple

import polars as pl

from pairwright.audit.finding import Kind
from pairwright.pairing import unrelabelled
from pairwright.preferences import Preferences

# Tab, line feed and carriage return are ordinary text; the rest of C0, DEL and C1 are not.
CONTROL = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x{7F}-\x{9F}]"
# Embeddings, overrides and isolates: text that is read in another order than it is stored. The plain marks
# U+200E, U+200F and U+061C are part of ordinary Arabic and Hebrew typing.
BIDI = r"[\x{202A}-\x{202E}\x{2066}-\x{2069}]"
REPLACEMENT = r"\x{FFFD}"
ZERO_WIDTH = r"[\x{200B}-\x{200D}\x{2060}\x{FEFF}]"
FLAGS = {"control": CONTROL, "bidi": BIDI, "replacement": REPLACEMENT, "zero_width": ZERO_WIDTH}
"""Regular expressions (Rust syntax) by the name of their Boolean column."""

Side = Literal["chosen", "rejected"]


class Frames(NamedTuple):
    """One row for each prompt, answer and pair; see `Facts`."""

    prompts: pl.DataFrame
    responses: pl.DataFrame
    pairs: pl.DataFrame


class Facts:
    """The measured data. A check may be given these or a `Preferences`; `Facts.of` takes either.

    `prompts`: prompt_id, norm (hash of the text without case, spacing and Unicode form), same_role, last_role, the
    flags, `split` where the source had one. `responses`: prompt, every score column, text (hash), chars, empty,
    same_role, first_role, the flags. `pairs`: prompt, chosen, rejected, goal, split, preference, prompt_mismatch.
    """

    def __init__(self, prefs: Preferences) -> None:
        self.prefs = prefs
        self._kept: dict[Hashable, Any] = {}

    @classmethod
    def of(cls, data: "Preferences | Facts") -> "Facts":
        """The facts of some data; facts pass as they are."""
        return data if isinstance(data, Facts) else cls(data)

    @cached_property
    def _frames(self) -> Frames:
        prefs = self.prefs
        queries = [_prompts(prefs.prompts), _responses(prefs.responses), _pairs(prefs.pairs)]
        prompts, responses, pairs = pl.collect_all(queries, engine="streaming")
        prompt_rows = _rows(prompts, "prompt_id", "prompt")
        answer_rows = _rows(responses, "response_id", "row")
        responses = _pointed(responses, prompt_rows, "prompt_id").drop("prompt_id")
        pairs = _pointed(pairs, prompt_rows, "prompt_id").drop("prompt_id")
        for side in ("chosen", "rejected"):
            rows = answer_rows.rename({"response_id": f"{side}_id", "row": side})
            pairs = _pointed(pairs, rows, f"{side}_id").drop(f"{side}_id")
        return Frames(prompts, responses, pairs)

    @property
    def prompts(self) -> pl.DataFrame:
        """One row for each prompt."""
        return self._frames.prompts

    @property
    def responses(self) -> pl.DataFrame:
        """One row for each answer."""
        return self._frames.responses

    @property
    def pairs(self) -> pl.DataFrame:
        """One row for each pair."""
        return self._frames.pairs

    @cached_property
    def asked_for(self) -> pl.Series:
        """What each prompt asks, as a hash: `norm`, but of copies of a relabelled pair the prompt that both came from.

        In a flat file the goals are in the prompts, so that the two copies of one pair differ in `norm`.
        """
        norm = self.prompts.get_column("norm")
        found = unrelabelled(self.prefs)
        if found is None:
            return norm
        source = found.select("prompt_id", pl.col("source_prompt_id").hash().alias("source")).collect()
        beside = (
            self.prefs.prompts.select("prompt_id")
            .collect()
            .join(source, on="prompt_id", how="left", maintain_order="left")
        )
        return beside.get_column("source").fill_null(norm).alias("norm")

    @property
    def scores(self) -> list[str]:
        """Names of the score columns, `score` first."""
        names = self.responses.columns
        return ["score", *(name for name in names if name.startswith("score_"))]

    def side(self, which: Side, column: str) -> pl.Series:
        """A column of `responses`, taken for one side of every pair: `[pairs]`, in order."""
        return self.responses.get_column(column).gather(self.pairs.get_column(which))

    def either(self, flag: str | pl.Series) -> tuple[pl.Series, Kind]:
        """Pairs of which an answer has a flag; answers themselves where there are no pairs yet.

        Args:
            flag: a Boolean column of `responses`, or a series of its height.
        """
        flags = self.responses.get_column(flag) if isinstance(flag, str) else flag
        if self.pairs.is_empty():
            return flags.fill_null(False), "responses"
        chosen = flags.gather(self.pairs.get_column("chosen")).fill_null(False)
        return chosen | flags.gather(self.pairs.get_column("rejected")).fill_null(False), "pairs"

    def asked(self, flag: str) -> pl.Series:
        """A Boolean column of `prompts`, taken for every pair (for every answer where there are no pairs)."""
        frame = self.responses if self.pairs.is_empty() else self.pairs
        return self.prompts.get_column(flag).gather(frame.get_column("prompt")).fill_null(False)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of `make()`, computed at the first call with this key and kept."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


def text_of(messages: str) -> pl.Expr:
    """Contents of a column of messages, joined by line feeds; an absent content is empty."""
    return pl.col(messages).list.eval(pl.element().struct.field("content")).list.join("\n").fill_null("")


def folded(text: pl.Expr) -> pl.Expr:
    """Text in lower case and in the Unicode form NFKC."""
    wide = text.str.len_bytes() != text.str.len_chars()
    # NFKC is the slowest step by far and leaves ASCII as it is; a null costs it nothing.
    return pl.coalesce(pl.when(wide).then(text).str.normalize("NFKC"), text).str.to_lowercase()


def spaceless(text: pl.Expr) -> pl.Expr:
    """Text without white space: equal for texts that differ in spacing only."""
    wide = text.str.len_bytes() != text.str.len_chars()
    plain = text
    for space in (" ", "\n", "\r", "\t"):  # literal, as that is several times faster than a pattern
        plain = plain.str.replace_all(space, "", literal=True)
    return pl.coalesce(pl.when(wide).then(plain).str.replace_all(r"\s+", ""), plain)


def _flags() -> list[pl.Expr]:
    return [pl.col("_text").str.contains(pattern).alias(name) for name, pattern in FLAGS.items()]


def _same_role(messages: str) -> pl.Expr:
    """Whether two neighbouring messages have one role. Tools excepted: several may answer one call."""
    role = pl.element().struct.field("role")
    same = (role == role.shift(1)) & (role != "tool")
    several = pl.when(pl.col(messages).list.len() > 1).then(pl.col(messages))  # most are one message, and cost nothing
    return several.list.eval(same.any()).list.first().fill_null(False).alias("same_role")


def _role(messages: str, which: Literal["first", "last"]) -> pl.Expr:
    message = pl.col(messages).list.first() if which == "first" else pl.col(messages).list.last()
    return message.struct.field("role").alias(f"{which}_role")


def _prompts(frame: pl.LazyFrame) -> pl.LazyFrame:
    kept = ["split"] if frame.collect_schema().get("split") == pl.String else []
    # The joined text is a column of its own first: in one step, every expression would join it again.
    texts = frame.select(
        "prompt_id", *kept, _same_role("prompt"), _role("prompt", "last"), text_of("prompt").alias("_text")
    )
    norm = spaceless(folded(pl.col("_text"))).hash().alias("norm")
    return texts.with_columns(norm, *_flags()).drop("_text")


def _responses(frame: pl.LazyFrame) -> pl.LazyFrame:
    schema = frame.collect_schema()
    scores = [name for name, kind in schema.items() if name.startswith("score_") and kind.is_numeric()]
    texts = frame.select(
        "response_id",
        "prompt_id",
        "score",
        *(pl.col(name).cast(pl.Float64) for name in scores),
        _same_role("response"),
        _role("response", "first"),
        text_of("response").alias("_text"),
    )
    text = pl.col("_text")
    return texts.with_columns(
        text.hash().alias("text"),
        text.str.len_chars().alias("chars"),
        (text.str.strip_chars() == "").alias("empty"),
        *_flags(),
    ).drop("_text")


def _pairs(frame: pl.LazyFrame) -> pl.LazyFrame:
    # A column of another type is the user's own and says something else.
    ours = frame.collect_schema().get("prompt_mismatch") == pl.Boolean
    mismatch = pl.col("prompt_mismatch").fill_null(False) if ours else pl.lit(False)
    return frame.select(
        "prompt_id",
        "chosen_id",
        "rejected_id",
        "goal",
        "split",
        "preference",
        mismatch.alias("prompt_mismatch"),
    )


def _rows(frame: pl.DataFrame, key: str, name: str) -> pl.DataFrame:
    """`key` to row number; of a repeated key, the first."""
    return frame.select(key).with_row_index(name).unique(key, keep="first", maintain_order=True)


def _pointed(frame: pl.DataFrame, rows: pl.DataFrame, key: str) -> pl.DataFrame:
    return frame.join(rows, on=key, how="left", maintain_order="left")
