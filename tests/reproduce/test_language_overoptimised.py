"""The checks of over-optimised language models: planted trainings give the planted verdict, their mirror another."""

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from pairwright.reproduce.claim import Setup
from pairwright.reproduce.language import bench
from pairwright.reproduce.language import curves_overoptimised as curves
from pairwright.reproduce.language import overoptimised as room
from pairwright.reproduce.language.claims_overoptimised import OVEROPTIMISED
from pairwright.reproduce.language.seeds import seeds_of
from pairwright.reproduce.language.setting import Base, Call, World

SETUP = Setup(seeds=5)
PROMPTS = 20

Planted = Callable[[str, float, float, World, dict[str, Any]], dict[str, Any]]
"""Of a loss, its nominal beta, the share of the training, the world and the loss's settings: numbers of a check."""


def planted(monkeypatch: pytest.MonkeyPatch, numbers: Planted) -> list[Call]:
    """Put planted checks in place of trainings; gold gets an error of 0.01 by seed and instruction."""
    seen: list[Call] = []

    def run_jobs(calls: Iterable[Call], *, label: str) -> dict[Call, dict[str, Any]]:
        found = {}
        for call in calls:
            seen.append(call)
            told = dict(call.settings)
            term = dict(told["term"])
            beta = term["beta"] / curves.NOMINAL.get(term["name"], 1.0)
            draw = np.random.default_rng([told["seed"], round(1000 * beta)])
            checks = []
            for share in told["checks"]:
                mine: dict[str, Any] = {"kl": 0.0, "fillers": 0.0, "accuracy": 0.5, "loss": 0.5, "length": 9.0}
                mine |= {name: 1.0 for name in ("entropy", "own_entropy", "mass", "own_mass")}
                mine |= numbers(term["name"], beta, share, told["world"], term)
                gold = mine["gold"] + 0.01 * draw.standard_normal(PROMPTS)
                lists = {"gold": gold.tolist(), "kl": [mine["kl"]] * PROMPTS, "fillers": [mine["fillers"]] * PROMPTS}
                lists["praises"] = [0.25] * PROMPTS
                checks.append({"step": round(share * told["world"].steps), **mine, **lists})
            found[call] = {"checks": checks, "seconds": 2.0}
        return found

    monkeypatch.setattr(curves, "run_jobs", run_jobs)
    monkeypatch.setattr(bench, "DRAWS", 200)
    monkeypatch.setattr(room, "DRAWS", 100)
    return seen


def far(beta: float) -> float:
    """A distance that grows as beta falls: 0.5 at beta 1, 2.5 at 0.01."""
    return 0.5 - math.log10(beta)


def law(d: float, a: float, b: float) -> float:
    return 5.0 + (a * d - b * d * math.log(d) if d > 0 else 0.0)


def on_law(loss: str, beta: float, share: float, world: World, term: dict[str, Any]) -> dict[str, Any]:
    d = far(beta) * share
    return {"gold": law(d, 1.0, 2.0), "kl": d * d}


def test_gold_on_the_law_is_a_hump_with_the_peak_of_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """d* = exp(a / b - 1) = exp(-1/2) for a = 1, b = 2; R* = b d* there."""
    planted(monkeypatch, on_law)
    found = room.hump(SETUP)
    assert found.verdict == "holds"
    for loss in room.LOSSES:
        peak = found.metric(f"{loss}/peak").value
        assert peak == pytest.approx(math.exp(-0.5), abs=0.01)
        law_error, rival = (found.metric(f"{loss}/rmse_{name}").value for name in ("law", "quadratic"))
        assert law_error is not None
        assert rival is not None
        assert law_error < 0.01 < rival


