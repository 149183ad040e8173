"""Arena-Hard-Auto from files of judgments: hand arithmetic, known strengths, a regression of another library."""

import json

import numpy as np
import pytest

from pairwright.cli import main
from pairwright.errors import InputError
from pairwright.evaluate import arena
from pairwright.evaluate.judgments import verdict
from pairwright.evaluate.style import differences, markdown

MIRROR = {"A>>B": "B>>A", "A>B": "B>A", "A=B": "A=B", "B>A": "A>B", "B>>A": "A>>B", None: None}
EXAMPLE = [("A>>B", "B>A"), ("B>A", "A>>B"), ("A=B", "A>B")]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def judged(games, model="m", category="hard_prompt", opponent="base", prompts=None):
    """Judgments by the two recorded verdicts of each prompt."""
    return [
        {
            "uid": f"u{number}" if prompts is None else prompts[number],
            "category": category,
            "judge": "judge",
            "model": model,
            "baseline": opponent,
            "games": [None if label == "null" else {"score": label} for label in pair],
        }
        for number, pair in enumerate(games)
    ]


def value(result, name):
    return result.metric(name).value


def test_the_worked_example(tmp_path):
    """The model's battles: [0, 0, 0, 0], [1, 1, 1, 1], [1, 1/2]: 5.5 of 10."""
    result = arena([write(tmp_path / "m.jsonl", judged(EXAMPLE))], draws=50)
    assert value(result, "score") == pytest.approx(0.55)
    assert value(result, "strength") == pytest.approx(np.log(5.5 / 4.5))
    assert result.table[0]["battles"] == 10
    assert result.metric("score").n == 3
    # With strong verdicts once: [0, 0], [1, 1], [1, 1/2].
    once = arena([tmp_path / "m.jsonl"], weight=1, draws=50)
    assert value(once, "score") == pytest.approx(3.5 / 6)


def test_a_verdict_written_from_the_other_side_is_the_same(tmp_path):
    swapped = [("B<<A", "A<B"), ("A<B", "B<<A"), ("B=A", "B<A")]
    one = arena([write(tmp_path / "m.jsonl", judged(EXAMPLE))], draws=50)
    other = arena([write(tmp_path / "n.jsonl", judged(swapped))], draws=50)
    assert other.metrics == one.metrics


def test_swapping_a_and_b_changes_nothing(tmp_path):
    """The places of all games exchanged: the games change their order, and each verdict is mirrored."""
    random = np.random.default_rng(0)
    games = [tuple(random.choice(list(MIRROR)[:5], 2).tolist()) for _ in range(60)]
    swapped = [(MIRROR[second], MIRROR[first]) for first, second in games]
    answers = [write(tmp_path / "answers.jsonl", [*lengths("m", 60, 300, 1), *lengths("base", 60, 200, 2)])]
    control = {"answers": answers, "control": ("length",), "draws": 50}
    one = arena([write(tmp_path / "m.jsonl", judged(games))], **control)
    other = arena([write(tmp_path / "n.jsonl", judged(swapped))], **control)
    assert other.metrics == one.metrics
    assert other.table == one.table
    # Verdicts mirrored in place are another world: the loser of every game wins.
    turned = arena([write(tmp_path / "o.jsonl", judged([(MIRROR[a], MIRROR[b]) for a, b in games]))], draws=50)
    assert value(turned, "score") == pytest.approx(1 - value(one, "score"))


def test_what_could_not_be_read_is_counted(tmp_path):
    games = [*EXAMPLE, ("A>B", None), ("null", "A>B"), ("A>B", "A>>>B"), (None, None)]
    result = arena([write(tmp_path / "m.jsonl", judged(games))], draws=50)
    assert value(result, "score") == pytest.approx(0.55)
    assert value(result, "failed") == pytest.approx(4 / 7)
    assert result.metric("failed").n == 7
    assert any("4 of 7 prompts have a game that could not be read" in note for note in result.notes)
    assert any("1 games have a verdict that is none of the five" in note for note in result.notes)
    none = arena([write(tmp_path / "n.jsonl", judged([(None, None)]))], draws=50)
    assert value(none, "score") is None
    json.dumps(none.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("My final verdict is: [[A>>B]]", "A>>B"),
        ("first [[A>B]], no: [[b>a]]", "B>A"),  # the last, in any case
        ("see [A=B]; verdict [[B>>A]] [A>B]", "B>>A"),  # double brackets go first
        ("verdict [A=B]", "A=B"),
        ("A>B", None),
        ("[[C]]", None),
    ],
)
def test_a_verdict_is_read_by_the_rule_of_the_benchmark(text, label):
    assert verdict(text) == label


