from collections.abc import Sequence

import polars as pl
import pytest

import tiny
from pairwright.chat import assistant, prompt_id, user
from pairwright.errors import InputError
from pairwright.preferences import Preferences
from pairwright.probes.held import held_out
from pairwright.relabel import relabel

Row = tuple[str, str, float | None, str, float | None]


def data(rows: Sequence[Row], *, split: str = "test") -> Preferences:
    """Pairs of (prompt, chosen, its score, rejected, its score)."""
    ids = [prompt_id([user(prompt)]) for prompt, *_ in rows]
    answers = [
        (i, text, score) for i, (_, a, b, c, d) in zip(ids, rows, strict=True) for text, score in ((a, b), (c, d))
    ]
    return Preferences.of(
        pl.DataFrame({"prompt_id": ids, "prompt": [[user(each[0])] for each in rows]}).unique(
            "prompt_id", maintain_order=True
        ),
        pl.DataFrame(
            {
                "prompt_id": [each[0] for each in answers],
                "response": [[assistant(each[1])] for each in answers],
                "score": [each[2] for each in answers],
            },
            schema_overrides={"score": pl.Float64},
        ),
        pl.DataFrame(
            {
                "prompt_id": ids,
                "chosen_id": range(0, 2 * len(rows), 2),
                "rejected_id": range(1, 2 * len(rows), 2),
                "split": [split] * len(rows),
            }
        ),
    )


def texts(prefs: Preferences) -> list[tuple[str, str, str]]:
    """Prompt, chosen and rejected of each pair, in order."""
    rows = prefs.texts().select("prompt", "chosen", "rejected").collect().iter_rows()
    return [tuple(each[-1]["content"] for each in row) for row in rows]  # type: ignore[misc]


MADE = data([(f"prompt {i}", f"good {i}", 7.0 + i % 3, f"bad {i}", 2.0 + i % 2) for i in range(20)])


def test_the_better_scored_answer_is_chosen_whatever_the_label_says() -> None:
    found, dropped = held_out(data([("a", "worse", 2.0, "better", 8.0), ("b", "best", 9.0, "worst", 1.0)]))
    assert sorted(texts(found)) == [("a", "better", "worse"), ("b", "best", "worst")]
    assert dropped == {}
    assert found.lineage[-1].found == {"as_labelled": 0, "turned": 1}
    assert "1 of 2 pairs are turned" in found.lineage[-1].notes[0]


@pytest.mark.parametrize(("one", "other"), [(5.0, 5.0), (None, 5.0), (5.0, None), (None, None), (float("nan"), 4.0)])
def test_without_two_different_scores_the_label_stays_and_is_told(one: float | None, other: float | None) -> None:
    found, _ = held_out(data([("a", "labelled", one, "other", other)]))
    assert texts(found) == [("a", "labelled", "other")]
    assert found.lineage[-1].found["as_labelled"] == 1
    assert "1 of 1 pairs have no two different scores" in found.lineage[-1].notes[0]


@pytest.mark.parametrize("mode", ["ra", "ra_plus"])
def test_relabelled_copies_of_one_comparison_count_once_and_ask_for_nothing(mode: str) -> None:
    plain, _ = held_out(MADE, pairs=50)
    found, _ = held_out(relabel(MADE, mode), pairs=50)
    assert texts(found) == texts(plain)
    assert len(texts(found)) == 20
    assert found == plain
    assert found.goal_format is None
    assert not found.has_goals


def test_a_negative_copy_without_an_overall_score_is_turned_back() -> None:
    """Goals of attributes need no overall score, so that nothing but `copy` tells which side was labelled."""
    plain = data([("a", "labelled", None, "other", None)])
    responses = plain.responses.with_columns(score_help=pl.Series([7.0, 3.0]))
    made = relabel(Preferences.of(plain.prompts, responses, plain.pairs), "ra", attributes=["help"])
    negative = Preferences.of(
        made.prompts, made.responses, made.pairs.filter(pl.col("copy") == "negative"), made.lineage
    )
    assert texts(negative)[0][1:] == ("other", "labelled")
    assert texts(held_out(negative)[0]) == [("a", "labelled", "other")]


def test_pairs_of_the_same_texts_count_once() -> None:
    found, dropped = held_out(data([("a", "x", 8.0, "y", 3.0), ("a", "x", 8.0, "y", 3.0), ("a", "y", 3.0, "x", 8.0)]))
    assert texts(found) == [("a", "x", "y")]
    assert dropped == {}


