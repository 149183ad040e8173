"""MT-bench from files of judgments, against hand arithmetic."""

import json
import math

import numpy as np
import pytest

from pairwright.cli import main
from pairwright.errors import InputError
from pairwright.evaluate import mtbench
from pairwright.evaluate.grouped_means import grouped_means
from pairwright.evaluate.judgments import Rated, rating
from pairwright.stats import grouped_bootstrap


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def turns(path, scores, numbers, model="m", **more):
    """Judgments of questions 1, 2, ... by their turns."""
    seen, rows = {}, []
    for score, turn in zip(scores, numbers, strict=True):
        seen[turn] = seen.get(turn, 0) + 1
        rows.append({"question_id": seen[turn], "model": model, "turn": turn, "score": score, **more})
    return write(path, rows)


def value(result, name):
    return result.metric(name).value


def test_the_worked_example(tmp_path):
    result = mtbench([turns(tmp_path / "a.jsonl", [8, 7, -1, 9], [1, 1, 2, 2])])
    assert value(result, "turn_1") == pytest.approx(7.5)
    assert value(result, "turn_2") == pytest.approx(9.0)
    assert value(result, "average") == pytest.approx(8.0)  # (8 + 7 + 9) / 3, pooled
    assert value(result, "average_of_turns") == pytest.approx(8.25)  # (7.5 + 9) / 2
    assert value(result, "average_failed_lowest") == pytest.approx(6.25)  # (8 + 7 + 1 + 9) / 4
    assert value(result, "failed") == 0.25
    assert result.metric("turn_1").n == 2
    assert result.metric("turn_2").n == 1
    assert "m: 1 of 4 judgments could not be read (0 of 2 of turn 1, 1 of 2 of turn 2)." in result.notes


def test_a_real_file_of_which_most_could_not_be_read(shared):
    """Counted with a regular expression of its own: of 160, 120 are -1 and 2 are 0.

    Turn 1 has 20 nines, 6 fives, 5 eights, 3 tens and 2 ones: 282 over 36. Turn 2 has a nine and a five: 14 over 2.
    """
    result = mtbench([shared("data/extra/mtbench_single_judgments_granite7b.jsonl.gz")], draws=50)
    assert result.n == 160
    assert value(result, "turn_1") == pytest.approx(282 / 36)
    assert value(result, "turn_2") == pytest.approx(14 / 2)
    assert value(result, "average") == pytest.approx(296 / 38)
    assert value(result, "average_as_upstream") == pytest.approx(296 / 40)
    assert value(result, "average_of_turns") == pytest.approx((282 / 36 + 7) / 2)
    assert value(result, "average_failed_lowest") == pytest.approx((296 + 122) / 160)
    assert value(result, "failed") == pytest.approx(122 / 160)
    whole = next(row for row in result.table if row["category"] is None)
    assert (whole["judgments"], whole["failed"], whole["off_scale"]) == (160, 122, 2)
    assert {row["category"] for row in result.table} >= {"coding", "math", "writing"}
    assert sum(row["failed"] for row in result.table if row["category"]) == 122
    said = " ".join(result.notes)
    assert "44 of 80 of turn 1, 78 of 80 of turn 2" in said
    assert "3 scores come from single brackets" in said  # two of them `majority = array[0]`
    assert "more than a tenth" in said


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Rating: [[7]]", Rated(7.0, True)),
        ("[[3]] and later [[8.5]]", Rated(3.0, True)),  # the first
        ("see [1]; Rating: [[6]]", Rated(6.0, True)),  # double brackets go first
        ("Rating: [4]", Rated(4.0, False)),
        ("majority = array[0]", Rated(0.0, False)),
        ("Rating: 7/10", None),
        ("[[-3]]", None),
        ("[[8.]] and [[.5]]", Rated(8.0, True)),
    ],
)
def test_a_rating_is_read_by_the_rule_of_the_benchmark(text, found):
    assert rating(text) == found


