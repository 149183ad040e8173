"""Each format on a hand-made row of its published shape."""

import json

import pytest

from pairwright.errors import InputError
from pairwright.formats.read import read
from pairwright.formats.record import Answer, Record
from pairwright.formats.table import FORMATS, detected, listing

U, A = {"role": "user", "content": "Q?"}, {"role": "assistant", "content": "good"}
B = {"role": "assistant", "content": "bad"}
S = {"role": "system", "content": "Be brief."}


def said(turns):
    return [turn["content"] for turn in turns]


PAIRS = {
    # name: (format, row, what is expected of the pair beyond Q? / good / bad)
    "explicit standard": ("trl", {"prompt": "Q?", "chosen": "good", "rejected": "bad"}, {}),
    "explicit conversational": ("trl", {"prompt": [U], "chosen": [A], "rejected": [B]}, {}),
    "mixed": ("trl", {"prompt": [U], "chosen": "good", "rejected": [B]}, {}),
    "text prompt, message answers": ("trl", {"prompt": "Q?", "chosen": [A], "rejected": [B]}, {}),
    "implicit conversational": ("trl_implicit", {"chosen": [U, A], "rejected": [U, B]}, {}),
    "implicit standard": ("trl_implicit", {"chosen": "Q? good", "rejected": "Q? bad"}, {"spaced": True}),
    "prompt repeated in the sides": ("trl", {"prompt": [U], "chosen": [U, A], "rejected": [U, B]}, {}),
    "margin": ("trl", {"prompt": "Q?", "chosen": "good", "rejected": "bad", "margin": 1.5}, {"preference": 1.5}),
    "ultrafeedback_binarized": (
        "ultrafeedback_binarized",
        {
            "prompt": "Q?",
            "prompt_id": "x",
            "chosen": [U, A],
            "rejected": [U, B],
            "messages": [U, A],
            "score_chosen": 9.0,
            "score_rejected": 2.5,
        },
        {"scores": (9.0, 2.5), "columns": {"source_prompt_id"}},
    ),
    "argilla": (
        "argilla",
        {
            "source": "s",
            "prompt": "Q?",
            "chosen": [U, A],
            "chosen-rating": 5.0,
            "chosen-model": "m1",
            "rejected": [U, B],
            "rejected-rating": 1.0,
            "rejected-model": "m2",
        },
        {"scores": (5.0, 1.0), "models": ("m1", "m2"), "columns": {"source"}},
    ),
    "argilla average": (
        "argilla_average",
        {
            "instruction": "Q?",
            "chosen_response": "good",
            "rejected_response": "bad",
            "chosen_avg_rating": 4.5,
            "rejected_avg_rating": 2.0,
            "chosen_model": "m1",
        },
        {"scores": (4.5, 2.0), "models": ("m1", None)},
    ),
    "orca": (
        "orca_pairs",
        {
            "system": "",
            "input": "Q?",
            "chosen": "good",
            "rejected": "bad",
            "rating": [9.0, 7.0],
            "status": "unchanged",
            "chosen_score": 9.0,
            "in_gsm8k_train": False,
        },
        {"scores": (9.0, None), "columns": {"rating", "status", "in_gsm8k_train"}},
    ),
    "distilabel": (
        "distilabel",
        {
            "prompt": "Q?",
            "prompt_id": "i",
            "chosen": [U, A],
            "chosen_model": "m1",
            "chosen_rating": 5,
            "rejected": [U, B],
            "rejected_model": "m2",
            "rejected_rating": 4,
        },
        {"scores": (5.0, 4.0), "models": ("m1", "m2"), "columns": {"source_prompt_id"}},
    ),
    "skywork": ("skywork", {"chosen": [U, A], "rejected": [U, B], "source": "magpie"}, {"columns": {"source"}}),
    "openrlhf": (
        "openrlhf",
        {"chosen": [U, A], "rejected": [U, B], "chosen_score": 3, "rejected_score": -1},
        {"scores": (3.0, -1.0)},
    ),
    "nemo aligner": (
        "nemo_aligner",
        {
            "prompt": "Q?",
            "chosen_response": "good",
            "rejected_response": "bad",
            "chosen_reward": 2,
            "rejected_reward": 1,
        },
        {"scores": (2.0, 1.0)},
    ),
    "nemo rl": (
        "nemo_rl",
        {"context": [U], "completions": [{"rank": 1, "completion": [B]}, {"rank": 0, "completion": [A]}]},
        {},
    ),
    "torchtune": ("stack_exchange_paired", {"question": "Q?", "response_j": "good", "response_k": "bad"}, {}),
    "hh": (
        "hh_rlhf",
        {"chosen": "\n\nHuman: Q?\n\nAssistant: good", "rejected": "\n\nHuman: Q?\n\nAssistant: bad"},
        {},
    ),
    "hh prompt": ("trl", {"prompt": "\n\nHuman: Q?\n\nAssistant:", "chosen": "good", "rejected": "bad"}, {}),
    "shp A": (
        "shp",
        {"history": "Q?", "human_ref_A": "good", "human_ref_B": "bad", "labels": 1, "score_A": 12, "score_B": 3},
        {"scores": (12.0, 3.0)},
    ),
    "shp B": (
        "shp",
        {"history": "Q?", "human_ref_A": "bad", "human_ref_B": "good", "labels": 0, "score_A": 1, "score_B": 8},
        {"scores": (8.0, 1.0)},
    ),
    "pku": (
        "pku_saferlhf",
        {
            "prompt": "Q?",
            "response_0": "bad",
            "response_1": "good",
            "is_response_0_safe": True,
            "is_response_1_safe": False,
            "better_response_id": 1,
            "safer_response_id": 0,
        },
        {"columns": {"safer_response_id"}},
    ),
    "halos": (
        "halos",
        {"prompt": [U], "output_A": [B], "output_B": [A], "reward_A": 0.1, "reward_B": 0.7, "label": 0, "type": "p"},
        {"scores": (0.7, 0.1), "columns": {"type"}},
    ),
    "helpsteer3 first": (
        "helpsteer3",
        {"context": [U], "response1": "good", "response2": "bad", "overall_preference": -3},
        {"preference": 3.0},
    ),
    "helpsteer3 second": (
        "helpsteer3",
        {"context": [U], "response1": "bad", "response2": "good", "overall_preference": 1},
        {"preference": 1.0},
    ),
    "alpaca eval": (
        "alpaca_eval",
        {
            "instruction": "Q?",
            "output_1": "bad",
            "generator_1": "m0",
            "output_2": "good",
            "generator_2": "m1",
            "preference": 1.9,
        },
        {"preference": pytest.approx(0.9), "models": ("m1", "m0")},
    ),
    "sharegpt": (
        "llama_factory",
        {
            "conversations": [{"from": "human", "value": "Q?"}],
            "chosen": {"from": "gpt", "value": "good"},
            "rejected": {"from": "gpt", "value": "bad"},
        },
        {},
    ),
    "alpaca": ("llama_factory_alpaca", {"instruction": "Q?", "input": "", "chosen": "good", "rejected": "bad"}, {}),
    "v1": (
        "llama_factory_v1",
        {
            "chosen_messages": [
                {"role": "user", "content": [{"type": "text", "value": "Q?"}], "loss_weight": 0.0},
                {"role": "assistant", "content": [{"type": "text", "value": "good"}], "loss_weight": 1.0},
            ],
            "rejected_messages": [U, B],
        },
        {},
    ),
}


