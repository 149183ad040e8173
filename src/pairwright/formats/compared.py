"""Two answers and a verdict: SHP, PKU-SafeRLHF, HALOs feedback, AlpacaEval annotations, and judged benchmarks.

The verdict decides which answer is chosen. A tie gives no pair, and the lineage counts it. Where the source scores
answers (SHP's votes, a reward model), the score is kept; where it only compares, there is a preference and no score.
"""

from collections.abc import Mapping, Sequence
from typing import Any

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
)
from pairwright.formats.sides import prompt_of, response_of

TIE = "a tie by the source gives no pair"


def _compared(
    prompt: Sequence[Message],
    answers: Sequence[Answer],
    better: int | None,
    extras: Mapping[str, Any],
    notes: list[str],
    *,
    preference: float | None = None,
) -> Record:
    """A record of two answers of which `better` (0, 1, or None for a tie) is chosen."""
    split = optional_text(extras.get("split"))
    extras = {name: value for name, value in extras.items() if name != "split"}
    if better is None:
        return Record(prompt, answers, split=split, prompt_extras=extras, notes=[*notes, TIE])
    pair = Pair(better, 1 - better, preference)
    return Record(prompt, answers, (pair,), split=split, pair_extras=extras, notes=notes)


def _verdict(row: Row, column: str, meaning: Mapping[Any, int | None]) -> int | None:
    value = row.get(column)
    if not isinstance(value, str | int | float) or value not in meaning:
        raise Unreadable("bad_label", f"{column!r} is {value!r:.40}, not one of {', '.join(map(repr, meaning))}")
    return meaning[value]


def _answers(row: Row, names: Sequence[str], notes: list[str]) -> list[Answer]:
    for name in names:
        if name not in row:
            raise Unreadable("missing_column", f"there is no {name!r} in this row")
    return [Answer(response_of(row[name], notes, name)) for name in names]


def _prompt(row: Row, column: str, notes: list[str]) -> list[Message]:
    if column not in row:
        raise Unreadable("missing_column", f"there is no {column!r} in this row")
    return prompt_of(row[column], notes, column)


def _shp_record(row: Row) -> Record:
    """SHP: the score is the votes of a comment; `labels` 1 is that A is preferred."""
    notes: list[str] = []
    sides = ("human_ref_A", "human_ref_B")
    scores = [number(row.get(name), notes) for name in ("score_A", "score_B")]
    answers = [a._replace(score=s) for a, s in zip(_answers(row, sides, notes), scores, strict=True)]
    better = _verdict(row, "labels", {1: 0, 0: 1})
    return _compared(
        _prompt(row, "history", notes),
        answers,
        better,
        rest(row, "history", *sides, "score_A", "score_B", "labels"),
        notes,
    )


def _pku_record(row: Row) -> Record:
    """PKU-SafeRLHF: chosen is the better (more helpful) response; its safety verdict is score_safe (1 safe)."""
    notes: list[str] = []
    answers = []
    for i, answer in enumerate(_answers(row, ("response_0", "response_1"), notes)):
        safe = number(row.get(f"is_response_{i}_safe"), notes)
        model = optional_text(row.get(f"response_{i}_source"))
        answers.append(answer._replace(model=model, scores={} if safe is None else {"safe": safe}))
    used = ["prompt", "better_response_id"]
    used += [
        f"{a}{i}{b}"
        for i in (0, 1)
        for a, b in (("response_", ""), ("is_response_", "_safe"), ("response_", "_source"))
    ]
    better = _verdict(row, "better_response_id", {0: 0, 1: 1})
    return _compared(_prompt(row, "prompt", notes), answers, better, rest(row, *used), notes)


def _halos_record(row: Row) -> Record:
    """HALOs pairwise feedback: `label` 1 is that A is preferred; rewards are the scores."""
    notes: list[str] = []
    sides = ("output_A", "output_B")
    scores = [number(row.get(name), notes) for name in ("reward_A", "reward_B")]
    answers = [a._replace(score=s) for a, s in zip(_answers(row, sides, notes), scores, strict=True)]
    better = _verdict(row, "label", {1: 0, 0: 1})
    extras = rest(row, "prompt", *sides, "reward_A", "reward_B", "label")
    return _compared(_prompt(row, "prompt", notes), answers, better, extras, notes)