def test_what_cannot_be_compared_is_dropped_and_counted() -> None:
    made = data(
        [
            ("a", "", 8.0, "y", 3.0),
            ("b", "x", 8.0, "  \n", 3.0),
            ("c", "same", 8.0, "same", 3.0),
            ("d", "x", 8.0, "y", 3.0),
            ("e", "x", 8.0, "y", 3.0),
        ]
    )
    without = Preferences.of(made.prompts.head(4), made.responses, made.pairs)
    found, dropped = held_out(without)
    assert texts(found) == [("d", "x", "y")]
    assert dropped == {"missing_prompt": 1, "empty_chosen": 1, "empty_rejected": 1, "equal_text": 1}


def test_row_order_and_other_pairs_have_no_part_in_the_draw() -> None:
    rows = [(f"prompt {i}", f"good {i}", 8.0, f"bad {i}", 3.0) for i in range(30)]
    first, turned = held_out(data(rows), pairs=10)[0], held_out(data(rows[::-1]), pairs=10)[0]
    assert texts(first) == texts(turned)
    more = held_out(data([*rows, ("another", "a", 8.0, "b", 3.0)]), pairs=10)[0]
    assert len(set(texts(first)) & set(texts(more))) >= 9  # the new one may be drawn itself


def test_fewer_pairs_are_the_first_of_more_and_a_seed_draws_others() -> None:
    few, many = held_out(MADE, pairs=5)[0], held_out(MADE, pairs=12)[0]
    assert texts(few) == texts(many)[:5]
    assert set(texts(held_out(MADE, pairs=5, seed=1)[0])) != set(texts(few))
    assert few.lineage[-1].dropped == {"not_drawn": 15}


def test_only_the_split_is_drawn_from_and_answers_keep_their_ids() -> None:
    mixed = Preferences.of(
        MADE.prompts,
        MADE.responses,
        MADE.pairs.collect().with_columns(split=pl.Series(["train", "held"] * 10)),
    )
    found, _ = held_out(mixed, split="held", pairs=50)
    pairs = found.pairs.collect()
    assert set(pairs["chosen_id"]) == {2 + 4 * i for i in range(10)}
    assert set(pairs["split"]) == {"held"}
    assert found.counts().responses == 20


def test_a_split_without_pairs_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match=r"no pairs are in split 'test' \(they are in 'train'\); split the data first"):
        held_out(tiny.preferences(4))


def test_prompts_with_goals_inside_are_refused() -> None:
    made = relabel(MADE, "ra")
    flat = Preferences.of(made.prompts, made.responses, made.pairs)  # as a flat file has it: no lineage
    with pytest.raises(InputError, match="already say which score to ask for"):
        held_out(flat)


def test_a_split_in_which_nothing_can_be_read_is_refused() -> None:
    with pytest.raises(InputError, match="1 equal_text"):
        held_out(data([("a", "same", 8.0, "same", 3.0)]))


def test_unscored_texts_that_stand_there_both_ways_round_are_dropped_whatever_the_row_order() -> None:
    """Without scores nothing but the row order would say which of the two is chosen; a scored pair is not in doubt."""
    rows: list[Row] = [
        ("a", "x", None, "y", None),
        ("a", "y", None, "x", None),
        ("b", "x", 8.0, "y", 3.0),
        ("b", "y", 3.0, "x", 8.0),
        ("c", "x", None, "y", None),
    ]
    for order in (rows, rows[::-1]):
        found, dropped = held_out(data(order))
        assert sorted(texts(found)) == [("b", "x", "y"), ("c", "x", "y")]
        assert dropped == {"contradictory": 2}
        assert found.lineage[-1].dropped == {"contradictory": 2}


@pytest.mark.parametrize("scores", [(None, None), (5.0, 5.0), (8.0, 3.0)])
def test_one_comparison_of_two_answers_labelled_both_ways_needs_scores(
    scores: tuple[float | None, float | None],
) -> None:
    """The same two rows of answers: one comparison. With two different scores it is the better one that is chosen."""
    plain = data([("a", "x", scores[0], "y", scores[1]), ("c", "x", 8.0, "y", 3.0)])
    pairs = plain.pairs.collect()
    other = pairs.head(1).with_columns(chosen_id=pl.col("rejected_id"), rejected_id=pl.col("chosen_id"))
    for both in (pl.concat([pairs, other]), pl.concat([other, pairs])):
        found, dropped = held_out(Preferences.of(plain.prompts, plain.responses, both))
        if scores == (8.0, 3.0):
            assert sorted(texts(found)) == [("a", "x", "y"), ("c", "x", "y")]
            assert (dropped, found.lineage[-1].found["turned"]) == ({}, 0)
        else:
            assert texts(found) == [("c", "x", "y")]
            assert dropped == {"contradictory": 1}
