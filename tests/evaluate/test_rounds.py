"""The table by round, against hand arithmetic and SciPy."""

import math

import polars as pl
import pytest
import scipy.stats

from pairwright.errors import InputError
from pairwright.evaluate import as_asked, rounds
from pairwright.evaluate.rounds import by_round
from pairwright.goals import GoalFormat
from pairwright.preferences import Preferences, Step


def drawn(rows, *, model="m", steps=None, goal=None):
    """Answers as `generate`, `score` and `logprobs` leave them: (prompt, score, logp_policy, logp_start, len)."""
    ids = list(dict.fromkeys(row[0] for row in rows))
    prompts = pl.DataFrame({"prompt_id": ids, "prompt": [[{"role": "user", "content": each}] for each in ids]})
    names = ("score", "logp_policy", "logp_start", "len_policy")
    frame = pl.DataFrame({"prompt_id": [row[0] for row in rows]}).with_columns(
        pl.Series(name, [row[i + 1] for row in rows], dtype=pl.Float64) for i, name in enumerate(names)
    )
    frame = frame.with_columns(
        response=pl.Series([[{"role": "assistant", "content": "x"}]] * len(rows)),
        model=pl.lit(model),
        goal=pl.lit(goal, dtype=pl.Float64),
        stopped=pl.lit("eos"),
    )
    lineage = [Step(name="generate", settings={"temperature": 1.0, "top_p": 1.0})] if steps is None else steps
    return Preferences.of(prompts, frame, lineage=lineage)


START = drawn([("p", 4, -10, -10, 5), ("p", 6, -12, -12, 7), ("q", 2, -8, -8, 4), ("r", 3, -9, -9, 6)], model="base")
ONE = drawn([("q", 5, -6, -9, 5), ("p", 8, -10, -11, 9), ("p", 4, -7, -10, 5), ("r", 3, -9, -8, 6)], model="one")


def value(result, name):
    return result.metric(name).value


def test_a_prompt_counts_once_and_the_divergence_is_the_mean_log_ratio_of_the_policys_own_answers():
    result = rounds([START, ONE])
    # p: (8 + 4) / 2 = 6, q: 5, r: 3; before: 5, 2, 3.
    assert value(result, "score/0") == pytest.approx((5 + 2 + 3) / 3)
    assert value(result, "score/1") == pytest.approx((6 + 5 + 3) / 3)
    assert value(result, "gain") == pytest.approx((1 + 3 + 0) / 3)
    # Log-ratios policy minus start: p: (1 + 3) / 2 = 2, q: 3, r: -1. A sample may be negative, the mean is not cut.
    assert value(result, "kl/0") == 0.0
    assert value(result, "kl/1") == pytest.approx((2 + 3 - 1) / 3)
    assert value(result, "length/1") == pytest.approx((7 + 5 + 6) / 3)
    assert [row["model"] for row in result.table] == ["base", "one"]
    assert [(row["prompts"], row["answers"], row["unscored"]) for row in result.table] == [(3, 4, 0), (3, 4, 0)]
    assert result.notes == ()


def test_intervals_are_over_prompts_as_scipy_has_them():
    metric = rounds([START, ONE]).metric("kl/1")
    low, high = scipy.stats.t.interval(0.95, 2, loc=4 / 3, scale=scipy.stats.sem([2.0, 3.0, -1.0]))
    assert (metric.low, metric.high, metric.n) == (pytest.approx(low), pytest.approx(high), 3)


def test_the_divergence_of_a_known_policy_is_met():
    """A policy that says a with probability 0.8 and b with 0.2, a start with one half each.

    KL = 0.8 ln(0.8 / 0.5) + 0.2 ln(0.2 / 0.5) = 0.3760 - 0.1833 = 0.1927 nats; the other way round it is 0.2231.
    Of 1000 samples exactly 800 are a here, so the estimate is the divergence itself.
    """
    a, b = (math.log(0.8), math.log(0.5)), (math.log(0.2), math.log(0.5))
    mine = drawn([(f"p{i}", 1, *(a if i % 5 else b), 1) for i in range(1000)])
    metric = rounds([drawn([(f"p{i}", 1, 0, 0, 1) for i in range(1000)]), mine]).metric("kl/1")
    assert metric.value == pytest.approx(0.1927, abs=5e-5)
    assert metric.low < 0.1927 < metric.high
    assert metric.high < 0.2331


