import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import tensor

from pairwright.errors import InputError
from pairwright.losses import (
    Asks,
    GroupLogps,
    PairLogps,
    PointLogps,
    Side,
    asks,
    dpo,
    goal_sft,
    infonca,
    kto,
    modpo,
    needs,
    simpo,
    takes,
    uses,
)
from pairwright.losses.told import name_of
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


def test_tokens_have_one_axis_more() -> None:
    Side(logp=tensor([-3.0]), token_logp=tensor([[-1.0, -2.0]]))
    for wrong in (tensor([-3.0]), tensor([[-1.0, -2.0], [0.0, 0.0]])):
        with pytest.raises(InputError, match="token_logp has shape"):
            Side(logp=tensor([-3.0]), token_logp=wrong)


def test_named_scores_have_the_shape_of_answers() -> None:
    with pytest.raises(InputError, match=r"safety has shape \[2\] but logp has \[1\]"):
        Side(logp=tensor([-3.0]), scores={"safety": tensor([1.0, 2.0])})


def test_the_main_score_is_named_too() -> None:
    side = Side(tensor([-1.0]), score=tensor([7.0]), scores={"safety": tensor([0.2])})
    assert side.named("score").item() == 7
    assert side.named("safety").item() == pytest.approx(0.2)
    with pytest.raises(InputError, match="needs the score 'brevity' on every answer; there are safety"):
        side.named("brevity")


def test_a_side_is_changed_in_all_its_tensors() -> None:
    side = Side(
        tensor([-3.0, -4.0]),
        score=tensor([1.0, 2.0]),
        scores={"safety": tensor([5.0, 6.0])},
        token_logp=tensor([[-1.0, -2.0], [-4.0, 0.0]]),
    )
    second = side.mapped(lambda value: value[1:])
    assert second.logp.tolist() == [-4.0]
    assert second.named("score").tolist() == [2.0]
    assert second.named("safety").tolist() == [6.0]
    assert second.known("token_logp").tolist() == [[-4.0, 0.0]]
    assert second.ref is None
    assert side.logp.tolist() == [-3.0, -4.0]


def test_pairs_are_groups_of_two_with_the_chosen_side_first() -> None:
    """Under the goal 6 answers of 9 and 6 are worth -3 and 0; without one, their scores."""
    nine, six = (
        Side(tensor([logp]), tensor([4]), tensor([-2.0]), tensor([score]), {"safety": tensor([score])})
        for logp, score in ((-1.0, 9.0), (-5.0, 6.0))
    )
    group = GroupLogps.of(PairLogps(nine, six, goal=tensor([6.0])))
    assert group.answers.logp.tolist() == [[-1.0, -5.0]]
    assert group.answers.known("length").tolist() == [[4, 4]]
    assert group.answers.named("safety").tolist() == [[9.0, 6.0]]
    assert group.worth.tolist() == [[-3.0, 0.0]]
    assert group.there.tolist() == [[True, True]]
    for goal in (None, tensor([torch.nan])):
        assert group._replace(goal=goal).worth.tolist() == [[9.0, 6.0]]


def test_a_group_without_scores_has_no_worth() -> None:
    bare = Side(tensor([-1.0]))
    with pytest.raises(InputError, match="needs 'score'"):
        _ = GroupLogps.of(PairLogps(bare, bare)).worth


def test_a_pair_without_an_anchor_says_so() -> None:
    bare = Side(tensor([-1.0]), tensor([2]))
    with pytest.raises(InputError, match="needs 'anchor'; give pairs that ask for a goal"):
        goal_sft(PairLogps(bare, bare))


def test_what_a_loss_asks_for_besides_fields() -> None:
    assert asks(kto) == Asks(frozenset({"ref"}), baseline="mismatched_kl")
    assert asks(bind(kto, {"beta": 0.3}, kind="loss")) == asks(kto)
    assert asks(lambda pair: pair) == Asks()


@pytest.mark.parametrize(
    ("settings", "fields", "scores"),
    [
        ({}, {"ref", "score"}, ()),
        ({"margins": {"score": 0.5}}, {"ref", "score"}, ()),
        ({"margins": {"safety": 0.5}}, {"ref", "scores"}, ("safety",)),
        ({"margins": {"safety": 0.5, "score": 0.1, "x": 1}}, {"ref", "score", "scores"}, ("safety", "x")),
        ({"margins": {}}, {"ref"}, ()),
    ],
)
def test_the_scores_that_a_loss_reads_are_those_of_its_setting(
    settings: dict[str, dict[str, float]], fields: set[str], scores: tuple[str, ...]
) -> None:
    """None, the default of `modpo`, is the main score."""
    asked = asks(bind(modpo, settings, kind="loss"))
    assert asked.needs == fields
    assert asked.scores == scores
    assert needs(modpo) == {"ref", "score"}


def test_the_records_that_a_loss_takes_are_those_of_its_annotation() -> None:
    assert takes(dpo) == (PairLogps,)
    assert takes(infonca) == (PairLogps, GroupLogps)
    assert takes(bind(kto, {}, kind="loss")) == (PairLogps, PointLogps)
    assert takes(lambda pair: pair) == (PairLogps,)


