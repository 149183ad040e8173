"""Verdicts against labels of people: by hand, by plain counting on the real files, and beside scikit-learn."""

import gzip
import json
from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from faulty import serving
from pairwright.cli import main
from pairwright.errors import InputError
from pairwright.evaluate import accuracy, humans
from pairwright.evaluate.kappa import cohen, cohen_either_order, fleiss
from pairwright.formats.read import read

LABELS = [(1, "a long answer", "x"), (1, "one", "two"), (2, "a long answer", "x"), (2, "longer", "x"), (2, "x", "y")]
LABELS += [(1, "u", "v")]
SAID = [
    ("first", "second"),  # both name the first answer: right
    ("first", "first"),  # the place and not the answer: a tie, wrong
    ("second", "first"),  # both the second: right
    ("first", "second"),  # both the first: wrong
    ("tie", "first"),  # one order is a tie: a tie, wrong
    (None, "second"),  # could not be read
]
TURNED = {"first": "second", "second": "first", "tie": "tie", None: None}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def llmbar(path, rows=None):
    rows = LABELS if rows is None else rows
    return write(
        path,
        [{"input": f"q{i}", "output_1": a, "output_2": b, "label": label} for i, (label, a, b) in enumerate(rows)],
    )


def verdicts(path, rows=None):
    rows = SAID if rows is None else rows
    return write(path, [{"verdict": ahead, "verdict_swapped": back} for ahead, back in rows])


def rows_of(path):
    """The rows of a file, read by nothing of ours."""
    return [json.loads(line) for line in gzip.open(path, "rb").read().decode().split("\n") if line.strip()]


def values(result):
    return {metric.name: metric.value for metric in result.metrics}


def test_verdicts_in_both_orders_come_out_as_by_hand(tmp_path):
    """Five comparisons have both verdicts: right, tie, right, wrong, tie; three of them decided.

    kappa_decided: labels are first, second, second and verdicts first, second, first. Alike 2/3; by chance 1/3 2/3 +
    2/3 1/3 = 4/9; (6/9 - 4/9) / (5/9) = 0.4. In nine calls that are no tie the first place wins six.
    """
    result = humans(llmbar(tmp_path / "l.jsonl"), verdicts=verdicts(tmp_path / "v.jsonl"), draws=50)
    found = values(result)
    assert found["accuracy"] == pytest.approx(2 / 5)
    assert found["accuracy_decided"] == pytest.approx(2 / 3)
    assert found["agreement"] == pytest.approx(2 / 5)
    assert found["kappa_decided"] == pytest.approx(0.4)
    assert found["position/first"] == pytest.approx(6 / 9)
    assert found["position/bias"] == pytest.approx(6 / 9 - 1 / 2)
    assert found["position/flip"] == pytest.approx(1 / 5)
    assert found["position/consistent"] == pytest.approx(3 / 5)
    # Of the three decided ones the verdict takes the longer answer in the first and the last, people in the first.
    assert found["length/longer"] == pytest.approx(2 / 3)
    assert found["length/humans"] == pytest.approx(1 / 3)
    assert found["length/bias"] == pytest.approx(1 / 3)
    assert found["length/longer_right"] == 1.0
    assert found["length/shorter_right"] == 0.5
    assert found["humans/first"] == 0.5
    assert result.metric("accuracy").n == 5
    assert any("1 of 6 comparisons have no verdict" in note for note in result.notes)
    assert result.table[0] == {
        "scores": "v.jsonl",
        "label": "first",
        "said_second": 0,
        "said_tie": 1,
        "said_first": 1,
        "unknown": 1,
    }


def test_exchanging_the_answers_everywhere_changes_nothing_but_who_stands_first(tmp_path):
    turned = [(3 - label, b, a) for label, a, b in LABELS]
    said = [(back, ahead) for ahead, back in SAID]  # what was the exchanged order is now the given one
    one = humans(llmbar(tmp_path / "l"), verdicts=verdicts(tmp_path / "v"), draws=20)
    two = humans(llmbar(tmp_path / "l2", turned), verdicts=verdicts(tmp_path / "v2", said), draws=20)
    assert values(one) == pytest.approx(values(two))


def test_exchanging_the_verdicts_alone_turns_right_into_wrong(tmp_path):
    turned = [(TURNED[ahead], TURNED[back]) for ahead, back in SAID]
    found = values(humans(llmbar(tmp_path / "l"), verdicts=verdicts(tmp_path / "v", turned), draws=20))
    assert found["accuracy"] == pytest.approx(1 / 5)
    assert found["position/bias"] == pytest.approx(1 / 2 - 6 / 9)


