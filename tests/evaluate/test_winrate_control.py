"""Length control of whole files: bootstraps, verdicts that are missing, ids and positions, fits to several models."""

import csv
import json
import math

import numpy as np
import polars as pl
import pytest

from pairwright.chat import assistant, user
from pairwright.errors import InputError
from pairwright.evaluate import winrate
from pairwright.preferences import Preferences

pytest.importorskip("sklearn")
LARGE = 1e5
"""C at which the penalty is nothing."""


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def planted(n=120, seed=0, bonus=0.0, mean=-200.0):
    """Differences in length, difficulties, and what weights of -1.5, 0.8 and -0.4 + bonus say of them."""
    random = np.random.default_rng(seed)
    difficulty = np.random.default_rng(99).normal(0.0, 1.0, n)
    delta = np.round(random.normal(mean, 300.0, n))
    return delta, difficulty, sigmoid(-1.5 * np.tanh(delta / delta.std(ddof=1)) + 0.8 * difficulty - 0.4 + bonus)


def rows(delta, win, model="mine", **columns):
    return [
        {
            "instruction_id": i,
            "generator_1": "theirs",
            "generator_2": model,
            "win": None if each is None else float(each),
            "len_output_1": 3000,
            "len_output_2": int(3000 - delta[i]),
        }
        | columns
        for i, each in enumerate(win)
    ]


def written(path, what):
    path.write_text(json.dumps(what), encoding="utf-8")
    return path


def table(path, name, values):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["instruction_id", name])
        writer.writerows(enumerate(values))
    return path


def number(result, name="length_controlled_winrate"):
    return result.metric(name).value


def fitted(x, win):
    """An unpenalised logistic regression by Newton's method."""
    at = np.zeros(3)
    for _ in range(60):
        p = sigmoid(x @ at)
        at = at - np.linalg.solve((x.T * (p * (1 - p))) @ x + 1e-9 * np.eye(3), x.T @ (p - win))
    return at


def level(delta, difficulty, win):
    """The length-controlled win rate by hand."""
    x = np.stack([np.tanh(delta / delta.std(ddof=1)), difficulty, np.ones(len(win))], axis=1)
    at = fitted(x, win)
    return 100 * sigmoid(at[1] * difficulty + at[2]).mean()


def noisy(seed, n=150, bonus=0.0):
    delta, difficulty, p = planted(n, seed, bonus)
    return delta, difficulty, (np.random.default_rng(seed).random(n) < p).astype(float)


def test_each_draw_of_the_bootstrap_is_fitted_again(tmp_path):
    """The interval is as wide as that of refits by hand; with the weights held still it would be a quarter of that."""
    delta, difficulty, win = noisy(1)
    path = written(tmp_path / "a.json", rows(delta, win))
    asked = {"length_controlled": True, "difficulty": table(tmp_path / "d.csv", "instruction_difficulty", difficulty)}
    found = winrate(path, strength=LARGE, draws=200, **asked).metric("length_controlled_winrate")
    assert found.value == pytest.approx(level(delta, difficulty, win), abs=0.01)
    random = np.random.default_rng(5)
    drawn = [level(delta[at], difficulty[at], win[at]) for at in (random.integers(0, 150, 150) for _ in range(200))]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.high - found.low == pytest.approx(high - low, rel=0.25)


