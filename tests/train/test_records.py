"""Collated examples, what becomes of them, and what is measured of them."""

import math
import sys
import types
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import tensor
from torch.utils._python_dispatch import TorchDispatchMode

import tiny
from pairwright.logprobs.core import Batch, TokenLogps, answer_logps, token_values
from pairwright.losses import (
    GroupLogps,
    GroupLoss,
    PairLogps,
    PairLoss,
    PointLogps,
    PointLoss,
    Side,
    Term,
    compose,
    dpo,
)
from pairwright.losses.compose import Sum
from pairwright.train.examples import Example, Examples
from pairwright.train.measures import Measure, Meter, broken, measures, window
from pairwright.train.records import (
    RECORDS,
    answers_of,
    batch_of,
    collate,
    groups_of,
    in_rows,
    joined,
    pairs_of,
    parted,
)
from pairwright.train.reference import Known


def ids(*numbers: int) -> np.ndarray:
    return np.asarray(numbers, dtype=np.int32)


def example(prompt: int, *answers: tuple[int, ...], **fields: Any) -> Example:
    return Example(ids(1, prompt), tuple(ids(*answer) for answer in answers), **fields)


ROWS = [
    example(5, (10, 2), (11, 12, 2), (13, 2), scores=(4.0, 9.0, 1.0), refs=(-1.0, -2.0, -3.0)),
    example(6, (20, 21, 22, 2), (23, 2), scores=(5.0, 6.0), refs=(-4.0, -5.0)),
]


def said(inputs: dict[str, torch.Tensor]) -> TokenLogps:
    """A model that gives each token the log-probability minus its number over a hundred."""
    return TokenLogps(-inputs["answer_ids"].float() / 100, inputs["answer_lengths"])


def test_groups_of_different_sizes_are_filled_up_and_say_so() -> None:
    inputs = collate(ROWS)
    group = groups_of(answers_of(said(inputs), inputs, Known(inputs["ref"])), inputs)
    assert group.there.tolist() == [[True, True, True], [True, True, False]]
    assert group.answers.score is not None
    assert group.answers.score.tolist() == [[4.0, 9.0, 1.0], [5.0, 6.0, 0.0]]
    assert group.answers.ref is not None
    assert group.answers.ref.tolist() == [[-1.0, -2.0, -3.0], [-4.0, -5.0, 0.0]]
    # sums of the token numbers over a hundred
    expected = [[-0.12, -0.25, -0.15], [-0.65, -0.25, 0.0]]
    assert group.answers.logp.numpy() == pytest.approx(np.array(expected), abs=1e-6)
    assert group.answers.length is not None
    assert group.answers.length.tolist() == [[2, 3, 2], [4, 2, 1]]  # 1, so that a mean of nothing is no 0 / 0
    assert groups_of(answers_of(said(inputs), inputs, None), collate(ROWS)).goal is None
    even = collate([ROWS[1], ROWS[1]])
    assert groups_of(answers_of(said(even), even, None), even).present is None


def test_named_scores_and_goals_stand_beside_their_answers() -> None:
    rows = [
        example(5, (10, 2), (11, 2), named={"help": (1.0, 2.0), "true": (3.0, 4.0)}, goal=7.0),
        example(6, (12, 2), (13, 2), named={"help": (5.0, 6.0), "true": (7.0, 8.0)}),
    ]
    inputs = collate(rows)
    pair = pairs_of(answers_of(said(inputs), inputs, None), inputs)
    assert pair.chosen.named("help").tolist() == [1.0, 5.0]
    assert pair.rejected.named("true").tolist() == [4.0, 8.0]
    assert pair.goal is not None
    assert pair.goal.tolist() == pytest.approx([7.0, math.nan], nan_ok=True)
    assert pair.chosen.score is None
    assert pair.chosen.ref is None


def test_fillers_stand_for_nothing_where_there_is_anything_else() -> None:
    filler = replace(ROWS[1], filler=True)
    inputs = collate([ROWS[0], filler])
    assert inputs["weight"].tolist() == [1.0]
    alone = collate([filler, filler])
    assert alone["weight"].tolist() == [0.0]
    assert alone["filler"].tolist() == [True]
    meter = Meter()
    meter.add({"loss": measures_of(PairLogps(side(-math.nan), side(-1.0)), weight=0.0)["loss"]}, filler=tensor([True]))
    assert meter.sums == {"rows": 0.0, "loss": 0.0, "count of loss": 0.0}


