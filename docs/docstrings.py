"""The parts of a plug's docstring, from which its page is made; a part that is missing is a fault that names it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import getdoc
from typing import Any

from pairwright.losses import asks
from pairwright.plug import settings_of, source

Plug = Callable[..., Any]

SECTIONS = ("Args", "Returns", "Raises", "Source")
PARAGRAPHS = ("Limits", "Relations")


class Fault(Exception):
    """A docstring from which no page can be made; the message says why."""


@dataclass(frozen=True)
class Anatomy:
    """The parts of a docstring.

    Attributes:
        summary: its first line.
        body: what follows up to the limits: paragraphs, and formulas as they are indented.
        limits: what the paragraph `Limits:` says.
        relations: what the paragraph `Relations:` says.
        args: what is said of each argument.
        returns: what is said of the result.
        raises: when it refuses; empty where it never does.
    """

    summary: str
    body: tuple[str, ...]
    limits: str
    relations: str
    args: Mapping[str, str]
    returns: str
    raises: str


def anatomy(name: str, plug: Plug) -> Anatomy:
    """The docstring of a plug in its parts.

    Raises:
        Fault: a part is missing.
    """
    head, sections = _sections(getdoc(plug) or "")
    summary, *blocks = [block for block in re.split(r"\n\s*\n", head) if block.strip()] or [""]
    told = {word: _paragraph(word, blocks) for word in PARAGRAPHS}
    body = tuple(block for block in blocks if not block.startswith(tuple(f"{word}:" for word in PARAGRAPHS)))
    args = dict(_entries(sections.get("Args", "")))
    raises = dict(_entries(sections.get("Raises", ""))).get("InputError", "")
    lacks = [
        *(["a first line that is one sentence"] if not summary.endswith(".") or "\n" in summary else []),
        *(["a formula, in a block indented by four"] if not any(map(is_formula, body)) else []),
        *(f"a paragraph that begins '{word}:'" for word in PARAGRAPHS if not told[word]),
        *(f"the setting {setting!r} under 'Args:'" for setting in settings_of(plug) if not args.get(setting)),
        *(["a section 'Returns:'"] if not sections.get("Returns") else []),
        *(["InputError under 'Raises:'"] if not raises and (settings_of(plug) or asks(plug).needs) else []),
        *(["a section 'Source:'"] if not source(plug) else []),
    ]
    if lacks:
        raise Fault(f"no page can be made of {name!r}: its docstring lacks {'; '.join(lacks)}")
    return Anatomy(summary, body, told["Limits"], told["Relations"], args, flat(sections["Returns"]), raises)


def _paragraph(word: str, blocks: Sequence[str]) -> str:
    """What the paragraph that begins with `word:` says, or an empty string."""
    found = (block for block in blocks if block.startswith(f"{word}:"))
    return flat(next(found, "").removeprefix(f"{word}:"))


def _sections(text: str) -> tuple[str, dict[str, str]]:
    """What stands before the first section, and the sections by name."""
    head, *rest = re.split(rf"^({'|'.join(SECTIONS)}):", text, flags=re.MULTILINE)
    return head, dict(zip(rest[::2], rest[1::2], strict=True))


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """`name: what is said` of a section whose entries are indented by four."""
    for entry in re.split(r"\n {4}(?=\S)", "\n" + text.strip("\n")):
        name, colon, said = entry.partition(":")
        if colon:
            yield name.strip(), flat(said)


def is_formula(block: str) -> bool:
    """Whether a block is indented as formulas are."""
    return all(line.startswith("    ") for line in block.splitlines() if line)


def flat(text: str) -> str:
    """The text on one line."""
    return re.sub(r"\s+", " ", text).strip()