def test_a_difference_under_length_control_is_of_refits_to_common_prompts(tmp_path):
    """The second model has verdicts on 100 of 150 prompts, so that both are fitted to these."""
    delta, difficulty, win = noisy(1)
    other_delta, _, other_win = noisy(2, bonus=0.5)
    one = written(tmp_path / "a.json", rows(delta, win))
    two = written(tmp_path / "b.json", rows(other_delta, other_win, "second")[:100])
    asked = {"length_controlled": True, "difficulty": table(tmp_path / "d.csv", "instruction_difficulty", difficulty)}
    found = winrate(one, against=two, strength=LARGE, draws=100, **asked)
    mine = level(delta[:100], difficulty[:100], win[:100])
    theirs = level(other_delta[:100], difficulty[:100], other_win[:100])
    assert abs(mine - level(delta, difficulty, win)) > 0.5
    assert number(found, "lc_difference") == pytest.approx(mine - theirs, abs=0.02)
    assert number(found, "against/length_controlled_winrate") == pytest.approx(theirs, abs=0.02)
    difference = found.metric("lc_difference")
    random = np.random.default_rng(5)
    drawn = [
        level(delta[at], difficulty[at], win[at]) - level(other_delta[at], difficulty[at], other_win[at])
        for at in (random.integers(0, 100, 100) for _ in range(100))
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert difference.high - difference.low == pytest.approx(high - low, rel=0.4)


def test_answers_without_a_verdict_count_in_the_spread_and_in_the_prediction(tmp_path):
    """The verdicts are what the weights say with the spread of all lengths; the 20 longest have none."""
    delta, difficulty, win = planted()
    without = set(np.argsort(np.abs(delta))[-20:].tolist())
    some = [None if i in without else each for i, each in enumerate(win)]
    path = written(tmp_path / "a.json", rows(delta, some))
    other = table(tmp_path / "d.csv", "instruction_difficulty", difficulty)
    found = winrate(path, length_controlled=True, difficulty=other, strength=LARGE, draws=5)
    assert number(found, "w_len") == pytest.approx(-1.5, abs=0.005)
    assert number(found) == pytest.approx(100 * sigmoid(0.8 * difficulty - 0.4).mean(), abs=0.02)
    judged = [each for each in some if each is not None]
    assert number(found, "win_rate") == pytest.approx(100 * np.mean(judged))
    assert (number(found, "n_total"), found.n, found.metric("win_rate").n) == (100, 100, 100)
    assert found.metric("length_controlled_winrate").n == 120
    assert any("20 answers of mine without a verdict count" in note for note in found.notes)
    published = winrate(path, length_controlled=True, difficulty=other, w_diff=0.8, w_bias=-0.4, draws=2)
    spread = 100 * sigmoid(0.8 * difficulty - 0.4).std(ddof=1) / math.sqrt(120)
    assert number(published, "lc_standard_error") == pytest.approx(spread)


def test_ids_go_before_the_order_of_rows(tmp_path):
    """Shuffled rows, and ids as a table with an empty cell writes them, give what the ids say."""
    delta, difficulty, win = planted()
    other = table(tmp_path / "d.csv", "instruction_difficulty", difficulty)
    asked = {"length_controlled": True, "difficulty": other, "strength": LARGE, "draws": 2}
    straight = rows(delta, win)
    order = np.random.default_rng(3).permutation(120)
    shuffled = written(tmp_path / "a.json", [straight[i] for i in order])
    true = 100 * sigmoid(0.8 * difficulty - 0.4).mean()
    assert number(winrate(shuffled, **asked)) == pytest.approx(true, abs=0.02)
    assert number(winrate(shuffled, **asked), "w_diff") == pytest.approx(0.8, abs=0.01)
    assert abs(number(winrate(shuffled, match="position", **asked), "w_diff")) < 0.5
    floats = [{**row, "instruction_id": float(row["instruction_id"])} for row in straight]
    texts = [{**row, "instruction_id": f"{row['instruction_id']}.0"} for row in straight]
    for name, each in (("b", floats), ("c", texts)):
        path = written(tmp_path / f"{name}.json", [each[i] for i in order])
        assert number(winrate(path, **asked)) == pytest.approx(true, abs=0.02)


def test_a_column_of_positions_is_used_and_may_not_contradict_the_ids(tmp_path):
    delta, difficulty, win = planted()
    other = table(tmp_path / "d.csv", "instruction_difficulty", difficulty)
    asked = {"length_controlled": True, "difficulty": other, "strength": LARGE, "draws": 2}
    straight = [{**row, "position": row["instruction_id"]} for row in rows(delta, win)]
    places = [{key: value for key, value in row.items() if key != "instruction_id"} for row in straight]
    found = winrate(written(tmp_path / "a.json", places[::-1]), **asked)
    assert number(found, "w_diff") == pytest.approx(0.8, abs=0.01)
    assert number(winrate(written(tmp_path / "b.json", straight[::-1]), **asked), "w_diff") == pytest.approx(
        0.8, abs=0.01
    )
    turned = written(tmp_path / "c.json", [{**row, "position": 119 - row["position"]} for row in straight])
    with pytest.raises(InputError, match=r"120 of 120 rows on mine have a position and an instruction_id"):
        winrate(turned, **asked)
    assert number(winrate(turned, match="id", **asked), "w_diff") == pytest.approx(0.8, abs=0.01)
    assert abs(number(winrate(turned, match="position", **asked), "w_diff")) < 0.5


@pytest.mark.parametrize(("win", "word", "sign"), [(1.0, "won", 1.0), (0.0, "lost", -1.0)])
def test_all_won_and_all_lost_have_the_right_sign(tmp_path, win, word, sign):
    """With nothing but the bias b, |b| + C n log(1 + exp(-b)) is least at exp(b) = C n - 1."""
    other = table(tmp_path / "d.csv", "instruction_difficulty", np.zeros(120))
    path = written(tmp_path / "a.json", rows(np.where(np.arange(120) % 2, 1.0, -1.0), [win] * 120))
    found = winrate(path, length_controlled=True, difficulty=other, strength=2.0, draws=5)
    assert number(found, "w_bias") == pytest.approx(sign * math.log(2.0 * 120 - 1), abs=1e-3)
    assert number(found) == pytest.approx(100 * sigmoid(sign * math.log(239)), abs=1e-2)
    assert any(f"Every verdict is {word}" in note for note in found.notes)


def test_lengths_that_are_all_the_same_are_said(tmp_path):
    delta, difficulty, win = planted()
    other = table(tmp_path / "d.csv", "instruction_difficulty", difficulty)
    constant = [
        {**row, "len_output_1": 3000 + int(delta[i]), "len_output_2": 3000} for i, row in enumerate(rows(delta, win))
    ]
    found = winrate(written(tmp_path / "a.json", constant), length_controlled=True, difficulty=other, draws=2)
    assert any("All answers of mine have 3000 characters" in note for note in found.notes)


@pytest.mark.parametrize(("shorter", "said"), [(114, ""), (115, "shorter"), (6, ""), (5, "longer")])
def test_lengths_on_one_side_are_said_beyond_95_percent(tmp_path, shorter, said):
    """114 of 120 are 95%. The opponent has 3000 characters, so that a positive difference is a shorter answer."""
    _, difficulty, win = planted()
    delta = np.where(np.arange(120) < shorter, 1.0, -1.0) * (100 + np.arange(120))
    other = table(tmp_path / "d.csv", "instruction_difficulty", difficulty)
    found = winrate(written(tmp_path / "a.json", rows(delta, win)), length_controlled=True, difficulty=other, draws=2)
    notes = [note for note in found.notes if "equal lengths would do is extrapolated" in note]
    assert len(notes) == bool(said)
    assert all(f"mine's answer is the {said} one" in note for note in notes)


def gamed(path, n, columns, difficulty=None, seed=4):
    """Anchors of weight -4.5 for the length, with what a prompt is called by."""
    random = np.random.default_rng(seed)
    std, at = random.normal(0, 2, n), np.arange(n) % 120
    names = [*columns, "std_delta_len", "preference", *([] if difficulty is None else ["instruction_difficulty"])]
    wins = sigmoid(-4.5 * np.tanh(std) + (0.0 if difficulty is None else 0.8 * difficulty[at]))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for i in range(n):
            called = [make(at[i]) for make in columns.values()]
            writer.writerow([*called, std[i], wins[i], *([] if difficulty is None else [difficulty[at[i]]])])
    return path, std, at, wins


def test_anchors_keep_their_own_difficulties(tmp_path):
    """At the optimum the slopes are those of the penalty, with the anchors' difficulties and not with the file's."""
    delta, difficulty, win = planted()
    other = table(tmp_path / "d.csv", "instruction_difficulty", difficulty)
    own = -2.0 * difficulty
    path, std, at, wins = gamed(tmp_path / "g.csv", 480, {"instruction_id": int}, own)
    found = winrate(
        written(tmp_path / "a.json", rows(delta, win)),
        length_controlled=True,
        difficulty=other,
        anchors=path,
        strength=500.0,
        draws=2,
    )
    weights = np.array([number(found, name) for name in ("w_len", "w_diff", "w_bias")])
    x = np.stack([np.tanh(delta / delta.std(ddof=1)), difficulty, np.ones(120)], axis=1)
    x2 = np.stack([np.tanh(std), own[at], np.zeros(480)], axis=1)
    slope = x.T @ (sigmoid(x @ weights) - win) + 0.1 * x2.T @ (sigmoid(x2 @ weights) - wins)
    assert 500.0 * slope == pytest.approx(-np.sign(weights), abs=0.3)


def test_anchors_that_give_one_prompt_two_difficulties_are_refused(tmp_path):
    delta, _, win = planted()
    path = tmp_path / "g.csv"
    path.write_text("index,std_delta_len,preference,instruction_difficulty\n0,1,0.5,0.1\n0,1,0.5,0.2\n")
    with pytest.raises(InputError, match="gives one prompt several difficulties"):
        winrate(written(tmp_path / "a.json", rows(delta, win)), length_controlled=True, anchors=path)


def several(n=120, names=("mine", "a", "b", "c", "d"), **columns):
    """Rows of models that are better one after another."""
    return {name: rows(*(planted(n, k, 0.3 * k)[at] for at in (0, 2)), name, **columns) for k, name in enumerate(names)}


def by_text(each):
    return [{**row, "instruction": f"q{row['instruction_id']}"} for row in each]


def without(each, name):
    return [{key: value for key, value in row.items() if key != name} for row in each]


OFFLINE = {"length_controlled": True, "strength": 1e4, "draws": 2}


def test_files_that_do_not_name_their_model_are_models_of_their_own(tmp_path):
    """Five files without a name are five models; that of one path given twice is one."""
    paths = [written(tmp_path / f"{name}.json", without(each, "generator_2")) for name, each in several().items()]
    found = winrate(paths[0], others=paths[1:], **OFFLINE)
    assert any("from the verdicts on 5 models" in note for note in found.notes)
    _, difficulty, _ = planted()
    assert number(found) == pytest.approx(100 * sigmoid(0.8 * difficulty - 0.4).mean(), abs=1.5)
    again = winrate(paths[0], generator="mine", others=[*paths, paths[1]], **OFFLINE)
    assert any("from the verdicts on 5 models" in note for note in again.notes)


def test_two_sources_of_one_model_are_refused(tmp_path):
    models = several()
    one = written(tmp_path / "a.json", [row for each in models.values() for row in each])
    two = written(tmp_path / "b.json", models["c"])
    with pytest.raises(InputError, match=r"both have verdicts on c, which would count twice"):
        winrate(one, generator="mine", others=[two], **OFFLINE)


def test_the_second_model_counts_as_one_of_several(tmp_path):
    models = several()
    mine, a, b = (written(tmp_path / f"{name}.json", models[name]) for name in ("mine", "a", "b"))
    found = winrate(mine, others=[a], against=b, **OFFLINE)
    assert any("from the verdicts on 3 models" in note for note in found.notes)
    with pytest.raises(InputError, match="and there are 2"):
        winrate(mine, others=[a], **OFFLINE)


def test_models_that_met_several_opponents_are_not_fitted_together(tmp_path):
    models = several()
    mine = written(tmp_path / "mine.json", models["mine"])
    rest = [row | {"generator_1": "theirs" if row["generator_2"] == "a" else "else"} for k in "ab" for row in models[k]]
    with pytest.raises(InputError, match=r"several opponents \(else in .*, theirs in"):
        winrate(mine, others=[written(tmp_path / "o.json", rest)], **OFFLINE)


def test_prompts_are_the_same_by_their_text_where_every_file_has_it(tmp_path):
    """Numbers in one file alone, and running the other way in another, change nothing where there are texts."""
    models = {name: by_text(each) for name, each in several().items()}
    mine = written(tmp_path / "mine.json", models["mine"])
    turned = [{**row, "instruction_id": 119 - row["instruction_id"]} for row in models["a"]]
    rest = [row for name in "bcd" for row in without(models[name], "instruction_id")]
    plain = [row for name in "abcd" for row in models[name]]
    wanted = winrate(mine, others=[written(tmp_path / "p.json", plain)], **OFFLINE)
    found = winrate(mine, others=[written(tmp_path / "o.json", [*turned, *rest])], **OFFLINE)
    assert number(found) == pytest.approx(number(wanted), abs=1e-6)
    _, difficulty, _ = planted()
    assert number(found) == pytest.approx(100 * sigmoid(0.8 * difficulty - 0.4).mean(), abs=1.5)


def test_prompts_that_do_not_meet_are_refused(tmp_path):
    models = several()
    mine = written(tmp_path / "mine.json", models["mine"])
    rest = [row for name in "abcd" for row in models[name]]
    apart = [{**row, "instruction_id": row["instruction_id"] + 100} for row in rest]
    with pytest.raises(
        InputError, match="only 20 of the 120 prompts with a verdict on mine have one on 2 other models"
    ):
        winrate(mine, others=[written(tmp_path / "o.json", apart)], **OFFLINE)
    some = [{**row, "instruction_id": row["instruction_id"] + 20} for row in rest]
    notes = winrate(mine, others=[written(tmp_path / "s.json", some)], **OFFLINE).notes
    assert any("Only 100 of the 120 prompts" in note for note in notes)
    texts = [row for name in "abcd" for row in without(by_text(models[name]), "instruction_id")]
    with pytest.raises(InputError, match="cannot be told which prompts are the same"):
        winrate(mine, others=[written(tmp_path / "t.json", texts)], **OFFLINE)


def test_anchors_are_found_by_number_where_prompts_are_known_by_text(tmp_path):
    every = [row for each in several().values() for row in by_text(each)]
    path = written(tmp_path / "a.json", every)
    free = winrate(path, generator="mine", **OFFLINE)
    numbers, *_ = gamed(tmp_path / "n.csv", 2400, {"instruction_id": int})
    texts, *_ = gamed(tmp_path / "t.csv", 2400, {"instruction": lambda i: f"q{i}"})
    found = [winrate(path, generator="mine", anchors=each, **OFFLINE) for each in (numbers, texts)]
    assert number(free, "w_len") > -2.0 > number(found[0], "w_len")
    assert number(found[0]) == pytest.approx(number(found[1]), abs=1e-6)
    bare = written(tmp_path / "b.json", without(every, "instruction_id"))
    assert number(winrate(bare, generator="mine", anchors=texts, **OFFLINE)) == pytest.approx(
        number(found[1]), abs=1e-6
    )
    with pytest.raises(InputError, match="no anchor is of a prompt that has verdicts"):
        winrate(bare, generator="mine", anchors=numbers, **OFFLINE)
    few = [row for row in every if row["instruction_id"] < 60]
    left = winrate(written(tmp_path / "c.json", few), generator="mine", anchors=numbers, **OFFLINE)
    assert any("1,200 of 2,400 anchors are of prompts without verdicts" in note for note in left.notes)


def test_offline_intervals_are_said_to_hold_the_difficulties_fixed(tmp_path):
    path = written(tmp_path / "a.json", [row for each in several().values() for row in each])
    notes = winrate(path, generator="mine", **OFFLINE).notes
    assert any("The intervals hold these difficulties fixed" in note for note in notes)


def test_settings_of_length_control_that_change_nothing_are_refused(tmp_path):
    delta, difficulty, win = planted()
    path = written(tmp_path / "a.json", rows(delta, win))
    other = table(tmp_path / "d.csv", "instruction_difficulty", difficulty)
    anchors, *_ = gamed(tmp_path / "g.csv", 240, {"instruction_id": int}, difficulty)
    published = {"length_controlled": True, "difficulty": other, "w_diff": 1.0, "w_bias": 0.0}
    with pytest.raises(InputError, match="strength would change nothing"):
        winrate(path, strength=1.0, **published)
    with pytest.raises(InputError, match="anchors would change nothing"):
        winrate(path, anchors=anchors, **published)
    with pytest.raises(InputError, match="others are for difficulties fitted from the data"):
        winrate(path, length_controlled=True, difficulty=other, others=[path])
    both = written(tmp_path / "b.json", [row for each in several().values() for row in each])
    with pytest.raises(InputError, match="match is for difficulties from a file"):
        winrate(both, generator="mine", match="position", **OFFLINE)


def scored(by_model, base_length=500):
    """Answers to 120 prompts: by model, score and length at each; the base scores 0."""
    models = {"base": [(0.0, base_length + i) for i in range(120)], **by_model}
    flat = [(f"p{i}", m, *of[i]) for m, of in models.items() for i in range(120)]
    return Preferences.of(
        pl.DataFrame({"prompt_id": [f"p{i}" for i in range(120)], "prompt": [[user(f"q{i}")] for i in range(120)]}),
        pl.DataFrame(
            {
                "prompt_id": [each[0] for each in flat],
                "model": [each[1] for each in flat],
                "score": [float(each[2]) for each in flat],
                "response": [[assistant("x" * each[3])] for each in flat],
            }
        ),
    )


def longer_wins(k):
    """Scores above the base's where the answer is the longer one, but for one in seven."""
    lengths = np.random.default_rng(k).integers(100, 1200, 120)
    return [
        ((1.0 if (length > 500 + i) != ((i + k) % 7 == 0) else -1.0), int(length)) for i, length in enumerate(lengths)
    ]


def test_scored_answers_of_several_models_are_fitted_together(tmp_path):
    """All models of one set; the same models one by one, with the opponent among them, give the same."""
    by_model = {name: longer_wins(k) for k, name in enumerate("abcd")}
    together = winrate(scored(by_model), generator="a", opponent="base", **OFFLINE)
    assert any("from the verdicts on 4 models" in note for note in together.notes)
    assert number(together, "w_len") < -1.0  # longer answers win, and delta is the opponent's length less the model's
    places = []
    for name, of in by_model.items():
        scored({name: of}).save(tmp_path / name)
        places.append(tmp_path / name)
    apart = winrate(places[0], generator="a", others=places[1:], **OFFLINE)
    assert number(apart) == pytest.approx(number(together), abs=1e-6)
    scored({"d": by_model["d"]}).save(tmp_path / "again")
    paired = winrate(places[0], generator="a", others=places[1:3], against=tmp_path / "again", **OFFLINE)
    assert paired.settings["against_generator"] == "d"
    assert number(paired) == pytest.approx(number(together), abs=1e-6)
    wins = np.array([[score > 0 for score, _ in by_model[name]] for name in "ad"])
    assert number(paired, "difference") == pytest.approx(100 * (wins[0].mean() - wins[1].mean()))
