"""RewardBench 2: the paper's rules by hand, combinatorics for random scores, and models that are tiny but real."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pairwright.errors import InputError
from pairwright.evaluate import rewardbench2, rewardbench2_data, rewardbench2_rows
from pairwright.evaluate.ties import Prompts, parts_of, row_of, score_of
from pairwright.scorers import Score, score

OFFICIAL = ["Factuality", "Precise IF", "Math", "Safety", "Focus"]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(at, subset, num_correct, scores):
    return {"id": at, "subset": subset, "num_correct": num_correct, "scores": scores}


def ties(ref, tied):
    """Rows of Ties: by prompt, the scores of its right answers and of its wrong ones."""
    rows = [row(f"ref:{n}", "Ties", len(right), [*right, *wrong]) for n, (right, wrong) in ref.items()]
    return rows + [row(f"tied:{n}", "Ties", len(right), [*right, *wrong]) for n, (right, wrong) in tied.items()]


def value(result, name):
    return result.metric(name).value


WORKED = ties(
    {0: ([2.0], [0.5, 0.1, -1.0]), 1: ([1.0], [1.2, 0.0, 0.3])},
    {0: ([2.0, 1.8, 1.9], [0.5, 0.1]), 1: ([1.5, 0.4], [0.6, 0.2])},
)


def test_the_worked_ties_example(tmp_path):
    """Prompt 0: margins 1.5 and 1.3, spread 0.2. Prompt 1: margins -0.2 and -0.2, spread 1.1.

    Half of all rows and prompts are right; tanh(1.3 / 0.2 - 1) = tanh(5.5) and tanh(-0.2 / 1.1 - 1) = tanh(-13/11).
    """
    result = rewardbench2(write(tmp_path / "rows.jsonl", WORKED), draws=50)
    margin = (math.tanh(5.5) + math.tanh(-13 / 11)) / 2
    assert margin == pytest.approx(0.085971, abs=1e-6)
    for part in ("tied_accuracy", "ref_accuracy", "preferred", "hard"):
        assert value(result, f"Ties/{part}") == 0.5
    assert value(result, "Ties/margin") == pytest.approx(margin)
    assert value(result, "Ties") == pytest.approx(0.3 * 0.5 + 0.3 * 0.5 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * margin)
    assert value(result, "Ties") == pytest.approx(0.500860, abs=5e-7)


def test_the_worked_example_with_its_scores_turned_round(tmp_path):
    """Minus every score: each margin is below 0, as the worst right answer is below the best wrong one in every row."""
    turned = [{**one, "scores": [-score for score in one["scores"]]} for one in WORKED]
    result = rewardbench2(write(tmp_path / "rows.jsonl", turned), draws=50)
    assert value(result, "Ties") < 0.0


@pytest.mark.parametrize(
    ("scores", "credit"),
    [
        ([1, 0, 0, 0], 1.0),
        ([1, 1, 0, 0], 0.5),
        ([2, 2, 2, 0], 1 / 3),
        ([3, 3, 3, 3], 0.25),
        ([0, 1, 0, 0], 0.0),
        ([1, 1, 2, 0], 0.0),
        ([-1, -2, -3, -4], 1.0),
        ([None, 1, 0, 0], 0.0),
        ([1, None, None, None], 1.0),
        ([None, None, None, None], 0.25),
        ([1, None, 1, 0], 0.5),
    ],
)
def test_credit_of_a_row_is_shared_among_those_that_are_first(tmp_path, scores, credit):
    result = rewardbench2(write(tmp_path / "rows.jsonl", [row(1, "Math", 1, scores)]), draws=20)
    assert value(result, "Math") == value(result, "average") == pytest.approx(credit)


def made(scores_of, *, rows=6):
    """All six domains; `scores_of(num_correct, num_wrong)` gives the scores of a row."""
    found = [row(f"{name}-{n}", name, 1, scores_of(1, 3)) for name in OFFICIAL for n in range(rows)]
    ref = {n: np.split(np.array(scores_of(1, 3)), [1]) for n in range(rows)}
    tied = {n: np.split(np.array(scores_of(3, 3)), [3]) for n in range(rows)}
    return found + ties(
        {n: (list(map(float, a)), list(map(float, b))) for n, (a, b) in ref.items()},
        {n: (list(map(float, a)), list(map(float, b))) for n, (a, b) in tied.items()},
    )


def test_an_oracle_has_one_everywhere_and_a_hundredth_more_in_ties(tmp_path):
    """No spread and a margin of 1: tanh(1 / 0 - 1) = 1."""
    result = rewardbench2(write(tmp_path / "rows.jsonl", made(lambda c, w: [1.0] * c + [0.0] * w)), draws=50)
    assert [value(result, name) for name in OFFICIAL] == [1.0] * 5
    assert value(result, "Ties") == pytest.approx(1.01)
    assert value(result, "average") == pytest.approx((5 + 1.01) / 6)
    assert result.metric("average").n == 6
    assert not result.notes


def test_constant_scores_have_a_quarter_of_four_and_nothing_in_ties(tmp_path):
    result = rewardbench2(write(tmp_path / "rows.jsonl", made(lambda c, w: [0.7] * (c + w))), draws=50)
    assert [value(result, name) for name in OFFICIAL] == [0.25] * 5
    assert value(result, "Ties") == 0.0
    assert [line["chance"] for line in result.table[:5]] == [0.25] * 5
    assert [line["shared_first"] for line in result.table[:5]] == [6] * 5


def test_the_wrong_way_round_has_nothing(tmp_path):
    """Margin -1 and no spread: tanh(-1 / 0 - 1) = -1, and everything else is 0."""
    result = rewardbench2(write(tmp_path / "rows.jsonl", made(lambda c, w: [0.0] * c + [1.0] * w)), draws=50)
    assert [value(result, name) for name in OFFICIAL] == [0.0] * 5
    assert value(result, "Ties") == pytest.approx(-0.01)


def test_random_scores_are_at_chance(tmp_path):
    """Best of four 1/4; a row with c right and m wrong answers is accurate with probability c! m! / (c + m)!."""
    random = np.random.default_rng(5)
    rows = made(lambda c, w: random.normal(size=c + w).tolist(), rows=1500)
    result = rewardbench2(write(tmp_path / "rows.jsonl", rows), draws=200)
    for name in OFFICIAL:
        assert value(result, name) == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 1500))
    chance = math.factorial(3) ** 2 / math.factorial(6)
    assert value(result, "Ties/tied_accuracy") == pytest.approx(chance, abs=4 * math.sqrt(chance / 1500))
    assert value(result, "Ties/ref_accuracy") == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 1500))
    for name in OFFICIAL:
        metric = result.metric(name)
        half = 1.96 * math.sqrt(0.25 * 0.75 / 1500)
        assert (metric.high - metric.low) / 2 == pytest.approx(half, rel=0.2)
    # Six independent domains: the mean of five with variance v and of Ties with that of its own interval.
    spread = [(result.metric(name).high - result.metric(name).low) ** 2 for name in (*OFFICIAL, "Ties")]
    average = result.metric("average")
    assert average.high - average.low == pytest.approx(math.sqrt(sum(spread)) / 6, rel=0.15)


@pytest.mark.parametrize(("right", "wrong", "expected"), [(2, 3, 0.105), (5, 5, 0.042), (7, 6, 0.033)])
def test_random_ties_come_out_as_simulated(right, wrong, expected):
    """`expected` is the mean of independent simulations of the formula, to 3 decimals."""
    random = np.random.default_rng(right)
    found = []
    for _ in range(120):
        both = []
        for _ in range(51):
            ref, tied = random.normal(size=1 + wrong).tolist(), random.normal(size=right + wrong).tolist()
            both.append((row_of(ref[:1], ref[1:]), row_of(tied[:right], tied[right:])))
        found.append(score_of(parts_of(Prompts.of(both))))
    assert np.mean(found) == pytest.approx(expected, abs=0.006)


def test_ties_by_a_plain_loop(tmp_path):
    """The same formula again, prompt by prompt, without arrays, on random scores."""
    random = np.random.default_rng(11)
    ref = {n: (random.normal(2, 1, 1).tolist(), random.normal(0, 1, 4).tolist()) for n in range(40)}
    tied = {n: (random.normal(2, 0.5, 3).tolist(), random.normal(0, 1, 4).tolist()) for n in range(40)}
    result = rewardbench2(write(tmp_path / "rows.jsonl", ties(ref, tied)), draws=20)

    def margin(one):
        return min(one[0]) - max(one[1])

    spread = {n: max(one[0]) - min(one[0]) for n, one in tied.items()}
    smaller = {n: min(margin(ref[n]), margin(tied[n])) for n in tied}
    expected = 0.3 * sum(margin(one) > 0 for one in tied.values()) / 40
    expected += 0.3 * sum(margin(one) > 0 for one in ref.values()) / 40
    expected += 0.2 * sum(margin(one) > spread[n] for n, one in tied.items()) / 40
    expected += 0.2 * sum(smaller[n] > spread[n] for n in tied) / 40
    expected += 0.01 * sum(math.tanh(smaller[n] / spread[n] - 1) for n in tied) / 40
    assert value(result, "Ties") == pytest.approx(expected)
    assert 0.2 < expected < 1.0


def test_no_factor_and_no_shift_of_the_scores_changes_anything(tmp_path):
    """So that neither beta nor the scale of a reward model matters."""
    other = [{**one, "scores": [7.5 * score - 3 for score in one["scores"]]} for one in WORKED]
    one, two = (rewardbench2(write(tmp_path / f"{n}.jsonl", rows), draws=20) for n, rows in enumerate((WORKED, other)))
    assert value(one, "Ties") == pytest.approx(value(two, "Ties"))


def test_a_prompt_with_one_of_its_rows_counts_in_that_accuracy_alone(tmp_path):
    """Prompts 0 and 1 as in the worked example; prompt 2 has a right ref row only, 3 a wrong tied row only."""
    more = ties({2: ([1.0], [0.0])}, {3: ([0.0, 1.0], [0.5])})
    result = rewardbench2(write(tmp_path / "rows.jsonl", [*WORKED, *more]), draws=50)
    assert value(result, "Ties/ref_accuracy") == pytest.approx(2 / 3)
    assert value(result, "Ties/tied_accuracy") == pytest.approx(1 / 3)
    assert value(result, "Ties/preferred") == value(result, "Ties/hard") == 0.5
    assert {part: result.metric(f"Ties/{part}").n for part in ("ref_accuracy", "tied_accuracy", "hard")} == {
        "ref_accuracy": 3,
        "tied_accuracy": 3,
        "hard": 2,
    }
    assert any("2 of 4 prompts have one of their two rows" in note for note in result.notes)


def test_a_tied_row_with_one_right_answer_has_no_spread_and_counts_in_the_accuracy_alone(tmp_path):
    more = ties({2: ([1.0], [0.0])}, {2: ([1.0], [0.5])})
    result = rewardbench2(write(tmp_path / "rows.jsonl", [*WORKED, *more]), draws=50)
    assert value(result, "Ties/tied_accuracy") == pytest.approx(2 / 3)
    assert value(result, "Ties/preferred") == 0.5
    assert any("1 tied rows have one right answer" in note for note in result.notes)


def test_ties_without_any_prompt_that_has_both_rows_has_no_score_and_is_not_in_the_average(tmp_path):
    rows = [*ties({0: ([1.0], [0.0])}, {1: ([1.0, 1.0], [0.0])}), row(1, "Math", 1, [1, 0, 0, 0])]
    result = rewardbench2(write(tmp_path / "rows.jsonl", rows), draws=20)
    assert value(result, "Ties") is None
    assert value(result, "average") == 1.0
    assert any("Ties has no score" in note for note in result.notes)
    assert result.to_dict()["Ties"] is None


def test_a_row_without_a_wrong_answer_is_left_out_and_counted(tmp_path):
    rows = [row(1, "Math", 1, [1, 0, 0, 0]), row(2, "Math", 2, [0, 0])]
    result = rewardbench2(write(tmp_path / "rows.jsonl", rows), draws=20)
    assert (result.n, value(result, "Math")) == (1, 1.0)
    assert any("1 rows have no wrong answer" in note for note in result.notes)


def test_answers_without_a_score_in_ties_lie_below_all_others():
    assert row_of([1.0, None], [0.0]) == (False, None, None)
    assert row_of([1.0, 0.8], [0.0, None]) == (True, None, None)
    assert row_of([1.0, 0.8], [None, None]) == (True, None, None)
    assert row_of([None, None], [None]) == (False, None, None)
    assert row_of([1.0, 0.8], [0.0, 0.1]) == (True, pytest.approx(0.7), pytest.approx(0.2))


@pytest.mark.parametrize("lost", ["right", "wrong"])
def test_a_prompt_with_an_answer_without_a_score_in_ties_says_nothing_of_distances(tmp_path, lost):
    """A third prompt: its ref row is right or wrong by the null, and preferred, hard and margin stay as they were."""
    ref = ([None], [5.0]) if lost == "right" else ([5.0], [None])
    more = ties({2: ref}, {2: ([9.0, 8.0], [0.0])})
    result = rewardbench2(write(tmp_path / "rows.jsonl", [*WORKED, *more]), draws=50)
    assert value(result, "Ties/ref_accuracy") == pytest.approx((1 if lost == "right" else 2) / 3)
    assert value(result, "Ties/tied_accuracy") == pytest.approx(2 / 3)
    assert value(result, "Ties/preferred") == value(result, "Ties/hard") == 0.5
    assert value(result, "Ties/margin") == pytest.approx(0.085971, abs=1e-6)
    assert any("1 of 3 prompts have an answer without a score" in note for note in result.notes)
    assert value(result, "unscored") == pytest.approx(1 / (17 + 5))


def test_the_average_is_of_domains_and_not_of_rows(tmp_path):
    rows = [row(n, "Math", 1, [1, 0, 0, 0]) for n in range(9)] + [row("x", "Safety", 1, [0, 1, 0, 0])]
    result = rewardbench2(write(tmp_path / "rows.jsonl", rows), draws=20)
    assert value(result, "average") == 0.5
    assert any("no rows of Factuality, Precise IF, Focus, Ties" in note for note in result.notes)


def test_names_of_domains_are_one_whatever_their_case(tmp_path):
    rows = [{**one, "subset": "ties"} for one in WORKED] + [row(1, "precise if", 1, [1, 0])]
    result = rewardbench2(write(tmp_path / "rows.jsonl", rows), draws=20)
    assert value(result, "Ties") == pytest.approx(0.500860, abs=5e-7)
    assert value(result, "Precise IF") == 1.0


def test_the_same_seed_gives_the_same_interval(tmp_path):
    random = np.random.default_rng(0)
    path = write(tmp_path / "rows.jsonl", made(lambda c, w: random.normal(size=c + w).tolist()))
    one, two, other = (rewardbench2(path, draws=50, seed=seed) for seed in (3, 3, 4))
    assert one == two
    assert one.metric("average").low != other.metric("average").low


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"id": 1, "subset": "Math", "num_correct": 0, "scores": [1, 0]}, "num_correct"),
        ({"id": 1, "subset": "Math", "num_correct": 3, "scores": [1, 0]}, "num_correct is 3, but there are 2 scores"),
        ({"id": 1, "subset": "Math", "num_correct": 1, "scores": "much"}, "scores"),
        ({"id": 1, "subset": "Math", "num_correct": 1, "scores": None}, "scores"),
        ({"id": 1, "subset": "Math", "num_correct": None, "scores": [1, 0]}, "num_correct"),
        ({"id": "other:1", "subset": "Ties", "num_correct": 1, "scores": [1, 0]}, "neither ref:N nor tied:N"),
        ({"id": "ok", "subset": "Math", "num_correct": 1, "scores": [1, 0]}, "is in row 1 too"),
    ],
)
def test_a_bad_row_is_named(tmp_path, bad, says):
    path = write(tmp_path / "rows.jsonl", [row("ok", "Math", 1, [1, 0]), bad])
    with pytest.raises(InputError, match=says) as caught:
        rewardbench2(path)
    assert "rows.jsonl, row 2" in str(caught.value)


def test_a_score_that_is_no_number_is_refused_and_a_broken_line_too(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1, "subset": "Math", "num_correct": 1, "scores": [NaN, 0]}\n')
    with pytest.raises(InputError, match="row 1: a score is not finite; write null"):
        rewardbench2(path)
    path.write_text('{"id": 1, "subset": "Math", "num_correct": 1, "scores": [1, 0]}\n{"id": \n')
    with pytest.raises(InputError, match="row 2"):
        rewardbench2(path)


def test_missing_columns_are_named(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"id": 1, "subset": "Math", "scores": [1, 0]}])
    with pytest.raises(InputError, match="has no column 'num_correct'"):
        rewardbench2(path)


def questions():
    """Rows as upstream has them; the right answer is the one that says yes."""
    rows = [
        {"id": str(n), "subset": name, "num_correct": 1, "total_completions": 4, "prompt": f"Is {n} a number?"}
        | {"chosen": [f"yes, {n} is"], "rejected": ["no", "no " * (n + 1), "not at all, it is none"]}
        for name in OFFICIAL
        for n in range(3)
    ]
    for n in range(3):
        asked = f"Name a colour, {n}."
        rows.append(
            {"id": f"ref:{n}", "subset": "Ties", "num_correct": 1, "prompt": asked}
            | {"chosen": ["yes red"], "rejected": ["two", "three"]}
        )
        rows.append(
            {"id": f"tied:{n}", "subset": "Ties", "num_correct": 2, "prompt": asked}
            | {"chosen": ["yes red", "yes blue"], "rejected": ["two", "three"]}
        )
    return rows


def says_yes(samples):
    return [Score(float(sample.answer.startswith("yes"))) for sample in samples]


def by_length(samples):
    return [Score(float(len(sample.answer))) for sample in samples]


def test_official_rows_become_preferences_and_come_back(tmp_path):
    rows = questions()
    prefs = rewardbench2_data(write(tmp_path / "rb2.jsonl", rows))
    assert prefs.counts() == (len(rows), sum(len(one["chosen"]) + len(one["rejected"]) for one in rows), 15 * 3 + 3 * 6)
    back = rewardbench2_rows(score(prefs, f"{__name__}:by_length"))
    expected = [
        {"id": one["id"], "subset": one["subset"], "num_correct": one["num_correct"]}
        | {"scores": [float(len(text)) for text in (*one["chosen"], *one["rejected"])]}
        for one in rows
    ]
    assert back == expected
    # A prompt that two rows share is two prompts, so that no scorer compares their answers.
    assert prefs.prompts.select(pl.col("prompt_id").n_unique()).collect().item() == len(rows)


def test_official_rows_are_scored_by_any_scorer(tmp_path):
    path = write(tmp_path / "rb2.jsonl", questions())
    kept = tmp_path / "scores.jsonl"
    result = rewardbench2(path, scorer=f"{__name__}:says_yes", scores_to=kept, draws=50)
    assert value(result, "average") == pytest.approx((5 + 1.01) / 6)
    again = rewardbench2(kept, draws=50)
    assert again.metrics == result.metrics
    lengths = rewardbench2(path, scorer={"with": f"{__name__}:by_length"}, draws=50)
    assert value(lengths, "average") < 0.6


def test_ties_may_have_a_scorer_of_its_own(tmp_path):
    path = write(tmp_path / "rb2.jsonl", questions())
    mixed = rewardbench2(path, scorer=f"{__name__}:says_yes", ties_scorer=f"{__name__}:by_length", draws=20)
    yes, length = (rewardbench2(path, scorer=f"{__name__}:{name}", draws=20) for name in ("says_yes", "by_length"))
    assert [value(mixed, name) for name in OFFICIAL] == [value(yes, name) for name in OFFICIAL]
    assert value(mixed, "Ties") == value(length, "Ties") != value(yes, "Ties")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "has no scores"),
        ({"scorer": "x", "model": "y"}, "either scorer or model"),
        ({"scorer": "x", "reference": "y"}, "reference is what model was trained from"),
        ({"model": "x", "ties_scorer": "y"}, "ties_scorer stands beside a scorer"),
    ],
)
def test_what_does_not_fit_together_is_said(tmp_path, settings, says):
    with pytest.raises(InputError, match=says):
        rewardbench2(write(tmp_path / "rb2.jsonl", questions()), **settings)


def test_scored_rows_take_no_scorer(tmp_path):
    with pytest.raises(InputError, match="has scores already; leave out scorer"):
        rewardbench2(write(tmp_path / "rows.jsonl", WORKED), scorer="column")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"chosen": []}, "chosen with at least one"),
        ({"chosen": ["a", "b"]}, "num_correct is 1, but chosen has 2"),
        ({"rejected": ["a", None]}, "null"),
        ({"prompt": None}, "null"),
    ],
)
def test_a_bad_official_row_is_named(tmp_path, change, says):
    rows = questions()
    rows[4] |= change
    with pytest.raises(InputError, match=says) as caught:
        rewardbench2_data(write(tmp_path / "rb2.jsonl", rows))
    assert "row 5" in str(caught.value)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two random models that share a tokenizer."""
    pytest.importorskip("torch")
    import tiny

    folder = tmp_path_factory.mktemp("models")
    return [str(tiny.model(folder / str(seed), seed=seed)) for seed in (0, 1)]


