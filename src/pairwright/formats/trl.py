"""TRL's dataset types, and ultrafeedback_binarized, whose sides are whole conversations beside a prompt of text.

Source: TRL, docs/source/dataset_formats.md; HuggingFaceH4/ultrafeedback_binarized.
"""

from collections.abc import Sequence
from typing import Any

from pairwright.formats.mapping import answer_record, mapped
from pairwright.formats.record import Columns, Format, Record, Row, Unreadable, messages, number
from pairwright.formats.sides import answered

TRL = "TRL docs/source/dataset_formats.md"
LABEL_NOTE = "score is the label: 1 desirable, 0 undesirable"


def first_of(rows: Sequence[Row], column: str) -> Any:
    """The first value of a column that is not null, among the first rows."""
    return next((row[column] for row in rows if row.get(column) is not None), None)


def _whole_conversations(rows: Sequence[Row]) -> bool:
    side = first_of(rows, "chosen")
    return (
        isinstance(first_of(rows, "prompt"), str)
        and isinstance(side, list)
        and bool(side)
        and isinstance(side[0], dict)
        and side[0].get("role") in ("user", "system")
    )


def _messages_record(row: Row) -> Record:
    """A conversation whose last message is the answer, with or without a label."""
    if row.get("messages") is None:
        raise Unreadable("missing_column", "there is no 'messages' in this row")
    notes: list[str] = []
    prompt, response = answered(messages(row["messages"], "messages", notes))
    split_up = {name: value for name, value in row.items() if name != "messages"}
    split_up |= {"prompt": prompt, "response": response}
    columns = Columns(prompt="prompt", response="response", label="label" if "label" in row else None)
    record = answer_record(split_up, columns=columns)
    return record._replace(notes=[*notes, *record.notes])


_ANSWERS = ("chosen", "rejected", "response", "completion", "answer", "output")


def _prompts_alone(rows: Sequence[Row]) -> bool:
    """Whether nothing beside the prompt is called like an answer; such a column must not be lost in silence."""
    others = {name.lower() for row in rows for name in row if isinstance(name, str)}
    return _is_text(rows) and not any(word in name for name in others for word in _ANSWERS)


def _is_text(rows: Sequence[Row]) -> bool:
    return isinstance(first_of(rows, "prompt"), str | list)


def _scored(rows: Sequence[Row]) -> bool:
    """Whether any of the first rows has a score that is a number."""
    return any(number(row.get("score"), []) is not None for row in rows)


ULTRAFEEDBACK_BINARIZED = Format(
    name="ultrafeedback_binarized",
    says="prompt as text, chosen and rejected as whole conversations, score_chosen, score_rejected",
    source="HuggingFaceH4/ultrafeedback_binarized",
    columns=("prompt", "chosen", "rejected"),
    rows=mapped(Columns(prompt="prompt", chosen="chosen", rejected="rejected")),
    clean=Columns(prompt="prompt", chosen="chosen", rejected="rejected"),
    fits=_whole_conversations,
)
PREFERENCE = Format(
    name="trl",
    says="TRL preference with a prompt: prompt, chosen, rejected as text or messages, with any known score names",
    source=TRL,
    columns=("prompt", "chosen", "rejected"),
    rows=mapped(Columns(prompt="prompt", chosen="chosen", rejected="rejected")),
    clean=Columns(prompt="prompt", chosen="chosen", rejected="rejected"),
    fits=_is_text,
)
IMPLICIT = Format(
    name="trl_implicit",
    says="TRL preference without a prompt: chosen and rejected are whole conversations or texts with one beginning",
    source=TRL,
    columns=("chosen", "rejected"),
    rows=mapped(Columns(chosen="chosen", rejected="rejected")),
    clean=Columns(chosen="chosen", rejected="rejected"),
)
UNPAIRED = Format(
    name="unpaired",
    says="TRL unpaired preference (KTO): prompt, completion, label",
    source=TRL,
    columns=("prompt", "completion", "label"),
    rows=mapped(Columns(prompt="prompt", response="completion", label="label")),
    notes=(LABEL_NOTE,),
)
UNPAIRED_SCORED = Format(
    name="unpaired_scored",
    says="TRL unpaired preference with scores beside the labels: prompt, completion, label, score",
    source="what pairwright writes as unpaired",
    columns=("prompt", "completion", "label", "score"),
    rows=mapped(Columns(prompt="prompt", response="completion", label="label", score="score")),
    fits=_scored,
    notes=("score_label is the label: 1 desirable, 0 undesirable",),
)
UNPAIRED_MESSAGES = Format(
    name="unpaired_messages",
    says="a conversation and a label of its last answer: messages, label",
    source="LLaMA-Factory data/README.md (KTO), kto_en_demo.json",
    columns=("messages", "label"),
    rows=_messages_record,
    notes=(LABEL_NOTE,),
)
COMPLETION = Format(
    name="prompt_completion",
    says="TRL prompt and completion; no comparison",
    source=TRL,
    columns=("prompt", "completion"),
    rows=mapped(Columns(prompt="prompt", response="completion")),
)
SCORED = Format(
    name="scored",
    says="one answer in a row: prompt, response, and score, score_<name>, model where there are any",
    source="the flat form of best-of-K samples",
    columns=("prompt", "response"),
    rows=mapped(Columns(prompt="prompt", response="response", score="score")),
)
CONVERSATION = Format(
    name="messages",
    says="a conversation: its last message is the answer; no comparison",
    source=TRL,
    columns=("messages",),
    rows=_messages_record,
)
PROMPTS = Format(
    name="prompts",
    says="prompts alone",
    source=TRL,
    columns=("prompt",),
    rows=mapped(Columns(prompt="prompt")),
    fits=_prompts_alone,
)
