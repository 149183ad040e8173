"""LLaMA-Factory's ranking data: sharegpt form, alpaca form, and the v1 form with content parts.

Source: hiyouga/LLaMA-Factory, data/README.md and its demo files. A `dataset_info.json` beside the file that names it
with other columns or tags is followed.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pairwright.chat import Message
from pairwright.errors import InputError
from pairwright.formats.mapping import answer_record, pair_record
from pairwright.formats.record import Columns, Format, Record, Row, Unreadable, messages, rest
from pairwright.formats.sides import answered, split

SOURCE = "hiyouga/LLaMA-Factory, data/README.md"
_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
_ROLE_OF_TAG = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "assistant",
    "system_tag": "system",
}


def _retagged(value: Any, tags: Mapping[str, str], where: str) -> list[Message]:
    """A sharegpt conversation as messages."""
    roles = {tags[tag]: role for tag, role in _ROLE_OF_TAG.items()}
    items = value if isinstance(value, list) else [value]
    result = []
    for item in items:
        if not isinstance(item, dict) or tags["role_tag"] not in item or tags["content_tag"] not in item:
            raise Unreadable("missing_column", f"a message of {where!r} has no {tags['role_tag']!r} and content")
        role = item[tags["role_tag"]]
        result.append({"role": roles.get(role, role), "content": item[tags["content_tag"]]})
    return messages(result, where, [])


def _sharegpt_record(row: Row, *, columns: Mapping[str, str] | None = None, tags: Mapping[str, str] = _TAGS) -> Record:
    """A conversation up to the user's last turn, and its two answers, or (KTO) its last answer and a label."""
    names = {"messages": "conversations", "system": "system"} | dict(columns or {})
    conversation = names["messages"]
    if conversation not in row:
        raise Unreadable("missing_column", f"there is no {conversation!r} in this row")
    prompt = _retagged(row[conversation], tags, conversation)
    flat: dict[str, Any] = {key: value for key, value in row.items() if key != conversation}
    if "kto_tag" in names:
        prompt, response = answered(prompt)
        flat |= {"prompt": prompt, "completion": response}
        found = Columns(prompt="prompt", response="completion", label=names["kto_tag"], system=names["system"])
        return answer_record(flat, columns=found)
    for side in ("chosen", "rejected"):
        column = names.get(side, side)
        if column not in row:
            raise Unreadable("missing_column", f"there is no {column!r} in this row")
        value = flat.pop(column)
        flat[side] = value if isinstance(value, str) else _retagged(value, tags, column)
    flat["prompt"] = prompt
    return pair_record(
        flat, columns=Columns(prompt="prompt", chosen="chosen", rejected="rejected", system=names["system"])
    )


def _alpaca_record(row: Row, *, columns: Mapping[str, str] | None = None) -> Record:
    """instruction, input, chosen, rejected, system and history; the input follows the instruction on a new line."""
    names = {"prompt": "instruction", "query": "input", "system": "system", "history": "history"} | dict(columns or {})
    asked, given = row.get(names["prompt"]), row.get(names["query"])
    if not isinstance(asked, str) or not isinstance(given, str | None):
        raise Unreadable("not_text", f"{names['prompt']!r} or {names['query']!r} is no text")
    prompt: list[Message] = []
    for turn in row.get(names["history"]) or []:
        if not (isinstance(turn, list) and len(turn) == 2 and all(isinstance(said, str) for said in turn)):
            raise Unreadable("not_text", f"{names['history']!r} is no list of question and answer")
        prompt += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    prompt.append({"role": "user", "content": "\n".join(part for part in (asked, given) if part)})
    flat = rest(row, names["prompt"], names["query"], names["history"])
    for side in ("chosen", "rejected"):
        column = names.get(side, side)
        if column not in row:
            raise Unreadable("missing_column", f"there is no {column!r} in this row")
        flat.pop(column, None)
        flat[side] = row[column]
    flat["prompt"] = prompt
    return pair_record(
        flat, columns=Columns(prompt="prompt", chosen="chosen", rejected="rejected", system=names["system"])
    )


def _v1_record(row: Row) -> Record:
    """chosen_messages and rejected_messages: whole conversations of content parts with loss weights."""
    notes: list[str] = []
    for name in ("chosen_messages", "rejected_messages"):
        if name not in row:
            raise Unreadable("missing_column", f"there is no {name!r} in this row")
    chosen, rejected = (messages(row[f"{side}_messages"], side, notes) for side in ("chosen", "rejected"))
    if not chosen or not rejected:
        raise Unreadable("no_answer", "a side has no message")
    found = split(chosen, rejected)
    flat = rest(row, "chosen_messages", "rejected_messages") | {
        "prompt": found.prompt,
        "chosen": found.chosen,
        "rejected": found.rejected,
    }
    record = pair_record(flat, columns=Columns(prompt="prompt", chosen="chosen", rejected="rejected"))
    extras = dict(record.pair_extras) | ({"prompt_mismatch": True} if found.mismatch else {})
    return record._replace(pair_extras=extras, notes=[*notes, *record.notes])


def declared(file: Path) -> Format | None:
    """The format that a `dataset_info.json` beside `file` declares for it; None where there is none.

    Raises:
        InputError: the file is named there, but its entry is not ranking or KTO data.
    """
    info = file.parent / "dataset_info.json"
    if not info.is_file():
        return None
    try:
        entries = json.loads(info.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None  # some other program's file of that name
    if not isinstance(entries, dict):
        return None
    for name, entry in entries.items():
        if isinstance(entry, dict) and entry.get("file_name") == file.name:
            return _of_entry(name, entry, info)
    return None


def _of_entry(name: str, entry: Mapping[str, Any], info: Path) -> Format:
    columns = {str(k): str(v) for k, v in (entry.get("columns") or {}).items()}
    if not (entry.get("ranking") or "kto_tag" in columns):
        raise InputError(f'{info} says that {name!r} is not ranking data (no "ranking": true); give format= to read it')
    answers = ("kto_tag",) if "kto_tag" in columns else ("chosen", "rejected")
    asked = ("messages", "conversations") if entry.get("formatting") == "sharegpt" else ("prompt", "instruction")
    needed = (columns.get(*asked), *(columns.get(name, name) for name in answers))
    if entry.get("formatting") == "sharegpt":
        tags = _TAGS | {str(k): str(v) for k, v in (entry.get("tags") or {}).items()}
        rows = partial(_sharegpt_record, columns=columns, tags=tags)
    else:
        rows = partial(_alpaca_record, columns=columns)
    return Format(
        name="llama_factory",
        says=f"{name} of {info.name}",
        source=SOURCE,
        columns=needed,
        rows=rows,
        notes=(f"columns and tags are those that {info.name} declares for {name!r}",),
    )


SHAREGPT = Format(
    name="llama_factory",
    says="LLaMA-Factory ranking, sharegpt form: conversations, chosen, rejected as from/value messages",
    source=SOURCE,
    columns=("conversations", "chosen", "rejected"),
    rows=_sharegpt_record,
)
ALPACA = Format(
    name="llama_factory_alpaca",
    says="LLaMA-Factory ranking, alpaca form: instruction, input, chosen, rejected",
    source=SOURCE,
    columns=("instruction", "chosen", "rejected"),
    rows=_alpaca_record,
)
V1 = Format(
    name="llama_factory_v1",
    says="LLaMA-Factory v1: chosen_messages, rejected_messages with content parts and loss weights",
    source="hiyouga/LLaMA-Factory, data/v1_dpo_demo.jsonl",
    columns=("chosen_messages", "rejected_messages"),
    rows=_v1_record,
)