@pytest.mark.parametrize("case", PAIRS)
def test_a_pair_of_each_format(case):
    name, row, expected = PAIRS[case]
    prefs = read([row, dict(row)])
    assert prefs.lineage[0].settings["format"] == name
    assert prefs.counts() == (1, 2, 2)
    pair = prefs.texts().collect().row(0, named=True)
    lead = " " if expected.get("spaced") else ""
    assert said(pair["prompt"]) == ["Q?"]
    assert (said(pair["chosen"]), said(pair["rejected"])) == ([lead + "good"], [lead + "bad"])
    assert [turn["role"] for turn in pair["prompt"] + pair["chosen"]] == ["user", "assistant"]
    assert (pair["score_chosen"], pair["score_rejected"]) == expected.get("scores", (None, None))
    assert (pair["model_chosen"], pair["model_rejected"]) == expected.get("models", (None, None))
    assert pair["preference"] == expected.get("preference")
    assert not pair.get("prompt_mismatch")
    standard = {"prompt_id", "chosen_id", "rejected_id", "goal", "weight", "split", "preference"}
    assert set(prefs.pairs.collect_schema()) - standard == expected.get("columns", set())


def test_every_format_that_this_file_does_not_name_is_tested_on_a_real_file():
    here = {name for name, _, _ in PAIRS.values()} | {
        "ultrafeedback", "princeton", "nectar", "helpsteer", "unpaired", "prompt_completion", "prompts", "messages",
        "scored", "unpaired_scored",
    }  # fmt: skip
    real = {
        "auto_j", "judgebench", "llmbar", "pandalm", "rm_bench", "mt_bench_single", "prometheus_ratings",
        "unpaired_messages", "alpaca_eval_outputs",
    }  # fmt: skip
    assert here | real == set(FORMATS)
    assert all(name == form.name and form.says and form.source for name, form in FORMATS.items())
    assert [row["name"] for row in listing()] == list(FORMATS)


