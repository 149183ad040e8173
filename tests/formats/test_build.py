"""Records put together: what is merged and what is not, in memory and past the bound."""

import os
import random
import string
import subprocess
import sys

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairwright import chat
from pairwright.formats.build import Builder, prompt_identity
from pairwright.formats.read import read
from pairwright.formats.record import Answer, Pair, Record
from pairwright.preferences import Preferences


def answer(text, score=None, model=None, **scores):
    return Answer([chat.assistant(text)], model, score, scores)


def built(records, **how):
    builder = Builder(**how)
    for record in records:
        builder.add(record)
        builder.settle()
    made = builder.finish()
    return Preferences.of(made.prompts, made.responses, made.pairs), made


@given(st.lists(st.tuples(st.sampled_from(["user", "system"]), st.text()), min_size=1))
def test_the_fast_identity_of_a_prompt_is_the_identity(turns):
    conversation = [{"role": role, "content": text} for role, text in turns]
    assert prompt_identity(conversation) == chat.prompt_id(conversation)


def test_control_characters_have_the_same_identity():
    conversation = [chat.user("".join(map(chr, range(0x20))) + '"\\/\x7f\u2028é😀')]
    assert prompt_identity(conversation) == chat.prompt_id(conversation)


def test_answers_merge_only_when_text_model_and_every_score_agree():
    ask = [chat.user("Q?")]
    answers = [
        answer("a", 1.0, "m", x=2.0),
        answer("a", 1.0, "m", x=2.0),  # the same
        answer("a", 2.0, "m", x=2.0),
        answer("a", 1.0, "n", x=2.0),
        answer("a", 1.0, "m", x=3.0),
        answer("a", 1.0, "m"),
        answer("a", None, "m", x=2.0),
        answer("b", 1.0, "m", x=2.0),
        answer("a", 1.0, "m", x=2.0, y=None),  # null and absent are the same
    ]
    prefs, _ = built([Record(ask, [one], ()) for one in answers], batch=2)
    found = prefs.responses.collect()
    assert found["response_id"].to_list() == list(range(7))
    assert found["score"].to_list() == [1.0, 2.0, 1.0, 1.0, 1.0, None, 1.0]
    other, _ = built([Record([chat.user(q)], [answer("a")]) for q in "QRQ"])
    assert other.counts() == (2, 2, 0)


def test_a_multi_message_answer_is_not_the_joined_one():
    ask = [chat.user("Q?")]
    two = Answer([chat.assistant("a"), chat.assistant("b")])
    prefs, _ = built([Record(ask, [two, answer("ab"), answer("a\nb"), two])])
    assert prefs.counts().responses == 3


@pytest.mark.parametrize("batch", [1, 100])
def test_answers_that_repeat_are_counted_but_not_those_of_several_pairs(batch):
    ask = [chat.user("Q?")]
    alone = [Record(ask, [answer("a")]) for _ in range(3)] + [Record(ask, [answer("b")])]
    paired = [Record(ask, [answer("c"), answer(other)], [Pair(0, 1)]) for other in "dd"]
    _, made = built(alone + paired, batch=batch)
    assert made.notes == ("2 answers repeat an earlier one to their prompt, text and values alike; each is kept once",)


def test_extras_of_merged_prompts_that_differ_are_counted_and_the_first_kept():
    ask = [chat.user("Q?")]
    prefs, made = built([Record(ask, prompt_extras={"n": n}) for n in (1, 1, 2)], batch=1)
    assert prefs.prompts.collect()["n"].to_list() == [1]
    assert made.notes == (
        "1 rows: a prompt was met again with other values in its further columns; the first were kept",
    )


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_an_extra_of_mixed_types_becomes_json_whatever_the_batches(batch):
    values = [1, "1", True, None, {"a": [1]}, 2.5, "null"]
    rows = [Record([chat.user(str(i))], [answer("a"), answer("b")], [Pair(0, 1)], pair_extras={"x": v})
            for i, v in enumerate(values)]  # fmt: skip
    table = built(rows, batch=batch)[0].pairs.collect()
    assert table["x"].to_list() == ["1", '"1"', "true", None, '{"a":[1]}', "2.5", '"null"']


@pytest.mark.parametrize("batch", [1, 100])
def test_an_extra_of_one_simple_type_keeps_it(batch):
    extras = [{"i": 1, "f": 1, "s": "a", "b": True, "big": 1 << 70}, {"i": None, "f": 0.5, "s": "b", "b": False}, {}]
    rows = [Record([chat.user(str(i))], [answer("a"), answer("b")], [Pair(0, 1)], pair_extras=extra)
            for i, extra in enumerate(extras)]  # fmt: skip
    table = built(rows, batch=batch)[0].pairs.collect()
    kinds = {name: table.schema[name] for name in ("i", "f", "s", "b", "big")}
    assert kinds == {"i": pl.Int64, "f": pl.Float64, "s": pl.String, "b": pl.Boolean, "big": pl.String}
    assert table["f"].to_list() == [1.0, 0.5, None]