def _alpaca_eval_record(row: Row) -> Record:
    """AlpacaEval annotations: `preference` is 1 where output_1 wins, 2 where output_2 wins; 1.5, 0, null are ties."""
    notes: list[str] = []
    sides = ("output_1", "output_2")
    models = [optional_text(row.get(name)) for name in ("generator_1", "generator_2")]
    answers = [a._replace(model=m) for a, m in zip(_answers(row, sides, notes), models, strict=True)]
    value = number(row.get("preference"), notes)
    tie = value is None or value in (0.0, 1.5)
    chance = None if value is None or tie else abs(value - 1.5) + 0.5
    better = None if value is None or tie else int(value > 1.5)
    extras = rest(row, "instruction", *sides, "generator_1", "generator_2", "preference")
    return _compared(_prompt(row, "instruction", notes), answers, better, extras, notes, preference=chance)


def _autoj_record(row: Row) -> Record:
    """Auto-J: `label` 0 first, 1 second, 2 tie."""
    notes: list[str] = []
    sides = ("response 1", "response 2")
    better = _verdict(row, "label", {0: 0, 1: 1, 2: None})
    extras = rest(row, "prompt", *sides, "label")
    return _compared(_prompt(row, "prompt", notes), _answers(row, sides, notes), better, extras, notes)


def _llmbar_record(row: Row) -> Record:
    """LLMBar: `label` 1 first, 2 second."""
    notes: list[str] = []
    sides = ("output_1", "output_2")
    better = _verdict(row, "label", {1: 0, 2: 1})
    extras = rest(row, "input", *sides, "label")
    return _compared(_prompt(row, "input", notes), _answers(row, sides, notes), better, extras, notes)


def _pandalm_record(row: Row) -> Record:
    """PandaLM: each of three annotators says 1, 2, 0 for a tie, or null for nothing; more votes win."""
    notes: list[str] = []
    answers = _answers(row, ("response1", "response2"), notes)
    names = sorted(name for name in row if name.startswith("annotator"))
    votes = [_verdict(row, name, {0: None, 1: 0, 2: 1}) for name in names if row[name] is not None]
    if not votes:
        raise Unreadable("bad_label", "no annotator says anything")
    lead = votes.count(0) - votes.count(1)
    question, given = row.get("instruction"), row.get("input")
    if isinstance(question, str) and isinstance(given, str) and given:
        question = f"{question}\n\n{given}"
    better = None if lead == 0 else int(lead < 0)
    share = max(votes.count(0), votes.count(1)) / len(votes)
    extras = rest(row, "instruction", "input", "response1", "response2")
    return _compared(prompt_of(question, notes, "instruction"), answers, better, extras, notes, preference=share)


def _judgebench_record(row: Row) -> Record:
    """JudgeBench: `label` is "A>B" or "B>A"; each reward model's raw output is `score_<model>`, on its own scale.

    What it gave the answer when the two stood in the other order is `score_<model>_swapped`.
    """
    notes: list[str] = []
    answers = _answers(row, ("response_A", "response_B"), notes)
    for i, answer in enumerate(answers):
        scores = {
            **_of_models(row.get("rm_scores"), i, "", notes),
            **_of_models(row.get("rm_scores_swapped"), 1 - i, "_swapped", notes),
        }
        answers[i] = answer._replace(scores=scores, model=optional_text(row.get("response_model")))
    better = _verdict(row, "label", {"A>B": 0, "B>A": 1, "A=B": None})
    used = ("question", "response_A", "response_B", "label", "rm_scores", "rm_scores_swapped", "response_model")
    return _compared(_prompt(row, "question", notes), answers, better, rest(row, *used), notes)


def _of_models(given: Any, side: int, ending: str, notes: list[str]) -> dict[str, float | None]:
    """What each model gave the answer at a place, under the model's name and an ending."""
    return {
        f"{name}{ending}": number(both[side], notes)
        for name, both in (given if isinstance(given, dict) else {}).items()
        if isinstance(both, list) and len(both) == 2
    }


