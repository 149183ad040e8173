"""The road of many rows at once gives what the road of one row at a time gives."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pairwright.formats.read as module
from pairwright.formats import build, files
from pairwright.formats.clean import pairs
from pairwright.formats.read import read
from pairwright.formats.record import Columns


@pytest.fixture
def one_by_one(monkeypatch):
    """`read`, with the fast road closed."""

    def slow(source, **settings):
        with monkeypatch.context() as patch:
            patch.setattr(module, "pairs", lambda rows, columns: None)
            return read(source, **settings)

    return slow


def the_same(one, other):
    assert one == other
    for name in ("prompts", "responses", "pairs"):
        mine, theirs = getattr(one, name).collect_schema(), getattr(other, name).collect_schema()
        assert dict(mine) == dict(theirs)
    assert one.lineage == other.lineage


@pytest.mark.parametrize(
    "name",
    [
        "data/extra/ultrafeedback_binarized_sample.jsonl.gz",
        "data/alpaca_eval_pairs.jsonl.gz",
        "data/extra/hhh_alignment.jsonl.gz",
        "data/hh_rlhf_sample_train.jsonl.gz",
    ],
)
def test_both_roads_agree_on_real_files(shared, one_by_one, name):
    the_same(read(shared(name)), one_by_one(shared(name)))


def test_the_fast_road_is_taken_by_real_data(shared, monkeypatch):
    taken = []
    monkeypatch.setattr(module, "pairs", lambda rows, columns: taken.append(pairs(rows, columns)) or taken[-1])
    read(shared("data/extra/ultrafeedback_binarized_sample.jsonl.gz"))
    assert taken
    assert None not in taken


words = st.sampled_from(["", "a", " b ", "\n\nHuman: c\n\nAssistant: d", "\n\nHuman: e\n\nAssistant:", "long"])
roles = st.sampled_from(["user", "assistant", "system"])
message = st.fixed_dictionaries({"role": roles, "content": words})
odd = st.sampled_from([None, True, 3, [], {}, [3], [{"role": "user"}], [{"role": "assistant", "content": None}]])
conversation = st.lists(message, min_size=1, max_size=3)
alike = st.builds(
    lambda head, one, other: ([*head, *one], [*head, *other]),
    st.lists(message, min_size=1, max_size=2),
    st.lists(message.map(lambda m: {**m, "role": "assistant"}), min_size=1, max_size=1),
    st.lists(message.map(lambda m: {**m, "role": "assistant"}), min_size=1, max_size=1),
)
cells = st.one_of(words, conversation, odd)
score = st.one_of(st.none(), st.integers(0, 3), st.floats(), st.sampled_from(["N/A", "2", True]))
further = st.fixed_dictionaries(
    {},
    optional={
        "prompt": cells,
        "score_chosen": score,
        "score_rejected": score,
        "chosen_score": score,
        "rejected_score": score,
        "score_x_chosen": score,
        "model_chosen": st.sampled_from(["m", "", None, 3]),
        "model_rejected": st.sampled_from(["m", "", None]),
        "split": st.sampled_from(["train", "test", None]),
        "prompt_id": st.sampled_from(["x", None]),
        "source_prompt_id": st.sampled_from(["x", "y", None]),
        "margin": st.sampled_from([1.0, None]),
        "weight": st.sampled_from([2, None]),
        "copy": st.sampled_from(["positive", "x", None]),
        "printed_chosen": st.sampled_from([1.5, None]),
        "topic": st.sampled_from(["t", 1, 2.5, None, ["n"], True]),
    },
)
plain = st.fixed_dictionaries(
    {"n": st.sampled_from([1, 2.5, None, "x"]), "prompt_id": st.sampled_from(["x", None])},
    optional={"score_chosen": st.integers(0, 2), "score_rejected": st.integers(0, 2), "split": st.just("test")},
)
orderly = st.builds(
    lambda sides, more: {"prompt": sides[0][0]["content"], "chosen": sides[0], "rejected": sides[1], **more},
    alike,
    plain,
)
rows = st.builds(
    lambda sides, more: {"chosen": sides[0], "rejected": sides[1], **more},
    st.one_of(alike, alike, st.tuples(words, words), st.tuples(cells, cells)),
    further,
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.lists(rows, min_size=1, max_size=4), st.lists(orderly, min_size=1, max_size=4)), st.booleans())
def test_both_roads_agree_on_any_rows(found, same_keys):
    if same_keys:
        found = [{name: row.get(name) for name in found[0]} for row in found]
    for form in ("trl", "trl_implicit"):
        if any("prompt" in row for row in found) == (form == "trl"):
            the_same_or_no_road(found, form)


def test_a_batch_steps_aside_where_a_name_and_the_name_it_would_get_are_both_there():
    row = {"prompt": "p", "chosen": "c", "rejected": "r", "prompt_id": "x", "source_prompt_id": None}
    columns = Columns(prompt="prompt", chosen="chosen", rejected="rejected")
    assert pairs([row], columns) is None
    assert pairs([{**row, "source_prompt_id": "z"}, row], columns) is None
    del row["source_prompt_id"]
    assert pairs([row], columns) is not None


def the_same_or_no_road(found, form):
    columns = Columns(prompt="prompt" if form == "trl" else None, chosen="chosen", rejected="rejected")
    if pairs(found, columns) is None:
        return
    fast = read(found, format=form)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "pairs", lambda rows, columns: None)
        the_same(fast, read(found, format=form))


TURN = [{"role": "user", "content": "Q?"}]
SHAPES = {
    "texts": lambda prompt, one, other: {"prompt": prompt, "chosen": one, "rejected": other},
    "conversations": lambda prompt, one, other: {
        "prompt": prompt,
        "chosen": [{"role": "user", "content": prompt}, {"role": "assistant", "content": one}],
        "rejected": [{"content": prompt, "role": "user"}, {"content": other, "role": "assistant"}],
    },
    "several turns": lambda prompt, one, other: {
        "prompt": prompt,
        "chosen": [*TURN, {"role": "user", "content": prompt}, {"role": "assistant", "content": one}],
        "rejected": [*TURN, {"role": "user", "content": prompt}, {"role": "assistant", "content": other}],
    },
    "answers": lambda prompt, one, other: {
        "prompt": [*TURN, {"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": one}, *TURN, {"role": "assistant", "content": other}],
        "rejected": [{"role": "assistant", "content": other}],
    },
    "no prompt": lambda prompt, one, other: {
        "chosen": [{"role": "user", "content": prompt}, {"role": "assistant", "content": one}],
        "rejected": [{"role": "user", "content": prompt}, {"role": "assistant", "content": other}],
    },
}
BAD = [
    b"",
    b"  \t",
    b"{broken",
    b"[1, 2]",
    b"3",
    b'{"prompt": "p", "chosen": null, "rejected": "r"}',
    b'{"prompt": "p", "chosen": "c"}',
    b'{"prompt": "p", "chosen": "half \\ud83d", "rejected": "r"}',
    b'{"prompt": "byte \xff", "chosen": "c", "rejected": "r", "score_chosen": NaN, "score_rejected": -Infinity}',
    b'{"prompt": "p", "chosen": "c", "rejected": "r", "score_chosen": 1' + b"0" * 400 + b', "score_rejected": "2"}',
    b'{"prompt": "p", "prompt": "q", "chosen": "c\\r\\u2028", "rejected": "r"}\r',
    b'{"rejected": "r", "chosen": [{"role": "assistant", "content": "c", "name": "n"}], "prompt": "p"}',
    b'{"prompt": "p", "chosen": ["c"], "rejected": 3, "score_chosen": true}',
    b'{"prompt": "\\n\\nHuman: h\\n\\nAssistant:", "chosen": "c", "rejected": "r", "weight": 2, "goal": 7}',
]
EXTRAS = {
    "n": lambda chance, row: row["n"],
    "mixed": lambda chance, row: chance.choice([1, 2.5, None, "x", [1]]),
    "messages": lambda chance, row: chance.choice([row["chosen"], row["chosen"], None, TURN]),
    "prompt_id": lambda chance, row: chance.choice(["x", None]),
    "split": lambda chance, row: chance.choice(["train", "train", "test", None]),
    "margin": lambda chance, row: None,
    "goal": lambda chance, row: chance.choice([None] * 9 + [3.5]),
    "model_chosen": lambda chance, row: "m",
    "model_rejected": lambda chance, row: chance.choice(["m", "o", None]),
}


def some_file(chance):
    """Lines of one shape, now and then a bad one, from few words, so that prompts and answers come again."""
    shape = chance.choice(list(SHAPES.values()))
    names = [name for name in EXTRAS if chance.random() < 0.3]
    share = chance.choice([0, 0, 0.01, 0.1])
    lines = [b"\xef\xbb\xbf"] if chance.random() < 0.2 else []
    for n in range(chance.randrange(1, 120)):
        if chance.random() < share:
            lines.append(chance.choice(BAD) + b"\n")
        row = {"n": n, **shape(*(chance.choice(["a", " b ", "é", "", "c" * 90]) for _ in range(3)))}
        row |= {f"score_{side}": chance.choice([1, 2.0, None]) for side in ("chosen", "rejected")}
        more = {name: EXTRAS[name](chance, row) for name in names}
        row = {name: cell for name, cell in row.items() if name != "n"} | more
        lines.append(json.dumps(row, ensure_ascii=chance.random() < 0.5).encode() + b"\n")
    if chance.random() < 0.3:
        lines[-1] = lines[-1].removesuffix(b"\n")
    return b"".join(lines)


def outcome(path, rejects, **how):
    """What reading gives: the data with lineage and rejects, or the sentence of a refusal."""
    try:
        prefs = read(path, rejects=rejects, **how)
    except module.InputError as error:
        return None, str(error)
    return prefs, rejects.read_bytes() if rejects.exists() else b""


@pytest.mark.parametrize("seed", range(60))
def test_a_file_of_clean_and_unclean_batches_is_read_as_it_is_row_by_row(tmp_path, monkeypatch, seed):
    chance = random.Random(seed)
    path = tmp_path / "a.jsonl"
    path.write_bytes(some_file(chance))
    how = chance.choice([{}, {}, {"strict": True}, {"split": "train"}, {"limit": chance.randrange(1, 60)}])
    monkeypatch.setattr(files, "LINES", chance.choice([200, 2000, 1 << 18]))
    monkeypatch.setitem(build.Builder.__init__.__kwdefaults__, "batch", chance.choice([7, 10_000]))
    fast, said = outcome(path, tmp_path / "fast.jsonl", **how)
    monkeypatch.setattr(module, "pairs", lambda rows, columns: None)
    monkeypatch.setattr(files, "_many", lambda lines: None)
    slow, told = outcome(path, tmp_path / "slow.jsonl", **how)
    assert said == told
    assert (fast is None) == (slow is None)
    if fast is not None and slow is not None:
        the_same(fast, slow)


def test_one_bad_line_sends_no_other_batch_down_the_slow_road(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(files, "LINES", 400)
    monkeypatch.setattr(module, "pairs", lambda rows, columns: taken.append(pairs(rows, columns)) or taken[-1])
    lines = [json.dumps({"prompt": "p", "chosen": f"c{n}", "rejected": "r"}) for n in range(200)]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines[:90], '{"prompt": "p", "chosen": null}', *lines[90:]]))
    prefs = read(tmp_path / "a.jsonl")
    assert prefs.dropped == {"missing_column": 1}
    assert prefs.pairs.collect().height == 200
    assert len(taken) > 20
    assert sum(found is None for found in taken) == 1
