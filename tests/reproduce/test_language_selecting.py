"""The claims on selection: verdicts from planted gold, and the data functions by hand arithmetic and other roads."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from pairwright.chat import prompt_id, user
from pairwright.errors import InputError
from pairwright.logprobs import logprobs
from pairwright.pairing import pair
from pairwright.preferences import Preferences
from pairwright.reproduce.claim import Outcome, Setup
from pairwright.reproduce.language import bench, data_selecting, selecting
from pairwright.reproduce.language.claims_selecting import SELECTING
from pairwright.reproduce.language.data import Given
from pairwright.reproduce.language.job import said
from pairwright.reproduce.language.seeds import FIRST
from pairwright.reproduce.language.setting import Call, Job, Tuned, World
from pairwright.reproduce.language.training import opened
from pairwright.select import select
from pairwright.train.scratch import scratch
from pairwright.worlds import language

Work = Job | Call
POTENTIAL, UNIFORM = data_selecting.POTENTIAL, data_selecting.UNIFORM


# Verdicts


def metric_of(work: Work) -> str | None:
    """By which metric the pairs of a training are taken; None: all of them."""
    settings = dict(work.settings) if isinstance(work, Call) else dict(work.arm.data_settings if work.arm else ())
    return settings.get("metric")


def planted(bonus: dict[str, float], *, per_round: float = 0.5, later: float = 1.0) -> Callable[..., Any]:
    """In place of trainings: gold is 5, more by the bonus of the metric, with small chance about it.

    In rounds it also moves by `per_round` each, and the bonus of the second and third is multiplied by `later`.
    Labels: right for 70% of the pairs, more by a tenth of the bonus.
    """

    def gold(work: Any, base: float, prompts: int) -> list[float]:
        settings = dict(work.settings) if isinstance(work, Call) else {"seed": work.seed}
        chance = np.random.default_rng([settings["seed"], 3]).normal(0, 0.05, prompts)
        return [round(value, 6) for value in base + chance]

    def of_labels(call: Call) -> dict[str, Any]:
        names = (*data_selecting.WAYS, "all")
        seed = dict(call.settings)["seed"]
        right = {
            name: 0.7 + 0.1 * bonus.get(name, 0.0) + 0.001 * (seed - FIRST) * (name == POTENTIAL) for name in names
        }
        rest = dict.fromkeys(names, 0.5)
        return {"right": right, "gold_gap": rest, "against": rest, "shared": rest, "seconds": 1.0}

    def of_rounds(call: Call) -> dict[str, Any]:
        count = dict(call.settings)["prompts"]
        more = bonus.get(str(metric_of(call)), 0.0)
        sizes = [0.0, more, later * more, later * more]
        return {
            "gold": [gold(call, 5.0 + per_round * turn + sizes[turn], count) for turn in range(4)],
            "kl": [0.0, 0.1, 0.2, 0.3],
            "right": [0.7] * 3,
            "kept": [90] * 3,
            "seconds": 2.0,
        }

    def of_job(job: Job) -> dict[str, Any]:
        values = gold(job, 5.0 + bonus.get(metric_of(job) or "", 0.0), job.prompts)
        marks = {said(goal): values for goal in job.goals}
        return {
            "gold": marks,
            "refuses": {goal: [0.25] * job.prompts for goal in marks},
            "measures": {},
            "seconds": 3.0,
        }

    kinds = {"labels": of_labels, "rounds": of_rounds}

    def run_jobs(jobs: Iterable[Work], *, label: str) -> dict[Work, dict[str, Any]]:
        return {
            job: of_job(job) if isinstance(job, Job) else kinds[job.function.rpartition(":")[2]](job) for job in jobs
        }

    return run_jobs


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    monkeypatch.setattr(bench, "DRAWS", 200)  # the verdicts are clear; a finer interval would only take longer

    def run(claim: str, run_jobs: Callable[..., Any], *, quick: bool = False) -> Outcome:
        for module in (bench, selecting):
            monkeypatch.setattr(module, "run_jobs", run_jobs)
        return SELECTING[claim].run(Setup(seeds=2 if quick else 5, quick=quick))

    return run


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(
    "claim", ["potential_top_40", "potential_picks_right_labels", "potential_over_sizes", "potential_over_rounds"]
)
def test_a_claim_on_the_potential_has_the_verdict_that_was_planted(
    claim: str, quick: bool, outcome: Callable[..., Outcome]
) -> None:
    assert outcome(claim, planted({POTENTIAL: 0.4}), quick=quick).verdict == "holds"
    assert outcome(claim, planted({POTENTIAL: -0.4}), quick=quick).verdict == "does not hold"


def test_one_metric_that_is_better_is_enough_against_the_claim(outcome: Callable[..., Outcome]) -> None:
    """Potential 0.4, gap 0.7, others 0: the differences are -0.3 and +0.4, chance being equal in all arms."""
    found = outcome("potential_top_40", planted({POTENTIAL: 0.4, "explicit_gap": 0.7}))
    assert found.verdict == "does not hold"
    assert found.metric("gold/gap").value == pytest.approx(-0.3)
    assert found.metric("gold/uniform").value == pytest.approx(0.4)
    assert found.metric("right/potential").value == pytest.approx(0.742)  # 0.7 + 0.04 + the mean of 0 to 0.004
    assert found.metric("right/gap").value == pytest.approx(0.77)


def test_arms_that_are_equal_do_not_identify_the_claim(outcome: Callable[..., Outcome]) -> None:
    for claim in ("potential_top_40", "potential_over_sizes", "potential_over_rounds"):
        assert outcome(claim, planted({})).verdict == "not identified"


def test_a_gain_that_turns_in_later_rounds_is_no_gain_in_every_round(outcome: Callable[..., Outcome]) -> None:
    found = outcome("potential_over_rounds", planted({POTENTIAL: 0.4}, later=-1.0))
    assert found.verdict == "does not hold"
    gains = [found.metric(f"gold/round_{turn}").value for turn in (1, 2, 3)]
    assert gains == pytest.approx([0.4, -0.4, -0.4])


@pytest.mark.parametrize("quick", [False, True])
def test_self_play_holds_where_gold_rises_in_each_round_and_fails_where_it_falls(
    quick: bool, outcome: Callable[..., Outcome]
) -> None:
    found = outcome("self_play_rounds", planted({}, per_round=0.5), quick=quick)
    assert found.verdict == "holds"
    assert found.metric("gain_in_all/potential").value == pytest.approx(1.5)
    assert found.metric("kl/potential").value == pytest.approx(0.3)
    assert outcome("self_play_rounds", planted({}, per_round=-0.5), quick=quick).verdict == "does not hold"
    assert outcome("self_play_rounds", planted({}, per_round=0.0), quick=quick).verdict == "not identified"


def test_all_pairs_by_any_metric_are_plain_dpo_and_trained_once() -> None:
    assert selecting.arm_of(POTENTIAL, 1.0) == selecting.arm_of(UNIFORM, 1.0) == selecting.PLAIN
    assert selecting.arm_of(POTENTIAL, 0.4) != selecting.arm_of(UNIFORM, 0.4)


def test_over_sizes_every_arm_has_the_tuned_numbers_of_plain(
    outcome: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = Tuned(rate=0.123, strength=4.0)
    monkeypatch.setattr(bench, "tune", lambda arms, world, setup: {arm.name: chosen for arm in arms})
    rows = outcome("potential_over_sizes", planted({})).table
    assert [row["arm"] for row in rows] == [
        "potential 20%",
        "potential 40%",
        "potential 60%",
        "plain",
        "uniform 20%",
        "uniform 40%",
        "uniform 60%",
    ]
    assert {(row["rate"], row["strength"]) for row in rows} == {(0.123, 4.0)}


@pytest.mark.parametrize("name", SELECTING)
def test_a_claim_names_a_check_of_this_room(name: str) -> None:
    claim = SELECTING[name]
    assert (claim.name, claim.world) == (name, "language")
    assert callable(getattr(selecting, claim.check.partition(":")[2]))


# Data


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt nothing, but is sure of itself: its head is ten times as large as at the start."""
    path = scratch(
        language.text(prompts=400),
        output=tmp_path_factory.mktemp("model") / "small",
        kind="word",
        hidden_size=32,
        layers=1,
        heads=2,
        max_length=96,
    )
    model, _ = opened(path)
    with torch.no_grad():
        model.lm_head.weight.mul_(10.0)
    model.save_pretrained(path)
    return path