def test_files_of_the_first_version_are_read_too(tmp_path):
    rows = [
        {"question_id": 7, "model": "m", "judge": "j", "games": [{"judgment": "so [[B>A]]"}, {"judgment": "[[A>>B]]"}]},
        {"question_id": 8, "model": "m", "judge": "j", "games": [
            {"judgment": {"answer": "[[A>B]]"}, "score": "A=B"}, {"judgment": "-", "score": None}]},
    ]  # fmt: skip
    result = arena([write(tmp_path / "m.jsonl", rows)], draws=50)
    assert value(result, "score") == pytest.approx(1.0)  # 1 and three times 1; the other prompt has a null
    assert value(result, "strength") is None
    assert value(result, "failed") == 0.5
    assert any("1 games were recorded with another verdict than their text has" in note for note in result.notes)


def test_a_recorded_null_is_no_verdict_whatever_the_text_says(tmp_path):
    rows = judged(EXAMPLE)
    rows[0]["games"][0] = {"score": None, "judgment": "so [[A>B]]"}
    result = arena([write(tmp_path / "m.jsonl", rows)], draws=20)
    assert value(result, "failed") == pytest.approx(1 / 3)


def test_games_that_agree_on_the_winner_are_counted(tmp_path):
    """The model won both, lost both, tied both: three; one win each, and a win with a tie, are none."""
    games = [("B>A", "A>>B"), ("A>B", "B>A"), ("A=B", "A=B"), ("A>B", "A>B"), ("B>A", "A=B")]
    result = arena([write(tmp_path / "m.jsonl", judged(games))], draws=20)
    assert result.table[0]["agreeing"] == 3


def test_an_interval_of_strength_has_no_end_where_draws_are_all_won(tmp_path):
    """Four of five prompts are won: a draw of five has none of the lost one with probability 0.8^5 = 0.33.

    So the upper end is infinite; the lower one is that of a share, at 2.5%: binomial(5, 0.8) is below 2 of 5 in 0.7%,
    and below 3 in 5.8%, so the quantile is 2 of 5.
    """
    games = [("B>A", "A>B")] * 4 + [("A>B", "B>A")]
    metric = arena([write(tmp_path / "m.jsonl", judged(games))], draws=4000).metric("strength")
    assert metric.value == pytest.approx(np.log(4))
    assert metric.low == pytest.approx(np.log(2 / 3))
    assert metric.high is None
    turned = arena([write(tmp_path / "n.jsonl", judged([(MIRROR[a], MIRROR[b]) for a, b in games]))], draws=4000)
    assert (turned.metric("strength").low, turned.metric("strength").high) == (None, pytest.approx(np.log(3 / 2)))


def test_five_judges_of_one_mind_are_one(tmp_path, styled):
    """80 prompts, half won in both games, by each of five judges: the standard error is that of 80."""
    games = [("B>A", "A>B"), ("A>B", "B>A")] * 40
    rows = [{**row, "judge": f"j{n}"} for n in range(5) for row in judged(games)]
    metric = arena([write(tmp_path / "m.jsonl", rows)], draws=4000).metric("score")
    assert (metric.value, metric.n) == (0.5, 80)
    assert metric.high - metric.low == pytest.approx(2 * 1.96 * 0.5 / 80**0.5, rel=0.08)
    answers = [write(tmp_path / "a.jsonl", [*lengths("m", 80, 300, 1), *lengths("base", 80, 300, 2)])]
    control = {"answers": answers, "control": ("length",), "draws": 300}
    five = arena([tmp_path / "m.jsonl"], **control).metric("controlled")
    one = arena([write(tmp_path / "n.jsonl", judged(games))], **control).metric("controlled")
    assert five.high - five.low == pytest.approx(one.high - one.low, rel=0.15)
    assert one.high - one.low == pytest.approx(2 * 1.96 * 0.5 / 80**0.5, rel=0.25)


