"""Sums of losses: values, what they ask and take, names, and what cannot be summed."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from losses.drawn import groups, pairs, points, slopes
from losses.worked_example import record
from pairwright.errors import InputError
from pairwright.losses import (
    GroupLogps,
    PairLogps,
    PairLoss,
    PointLogps,
    PointLoss,
    Sum,
    Term,
    asks,
    check_loss,
    compose,
    dpo,
    infonca,
    kto,
    nca,
    needs,
    sft,
    takes,
    uses,
)


@uses("ref")
def of_points_alone(points: PointLogps) -> PointLoss:
    return kto(points)


def test_one_plain_term_is_the_bound_loss() -> None:
    loss = compose([Term("dpo", settings={"beta": 0.3})])
    assert isinstance(loss, partial)
    assert loss.func is dpo
    assert loss.keywords == {"beta": 0.3, "label_smoothing": 0.0}


def test_the_value_is_the_weighted_sum() -> None:
    """Specification: 0.8 * 0.620957 + 0.5 * 1.25 (10 nats over 8 tokens)."""
    loss = compose([Term("dpo", 0.8), Term("sft", 0.5)])
    assert loss(record()).loss.item() == pytest.approx(0.8 * 0.620957 + 0.625, abs=1e-6)
    assert {name: value.item() for name, value in loss.each(record()).items()} == pytest.approx(
        {"dpo": 0.620957, "sft": 1.25}, abs=1e-6
    )


def test_the_rpo_of_the_worked_example() -> None:
    """Specification: DPO and the NLL of each token with weight 1, 1.870957."""
    loss = compose([Term("dpo"), Term("sft")])
    assert loss(record()).loss.item() == pytest.approx(1.870957, abs=1e-6)


def test_implicit_rewards_are_those_of_the_first_term() -> None:
    left, right = compose([Term("dpo"), Term("sft")])(pairs()), compose([Term("sft"), Term("dpo")])(pairs())
    assert torch.equal(left.chosen, dpo(pairs()).chosen)
    assert torch.equal(right.rejected, sft(pairs()).rejected)
    assert torch.allclose(left.loss, right.loss, rtol=1e-12)


def test_gradients_add_up() -> None:
    pair = pairs()
    loss = compose([Term("dpo", 0.7), Term("sft", -0.2)])
    for whole, one, other in zip(slopes(loss, pair), slopes(dpo, pair), slopes(sft, pair), strict=True):
        assert torch.allclose(whole, 0.7 * one - 0.2 * other, rtol=1e-12)


def test_a_sum_says_what_its_terms_say() -> None:
    loss = compose([Term("kto", 0.5), Term("sft"), Term("modpo", settings={"margins": {"safety": 0.2, "score": 0.1}})])
    assert isinstance(loss, Sum)
    assert loss.__name__ == "kto+sft+modpo"
    assert needs(loss) == {"ref", "length", "score", "scores"}
    assert asks(loss).scores == ("safety",)
    assert asks(loss).baseline == "mismatched_kl"
    assert not asks(loss).of_batch
    assert asks(compose([Term("dpo"), Term("aot")])).of_batch


def test_a_sum_takes_the_records_that_all_terms_take() -> None:
    assert takes(compose([Term("infonca"), Term("nca")])) == (PairLogps, GroupLogps)
    assert takes(compose([Term("kto"), Term("sft")])) == (PairLogps, PointLogps)
    assert takes(compose([Term("infonca"), Term("kto")])) == (PairLogps,)
    assert takes(compose([Term("infonca"), Term("dpo")])) == (PairLogps,)


def test_groups_and_single_answers_are_summed_too() -> None:
    both = compose([Term("infonca", 0.5), Term("nca", 2.0)])(groups())
    assert torch.allclose(both.loss, 0.5 * infonca(groups()).loss + 2 * nca(groups()).loss, rtol=1e-12)
    assert torch.equal(both.rewards, infonca(groups()).rewards)
    point = points()
    out = compose([Term("kto"), Term("sft", 0.1)])(point)
    assert isinstance(out, PointLoss)
    assert torch.allclose(out.loss, kto(point).loss - 0.1 * (point.wanted * point.answers.mean_logp), rtol=1e-12)


def test_a_second_term_of_one_name_has_a_number() -> None:
    loss = compose([Term("dpo"), Term("dpo", settings={"beta": 0.5}), Term("dpo", divergence="forward_kl")])
    assert list(loss.each(record())) == ["dpo", "dpo_2", "dpo_3"]
    assert loss.__name__ == "dpo+dpo_2+dpo_3"
    assert loss.each(record())["dpo_3"].item() == pytest.approx(0.631154, abs=1e-6)


@pytest.mark.parametrize(
    ("divergence", "expected"),
    [("js_divergence", 0.660652), ({"name": "js_divergence"}, 0.660652), ({"name": "alpha_divergence"}, 0.627691)],
)
def test_a_term_with_a_divergence(divergence: str | dict[str, str], expected: float) -> None:
    loss = compose([Term("dpo", divergence=divergence)])
    assert loss(record()).loss.item() == pytest.approx(expected, abs=1e-6)
    assert loss.__name__ == "dpo"


def test_settings_of_a_divergence_and_a_weighting() -> None:
    alpha = compose([Term("dpo", divergence={"name": "alpha_divergence", "alpha": "0.7"})])
    assert alpha(record()).loss.item() == pytest.approx(0.629425, abs=1e-6)
    plain = compose([Term("dpo", weighting="wpo_plain")])
    assert plain(record()).loss.item() == pytest.approx(0.053585, abs=1e-6)
    assert needs(compose([Term("dpo", weighting={"name": "wpo", "max_weight": 2.0})])) == {
        "ref",
        "length",
        "token_logp",
        "token_collision",
    }


def test_the_weight_of_one_term_counts() -> None:
    loss = compose([Term("dpo", weight=2.0)])
    assert loss(record()).loss.item() == pytest.approx(2 * 0.620957, abs=1e-6)
    assert loss.each(record())["dpo"].item() == pytest.approx(0.620957, abs=1e-6)


@pytest.mark.parametrize("terms", [[Term("dpo", 0.8), Term("sft", 0.2)], [Term("infonca"), Term("rrhf", 0.1)]])
def test_a_sum_keeps_the_contract(terms: list[Term]) -> None:
    check_loss(compose(terms))


def test_a_loss_of_ones_own_is_a_term() -> None:
    loss = compose([Term("dpo"), Term(f"{__name__}:mine", weight=0.5)])
    assert loss.__name__ == "dpo+mine"
    assert loss(record()).loss.item() == pytest.approx(0.620957 + 5.0, abs=1e-6)


def mine(pair: PairLogps) -> PairLoss:
    return PairLoss(-pair.chosen.logp, pair.chosen.logp, pair.rejected.logp)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), "much", None, True])
def test_a_weight_is_a_finite_number(weight: float) -> None:
    with pytest.raises(InputError, match="the weight of the term 'dpo' must be a finite number"):
        compose([Term("dpo", weight=weight)])


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ([], "needs at least one term"),
        ([Term("dpp")], "there is no loss 'dpp'; did you mean 'dpo'"),
        ([Term("dpo", settings={"betta": 0.1})], "no setting 'betta'; did you mean 'beta'"),
        ([Term("dpo", divergence="js")], "there is no divergence 'js'"),
        ([Term("dpo", divergence={"name": "js_divergence", "alpha": 0.5})], "'js_divergence' has no setting 'alpha'"),
        ([Term("dpo", divergence={"alpha": 0.5})], "a divergence needs a name"),
        ([Term("dpo", weighting="wppo")], "there is no weighting 'wppo'; did you mean 'wpo'"),
        ([Term("simpo", divergence="js_divergence")], "'simpo' has no reference"),
        ([Term("kto"), Term("bco")], "kto wants 'mismatched_kl' and bco wants 'running_mean'"),
        ([Term("dpo"), Term(f"{__name__}:of_points_alone")], "no record in common"),
        ([Term("infonca", weighting="wpo_plain"), Term("dpo", divergence=0.5)], "a divergence must be a name or a map"),  # type: ignore[arg-type]
        ([Term("dpo", weighting=["wpo"])], r"a weighting must be a name or a mapping \(got \['wpo'\]\)"),  # type: ignore[arg-type]
        ([Term(f"{__name__}:of_points_alone", weighting="wpo_plain")], "'of_points_alone' takes no pairs"),
        ([Term("aot", weighting="wpo_plain")], "'aot' takes no weighting: it sorts the batch"),
        ([Term("aot_unpaired", weighting="wpo_plain")], "'aot_unpaired' takes no weighting"),
        ([Term("kto", divergence="js_divergence")], "'kto' takes no divergence: its baseline is an estimate of KL"),
    ],
)
def test_what_cannot_be_summed_is_said(terms: list[Term], says: str) -> None:
    with pytest.raises(InputError, match=says):
        compose(terms)


def test_a_term_as_recipes_write_it() -> None:
    assert Term.of("dpo") == Term("dpo")
    row = {"name": "dpo", "weight": 0.8, "beta": 0.2, "divergence": "js_divergence"}
    assert Term.of(row) == Term("dpo", 0.8, {"beta": 0.2}, "js_divergence")
    assert row == {"name": "dpo", "weight": 0.8, "beta": 0.2, "divergence": "js_divergence"}
    assert Term.of({"name": "dpo", "settings": {"beta": 0.2}}) == Term("dpo", settings={"beta": 0.2})


def test_a_setting_called_like_one_of_the_term_must_say_which_it_is() -> None:
    with pytest.raises(InputError, match="'modpo' has a setting 'weight' of its own"):
        Term.of({"name": "modpo", "weight": 0.9})
    term = Term.of({"name": "modpo", "weight": 0.5, "settings": {"weight": 0.9}})
    assert term == Term("modpo", 0.5, {"weight": 0.9})


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"weight": 0.5}, "a term of a loss needs a name"),
        ({"name": "dpo", "beta": 0.1, "settings": {"beta": 0.2}}, "'dpo' has 'beta' twice"),
        ({"name": "dpo", "settings": 0.1}, r"settings of the term 'dpo' must be a mapping \(got 0.1\)"),
        ({"name": "dpo", "settings": ["beta"]}, "settings of the term 'dpo' must be a mapping"),
        ({"name": ["dpo"]}, "a term of a loss needs a name"),
        (None, r"a term of a loss must be a name or a mapping \(got None\); write {name: dpo"),
        (0.8, "a term of a loss must be a name or a mapping"),
        (["dpo", 0.8], "a term of a loss must be a name or a mapping"),
        (
            {"name": "dpo", "divergence": 0.5},
            r"the divergence of the term 'dpo' must be a name or a mapping \(got 0.5\)",
        ),
        ({"name": "dpo", "weighting": ["wpo"]}, "the weighting of the term 'dpo' must be a name or a mapping"),
        ({"name": "dpo", "weight": "much"}, "the weight of the term 'dpo' must be a finite number"),
        ({"name": "dpo", "weight": [1]}, "the weight of the term 'dpo' must be a finite number"),
    ],
)
def test_a_row_that_says_too_little_or_too_much(row: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Term.of(row)


def test_a_weight_that_yaml_reads_as_text_is_a_number() -> None:
    """YAML 1.1 has no 8e-1; 0.8 * 0.620957."""
    assert Term.of({"name": "dpo", "weight": "8e-1"}).weight == 0.8
    both = compose([Term("dpo", "8e-1"), Term("sft", 0.0)])  # type: ignore[arg-type]
    assert both(record()).loss.item() == pytest.approx(0.8 * 0.620957, abs=1e-6)


def test_a_loss_that_is_an_object_is_a_term() -> None:
    """10 nats, three times."""
    loss = compose([Term(f"{__name__}:thrice"), Term(f"{__name__}:doubled", 0.5)])
    assert loss.__name__ == "Times+Times_2"
    assert loss(record()).loss.item() == pytest.approx(30 + 0.5 * 20)


class Times:
    """The negative log-likelihood a few times."""

    def __call__(self, pair: PairLogps, *, times: float = 3.0) -> PairLoss:
        return PairLoss(-times * pair.chosen.logp, pair.chosen.logp, pair.rejected.logp)


thrice = Times()
doubled = partial(thrice, times=2.0)


def test_a_sum_leaves_the_record_alone() -> None:
    given, before = record(), record()
    compose([Term("dpo"), Term("sft")])(given)
    for left, right in zip(given[:2], before[:2], strict=True):
        for name in ("logp", "length", "ref", "score"):
            one, other = getattr(left, name), getattr(right, name)
            assert isinstance(one, Tensor)
            assert torch.equal(one, other)
