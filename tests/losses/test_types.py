import pytest
import torch
from torch import tensor

from pairwright.errors import InputError
from pairwright.losses import PairLogps, Side, dpo, needs, simpo, uses
from pairwright.plug import bind


def test_derived_numbers_of_a_side() -> None:
    side = Side(logp=tensor([-10.0, -6.0]), length=tensor([8, 3]), ref=tensor([-11.0, -5.0]))
    assert side.log_ratio.tolist() == [1.0, -1.0]
    assert side.mean_logp.tolist() == [-1.25, -2.0]
    assert side.mean_log_ratio.tolist() == pytest.approx([0.125, -1 / 3])


def test_a_missing_reference_is_one_sentence_with_the_remedy() -> None:
    bare = Side(tensor([-1.0]), tensor([2]))
    with pytest.raises(InputError, match=r"needs 'ref'; give a reference model or columns"):
        dpo(PairLogps(bare, bare))


def test_missing_lengths_and_scores_are_said_too() -> None:
    bare = Side(tensor([-1.0]))
    with pytest.raises(InputError, match=r"needs 'length'.*completion tokens"):
        simpo(PairLogps(bare, bare))
    with pytest.raises(InputError, match=r"needs 'score'.*every answer has a score"):
        _ = PairLogps(bare, bare).score_gap


def test_fields_of_different_shapes_are_refused_before_they_broadcast() -> None:
    with pytest.raises(InputError, match=r"ref has shape \[2, 1\] but logp has \[2\]"):
        Side(logp=tensor([-1.0, -2.0]), ref=tensor([[-1.0], [-2.0]]))


def test_the_score_gap_knows_the_goal() -> None:
    """Scores 9 and 1: 8 without a goal; asked for 9, 9 beats 1 by 8; asked for 1, the pair is turned: also 8."""
    nine, one = (Side(tensor([-1.0]), score=tensor([value])) for value in (9.0, 1.0))
    assert PairLogps(nine, one).score_gap.item() == 8
    assert PairLogps(nine, one, goal=tensor([9.0])).score_gap.item() == 8
    assert PairLogps(one, nine, goal=tensor([1.0])).score_gap.item() == 8
    assert PairLogps(one, nine, goal=tensor([torch.nan])).score_gap.item() == -8


def test_uses_marks_and_does_no_more() -> None:
    def mine(pair: PairLogps) -> None: ...

    assert needs(mine) == frozenset()
    assert uses("ref", "score")(mine) is mine
    assert needs(mine) == {"ref", "score"}


def test_a_bound_loss_still_says_what_it_needs() -> None:
    assert needs(bind(dpo, {"beta": 0.3}, kind="loss")) == {"ref"}


def test_a_loss_cannot_need_an_unknown_field() -> None:
    with pytest.raises(InputError, match="cannot need 'reward'; it may need anchor, length, ref"):
        uses("reward")