def rows(count: int) -> Side:
    return Side(-torch.ones(count), score=torch.ones(count))


EACH = "give one value for each row"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PairLogps(rows(2), rows(3)), rf"rejected has shape \[3\] where the record has \[2\]; {EACH}"),
        (lambda: PairLogps(rows(2), rows(1)), r"rejected has shape \[1\]"),
        (lambda: PairLogps(rows(2), rows(2), anchor=rows(1)), r"anchor has shape \[1\]"),
        (lambda: PairLogps(rows(2), rows(2), goal=tensor([[1.0], [2.0]])), r"goal has shape \[2, 1\]"),
        (lambda: PairLogps(rows(2), rows(2), goal=tensor(1.0)), r"goal has shape \[\]"),
        (
            lambda: PairLogps(rows(2), rows(2), baseline=tensor([1.0, 2.0])),
            r"one number as a tensor, not of shape \[2\]",
        ),
        (lambda: PairLogps(rows(2), rows(2), baseline=0.5), r"not 0.5; write torch.tensor\(0.5\)"),  # type: ignore[arg-type]
        (lambda: PairLogps(rows(2), tensor([-1.0, -2.0])), "rejected must be a Side, not Tensor"),  # type: ignore[arg-type]
        (lambda: PairLogps(Side(torch.ones(2, 3)), Side(torch.ones(2, 3))), r"chosen has logp of shape \[2, 3\]"),
        (lambda: GroupLogps(rows(2)), r"answers has logp of shape \[2\]; it must be \[B, K\]"),
        (lambda: GroupLogps(TABLE, torch.ones(2, 3)), r"present must be bool, not torch.float32; write present.bool"),
        (lambda: GroupLogps(TABLE, torch.ones(2, 1, dtype=torch.bool)), r"present has shape \[2, 1\].*and answer"),
        (lambda: GroupLogps(TABLE, goal=torch.ones(3)), r"goal has shape \[3\] where the record has \[2\]"),
        (lambda: PointLogps(rows(2), tensor([1, 0])), "wanted must be bool, not torch.int64; write wanted.bool"),
        (lambda: PointLogps(rows(2), tensor([True])), r"wanted has shape \[1\]"),
        (lambda: PointLogps(rows(2), tensor([True, False]), 0.5), "baseline must be one number"),  # type: ignore[arg-type]
    ],
)
def test_a_record_whose_fields_do_not_belong_together_is_refused(make: Callable[[], object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


TABLE = Side(torch.ones(2, 3))


@pytest.mark.parametrize(
    ("whole", "wrong"),
    [
        (PairLogps(rows(2), rows(2)), {"rejected": rows(3)}),
        (GroupLogps(TABLE), {"goal": torch.ones(3)}),
        (PointLogps(rows(2), tensor([True, False])), {"wanted": tensor([1, 0])}),
    ],
)
def test_a_replaced_field_is_checked_like_any_other(whole: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        whole._replace(**wrong)
    same = whole._replace(**whole._asdict())
    assert type(same) is type(whole)
    assert pickle.loads(pickle.dumps(whole))._fields == whole._fields
    assert [*whole] == [getattr(whole, name) for name in whole._fields]


class Bounded:
    """A loss that is an object."""

    def __init__(self, most: float) -> None:
        self.most = most

    @uses("ref", scores="margins", baseline="mismatched_kl")
    def __call__(
        self, record: PairLogps | PointLogps, *, beta: float = 0.1, margins: dict[str, float] | None = None
    ) -> None: ...


def only_to_type_checkers(record: "GroupLogps | Nobody", *, beta: "Nobody" = 0.1) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def test_what_an_object_that_is_called_asks_and_takes() -> None:
    loss = Bounded(3.0)
    assert takes(loss) == (PairLogps, PointLogps)
    assert asks(loss) == Asks(frozenset({"ref", "score"}), baseline="mismatched_kl")
    named = partial(loss, margins={"safety": 1.0})
    assert takes(named) == (PairLogps, PointLogps)
    assert asks(named).scores == ("safety",)
    assert asks(partial(named, margins={"brevity": 1.0})).scores == ("brevity",)
    assert name_of(named) == "Bounded"


def test_a_partial_may_be_marked_itself() -> None:
    marked = uses("length")(partial(dpo, beta=0.3))
    assert needs(marked) == {"length"}
    assert takes(marked) == (PairLogps,)
    assert needs(bind(marked, {"beta": 0.2}, kind="loss")) == {"length"}
    assert name_of(bind(marked, {}, kind="loss")) == "dpo"


def test_an_annotation_that_cannot_be_read_is_read_by_its_words() -> None:
    assert takes(only_to_type_checkers) == (GroupLogps,)


def test_a_setting_of_scores_that_is_not_there_is_said() -> None:
    @uses(scores="margns")
    def wrong(pair: PairLogps, *, margins: dict[str, float] | None = None) -> None: ...

    with pytest.raises(InputError, match="'margns' names the scores, but the loss has no such setting"):
        asks(wrong)


def test_a_caller_is_not_told_how_to_write_a_loss() -> None:
    bare = Side(tensor([-1.0]))
    with pytest.raises(InputError) as caught:
        dpo(PairLogps(bare, bare))
    assert "@uses" not in str(caught.value)
