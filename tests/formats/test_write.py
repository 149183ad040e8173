"""Flat files: what is written is what is read back, and other trainers' shapes are theirs."""

import json

import polars as pl
import pytest

from pairwright.errors import InputError
from pairwright.formats.read import read
from pairwright.formats.write import export, flat
from pairwright.preferences import Preferences, Step
from pairwright.relabel import relabel

ROWS = [
    {
        "prompt": "Q?",
        "chosen": "gut \u2028 \r\n 好 \x00",
        "rejected": "",
        "score_chosen": 9.25,
        "score_rejected": 1,
        "score_clarity_chosen": 4,
        "score_clarity_rejected": 3,
        "chosen_model": "m1",
        "rejected_model": "m2",
        "split": "test",
        "weight": 0.5,
        "margin": 2.0,
        "topic": "a",
        "reference": "42",
    },
    {
        "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "R?"}],
        "chosen": " a",
        "rejected": "b",
        "score_chosen": None,
        "score_rejected": 0,
        "topic": None,
    },
]
SHOWN = ("prompt", "chosen", "rejected", "score_chosen", "score_rejected", "model_chosen", "model_rejected",
         "weight", "split", "preference")  # fmt: skip
ENDINGS = ("parquet", "jsonl", "jsonl.gz", "jsonl.zst", "json", "json.gz", "json.zst", "csv", "csv.gz", "csv.zst")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_flat_file_is_read_back_as_the_same_pairs(tmp_path, ending):
    prefs = read(ROWS)
    path = export(prefs, tmp_path / f"a.{ending}")
    back = read(path)
    assert back.texts().select(SHOWN).collect().equals(prefs.texts().select(SHOWN).collect())
    assert back.counts() == prefs.counts()
    clarity = back.view("score_clarity").collect()
    assert clarity["score_clarity_chosen"].to_list() == [4.0, None]
    assert back.prompts.collect()["reference"].to_list()[0] == "42"
    assert sorted(child.name for child in tmp_path.iterdir()) == [f"a.{ending}", f"a.{ending}.manifest.json"]


@pytest.mark.parametrize("name", ["ultrafeedback_binarized_sample.jsonl.gz", "judgebench_rm_scores.jsonl.gz"])
@pytest.mark.parametrize("ending", ["parquet", "jsonl.zst", "csv"])
def test_real_data_goes_out_and_comes_back(shared, tmp_path, name, ending):
    prefs = read(shared(f"data/extra/{name}"))
    back = read(export(prefs, tmp_path / f"a.{ending}"))
    assert back.texts().select(SHOWN).collect().equals(prefs.texts().select(SHOWN).collect())


