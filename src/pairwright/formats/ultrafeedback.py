"""Prompts with K scored answers: raw UltraFeedback, princeton-nlp's annotated UltraFeedback, and Nectar."""

from collections.abc import Mapping
from typing import Any

from pairwright.formats.record import (
    Answer,
    Format,
    Pair,
    Record,
    Row,
    Unreadable,
    as_text,
    number,
    optional_text,
    rest,
)
from pairwright.formats.sides import prompt_of, response_of

FAULT = "overall_score is 10 beside ratings of 2 or less on average (a known fault of the source: 1 was read as 10)"
_POOR = 2.0


def _completions(row: Row, column: str) -> list[Mapping[str, Any]]:
    found = row.get(column)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise Unreadable("no_answer", f"{column!r} is no list of answers")
    return found


def _raw_record(row: Row) -> Record:
    """A raw UltraFeedback record.

    `overall_score` (1-10) is the score; the `Rating` of each aspect becomes `score_<aspect>`, `fine-grained_score`
    becomes `score_fine_grained`. The answers were written under different system prompts, which are kept as
    `custom_system_prompt` of the response; the prompt is the instruction alone.
    """
    notes: list[str] = []
    prompt = prompt_of(row.get("instruction"), notes, "instruction")
    answers = []
    for item in _completions(row, "completions"):
        scores = {}
        aspects = item.get("annotations")
        for aspect, said in (aspects if isinstance(aspects, dict) else {}).items():
            rating = said.get("Rating") if isinstance(said, dict) else None
            if isinstance(said, list):  # some revisions hold a list of one annotation
                rating = said[0].get("Rating") if said and isinstance(said[0], dict) else None
            scores[aspect] = number(rating, notes)
        ratings = [value for value in scores.values() if value is not None]
        if "fine-grained_score" in item:
            scores["fine_grained"] = number(item["fine-grained_score"], notes)
        score = number(item.get("overall_score"), notes)
        mean = sum(ratings) / len(ratings) if ratings else scores.get("fine_grained")
        if score == 10 and mean is not None and mean <= _POOR:
            notes.append(FAULT)
        extras = rest(item, "model", "response", "annotations", "overall_score", "fine-grained_score", "critique")
        answers.append(
            Answer(
                response_of(item.get("response"), notes, "response"),
                optional_text(item.get("model")),
                score,
                scores,
                extras | rest({"critique": item.get("critique")}),
            )
        )
    about = rest(row, "instruction", "completions", "split")
    return Record(prompt, answers, split=optional_text(row.get("split")), prompt_extras=about, notes=notes)


def _princeton_record(row: Row) -> Record:
    """`all_generated_responses` with `all_rm_scores`, and the pair that the source drew from them."""
    notes: list[str] = []
    prompt = prompt_of(row.get("prompt"), notes)
    texts, scores = row.get("all_generated_responses"), row.get("all_rm_scores")
    if not isinstance(texts, list) or not isinstance(scores, list) or len(texts) != len(scores):
        raise Unreadable("no_answer", "'all_generated_responses' and 'all_rm_scores' are not lists of one length")
    answers = [
        Answer(response_of(text, notes, "all_generated_responses"), None, number(score, notes))
        for text, score in zip(texts, scores, strict=True)
    ]
    pairs = []
    if row.get("chosen") is not None and row.get("rejected") is not None:
        said = [_last_text(row[side]) for side in ("chosen", "rejected")]
        if all(one in texts for one in said):
            pairs = [Pair(texts.index(said[0]), texts.index(said[1]))]
        else:
            notes.append("the source's chosen or rejected is none of its answers, so its pair was left out")
    about = rest(row, "prompt", "all_generated_responses", "all_rm_scores", "chosen", "rejected", "split")
    return Record(prompt, answers, pairs, split=optional_text(row.get("split")), prompt_extras=about, notes=notes)


def _last_text(side: Any) -> Any:
    """The answer's text of a side that is text or a conversation."""
    last = side[-1] if isinstance(side, list) and side else side
    return last.get("content") if isinstance(last, dict) else last


def _nectar_record(row: Row) -> Record:
    """Nectar: K answers with a rank, 1 best. score = K + 1 - rank, so that higher is better."""
    notes: list[str] = []
    prompt = prompt_of(row.get("prompt"), notes)
    items = _completions(row, "answers")
    answers = []
    for item in items:
        rank = number(item.get("rank"), notes)
        answers.append(
            Answer(
                response_of(as_text(item.get("answer"), "answer"), notes, "answer"),
                optional_text(item.get("model")),
                None if rank is None else len(items) + 1 - rank,
                extras=rest(item, "answer", "model", "rank"),
            )
        )
    about = rest(row, "prompt", "answers", "split")
    return Record(prompt, answers, split=optional_text(row.get("split")), prompt_extras=about, notes=notes)


RAW = Format(
    name="ultrafeedback",
    says="raw UltraFeedback: instruction and K completions with annotations and overall_score",
    source="openbmb/UltraFeedback",
    columns=("instruction", "completions"),
    rows=_raw_record,
    notes=("score is overall_score (1-10); score_<aspect> is the Rating of an aspect (1-5)",),
)
PRINCETON = Format(
    name="princeton",
    says="all_generated_responses and all_rm_scores of a prompt",
    source="princeton-nlp/llama3-ultrafeedback and its kin",
    columns=("prompt", "all_generated_responses", "all_rm_scores"),
    rows=_princeton_record,
    notes=("score is the reward model's raw output",),
)
NECTAR = Format(
    name="nectar",
    says="prompt and K ranked answers (rank 1 is the best)",
    source="berkeley-nest/Nectar",
    columns=("prompt", "answers"),
    rows=_nectar_record,
    notes=("score is K + 1 - rank: the rank turned round, so that higher is better",),
)
