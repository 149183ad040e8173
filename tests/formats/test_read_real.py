"""Real files, counted: the expected numbers are those of the data's own README, or an independent count made here."""

import gzip
import json
import re
from itertools import pairwise

import polars as pl
import pytest

from pairwright.errors import InputError
from pairwright.formats.read import read


def lines(path):
    with gzip.open(path) as file:
        return [json.loads(line) for line in file.read().decode().split("\n") if line.strip()]


def sides(prefs):
    """Texts of single-message answers and their scores."""
    return prefs.texts().select(
        "prompt",
        pl.col("chosen").list.last().struct.field("content").alias("chosen"),
        pl.col("rejected").list.last().struct.field("content").alias("rejected"),
        "score_chosen",
        "score_rejected",
    )


def step(prefs):
    return prefs.lineage[0]


def test_ultrafeedback_binarized_counts(shared):
    path = shared("data/extra/ultrafeedback_binarized_sample.jsonl.gz")
    prefs = read(path)
    assert step(prefs).settings["format"] == "ultrafeedback_binarized"
    assert prefs.counts().pairs == step(prefs).rows_in == step(prefs).rows_out == 1000
    table = sides(prefs).with_row_index().collect()
    assert table.filter(pl.col("score_chosen") == pl.col("score_rejected")).height == 111
    equal = table.filter(pl.col("chosen") == pl.col("rejected"))
    assert equal["index"].to_list() == [306, 655, 910, 997]
    assert (equal["score_chosen"] != equal["score_rejected"]).to_list() == [False, True, True, True]
    assert table.filter(pl.col("chosen") == "")["index"].to_list() == [833]
    assert table.filter(pl.col("rejected") == "")["index"].to_list() == [478]
    # Two answers to each prompt, one prompt to each row, and the tied equal pair of row 306 is one answer.
    assert prefs.counts() == (1000, 1999, 1000)


def test_every_text_of_ultrafeedback_is_byte_for_byte_what_the_file_says(shared):
    path = shared("data/extra/ultrafeedback_binarized_sample.jsonl.gz")
    raw = lines(path)
    table = read(path).texts().collect()
    for row, source in zip(table.iter_rows(named=True), raw, strict=True):
        assert row["prompt"] + row["chosen"] == source["chosen"]
        assert row["prompt"] + row["rejected"] == source["rejected"]
        assert (row["score_chosen"], row["score_rejected"]) == (source["score_chosen"], source["score_rejected"])
        assert row["source_prompt_id"] == source["prompt_id"]
        assert row["source_index"] == source["source_index"]
    outer = [row["prompt"] != row["prompt"].strip() for row in raw]
    kept = [row["prompt"][0]["content"] != row["prompt"][0]["content"].strip() for row in table.iter_rows(named=True)]
    assert sum(outer) == 77
    assert outer == kept


def test_alpaca_eval_pairs_counts(shared):
    prefs = read(shared("data/alpaca_eval_pairs.jsonl.gz"))
    table = sides(prefs).collect()
    assert table.height == 3778
    tied = table.filter(pl.col("score_chosen") == pl.col("score_rejected"))
    assert tied.height == 19
    assert tied.filter(pl.col("chosen") == pl.col("rejected")).height == 15
    gap = table["score_chosen"] - table["score_rejected"]
    assert (gap < 0.01).sum() == 966
    assert (gap >= 8).sum() == 664
    assert (table["score_chosen"].round(0) == table["score_rejected"].round(0)).sum() == 1493
    assert (table["chosen"] == "").sum() == 6
    assert (table["rejected"] == "").sum() == 14
    starts = table.filter(pl.col("rejected").str.starts_with(pl.col("chosen")), pl.col("chosen") != pl.col("rejected"))
    assert starts.filter(pl.col("chosen") != "").height <= 7
    splits = dict(prefs.pairs.collect()["split"].value_counts().iter_rows())
    assert splits == {"train": 3401, "test": 377}
    assert prefs.pairs.filter(pl.col("strategy") == "vs_nullmodel").collect().height == 153
    assert set(prefs.view("model").collect()["model_chosen"].unique()) == {
        row["chosen_model"] for row in lines(shared("data/alpaca_eval_pairs.jsonl.gz"))
    }


