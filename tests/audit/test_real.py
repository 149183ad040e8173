"""The audit of real files. Expected numbers are those that the data's own notes give, or are counted here in plain
Python from the raw lines, without the reader and without Polars."""

import gzip
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairwright.audit import Audit, audit
from pairwright.formats.read import read

Shared = Callable[[str], Path]

ULTRAFEEDBACK = "data/extra/ultrafeedback_binarized_sample.jsonl.gz"
ALPACA = "data/alpaca_eval_pairs.jsonl.gz"
HH_TRAIN = "data/hh_rlhf_sample_train.jsonl.gz"
HH_TEST = "data/hh_rlhf_sample_test.jsonl.gz"
MTBENCH = "data/extra/mtbench_single_judgments_granite7b.jsonl.gz"


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().split("\n") if line]


def rows_where(rows: list[dict[str, Any]], test: Callable[[dict[str, Any]], bool]) -> tuple[int, ...]:
    return tuple(number for number, row in enumerate(rows) if test(row))


def last(row: dict[str, Any], side: str) -> str:
    return str(row[side][-1]["content"])


def texts(row: dict[str, Any]) -> str:
    return "".join(turn["content"] for side in ("chosen", "rejected") for turn in row[side])


def counts(result: Audit) -> dict[str, int]:
    return {found.check: found.count for found in result.findings}


def test_ultrafeedback(shared: Shared) -> None:
    path = shared(ULTRAFEEDBACK)
    result, rows = audit(read(path)), lines_of(path)
    # From the notes on the data, row by row.
    assert result["score_tie"].count == 111
    assert result["equal_text_different_score"].rows == (655, 910, 997)
    assert result["equal_text"].rows == (306,)
    assert result["empty_chosen"].rows == (833,)
    assert result["empty_rejected"].rows == (478,)
    # Counted here.
    assert result["score_tie"].rows == rows_where(rows, lambda r: r["score_chosen"] == r["score_rejected"])
    longer = rows_where(rows, lambda r: len(last(r, "chosen")) > len(last(r, "rejected")))
    shorter = rows_where(rows, lambda r: len(last(r, "chosen")) < len(last(r, "rejected")))
    assert result["length_bias"].count == len(longer) == 552
    assert result["length_bias"].share == pytest.approx(552 / (552 + len(shorter)))
    odd = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffd]")
    assert (
        result["control_characters"].rows == rows_where(rows, lambda r: bool(odd.search(texts(r)))) == (269, 348, 630)
    )
    zero = re.compile("[\u200b-\u200d\u2060\ufeff]")
    hidden = rows_where(rows, lambda r: bool(zero.search(texts(r))))
    assert f"not counted: {len(hidden)}." in result["control_characters"].says
    silent = ["label_against_score", "unscored", "non_finite_score", "sentinel_score", "out_of_scale", "constant_score"]
    silent += ["duplicate_prompt", "split_leakage", "same_role_turns", "prompt_mismatch", "empty_answer"]
    assert {name: counts(result)[name] for name in silent} == dict.fromkeys(silent, 0)


def test_ultrafeedback_with_labels_turned_round(shared: Shared) -> None:
    """889 pairs are not tied: with the sides exchanged, each of them is a label against its score."""
    rows = [
        {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
        | {"score_chosen": row["score_rejected"], "score_rejected": row["score_chosen"]}
        for row in lines_of(shared(ULTRAFEEDBACK))
    ]
    result = audit(read(rows))
    assert (result["label_against_score"].count, result["score_tie"].count) == (889, 111)
    assert result["length_bias"].count == 440


def test_alpaca_eval(shared: Shared) -> None:
    path = shared(ALPACA)
    result, rows = audit(read(path)), lines_of(path)
    assert (result.pairs, result.prompts) == (3778, 725)
    assert result["score_tie"].count == 19
    assert result["equal_text"].count == 15
    assert result["equal_text_different_score"].count == 0
    assert result["empty_chosen"].count == 6
    assert result["empty_rejected"].count == 14
    assert result["equal_text"].rows == rows_where(rows, lambda r: last(r, "chosen") == last(r, "rejected"))
    assert result["split_leakage"].count == 0
    # Drawn several times for one instruction: the same two models with the same answers and scores.
    drawn = Counter(
        (r["prompt"], *(str(r[name]) for s in ("chosen", "rejected") for name in (s, f"{s}_model", f"score_{s}")))
        for r in rows
    )
    repeats = sum(drawn.values()) - len(drawn)
    assert f"{repeats} pairs are exact repeats" in result["duplicate_prompt"].says


def same_role(dialogue: str) -> bool:
    speakers = re.findall(r"\n\n(Human|Assistant):", dialogue)
    return any(one == two for one, two in itertools.pairwise(speakers))


def test_hh_rlhf(shared: Shared) -> None:
    """Of the 13 and 5 that the notes count over all 2312 rows, these two files hold 4 and 2."""
    found = {}
    for name in (HH_TRAIN, HH_TEST):
        path = shared(name)
        result, rows = audit(read(path)), lines_of(path)
        turns = result["same_role_turns"]
        assert turns.rows == rows_where(rows, lambda r: same_role(r["chosen"]) or same_role(r["rejected"]))
        found[name] = turns.count, result["prompt_mismatch"].rows, result["empty_chosen"].rows
    assert found[HH_TRAIN] == (4, (1005, 1155), (303, 553, 664))
    assert found[HH_TEST] == (0, (), ())


def test_mtbench_sentinels(shared: Shared) -> None:
    result = audit(read(shared(MTBENCH)))
    found = result["sentinel_score"]
    assert (found.count, found.of, found.level) == (120, "responses", "error")


@pytest.mark.parametrize(
    "name", ["pandalm_human_3annot.jsonl.gz", "llamafactory_dpo_zh_demo.json.gz", "hhh_alignment.jsonl.gz"]
)
def test_other_shapes_are_audited(shared: Shared, name: str) -> None:
    data = read(shared(f"data/extra/{name}"))
    result = audit(data)
    assert (result.prompts, result.responses, result.pairs) == tuple(data.counts())
    assert json.loads(result.to_json())["pairs"] == result.pairs