def test_one_prompt_of_a_model_has_no_interval(tmp_path):
    rows = [*judged(EXAMPLE), *judged(EXAMPLE[:1], model="n")]
    result = arena([write(tmp_path / "m.jsonl", rows)], draws=50)
    assert result.metric("score/m").low is not None
    assert (result.metric("score/n").low, result.metric("score/n").high) == (None, None)


def test_every_category_and_model_has_numbers_of_its_own(tmp_path):
    """Upstream empties the data after its first category."""
    rows = [*judged([("B>A", "A>B")] * 3 + [("A>B", "B>A")]), *judged([("B>A", "A>B"), ("A>B", "B>A")], model="n"),
            *judged([("A>B", "B>A")], category="creative_writing", opponent="other", prompts=["w"])]  # fmt: skip
    result = arena([write(tmp_path / "m.jsonl", rows)], draws=50)
    assert value(result, "score/hard_prompt/m") == pytest.approx(0.75)
    assert value(result, "score/hard_prompt/n") == pytest.approx(0.5)
    assert value(result, "score/creative_writing/m") == 0.0
    assert any("n were not read at every one of the 4 prompts" in note for note in result.notes)
    alone = arena([tmp_path / "m.jsonl"], categories=("creative_writing",), draws=50)
    assert value(alone, "score") == 0.0
    with pytest.raises(InputError, match="no judgment of category 'maths'"):
        arena([tmp_path / "m.jsonl"], categories=("maths",))


def test_a_category_with_several_opponents_asks_for_one(tmp_path):
    rows = [*judged([("B>A", "A>B")]), *judged([("A>B", "B>A")], opponent="other")]
    path = write(tmp_path / "m.jsonl", rows)
    with pytest.raises(InputError, match=r"against base, other; choose one with --opponent"):
        arena([path])
    assert value(arena([path], opponent="other", draws=50), "score") == 0.0
    with pytest.raises(InputError, match="no judgment is against 'third'"):
        arena([path], opponent="third")


def chances(odds):
    return 1 / (1 + np.exp(-np.asarray(odds)))


def battles(strengths, prompts, seed, extra=None):
    """Judgments drawn from known strengths, both games of a prompt on their own; `extra`: `{model: odds of each}`."""
    random = np.random.default_rng(seed)
    rows = []
    for model, strength in strengths.items():
        odds = strength + (extra[model] if extra else np.zeros(prompts))
        won = random.random((prompts, 2)) < chances(odds)[:, None]
        rows += judged([("B>A" if one else "A>B", "A>B" if two else "B>A") for one, two in won.tolist()], model=model)
    return rows


def test_known_strengths_are_recovered_within_their_intervals(tmp_path):
    truth = {"weak": -1.2, "even": 0.0, "good": 0.5, "strong": 1.5}
    result = arena([write(tmp_path / "m.jsonl", battles(truth, 600, 4))], draws=400)
    for model, strength in truth.items():
        found = result.metric(f"strength/{model}")
        assert found.low < strength < found.high
        assert found.high - found.low < 0.6
        share = result.metric(f"score/{model}")
        assert share.low < chances(strength) < share.high
    assert value(result, "strength/weak") < value(result, "strength/even") < value(result, "strength/good")


def test_copies_of_one_verdict_are_no_independent_battles(tmp_path):
    """Every prompt is six equal battles: the true standard error is that of prompts, upstream's a root of 6 smaller."""
    random = np.random.default_rng(2)
    games = [("B>>A", "A>>B") if won else ("A>>B", "B>>A") for won in (random.random(400) < 0.5).tolist()]
    result = arena([write(tmp_path / "m.jsonl", judged(games))], draws=2000)
    ours, theirs = result.metric("score"), result.metric("score_as_upstream")
    share = ours.value
    error = np.sqrt(share * (1 - share) / 400)
    assert ours.high - ours.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert theirs.high - theirs.low == pytest.approx(2 * 1.645 * error / np.sqrt(6), rel=0.3)
    assert theirs.value == pytest.approx(share, abs=0.01)