def raw_ultrafeedback(overall, ratings, **more):
    notes = {name: {"Rating": value, "Rationale": "r"} for name, value in ratings.items()}
    return {"model": "m", "response": f"answer {overall}", "annotations": notes, "overall_score": overall, **more}


def test_raw_ultrafeedback_scores_and_its_known_fault():
    aspects = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    row = {
        "source": "s",
        "instruction": "Q?",
        "models": ["a", "b"],
        "completions": [
            raw_ultrafeedback(8.5, dict(zip(aspects, ("4", "N/A", "5", "3"), strict=True)), principle="honesty"),
            raw_ultrafeedback(10, dict.fromkeys(aspects, "1")),
            raw_ultrafeedback(10, dict.fromkeys(aspects, "5")),
        ],
    }
    prefs = read([row])
    answers = prefs.responses.collect()
    assert prefs.counts() == (1, 3, 0)
    assert answers["score"].to_list() == [8.5, 10.0, 10.0]  # the fault is told, never repaired
    assert answers["score_honesty"].to_list() == [None, 1.0, 5.0]
    assert answers["score_truthfulness"].to_list() == [5.0, 1.0, 5.0]
    assert answers["principle"].to_list() == ["honesty", None, None]
    notes = prefs.lineage[0].notes
    assert any(note.startswith("1 rows: overall_score is 10 beside ratings of 2 or less") for note in notes)
    assert "1 rows: a score of 'N/A' became null" in notes


def test_princeton_scores_every_answer_and_keeps_the_pair():
    row = {
        "prompt": "Q?", "prompt_id": "p", "all_generated_responses": ["bad", "good", "middling"],
        "all_rm_scores": [0.1, 0.9, 0.5], "chosen": [U, A], "rejected": [U, B],
    }  # fmt: skip
    prefs = read([row])
    assert prefs.counts() == (1, 3, 1)
    view = prefs.view("score").collect()
    assert (view["score_chosen"][0], view["score_rejected"][0]) == (0.9, 0.1)


def test_nectar_rank_is_turned_round_and_said():
    answers = [{"answer": f"rank {rank}", "model": f"m{rank}", "rank": float(rank)} for rank in (3, 1, 2)]
    prefs = read([{"prompt": "\n\nHuman: Q?\n\nAssistant: ", "answers": answers, "turns": 1, "num_responses": 3}])
    found = prefs.responses.collect()
    assert dict(zip(found["model"], found["score"], strict=True)) == {"m1": 3.0, "m2": 2.0, "m3": 1.0}
    assert said(prefs.prompts.collect()["prompt"][0]) == ["Q?"]
    assert any("rank turned round" in note for note in prefs.lineage[0].notes)


def test_helpsteer_neighbours_are_answers_to_one_prompt():
    attributes = {"helpfulness": 3, "correctness": 4, "coherence": 4, "complexity": 1, "verbosity": 2}
    rows = [
        {"prompt": "Q?", "response": "one", **attributes},
        {"prompt": "Q?", "response": "two", **attributes | {"helpfulness": 1}},
    ]
    prefs = read(rows)
    assert prefs.counts() == (1, 2, 0)
    found = prefs.responses.collect()
    assert found["score"].to_list() == found["score_helpfulness"].to_list() == [3.0, 1.0]
    assert found["score_verbosity"].to_list() == [2.0, 2.0]
    assert any("score is helpfulness" in note for note in prefs.lineage[0].notes)