def _styles_record(row: Row) -> Record:
    """RM-Bench: three right and three wrong answers; every right one beats every wrong one."""
    notes: list[str] = []
    sides = [row.get("chosen"), row.get("rejected")]
    if not all(isinstance(side, list) and side for side in sides):
        raise Unreadable("no_answer", "'chosen' and 'rejected' are not lists of answers")
    right, wrong = ([Answer(response_of(one, notes, "chosen")) for one in side or ()] for side in sides)
    pairs = [Pair(i, len(right) + j) for i in range(len(right)) for j in range(len(wrong))]
    extras = rest(row, "prompt", "chosen", "rejected")
    return Record(_prompt(row, "prompt", notes), [*right, *wrong], pairs, prompt_extras=extras, notes=notes)


def _lists_of_text(rows: Sequence[Row]) -> bool:
    side = next((row["chosen"] for row in rows if row.get("chosen")), None)
    return isinstance(side, list) and isinstance(side[0], str)


ONLY_COMPARES = "the source only compares: there are no scores"

SHP = Format(
    name="shp",
    says="history, human_ref_A, human_ref_B, labels, score_A, score_B",
    source="stanfordnlp/SHP",
    columns=("history", "human_ref_A", "human_ref_B", "labels"),
    rows=_shp_record,
    ordered=True,
    notes=("score is the votes of a comment, comparable within a prompt only",),
)
PKU = Format(
    name="pku_saferlhf",
    says="prompt, response_0, response_1, better_response_id, safer_response_id",
    source="PKU-Alignment/PKU-SafeRLHF",
    columns=("prompt", "response_0", "response_1", "better_response_id"),
    rows=_pku_record,
    ordered=True,
    notes=("chosen is the better (more helpful) response; safer_response_id stays a column; score_safe is 1 for safe",),
)
HALOS = Format(
    name="halos",
    says="HALOs feedback: prompt, output_A, output_B, reward_A, reward_B, label (1: A preferred)",
    source="ContextualAI/HALOs, train/data.py",
    columns=("prompt", "output_A", "output_B", "label"),
    rows=_halos_record,
    ordered=True,
    notes=("score is the reward that the feedback holds",),
)
ALPACA_EVAL = Format(
    name="alpaca_eval",
    says="AlpacaEval annotations: instruction, output_1, output_2, preference (1 to 2)",
    source="tatsu-lab/alpaca_eval, annotations.json",
    columns=("instruction", "output_1", "output_2", "preference"),
    rows=_alpaca_eval_record,
    ordered=True,
    notes=("preference is the judge's probability that the chosen output wins", ONLY_COMPARES),
)
AUTO_J = Format(
    name="auto_j",
    says='prompt, "response 1", "response 2", label (0 first, 1 second, 2 tie)',
    source="GAIR-NLP/auto-j, data/test/testdata_pairwise.jsonl",
    columns=("prompt", "response 1", "response 2", "label"),
    rows=_autoj_record,
    ordered=True,
    notes=(ONLY_COMPARES,),
)
LLMBAR = Format(
    name="llmbar",
    says="input, output_1, output_2, label (1 or 2)",
    source="princeton-nlp/LLMBar",
    columns=("input", "output_1", "output_2", "label"),
    rows=_llmbar_record,
    ordered=True,
    notes=(ONLY_COMPARES,),
)
PANDALM = Format(
    name="pandalm",
    says="instruction, input, response1, response2, annotator1..3 (1, 2, or 0 for a tie)",
    source="WeOpenML/PandaLM, data/testset-v1.json",
    columns=("instruction", "response1", "response2", "annotator1"),
    rows=_pandalm_record,
    ordered=True,
    notes=("preference is the share of annotators for the chosen side", ONLY_COMPARES),
)
JUDGEBENCH = Format(
    name="judgebench",
    says="question, response_A, response_B, label (A>B or B>A), rm_scores",
    source="ScalerLab/JudgeBench",
    columns=("question", "response_A", "response_B", "label"),
    rows=_judgebench_record,
    ordered=True,
    notes=(
        "each reward model's raw output is a column score_<model>, on its own scale; there is no main score",
        "score_<model>_swapped is what it gave the answer when the two stood in the other order",
    ),
)
RM_BENCH = Format(
    name="rm_bench",
    says="prompt, three chosen and three rejected answers",
    source="THU-KEG/RM-Bench",
    columns=("prompt", "chosen", "rejected"),
    rows=_styles_record,
    fits=_lists_of_text,
    notes=("every chosen answer beats every rejected one: 9 pairs for a row of 3 and 3", ONLY_COMPARES),
)
