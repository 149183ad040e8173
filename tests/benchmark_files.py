"""Items of the six academic benchmarks, made up, in the columns and splits of the real data sets."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MUSR = ("murder_mysteries", "object_placements", "team_allocation")
BBH: dict[str, tuple[str, str]] = {
    "boolean_expressions": ("True", "False"),
    "causal_judgement": ("Yes", "No"),
    "date_understanding": ("(A)", "(B)"),
    "disambiguation_qa": ("(A)", "(B)"),
    "formal_fallacies": ("valid", "invalid"),
    "geometric_shapes": ("(A)", "(B)"),
    "hyperbaton": ("(A)", "(B)"),
    "logical_deduction_five_objects": ("(A)", "(B)"),
    "logical_deduction_seven_objects": ("(A)", "(B)"),
    "logical_deduction_three_objects": ("(A)", "(B)"),
    "movie_recommendation": ("(A)", "(B)"),
    "navigate": ("Yes", "No"),
    "object_counting": ("3", "7"),
    "penguins_in_a_table": ("(A)", "(B)"),
    "reasoning_about_colored_objects": ("(A)", "(B)"),
    "ruin_names": ("(A)", "(B)"),
    "salient_translation_error_detection": ("(A)", "(B)"),
    "snarks": ("(A)", "(B)"),
    "sports_understanding": ("yes", "no"),
    "temporal_sequences": ("(A)", "(B)"),
    "tracking_shuffled_objects_five_objects": ("(A)", "(B)"),
    "tracking_shuffled_objects_seven_objects": ("(A)", "(B)"),
    "tracking_shuffled_objects_three_objects": ("(A)", "(B)"),
    "web_of_lies": ("Yes", "No"),
}
"""The parts of BBH, and two of the answers that each allows."""
COLOURS = ("red", "green", "blue", "grey")


def gsm8k(n: int) -> list[dict[str, Any]]:
    return [
        {"question": f"Ann has {i} red balls and {i + 2} blue ones. How many?", "answer": f"She has both.\n#### {sum_}"}
        for i, sum_ in ((i, 2 * i + 2) for i in range(n))
    ]


def gpqa(n: int) -> list[dict[str, Any]]:
    wrong = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
    return [
        {"Question": f"Which of them is number {i}?", "Correct Answer": f"ball {i}"}
        | {name: f"ball {i + k}" for k, name in enumerate(wrong, 1)}
        for i in range(n)
    ]


def musr(n: int) -> list[dict[str, Any]]:
    return [
        {
            "narrative": f"Ann put ball {i} into the box. Bob left.",
            "question": "Who has put it there?",
            "choices": "['Ann', 'Bob']",
            "answer_index": i % 2,
            "answer_choice": ("Ann", "Bob")[i % 2],
        }
        for i in range(n)
    ]


def truthfulqa(n: int) -> list[dict[str, Any]]:
    return [
        {
            "question": f"Is ball {i} red?",
            "mc1_targets": {"choices": ["It may be.", "Yes.", "Never."], "labels": [1, 0, 0]},
            "mc2_targets": {"choices": ["It may be.", "I do not know.", "Yes.", "Never."], "labels": [1, 1, 0, 0]},
        }
        for i in range(n)
    ]


def bbh(answers: Sequence[str], n: int) -> list[dict[str, Any]]:
    return [{"input": f"What of {i}?", "target": answers[i % len(answers)]} for i in range(n)]


def arc(n: int, *, start: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "id": f"item-{i}",
            "question": f"Which colour has ball {i}?",
            "choices": {"text": list(COLOURS), "label": ["A", "B", "C", "D"]},
            "answerKey": "ABCD"[i % 4],
        }
        for i in range(start, start + n)
    ]


def write(folder: Path, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """A directory of a task: a file of JSON lines for each split."""
    folder.mkdir(parents=True)
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_all(folder: Path, *, n: int = 4) -> Path:
    """All six, so many items in each task."""
    write(folder / "gsm8k_cot", {"test": gsm8k(n)})
    write(folder / "gpqa_main_zeroshot", {"train": gpqa(n)})
    for name in MUSR:
        write(folder / f"leaderboard_musr_{name}", {name: musr(n)})
    write(folder / "truthfulqa_mc2", {"validation": truthfulqa(n)})
    for name, answers in BBH.items():
        write(folder / f"leaderboard_bbh_{name}", {"test": bbh(answers, n)})
    write(folder / "arc_challenge", {"train": arc(30, start=100), "validation": arc(2, start=200), "test": arc(n)})
    return folder
