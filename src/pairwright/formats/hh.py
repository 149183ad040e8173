r"""hh-rlhf: a whole dialogue in one string, turns led by `\n\nHuman:` and `\n\nAssistant:`.

Source: anthropics/hh-rlhf. Real rows have a speaker twice in a row, an odd number of turns, `Human:` in the middle of
a turn (which is text, not a turn), empty last answers, and prompts that differ between the two sides.
"""

import re
from collections.abc import Sequence

from pairwright.chat import Message
from pairwright.formats.record import Row, Unreadable

_SPEAKER = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def is_dialogue(text: str) -> bool:
    """Whether a text opens with a speaker of this format."""
    return text.startswith(("\n\nHuman:", "\n\nAssistant:"))


def turns(dialogue: str) -> list[Message]:
    """The turns of a dialogue, every one as written; the one space after the speaker's colon belongs to the marker.

    Raises:
        Unreadable: there is text before the first speaker.
    """
    parts = _SPEAKER.split(dialogue)
    if parts[0]:
        raise Unreadable("no_speaker", "the dialogue does not open with a speaker")
    return [
        {"role": _ROLES[speaker], "content": said.removeprefix(" ")}
        for speaker, said in zip(parts[1::2], parts[2::2], strict=True)
    ]


def fits(rows: Sequence[Row]) -> bool:
    """Whether most rows with both sides are dialogues."""
    both = [row for row in rows if isinstance(row.get("chosen"), str) and isinstance(row.get("rejected"), str)]
    return bool(both) and 2 * sum(is_dialogue(row["chosen"]) for row in both) > len(both)
