"""Which numbers of the answers a training needs, and whether reference columns are of the texts that it reads."""

from collections.abc import Sequence
from typing import NamedTuple

from pairwright.errors import InputError
from pairwright.logprobs.tokenise import Limits, PromptTokens, Tokens, Truncate
from pairwright.preferences import Preferences

SIDES = ("chosen", "rejected")
_OF_ONE_SIDE = ("sft", "sft_sum")
"""Losses that learn from the chosen side alone."""


def has_reference_columns(prefs: Preferences, name: str, *, examples: str = "pairs") -> bool:
    """Whether the data hold log-probabilities `logp_<name>` that are of the prompts trained on.

    Args:
        prefs: the data.
        name: of the columns.
        examples: `pairs`, whose prompts have their goals in place; or `responses` or `groups`, whose prompts have none.
    """
    column = f"logp_{name}"
    of_answers = column in prefs.responses.collect_schema()
    if examples != "pairs":
        return of_answers
    if f"{column}_chosen" in prefs.pairs.collect_schema():
        return True
    return not prefs.has_goals and of_answers


def column_of(name: str) -> str:
    """The column of a score: `helpfulness` and `score_helpfulness` are the same; `score` is the main one."""
    return name if name == "score" or name.startswith("score_") else f"score_{name}"


class Wants(NamedTuple):
    """What numbers a loss needs of each answer.

    Attributes:
        reference: name of the columns with reference log-probabilities, or None.
        score: the main score, or None.
        named: other scores.
        anchor: columns that say which answer of a pair is the better one.
    """

    reference: str | None
    score: str | None
    named: tuple[str, ...]
    anchor: tuple[str, ...]

    @property
    def scores(self) -> list[str]:
        """Columns of scores, each of which every answer must have."""
        names = ([] if self.score is None else [self.score]) + [*self.named, *self.anchor]
        return list(dict.fromkeys(map(column_of, names)))

    @property
    def columns(self) -> list[str]:
        """All columns."""
        reference = [] if self.reference is None else [f"logp_{self.reference}", f"len_{self.reference}"]
        return self.scores + reference


def check_judged(prefs: Preferences, losses: Sequence[str]) -> None:
    """Refuse losses that compare the two sides of pairs in which one side is just another answer.

    A loss of one's own (`module:function`) is let through: nothing here knows what it looks at.

    Args:
        prefs: pairs.
        losses: names of the terms.

    Raises:
        InputError: the pairs ask for each answer by itself, and a loss is not of the chosen side alone.
    """
    others = [name for name in losses if name not in _OF_ONE_SIDE and ":" not in name]
    if others and not prefs.judged:
        raise InputError(
            f"loss {others[0]!r} compares chosen with rejected, and in these pairs, which ask for each answer by "
            "itself (relabel modes steerlm, c_rlft, dpa), the rejected side is just another answer; set loss to 'sft' "
            "or 'sft_sum', or relabel with a mode such as ra"
        )


def check_length(response_id: int, had: int | None, tokens: Tokens, reference: str | None, truncate: Truncate) -> None:
    """Refuse reference columns that were made with another tokenizer or other limits."""
    has = len(tokens.completion_ids)
    if reference is not None and had is not None and had != has:
        raise InputError(
            f"logp_{reference} was made for {had} tokens of answer {response_id}, which has {has} here "
            f"(truncate={truncate!r}); run logprobs again with this tokenizer, max_length and max_prompt_length"
        )


def columns_limit(prefs: Preferences, reference: str | None) -> int | None:
    """The `max_prompt_length` that the reference columns were made with; None where the lineage does not say."""
    for step in reversed(prefs.lineage):
        if step.name == "logprobs" and step.settings.get("name") == reference:
            found = step.settings.get("max_prompt_length")
            return found if isinstance(found, int) else None
    return None


def check_cut(head: PromptTokens, limits: Limits, made_with: int | None, *, reference: str | None) -> None:
    """Refuse reference columns whose prompt was cut otherwise than here; the answers' lengths do not show it."""
    if made_with is None or made_with == limits.max_prompt_length:
        return
    whole = len(head.ids) + head.cut
    if whole > min(made_with, limits.max_prompt_length):
        raise InputError(
            f"logp_{reference} was made with max_prompt_length {made_with}, which here is "
            f"{limits.max_prompt_length}, and a prompt of {whole} tokens is cut by one of the two; give both the same "
            "max_length and max_prompt_length, or run logprobs again"
        )


def check_strangers(reference: str | None, *, strangers: bool) -> None:
    """Refuse reference columns where the reference must also be asked about answers to other prompts."""
    if strangers and reference is not None:
        raise InputError(
            f"columns logp_{reference} know no answer after another prompt, which this loss needs; "
            "set reference to 'store' or 'frozen'"
        )