def test_split_keeps_the_rows_of_one_split_and_counts_the_others(shared):
    prefs = read(shared("data/alpaca_eval_pairs.jsonl.gz"), split="test")
    assert prefs.counts().pairs == 377
    assert prefs.dropped == {"other_split": 3401}
    with pytest.raises(InputError, match=r"no rows of split 'dev'; it has test, train"):
        read(shared("data/alpaca_eval_pairs.jsonl.gz"), split="dev")


def independent_turns(text):
    """A second road to the turns of hh-rlhf: find every speaker, cut between them."""
    found = [(m.start(), m.end(), m.group(1)) for m in re.finditer(r"\n\n(Human|Assistant):", text)]
    ends = [start for start, _, _ in found[1:]] + [len(text)]
    return [(who, text[end:stop]) for (_, end, who), stop in zip(found, ends, strict=True)]


@pytest.mark.parametrize(("part", "rows", "same", "mismatch"), [("train", 1351, 4, 2), ("test", 261, 0, 0)])
def test_hh_rlhf_same_role_turns_and_diverging_prompts(shared, part, rows, same, mismatch):
    path = shared(f"data/hh_rlhf_sample_{part}.jsonl.gz")
    prefs = read(path)
    assert prefs.counts().pairs == rows
    assert step(prefs).dropped == {}
    repeats, differ, empty = [], [], []
    for index, row in enumerate(prefs.texts().collect().iter_rows(named=True)):
        speakers = [[turn["role"] for turn in row["prompt"] + row[side]] for side in ("chosen", "rejected")]
        if any(a == b for roles in speakers for a, b in pairwise(roles)):
            repeats.append(index)
        if row.get("prompt_mismatch"):
            differ.append(index)
        if row["chosen"][-1]["content"] == "":
            empty.append(index)
    raw = lines(path)
    expected = [
        i
        for i, row in enumerate(raw)
        if any(
            a[0] == b[0]
            for side in ("chosen", "rejected")
            for turns in [independent_turns(row[side])]
            for a, b in pairwise(turns)
        )
    ]
    assert repeats == expected
    assert len(repeats) == same
    assert len(differ) == mismatch
    if part == "train":
        assert differ == [1005, 1155]
        assert empty == [303, 553, 664]


def test_hh_rlhf_loses_no_character(shared):
    path = shared("data/hh_rlhf_sample_train.jsonl.gz")
    names = {"user": "Human", "assistant": "Assistant"}
    for row, source in zip(read(path).texts().collect().iter_rows(named=True), lines(path), strict=True):
        for side in ("chosen", "rejected"):
            turns = row["prompt"] + row[side]
            assert "".join(f"\n\n{names[t['role']]}: {t['content']}" for t in turns) == source[side]


def test_where_the_prompts_of_hh_rlhf_differ_the_rest_of_each_side_is_its_response(shared):
    table = read(shared("data/hh_rlhf_sample_train.jsonl.gz")).texts().collect()
    row = table.row(1005, named=True)
    assert [turn["role"] for turn in row["prompt"]] == ["user", "assistant", "user"]
    assert [turn["role"] for turn in row["chosen"]] == ["assistant", "assistant"]
    assert [turn["role"] for turn in row["rejected"]] == ["assistant"]


def test_scored_outputs_merge_only_what_agrees_in_text_model_and_score(shared):
    path = shared("data/alpaca_eval_scored.parquet")
    prefs = read(path)
    source = pl.read_parquet(path)
    expected = source.select("instruction", "output", "model", "preference").unique().height
    assert prefs.counts().responses == expected
    assert prefs.counts().prompts == source["instruction"].n_unique()
    assert prefs.responses.select(pl.col("score").mean()).collect().item() == pytest.approx(
        source.select("instruction", "output", "model", "preference").unique()["preference"].mean()
    )