def lengths(model, prompts, middle, seed, spread=0.5, marks=0.0):
    """Answers with the counts of the benchmark; `marks`: mean number of bold spans."""
    random = np.random.default_rng(seed)
    tokens = np.maximum(1, (middle * np.exp(spread * random.normal(size=prompts))).astype(int))
    bold = random.poisson(marks, prompts) if marks else np.zeros(prompts, dtype=int)
    return [
        {
            "uid": f"u{number}",
            "model": model,
            "metadata": {
                "token_len": int(tokens[number]),
                "header_count": {"h1": 0, "h2": 0},
                "list_count": {"ordered": 0, "unordered": 0},
                "bold_count": {"**": int(bold[number]), "__": 0},
            },
        }
        for number in range(prompts)
    ]


def gaps(mine, theirs):
    """Differences in length and in bold density, written out."""
    found = []
    for one, two in zip(mine, theirs, strict=True):
        a, b = one["metadata"]["token_len"], two["metadata"]["token_len"]
        c, d = (each["metadata"]["bold_count"]["**"] / (n + 1) for each, n in ((one, a), (two, b)))
        found.append([(a - b) / (a + b), (c - d) / (c + d + 1)])
    return np.array(found)


@pytest.fixture
def styled(tmp_path):
    """Two models as good as the opponent, one wordy and one fond of bold type; the judge likes both habits."""
    prompts = 500
    mine = {"wordy": lengths("wordy", prompts, 400, 1), "bold": lengths("bold", prompts, 200, 2, marks=40)}
    base = lengths("base", prompts, 200, 3, marks=4)
    style = {model: gaps(rows, base) for model, rows in mine.items()}
    extra = {model: each @ np.array([2.0, 6.0]) for model, each in style.items()}
    rows = battles({"wordy": 0.0, "bold": 0.0}, prompts, 5, extra)
    answers = [write(tmp_path / f"{name}.jsonl", each) for name, each in {**mine, "base": base}.items()]
    return write(tmp_path / "judged.jsonl", rows), answers, rows, style


def peer(rows, style, columns):
    """The same fit by a logistic regression without penalty: strengths at equal style, and slopes for one unit."""
    regression = pytest.importorskip("sklearn.linear_model").LogisticRegression
    design, won = [], []
    models = list(style)
    for row in rows:
        number = models.index(row["model"])
        side = [float(number == i) for i in range(len(models))]
        for game, label in zip(row["games"], ("B>A", "A>B"), strict=True):
            design.append([*side, *style[row["model"]][int(row["uid"][1:])][columns]])
            won.append(game["score"] == label)
    fit = regression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=5000).fit(np.array(design), won)
    design = np.array(design)[:, len(models) :]
    return fit.coef_[0][: len(models)], fit.coef_[0][len(models) :], design.mean(axis=0), design.std(axis=0, ddof=1)


PARTS = [
    (("length",), [0], ["length"]),
    (("markdown",), [1], ["bolds"]),
    (("length", "markdown"), [0, 1], ["length", "bolds"]),
]


@pytest.mark.parametrize(("control", "columns", "names"), PARTS, ids=["length", "markdown", "both"])
def test_each_part_of_style_is_held_still_alone_and_together(styled, control, columns, names):
    path, answers, rows, style = styled
    strengths, slopes, mean, spread = peer(rows, style, columns)
    result = arena([path], answers=answers, control=control, draws=30)
    for number, model in enumerate(("wordy", "bold")):
        assert value(result, f"equal_style/{model}") == pytest.approx(chances(strengths[number]), abs=1e-3)
        at_mean = chances(strengths[number] + slopes @ mean)
        assert value(result, f"controlled/{model}") == pytest.approx(at_mean, abs=1e-3)
        assert value(result, f"controlled_as_upstream/{model}") == pytest.approx(at_mean, abs=0.02)
    for name, slope in zip(names, slopes * spread, strict=True):
        assert value(result, f"style_{name}") == pytest.approx(slope, abs=1e-3)
    assert any("do not differ in headers, lists" in note for note in result.notes) == ("markdown" in control)