def test_a_rating_is_found_in_no_time_that_grows_with_the_square_of_a_text():
    assert rating("[[" + "9" * 400 + "]]") is None  # beyond all floats
    assert rating("[[" + "9" * 300_000 + ". [[7]]") == Rated(7.0, True)


def test_a_score_that_was_not_recorded_is_read_from_the_text(tmp_path):
    rows = [
        {"question_id": 1, "model": "m", "turn": 1, "judgment": "Rating: [[8]]"},
        {"question_id": 2, "model": "m", "turn": 1, "judgment": "good"},
        {"question_id": 3, "model": "m", "turn": 1, "judgment": "Rating: [[4]]", "score": 5},
    ]
    result = mtbench([write(tmp_path / "a.jsonl", rows)])
    assert value(result, "average") == pytest.approx(6.5)
    assert value(result, "failed") == pytest.approx(1 / 3)
    assert "1 recorded scores are not what the text says by the rule; they are used." in result.notes


def test_several_models_have_their_own_numbers(tmp_path):
    one = turns(tmp_path / "a.jsonl", [8, 6], [1, 1], model="a")
    two = turns(tmp_path / "b.jsonl", [5, 6.05], [1, 1], model="b")
    result = mtbench([one, two], opponent="b")
    assert value(result, "average/a") == pytest.approx(7.0)
    assert value(result, "average/b") == pytest.approx(5.525)
    # 8 against 5 is a win, 6 against 6.05 is within 0.1: a tie.
    assert value(result, "win_rate_adjusted") == pytest.approx(0.75)
    assert value(result, "win_rate") == pytest.approx(0.5)
    turned = mtbench([one, two], opponent="a")
    assert value(turned, "win_rate_adjusted") == pytest.approx(0.25)
    with pytest.raises(InputError, match="no model 'c'"):
        mtbench([one, two], opponent="c")


def test_a_comparison_is_won_only_where_both_orders_say_so(tmp_path):
    games = [("model_1", "model_1"), ("model_1", "model_2"), ("tie", "tie"), ("model_1", "tie"),
             ("model_2", "model_2"), ("error", "model_1"), ("model_1", "model_1")]  # fmt: skip
    rows = [
        {"question_id": i, "model_1": "a", "model_2": "b", "g1_winner": one, "g2_winner": two, "turn": 1}
        for i, (one, two) in enumerate(games)
    ]
    result = mtbench([write(tmp_path / "pair.jsonl", rows)])
    # a: 2 wins, 1 loss, 3 ties of 6; one error.
    assert value(result, "win_rate/a") == pytest.approx(2 / 6)
    assert value(result, "loss_rate/a") == pytest.approx(1 / 6)
    assert value(result, "win_rate_adjusted/a") == pytest.approx(3.5 / 6)
    assert value(result, "win_rate_adjusted/b") == pytest.approx(2.5 / 6)
    assert value(result, "failed/a") == pytest.approx(1 / 7)
    row = result.table[0]
    assert (row["win"], row["loss"], row["tie"], row["error"]) == (2, 1, 3, 1)
    against = mtbench([tmp_path / "pair.jsonl"], opponent="b")
    assert value(against, "win_rate_adjusted") == pytest.approx(3.5 / 6)


def both_turns(path, scores, model, judge="j"):
    """Judgments by question and turn."""
    return write(
        path,
        [
            {"question_id": q, "turn": turn, "model": model, "judge": judge, "score": score}
            for (q, turn), score in scores.items()
        ],
    )


def test_ratings_are_compared_with_those_of_the_same_turn_and_a_tenth_is_a_tie(tmp_path):
    """8 against 3 and 3 against 8; 6.1 against 6 and 6 against 6.1 are ties: by turn 1 alone, one win and no loss."""
    one = both_turns(tmp_path / "a.jsonl", {(1, 1): 8, (1, 2): 3, (2, 1): 6.1, (2, 2): 6}, "a")
    two = both_turns(tmp_path / "b.jsonl", {(1, 1): 3, (1, 2): 8, (2, 1): 6, (2, 2): 6.1}, "b")
    result = mtbench([one, two], opponent="b", draws=20)
    assert [value(result, name) for name in ("win_rate", "loss_rate", "win_rate_adjusted")] == [0.25, 0.25, 0.5]