def test_helpsteer2_turns_of_one_text_become_messages():
    words = "Q?\n<extra_id_1>Assistant\ngood\n<extra_id_1>User\nMore?\n<extra_id_1>Assistant\n"
    row = {"prompt": words, "response": "yes", "helpfulness": 3, "correctness": 4}
    turns = read([row]).prompts.collect()["prompt"][0]
    assert [(t["role"], t["content"]) for t in turns] == [("user", "Q?"), ("assistant", "good"), ("user", "More?")]


def test_helpsteer3_tie_gives_no_pair_and_is_counted():
    prefs = read([{"context": [U], "response1": "a", "response2": "b", "overall_preference": 0, "domain": "code"}])
    assert prefs.counts() == (1, 2, 0)
    assert "1 rows: a tie by the source (overall_preference 0) gives no pair" in prefs.lineage[0].notes


def test_unpaired_label_is_a_yes_or_no_score():
    rows = [
        {"prompt": "Q?", "completion": "good", "label": True},
        {"prompt": "Q?", "completion": "bad", "label": False},
    ]
    assert read(rows).responses.collect()["score"].to_list() == [1.0, 0.0]


def test_prompts_completions_and_conversations_without_comparison():
    assert read([{"prompt": "Q?", "source": "s"}]).counts() == (1, 0, 0)
    assert read([{"prompt": [U], "completion": [A]}]).counts() == (1, 1, 0)
    assert read([{"messages": [U, A]}]).counts() == (1, 1, 0)
    prefs = read([{"prompt": "Q?", "response": "x", "score": 3, "score_clarity": 4, "sample": 7}])
    assert prefs.responses.collect().select("score", "score_clarity", "sample").rows() == [(3.0, 4.0, 7)]


def test_a_system_column_and_history_open_the_prompt():
    row = {"instruction": "Q?", "input": "x", "chosen": "a", "rejected": "b", "system": "S", "history": [["q", "a"]]}
    prompt = read([row]).prompts.collect()["prompt"][0]
    assert [(t["role"], t["content"]) for t in prompt] == [
        ("system", "S"), ("user", "q"), ("assistant", "a"), ("user", "Q?\nx"),
    ]  # fmt: skip


def test_dataset_info_beside_the_file_names_columns_and_tags(tmp_path):
    entry = {
        "file_name": "mine.json", "ranking": True, "formatting": "sharegpt",
        "columns": {"messages": "talk", "chosen": "win", "rejected": "lose"},
        "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "me", "assistant_tag": "it"},
    }  # fmt: skip
    row = {
        "talk": [{"who": "me", "what": "Q?"}],
        "win": {"who": "it", "what": "good"},
        "lose": {"who": "it", "what": "bad"},
    }  # fmt: skip
    (tmp_path / "mine.json").write_text(json.dumps([row]))
    (tmp_path / "dataset_info.json").write_text(json.dumps({"mine": entry}))
    pair = read(tmp_path / "mine.json").texts().collect().row(0, named=True)
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == ([U], [A], [B])
    (tmp_path / "dataset_info.json").write_text(json.dumps({"mine": {"file_name": "mine.json"}}))
    with pytest.raises(InputError, match="is not ranking data"):
        read(tmp_path / "mine.json")


