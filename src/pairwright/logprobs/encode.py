"""Rendered texts to tokens, many at once, and what may be left out of a text without changing the tokens of its rest.

A text is encoded as it stands: no special token is added. The batch call of a fast tokenizer works on all cores.

**Borders.** A fast tokenizer first takes the added tokens out of a text, the leftmost and longest first, and then
normalises, splits and encodes each piece between two of them by itself. So where a *border* stands, an added token that
nothing can hide, the tokens of a text are those of what stands before it and those of the rest, the border at its head.
All answers to a prompt share what comes before the last border of the prompt; it is encoded once, with the prompt.

An added token is a border when

- it is matched in the text as it stands (`normalized` is false), and neither takes space beside it nor asks for word
  boundaries (`lstrip`, `rstrip`, `single_word`), nor begins or ends with space that another one could take;
- no other added token contains it, ends in a beginning of it, or is a beginning of it, and it does not overlap itself:
  then wherever its characters stand, it is matched.

The rest keeps the border at its head, because some pre-tokenizers treat the very beginning of a text in their own way.
For a tokenizer that is not known to work like this (a slow one, one with its own Python parts, BPE with dropout, or
`split_special_tokens`) there are no borders, and whole texts are encoded.
"""

from collections.abc import Sequence
from typing import Any


class Encoder:
    """Encodes with one tokenizer, and remembers which of its added tokens are borders."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._borders: dict[int, str | None] = {}
        self._tails: dict[str, list[int]] = {}
        self._core = tokenizer.backend_tokenizer if _works_piece_by_piece(tokenizer) else None
        self._added: dict[int, Any] = self._core.get_added_tokens_decoder() if self._core is not None else {}

    def many(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text; a text that stands there twice is encoded once, and both get the same list."""
        distinct = list(dict.fromkeys(texts))
        if not distinct:
            return []
        tokens = dict(zip(distinct, self._encode(distinct), strict=True))
        return [tokens[text] for text in texts]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        settings = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
        if self._core is None:
            found: list[list[int]] = self._tokenizer(texts, **settings, verbose=False)["input_ids"]
            return found
        # The same call without what transformers makes of its result. An empty call first, for it switches off the
        # truncation and padding that a caller of the tokenizer may have left on.
        self._tokenizer("", **settings)
        return [each.ids for each in self._core.encode_batch_fast(texts, add_special_tokens=False)]

    def tail(self, text: str, ids: Sequence[int]) -> tuple[int, int]:
        """Where the last border of a text stands, in characters, and how many tokens there are from there on.

        Args:
            text: a prompt.
            ids: its tokens.

        Returns:
            `(at, count)`: for any completion `c`, the tokens of `text + c` are `ids[:-count]` and then those of
            `(text + c)[at:]`. Without a border `(0, len(ids))`.
        """
        if self._added:
            for token in reversed(ids):
                if token not in self._added:
                    continue
                border = self._border(token)
                at = text.rfind(border) if border else -1
                # A token of the model can have this number too (the unknown one), with other characters.
                if at >= 0:
                    return at, len(self._tail(text[at:]))
        return 0, len(ids)

    def _tail(self, text: str) -> list[int]:
        """The tokens of a prompt's end, which is most often the same for all prompts."""
        if text not in self._tails:
            if len(self._tails) >= 1024:
                self._tails.clear()
            self._tails[text] = self.many([text])[0]
        return self._tails[text]

    def _border(self, token: int) -> str | None:
        """The characters of an added token that is a border, else None."""
        if token not in self._borders:
            one = self._added[token]
            others = (each.content for number, each in self._added.items() if number != token)
            self._borders[token] = one.content if _stands_alone(one, others) else None
        return self._borders[token]


def _works_piece_by_piece(tokenizer: Any) -> bool:
    """Whether this is a fast tokenizer of which nothing is replaced, so that the argument of this module holds."""
    if not getattr(tokenizer, "is_fast", False) or getattr(tokenizer, "split_special_tokens", True):
        return False
    from transformers import PreTrainedTokenizerFast

    kind = type(tokenizer)
    if any(
        getattr(kind, name, None) is not getattr(PreTrainedTokenizerFast, name) for name in ("__call__", "_encode_plus")
    ):
        return False
    core = tokenizer.backend_tokenizer
    if getattr(core.model, "dropout", None):
        return False
    return all(_is_built_in(part) for part in (core.normalizer, core.pre_tokenizer))


def _is_built_in(part: Any) -> bool:
    """Whether a normalizer or pre-tokenizer is one of the library's own; one in Python cannot be written down."""
    if part is None:
        return True
    try:
        part.__getstate__()
    except Exception:  # the library raises a plain Exception for a part in Python
        return False
    return True


def _stands_alone(token: Any, others: Any) -> bool:
    """Whether an added token is matched wherever its characters stand; see the head of this module."""
    text = token.content
    if token.normalized or token.lstrip or token.rstrip or token.single_word or not text or text != text.strip():
        return False
    beginnings = tuple(text[:size] for size in range(1, len(text)))
    if text.endswith(beginnings):
        return False
    return not any(text in other or other in beginnings or other.endswith(beginnings) for other in others if other)
