"""OPERATORS: the ways of evolving a prompt, each a text file for the model that writes the new one.

A file begins with the lines `version: N` and, if you like, `says: WHAT IT DOES`; behind an empty line stands what the
model is asked, with `{prompt}` where the old prompt goes. The version and a digest of the text go into the lineage, so
that two sets of evolved prompts can be told apart.
"""

import hashlib
import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from pairwright.errors import InputError
from pairwright.plug import nearest

_PROMPTS = files("pairwright.evolve") / "prompts"
OPERATORS: dict[str, Traversable] = {
    name: _PROMPTS / f"{name}.md" for name in ("breadth", "deepen", "constrain", "concretise", "reasoning")
}
"""A new prompt in the same field; the same prompt deeper, with one constraint more, more concrete, or in need of
reasoning. Source: the five operators of arXiv 2503.01864's self-play, in words of our own."""


class Operator(NamedTuple):
    """One way of evolving a prompt."""

    name: str
    version: str
    says: str
    """What it does to a prompt, in a line."""
    text: str
    """What the model is asked, with `{prompt}` where the old prompt goes."""

    @property
    def digest(self) -> str:
        """The first half of the SHA-256 of the text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]

    def ask(self, prompt: str) -> str:
        """What the model is asked about a prompt. The prompt is put in as it is, braces and all."""
        return self.text.replace("{prompt}", prompt)


def read_operator(spec: str) -> Operator:
    """The operator of a name of `OPERATORS`, or of a file of one's own, whose name becomes the operator's.

    Raises:
        InputError: there is no such operator or file, or the file has no version or no place for the prompt.
    """
    place: Traversable | Path | None = OPERATORS.get(spec)
    if place is None:
        place = Path(spec)
        if not place.is_file():
            hint = nearest(spec, OPERATORS) or f"; there are {', '.join(OPERATORS)}"
            raise InputError(f"there is no operator {spec!r}{hint} (your own is a file)")
    try:
        whole = place.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the operator {spec} cannot be read: {error}") from error
    found = re.fullmatch(
        r"version:[ \t]*(\S+)[ \t]*\n(?:says:[ \t]*([^\n]*)\n)?\s*\n(.+)", whole.replace("\r\n", "\n"), re.DOTALL
    )
    if found is None:
        raise InputError(f"the operator {spec} must begin with a line `version: 1`, an empty line, and then its text")
    if "{prompt}" not in found[3]:
        raise InputError(f"the operator {spec} has no {{prompt}} in its text, so the model would not see the prompt")
    return Operator(
        spec if spec in OPERATORS else Path(spec).stem, found[1], (found[2] or "").strip(), found[3].strip()
    )
