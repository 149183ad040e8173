"""The KL budget on tables whose divergences are known, and on planted humps."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from diagnose import tabular
from pairwright.diagnose.answers import ANSWERS, Answers
from pairwright.diagnose.best import best
from pairwright.diagnose.budget import budget
from pairwright.diagnose.distances import point
from pairwright.errors import InputError

PROMPTS = 30


def planted(
    d: float, score: float, *, name: str, noise: float = 0.3, seed: int = 0, step: int | None = None, **settings: object
) -> Answers:
    """Answers whose mean KL is d^2 and whose mean score is `score`, but for noise."""
    draw = np.random.default_rng(seed)
    spread = draw.uniform(0.5, 1.5, PROMPTS)
    frame = pl.DataFrame(
        {
            "prompt_id": [f"p{i}" for i in range(PROMPTS)],
            "goal": [None] * PROMPTS,
            "text": ["x"] * PROMPTS,
            "score": score + draw.normal(scale=noise, size=PROMPTS),
            "length": [10] * PROMPTS,
            "logp": [None] * PROMPTS,
            "start_logp": [None] * PROMPTS,
            "kl": d**2 * spread / spread.mean(),
        }
    ).select(pl.col(column).cast(kind) for column, kind in ANSWERS.items())
    training = name.split(" step ")[0]
    return Answers(name, frame, training, step, {"loss": "dpo", **settings})


def law(d: float, a: float, b: float) -> float:
    return 5.0 + a * d - b * d * math.log(d)


def sweep(a: float, b: float, *, seeds: int = 3) -> list[Answers]:
    """Six values of beta, several seeds each: score by the law."""
    found = []
    for seed in range(seeds):
        for number, d in enumerate([0.5, 1.0, 2.0, 3.0, 4.5, 6.0]):
            far = d * (1 + 0.03 * seed)
            found.append(
                planted(
                    far, law(far, a, b), name=f"dpo {number}-{seed}", seed=10 * number + seed, beta=1 / d, seed_=seed
                )
            )
    return [
        Answers(each.name, each.frame, each.training, None, {"seed" if key == "seed_" else key: value
                                                             for key, value in each.settings.items()})
        for each in found
    ]  # fmt: skip


START = Answers("start", planted(1.0, 5.0, name="start", noise=0.0).frame, settings={"loss": "dpo"})


def test_the_exact_divergence_of_a_table_is_its_closed_form() -> None:
    here = tabular.bench(seed=1, prompts=40)
    policy = tabular.dpo_minimiser(here, beta=2.0)
    said = tabular.answers(here, policy, name="dpo", per_prompt=4, training="dpo")
    start = tabular.answers(here, here.start, name="start", per_prompt=4, seed=9)
    part = budget([said], start=start)
    # KL(pi || start) with pi = start exp(r / beta) / Z is E_pi[r] / beta - log Z: no sum of log-ratios in it.
    weight = np.exp(here.start) * np.exp(here.score / 2.0)
    z = weight.sum(axis=1)
    exact = float((((weight / z[:, None]) * here.score).sum(axis=1) / 2.0 - np.log(z)).mean())
    (row,) = part.result.table
    assert row["kl"] == pytest.approx(exact)
    assert row["d"] == pytest.approx(math.sqrt(exact))
    assert row["kl_by"] == "exact"
    assert row["d_low"] < row["d"] < row["d_high"]
    assert row["prompts"] == 40
    assert row["kl_monte_carlo_low"] < exact < row["kl_monte_carlo_high"]


def test_monte_carlo_nears_the_exact_divergence_and_is_used_where_there_is_no_other() -> None:
    here = tabular.bench(seed=2, prompts=60)
    policy = tabular.dpo_minimiser(here, beta=3.0)
    said = tabular.answers(here, policy, name="dpo", per_prompt=200, exact=False, training="dpo")
    (row,) = budget([said], start=None).result.table
    assert row["kl_by"] == "monte_carlo"
    assert row["kl_exact"] is None
    # 60 * 200 draws of log-ratios with a spread below 2 nats: an error of 0.1 is more than five standard errors
    assert row["kl"] == pytest.approx(float(tabular.kl(policy, here.start).mean()), abs=0.1)


def test_a_divergence_below_zero_is_clamped_and_said() -> None:
    model = planted(1.0, 5.0, name="dpo")
    frame = model.frame.with_columns(kl=pl.lit(None, dtype=pl.Float64), logp=pl.lit(-3.0), start_logp=pl.lit(-2.5))
    part = budget([Answers("dpo", frame, "dpo")], start=None)
    (row,) = part.result.table
    assert (row["kl"], row["d"], row["clamped"]) == (-0.5, 0.0, True)
    assert any("below 0 (-0.5 nats)" in note for note in part.result.notes)


def test_a_planted_hump_over_beta_is_found_with_its_peak_and_gain() -> None:
    """By the law 5 + 1.3 d - d log d the six kinds score 6.00, 6.30, 6.21, 5.60, 4.08, 2.05: the second is best."""
    part = budget(sweep(1.3, 1.0), start=START)
    (finding,) = part.findings
    best = math.exp(1.3 / 1.0 - 1)  # 1.35, inside the distances 0.5 to 6
    assert (finding.check, finding.level) == ("hump", "warning")
    peak = part.result.metric("peak/dpo")
    assert peak.low < best < peak.high
    assert peak.value == pytest.approx(best, rel=0.1)
    assert f"The law is highest at d = {peak.value:.3g}" in finding.says
    assert part.result.metric("gain/dpo").value == pytest.approx(1.0 * best, rel=0.1)
    assert part.result.metric("rmse/dpo/law").value < part.result.metric("rmse/dpo/quadratic").value
    assert "dpo 1-0, dpo 1-1, dpo 1-2 score highest" in finding.says
    assert part.result.metric("best/dpo").value == pytest.approx(1.0 * (1 + 1.03 + 1.06) / 3, rel=0.02)
    lost = part.result.metric("fall/dpo")
    further = sum(law(d * (1 + 0.03 * k), 1.3, 1.0) for d in (2.0, 3.0, 4.5, 6.0) for k in range(3)) / 12
    assert lost.low < further - sum(law(1 + 0.03 * k, 1.3, 1.0) for k in range(3)) / 3 < lost.high < 0
    assert (finding.value, finding.low, finding.high, finding.n) == (lost.value, lost.low, lost.high, PROMPTS // 2)
    chart = part.charts[0]
    names = [one.name for one in chart.series]
    assert names == ["dpo", "start", "law: dpo", "quadratic in KL: dpo"]
    assert chart.kind == "points"
    curve = chart.series[2]
    assert curve.reference
    far = [x for x in chart.series[0].x if isinstance(x, float)]
    assert min(far) <= curve.x[0] <= curve.x[-1] <= max(far)


def test_a_score_that_keeps_rising_has_no_hump() -> None:
    part = budget(sweep(3.0, 0.5), start=START)
    (finding,) = part.findings
    assert finding.level != "warning"
    assert finding.value is None
    assert "not identified" in finding.says
    assert part.result.metric("peak/dpo").value is None


def test_a_law_whose_peak_lies_where_models_score_less_than_elsewhere_is_not_believed() -> None:
    """A plateau and then a cliff: the law cannot follow, and its peak falls before the best models."""
    scores = {0.5: 5.7, 0.8: 6.1, 1.15: 6.4, 1.5: 6.45, 2.1: 4.3, 2.4: 3.0}
    models = [
        planted(d * (1 + 0.01 * k), score, name=f"dpo {d}-{k}", noise=0.1, seed=int(100 * d) + k, beta=1 / d)
        for d, score in scores.items()
        for k in range(3)
    ]
    part = budget(models, start=START)
    (finding,) = part.findings
    assert finding.level == "warning"  # by the models themselves
    assert "dpo 1.5-0, dpo 1.5-1, dpo 1.5-2 score highest" in finding.says
    assert "so it does not describe them" in finding.says
    assert part.result.metric("peak/dpo").value is None
    assert part.result.metric("best/dpo").value == pytest.approx(1.5 * 1.01, rel=0.02)
    assert finding.value == pytest.approx((4.3 + 3.0) / 2 - 6.45, abs=0.1)


def test_equal_scores_seldom_look_like_a_hump() -> None:
    """The best of six equal kinds is chosen on other prompts than those that compare: no bias towards a fall."""
    warned = 0
    for world in range(100):
        models = [
            planted(d, 6.0, name=f"dpo {d}", noise=1.0, seed=100 * world + number, beta=1 / d)
            for number, d in enumerate((0.5, 1.0, 2.0, 3.0, 4.5, 6.0))
        ]
        warned += budget(models, start=START, draws=100).findings[0].level == "warning"
    assert warned <= 9  # 2.5% on one side, more for the few prompts here; chosen on the same prompts it was 16


def test_a_score_that_levels_off_is_no_warning() -> None:
    """The law cannot level off, so it has a peak; the models beyond it score as those near it do."""
    models = [
        planted(d, 5 + 2 * (1 - math.exp(-2 * d)), name=f"dpo {d:.2f}", noise=0.5, seed=int(100 * d))
        for d in (0.3, 0.6, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5)
    ]
    (finding,) = budget(models, start=START).findings
    assert finding.level != "warning"


def test_a_level_score_has_no_hump() -> None:
    (finding,) = budget(sweep(0.0, 0.0), start=START).findings
    assert finding.level != "warning"
    assert "not identified" in finding.says


def test_checkpoints_of_one_training_are_a_curve_of_their_own() -> None:
    steps = [
        planted(d, law(d, 1.3, 1.0), name=f"dpo step {10 * i}", step=10 * i, seed=i, noise=0.05)
        for i, d in enumerate([0.5, 0.8, 1.2, 1.7, 2.3, 3.0, 4.0, 5.0], start=1)
    ]
    part = budget(steps, start=START)
    (finding,) = part.findings
    assert finding.subject == "checkpoints of dpo"
    assert finding.level == "warning"
    assert part.result.metric("peak/checkpoints of dpo").value == pytest.approx(math.exp(0.3), rel=0.15)
    assert finding.value < 0
    assert [chart.id for chart in part.charts] == ["score", "checkpoints-0", "win"]


def test_too_few_models_are_a_note_and_one_alone_is_none() -> None:
    two = budget([planted(1.0, 6.0, name="a", seed=1), planted(2.0, 6.5, name="b", seed=2)], start=START)
    assert [(each.level, "2 distinct distances" in each.says) for each in two.findings] == [("note", True)]
    one = budget([planted(1.0, 6.0, name="a")], start=START)
    assert one.findings == ()
    assert any("several values of beta" in note for note in one.result.notes)


def test_the_win_rate_counts_ties_half() -> None:
    """Scores of the model: above at 15 prompts, equal at 10, below at 5: (15 + 5) / 30."""
    model = planted(1.0, 5.0, name="dpo", noise=0.0)
    score = pl.Series("score", [6.0] * 15 + [5.0] * 10 + [4.0] * 5)
    (row,) = budget([Answers("dpo", model.frame.with_columns(score), "dpo")], start=START).result.table
    assert row["win"] == pytest.approx(20 / 30)
    assert 0.45 < row["win_low"] < row["win"] < row["win_high"] < 0.9


def test_answers_of_other_largest_lengths_are_not_compared() -> None:
    models = [planted(d, 5.0, name=f"m{d}", max_new_tokens=64) for d in (1.0, 2.0)]
    other = planted(9.0, 9.0, name="long", max_new_tokens=256)
    part = budget([*models, other], start=START)
    assert [row["model"] for row in part.result.table] == ["m1.0", "m2.0"]
    assert any(note.startswith("long is left out") for note in part.result.notes)
    assert any("start could write other lengths" in note for note in part.result.notes)
    assert all(row["win"] is None for row in part.result.table)


def test_answers_drawn_at_another_temperature_have_no_divergence() -> None:
    with pytest.raises(InputError, match="no KL budget"):
        budget([planted(1.0, 5.0, name="m", temperature=0.7)], start=START)


def test_of_several_goals_the_highest_counts() -> None:
    low, high = planted(1.0, 2.0, name="m", noise=0.0).frame, planted(2.0, 8.0, name="m", noise=0.0).frame
    both = pl.concat([low.with_columns(goal=pl.lit(2.0)), high.with_columns(goal=pl.lit(10.0))])
    (row,) = budget([Answers("m", both, "m")], start=START).result.table
    assert (row["score"], row["d"], row["answers"]) == (8.0, pytest.approx(2.0), PROMPTS)


def test_nothing_that_was_given_is_changed() -> None:
    models = sweep(1.3, 1.0, seeds=1)
    before = [each.frame.clone() for each in models]
    budget(models, start=START)
    assert all(each.frame.equals(was) for each, was in zip(models, before, strict=True))


def of_data(model: Answers, data: str, **trained: str) -> Answers:
    return replace(model, settings={**model.settings, "trained": {"data": data * 64, **trained}})


def test_trainings_on_other_data_are_a_curve_of_their_own_with_a_name_that_tells_them_apart() -> None:
    """Near models on one kind of data score 8, far ones on another 6: neither falls, though together they would."""
    near = [planted(d, 8.0, name=f"ra {d}", seed=i, beta=1 / d) for i, d in enumerate((0.5, 0.7, 0.9, 1.1))]
    far = [planted(d, 6.0, name=f"plain {d}", seed=9 + i, beta=1 / d) for i, d in enumerate((1.8, 2.1, 2.4, 2.8))]
    mixed = budget([*near, *far], start=START)
    assert [each.level for each in mixed.findings] == ["warning"]  # without knowing of what they were trained on
    part = budget([*(of_data(each, "a") for each in near), *(of_data(each, "b") for each in far)], start=START)
    assert "warning" not in {each.level for each in part.findings}
    assert [each.subject for each in part.findings] == [
        "trainings with the loss dpo (data of ra 0.5), as they ended",
        "trainings with the loss dpo (data of plain 1.8), as they ended",
    ]
    assert part.result.metric("best/dpo (data of ra 0.5)").n == 4
    assert [one.name for one in part.charts[0].series[:2]] == ["dpo (data of ra 0.5)", "dpo (data of plain 1.8)"]


def test_what_two_kinds_of_training_differ_in_is_named_and_alike_ones_have_the_name_of_the_loss() -> None:
    def names(*kinds: dict[str, str]) -> list[str]:
        models = [
            of_data(planted(1.0 + number + i / 4, 5.0, name=f"m{number}{i}", seed=number), "a", **kind)
            for number, kind in enumerate(kinds)
            for i in range(2)
        ]
        return [each.subject.removesuffix(", as they ended") for each in budget(models, start=START, draws=50).findings]

    assert names({"steps": "150"}, {"steps": "150"}) == ["trainings with the loss dpo"]
    assert names({"steps": "150"}, {"steps": "300"}) == [
        "trainings with the loss dpo (steps 150)",
        "trainings with the loss dpo (steps 300)",
    ]
    assert names({}, {"goal": "{" + "x" * 40 + "}"}) == [
        "trainings with the loss dpo (no goal)",
        "trainings with the loss dpo (goal of m10)",
    ]


def test_repeats_are_trainings_alike_but_for_their_seeds() -> None:
    """One beta, two kinds of data and two seeds each: two kinds, not one of four repeats."""
    here = [planted(1.0, 9.0, name=f"a{seed}", seed=seed, beta=0.1) for seed in (1, 2)]
    there = [planted(2.0, 3.0, name=f"b{seed}", seed=seed, beta=0.1) for seed in (1, 2)]
    models = [replace(of_data(each, "a"), settings={**of_data(each, "a").settings, "seed": i, "draw_seed": 7 * i})
              for i, each in enumerate(here)]  # fmt: skip
    models += [replace(of_data(each, "b"), settings={**of_data(each, "b").settings, "seed": i, "draw_seed": 7 * i})
               for i, each in enumerate(there)]  # fmt: skip
    points = [found for each in models if (found := point(each, None, "exact", 50, 0)[0])]
    found = best(points, draws=50, seed=0)
    assert found is not None
    assert [each.answers.name for each in found.points] == ["a1", "a2"]
    assert found.lost.value == pytest.approx(-6.0, abs=0.4)


def test_what_is_not_known_is_told_by_why() -> None:
    """One kind alone compares nothing; where the farthest is best, nothing lies beyond; else some do, as good."""
    alone = budget([planted(1.0, 5.0, name=f"m{i}", seed=i) for i in range(2)], start=START)
    assert alone.findings[0].means.startswith("Nothing is known of too far yet")
    rising = budget(sweep(3.0, 0.5), start=START)
    assert "the farthest is the best" in rising.findings[0].means
    level = budget(
        [planted(d, 5.0, name=f"m{d}", seed=int(d), beta=1 / d, noise=0.0) for d in (3.0, 1.0, 2.0)], start=START
    )
    assert "do not score less" in level.findings[0].means
