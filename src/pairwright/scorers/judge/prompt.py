"""Prompt files of the judge: a version, and the messages with places to fill in."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pairwright.chat import Conversation, Message
from pairwright.errors import InputError
from pairwright.plug import nearest

PLACES: dict[str, frozenset[str]] = {
    "rating": frozenset({"prompt", "answer"}),
    "reference": frozenset({"prompt", "answer", "reference"}),
    "attributes": frozenset({"prompt", "answer", "attributes"}),
    "pairwise": frozenset({"prompt", "first", "second"}),
    "best": frozenset({"prompt", "answers", "letters"}),
}
"""The places that a prompt of each kind must have."""
_SCALE = frozenset({"low", "high"})
_WITHOUT_SCALE = frozenset({"pairwise", "best"})
_PLACE = re.compile(r"\{([a-z_]+)\}")
_SECTION = re.compile(r"^## (system|user|attributes)[ \t]*$", re.MULTILINE)
_VERSION = re.compile(r"version: (\S+)\s*")
_ATTRIBUTE = re.compile(r"([a-z][a-z0-9_]*): (\S.*)")
_NAME = re.compile(r"[a-z_]+")


@dataclass(frozen=True)
class Prompt:
    """A prompt file.

    It begins with the line `version: X`. Then come sections, each under a line `## system`, `## user` or
    `## attributes`; system and user are the messages, with places such as `{answer}`, and attributes are lines
    `name: what it asks`. Whoever changes the text raises the version.
    """

    name: str
    version: str
    digest: str
    """SHA-256 of the file, in hex."""
    messages: tuple[Message, ...]
    attributes: Mapping[str, str]

    def filled(self, values: Mapping[str, str]) -> Conversation:
        """The messages with values in their places; a place in a value stays as it is."""
        return [
            {"role": each["role"], "content": _PLACE.sub(lambda found: values[found[1]], each["content"])}
            for each in self.messages
        ]


def open_prompt(spec: str | None, kind: str) -> Prompt:
    """The prompt file of a name or a path, checked for its kind.

    Args:
        spec: one of ours by its name, or a file; None is ours for the kind.
        kind: a key of `PLACES`.

    Raises:
        InputError: there is none, or it has no version, no user message, a place that is unknown or one too few.
    """
    name = spec or kind
    ours = files("pairwright.scorers.judge") / "prompts"
    try:
        if _NAME.fullmatch(name) and name in PLACES:
            text = (ours / f"{name}.md").read_text(encoding="utf-8")
        else:
            text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        hint = nearest(name, PLACES) or f"; give a file, or one of {', '.join(PLACES)}"
        raise InputError(f"judge: there is no prompt file {name!r} that can be read{hint}") from error
    return read_prompt(text, name=name, kind=kind)


def read_prompt(text: str, *, name: str, kind: str) -> Prompt:
    """A prompt file's text, checked; see `open_prompt`."""
    parts = _SECTION.split(text)
    version = _VERSION.fullmatch(parts[0])
    if version is None:
        raise InputError(f"judge: {name} must begin with a line such as 'version: 1', and then a line '## user'")
    sections = dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))
    if len(sections) * 2 + 1 != len(parts):
        raise InputError(f"judge: {name} has a section twice; write each once")
    roles = [role for role in ("system", "user") if sections.get(role)]
    if "user" not in roles:
        raise InputError(f"judge: {name} has no text under a line '## user'; write what the judge is asked there")
    messages = tuple(Message(role=role, content=sections[role]) for role in roles)
    _check_places(messages, name, kind)
    attributes = {}
    for line in filter(None, map(str.strip, sections.get("attributes", "").splitlines())):
        match = _ATTRIBUTE.fullmatch(line)
        if match is None:
            raise InputError(f"judge: {name}: the attribute {line[:60]!r} is not of the form 'name: what it asks'")
        attributes[match[1]] = match[2]
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Prompt(name, version[1], digest, messages, attributes)


def _check_places(messages: tuple[Message, ...], name: str, kind: str) -> None:
    there = {place for each in messages for place in _PLACE.findall(each["content"])}
    known = PLACES[kind] if kind in _WITHOUT_SCALE else PLACES[kind] | _SCALE
    if unknown := sorted(there - known):
        hint = nearest(unknown[0], known) or f"; there are {', '.join(sorted(known))}"
        raise InputError(f"judge: {name} has a place {{{unknown[0]}}} that kind {kind!r} does not fill{hint}")
    if missing := sorted(PLACES[kind] - there):
        raise InputError(f"judge: {name} has no place {{{missing[0]}}}, which kind {kind!r} needs; put it in")