def test_one_order_is_measured_against_the_place_that_people_choose(tmp_path):
    labels = llmbar(tmp_path / "l", [(1, "a", "b")] * 3 + [(2, "a", "b")] * 7)
    always = write(tmp_path / "v", [{"verdict": "A"}] * 10)
    found = values(humans(labels, verdicts=always, draws=20))
    assert found["accuracy"] == pytest.approx(0.3)
    assert found["position/bias"] == pytest.approx(1 - 0.3)
    assert found["kappa"] == pytest.approx(0.0)  # one who always says the same agrees by chance alone
    assert "position/flip" not in found


def test_verdicts_find_their_labels_by_a_key_in_any_order(tmp_path):
    labels = write(
        tmp_path / "l",
        [
            {"id": i, "input": "q", "output_1": f"a{i}", "output_2": f"b{i}", "label": 1 + (i in (2, 4))}
            for i in range(5)
        ],
    )
    said = write(tmp_path / "v", [{"id": i, "verdict": "second" if i == 2 else "first"} for i in (4, 2, 0, 1)])
    result = humans(labels, verdicts=said, key="id", draws=20)
    assert values(result)["accuracy"] == 0.75  # the fourth is wrong; of the third nothing was said
    assert result.metric("accuracy").n == 4


@pytest.mark.parametrize(
    ("said", "key", "says"),
    [
        ([{"verdict": 1}] * 6, None, "row 1"),
        ([{"verdict": "left"}] * 6, None, r"is no verdict \(those are first, second"),
        ([{"verdict": "first"}] * 5, None, "has 5 verdicts and the labels have 6 rows"),
        ([{"verdict": "first"}], "id", "the labels have no column 'id'"),
    ],
)
def test_verdicts_that_do_not_belong_are_refused(tmp_path, said, key, says):
    with pytest.raises(InputError, match=says):
        humans(llmbar(tmp_path / "l"), verdicts=write(tmp_path / "v", said), key=key)


def test_two_sources_of_verdicts_are_refused(tmp_path):
    with pytest.raises(InputError, match="give one of scores, scorer and verdicts"):
        humans(llmbar(tmp_path / "l"), scorer="chars", verdicts=tmp_path / "v")


def test_labels_without_verdicts_tell_of_the_people_alone(tmp_path):
    result = humans(llmbar(tmp_path / "l"))
    assert set(values(result)) == {"humans/ties", "humans/first", "humans/longer"}
    assert any("no verdicts" in note for note in result.notes)