@pytest.fixture
def pairs() -> Preferences:
    return pair(language.make(prompts=60, skill=6.0, judge="weak"), rule="best_worst")


def test_the_margin_is_the_difference_of_mean_log_probabilities_of_tokens(place: Path, pairs: Preferences) -> None:
    """Against log-softmax of the model's own logits, token by token, the end of the answer among them."""
    model, tokenizer = opened(place)
    found = data_selecting.with_margin(pairs, model, tokenizer).pairs.collect()["margin"].to_list()
    assert "margin" not in pairs.pairs.collect_schema()

    def mean_logp(prompt: list[dict[str, str]], answer: str) -> float:
        head = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        tail = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logits = model(torch.tensor([head + tail])).logits[0].double().log_softmax(-1)
        return float(np.mean([logits[len(head) + i - 1, token].item() for i, token in enumerate(tail)]))

    prompts = dict(pairs.prompts.select("prompt_id", "prompt").collect().iter_rows())
    answers = dict(pairs.responses.select("response_id", "response").collect().iter_rows())
    rows = pairs.pairs.collect().head(8).iter_rows(named=True)
    for margin, row in zip(found, rows, strict=False):
        chosen, rejected = (
            mean_logp(prompts[row["prompt_id"]], answers[row[f"{side}_id"]][0]["content"])
            for side in ("chosen", "rejected")
        )
        assert margin == pytest.approx(chosen - rejected, abs=1e-4)