def test_changes_are_from_the_round_before_and_the_gain_from_the_start():
    two = drawn([("p", 7, -6, -9, 5), ("q", 4, -6, -9, 5), ("r", 9, -6, -9, 5)])
    result = rounds([START, ONE, two])
    changes = [row["change"] for row in result.table]
    assert changes[0] is None
    assert changes[1:] == [pytest.approx(4 / 3), pytest.approx((1 - 1 + 6) / 3)]
    assert value(result, "gain") == pytest.approx((2 + 2 + 6) / 3)


def test_an_unscored_answer_is_counted_and_never_a_low_score():
    some = drawn([("p", None, -10, -11, 9), ("p", 8, -7, -10, 5), ("q", 5, None, -9, 5), ("r", 3, -9, -8, 6)])
    result = rounds([START, some])
    assert value(result, "score/1") == pytest.approx((8 + 5 + 3) / 3)
    assert value(result, "kl/1") == pytest.approx((2 - 1) / 2)  # p: (1 + 3) / 2, r: -1; q has none
    assert result.metric("kl/1").n == 2
    assert result.table[1]["unscored"] == 1
    assert any("Round 1: 1 of 4 answers have no score" in note for note in result.notes)
    assert any("Round 1: 1 of 4 answers have no log-probability" in note for note in result.notes)


@pytest.mark.parametrize(
    ("settings", "goal", "says"),
    [
        ({"temperature": 0.7}, None, "drawn with temperature 0.7"),
        ({"temperature": 1.0, "top_p": 0.95}, None, "drawn with top_p 0.95"),
        ({"temperature": 1.0}, 10.0, "put as_asked before logprobs"),
    ],
)
def test_where_log_ratios_estimate_no_divergence_there_is_none_and_a_note_says_why(settings, goal, says):
    other = drawn(
        [("p", 4, -1, -2, 5), ("q", 4, -1, -2, 5)], steps=[Step(name="generate", settings=settings)], goal=goal
    )
    result = rounds([START, other])
    assert value(result, "kl/1") is None
    assert value(result, "score/1") == 4
    assert any(says in note for note in result.notes)


def test_answers_without_log_probabilities_have_scores_all_the_same():
    bare = Preferences.of(
        ONE.prompts, ONE.responses.drop("logp_policy", "logp_start", "len_policy"), lineage=ONE.lineage
    )
    result = rounds([START, bare])
    assert value(result, "gain") == pytest.approx(4 / 3)
    assert value(result, "kl/1") is None
    assert value(result, "length/1") is None
    assert sum("no logp_policy and no logp_start" in note for note in result.notes) == 1


def test_answers_that_were_cut_are_said():
    cut = Preferences.of(ONE.prompts, ONE.responses.with_columns(stopped=pl.lit("length")), lineage=ONE.lineage)
    assert any("4 of 4 answers were cut" in note for note in rounds([START, cut]).notes)


def test_the_text_has_a_line_for_each_round():
    text = by_round(rounds([START, ONE])).splitlines()
    assert text[0].split()[:3] == ["round", "model", "score"]
    assert text[1].startswith("0      base")
    assert text[2].startswith("1      one")
    assert "gain over all rounds 1.33" in text[3]


def test_what_cannot_be_a_table_is_refused():
    with pytest.raises(InputError, match="not of 1"):
        rounds([START])
    with pytest.raises(InputError, match="no scored prompt in common"):
        rounds([START, drawn([("z", 4, -1, -2, 5)])])
    with pytest.raises(InputError, match="round 1: 1 values of logp_start are not finite"):
        rounds([START, drawn([("p", 4, -1, math.inf, 5)])])