def test_numbers_of_tokens_become_rows_and_keep_their_gradient() -> None:
    values = torch.arange(1.0, 7.0, requires_grad=True)
    rows = in_rows(values, tensor([2, 1, 3]))
    assert rows.tolist() == [[1.0, 2.0, 0.0], [3.0, 0.0, 0.0], [4.0, 5.0, 6.0]]
    (rows * tensor([1.0, 10.0, 100.0])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 10.0, 1.0, 1.0, 10.0, 100.0]


def test_joined_batches_come_apart_as_they_would_alone() -> None:
    model = tiny.network("llama", 100).eval()
    one = Batch.of([[1, 5, 6], [1, 7]], [[10, 2], [11, 12, 2], [13, 2]], [0, 0, 1])
    other = Batch.of([[1, 8, 9]], [[14, 15, 2]], [0])
    with torch.no_grad():
        both = token_values(model, joined(one, other), collides=True)
        first, second = parted(both, 3, 7)
        for part, alone in ((first, one), (second, other)):
            expected = token_values(model, alone, collides=True)
            torch.testing.assert_close(part.logp, expected.logp, atol=1e-5, rtol=0)
            torch.testing.assert_close(part.collision, expected.collision, atol=1e-5, rtol=0)
            torch.testing.assert_close(part.sums.logp, answer_logps(model, alone).logp, atol=1e-5, rtol=0)


def test_strangers_and_anchors_are_there_when_every_example_has_them() -> None:
    row = example(5, (10, 2), (11, 2), stranger=ids(30, 2), stranger_ref=-1.5, anchor=(ids(1, 9, 5), ids(10, 2)))
    inputs = collate([row, row])
    strangers, anchors = batch_of(inputs, "stranger_"), batch_of(inputs, "anchor_")
    assert strangers is not None
    assert strangers.prompt_ids.tolist() == [1, 5, 1, 5]
    assert strangers.answer_ids.tolist() == [30, 2, 30, 2]
    assert inputs["stranger_ref"].tolist() == [-1.5, -1.5]
    assert anchors is not None
    assert anchors.prompt_ids.tolist() == [1, 9, 5, 1, 9, 5]
    assert anchors.answer_prompt.tolist() == [0, 1]
    assert batch_of(collate(ROWS), "stranger_") is None


def test_the_digest_sees_everything_but_the_references_numbers() -> None:
    plain = example(5, (10, 2), (11, 2), scores=(2.0, 1.0))
    pair = (ids(1, 9), ids(10, 2))
    changes: list[dict[str, Any]] = [
        {},
        {"named": {"help": (1.0, 2.0)}},
        {"named": {"help": (2.0, 1.0)}},
        {"named": {"true": (1.0, 2.0)}},
        {"wanted": True},
        {"wanted": False},
        {"stranger": ids(30, 2)},
        {"stranger": ids(31, 2)},
        {"anchor": pair},
        {"anchor": (pair[1], pair[0])},
        {"scores": (1.0, 2.0)},
        {"goal": 3.0},
        {"weight": 2.0},
        {"answers": (ids(10, 2), ids(11, 2), ids(30, 2))},
    ]

    def digest(**change: Any) -> str:
        return Examples([replace(plain, **change)], {}, ()).digest()

    assert len({digest(**change) for change in changes}) == len(changes)
    assert digest(refs=(-1.0, -2.0), stranger_ref=-3.0) == digest()


def side(*logp: float, ref: float = -1.0, score: tuple[float, ...] | None = None) -> Side:
    values = tensor(logp, dtype=torch.float32)
    given = None if score is None else tensor(score)
    return Side(values, torch.full_like(values, 2), torch.full_like(values, ref), given)


def measures_of(pair: PairLogps, *, weight: float = 1.0, loss: Any = dpo) -> dict[str, Any]:
    weights = torch.full_like(pair.chosen.logp, weight)
    out, terms = loss.told(pair) if isinstance(loss, Sum) else (loss(pair), {})
    return dict(measures(pair, out, weights, terms=terms, baseline=""))


def seen(found: Any, kind: str) -> dict[str, float]:
    meter = Meter()
    rows = len(next(iter(found.values())).counts)
    meter.add(found, torch.zeros(rows, dtype=torch.bool))
    return window(meter.sums, kind)


