"""The road of many rows at once gives what the road of one row at a time gives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pairwright.formats.read as module
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


def the_same_or_no_road(found, form):
    columns = Columns(prompt="prompt" if form == "trl" else None, chosen="chosen", rejected="rejected")
    if pairs(found, columns) is None:
        return
    fast = read(found, format=form)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "pairs", lambda rows, columns: None)
        the_same(fast, read(found, format=form))