def test_best_of_16_has_null_and_not_zero_where_nothing_was_judged(shared):
    path = shared("data/extra/tulu2_best_of_16.parquet")
    source = pl.read_parquet(path).with_columns(pl.col("preference").fill_nan(None))
    prefs = read(path)
    expected = source.select("instruction", "output", "preference").unique()
    assert prefs.counts().responses == expected.height
    answers = prefs.responses.collect()
    assert answers["score"].null_count() == expected["preference"].null_count() > 0


@pytest.mark.parametrize(
    ("name", "form", "rows", "pairs"),
    [
        ("autoj_human_pairwise.jsonl.gz", "auto_j", 998, None),
        ("hhh_alignment.jsonl.gz", "trl", 221, 221),
        ("judgebench_rm_scores.jsonl.gz", "judgebench", 250, 250),
        ("llamafactory_dpo_en_demo.json.gz", "llama_factory", 300, 300),
        ("llamafactory_dpo_zh_demo.json.gz", "llama_factory", 300, 300),
        ("llamafactory_kto_en_demo.json.gz", "unpaired_messages", 300, 0),
        ("llamafactory_v1_dpo_demo.jsonl.gz", "llama_factory_v1", 10, 10),
        ("llmbar_and_processed.jsonl.gz", "llmbar", 879, 879),
        ("mtbench_single_judgments_granite7b.jsonl.gz", "mt_bench_single", 160, 0),
        ("mtbench_vicuna_gpt4_ratings.jsonl.gz", "prometheus_ratings", 612, 0),
        ("rmbench_sample.jsonl.gz", "rm_bench", 294, 294 * 9),
        ("torchtune_stack_exchange_paired_tiny.json", "stack_exchange_paired", 25, 25),
    ],
)
def test_every_real_file_is_detected_and_read_whole(shared, name, form, rows, pairs):
    prefs = read(shared(f"data/extra/{name}"))
    assert step(prefs).settings["format"] == form
    assert (step(prefs).rows_in, step(prefs).rows_out, step(prefs).dropped) == (rows, rows, {})
    if pairs is not None:
        assert prefs.counts().pairs == pairs


def test_auto_j_ties_give_no_pair_and_are_counted(shared):
    path = shared("data/extra/autoj_human_pairwise.jsonl.gz")
    raw = lines(path)
    ties = sum(row["label"] == 2 for row in raw)
    prefs = read(path)
    assert prefs.counts().pairs == len(raw) - ties
    assert f"{ties:,} rows: a tie by the source gives no pair" in step(prefs).notes
    decided = [row for row in raw if row["label"] != 2]
    for row, source in zip(prefs.texts().collect().iter_rows(named=True), decided, strict=True):
        assert row["chosen"][0]["content"] == source[f"response {source['label'] + 1}"]
        assert row["score_chosen"] is None


def test_pandalm_booleans_are_rejected_and_empty_answers_are_read(shared, tmp_path):
    path = shared("data/extra/pandalm_human_3annot.jsonl.gz")
    raw = lines(path)
    rejects = tmp_path / "out.rejected.jsonl"
    prefs = read(path, rejects=rejects)
    assert step(prefs).dropped == {"not_text": 6}
    found = [json.loads(line) for line in rejects.read_text().splitlines()]
    bad = [i for i, row in enumerate(raw, start=1) if any(isinstance(row[f"response{n}"], bool) for n in (1, 2))]
    assert [row["line"] for row in found] == bad
    assert all(json.loads(row["raw"]) == raw[row["line"] - 1] for row in found)
    empty = sum(any(row[f"response{n}"] == "" for n in (1, 2)) for row in raw)
    assert empty == 54
    with pytest.raises(InputError, match=rf"line {bad[0]}: 'response\d' is a boolean, not text"):
        read(path, strict=True)