def test_no_pair_of_ratings_is_lost_without_a_word(tmp_path):
    """Of a's four ratings one was not read, one meets one that was not, one meets none; b has one more of its own."""
    one = both_turns(tmp_path / "a.jsonl", {(1, 1): 8, (2, 1): -1, (3, 1): 7, (4, 1): 5}, "a")
    two = both_turns(tmp_path / "b.jsonl", {(1, 1): 3, (2, 1): 4, (3, 1): -1, (5, 1): 2}, "b")
    result = mtbench([one, two], opponent="b", draws=20)
    assert value(result, "win_rate") == 1.0
    assert value(result, "failed_comparisons") == pytest.approx(2 / 3)
    assert result.metric("failed_comparisons").n == 3
    assert any("a against b: 1 ratings of a and 1 of b have no other" in note for note in result.notes)
    other = both_turns(tmp_path / "c.jsonl", {(1, 1): 3}, "b", judge="k")
    with pytest.raises(InputError, match="at the same turn by the same judge; give the files"):
        mtbench([one, other], opponent="b")


def test_a_score_is_on_the_scale_or_was_not_read(tmp_path):
    """1 and 10 are the ends; 10.5, 12 and 0.5 are off the scale, which upstream averages."""
    result = mtbench([turns(tmp_path / "a.jsonl", [1, 10, 10.5, 12, 0.5], [1] * 5)])
    assert value(result, "average") == pytest.approx(5.5)
    assert value(result, "failed") == pytest.approx(3 / 5)
    assert value(result, "average_as_upstream") == pytest.approx(34 / 5)
    assert result.table[0]["off_scale"] == 3


@pytest.mark.parametrize("score", ["Infinity", "-Infinity", "NaN", "true", "1e999"])
def test_what_is_no_finite_number_is_no_score(tmp_path, score):
    path = tmp_path / "a.jsonl"
    path.write_text('{"question_id": 1, "model": "m", "turn": 1, "score": 3}\n'
                    f'{{"question_id": 2, "model": "m", "turn": 1, "score": {score}}}\n')  # fmt: skip
    with pytest.raises(InputError, match=r"a\.jsonl, row 2: score"):
        mtbench([path])


def test_a_rating_beyond_all_numbers_was_not_read(tmp_path):
    rows = [
        {"question_id": 1, "model": "m", "turn": 1, "judgment": f"[[{'9' * 400}]]"},
        {"question_id": 2, "model": "m", "turn": 1, "score": 8},
    ]
    result = mtbench([write(tmp_path / "a.jsonl", rows)], draws=20)
    assert (value(result, "average"), value(result, "failed")) == (8.0, 0.5)
    json.dumps(result.to_dict(), allow_nan=False)


def test_ratings_and_comparisons_in_one_go_are_refused(tmp_path):
    rated = {"question_id": 1, "model": "m", "turn": 1, "score": 3}
    compared = {"question_id": 1, "model_1": "a", "model_2": "b", "g1_winner": "tie", "g2_winner": "tie", "turn": 1}
    with pytest.raises(InputError, match=r"row 2: .*this is a comparison.*give files of one kind"):
        mtbench([write(tmp_path / "a.jsonl", [rated, compared])])
    with pytest.raises(InputError, match=r"row 2: .*this is a rating.*give files of one kind"):
        mtbench([write(tmp_path / "b.jsonl", [compared, rated])])


def test_five_judges_of_one_mind_are_one(tmp_path):
    """40 questions, half rated 2 and half 8, by each judge: the standard error of the mean is 3 / sqrt(40)."""
    scores = {(q, 1): 2 + 6 * (q % 2) for q in range(40)}
    paths = [*(both_turns(tmp_path / f"a{n}.jsonl", scores, "a", judge=f"j{n}") for n in range(5))]
    metric = mtbench(paths, draws=4000).metric("average")
    assert metric.n == 40
    assert metric.high - metric.low == pytest.approx(2 * 1.96 * 3 / math.sqrt(40), rel=0.08)
    five = {(q, 1): 5 for q in range(40)}
    others = [both_turns(tmp_path / f"b{n}.jsonl", five, "b", judge=f"j{n}") for n in range(5)]
    won = mtbench([*paths, *others], opponent="b", draws=4000).metric("win_rate")
    assert (won.value, won.n) == (0.5, 40)
    assert won.high - won.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(40), rel=0.08)