@pytest.mark.parametrize("seed", range(3))
def test_cohens_kappa_is_scikit_learns(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    one = random.integers(0, 3, 80)
    two = np.where(random.random(80) < 0.5, one, random.integers(0, 3, 80))
    counts = np.zeros((3, 3), dtype=np.int64)
    np.add.at(counts, (one, two), 1)
    assert cohen(counts) == pytest.approx(metrics.cohen_kappa_score(one, two), abs=1e-12)
    both = metrics.cohen_kappa_score(np.concatenate([one, 2 - one]), np.concatenate([two, 2 - two]))
    assert cohen_either_order(counts) == pytest.approx(both, abs=1e-12)


def test_kappa_by_hand():
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: alike 0.7, by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5, so 0.4."""
    assert cohen(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)
    assert np.isnan(cohen(np.array([[9, 0], [0, 0]])))  # nobody could have disagreed
    assert cohen_either_order(np.array([[0, 3], [1, 12]])) == pytest.approx(2 * 12 / 16 - 1)


def fleiss_by_pairs(votes):
    """Fleiss' kappa from every two votes on a case, and from every two votes of all with a vote twice."""
    alike = np.mean([np.mean([a == b for a, b in permutations(case, 2)]) for case in votes])
    every = [vote for case in votes for vote in case]
    chance = sum((count / len(every)) ** 2 for count in Counter(every).values())
    return (alike - chance) / (1 - chance)


def test_fleiss_kappa_is_that_of_every_two_votes():
    votes = np.random.default_rng(0).integers(0, 3, (40, 5)) // 2 + np.arange(40)[:, None] % 2
    counts = np.stack([(votes == each).sum(axis=1) for each in range(3)], axis=1)
    assert fleiss(counts) == pytest.approx(fleiss_by_pairs(votes.tolist()), abs=1e-12)


def test_auto_js_ties_count_as_a_label_of_their_own(shared, tmp_path):
    path = shared("data/extra/autoj_human_pairwise.jsonl.gz")
    rows = rows_of(path)
    random = np.random.default_rng(1)
    said = [row["label"] if random.random() < 0.6 else int(random.integers(0, 3)) for row in rows]
    names = ["first", "second", "tie"]
    result = humans(path, verdicts=write(tmp_path / "v", [{"verdict": names[each]} for each in said]), draws=50)
    found = values(result)
    truth = [row["label"] for row in rows]
    assert result.n == 998
    assert found["humans/ties"] == pytest.approx(262 / 998)
    assert found["humans/first"] == pytest.approx(377 / 736)
    assert found["agreement"] == pytest.approx(np.mean([a == b for a, b in zip(truth, said, strict=True)]))
    decided = [(a, b) for a, b in zip(truth, said, strict=True) if a != 2]
    assert found["accuracy"] == pytest.approx(np.mean([a == b for a, b in decided]))
    metrics = pytest.importorskip("sklearn.metrics")
    assert found["kappa"] == pytest.approx(metrics.cohen_kappa_score(truth, said), abs=1e-12)
    plain = [pair for pair in decided if pair[1] != 2]
    assert found["kappa_decided"] == pytest.approx(metrics.cohen_kappa_score(*zip(*plain, strict=True)), abs=1e-12)


def test_pandalms_people_are_a_majority_and_agree_as_counted_by_hand(shared, tmp_path):
    """Six rows have an answer that is no text: 984 of 990 are read, and none is without a majority."""
    path = shared("data/extra/pandalm_human_3annot.jsonl.gz")
    every = rows_of(path)
    rows = [row for row in every if isinstance(row["response1"], str) and isinstance(row["response2"], str)]
    names = ["annotator1", "annotator2", "annotator3"]
    votes = [[row[name] for name in names] for row in rows]
    major = [Counter(case).most_common(1)[0] for case in votes]
    said = [{"verdict": ["tie", "first", "second"][row["annotator1"]]} for row in every]
    result = humans(path, verdicts=write(tmp_path / "v", said), draws=50)
    found = values(result)
    assert result.n == len(rows) == 984
    assert min(count for _, count in major) == 2
    assert found["humans/ties"] == pytest.approx(sum(vote == 0 for vote, _ in major) / 984)
    assert found["unanimous"] == pytest.approx(sum(count == 3 for _, count in major) / 984)
    assert found["fleiss_kappa"] == pytest.approx(fleiss_by_pairs(votes), abs=1e-12)
    alike = [case[0] == vote for case, (vote, _) in zip(votes, major, strict=True)]
    assert found["agreement"] == pytest.approx(np.mean(alike))
    decided = [right for right, (vote, _) in zip(alike, major, strict=True) if vote]
    assert found["accuracy"] == pytest.approx(np.mean(decided))
    metrics = pytest.importorskip("sklearn.metrics")
    one, two = [case[0] for case in votes], [case[1] for case in votes]
    expected = metrics.cohen_kappa_score(one, two)
    assert found["kappa/annotator1 ~ annotator2"] == pytest.approx(expected, abs=1e-12)
    assert any("6 of 990 rows are left out: not_text" in note for note in result.notes)


def test_on_llmbar_one_who_always_says_first_is_right_as_often_as_the_label_is_first(shared, tmp_path):
    path = shared("data/extra/llmbar_and_processed.jsonl.gz")
    rows = rows_of(path)
    said = write(tmp_path / "v", [{"verdict": "first", "verdict_swapped": "first"} for _ in rows])
    one = write(tmp_path / "o", [{"verdict": "first"} for _ in rows])
    found = values(humans(path, verdicts=one, by="subset", draws=50))
    parts = Counter(row["subset"] for row in rows)
    firsts = Counter(row["subset"] for row in rows if row["label"] in (1, "1"))
    assert parts["Processed/MT-Bench"] == 200
    assert found["subset=Processed/MT-Bench"] == pytest.approx(101 / 200)
    assert found["average"] == pytest.approx(np.mean([firsts[part] / count for part, count in parts.items()]))
    assert found["accuracy"] == pytest.approx(firsts.total() / 879)
    assert found["position/bias"] == pytest.approx(1 - firsts.total() / 879)
    both = values(humans(path, verdicts=said, draws=50))
    assert (both["accuracy"], both["position/flip"], both["position/bias"]) == (0.0, 1.0, 0.5)


def test_on_hhh_the_better_answer_is_listed_first_so_kappa_takes_both_orders(shared, tmp_path, monkeypatch):
    (tmp_path / "by_chars.py").write_text(
        "from pairwright.scorers.sample import Score\n\n"
        "def chars(samples):\n    return [Score(float(len(sample.answer))) for sample in samples]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = shared("data/extra/hhh_alignment.jsonl.gz")
    rows = rows_of(path)
    longer = [len(row["chosen"]) - len(row["rejected"]) for row in rows]
    right = sum(each > 0 for each in longer)
    result = humans(path, scorer="by_chars:chars", draws=50)
    found = values(result)
    decided = sum(each != 0 for each in longer)
    assert result.n == 221
    assert found["accuracy"] == pytest.approx(right / 221)
    assert found["accuracy_decided"] == pytest.approx(right / decided)
    assert found["kappa_decided"] == pytest.approx(2 * right / decided - 1)
    assert found["length/longer"] == 1.0
    assert found["length/bias"] == pytest.approx(1 - right / decided)
    assert not [name for name in found if name.startswith("position/")]
    assert any("lists the better answer first" in note for note in result.notes)


def test_judgebenchs_reward_models_are_right_as_often_as_accuracy_says(shared):
    path = shared("data/extra/judgebench_rm_scores.jsonl.gz")
    rows = rows_of(path)
    model = "Skywork/Skywork-Reward-Llama-3.1-8B"
    name = f"score_{model}"
    found = values(humans(path, scores=[name], draws=50))
    right = turned = 0
    for row in rows:
        (a, b), (first, second) = row["rm_scores"][model], row["rm_scores_swapped"][model]
        ahead, back = np.sign(a - b), np.sign(second - first)  # the swapped ones come as [B, A]
        label = 1 if row["label"] == "A>B" else -1
        right += ahead == back == label
        turned += ahead * back < 0
    assert found["accuracy"] == pytest.approx(right / 250)
    assert found["position/flip"] == pytest.approx(turned / 250)
    prefs = read(path)
    assert found["accuracy"] == pytest.approx(values(accuracy(prefs, scores=[name], draws=50))["accuracy_both"])
    # Pairs have no order of the sides, but the same verdicts.
    data = values(humans(prefs, scores=[name], draws=50))
    assert data["accuracy"] == found["accuracy"]
    assert data["length/bias"] == pytest.approx(found["length/bias"])
    assert "position/first" not in data
    assert data["position/flip"] == found["position/flip"]


def test_a_judge_of_pairs_is_asked_in_both_orders_of_each_comparison(tmp_path):
    """The judge always names the first place, but for one comparison where it knows the better answer."""
    pytest.importorskip("openai")

    def says(body):
        text = body["messages"][-1]["content"]
        if "splendid" not in text:
            return "[[A]]"
        return "[[A]]" if text.index("splendid") < text.index("dreadful") else "[[B]]"

    labels = llmbar(tmp_path / "l", [(1, "splendid", "dreadful"), (1, "one", "two"), (2, "one", "two")])
    with serving(says) as server:
        judge = {"with": "judge", "url": server.url, "model": "m", "kind": "pairwise"}
        found = values(humans(labels, scorer=judge, draws=20))
        assert sum(server.paid.values()) == 6
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["position/flip"] == pytest.approx(2 / 3)
    assert found["position/first"] == pytest.approx(5 / 6)


def test_the_command_writes_the_one_json_of_all_results(tmp_path, capsys):
    labels, said = llmbar(tmp_path / "l.jsonl"), verdicts(tmp_path / "v.jsonl")
    assert main(["evaluate", "humans", str(labels), "--verdicts", str(said), "--draws", "20", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == "humans"
    assert told["accuracy"] == pytest.approx(0.4)


def test_a_recipe_measures_the_data_of_an_earlier_step(shared, tmp_path):
    path = shared("data/extra/judgebench_rm_scores.jsonl.gz")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"- {{name: data, do: read, source: {path}}}\n"
        "- {name: people, do: evaluate, what: humans, source: 'step:data', draws: 20}\n"
    )
    assert main(["run", str(recipe), "-o", str(tmp_path / "run")]) == 0
    (found,) = (json.loads(each.read_text()) for each in (tmp_path / "run").glob("**/result.json"))
    assert found["name"] == "humans"
    assert found["n"] == 250