def test_pairs_have_trls_measures() -> None:
    found = seen(measures_of(PairLogps(side(-3.0, -1.0), side(-2.0, -4.0))), "pairs")
    # beta 0.1: rewards -0.2, 0.0 against -0.1, -0.3
    expected = {"rewards/chosen": -0.1, "rewards/rejected": -0.2, "rewards/margins": 0.1, "rewards/accuracies": 0.5}
    expected |= {"logps/chosen": -2.0, "logps/rejected": -3.0, "pairwright/mean_logp_chosen": -1.0}
    expected |= {"pairwright/pairs": 2.0, "pairwright/length_rejected": 2.0, "pairwright/log_ratio_rejected": -2.0}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    softplus = [math.log1p(math.exp(-margin)) for margin in (-0.1, 0.3)]
    assert found["loss"] == pytest.approx(sum(softplus) / 2)


def test_wanted_and_unwanted_answers_have_counts_of_their_own() -> None:
    points = PointLogps(side(-1.0, -2.0, -6.0), tensor([True, True, False]))
    out = PointLoss(tensor([1.0, 2.0, 6.0]), tensor([0.1, 0.3, -0.5]))
    found = seen(measures(points, out, torch.ones(3), terms={}, baseline=""), "responses")
    assert found["rewards/chosen"] == pytest.approx(0.2)
    assert found["rewards/rejected"] == pytest.approx(-0.5)
    assert found["rewards/margins"] == pytest.approx(0.7)
    assert found["logps/chosen"] == pytest.approx(-1.5)
    assert found["logps/rejected"] == pytest.approx(-6.0)
    assert found["loss"] == pytest.approx(3.0)
    assert found["pairwright/responses"] == 3.0
    assert "rewards/accuracies" not in found
    wanted = points._replace(wanted=tensor([True, True, True]))
    assert (
        not {"rewards/rejected", "rewards/margins", "logps/rejected"}
        & seen(measures(wanted, out, torch.ones(3), terms={}, baseline=""), "responses").keys()
    )


def test_of_a_group_the_best_and_the_worst_answer_are_told() -> None:
    logp = tensor([[-1.0, -2.0, -3.0], [-4.0, -5.0, 0.0], [-6.0, -7.0, -8.0]])
    score = tensor([[5.0, 9.0, 1.0], [2.0, 8.0, 0.0], [3.0, 3.0, 3.0]])
    there = tensor([[True] * 3, [True, True, False], [True] * 3])
    rewards = tensor([[0.5, 0.4, 0.1], [0.3, 0.1, 0.0], [9.0, 9.0, 9.0]])
    group = GroupLogps(Side(logp, torch.ones_like(logp), score=score), there)
    out = GroupLoss(tensor([1.0, 2.0, 3.0]), rewards)
    found = seen(measures(group, out, torch.ones(3), terms={}, baseline=""), "groups")
    # best: the second of each; worst: the third, the first; the last group has neither
    assert found["logps/chosen"] == pytest.approx(-3.5)
    assert found["logps/rejected"] == pytest.approx(-3.5)
    assert found["rewards/chosen"] == pytest.approx(0.25)
    assert found["rewards/rejected"] == pytest.approx(0.2)
    assert found["rewards/margins"] == pytest.approx(0.05)
    assert found["rewards/accuracies"] == pytest.approx(0.5)
    assert found["loss"] == pytest.approx(2.0)
    assert found["pairwright/groups"] == 3.0
    # asked for a score of 5, the first answer of the first group is the best, and the absent one is no candidate
    asked = group._replace(goal=tensor([5.0, 2.0, math.nan]))
    found = seen(measures(asked, out, torch.ones(3), terms={}, baseline=""), "groups")
    assert found["logps/chosen"] == pytest.approx((-1.0 - 4.0) / 2)
    unscored = GroupLogps(Side(logp, torch.ones_like(logp)), there)
    assert set(seen(measures(unscored, out, torch.ones(3), terms={}, baseline=""), "groups")) == {
        "loss",
        "pairwright/groups",
    }