def test_a_fall_is_measured_from_the_best_beta_to_the_farthest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the betas, d is 2.5, 2.023, 1.5, 1.023, 0.5: the law with a = 1, b = 2 is highest at 0.5 among them."""
    planted(monkeypatch, on_law)
    found = room.hump(SETUP)
    assert "25% of the answers praise themselves" in found.says
    assert {row["tokens"] for row in found.table} == {9.0}
    fall = found.metric("dpo/fall")
    assert fall.value == pytest.approx(law(0.5, 1.0, 2.0) - law(2.5, 1.0, 2.0), abs=0.01)


def test_gold_that_only_rises_with_the_distance_is_no_hump(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, lambda loss, beta, share, world, term: {"gold": 5 + far(beta) * share, "kl": far(beta) ** 2})
    assert room.hump(SETUP).verdict == "does not hold"


def test_gold_that_only_falls_is_no_hump(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, lambda loss, beta, share, world, term: {"gold": 5 - far(beta) * share, "kl": far(beta) ** 2})
    assert room.hump(SETUP).verdict == "does not hold"


def scaled(factors: dict[str, float]) -> Planted:
    """Distances, and falls with them, by a factor of each loss."""

    def numbers(loss: str, beta: float, share: float, world: World, term: dict[str, Any]) -> dict[str, Any]:
        d = far(beta) * share * factors[loss]
        return {"gold": law(d, 1.0, 2.0), "kl": d * d}

    return numbers


def test_ipo_is_the_mildest_where_it_stays_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances of DPO are twice those of IPO: the mean of 2.5, 2.023, 1.5, 1.023, 0.5 is 1.509, halved 0.755."""
    planted(monkeypatch, scaled({"dpo": 1.0, "hinge": 1.2, "ipo_sum": 0.5}))
    found = room.hump_ipo_mildest(SETUP)
    assert found.verdict == "holds"
    assert found.metric("nearer/dpo").value == pytest.approx(0.755, abs=0.001)


def test_ipo_is_not_the_mildest_where_it_goes_farthest(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, scaled({"dpo": 0.5, "hinge": 0.5, "ipo_sum": 1.0}))
    assert room.hump_ipo_mildest(SETUP).verdict == "does not hold"


@pytest.mark.parametrize("world", [room.WORLD, room.LENGTH], ids=["hijackable", "length"])
def test_a_first_look_goes_as_far_in_fewer_steps(world: World) -> None:
    """As far as steps times their length: 100 of 3e-4 are 0.03, and so are 30 of 1e-3."""

    def way(setup: Setup) -> tuple[int, float]:
        told = dict(curves.call_of(curves.Spec(loss="dpo", beta=0.1, world=world), 3000, setup).settings)
        return told["world"].steps, told["world"].steps * told["rate"]

    whole, first = way(SETUP), way(Setup(seeds=3, quick=True))
    assert first[0] < whole[0] / 3
    assert first[1] == pytest.approx(whole[1]) == pytest.approx(0.03)


def test_one_nominal_beta_is_half_as_much_for_ipo_sum() -> None:
    """(beta * margin - 1)^2 is least at a margin of 1 / beta, and ipo_sum at b at 1 / (2 b): so b = beta / 2."""
    told = {
        loss: dict(dict(curves.call_of(curves.Spec(loss=loss, beta=0.2), 0, Setup()).settings)["term"])
        for loss in room.LOSSES
    }
    assert 1 / (2 * told["ipo_sum"]["beta"]) == 1 / 0.2
    assert told["dpo"]["beta"] == told["hinge"]["beta"] == 0.2


def by_width(sooner: int) -> Planted:
    """One width is best at a tenth and loses 3 by 0.01; the other is best at 0.1, a bit farther, and loses 1."""

    def numbers(loss: str, beta: float, share: float, world: World, term: dict[str, Any]) -> dict[str, Any]:
        early = {0.01: 3.0, 0.1: 5.0, 1.0: 6.0}
        late = {0.01: 5.0, 0.1: 6.0, 1.0: 5.5}
        gold = (early if world.base.width == sooner else late)[beta] if share else 4.0
        return {"gold": gold, "kl": (far(beta) * share) ** 2}

    return numbers


def test_the_smaller_model_over_optimises_earlier_and_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its best is at d = 0.5 and the larger one's at 1.5; it falls by 6 - 3 = 3 and the larger one by 1."""
    seen = planted(monkeypatch, by_width(32))
    found = room.hump_sizes(SETUP)
    assert found.verdict == "holds"
    assert found.metric("earlier").value == pytest.approx(1.0)
    assert found.metric("further").value == pytest.approx(2.0, abs=0.02)
    kinds = {seed: {call.bases for call in seen if dict(call.settings)["seed"] == seed} for seed in seeds_of(SETUP)}
    for seed, found_bases in kinds.items():
        assert found_bases == {(Base(width=32, seed=seed),), (Base(width=64, seed=seed),)}


def test_a_larger_model_that_falls_further_is_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, by_width(64))
    assert room.hump_sizes(SETUP).verdict == "does not hold"


def within(top: float) -> Planted:
    """Gold in an epoch, highest at a share of it; KL grows."""
    return lambda loss, beta, share, world, term: {"gold": 6 - abs(share - top), "kl": share}