def test_the_manifest_has_the_lineage_the_drops_the_rows_and_the_digest(tmp_path):
    import hashlib

    prefs = read([*ROWS, {"prompt": "p", "chosen": True, "rejected": "r"}])
    prefs = prefs.then(Step(name="pair", dropped={"score_tie": 2, "not_text": 1}))
    path = export(prefs, tmp_path / "a.jsonl")
    manifest = json.loads((tmp_path / "a.jsonl.manifest.json").read_text())
    assert [step["name"] for step in manifest["lineage"]] == ["read", "pair", "export"]
    assert manifest["dropped"] == {"not_text": 2, "score_tie": 2}
    assert manifest["rows"] == 2
    assert manifest["digest"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_goal_comes_back_as_a_number_and_is_not_said_again(tmp_path):
    row = {"prompt": "Aim for 9.\n\nQ?", "chosen": "a", "rejected": "b", "goal": 9.0}
    prefs = read([row])
    assert prefs.pairs.collect()["goal"].to_list() == [9.0]
    assert prefs.goal_format is None
    assert prefs.texts().collect()["prompt"][0][0]["content"] == "Aim for 9.\n\nQ?"
    assert any("already says a goal" in note for note in prefs.lineage[0].notes)
    for ending in ("parquet", "csv"):
        back = read(export(prefs, tmp_path / f"a.{ending}"))
        assert back.pairs.collect()["goal"].to_list() == [9.0]


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_a_relabelled_file_comes_back_with_its_copies(tmp_path, ending):
    rows = [{"prompt": f"{i}?", "chosen": "a", "rejected": "b", "score_chosen": 9, "score_rejected": i} for i in (2, 3)]
    asked = relabel(read(rows))
    back = read(export(asked, tmp_path / f"a.{ending}")).pairs.collect()
    columns = ["goal", "copy", "source_pair"]
    assert back.select(columns).equals(asked.pairs.select(columns).collect())
    assert back["source_pair"].to_list() == [0, 0, 1, 1]


def test_llama_factory_rows_and_their_entry(tmp_path):
    prefs = read(ROWS)
    (tmp_path / "dataset_info.json").write_text('{"other": {"file_name": "o.json"}}')
    path = export(prefs, tmp_path / "mine.json", "llama_factory")
    row = json.loads(path.read_text())[1]
    assert row["conversations"] == [{"from": "system", "value": "S"}, {"from": "human", "value": "R?"}]
    assert (row["chosen"], row["rejected"]) == ({"from": "gpt", "value": " a"}, {"from": "gpt", "value": "b"})
    entries = json.loads((tmp_path / "dataset_info.json").read_text())
    assert entries.keys() == {"other", "mine"}
    assert entries["mine"]["ranking"] is True
    back = read(path)
    assert back.texts().select(SHOWN[:5]).collect().equals(prefs.texts().select(SHOWN[:5]).collect())


def test_another_layout_in_the_same_file_removes_its_entry(tmp_path):
    prefs = read(ROWS)
    info = tmp_path / "dataset_info.json"
    info.write_text('{"other": {"file_name": "o.json"}}')
    export(prefs, tmp_path / "mine.json", "llama_factory")
    export(prefs, tmp_path / "mine.json")
    assert json.loads(info.read_text()).keys() == {"other"}
    assert read(tmp_path / "mine.json").counts() == prefs.counts()
    info.unlink()
    export(prefs, tmp_path / "mine.json", "llama_factory")
    declared = info.read_text()
    export(prefs, tmp_path / "mine.json")
    assert not info.exists()
    info.write_text(declared)  # put there by an older program: its columns are not those of the file
    assert read(tmp_path / "mine.json").lineage[0].settings["format"] == "trl"


def test_llama_factory_counts_the_answers_of_several_turns_that_it_cannot_hold(tmp_path):
    user, one, two = ({"role": r, "content": c} for r, c in (("user", "Q"), ("assistant", "a"), ("assistant", "b")))
    rows = [{"chosen": [user, one, two], "rejected": [user, two]}, {"chosen": [user, one], "rejected": [user, two]}]
    export(read(rows), tmp_path / "a.json", "llama_factory")
    assert json.loads((tmp_path / "a.json.manifest.json").read_text())["dropped"] == {"several_turns": 1}
    with pytest.raises(InputError, match="all 1 pairs have answers of several turns"):
        export(read(rows[:1]), tmp_path / "b.json", "llama_factory")
    assert not (tmp_path / "b.json").exists()


def test_openrlhf_has_whole_conversations_and_scores(tmp_path):
    prefs = read(ROWS)
    path = export(prefs, tmp_path / "a.jsonl", "openrlhf")
    row = json.loads(path.read_text().split("\n")[1])
    assert [turn["role"] for turn in row["chosen"]] == ["system", "user", "assistant"]
    assert "prompt" not in row
    first = json.loads(path.read_text().split("\n")[0])
    assert (first["chosen_score"], first["rejected_score"], first["margin"]) == (9.25, 1.0, 2.0)
    back = read(path)
    assert back.lineage[0].settings["format"] == "openrlhf"
    assert back.texts().select(SHOWN[:5]).collect().equals(prefs.texts().select(SHOWN[:5]).collect())


def test_the_margin_of_openrlhf_is_the_gap_under_the_goal(tmp_path):
    """Scores 9 and 4: 5 without a goal; asked for 9, and asked for 4 turned round, |4 - 9| - 0 = 5 both times."""
    row = {"prompt": "Q?", "chosen": "a", "rejected": "b", "score_chosen": 9, "score_rejected": 4}

    def margins(prefs):
        return flat(prefs, "openrlhf").collect()["margin"].to_list()

    assert margins(read([row])) == [5.0]
    assert margins(relabel(read([row]), "ra")) == [5.0, 5.0]
    # How strongly a source preferred a side it said without a goal.
    said = read([row | {"margin": 2.0}])
    assert (margins(said), margins(relabel(said, "ra"))) == ([2.0], [5.0, 5.0])
    # Asked for 5, 4 is nearer than 9 by 3; unscored, nothing is known.
    asked = read([row]).pairs.with_columns(goal=pl.lit(5.0))
    assert margins(Preferences.of(read([row]).prompts, read([row]).responses, asked)) == [-3.0]
    assert margins(relabel(read([row]), "steerlm")) == [5.0, 5.0]
    two = {"score_x_chosen": 9, "score_x_rejected": 4}
    assert margins(relabel(read([row | two]), "ra", attributes=["x"])) == [None, None]


def test_unpaired_has_two_rows_for_each_pair_chosen_first(tmp_path):
    path = export(read(ROWS), tmp_path / "a.jsonl", "unpaired")
    rows = [json.loads(line) for line in path.read_text().split("\n") if line]
    assert [row["label"] for row in rows] == [True, False, True, False]
    assert [row["completion"][0]["content"] for row in rows] == [r[s] for r in ROWS for s in ("chosen", "rejected")]
    assert [row["score"] for row in rows] == [9.25, 1.0, None, 0.0]
    labelled = read(
        [{"prompt": "Q?", "completion": "a", "label": True}, {"prompt": "Q?", "completion": "b", "label": 0}]
    )
    assert flat(labelled, "unpaired").collect()["label"].to_list() == [True, False]


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_unpaired_scores_come_back_as_scores_and_labels_as_labels(tmp_path, ending):
    back = read(export(read(ROWS), tmp_path / f"a.{ending}", "unpaired"))
    answers = back.responses.collect()
    assert answers["score"].to_list() == [9.25, 1.0, None, 0.0]
    assert answers["score_label"].to_list() == [1.0, 0.0, 1.0, 0.0]
    again = flat(back, "unpaired").collect()
    assert again["label"].to_list() == [True, False, True, False]
    assert again["score"].to_list() == [9.25, 1.0, None, 0.0]
    unscored = [{"prompt": "Q?", "completion": "a", "label": True, "score": None}]
    assert read(unscored).responses.collect()["score"].to_list() == [1.0]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_goals_and_weights_of_any_size_come_back(tmp_path, ending):
    numbers = [2e20, 1e-7, -3.5e-300, 7.0]
    rows = [{"prompt": f"{n}?", "chosen": "a", "rejected": "b", "goal": n, "weight": abs(n)} for n in numbers]
    back = read(export(read(rows), tmp_path / f"a.{ending}")).pairs.collect()
    assert back["goal"].to_list() == numbers
    assert back["weight"].to_list() == [2e20, 1e-7, 3.5e-300, 7.0]


def test_a_weight_of_text_is_a_number_and_one_that_is_none_is_noted():
    weights = ["1e-5", "", float("nan"), "heavy", "inf", None, 0.5]
    rows = [{"prompt": f"{i}?", "chosen": "a", "rejected": "b", "weight": w} for i, w in enumerate(weights)]
    prefs = read(rows)
    assert prefs.pairs.collect()["weight"].to_list() == [1e-5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5]
    assert prefs.lineage[0].notes == ("3 rows: a weight that is not a finite number became 1",)
    assert prefs.pairs.collect()["source_weight"].drop_nulls().to_list() == ["heavy"]


def test_prompts_alone(tmp_path):
    path = export(read(ROWS), tmp_path / "a.parquet", "prompts")
    assert pl.read_parquet(path).height == 2
    assert read(path).counts() == (2, 0, 0)


@pytest.mark.parametrize(
    ("names", "score", "model"),
    [("argilla", "chosen-rating", "chosen-model"), ("distilabel", "chosen_rating", "chosen_model")],
)
def test_other_peoples_names_for_scores(tmp_path, names, score, model):
    path = export(read(ROWS), tmp_path / "a.jsonl", names=names)
    row = json.loads(path.read_text().split("\n")[0])
    assert (row[score], row[model]) == (9.25, "m1")
    assert read(path).view("score").collect()["score_chosen"].to_list() == [9.25, None]


def test_wrong_requests_are_one_sentence(tmp_path):
    prefs = read(ROWS)
    with pytest.raises(InputError, match=r"give a name that ends in \.parquet"):
        export(prefs, tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"give a name that ends in \.parquet"):
        export(prefs, tmp_path / "a.parquet.gz")
    with pytest.raises(InputError, match="no layout 'trll'; did you mean 'trl'"):
        export(prefs, tmp_path / "a.jsonl", "trll")
    with pytest.raises(InputError, match="no names 'argila'; did you mean 'argilla'"):
        export(prefs, tmp_path / "a.jsonl", names="argila")
    with pytest.raises(InputError, match="1 answers and no pairs to write; make pairs first"):
        export(read([{"prompt": "p", "response": "r", "score": 1}]), tmp_path / "a.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_export_says_why_it_is_empty(tmp_path):
    pairs = read(ROWS)
    step = Step(name="select", rows_in=2, rows_out=0, dropped={"score_tie": 2, "no_metric": 0})
    none = pairs.then(step, pairs=pairs.pairs.head(0))
    with pytest.raises(InputError, match=r"no pairs to write: select kept none \(2 score_tie\); change"):
        export(none, tmp_path / "a.jsonl")
    with pytest.raises(InputError, match="there are 1 prompts and no answers; use the layout 'prompts'"):
        export(read([{"prompt": "Q?"}], columns={"prompt": "prompt"}), tmp_path / "a.jsonl")


def test_a_flat_file_does_not_replace_a_directory(tmp_path):
    (tmp_path / "s.parquet").mkdir()
    (tmp_path / "s.parquet" / "part-0").write_text("precious")
    with pytest.raises(InputError, match=r"s\.parquet is a directory"):
        export(read(ROWS), tmp_path / "s.parquet")
    assert (tmp_path / "s.parquet" / "part-0").read_text() == "precious"


def test_a_nul_in_a_cell_of_csv_comes_back(tmp_path):
    back = read(export(read([{**ROWS[0], "topic": "a\x00b"}]), tmp_path / "a.csv"))
    assert back.pairs.collect()["topic"].to_list() == ["a\x00b"]


def test_frames_and_datasets_go_out_and_come_back():
    prefs = read(ROWS)
    expected = prefs.texts().select(SHOWN).collect()
    for out in (prefs.to_polars(), prefs.to_pandas(), prefs.to_dataset()):
        assert read(out).texts().select(SHOWN).collect().equals(expected)
    assert prefs.to_dataset().column_names[:3] == ["prompt", "chosen", "rejected"]
    assert prefs.to_dataset()[1]["chosen"] == [{"role": "assistant", "content": " a"}]


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_numbers_of_the_answers_go_out_and_come_back_as_those_of_the_pairs(tmp_path, ending):
    prefs = read(ROWS)
    row = pl.int_range(pl.len())
    answers = prefs.responses.with_columns(
        logp_ref=-1.5 * row, len_ref=row, implicit_reward=pl.when(row > 0).then(row / 4), note=pl.lit("a"), goal=row / 1
    )
    path = export(Preferences.of(prefs.prompts, answers, prefs.pairs), tmp_path / f"a.{ending}")
    written = {"logp_ref_chosen": [0.0, -3.0], "logp_ref_rejected": [-1.5, -4.5],
               "len_ref_chosen": [0, 2], "len_ref_rejected": [1, 3],
               "implicit_reward_chosen": [None, 0.5], "implicit_reward_rejected": [0.25, 0.75]}  # fmt: skip
    back = read(path)
    found = back.view("logp_ref", "len_ref", "implicit_reward").collect()
    assert {name: [None if cell in (None, "") else float(cell) for cell in found[name]] for name in written} == written
    if ending != "csv":
        assert found.select(*written).to_dict(as_series=False) == written
        assert all(kind.is_numeric() for kind in found.select(*written).schema.values())
    names = flat(back, "trl").collect_schema().names()
    assert names[:8] == ["prompt", "chosen", "rejected", "score_chosen", "score_rejected", "goal", "model_chosen",
                         "model_rejected"]  # fmt: skip
    assert not {"note_chosen", "goal_chosen", "response_id_chosen"} & set(names)


def test_log_probabilities_under_plain_prompts_do_not_stand_beside_prompts_with_goals():
    prefs = read(ROWS)
    answers = prefs.responses.with_columns(logp_ref=pl.lit(-1.0), len_ref=pl.lit(2), implicit_reward=pl.lit(3.0))
    asked = prefs.pairs.with_columns(goal=pl.lit(8.0))
    names = flat(Preferences.of(prefs.prompts, answers, asked), "trl").collect_schema().names()
    assert "implicit_reward_chosen" in names
    assert not [name for name in names if name.startswith(("logp_", "len_"))]
    own = asked.with_columns(logp_ref_chosen=pl.lit(-5.0), logp_ref_rejected=pl.lit(-6.0))
    frame = flat(Preferences.of(prefs.prompts, answers, own), "trl").collect()
    assert frame.select("logp_ref_chosen", "logp_ref_rejected").rows() == [(-5.0, -6.0)] * 2