def test_extras_never_take_a_standard_name():
    extras = {"prompt_id": "theirs", "chosen_id": 9, "score_chosen": "high", "model": "m", "chosen_row": 1}
    record = Record([chat.user("Q?")], [answer("a"), answer("b")], [Pair(0, 1)], pair_extras=extras)
    pairs = built([record])[0].pairs.collect().row(0, named=True)
    assert (pairs["chosen_id"], pairs["rejected_id"]) == (0, 1)
    assert [pairs[f"source_{name}"] for name in extras] == list(extras.values())


@pytest.mark.parametrize(
    "name", ["_kept", "_reason", "_text_chosen", "chars_rejected", "goal_chosen", "printed_rejected"]
)
def test_names_that_the_verbs_work_with_are_not_taken_either(name):
    row = {"prompt": "Q?", "chosen": "a", "rejected": "b", name: "theirs"}
    assert read([row]).pairs.collect()[f"source_{name}"].to_list() == ["theirs"]
    record = Record([chat.user("Q?")], [answer("a"), answer("b")], [Pair(0, 1)], pair_extras={name: "theirs"})
    assert name not in built([record])[0].pairs.collect_schema()


def test_columns_that_the_verbs_write_are_kept_only_where_they_are_so_written():
    side = {"chosen": "a", "rejected": "b"}
    ours = {"copy": "negative", "source_pair": 3, "prompt_mismatch": True}
    as_text = {"copy": "positive", "source_pair": "4", "prompt_mismatch": "false"}
    theirs = {"copy": "second", "source_pair": "Q-17", "prompt_mismatch": "no"}
    nested = {"copy": ["positive"], "source_pair": {"a": 1}, "prompt_mismatch": 1.5}
    table = read([{"prompt": "Q?", **side, **more} for more in (ours, as_text, theirs, nested)]).pairs.collect()
    assert table["copy"].to_list() == ["negative", "positive", None, None]
    assert table["source_pair"].to_list() == [3, 4, None, None]
    assert table["prompt_mismatch"].to_list() == [True, False, False, False]
    assert table["source_copy"].to_list() == [None, None, '"second"', '["positive"]']
    assert table["source_source_pair"].to_list() == [None, None, '"Q-17"', '{"a":1}']


@pytest.mark.parametrize("batch", [1, 100])
def test_nested_extras_of_prompts_and_answers_are_encoded_once(batch):
    values = [["x"], "s", 3]
    answers = [Answer([chat.assistant("a")], extras={"weight": value}) for value in values]
    rows = [Record([chat.user(str(i))], [answers[i]], prompt_extras={"copy": value}) for i, value in enumerate(values)]
    prefs, _ = built(rows, batch=batch)
    assert prefs.prompts.collect()["copy"].to_list() == ['["x"]', '"s"', "3"]
    assert prefs.responses.collect()["weight"].to_list() == ['["x"]', '"s"', "3"]


def test_goals_of_one_and_of_several_attributes():
    ask, both = [chat.user("Q?")], [answer("a"), answer("b")]
    prefs, _ = built([Record(ask, both, [Pair(0, 1)], goal=g) for g in (9.0, None)])
    assert prefs.pairs.collect()["goal"].to_list() == [9.0, None]
    prefs, _ = built([Record(ask, both, [Pair(0, 1)], goal=g) for g in ([1.0, 2.0], None)], batch=1)
    assert prefs.pairs.collect()["goal"].to_list() == [[1.0, 2.0], None]


def some_records(seed, count):
    chance = random.Random(seed)
    word = lambda: "".join(chance.choices(string.ascii_letters, k=chance.randrange(3)))  # noqa: E731
    for i in range(count):
        prompt = [chat.system("s")] * chance.randrange(2) + [chat.user(word())]
        answers = [answer(word(), chance.choice([None, 1.0, 2.0]), chance.choice([None, "m"])) for _ in range(3)]
        yield Record(prompt, answers, [Pair(0, 2)] * (i % 2), pair_extras={"n": i})


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 7))
def test_batches_and_files_beyond_the_bound_give_the_same_preferences(seed, batch):
    expected, _ = built(some_records(seed, 30))
    assert built(some_records(seed, 30), batch=batch)[0] == expected
    spilled, made = built(some_records(seed, 30), batch=batch, bound=0)
    assert "SCAN" in made.pairs.explain()
    assert spilled == expected


def test_a_frame_outlives_the_preferences_it_was_taken_from_and_the_temporary_directory_goes_at_the_end(tmp_path):
    code = """if True:
        import pairwright.formats.build as build, pairwright as pw
        build.Builder.__init__.__kwdefaults__["bound"] = 0
        row = {"prompt": "Q?", "chosen": "a", "rejected": "b"}
        assert pw.read([row] * 3).pairs.collect().height == 3
        import os, tempfile
        print(len(os.listdir(tempfile.gettempdir())))
    """
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_repeated_row_adds_a_pair_and_no_answer():
    row = {"prompt": "Q?", "chosen": "a", "rejected": "b", "score_chosen": 1, "score_rejected": 0}
    prefs = read([row] * 3)
    assert prefs.counts() == (1, 2, 3)
    assert prefs.pairs.collect()["chosen_id"].to_list() == [0, 0, 0]