def test_a_peak_at_a_quarter_is_an_early_decline(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, within(0.25))
    found = room.early_decline(SETUP)
    assert found.verdict == "holds"
    assert found.metric("place/0.01").value == pytest.approx(0.25)
    assert found.metric("fall/0.01").value == pytest.approx(0.75, abs=0.01)
    assert found.metric("grown/0.01").value == pytest.approx(0.75)


def test_a_peak_at_the_end_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, within(1.0))
    assert room.early_decline(SETUP).verdict == "does not hold"


def turning(entropy: Callable[[float], float], mass: Callable[[float], float]) -> Planted:
    return lambda loss, beta, share, world, term: {
        "gold": 6 - abs(share - 0.4),
        "kl": share,
        "entropy": entropy(share),
        "mass": mass(share),
    }


def test_signals_fire_where_entropy_turns_and_mass_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entropy is highest at 25 of 100 steps; the second check more than 2% below is at 55, 15 after gold's."""
    planted(monkeypatch, turning(lambda share: 2 - abs(share - 0.25), lambda share: 0.9 - 0.1 * share))
    found = room.turning_points(SETUP)
    rows = {(row["loss"], row["reading"]): row for row in found.table}
    dpo = rows["dpo", "held-out chosen answers"]
    assert (dpo["fired"], dpo["steps_from_peak"], dpo["peak_of_gold"]) == (5, 15.0, 40.0)
    # Mass is 0.0250 below its start at step 25 and 0.04 at 40: both are beyond 0.01, so it fires at 40.
    assert rows["hinge", "held-out chosen answers"]["steps_from_peak"] == 0.0
    assert rows["dpo", "own answers"]["fired"] == 0
    assert found.verdict == "holds"


def test_signals_that_never_fire_are_against_them(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, turning(lambda share: 2 - share, lambda share: 0.8 + 0.1 * share))
    found = room.turning_points(SETUP)
    assert found.verdict == "does not hold"
    assert found.metric("fired/dpo/chosen").value == 0


def blind(sign: float) -> Planted:
    def numbers(loss: str, beta: float, share: float, world: World, term: dict[str, Any]) -> dict[str, Any]:
        gold = 5 + far(beta) * share
        return {"gold": gold, "kl": far(beta) ** 2, "accuracy": sign * gold, "loss": -sign * gold}

    return numbers


