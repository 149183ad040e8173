"""Checks of what a model reads: the pairs as the chat template and the tokenizer write them.

Every pair is rendered as in training (`chat.render`, the goal in place) and tokenised in three parts: the prompt, the
answer, and both together. One pass over the pairs serves all checks.

Truncation is modelled as the trainers of the field do it when they keep the start: a prompt over `max_prompt_length`
keeps its last tokens, then prompt and answer together are cut at `max_length`, so that what is lost is the end of the
answer. Without a `max_length` the tokenizer's own limit is taken, if it has one. (pairwright's own trainer cuts prompts
in the middle of the user's text and drops over-long answers: with the `max_prompt_length` of the training, half of
`max_length` unless set, `lost_to_truncation` counts what it will drop, up to the line feed that a template may write
after EOS.)
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import polars as pl

from pairwright import chat
from pairwright.audit.facts import Facts
from pairwright.audit.finding import Finding, finding
from pairwright.preferences import Preferences
from pairwright.reader import open_reader, with_template

Data = Preferences | Facts
Ids = list[int]

BATCH = 256
NO_LIMIT = 1_000_000
"""A tokenizer that knows no limit gives a very large `model_max_length`."""


def load(tokenizer: Any) -> Any:
    """A tokenizer that can render conversations, from itself or from a path; see `pairwright.reader`.

    Raises:
        InputError: nothing can be loaded from the path.
    """
    if isinstance(tokenizer, str) or hasattr(tokenizer, "__fspath__"):
        return open_reader(str(tokenizer))
    return with_template(tokenizer)


def template_refusal(
    data: Data, *, tokenizer: Any, max_length: int | None = None, max_prompt_length: int | None = None
) -> Finding:
    """The chat template refuses the conversation of a pair.

    The other checks of this kind do not look at such a pair.
    """
    found = _measured(data, tokenizer, max_length, max_prompt_length)
    hits = found.get_column("refused")
    return finding(
        "template_refusal",
        hits,
        level="error",
        says=f"{hits.sum():,} of {len(hits):,} pairs cannot be rendered: the chat template refuses their roles or "
        "their order.",
        remedy="Join turns of one role, put goals into the user turn (`placement='user'`), or use another template.",
    )


def boundary_mismatch(
    data: Data, *, tokenizer: Any, max_length: int | None = None, max_prompt_length: int | None = None
) -> Finding:
    """The tokens of the prompt are not the first tokens of prompt and answer together.

    Then a trainer that tokenises both together and cuts off as many tokens as the prompt has takes a part of the prompt
    for the answer, or the other way round.
    """
    found = _measured(data, tokenizer, max_length, max_prompt_length)
    hits = found.get_column("boundary")
    return finding(
        "boundary_mismatch",
        hits,
        level="error",
        says=f"{hits.sum():,} of {len(hits):,} pairs have a token that lies across the end of the prompt.",
        remedy="Tokenise prompt and answer apart, as pairwright does, or use a template that ends the prompt with a "
        "special token or a line feed.",
    )


def double_bos(
    data: Data, *, tokenizer: Any, max_length: int | None = None, max_prompt_length: int | None = None
) -> Finding:
    """The rendered text, tokenised with the tokenizer's defaults, begins with two BOS tokens.

    Two causes: the template writes one and the tokenizer adds one, or the text itself begins with one.
    """
    found = _measured(data, tokenizer, max_length, max_prompt_length)
    hits, own = found.get_column("double_bos"), found.get_column("written_bos")
    return finding(
        "double_bos",
        hits,
        level="error" if own.any() else "warning",
        says=f"{hits.sum():,} of {len(hits):,} pairs begin with two BOS tokens when their rendered text is tokenised "
        f"with this tokenizer's defaults ({own.sum():,} have both in the text itself).",
        remedy="Tokenise rendered text with add_special_tokens=False, as pairwright does; take BOS out of the texts.",
    )


def double_eos(
    data: Data, *, tokenizer: Any, max_length: int | None = None, max_prompt_length: int | None = None
) -> Finding:
    """The rendered text, tokenised with the tokenizer's defaults, ends with two EOS tokens.

    White space between them is let be. Two causes: the template writes one and the tokenizer adds one, or the
    answer itself ends with one.
    """
    found = _measured(data, tokenizer, max_length, max_prompt_length)
    hits, own = found.get_column("double_eos"), found.get_column("written_eos")
    return finding(
        "double_eos",
        hits,
        level="error" if own.any() else "warning",
        says=f"{hits.sum():,} of {len(hits):,} pairs have an answer that ends with two EOS tokens when tokenised "
        f"with this tokenizer's defaults ({own.sum():,} have both in the text itself).",
        remedy="Tokenise rendered text with add_special_tokens=False, as pairwright does; take EOS out of the answers.",
    )


def equal_after_truncation(
    data: Data, *, tokenizer: Any, max_length: int | None = None, max_prompt_length: int | None = None
) -> Finding:
    """Two different answers whose tokens are the same once cut.

    Their loss is ln 2 and their gradient zero, in silence.
    """
    found = _measured(data, tokenizer, max_length, max_prompt_length)
    hits = found.get_column("equal_cut")
    return finding(
        "equal_after_truncation",
        hits,
        says=f"{hits.sum():,} of {len(hits):,} pairs of different answers are the same after truncation "
        f"({_limit(tokenizer, max_length)}).",
        remedy="Raise max_length, or drop these pairs.",
    )


def lost_to_truncation(
    data: Data, *, tokenizer: Any, max_length: int | None = None, max_prompt_length: int | None = None
) -> Finding:
    """An answer that loses tokens of its end to truncation, all of them or some."""
    found = _measured(data, tokenizer, max_length, max_prompt_length)
    hits, gone = found.get_column("cut"), found.get_column("gone")
    return finding(
        "lost_to_truncation",
        hits,
        level="error" if gone.any() else "warning",
        says=f"{hits.sum():,} of {len(hits):,} pairs have an answer that is cut by truncation, {gone.sum():,} of "
        f"them one that is lost whole ({_limit(tokenizer, max_length)}).",
        remedy="Raise max_length, lower max_prompt_length, or drop these pairs; a cut answer teaches not to end.",
    )


class _Limits(NamedTuple):
    """What is asked of the tokens, and what the tokenizer does by default."""

    whole: int | None
    prompt: int | None
    bos: int | None
    eos: int | None
    adds_bos: bool
    adds_eos: bool


_COLUMNS = (
    "refused",
    "boundary",
    "double_bos",
    "written_bos",
    "double_eos",
    "written_eos",
    "equal_cut",
    "cut",
    "gone",
)


def _limit(tokenizer: Any, max_length: int | None) -> str:
    limit = _max_length(load(tokenizer), max_length)
    return f"at {limit:,} tokens" if limit else "no max_length was given, and the tokenizer has none"


def _max_length(tokenizer: Any, max_length: int | None) -> int | None:
    own = getattr(tokenizer, "model_max_length", None)
    return max_length or (own if own and own < NO_LIMIT else None)


def _measured(data: Data, tokenizer: Any, max_length: int | None, max_prompt_length: int | None) -> pl.DataFrame:
    """One Boolean column of `_COLUMNS` each, one row for each pair."""
    facts = Facts.of(data)
    key = ("tokens", tokenizer if isinstance(tokenizer, str) else id(tokenizer), max_length, max_prompt_length)

    def measure() -> pl.DataFrame:
        model = load(tokenizer)
        limits = _limits(model, max_length, max_prompt_length)
        rows = [found for batch in _batches(facts.prefs, model) for found in _batch(batch, model, limits)]
        return pl.DataFrame(rows, schema=dict.fromkeys(_COLUMNS, pl.Boolean), orient="row")

    found: pl.DataFrame = facts.once(key, measure)
    return found


def _limits(tokenizer: Any, max_length: int | None, max_prompt_length: int | None) -> _Limits:
    bare, full = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    return _Limits(
        whole=_max_length(tokenizer, max_length),
        prompt=max_prompt_length,
        bos=bos,
        eos=eos,
        adds_bos=bos is not None and full[:1] == [bos] and bare[:1] != [bos],
        adds_eos=eos is not None and full[-1:] == [eos] and bare[-1:] != [eos],
    )


def _batches(prefs: Preferences, tokenizer: Any) -> Iterator[Sequence[Mapping[str, Any]]]:
    placement = prefs.goal_format.placement if prefs.goal_format else "user"
    if placement == "auto":
        placement = "system" if chat.supports_system(tokenizer) else "user"
    rows = prefs.rows(placement=placement)
    while batch := list(islice(rows, BATCH)):
        yield batch


def _batch(batch: Sequence[Mapping[str, Any]], tokenizer: Any, limits: _Limits) -> Iterator[tuple[bool, ...]]:
    rendered = [_render(tokenizer, row) for row in batch]
    texts = [
        text
        for sides in rendered
        if isinstance(sides, tuple)
        for side in sides
        for text in (side.prompt, side.completion, side.prompt + side.completion)
    ]
    ids = _encode(tokenizer, texts)
    for sides in rendered:
        if isinstance(sides, tuple):
            parts = [(ids[s.prompt], ids[s.completion], ids[s.prompt + s.completion]) for s in sides]
            yield (False, *_pair(parts, tokenizer, limits))
        else:
            yield (sides == "refused", sides == "boundary", *[False] * (len(_COLUMNS) - 2))


def _render(tokenizer: Any, row: Mapping[str, Any]) -> tuple[chat.Rendered, ...] | str:
    """Both sides as text; or `refused`, or `boundary` where the prompt's text is no prefix of the whole."""
    try:
        return tuple(chat.render(tokenizer, row["prompt"], row[side]) for side in ("chosen", "rejected"))
    except Exception:  # a template raises what it likes; that it raises is the finding
        return "boundary" if _takes(tokenizer, row) else "refused"