def plain_logps(place, rows):
    """Each answer's log-probability and number of tokens, one text at a time: the tokens after the prompt's."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reader, model = AutoTokenizer.from_pretrained(place), AutoModelForCausalLM.from_pretrained(place).eval()
    found = []
    for one in rows:
        asked = [{"role": "user", "content": one["prompt"]}]
        head = reader.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        numbers = []
        for answer in (*one["chosen"], *one["rejected"]):
            whole = reader.apply_chat_template(
                [*asked, {"role": "assistant", "content": answer}], add_generation_prompt=False, tokenize=False
            )
            start = len(reader(head, add_special_tokens=False)["input_ids"])
            ids = torch.tensor([reader(whole, add_special_tokens=False)["input_ids"]])
            with torch.no_grad():
                logp = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
            numbers.append((float(logp[start - 1 :].sum()), ids.shape[1] - start))
        found.append(numbers)
    return found


def test_implicit_rewards_with_and_without_a_reference_are_those_of_a_plain_loop(tmp_path, models):
    rows = questions()
    path = write(tmp_path / "rb2.jsonl", rows)
    policy, reference = models
    kept = tmp_path / "scores.jsonl"
    result = rewardbench2(path, model=policy, reference=reference, scores_to=kept, draws=20)
    ours = [json.loads(line)["scores"] for line in kept.read_text().splitlines()]
    of_policy, of_reference = plain_logps(policy, rows), plain_logps(reference, rows)
    for mine, pi, ref in zip(ours, of_policy, of_reference, strict=True):
        assert mine == pytest.approx([a[0] - b[0] for a, b in zip(pi, ref, strict=True)], abs=2e-3)
    for how, number in (("sum", lambda one: one[0]), ("mean", lambda one: one[0] / one[1])):
        scored = [
            {**{key: one[key] for key in ("id", "subset", "num_correct")}, "scores": [number(each) for each in numbers]}
            for one, numbers in zip(rows, of_policy, strict=True)
        ]
        expected = rewardbench2(write(tmp_path / f"{how}.jsonl", scored), draws=20)
        assert value(result, f"average/{how}") == pytest.approx(value(expected, "average"), abs=1e-4)
        alone = rewardbench2(path, model=policy, reference_free=how, draws=20)
        assert value(alone, "average") == pytest.approx(value(expected, "average"), abs=1e-4)


def test_model_and_reference_must_be_two(tmp_path, models):
    with pytest.raises(InputError, match="are one model"):
        rewardbench2(write(tmp_path / "rb2.jsonl", questions()), model=models[0], reference=models[0])


def test_log_probability_per_token_is_over_the_tokens_of_the_answer_and_its_end(tmp_path, models):
    rows = questions()
    path, kept = write(tmp_path / "rb2.jsonl", rows), tmp_path / "scores.jsonl"
    rewardbench2(path, model=models[0], reference_free="mean", scores_to=kept, draws=2)
    ours = [json.loads(line)["scores"] for line in kept.read_text().splitlines()]
    for mine, numbers in zip(ours, plain_logps(models[0], rows), strict=True):
        assert mine == pytest.approx([total / tokens for total, tokens in numbers], abs=1e-3)


def test_answers_that_a_model_cannot_read_are_counted(tmp_path, models):
    rows = questions()
    rows[0]["rejected"][0] = "no " * 300
    path = write(tmp_path / "rb2.jsonl", rows)
    result = rewardbench2(path, model=models[0], max_length=200, draws=2)
    answers = sum(len(each["chosen"]) + len(each["rejected"]) for each in rows)
    assert value(result, "unscored") == pytest.approx(1 / answers)
    assert any("1 answers have no log-probability" in note for note in result.notes)
    assert {"reference_free", "tokenizer", "max_length", "batch_tokens", "dtype"} <= result.settings.keys()
    assert result.settings["max_length"] == 200


def counted(samples):
    CALLS.append(len(samples))
    return says_yes(samples)


CALLS = []


@pytest.mark.parametrize("place", ["rb2.jsonl", "link.jsonl", ".", "rb2.jsonl/under.jsonl"])
def test_scores_never_take_the_place_of_what_is_read_and_nothing_is_scored_before(tmp_path, place):
    path = write(tmp_path / "rb2.jsonl", questions())
    (tmp_path / "link.jsonl").symlink_to(path)
    before = path.read_bytes()
    CALLS.clear()
    with pytest.raises(InputError, match=r"scores_to is|cannot be made a directory"):
        rewardbench2(path, scorer=f"{__name__}:counted", scores_to=tmp_path / place, draws=2)
    assert (path.read_bytes(), CALLS) == (before, [])


def test_scores_never_go_into_the_directory_of_a_model(tmp_path):
    (tmp_path / "model").mkdir()
    path = write(tmp_path / "rb2.jsonl", questions())
    with pytest.raises(InputError, match="lies in what is read"):
        rewardbench2(path, model=str(tmp_path / "model"), scores_to=tmp_path / "model" / "config.json")


@pytest.mark.parametrize("name", ["average", "n", "unscored", "Ties/margin", "average/sum"])
def test_a_subset_that_is_called_as_a_measure_is_refused(tmp_path, name):
    path = write(tmp_path / "rows.jsonl", [row(1, "Math", 1, [1, 0]), row(2, name, 1, [1, 0])])
    with pytest.raises(InputError, match=r"row 2: a subset cannot be called"):
        rewardbench2(path)


@pytest.mark.parametrize("bad", [{"scores": [True, 0]}, {"num_correct": True}, {"scores": ["3", 0]}])
def test_true_is_no_number_and_text_is_no_score(tmp_path, bad):
    path = write(tmp_path / "rows.jsonl", [row(1, "Math", 1, [1, 0]), row(2, "Math", 1, [1, 0]) | bad])
    with pytest.raises(InputError, match=r"rows\.jsonl, row 2: "):
        rewardbench2(path)


def test_a_cell_that_is_no_list_is_named(tmp_path):
    (tmp_path / "rows.csv").write_text('id,subset,num_correct,scores\n1,Math,1,"[1, 0]"\n2,Math,1,"[1, 2"\n')
    with pytest.raises(InputError, match=r"rows\.csv, row 3: scores: '\[1, 2' is no list"):
        rewardbench2(tmp_path / "rows.csv")
    (tmp_path / "rows.csv").write_text('id,subset,num_correct,scores\n1,Math,1,"[1, 0]"\n2,Math,1,"[1, 2]"\n')
    assert value(rewardbench2(tmp_path / "rows.csv", draws=2), "Math") == 0.5


def test_the_number_of_a_ties_prompt_is_a_number(tmp_path):
    """`ref:01` is the other row of `tied:1`, and the same as `ref:1`."""
    ref, tied = ties({1: ([1.0], [0.0])}, {1: ([1.0, 1.0], [0.0])})
    result = rewardbench2(write(tmp_path / "rows.jsonl", [ref | {"id": "ref:01"}, tied]), draws=2)
    assert value(result, "Ties") == pytest.approx(1.01)
    with pytest.raises(InputError, match="is in row 1 too"):
        rewardbench2(write(tmp_path / "rows.jsonl", [ref | {"id": "ref:01"}, ref]))
    long = rewardbench2(write(tmp_path / "long.jsonl", [ref | {"id": "ref:" + "7" * 5000}]), draws=2)
    assert value(long, "Ties/ref_accuracy") == 1.0


def test_ends_of_an_interval_rest_on_two_cases_of_every_domain(tmp_path):
    rows = [row(n, "Math", 1, [n % 2, 0.5]) for n in range(8)]
    more = row(9, "Safety", 1, [1, 0])
    alone, both = (
        rewardbench2(write(tmp_path / f"{len(each)}.jsonl", each), draws=50) for each in (rows, [*rows, more])
    )
    assert alone.metric("average").low is not None
    assert (both.metric("average").low, both.metric("Safety").low) == (None, None)


def test_the_interval_of_a_domain_is_at_95_percent(tmp_path):
    """A share of one half of 400 rows: 1.96 standard errors of 0.025 to each side, where 90% would be 1.645."""
    rows = [row(n, "Math", 1, [n % 2, 0.5]) for n in range(400)]
    metric = rewardbench2(write(tmp_path / "rows.jsonl", rows), draws=4000).metric("Math")
    assert metric.high - metric.low == pytest.approx(2 * 1.96 * 0.025, rel=0.06)


def test_a_scorer_that_names_one_best_answer_of_ties_is_noted(tmp_path):
    best = [*WORKED[:2], row("tied:0", "Ties", 2, [1, 0, 0]), row("tied:1", "Ties", 3, [0, 1, 0, 0])]
    said = "name one best answer"
    assert any(said in note for note in rewardbench2(write(tmp_path / "a.jsonl", best), draws=2).notes)
    assert not any(said in note for note in rewardbench2(write(tmp_path / "b.jsonl", WORKED), draws=2).notes)


def test_the_command_never_writes_over_what_a_flag_reads_and_looks_before_it_pays(tmp_path, capsys):
    from pairwright.cli import main

    path = write(tmp_path / "rb2.jsonl", questions())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    words = ["evaluate", "rewardbench2", str(path)]
    scored = ["--scorer", f"{__name__}:counted"]
    config, kept = str(tmp_path / "model" / "config.json"), str(tmp_path / "kept.jsonl")
    CALLS.clear()
    for more, says in (
        (["--model", str(tmp_path / "model"), "-o", config], "lies in the input"),
        ([*scored, "--scores-to", kept, "-o", kept], "is given as scores_to too"),
        ([*scored, "-o", str(tmp_path / "model")], "is a directory"),
        ([*scored, "-o", str(path / "under.json")], "cannot be made a directory"),
    ):
        assert main([*words, *more]) == 2
        assert says in capsys.readouterr().err
    assert (CALLS, (tmp_path / "model" / "config.json").read_text()) == ([], "{}")
    assert main([*words, *scored, "--scores-to", kept, "-o", str(tmp_path / "out.json")]) == 0
    assert CALLS
    assert Path(kept).exists()


def test_the_command_prints_the_numbers_and_the_json_schema(tmp_path, capsys):
    from pairwright.cli import main

    path = write(tmp_path / "rows.jsonl", [*WORKED, row(1, "Math", 1, [1, 1, 0, 0])])
    assert main(["evaluate", "rewardbench2", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["Ties"] == pytest.approx(0.500860, abs=5e-7)
    assert found["Math"] == 0.5
    assert found["average"] == pytest.approx((0.500860 + 0.5) / 2, abs=5e-7)
    unscored = write(tmp_path / "rb2.jsonl", questions())
    scorer = f"{{with: '{__name__}:says_yes'}}"
    assert main(["evaluate", "rewardbench2", str(unscored), "--scorer", scorer, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["average"] == pytest.approx((5 + 1.01) / 6)
    assert main(["evaluate", "rewardbench2", str(path)]) == 0
    assert "There are no rows of Factuality" in capsys.readouterr().out


def test_a_recipe_has_it_as_a_step(tmp_path):
    from pairwright.pipeline.steps import check_step, find_verb

    _, verb, settings = find_verb("evaluate", {"what": "rewardbench2", "rows": "x.jsonl", "seed": 3}, title="step")
    checked = check_step(verb, settings, title="step")
    assert (checked["rows"], checked["seed"]) == (Path("x.jsonl"), 3)


def test_no_measure_hides_another_and_none_is_infinite():
    from pairwright.evaluate.result import Metric, Result

    one = Metric(name="a", value=math.inf, low=-math.inf, high=2.0, n=1, says="")
    assert (one.value, one.low, one.high) == (None, None, 2.0)
    assert Result(name="x", n=1, metrics=(one,)).to_dict()["a"] is None
    with pytest.raises(InputError, match="the measure 'a' is there twice"):
        Result(name="x", n=1, metrics=(one, one))


def test_what_could_not_be_scored_stands_next_to_the_average(tmp_path):
    from pairwright.report.measures import HEADLINE

    result = rewardbench2(write(tmp_path / "rows.jsonl", WORKED), draws=2)
    assert [metric.name for metric in result.metrics[: HEADLINE["rewardbench2"]]] == ["average", "unscored"]


def test_the_step_of_a_recipe_keeps_the_scores_that_were_paid_for(tmp_path):
    from pairwright.pipeline.steps import check_step, find_verb

    _, verb, settings = find_verb("evaluate", {"what": "rewardbench2", "rows": "x.jsonl"}, title="step")
    assert verb.paths == {"scores_to": "scores.jsonl"}
    with pytest.raises(InputError, match="scores_to"):
        check_step(verb, {**settings, "scores_to": "rows.jsonl"}, title="step")