def test_columns_read_anything(tmp_path):
    row = {
        "q": "Q?", "yes": "good", "no": "bad", "s+": "7", "s-": 2, "m": "x", "part": "dev", "sys": "Be brief.",
        "gold": "42", "prompt": "another", "more": 1,
    }  # fmt: skip
    names = {
        "prompt": "q", "chosen": "yes", "rejected": "no", "score_chosen": "s+", "score_rejected": "s-",
        "model_chosen": "m", "split": "part", "system": "sys", "reference": "gold",
    }  # fmt: skip
    prefs = read([row], columns=names)
    pair = prefs.texts().collect().row(0, named=True)
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == ([S, U], [A], [B])
    assert (pair["score_chosen"], pair["score_rejected"], pair["model_chosen"], pair["split"]) == (7.0, 2.0, "x", "dev")
    assert (pair["source_prompt"], pair["more"]) == ("another", 1)
    assert prefs.prompts.collect()["reference"].to_list() == ["42"]
    one = read([row], columns={"prompt": "q", "response": "yes", "score": "s+"})
    assert one.responses.collect()["score"].to_list() == [7.0]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"promt": "q", "chosen": "yes", "rejected": "no"}, "there is no 'promt'; did you mean 'prompt'"),
        ({"prompt": "q", "chosen": "yess", "rejected": "no"}, "no column 'yess'; did you mean 'yes'"),
        ({"prompt": "q", "chosen": "yes"}, "give both 'chosen' and 'rejected'"),
        ({"score": "yes"}, "give 'chosen' and 'rejected'"),
    ],
)
def test_wrong_columns_are_one_sentence(columns, says):
    with pytest.raises(InputError, match=says):
        read([{"q": "Q?", "yes": "a", "no": "b"}], columns=columns)


def test_a_known_and_an_unknown_format_by_name():
    rows = [{"chosen": [U, A], "rejected": [U, B], "source": "s"}]
    assert read(rows, format="trl_implicit").lineage[0].settings["format"] == "trl_implicit"
    with pytest.raises(InputError, match="no format 'skywrok'; did you mean 'skywork'"):
        read(rows, format="skywrok")
    with pytest.raises(InputError, match="not both"):
        read(rows, format="trl", columns={"prompt": "p"})


def own(row):
    """A user's own format."""
    return Record(prompt=[{"role": "user", "content": row["ask"]}], answers=[Answer([A], score=row["s"])])


def test_the_users_own_row_function(monkeypatch):
    import sys
    import types

    module = types.ModuleType("my_rows")
    module.own = own
    module.wrong = lambda row: row
    monkeypatch.setitem(sys.modules, "my_rows", module)
    prefs = read([{"ask": "Q?", "s": 2.0}, {"ask": "R?"}], format="my_rows:own")
    assert prefs.counts() == (1, 1, 0)
    assert prefs.dropped == {"unexpected_shape": 1}
    with pytest.raises(InputError, match="gave a dict for a row of the rows, not a Record"):
        read([{"ask": "Q?"}], format="my_rows:wrong")


def test_an_unknown_shape_names_its_columns_the_nearest_format_and_the_remedy():
    with pytest.raises(InputError, match=r"columns question, response_j, winner; .*stack_exchange_paired .*columns=\{"):
        detected([{"question": 1, "response_j": 2, "winner": 3}], "x.jsonl")


def test_prompts_that_differ_are_flagged_and_no_turn_is_lost():
    u2 = {"role": "user", "content": "More?"}
    a2 = {"role": "assistant", "content": "yes"}
    row = read([{"chosen": [U, A, u2, a2], "rejected": [U, B, u2, a2]}]).texts().collect().row(0, named=True)
    assert row["prompt_mismatch"] is True
    assert row["prompt"] == [U]
    assert (row["chosen"], row["rejected"]) == ([A, u2, a2], [B, u2, a2])


def test_a_prompt_column_that_the_conversations_do_not_say_is_flagged():
    row = read([{"prompt": "Other?", "chosen": [U, A], "rejected": [U, B]}]).texts().collect().row(0, named=True)
    assert row["prompt_mismatch"] is True
    assert row["prompt"] == [U]


def test_same_role_turns_stay_where_they_are():
    row = read([{"chosen": [U, U, A], "rejected": [U, U, B]}]).texts().collect().row(0, named=True)
    assert (row["prompt"], row["chosen"]) == ([U, U], [A])
    assert not row.get("prompt_mismatch")


def test_sides_without_a_common_turn_are_rejected():
    other = {"role": "user", "content": "Else?"}
    prefs = read([{"chosen": [U, A], "rejected": [other, B]}, {"chosen": [U, A], "rejected": [U, B]}])
    assert prefs.dropped == {"no_common_prompt": 1}


def test_equal_conversations_keep_their_answer():
    row = read([{"chosen": [U, A], "rejected": [U, A], "score_chosen": 2, "score_rejected": 1}]).texts().collect()
    assert said(row["chosen"][0]) == said(row["rejected"][0]) == ["good"]