@pytest.mark.parametrize("metric", data_selecting.WAYS)
def test_an_arm_takes_what_select_takes_with_the_model_itself(metric: str, place: Path, pairs: Preferences) -> None:
    model, tokenizer = opened(place)
    given = Given(world=World(), model=model, tokenizer=tokenizer, seed=3)
    ours = data_selecting.selected(pairs, given, metric=metric, keep=0.4).pairs.collect()
    seen = logprobs(pairs, model=place, name="small", store=False)
    told: dict[str, Any] = {} if metric in ("explicit_gap", UNIFORM) else {"policy": "small"}
    theirs = select(seen, metric, keep=0.4, seed=3, **told).pairs.collect()
    assert ours["chosen_id"].to_list() == theirs["chosen_id"].to_list()
    assert len(ours) == int(0.4 * pairs.counts().pairs)


def test_a_pair_with_an_answer_that_cannot_be_read_is_refused(place: Path) -> None:
    rows = [language.row([user("Name nine fruits, but not apple or pear.")], words) for words in (["plum"], [])]
    prompt = [user("Name nine fruits, but not apple or pear.")]
    table = pl.DataFrame({"prompt_id": [prompt_id(prompt)], "prompt": [prompt]})
    sides = pl.DataFrame({"prompt_id": [prompt_id(prompt)] * 2, "chosen_id": [0, 0], "rejected_id": [1, 2]})
    two = [*rows, language.row(prompt, ["grape", "grape"])]
    prefs = Preferences.of(table, pl.DataFrame(two), sides.with_columns(split=pl.lit("train")))
    with pytest.raises(InputError, match="1 of 2 pairs have no margin"):
        data_selecting.with_margin(prefs, *opened(place))


def hand_made(golds: list[tuple[float, float]]) -> Preferences:
    """Pairs whose answers have these gold rewards, chosen first."""
    prompt = [user("Name nine fruits, but not apple or pear.")]
    each = [value for both in golds for value in both]
    answers = pl.DataFrame(
        {
            "prompt_id": ["p"] * len(each),
            "response": [[{"role": "assistant", "content": f"a{i}"}] for i in range(len(each))],
            "score_gold": each,
        }
    )
    ids = range(len(golds))
    pairs = pl.DataFrame(
        {
            "prompt_id": ["p"] * len(golds),
            "chosen_id": [2 * i for i in ids],
            "rejected_id": [2 * i + 1 for i in ids],
            "split": ["train"] * len(golds),
        }
    )
    return Preferences.of(pl.DataFrame({"prompt_id": ["p"], "prompt": [prompt]}), answers, pairs)


