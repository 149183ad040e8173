"""Length control: the optimum by its own conditions, planted weights, plain loops, published constants."""

import csv
import json
import math

import numpy as np
import pytest

from pairwright.errors import InputError
from pairwright.evaluate import length_controlled as lc
from pairwright.evaluate import winrate

pytest.importorskip("sklearn")


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def planted(n=400, seed=0, w_len=-1.5, w_diff=0.8, w_bias=-0.4):
    """Lengths and difficulties at random, and verdicts that are exactly what the weights say."""
    random = np.random.default_rng(seed)
    delta, difficulty = random.normal(200.0, 600.0, n), random.normal(0.0, 1.0, n)
    z = w_len * np.tanh(delta / delta.std(ddof=1)) + w_diff * difficulty + w_bias
    return delta, difficulty, sigmoid(z)


def noisy(n=300, seed=1):
    delta, difficulty, p = planted(n, seed)
    return lc.rows_of(delta, difficulty, (np.random.default_rng(seed).random(n) < p).astype(float))


def some_anchors(n=200, seed=2):
    random = np.random.default_rng(seed)
    return lc.anchors_of(random.normal(0, 2, n), random.normal(0, 1, n), random.random(n))


def slopes(weights, rows, anchors):
    """The slope of the summed cross-entropy, by its own formula."""
    x, win, weight = (np.concatenate(each) for each in zip(anchors, rows, strict=True))
    return x.T @ (weight * (sigmoid(x @ np.array(weights)) - win))


def test_planted_weights_are_found():
    delta, difficulty, win = planted()
    found = lc.fit(lc.rows_of(delta, difficulty, win), lc.NO_ANCHORS, strength=1e6)
    assert tuple(found) == pytest.approx((-1.5, 0.8, -0.4), abs=1e-3)


@pytest.mark.parametrize("strength", [0.05, 2.8, 500.0])
def test_the_fit_meets_the_conditions_of_its_optimum(strength):
    """Where |w| + C f(w) is least, C f' is -1 at a positive weight, +1 at a negative one, and within 1 at zero."""
    rows, anchors = noisy(), some_anchors()
    found = lc.fit(rows, anchors, strength=strength)
    for weight, slope in zip(found, strength * slopes(found, rows, anchors), strict=True):
        if weight == 0.0:
            assert abs(slope) <= 1.0 + 1e-3
        else:
            assert slope == pytest.approx(-math.copysign(1.0, weight), abs=0.02)


def test_newtons_method_needs_no_fit(monkeypatch):
    rows, anchors = noisy(), some_anchors()
    start = lc.fit(rows, anchors, strength=2.8)
    part = lc.Rows(rows.x[:280], rows.win[:280], rows.weight[:280])
    wanted = lc.fit(part, anchors, strength=2.8)

    def refused(*_, **__):
        raise AssertionError("a fit from the beginning")

    monkeypatch.setattr(lc, "fit", refused)
    assert tuple(lc.refit(start, part, anchors, strength=2.8)) == pytest.approx(tuple(wanted), abs=1e-4)


def test_fitting_again_from_near_is_fitting():
    rows, anchors = noisy(), some_anchors()
    start = lc.fit(rows, anchors, strength=2.8)
    again = np.random.default_rng(5).integers(0, 300, 300)
    part = lc.Rows(rows.x[again], rows.win[again], rows.weight[again])
    near, far = lc.refit(start, part, anchors, strength=2.8), lc.fit(part, anchors, strength=2.8)
    assert tuple(near) == pytest.approx(tuple(far), abs=1e-4)
    none = lc.Weights(0.0, 1.0, 1.0)
    assert lc.refit(none, part, anchors, strength=2.8) == far