def test_style_is_in_deviations_over_battles_of_which_a_strong_verdict_is_several(tmp_path):
    """Twelve prompts, strong verdicts at the longer answers: mean and spread (with n - 1) are of the 30 battles."""
    verdicts = [("B>>A", "A>B"), ("A>B", "A>B"), ("B>A", "B>A"), ("A>B", "B>A")] * 3
    mine, base = lengths("m", 12, 300, 1), lengths("base", 12, 300, 2)
    rows, design, won = judged(verdicts), [], []
    style = gaps(mine, base)[:, 0]
    for number, pair in enumerate(verdicts):
        for label, wins in zip(pair, ("B", "A"), strict=True):
            times = 3 if ">>" in label else 1
            design += [style[number]] * times
            won += [label.startswith(wins)] * times
    regression = pytest.importorskip("sklearn.linear_model").LogisticRegression
    columns = np.column_stack([np.ones(len(design)), design])
    fit = regression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=5000).fit(columns, won).coef_[0]
    answers = [write(tmp_path / "answers.jsonl", [*mine, *base])]
    result = arena([write(tmp_path / "m.jsonl", rows)], answers=answers, control=("length",), draws=10)
    assert len(design) == 30
    assert value(result, "style_length") == pytest.approx(fit[1] * np.std(design, ddof=1), rel=1e-3)
    assert value(result, "controlled") == pytest.approx(chances(fit[0] + fit[1] * np.mean(design)), rel=1e-3)
    assert value(result, "equal_style") == pytest.approx(chances(fit[0]), rel=1e-3)


def test_numbers_as_upstream_are_mean_or_median_with_quantiles_of_5_and_95_percent(tmp_path):
    """Over 12 seeds: ends at 1.645 standard errors of independent battles, and no quantile but the median between."""
    random = np.random.default_rng(7)
    games = [(a, b) for a, b in random.choice(["A>B", "B>A"], (100, 2)).tolist()]
    path = write(tmp_path / "m.jsonl", judged(games))
    answers = [write(tmp_path / "a.jsonl", [*lengths("m", 100, 300, 1), *lengths("base", 100, 300, 2)])]
    found = [arena([path], answers=answers, control=("length",), draws=1, seed=seed) for seed in range(12)]
    error = 0.5 / 200**0.5
    for name in ("score", "controlled"):
        theirs = [each.metric(f"{name}_as_upstream") for each in found]
        assert np.mean([each.high - each.low for each in theirs]) == pytest.approx(2 * 1.645 * error, rel=0.09)
        assert np.mean([each.value for each in theirs]) == pytest.approx(value(found[0], name), abs=0.12 * error)
    # Two battles, one won: the median of means that are 0, 1/2 or 1 is a multiple of a quarter, their mean is not.
    two = arena([write(tmp_path / "two.jsonl", judged([("A>B", "A>B")]))], draws=1)
    assert value(two, "score_as_upstream") == pytest.approx(0.5, abs=0.15)
    assert value(two, "score_as_upstream") * 4 % 1 != 0


def test_a_difference_that_is_always_the_same_and_not_zero_leaves_no_equal_style(tmp_path):
    none = {"header_count": 0, "list_count": 0, "bold_count": 0}
    rows = [
        {"uid": f"u{i}", "model": name, "metadata": {"token_len": size, **none}}
        for name, size in (("m", 300), ("base", 100))
        for i in range(20)
    ]
    path = write(tmp_path / "m.jsonl", judged([("B>A", "A>B"), ("A>B", "B>A")] * 10))
    result = arena([path], answers=[write(tmp_path / "a.jsonl", rows)], control=("length", "markdown"), draws=20)
    assert value(result, "equal_style") is None
    assert value(result, "controlled") == pytest.approx(0.5, abs=1e-6)
    assert any("same difference in length, and it is not zero" in note for note in result.notes)
    assert any("do not differ in headers, lists, bolds" in note for note in result.notes)


