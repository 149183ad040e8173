"""Open a tokenizer and make it ready: with a chat template, and with a token that ends an answer.

Base models come without a chat template, and transformers invents none since 4.44. Here a *plain template* takes its
place, the same in every step; it is said, and saved with the model that is trained on it
(docs/decisions/0010-plain-template.md).
"""

import copy
import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from pairwright.errors import InputError, need

MARK = "{#- The plain template of pairwright, for a tokenizer without a chat template. -#}"
PLAIN = (
    "{% for message in messages %}{% if not loop.first %}{{ '\\n\\n' }}{% endif %}"
    "{{ message['role'] | capitalize }}{{ ':\\n' }}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\nAssistant:\\n' }}{% endif %}"
)
"""`System:`, `User:` and `Assistant:` on lines of their own, an empty line between messages, EOS after an answer.

The prompt ends with a line feed and not with a space: a space belongs to the token of the word after it. So an answer
is written as it is, and what a model generates comes back as the same tokens.
"""
SAYS_PLAIN = (
    "the tokenizer has no chat template of its own, so messages are written with pairwright's plain one: "
    "System:, User: and Assistant: on lines of their own"
)


def open_reader(place: str | Path) -> Any:
    """A tokenizer from a directory or a hub name, with a chat template and, if the model names one, an EOS token.

    What was added to it is said on stderr, once for each place.

    Args:
        place: a `save_pretrained` directory or a hub name.

    Raises:
        InputError: there is none at that place.
    """
    check_place("tokenizer", place)
    transformers = need("transformers", extra="train")
    try:
        found = transformers.AutoTokenizer.from_pretrained(str(place))
    except Exception as error:  # broken files raise whatever their reader raises
        raise InputError(sentence("tokenizer", place, error)) from error
    if found.eos_token_id is None and (token := _end_of(place, found)):
        found.eos_token = token
        _say(f"{place}: the tokenizer names no EOS token; the one that the model names is taken, {token!r}")
    return with_template(found, place=str(place))


def with_template(tokenizer: Any, *, place: str = "") -> Any:
    """The same tokenizer where it has a chat template, else a copy of it with the plain one, said on stderr."""
    if getattr(tokenizer, "chat_template", None):
        return tokenizer
    _say(f"{place or getattr(tokenizer, 'name_or_path', '') or type(tokenizer).__name__}: {SAYS_PLAIN}")
    ready = copy.copy(tokenizer)
    ready.chat_template = plain_template(tokenizer)
    return ready


def plain_template(tokenizer: Any) -> str:
    """The plain template; before the first message it writes what the tokenizer itself puts before a text.

    That is BOS for Llama's, Gemma's and Mistral's tokenizers, and nothing for GPT-2's and Qwen's, which know a BOS and
    do not use it.
    """
    opening = "".join(
        "{{ bos_token }}" if token == tokenizer.bos_token else "{{ " + json.dumps(token) + " }}"
        for token in _put_before(tokenizer)
    )
    return MARK + opening + PLAIN


def is_plain(tokenizer: Any) -> bool:
    """Whether a tokenizer's chat template is the plain one, written here or saved by a training."""
    template = getattr(tokenizer, "chat_template", None)
    return isinstance(template, str) and template.startswith(MARK)


def notes_on(tokenizer: Any) -> tuple[str, ...]:
    """What a lineage or a card should tell of a tokenizer, a sentence each."""
    plain = "Messages are written with the plain template of pairwright: the tokenizer had no chat template."
    endless = "The tokenizer has no EOS token, so the answers end without one."
    return (plain,) * is_plain(tokenizer) + (endless,) * (tokenizer.eos_token_id is None)


def check_place(kind: str, place: str | Path) -> None:
    """Refuse at once what can only be a directory and is none; a hub name is `name` or `owner/name`.

    A mere name can be either, and is looked for on the hub with a line on stderr.

    Raises:
        InputError: there is no such directory, or it holds no tokenizer.
    """
    name = str(place)
    if Path(name).is_dir():
        if kind == "tokenizer" and not any(map(_is_of_tokenizer, os.listdir(name))):
            raise InputError(f"{name} holds no tokenizer; save the model's there, or name another place with tokenizer")
        return
    parts = name.split("/")
    is_path = name.startswith((".", "/", "~")) or os.path.isabs(name) or "\\" in name or len(parts) > 2 or not parts[-1]
    # `runs/typo` could be a hub name; where there is a directory `runs`, it is none.
    if is_path or Path(name).exists() or (len(parts) == 2 and Path(parts[0]).is_dir()):
        raise InputError(f"there is no directory {name} with a {kind}; give a save_pretrained directory or a hub name")
    if len(parts) == 1:  # most often a directory that is not here, and without a network the hub takes its time
        _say(f"there is no directory {name} here; it is looked for on the Hugging Face hub")


def sentence(kind: str, place: str | Path, error: Exception) -> str:
    """One sentence for what a library says when it cannot open something."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"cannot open the {kind} {str(place)!r}: {first.rstrip('.')}; give a save_pretrained directory or a hub name"


def _is_of_tokenizer(name: str) -> bool:
    return any(part in name for part in ("token", "vocab", "spiece", "sentencepiece", "tekken", ".bpe", ".tiktoken"))


def _put_before(tokenizer: Any) -> list[str]:
    """The special tokens that a tokenizer puts before a text of its own accord."""
    bare, full = (list(tokenizer("a", add_special_tokens=own)["input_ids"]) for own in (False, True))
    size = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
    tokens = tokenizer.convert_ids_to_tokens(full[:size])
    # Written as text they must come back as themselves; a token that does not is better left out.
    kept = tokenizer("".join(tokens), add_special_tokens=False)["input_ids"] if tokens else []
    return list(tokens) if list(kept) == full[:size] else []


def _end_of(model: str | Path, tokenizer: Any) -> str | None:
    """The token that ends a text, as a model's files name it."""
    for name in ("generation_config.json", "config.json"):
        try:
            said = json.loads((Path(model) / name).read_text(encoding="utf-8")).get("eos_token_id")
        except (OSError, ValueError, AttributeError):
            continue
        number = said[0] if isinstance(said, list) and said else said
        if isinstance(number, int) and 0 <= number < len(tokenizer):
            return str(tokenizer.convert_ids_to_tokens(number))
    return None


@cache
def _say(line: str) -> None:
    """A line on stderr, once in a process, and by the first of several processes only."""
    if os.environ.get("RANK", "0") == "0":
        print(f"pairwright: {line}", file=sys.stderr)