def test_right_labels_are_counted_by_gold_with_ties_as_halves() -> None:
    """Two right, one wrong, one tie: 2.5 of 4. Gaps 2, 0.5, -3 and 0."""
    prefs = hand_made([(5.0, 3.0), (4.5, 4.0), (2.0, 5.0), (6.0, 6.0)])
    assert data_selecting.right_share(prefs) == 0.625
    assert data_selecting.gold_gaps(prefs).tolist() == [2.0, 0.5, -3.0, 0.0]
    assert data_selecting.right_share(hand_made([(3.0, 5.0)])) == 0.0


def test_labels_say_the_truth_of_an_exact_judge_and_of_the_potential_itself(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pairs of the gold reward itself have no wrong label, whichever are taken; the potential shares all with itself,
    and with all pairs its own part of them, 40%."""
    monkeypatch.setattr(data_selecting, "base_of", lambda base: opened(place))
    found = data_selecting.labels(world=World(prompts=60, rule="best_worst"), seed=1, keep=0.4)
    assert set(found["right"].values()) == {1.0}
    assert found["shared"][POTENTIAL] == 1.0
    assert found["shared"]["all"] == pytest.approx(0.4, abs=0.02)
    assert found["against"]["signed_potential"] >= found["against"][POTENTIAL]
    assert found["gold_gap"]["explicit_gap"] == max(found["gold_gap"].values())


def test_a_round_pairs_the_best_answer_with_the_worst_and_leaves_empty_ones_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gold of no fruit 1, of one 2, of three 4; an answer without a word would also be 1, but is none."""
    task = language.read_task([user("Name nine fruits, but not apple or pear.")])
    assert task is not None
    fruits = [word for word in language.CATEGORIES["fruits"] if word not in ("apple", "pear")]
    said = [[fruits[0]], [], fruits[:3], ["hammer"]]
    monkeypatch.setattr(data_selecting, "drawn", lambda *_: [(task, [1], [2], words) for words in said])
    prefs = data_selecting.answered(None, None, [task], World(), seed=0, draw=0)
    row = prefs.view("response", "score_gold").collect().row(0, named=True)
    assert (row["score_gold_chosen"], row["score_gold_rejected"]) == (4.0, 1.0)
    assert row["response_chosen"][0]["content"] == " ".join(fruits[:3])
    assert row["response_rejected"][0]["content"] == "hammer"


def test_kl_is_zero_from_the_base_itself_and_positive_from_another(place: Path) -> None:
    """The other is flatter by half in its logits; the mean log-ratio of its own answers can only be positive."""
    base, tokenizer = opened(place)
    other, _ = opened(place)
    with torch.no_grad():
        other.lm_head.weight.mul_(0.5)
    tasks = language.tasks(12, "held_out")
    gold, same = data_selecting.look(base, base, tokenizer, tasks, 0)
    assert same == pytest.approx(0.0, abs=1e-6)
    assert len(gold) == 12
    assert all(1.0 <= value <= 10.0 for value in gold)
    _, apart = data_selecting.look(other, base, tokenizer, tasks, 0)
    assert apart > 0.1


def test_rounds_start_from_the_base_leave_it_alone_and_train_on_the_share(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, tokenizer = opened(place)
    before = [weight.clone() for weight in base.parameters()]
    monkeypatch.setattr(data_selecting, "base_of", lambda _: (base, tokenizer))
    asked: list[str] = []
    own = data_selecting.answered

    def seen(policy: Any, reader: Any, tasks: Any, *rest: Any, **settings: Any) -> Preferences:
        asked.extend(task.text for task in tasks)
        found = own(policy, reader, tasks, *rest, **settings)
        counts.append(found.counts().pairs)
        return found

    counts: list[int] = []
    monkeypatch.setattr(data_selecting, "answered", seen)
    found = data_selecting.rounds(
        world=World(prompts=36, steps=4, judge="weak"),
        metric=POTENTIAL,
        keep=0.5,
        tuned=Tuned(rate=1e-2, strength=0.1),
        seed=1,
        part="validation",
        prompts=6,
    )
    assert len(asked) == len(set(asked)) == 36
    assert found["kept"] == [count // 2 for count in counts]
    assert [len(gold) for gold in found["gold"]] == [6] * 4
    assert found["kl"][0] == pytest.approx(0.0, abs=1e-6)
    assert abs(found["kl"][3]) > 1e-4
    for one, two in zip(before, base.parameters(), strict=True):
        torch.testing.assert_close(one, two)