def test_style_that_tells_every_winner_is_said_with_the_category_and_a_remedy(tmp_path):
    mine = [("B>A", "A>B"), ("A>B", "B>A")] * 10
    none = {"header_count": 0, "list_count": 0, "bold_count": 0}
    rows = [
        {"uid": f"u{i}", "model": name, "metadata": {"token_len": size, **none}}
        for i in range(20)
        for name, size in (("m", 50 + 400 * (i % 2 == 0)), ("base", 200))
    ]
    with pytest.raises(
        InputError, match=r"evaluate arena: category hard_prompt: the covariates tell.*; hold fewer parts"
    ):
        arena([write(tmp_path / "m.jsonl", judged(mine))], answers=[write(tmp_path / "a.jsonl", rows)],
              control=("length",))  # fmt: skip


@pytest.mark.parametrize("size", ["NaN", "Infinity", "-5", "true", '{"a": -1}', "1e999"])
@pytest.mark.parametrize("where", ["metadata", "turns"])
def test_a_length_that_is_none_is_named(tmp_path, size, where):
    layout = {
        "metadata": f'"metadata": {{"token_len": {size}}}, "choices": []',
        "turns": f'"choices": [{{"turns": [{{"content": "a", "token_len": {size}}}]}}]',
    }
    path = tmp_path / "a.jsonl"
    good = {"uid": "u0", "model": "m", "choices": [{"turns": [{"content": "a", "token_len": 1}]}]}
    path.write_text(json.dumps(good) + "\n" + f'{{"uid": "u1", "model": "m", {layout[where]}}}\n')
    with pytest.raises(InputError, match=r"a\.jsonl, row 2: (metadata|choices)\."):
        arena([write(tmp_path / "m.jsonl", judged(EXAMPLE))], answers=[path], control=("length",))


@pytest.mark.parametrize(
    "answer",
    [
        {"messages": [{"content": 5}]},
        {"messages": [{"content": [{"type": "image"}]}]},
        {"messages": "text"},
        {"choices": [{"turns": "text"}]},
        {"choices": [{"turns": [5]}]},
        {"choices": [5]},
    ],
)
def test_an_answer_of_another_type_is_named(tmp_path, answer):
    path = write(tmp_path / "a.jsonl", [{"uid": "u0", "model": "m", **answer}])
    with pytest.raises(InputError, match=r"a\.jsonl, row 1: (messages|choices)"):
        arena([write(tmp_path / "m.jsonl", judged(EXAMPLE))], answers=[path], control=("length",))


def test_text_in_parts_and_turns_of_text_are_read(tmp_path):
    """An answer as one text, in parts, and as a bare turn: the same characters."""
    games = [("B>A", "A>B"), ("A>B", "A>B"), ("A>B", "B>A")] * 4
    path = write(tmp_path / "m.jsonl", judged(games))
    found = []
    for shape in (
        lambda text: {"messages": [{"content": text}]},
        lambda text: {"messages": [{"content": [{"type": "text", "text": text[:3]}, text[3:]]}]},
        lambda text: {"choices": [{"turns": [text]}]},
    ):
        sizes = {"m": 9, "base": 40}
        rows = [
            {"uid": f"u{i}", "model": name, **shape("x" * (size + i * i))}
            for name, size in sizes.items()
            for i in range(12)
        ]
        answers = [write(tmp_path / "a.jsonl", rows)]
        found.append(arena([path], answers=answers, control=("length",), draws=5).metrics)
    assert found[0] == found[1] == found[2]


def test_what_style_won_is_no_strength(styled):
    path, answers, _, _ = styled
    result = arena([path], answers=answers, control=("length", "markdown"), draws=200)
    for model in ("wordy", "bold"):
        assert result.metric(f"score/{model}").low > 0.55  # the judge's habit looks like skill
        equal = result.metric(f"equal_style/{model}")
        assert equal.low < 0.5 < equal.high  # and is none
    assert result.metric("style_length").low > 0
    assert result.metric("style_bolds").low > 0