def test_what_could_not_be_read_stands_next_to_the_average(tmp_path):
    from pairwright.report.measures import HEADLINE

    result = mtbench([turns(tmp_path / "a.jsonl", [8, 7, -1, 9], [1, 1, 2, 2])], draws=2)
    assert [metric.name for metric in result.metrics[: HEADLINE["mtbench"]]] == ["average", "failed"]


def test_one_question_has_no_interval(tmp_path):
    """Of the second turn one question was read: every draw with it has the same mean."""
    result = mtbench([turns(tmp_path / "a.jsonl", [8, 7, 6, 9], [1, 1, 1, 2])], draws=50)
    assert result.metric("turn_1").low is not None
    assert (result.metric("turn_2").low, result.metric("turn_2").high) == (None, None)
    assert result.metric("average_of_turns").low is None


def test_means_from_sums_are_those_of_a_bootstrap_row_by_row():
    random = np.random.default_rng(3)
    values = np.where(random.random((60, 2)) < 0.2, np.nan, random.normal(size=(60, 2)))
    groups = random.integers(0, 15, 60).tolist()

    def slowly(rows):
        return np.nanmean(values[rows], axis=0).tolist()

    found = grouped_means(values, groups, draws=200, seed=5).intervals()
    for fast, slow in zip(found, grouped_bootstrap(slowly, groups, draws=200, seed=5), strict=True):
        assert (fast.value, fast.low, fast.high) == pytest.approx((slow.value, slow.low, slow.high))
    none = grouped_means(np.full((3, 1), np.nan), [1, 2, 3], draws=5, seed=0).intervals()
    assert (none[0].n, math.isnan(none[0].value)) == (0, True)


def test_comparisons_of_which_none_has_a_verdict_have_no_share(tmp_path):
    row = {"question_id": 1, "model_1": "a", "model_2": "b", "g1_winner": "error", "g2_winner": "tie", "turn": 1}
    result = mtbench([write(tmp_path / "pair.jsonl", [row])], draws=5)
    assert (value(result, "win_rate/a"), value(result, "failed/a")) == (None, 1.0)
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_judgment_that_stands_twice_counts_once(tmp_path):
    path = turns(tmp_path / "a.jsonl", [2], [1])
    again = turns(tmp_path / "b.jsonl", [8], [1])
    result = mtbench([path, again])
    assert value(result, "average") == 8.0
    assert "1 judgments stand there again later; the later one counts." in result.notes


def test_nothing_that_could_be_read_is_no_number(tmp_path):
    result = mtbench([turns(tmp_path / "a.jsonl", [-1, -1, -1], [1, 1, 2])])
    assert value(result, "average") is None
    assert value(result, "turn_2") is None
    assert value(result, "average_failed_lowest") == 1.0
    assert value(result, "failed") == 1.0
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_bad_row_is_named(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"question_id": 1, "model": "m", "turn": 1, "score": 3}, {"model": "m"}])
    with pytest.raises(InputError, match=r"a\.jsonl, row 2: question_id: Field required"):
        mtbench([path])
    (tmp_path / "b.jsonl").write_text('{"question_id": 1, "model": "m", "turn": 1, "score": 3}\n{broken\n')
    with pytest.raises(InputError, match=r"b\.jsonl, row 2: "):
        mtbench([tmp_path / "b.jsonl"])


def test_the_command_has_the_numbers_under_their_names(tmp_path, capsys):
    path = turns(tmp_path / "a.jsonl", [8, 7, -1, 9], [1, 1, 2, 2])
    assert main(["evaluate", "mtbench", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["average"], said["turn_1"], said["failed"]) == (8.0, 7.5, 0.25)