def _takes(tokenizer: Any, row: Mapping[str, Any]) -> bool:
    """Whether the template renders the conversations of a pair at all."""
    try:
        chat.render_prompt(tokenizer, row["prompt"])
        for side in ("chosen", "rejected"):
            tokenizer.apply_chat_template([*row["prompt"], *row[side]], tokenize=False)
    except Exception:  # as above
        return False
    return True


def _encode(tokenizer: Any, texts: Sequence[str]) -> dict[str, Ids]:
    """Token ids of each distinct text, without added special tokens."""
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return {}
    coded = tokenizer(distinct, add_special_tokens=False, verbose=False)["input_ids"]
    return dict(zip(distinct, coded, strict=True))


def _pair(parts: Sequence[tuple[Ids, Ids, Ids]], tokenizer: Any, limits: _Limits) -> tuple[bool, ...]:
    """What one pair shows: the columns of `_COLUMNS` after `refused`."""
    boundary = any(whole[: len(prompt)] != prompt for prompt, _, whole in parts)
    bos = [_leading(whole, limits.bos) for _, _, whole in parts]
    eos = [_trailing(whole, limits.eos, tokenizer) for _, _, whole in parts]
    written_bos, written_eos = max(bos) >= 2, max(eos) >= 2
    cuts = [_cut(prompt, completion, limits) for prompt, completion, _ in parts]
    lost = [len(cut) < len(completion) for cut, (_, completion, _) in zip(cuts, parts, strict=True)]
    gone = [not cut and bool(completion) for cut, (_, completion, _) in zip(cuts, parts, strict=True)]
    different = parts[0][1] != parts[1][1]
    return (
        boundary,
        written_bos or (limits.adds_bos and max(bos) >= 1),
        written_bos,
        written_eos or (limits.adds_eos and max(eos) >= 1),
        written_eos,
        different and cuts[0] == cuts[1],
        any(lost),
        any(gone),
    )


def _cut(prompt: Ids, completion: Ids, limits: _Limits) -> Ids:
    """What is left of an answer."""
    if limits.whole is None:
        return completion
    taken = len(prompt) if limits.prompt is None else min(len(prompt), limits.prompt)
    return completion[: max(0, limits.whole - taken)]


def _leading(ids: Ids, token: int | None) -> int:
    count = 0
    while token is not None and count < len(ids) and ids[count] == token:
        count += 1
    return count


def _trailing(ids: Ids, token: int | None, tokenizer: Any) -> int:
    """How often a token stands at the end, white space between and after it let be."""
    count = 0
    for one in reversed(ids):
        if token is not None and one == token:
            count += 1
        elif tokenizer.decode([one]).strip():
            break
    return count