def test_accuracy_that_goes_with_gold_is_against_blindness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gold of neighbouring betas is 0.48 apart and more, its error 0.01 / sqrt(20): the ranks agree in every seed."""
    planted(monkeypatch, blind(1.0))
    found = room.accuracy_blind(SETUP)
    assert found.verdict == "does not hold"
    assert found.metric("accuracy/dpo").value == pytest.approx(1.0)
    assert found.metric("loss/hinge/epoch").value == pytest.approx(1.0)


def test_accuracy_that_goes_against_gold_predicts_no_gold(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, blind(-1.0))
    assert room.accuracy_blind(SETUP).verdict == "holds"


def longer(price: float, fillers: float) -> Planted:
    """A hump for both losses; R-DPO is `price` better."""

    def numbers(loss: str, beta: float, share: float, world: World, term: dict[str, Any]) -> dict[str, Any]:
        d = far(beta) * share
        more = price * share if loss == "r_dpo" else 0.0
        return {"gold": law(d, 1.0, 2.0) + more, "kl": d * d, "fillers": fillers * share}

    return numbers


def test_fillers_rise_and_r_dpo_is_better_with_a_hump(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, longer(0.5, 2.0))
    found = room.length_judge(SETUP)
    assert found.verdict == "holds"
    assert found.metric("fillers").value == pytest.approx(2.0)
    assert found.metric("gain/r_dpo 0.5").value == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("price", "fillers"), [(-0.5, 2.0), (0.5, -2.0)])
def test_worse_r_dpo_or_fewer_fillers_are_against_it(
    monkeypatch: pytest.MonkeyPatch, price: float, fillers: float
) -> None:
    planted(monkeypatch, longer(price, fillers))
    assert room.length_judge(SETUP).verdict == "does not hold"


@pytest.mark.parametrize("name", sorted(OVEROPTIMISED))
def test_a_quick_look_works_and_one_seed_says_that_it_cannot(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    calls = planted(monkeypatch, on_law)
    claim = OVEROPTIMISED[name]
    assert claim.name == name
    found = claim.run(Setup(seeds=2, quick=True))
    assert found.metrics
    assert found.table
    assert found.seconds == pytest.approx(2.0 * len(calls))
    assert claim.run(Setup(seeds=1)).verdict == "not identified"


def test_the_best_setting_of_a_seed_is_that_of_the_others() -> None:
    """Seed 0 alone is best at setting 2; the sum of seeds 1 and 2 is highest at 0, that of 0 and 1 and of 0 and 2 at 2.

    By hand: rows (0, 0, 9), (3, 0, 1), (3, 0, 1); sums without seed 0: (6, 0, 2); without 1 or 2: (3, 0, 10).
    """
    gold = np.array([[0, 0, 9], [3, 0, 1], [3, 0, 1]], dtype=np.float64)[:, :, None]
    curve = curves.Curve((0.1, 0.2, 0.3), gold, np.ones((3, 3)), np.zeros((3, 1)))
    assert curve.best.tolist() == [0, 2, 2]
    assert curve.at_best[:, 0].tolist() == [0.0, 1.0, 1.0]


def test_held_out_pairs_have_new_instructions_and_the_judges_labels() -> None:
    pytest.importorskip("torch")
    from pairwright.reproduce.language.job import pairs_of
    from pairwright.reproduce.language.measures_overoptimised import UNSEEN, unseen_pairs

    world = World(prompts=60, judge="length", rule="every")
    new, known = unseen_pairs(world, 3), pairs_of(world, 3)
    ids = set(new.pairs.collect()["prompt_id"])
    assert 0 < len(ids) <= UNSEEN
    assert not ids & set(known.prompts.collect()["prompt_id"])
    view = new.view("score").collect()
    assert (view["score_chosen"] > view["score_rejected"]).all()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose base has hardly learnt anything."""
    from pairwright.reproduce.language import bases, job

    monkeypatch.setattr(bases, "STEPS", 2)
    monkeypatch.setattr(bases, "TEXTS", 400)
    job.base_of.cache_clear()
    return World(base=Base(width=16, layers=1), prompts=30, judge="hijackable", rule="every", steps=4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_course_begins_at_the_start_and_goes_away_from_it(tiny: World) -> None:
    """At the start the policy is the reference: KL 0, loss ln 2 whatever beta, and no reward above another."""
    from pairwright.reproduce.language.measures_overoptimised import course

    settings: dict[str, Any] = {"world": tiny, "seed": 0, "rate": 1e-2, "prompts": 6}
    found = course(term=(("name", "dpo"), ("beta", 0.1)), checks=(0.0, 0.5, 1.0), **settings)
    first, middle, last = found["checks"]
    assert [first["step"], middle["step"], last["step"]] == [0, 2, 4]
    assert max(first["kl"]) == 0.0
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert min(last["kl"]) > 0
    assert np.mean(last["kl"]) > np.mean(middle["kl"])
    # A look moves nothing: the end is the same when nobody looked before.
    alone = course(term=(("name", "dpo"), ("beta", 0.1)), checks=(1.0,), **settings)
    assert alone["checks"][0]["kl"] == pytest.approx(last["kl"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_divergence_and_spread_are_those_of_plain_logits(tiny: World) -> None:
    """By another road: each answer alone, full logits of both models, KL and the ten largest by torch."""
    import torch

    from pairwright.reproduce.language.job import FORM, SAMPLES, base_of, drawn, held_out
    from pairwright.reproduce.language.measures_overoptimised import own

    model, tokenizer = base_of(tiny.base)
    policy = deepcopy(model)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(1.2)
        found = own(policy, model, tokenizer, 1, 3)
        kl, entropy = [], []
        for _, prompt, ids, _ in drawn(policy, tokenizer, held_out("test", 3), None, FORM, 1, SAMPLES):
            row = torch.tensor([[*prompt, *ids]])
            ours, theirs = (
                each(row).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1) for each in (policy, model)
            )
            kl.append(float((ours.exp() * (ours - theirs)).sum()))
            top = ours.exp().topk(10).values
            share = top / top.sum(-1, keepdim=True)
            entropy.append(float(-(share * share.log2()).sum(-1).mean()))
    assert found["kl"] == pytest.approx([(one + two) / 2 for one, two in zip(kl[::2], kl[1::2], strict=True)], rel=1e-3)
    assert found["own_entropy"] == pytest.approx(np.mean(entropy), rel=1e-3)