def test_every_term_of_a_sum_is_measured_under_the_weights_of_the_examples() -> None:
    loss = compose([Term("dpo", weight=2.0), Term("sft", weight=0.5)])
    assert isinstance(loss, Sum)
    pair = PairLogps(side(-3.0, -1.0), side(-2.0, -4.0))
    out, terms = loss.told(pair)
    found = seen(measures(pair, out, tensor([3.0, 1.0]), terms=terms, baseline=""), "pairs")
    first, second = (math.log1p(math.exp(-margin)) for margin in (-0.1, 0.3))
    assert found["pairwright/loss_dpo"] == pytest.approx((3 * first + second) / 4)
    assert found["pairwright/loss_sft"] == pytest.approx((3 * 1.5 + 0.5) / 4)
    assert found["loss"] == pytest.approx(2 * found["pairwright/loss_dpo"] + 0.5 * found["pairwright/loss_sft"])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_never_left_out(bad: float) -> None:
    pair = PairLogps(side(-3.0, -1.0), side(-2.0, -4.0))
    out = PairLoss(tensor([1.0, bad]), tensor([0.0, 0.0]), tensor([0.0, 0.0]))
    meter = Meter()
    meter.add(measures(pair, out, torch.ones(2), terms={}, baseline=""), tensor([False, False]))
    assert broken(meter.sums) == "loss"
    assert not math.isfinite(window(meter.sums, "pairs")["loss"])
    points = PointLogps(side(-1.0, bad), tensor([True, False]))
    meter = Meter()
    meter.add(
        measures(points, PointLoss(tensor([1.0, 1.0]), tensor([0.0, 0.0])), torch.ones(2), terms={}, baseline=""),
        tensor([False, False]),
    )
    assert broken(meter.sums) == "logps/rejected"


def test_a_window_without_weight_has_a_loss_of_0_and_one_without_examples_none() -> None:
    assert seen(measures_of(PairLogps(side(-3.0), side(-2.0)), weight=0.0), "pairs")["loss"] == 0.0
    assert window({}, "pairs") == {}


def test_there_is_a_record_for_each_kind() -> None:
    inputs = collate(ROWS[1:])
    flat = answers_of(said(inputs), inputs, None)
    kinds = {kind: type(record(flat, inputs)) for kind, record in RECORDS.items()}
    assert kinds == {"pairs": PairLogps, "responses": PointLogps, "groups": GroupLogps}


def test_a_batch_of_pairs_carries_no_table_of_seats_and_no_goals_of_nobody() -> None:
    """What is not there is not copied to a device, and not looked at there."""
    pairs = [example(5, (10, 2), (11, 2)), example(6, (12, 2), (13, 2))]
    assert not {"present", "seat", "goal"} & collate(pairs).keys()
    assert {"present", "seat"} <= collate(ROWS).keys()
    assert collate([replace(pairs[0], goal=7.0), pairs[1]])["goal"].tolist()[0] == 7.0


def test_what_is_not_there_plays_no_part_and_measures_share_a_count() -> None:
    """1 + 3 of three values, of which the second is not there; a filler counts nowhere."""
    there = tensor([True, False, True, True])
    meter = Meter()
    filler = tensor([False, False, False, True])
    values = tensor([1.0, math.nan, 3.0, 50.0])
    meter.add({"a": Measure(values, there), "b": Measure(-values, there), "c": Measure(values, values)}, filler)
    assert (meter.sums["a"], meter.sums["b"], meter.sums["count of a"], meter.sums["count of b"]) == (
        4.0,
        -4.0,
        2.0,
        2.0,
    )
    assert math.isnan(meter.sums["c"])
    assert meter.sums["rows"] == 3.0


def test_the_terms_of_a_sum_are_computed_once_for_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(pair: PairLogps) -> PairLoss:
        calls.append(1)
        return PairLoss(pair.chosen.logp, pair.chosen.logp, pair.rejected.logp)

    module = types.ModuleType("counted_losses")
    module.counted = counted  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "counted_losses", module)
    measures_of(PairLogps(side(-3.0), side(-2.0)), loss=compose([Term("counted_losses:counted"), Term("sft")]))
    assert len(calls) == 1


class Waits(TorchDispatchMode):
    """Counts what makes a host wait for its device: a number taken out of a tensor, or a shape that depends on one."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found += func.overloadpacket in (
            torch.ops.aten._local_scalar_dense,
            torch.ops.aten.nonzero,
            torch.ops.aten.masked_select,
            torch.ops.aten.index,
        )
        return func(*args, **(kwargs or {}))


def test_records_measures_and_sums_do_not_wait_for_the_device_but_for_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4 pairs without goals; the sums of all measures come over in one list."""
    inputs = collate([example(5, (10, 2), (11, 2), refs=(-1.0, -2.0)) for _ in range(4)])
    lists: list[int] = []
    plain = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda values: (lists.append(len(values)), plain(values))[1])
    meter = Meter()
    with Waits() as waits:
        pair = pairs_of(answers_of(said(inputs), inputs, Known(inputs["ref"])), inputs)
        meter.add(measures(pair, dpo(pair), inputs["weight"], terms={}, baseline=""), inputs["filler"])
    assert (waits.found, len(lists)) == (0, 1)
    assert meter.sums["rows"] == 4.0