FORM = GoalFormat(template="Reach {scores} of {scale}.", placement="user")


def asked(goals, *, placement="user"):
    form = FORM.model_copy(update={"placement": placement})
    made = drawn([(prompt, 4, -1, -2, 5) for prompt, _ in goals], steps=[])
    frame = made.responses.with_columns(goal=pl.Series([goal for _, goal in goals], dtype=pl.Float64))
    step = Step(name="generate", settings={"goal_format": form.model_dump(mode="json"), "temperature": 1.0})
    return Preferences.of(made.prompts.with_columns(kind=pl.lit("x")), frame, lineage=[step])


def test_as_asked_puts_each_goal_into_its_prompt():
    before = asked([("p", 10.0), ("p", 2.0), ("p", 10.0), ("q", None)])
    after = as_asked(before)
    joined = after.responses.join(after.prompts, on="prompt_id", how="left", maintain_order="left").collect()
    texts = [prompt[-1]["content"] for prompt in joined["prompt"].to_list()]
    ten, two = "Reach Overall score: 10. of 10.\n\np", "Reach Overall score: 2. of 10.\n\np"
    assert texts == [ten, two, ten, "q"]
    assert joined["source_prompt_id"].to_list() == ["p", "p", "p", "q"]
    assert joined["prompt_id"].to_list()[3] == "q"
    assert after.prompts.select("kind", "source_prompt_id").collect().rows() == [("x", "p"), ("x", "p"), ("x", "q")]
    assert joined.select(before.responses.drop("prompt_id").collect_schema().names()).equals(
        before.responses.drop("prompt_id").collect()
    )


def test_as_asked_takes_a_system_message_where_generate_did():
    after = as_asked(asked([("p", 10.0)], placement="system"))
    assert [message["role"] for message in after.prompts.collect()["prompt"][0]] == ["system", "user"]


def test_rounds_meet_at_the_prompt_before_its_goal():
    other = as_asked(asked([("p", 10.0), ("q", 10.0), ("r", 10.0)]))
    result = rounds([START, other])
    assert result.table[1]["prompts"] == result.metric("gain").n == 3
    assert value(result, "kl/1") == pytest.approx(1.0)


def test_as_asked_needs_to_know_how_a_goal_was_said():
    lost = Preferences.of(*(asked([("p", 10.0)]).prompts, asked([("p", 10.0)]).responses))
    with pytest.raises(InputError, match="nothing says in which words"):
        as_asked(lost)
    plain = as_asked(START)
    assert plain.prompts.select("prompt_id").collect()["prompt_id"].to_list() == ["p", "q", "r"]


def kept(rows, *, dtype="float32", texts=None, stopped="eos"):
    """Rows of (prompt, logp_policy, len_policy, logp when drawn, length when drawn), logp_start one nat below."""
    made = drawn([(prompt, 4, logp, None if logp is None else logp - 1, length) for prompt, logp, length, *_ in rows])
    said = [[{"role": "assistant", "content": text}] for text in texts or ["x"] * len(rows)]
    frame = made.responses.with_columns(
        pl.Series("logp_m", [row[3] for row in rows], dtype=pl.Float64),
        pl.Series("len_m", [row[4] for row in rows], dtype=pl.Int64),
        response=pl.Series(said),
        stopped=pl.lit(stopped) if isinstance(stopped, str) else pl.Series(stopped, dtype=pl.String),
    )
    steps = [
        Step(name="generate", settings={"temperature": 1.0, "top_p": 1.0, "name": "m", "dtype": dtype}),
        Step(name="logprobs", settings={"name": "policy", "dtype": "float32"}),
    ]
    return Preferences.of(made.prompts, frame, lineage=steps)


def noted(result, text):
    return any(text in note for note in result.notes)