def chosen_by_a_loop(rows, anchors):
    """C by scikit-learn's own folds over rows that stand twice, won and lost."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    x, win, weight = (np.concatenate(each) for each in zip(anchors, rows, strict=True))
    n = len(win)
    x2, label, group = np.concatenate([x, x]), np.repeat([1, 0], n), np.tile(np.arange(n), 2)
    share, weight2 = np.concatenate([win, 1 - win]), np.tile(weight, 2)
    scores = []
    for c in np.logspace(-4, 4, 10):
        folds = []
        for train, test in GroupKFold(5).split(x2, label, group):
            model = LogisticRegression(
                C=c, l1_ratio=1.0, solver="liblinear", fit_intercept=False, random_state=1, tol=1e-7, max_iter=10000
            )
            model.fit(x2[train], label[train], sample_weight=(share * weight2)[train])
            p = np.clip(model.predict_proba(x2[test])[:, 1], 1e-15, 1 - 1e-15)
            target = np.where(label[test] == 1, share[test], 1 - share[test])
            folds.append(np.mean(weight2[test] * (target * np.log(p) + (1 - target) * np.log(1 - p))))
        scores.append(np.mean(folds))
    return np.logspace(-4, 4, 10)[int(np.argmax(scores))]


@pytest.mark.parametrize(("seed", "n", "m"), [(1, 120, 60), (3, 43, 19), (8, 44, 19)])
def test_c_is_that_of_a_plain_loop_over_doubled_rows(seed, n, m):
    rows, anchors = noisy(n=n, seed=seed), some_anchors(n=m, seed=seed + 1)
    assert lc.choose_strength(rows, anchors) == pytest.approx(chosen_by_a_loop(rows, anchors))


def test_the_c_that_is_reported_is_the_chosen_one(tmp_path):
    path, other, difficulty = files(tmp_path, n=60)
    verdicts = json.loads(path.read_text())
    delta = np.array([row["len_output_1"] - row["len_output_2"] for row in verdicts], dtype=float)
    hard = [{**row, "preference_raw": 2.0 if row["preference_raw"] > 1.6 else 1.0} for row in verdicts]
    path.write_text(json.dumps(hard))
    x = np.stack([np.tanh(delta / delta.std(ddof=1)), difficulty, np.ones(60)], axis=1)
    rows = lc.Rows(x, np.array([row["preference_raw"] - 1.0 for row in hard]), np.ones(60))
    wanted = chosen_by_a_loop(rows, lc.NO_ANCHORS)
    assert wanted != pytest.approx(2.782559402207126)  # what AlpacaEval's models have
    found = winrate(path, length_controlled=True, difficulty=other, draws=2)
    assert number(found, "strength") == pytest.approx(wanted)
    assert number(winrate(path, length_controlled=True, difficulty=other, strength=7.0, draws=2), "strength") == 7.0


def test_how_far_is_far():
    """From 20 the bounds are min(20 - 5, 20 - 10) = 10 and max(20 + 20, 20 + 10) = 40; from 50 37.5 and 62.5."""
    assert [lc.is_far(20, each) for each in (9.9, 10.1, 39.9, 40.1)] == [True, False, False, True]
    assert [lc.is_far(50, each) for each in (37.4, 37.6, 62.4, 62.6)] == [True, False, False, True]


def test_two_models_against_one_opponent_are_compared_by_their_weights():
    difficulty = np.array([-1.0, 0.0, 2.0])
    one, two = lc.Weights(-1.0, 0.9, 0.5), lc.Weights(-2.0, 0.4, -0.5)
    over = lc.head_to_head(one, two, difficulty)
    assert over == pytest.approx(sigmoid(0.5 * difficulty + 1.0))
    assert over + lc.head_to_head(two, one, difficulty) == pytest.approx(np.ones(3))
    assert lc.head_to_head(one, one, difficulty) == pytest.approx(np.full(3, 0.5))


def test_planted_difficulties_are_found_from_several_models():
    random = np.random.default_rng(3)
    true = random.normal(0.0, 1.0, 60)
    models = []
    for k in range(8):
        std, prompt = random.normal(0, 1, 60), random.permutation(60)
        win = sigmoid(0.3 * k - 1.0 - (0.5 + 0.1 * k) * np.tanh(std) + true[prompt])
        models.append(lc.Model(std, win, prompt))
    found = lc.joint_difficulty(models, prompts=60)
    assert np.corrcoef(found, true)[0, 1] > 0.999
    assert found.mean() == pytest.approx(0.0, abs=1e-3)  # the ridge leaves the level to the models
    assert np.ptp(found) == pytest.approx(np.ptp(true), rel=0.15)  # which it draws in a little
    with pytest.raises(InputError, match="several models"):
        lc.joint_difficulty(models[:1], prompts=60)


def files(tmp_path, n=120, seed=0, *, sign=1.0, models=("mine",), drop=(), **columns):
    """A file of verdicts whose length feature has weight -1.5 (longer wins), and its difficulties."""
    random = np.random.default_rng(seed)
    difficulty = random.normal(0.0, 1.0, n)
    verdicts = []
    for k, model in enumerate(models):
        delta = np.round(random.normal(-200.0 * sign, 300.0, n))
        p = sigmoid(-1.5 * np.tanh(delta / delta.std(ddof=1)) + 0.8 * difficulty - 0.4 + 0.3 * k)
        for i in range(n):
            if i not in drop:
                lengths = {"len_output_1": 2000, "len_output_2": int(2000 - delta[i])}
                row = {"instruction_id": i, "model": model, "preference_raw": 1.0 + p[i], **lengths}
                verdicts.append({**row, **columns})
    path = tmp_path / f"verdicts{seed}{sign}{len(models)}{len(drop)}.json"
    path.write_text(json.dumps(verdicts))
    other = tmp_path / f"difficulty{seed}.csv"
    with other.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["instruction_id", "instruction_difficulty"])
        writer.writerows(enumerate(difficulty))
    return path, other, difficulty


def number(result, name="length_controlled_winrate"):
    return result.metric(name).value


def test_long_answers_lose_by_length_control_and_short_ones_gain(tmp_path):
    for sign, longer in ((1.0, True), (-1.0, False)):
        path, other, difficulty = files(tmp_path, sign=sign)
        result = winrate(path, length_controlled=True, difficulty=other, strength=1e5, draws=20)
        true = 100 * sigmoid(0.8 * difficulty - 0.4).mean()
        assert number(result) == pytest.approx(true, abs=0.05)
        assert (number(result, "win_rate") > number(result) + 5) == longer
        assert number(result, "w_len") == pytest.approx(-1.5, abs=0.01)
        interval = result.metric("length_controlled_winrate")
        assert interval.low < true < interval.high
        spread = sigmoid(0.8 * difficulty - 0.4).std(ddof=1) / math.sqrt(120)
        assert number(result, "lc_standard_error") == pytest.approx(100 * spread, rel=0.01)


def test_published_weights_need_no_fit(tmp_path):
    path, other, difficulty = files(tmp_path)
    weights = tmp_path / "weights.csv"
    names = ",np.tanh(std_delta_len),instruction_difficulty,not_gamed_baseline.astype(float)"
    weights.write_text(f"{names}\nmine,-1.0,0.5,0.25\nother,1,1,1\n")
    true = 100 * sigmoid(0.5 * difficulty + 0.25).mean()
    asked = {"length_controlled": True, "difficulty": other, "draws": 5}
    assert number(winrate(path, weights=weights, **asked)) == pytest.approx(true, abs=1e-9)
    plain = winrate(path, w_diff=0.5, w_bias=0.25, **asked)
    assert number(plain) == pytest.approx(true, abs=1e-9)
    assert plain.name == "winrate"
    with pytest.raises(InputError, match="w_diff and w_bias together"):
        winrate(path, w_diff=0.5, **asked)
    with pytest.raises(InputError, match="give weights or w_bias, not both"):
        winrate(path, weights=weights, w_bias=0.5, **asked)
    weights.write_text(f"{names}\nmin,-1.0,0.5,0.25\n")
    with pytest.raises(InputError, match="no weights of 'mine'"):
        winrate(path, weights=weights, **asked)
    with pytest.raises(InputError, match="give difficulty"):
        winrate(path, length_controlled=True, w_diff=0.5, w_bias=0.25)


def test_a_missing_row_shifts_difficulties_by_position_and_not_by_id(tmp_path):
    path, other, difficulty = files(tmp_path, drop=(0,))
    asked = {"length_controlled": True, "difficulty": other, "w_diff": 1.0, "w_bias": 0.0, "draws": 5}
    shifted = winrate(path, match="position", **asked)
    assert number(shifted) == pytest.approx(100 * sigmoid(difficulty[:-1]).mean())
    assert any("119 rows and 120 difficulties" in note for note in shifted.notes)
    assert any("By position 119 rows take the difficulty of another prompt" in note for note in shifted.notes)
    for match in (None, "id"):
        right = winrate(path, match=match, **asked)
        assert number(right) == pytest.approx(100 * sigmoid(difficulty[1:]).mean())
        assert any(
            "by position, as AlpacaEval does, 119 rows would take that of another" in note for note in right.notes
        )


def test_anchors_hold_the_weight_of_length(tmp_path):
    """Anchors at weight 0.1 that say length counts three times as much pull the weight there; none leave it."""
    path, other, difficulty = files(tmp_path)
    anchors = tmp_path / "df_gamed.csv"
    std = np.random.default_rng(4).normal(0, 2, 5000)
    with anchors.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "index", "std_delta_len", "instruction_difficulty", "preference"])
        for i, each in enumerate(std):
            at = difficulty[i % 120]
            writer.writerow(["long", i % 120, each, at, sigmoid(-4.5 * np.tanh(each) + 0.8 * at)])
    without = winrate(path, length_controlled=True, difficulty=other, strength=1e5, draws=2)
    held = winrate(path, length_controlled=True, difficulty=other, anchors=anchors, strength=1e5, draws=2)
    assert number(without, "w_len") == pytest.approx(-1.5, abs=0.01)
    assert -4.5 < number(held, "w_len") < -2.5
    assert (without.name, held.name) == ("winrate (LC-offline)", "winrate")
    # AlpacaEval takes the difficulties from the anchors themselves.
    alone = winrate(path, length_controlled=True, anchors=anchors, strength=1e5, draws=2)
    assert number(alone) == pytest.approx(number(held), abs=1e-6)


def test_without_difficulties_they_are_fitted_from_several_models_and_the_name_says_so(tmp_path):
    path, _, difficulty = files(tmp_path, models=("mine", "a", "b", "c", "d"))
    result = winrate(path, generator="mine", length_controlled=True, strength=1e4, draws=5)
    assert number(result) == pytest.approx(100 * sigmoid(0.8 * difficulty - 0.4).mean(), abs=1.5)
    assert result.name == "winrate (LC-offline)"
    assert any(note.startswith("LC-offline: the difficulty of 120 prompts") for note in result.notes)
    assert result.metric("length_controlled_winrate").says.startswith("LC-offline")
    one, _, _ = files(tmp_path)
    with pytest.raises(InputError, match="at least 3 models against one opponent, and there are 1"):
        winrate(one, length_controlled=True)
    two, _, _ = files(tmp_path, models=("x", "y"))
    assert winrate(one, length_controlled=True, others=[two], draws=2).name == "winrate (LC-offline)"


def test_two_models_are_compared_at_equal_lengths(tmp_path):
    path, other, difficulty = files(tmp_path, models=("low", "high"))
    alone = tmp_path / "high.json"
    alone.write_text(json.dumps([row for row in json.loads(path.read_text()) if row["model"] == "high"]))
    asked = {"length_controlled": True, "difficulty": other, "strength": 1e5, "draws": 20}
    found = winrate(path, generator="low", against=alone, **asked)
    levels = [100 * sigmoid(0.8 * difficulty - 0.4 + bonus).mean() for bonus in (0.0, 0.3)]
    assert number(found, "lc_difference") == pytest.approx(levels[0] - levels[1], abs=0.1)
    assert number(found, "against/length_controlled_winrate") == pytest.approx(levels[1], abs=0.1)
    assert number(found, "head_to_head") == pytest.approx(100 * sigmoid(-0.3), abs=0.1)


def test_what_cannot_be_controlled_is_refused(tmp_path):
    path, other, _ = files(tmp_path, n=49)
    with pytest.raises(InputError, match="49 verdicts on mine are too few for length control"):
        winrate(path, length_controlled=True, difficulty=other)
    path, other, _ = files(tmp_path, seed=1, len_output_1=100, len_output_2=100)
    with pytest.raises(InputError, match="differ by as much at every prompt"):
        winrate(path, length_controlled=True, difficulty=other)
    path, other, _ = files(tmp_path, seed=2, len_output_1=None)
    with pytest.raises(InputError, match="120 verdicts on mine lack the length of an answer"):
        winrate(path, length_controlled=True, difficulty=other)
    short, few, _ = files(tmp_path, seed=3, n=60)
    with pytest.raises(InputError, match="60 difficulties, and there are 120 rows"):
        winrate(files(tmp_path, seed=4)[0], length_controlled=True, difficulty=few, match="position")
    with pytest.raises(InputError, match=r"row 61 is of prompt 60, and .* has no difficulty for it"):
        winrate(files(tmp_path, seed=4)[0], length_controlled=True, difficulty=few)
    repeated = tmp_path / "twice.csv"
    repeated.write_text("index,instruction_difficulty\n0,1\n0,2\n")
    with pytest.raises(InputError, match="one prompt several difficulties"):
        winrate(short, length_controlled=True, difficulty=repeated)


def test_the_opponent_against_itself_is_even(tmp_path):
    path, other, _ = files(tmp_path, models=("same",), generator_1="same")
    result = winrate(path, length_controlled=True, difficulty=other, draws=5)
    assert number(result) == 50.0


def test_extreme_lengths_and_far_moves_are_said(tmp_path):
    path, other, _ = files(tmp_path, sign=30.0)
    notes = winrate(path, length_controlled=True, difficulty=other, draws=2).notes
    assert any("the longer one at 100.0% of the prompts" in note for note in notes)
    path, other, _ = files(tmp_path, seed=9, sign=1.0)
    moved = winrate(path, length_controlled=True, difficulty=other, w_diff=0.0, w_bias=-4.0, draws=2).notes
    assert any("so far that the fit may have failed" in note for note in moved)