def test_a_model_that_won_everything_keeps_the_others_a_fit(styled, tmp_path):
    _, answers, rows, _ = styled
    best = judged([("B>A", "A>B")] * 500, model="best")
    more = [*answers, write(tmp_path / "best.jsonl", lengths("best", 500, 300, 9))]
    result = arena([write(tmp_path / "all.jsonl", [*rows, *best])], answers=more, control=("length",), draws=20)
    assert value(result, "controlled/best") == 1.0
    assert 0.2 < value(result, "equal_style/wordy") < 0.8


def test_markdown_is_counted_outside_of_code():
    text = "# One\n## Two\n#no\n- a\n* b\n1. c\n**bold** and __bold__\n```\n# not\n- not\n**not**\n```\n+ d"
    assert markdown(text) == {"headers": 2, "lists": 4, "bolds": 2}
    assert markdown("a b ``` ```\n# c") == {"headers": 1, "lists": 0, "bolds": 0}


def test_markdown_is_counted_in_no_time_that_grows_with_the_square_of_a_text():
    assert markdown("\n" * 200_000 + "- a\n\n  \t1. b\n-\n- c")["lists"] == 4


def test_differences_in_style_by_hand():
    # Lengths 300 and 100: 200/400. Bold 3/301 and 1/101: difference over sum and one.
    found = differences(np.array([[300.0, 0, 0, 3]]), np.array([[100.0, 0, 0, 1]]))
    d, e = 3 / 301, 1 / 101
    assert found.tolist() == [[0.5, 0, 0, pytest.approx((d - e) / (d + e + 1))]]
    assert differences(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0, 0, 0, 0]]


def test_answers_without_counts_are_measured_by_their_text(tmp_path):
    """Two layouts of one text, one with tokens and one without: then lengths are characters on both sides."""
    random = np.random.default_rng(1)
    texts = {name: ["x" * int(n) for n in random.integers(20, 200, 40)] for name in ("m", "base")}
    rows = [{"uid": f"u{i}", "model": "m", "messages": [{"role": "user", "content": "q"},
             {"role": "assistant", "content": {"answer": text}}]} for i, text in enumerate(texts["m"])]  # fmt: skip
    rows += [{"question_id": f"u{i}", "model_id": "base", "choices": [{"turns": [{"content": text, "token_len": 5}]}]}
             for i, text in enumerate(texts["base"])]  # fmt: skip
    games = [("B>A", "A>B") if won else ("A>B", "B>A") for won in (random.random(40) < 0.5).tolist()]
    path, answers = write(tmp_path / "m.jsonl", judged(games)), write(tmp_path / "answers.jsonl", rows)
    result = arena([path], answers=[answers], control=("length",), draws=20)
    assert "hard_prompt: lengths are in characters." in result.notes
    none = {"header_count": 0, "list_count": 0, "bold_count": 0}
    by_hand = [
        {"uid": f"u{i}", "model": name, "metadata": {"token_len": len(text), **none}}
        for name, each in texts.items()
        for i, text in enumerate(each)
    ]
    other = arena([path], answers=[write(tmp_path / "counted.jsonl", by_hand)], control=("length",), draws=20)
    assert other.metrics == result.metrics


def test_control_needs_every_answer(tmp_path, styled):
    path, answers, _, _ = styled
    with pytest.raises(InputError, match="give both --control and --answers"):
        arena([path], control=("length",))
    with pytest.raises(InputError, match="give both --control and --answers"):
        arena([path], answers=answers)
    with pytest.raises(InputError, match="have none of base to prompt u0"):
        arena([path], answers=answers[:2], control=("length",))


def test_a_row_without_two_games_is_named(tmp_path):
    rows = judged(EXAMPLE)
    rows[1]["games"] = rows[1]["games"][:1]
    with pytest.raises(InputError, match=r"m\.jsonl, row 2: games"):
        arena([write(tmp_path / "m.jsonl", rows)])


def test_the_command_takes_several_files_and_control(styled, capsys):
    path, answers, _, _ = styled
    names = [str(each) for each in answers]
    arguments = ["evaluate", "arena", str(path), "--answers", *names, "--control", "length", "--draws", "5", "--json"]
    assert main(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["name"] == "arena"
    assert 0.4 < said["equal_style/wordy"] < 0.6
    assert said["settings"]["control"] == ["length"]