def test_what_was_drawn_after_another_prompt_than_it_is_read_after_has_no_divergence():
    """Answers of 5 tokens: 5e-3 nats are rounding in float32, 0.25 in half precision; 0.1 lie between the two."""
    same = kept([("p", -10.0, 5, -10.004, 5), ("q", -9.0, 5, -9.0, 5), ("r", -8.0, 5, -8.0, 5)])
    assert value(rounds([START, same]), "kl/1") == pytest.approx(1.0)
    assert not noted(rounds([START, same]), "drawn")
    rows = [("p", -10.0, 5, -10.1, 5), ("q", -9.0, 5, -9.0, 5), ("r", -8.0, 5, -8.0, 5)]
    other = rounds([START, kept(rows)])
    assert value(other, "kl/1") is None
    assert noted(other, "Round 1: There is no KL: 1 of 3 answers had other log-probabilities when they were drawn")
    assert value(rounds([START, kept(rows, dtype="bfloat16")]), "kl/1") == pytest.approx(1.0)
    one_of_many = [rows[0], *((f"p{i}", -9.0, 5, -9.0, 5) for i in range(99))]
    result = rounds([START, kept(one_of_many)])
    assert value(result, "kl/1") == pytest.approx(1.0)
    assert noted(result, "1 of 100 answers had another log-probability when they were drawn")


def test_another_number_of_tokens_is_another_spelling_and_said():
    rows = [("p", -10.0, 5, -13.0, 6), ("q", -9.0, 5, -9.0, 5), ("r", -8.0, 5, -8.0, 5)]
    result = rounds([START, kept(rows)])
    assert value(result, "kl/1") == pytest.approx(1.0)
    assert noted(result, "1 of 3 answers were read as another number of tokens than was drawn")


def test_an_answer_that_a_stop_string_ended_leaves_no_divergence():
    rows = [("p", -10.0, 5, -9.0, 4), ("q", -9.0, 5, -9.0, 5)]
    result = rounds([START, kept(rows, stopped=["stop", "eos"])])
    assert value(result, "kl/1") is None
    assert noted(result, "1 of 2 answers ended by a stop string")
    assert value(result, "length/1") == 5


def test_every_end_but_eos_is_counted():
    rows = [(prompt, -9.0, 5, None, None) for prompt in "pqrst"]
    ends = ["eos", "length", "unsaid", "content_filter", None]
    notes = " ".join(rounds([START, kept(rows, stopped=ends)]).notes)
    for how in ("were cut at", "ended by `unsaid`", "ended by `content_filter`", "ended by `unknown`"):
        assert f"1 of 5 answers {how}" in notes
    assert "`eos`" not in notes


def test_empty_answers_are_counted_and_their_end_is_a_length():
    """Lengths: 5 and the lone end of the empty answer, 1: 3 on average. The divergence is of the first alone."""
    result = rounds([START, kept([("p", -10.0, 5, -10.0, 5), ("q", None, None, -2.0, 1)], texts=["x", ""])])
    assert value(result, "kl/1") == pytest.approx(1.0)
    assert value(result, "length/1") == pytest.approx(3.0)
    assert noted(result, "1 of 2 answers are empty")
    assert not noted(result, "have no log-probability and are not in the KL")


def test_log_probabilities_from_before_as_asked_are_of_other_prompts():
    before = asked([("p", 10.0), ("q", 10.0)])
    read = before.then(Step(name="logprobs", settings={"name": "policy"}))
    assert value(rounds([START, as_asked(read)]), "kl/1") is None
    after = as_asked(before).then(Step(name="logprobs", settings={"name": "policy"}))
    assert value(rounds([START, after]), "kl/1") == pytest.approx(1.0)


def test_goals_that_nothing_tells_more_of_leave_no_divergence():
    lost = Preferences.of(asked([("p", 10.0)]).prompts, asked([("p", 10.0)]).responses)
    result = rounds([START, lost])
    assert value(result, "kl/1") is None
    assert noted(result, "nothing says how; give what `generate` wrote as a directory")