def test_mt_bench_keeps_the_sentinel_for_the_audit(shared):
    answers = read(shared("data/extra/mtbench_single_judgments_granite7b.jsonl.gz")).responses.collect()
    assert (answers["score"] == -1).sum() == 120
    assert (answers["score"] == 0).sum() == 2


def test_judgebench_scores_stay_with_their_answer(shared):
    path = shared("data/extra/judgebench_rm_scores.jsonl.gz")
    model = "Skywork/Skywork-Reward-Llama-3.1-8B"
    view = read(path).view(f"score_{model}").collect()
    for row, source in zip(view.iter_rows(named=True), lines(path), strict=True):
        a, b = source["rm_scores"][model]
        expected = (a, b) if source["label"] == "A>B" else (b, a)
        assert (row[f"score_{model}_chosen"], row[f"score_{model}_rejected"]) == expected


def test_llama_factory_roles_and_kto_labels(shared):
    table = read(shared("data/extra/llamafactory_dpo_en_demo.json.gz")).texts().collect()
    roles = {turn["role"] for prompt in table["prompt"] for turn in prompt}
    assert roles == {"system", "user", "assistant"}
    first = [prompt[0]["role"] for prompt in table["prompt"].to_list()]
    assert first.count("system") == 80
    answers = read(shared("data/extra/llamafactory_kto_en_demo.json.gz")).responses.collect()
    assert (answers["score"] == 1).sum() == (answers["score"] == 0).sum() == 150


def test_content_parts_of_llama_factory_v1_become_text(shared):
    path = shared("data/extra/llamafactory_v1_dpo_demo.jsonl.gz")
    row = read(path).texts().collect().row(0, named=True)
    source = lines(path)[0]
    assert row["prompt"][0]["content"] == source["chosen_messages"][0]["content"][0]["value"]
    assert row["rejected"][0]["content"] == source["rejected_messages"][-1]["content"][0]["value"]


def test_broken_korean_lines_go_to_the_rejects_by_reason(shared, tmp_path):
    path = shared("data/dirty/ko_hh_rlhf_broken_lines.txt")
    raw = path.read_bytes().split(b"\n")
    broken = 0
    for line in filter(bytes.strip, raw):
        try:
            json.loads(line)
        except ValueError:
            broken += 1
    prefs = read(path, rejects=tmp_path / "rejected.jsonl")
    good = sum(bool(line.strip()) for line in raw) - broken
    assert prefs.dropped["not_json"] == broken
    assert prefs.dropped["missing_column"] == good - 1  # the keys were translated too, but in one row
    assert prefs.counts().pairs == 1
    assert len((tmp_path / "rejected.jsonl").read_text().splitlines()) == sum(prefs.dropped.values())


def test_a_git_lfs_pointer_is_refused_in_one_sentence(shared):
    with pytest.raises(InputError, match=r"is a Git-LFS pointer, not the data; run 'git lfs pull'"):
        read(shared("data/dirty/helpful_base_train_LFS_POINTER.jsonl.gz"))


def test_the_schema_example_with_comments_is_refused_with_its_line(shared):
    with pytest.raises(InputError, match=r"line 2: not JSON .*no comments"):
        read(shared("data/extra/ultrafeedback_schema_example.jsonc"))


def test_no_file_of_the_folder_gives_a_traceback(shared):
    for path in sorted(shared("data").rglob("*")):
        if path.name in {"tulu2_best_of_16.parquet", "alpaca_eval_scored.parquet"}:
            continue  # read above
        try:
            assert read(path, limit=500).counts().prompts > 0
        except InputError as error:
            sentence = str(error)
        else:
            continue
        assert "\n" not in sentence
        assert path.name in sentence


def test_limit_reads_the_first_rows_only(shared):
    path = shared("data/extra/ultrafeedback_binarized_sample.jsonl.gz")
    few = read(path, limit=7)
    assert step(few).rows_in == few.counts().pairs == 7
    assert few.texts().collect().equals(read(path).texts().head(7).collect())
