"""Two sets of preferences as one, against rows written out by hand."""

import polars as pl
import pytest

from pairwright import merge, pair, relabel
from pairwright.chat import assistant, prompt_id, user
from pairwright.errors import InputError
from pairwright.preferences import Preferences


def scored(answers, **columns):
    """`answers`: (prompt, text, score); further columns of the answers."""
    ids = {text: prompt_id([user(text)]) for text, _, _ in answers}
    prompts = pl.DataFrame({"prompt_id": list(ids.values()), "prompt": [[user(text)] for text in ids]})
    frame = pl.DataFrame(
        {
            "prompt_id": [ids[prompt] for prompt, _, _ in answers],
            "response": [[assistant(text)] for _, text, _ in answers],
            "score": pl.Series([score for _, _, score in answers], dtype=pl.Float64),
        }
    )
    return Preferences.of(prompts, frame.with_columns(**columns))


def told(prefs):
    """The pairs by their texts."""
    rows = prefs.texts().select("prompt", "chosen", "rejected", "goal").collect()
    return [(p[-1]["content"], c[0]["content"], r[0]["content"], goal) for p, c, r, goal in rows.iter_rows()]


BASE = pair(scored([("p", "good", 8), ("p", "bad", 2), ("q", "fine", 6), ("q", "poor", 1)]))
MORE = pair(scored([("r", "best", 9), ("r", "worst", 1), ("q", "new", 7), ("q", "fine", 6)], operator=pl.lit("deepen")))


def test_all_rows_of_both_with_answers_numbered_anew():
    both = merge(BASE, MORE)
    assert told(both) == [*told(BASE), *told(MORE)]
    assert told(both)[2:] == [("r", "best", "worst", None), ("q", "new", "fine", None)]
    assert both.counts() == (3, 8, 4)
    assert both.responses.collect()["response_id"].to_list() == list(range(8))
    assert both.responses.collect()["operator"].to_list() == [None] * 4 + ["deepen"] * 4
    assert both.lineage[:-1] == BASE.lineage
    assert [step["name"] for step in both.lineage[-1].settings["other"]] == ["pair"]
    assert both.lineage[-1].notes == (
        "From the second came 1 prompts, 4 answers and 2 pairs.",
        "1 prompts are in both and are kept as the first has them.",
    )


def test_merged_with_itself_it_is_itself():
    for prefs in (BASE, MORE, relabel(BASE, "ra"), relabel(BASE, "steerlm")):
        both = merge(prefs, prefs)
        assert both == prefs
        assert both.lineage[-1].dropped == {"repeated": prefs.counts().pairs}


def test_an_answer_with_another_score_is_another_answer_and_equal_ones_within_a_set_stay():
    one = scored([("p", "x", 3), ("p", "x", 3), ("p", "y", None)])
    two = scored([("p", "x", 4), ("p", "y", None), ("p", "x", 3)])
    rows = merge(one, two).responses.collect()
    assert rows["score"].to_list() == [3, 3, None, 4]
    assert rows["response_id"].to_list() == [0, 1, 2, 3]


def test_numbers_of_answers_need_not_be_row_numbers():
    moved = Preferences.of(
        MORE.prompts,
        MORE.responses.with_columns(pl.col("response_id") * 7 + 100),
        MORE.pairs.with_columns(pl.col("chosen_id") * 7 + 100, pl.col("rejected_id") * 7 + 100),
    )
    assert told(merge(moved, BASE)) == [*told(MORE), *told(BASE)]
    assert told(merge(BASE, moved)) == [*told(BASE), *told(MORE)]


def test_a_prompt_stays_on_the_first_ones_side():
    def at(prefs, side):
        return prefs.then(prefs.lineage[-1], prompts=prefs.prompts.with_columns(split=pl.lit(side)),
                          pairs=prefs.pairs.with_columns(split=pl.lit(side)))  # fmt: skip

    both = merge(at(BASE, "test"), at(MORE, "train"))
    assert both.prompts.collect()["split"].to_list() == ["test", "test", "train"]
    assert both.pairs.collect()["split"].to_list() == ["test", "test", "train", "test"]


def test_copies_of_two_relabelled_sets_keep_their_source_pairs_apart():
    both = merge(relabel(BASE, "ra"), relabel(MORE, "ra"))
    assert both.pairs.collect()["source_pair"].to_list() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [goal for *_, goal in told(both)][4:] == [9, 1, 7, 6]
    one = BASE.then(BASE.lineage[-1], pairs=BASE.pairs.head(1))
    both = merge(relabel(one, "ra"), relabel(MORE, "ra"))
    assert both.pairs.collect()["source_pair"].to_list() == [0, 0, 1, 1, 2, 2]


def test_goals_in_other_words_are_refused():
    with pytest.raises(InputError, match="merge them first and relabel then"):
        merge(BASE, relabel(MORE, "ra"))
    with pytest.raises(InputError, match="different words"):
        merge(relabel(BASE, "ra", placement="system"), relabel(MORE, "ra", placement="user"))


def test_a_column_of_two_types_is_refused_and_numbers_are_not():
    with pytest.raises(InputError, match="'note' of responses holds String in the first and Int32 in the second"):
        merge(scored([("p", "x", 3)], note=pl.lit("a")), scored([("q", "x", 3)], note=pl.lit(1, dtype=pl.Int32)))
    wide = merge(scored([("p", "x", 3)], note=pl.lit(1.5)), scored([("q", "x", 3)], note=pl.lit(1)))
    assert wide.responses.collect()["note"].to_list() == [1.5, 1.0]


def test_neither_is_changed():
    before = BASE.digest(), MORE.digest()
    merge(BASE, MORE)
    assert (BASE.digest(), MORE.digest()) == before


def sides(prefs):
    return prefs.prompts.collect()["split"].to_list()


def test_where_one_side_is_split_every_prompt_has_its_side():
    """p and q of the first, q and r of the second; r comes. What nothing says is train, and the first goes before."""
    in_pairs = BASE.then(BASE.lineage[-1], pairs=BASE.pairs.with_columns(split=pl.Series(["test", "train"])))
    more = MORE.then(MORE.lineage[-1], prompts=MORE.prompts.with_columns(split=pl.lit("test")))
    assert "split" not in merge(BASE, MORE).prompts.collect_schema()
    assert sides(merge(in_pairs, MORE)) == ["test", "train", "train"]
    assert sides(merge(BASE, more)) == ["train", "train", "test"]
    assert sides(merge(in_pairs, more)) == ["test", "train", "test"]
    assert sides(merge(more, in_pairs)) == ["test", "test", "test"]
    lone = scored([("s", "only", 5)])  # no pair says a side, and no column
    assert sides(merge(more, lone)) == ["test", "test", "train"]


def test_contradictions_are_counted():
    one = pair(scored([("p", "a", 8), ("p", "b", 2), ("q", "a", 5), ("q", "b", 3)]))
    two = pair(scored([("p", "a", 1), ("p", "b", 2), ("q", "a", 5), ("q", "b", 4), ("r", "a", 1)]))
    notes = merge(one, two).lineage[-1].notes
    assert "2 answers of the same text have other scores in the second than in the first." in notes  # p a, q b
    assert "1 pairs of the second order two texts the other way round than the first does." in notes  # p
    assert not any("other" in note for note in merge(one, one).lineage[-1].notes)
    unscored = scored([("p", "a", None), ("p", "b", 2)])
    assert not any("other scores" in note for note in merge(one, unscored).lineage[-1].notes)
