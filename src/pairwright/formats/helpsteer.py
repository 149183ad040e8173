"""NVIDIA HelpSteer 1, 2 and 3.

Source: nvidia/HelpSteer, nvidia/HelpSteer2, nvidia/HelpSteer3.
"""

from pairwright.chat import Message
from pairwright.formats.record import (
    Answer,
    Format,
    Pair,
    Record,
    Row,
    Unreadable,
    number,
    optional_text,
    rest,
    text,
)
from pairwright.formats.sides import prompt_of, response_of

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def _rated_record(row: Row) -> Record:
    """One answer with five attributes (0-4); the answers to one prompt stand in neighbouring rows and meet by prompt.

    `score` is helpfulness, which is what the sources themselves compare by; all five are `score_<attribute>`.
    """
    notes: list[str] = []
    prompt = _prompt(text(row, "prompt"), notes)
    scores = {name: number(row.get(name), notes) for name in ATTRIBUTES}
    extras = rest(row, "prompt", "response", "split", *ATTRIBUTES)
    answer = Answer(response_of(text(row, "response"), notes, "response"), None, scores["helpfulness"], scores, extras)
    return Record(prompt, (answer,), split=optional_text(row.get("split")), notes=notes)


def _prompt(words: str, notes: list[str]) -> list[Message]:
    """HelpSteer2's turns are parted by `<extra_id_1>User` and `<extra_id_1>Assistant`."""
    parts = words.split("<extra_id_1>")
    if len(parts) == 1:
        return prompt_of(words, notes)
    found: list[Message] = [{"role": "user", "content": parts[0].removesuffix("\n")}]
    for part in parts[1:]:
        role, _, said = part.partition("\n")
        found.append({"role": role.strip().lower(), "content": said.removesuffix("\n")})
    if found[-1]["role"] == "assistant" and not found[-1]["content"]:
        found.pop()
    return found


def _compared_record(row: Row) -> Record:
    """HelpSteer3: two answers and an overall preference from -3 (first much better) to 3 (second much better)."""
    notes: list[str] = []
    prompt = prompt_of(row.get("context"), notes, "context")
    answers = [Answer(response_of(row.get(name), notes, name)) for name in ("response1", "response2")]
    value = number(row.get("overall_preference"), notes)
    if value is None:
        raise Unreadable("bad_label", "'overall_preference' is no number")
    pairs = [] if value == 0 else [Pair(0, 1, -value) if value < 0 else Pair(1, 0, value)]
    extras = rest(row, "context", "response1", "response2", "overall_preference", "split")
    return Record(
        prompt,
        answers,
        pairs,
        split=optional_text(row.get("split")),
        pair_extras=extras if pairs else {},
        prompt_extras={} if pairs else extras,
        notes=notes if pairs else [*notes, "a tie by the source (overall_preference 0) gives no pair"],
    )


HELPSTEER = Format(
    name="helpsteer",
    says="HelpSteer 1 and 2: prompt, response and five attributes; neighbouring rows are answers to one prompt",
    source="nvidia/HelpSteer, nvidia/HelpSteer2",
    columns=("prompt", "response", "helpfulness", "correctness"),
    rows=_rated_record,
    notes=("score is helpfulness (0-4); all five attributes are in score_<name>",),
)
HELPSTEER3 = Format(
    name="helpsteer3",
    says="HelpSteer3: context, response1, response2, overall_preference (-3 to 3)",
    source="nvidia/HelpSteer3",
    columns=("context", "response1", "response2", "overall_preference"),
    rows=_compared_record,
    ordered=True,
    notes=("preference is the size of overall_preference (1-3), for the side that it prefers; there are no scores",),
)
