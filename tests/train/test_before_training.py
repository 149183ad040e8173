"""What is decided and said before the first step: refusals of data, notes, the mark, the card."""

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

import tiny
from pairwright.errors import InputError
from pairwright.goals import GoalFormat
from pairwright.losses import Asks
from pairwright.preferences import Preferences
from pairwright.relabel import relabel
from pairwright.train import resolve, train, trial
from pairwright.train.cards import _goals
from pairwright.train.job import prepare
from pairwright.train.reference import still

SMALL: dict[str, Any] = {
    "max_steps": 1,
    "per_device_train_batch_size": 4,
    "save_strategy": "no",
    "logging_steps": 1,
}


def with_scores(scores: list[float]) -> Preferences:
    data = tiny.preferences(len(scores) // 2)
    responses = data.responses.collect().with_columns(pl.Series("score", scores, dtype=pl.Float64))
    return Preferences.of(data.prompts, responses, data.pairs, data.lineage)


def test_data_that_a_loss_refuses_are_refused_before_anything_is_computed(model: Path, tmp_path: Path) -> None:
    """Two of five pairs have the better score on the rejected side; each would have stopped another step."""
    data = with_scores([8, 3, 2, 3, 8, 3, 8, 3, 1, 9])
    with pytest.raises(InputError, match="2 of 5 pairs have the better score on the rejected side"):
        train(data, model=model, loss="odpo", output=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=r"win probabilities between 0 and 1 as scores .got 1 to 8."):
        prepare(data, resolve(model=model, loss="sppo"))
    with pytest.raises(InputError, match="2 of 5 pairs"):
        prepare(data, resolve(model=model, loss=["sft", "odpo"]))
    assert prepare(data, resolve(model=model, loss="margin_dpo")).examples.rows


@pytest.mark.parametrize("kind", ["pairs", "groups"])
def test_win_probabilities_are_tried_as_they_will_be_seen(kind: str, model: Path) -> None:
    good = with_scores([0.9, 0.1, 1.0, 0.0])
    assert prepare(good, resolve(model=model, loss="sppo", examples=kind)).examples.rows
    with pytest.raises(InputError, match=r"got 0.* to 1\.5"):
        prepare(with_scores([0.9, 0.1, 1.5, 0.0]), resolve(model=model, loss="sppo", examples=kind))


def test_a_loss_of_the_batch_is_tried_in_parts_and_says_which(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four pairs by twos: the third and the fourth are refused."""
    rows = prepare(with_scores([8, 3, 8, 3, 8, 3, 1, 2]), resolve(model=model, loss="margin_dpo")).examples.rows
    seen: list[int] = []

    def sorting(pair: Any) -> Any:
        seen.append(len(pair.chosen.logp))
        if bool((pair.score_gap < 0).any()):
            raise InputError("a gap is below 0")

    sorting.asks = Asks(frozenset({"score"}), of_batch=True)  # type: ignore[attr-defined]
    monkeypatch.setattr(trial, "_TOGETHER", 2)
    with pytest.raises(InputError, match="pairs 3 to 4: a gap is below 0"):
        trial.try_data(sorting, rows, "pairs")
    assert seen == [2, 2]


OWN = """
from pairwright.losses import PairLogps, PairLoss, uses

@uses("ref")
def mine(pair: PairLogps, *, beta: float = {beta}) -> PairLoss:
    chosen, rejected = pair.chosen.log_ratio, pair.rejected.log_ratio
    return PairLoss({sign}(chosen - rejected), chosen, rejected)
"""


def test_an_edited_loss_of_ones_own_is_another_run(
    model: Path, prefs: Preferences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "own_edited_loss.py"
    marks = []
    for sign in ("-", "+", "-"):
        file.write_text(OWN.format(beta=0.1, sign=sign))
        sys.modules.pop("own_edited_loss", None)
        marks.append(prepare(prefs, resolve(model=model, loss="own_edited_loss:mine")).mark)
    monkeypatch.delitem(sys.modules, "own_edited_loss")
    assert marks[0] == marks[2] != marks[1]


def test_one_name_and_a_list_of_it_are_the_same_run(model: Path, prefs: Preferences) -> None:
    def mark(**said: Any) -> str:
        return prepare(prefs, resolve(model=model, **said)).mark

    assert mark(loss="dpo") == mark(loss=["dpo"]) == mark(loss={"name": "dpo", "beta": 0.1})
    assert mark(loss="dpo", divergence="js_divergence") == mark(loss=[{"name": "dpo", "divergence": "js_divergence"}])
    assert mark(loss="dpo") != mark(loss=[{"name": "dpo", "weight": 0.5}])
    none, one, large = (mark(weighting={"name": "wpo", "max_weight": most}) for most in (float("inf"), 1.0, 1e30))
    assert len({none, one, large}) == 3


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With room for the sentence of a goal, a token for each byte."""
    return tiny.model(tmp_path_factory.mktemp("tiny") / "wide", positions=1024)


def test_the_goal_of_goal_sft_is_told_and_the_top_is_the_same_said_or_not(wide: Path, tmp_path: Path) -> None:
    """Scores of the made-up pairs are 3 and 8, so the top is 8."""
    data = relabel(relabel(tiny.preferences(4), "plain"), "ra", placement="system")
    assert data.goal_format is not None
    top = data.goal_format.best
    said, unsaid, other = (
        prepare(data, resolve(model=wide, loss="goal_sft", anchor_goal=goal)) for goal in (top, None, 3.5)
    )
    assert said.mark == unsaid.mark != other.mark
    done = train(data, model=wide, loss="goal_sft", output=tmp_path, **SMALL)
    assert json.loads((tmp_path / "training.json").read_text())["config"]["anchor_goal"] == top
    assert f"| anchor_goal | {top} |" in (done.model / "README.md").read_text()


def test_the_card_names_the_model_of_the_reference_and_not_where_it_stood(
    model: Path, other: Path, prefs: Preferences, tmp_path: Path
) -> None:
    done = train(prefs, model=model, reference_model=other, output=tmp_path, **SMALL)
    card = (done.model / "README.md").read_text()
    assert "Reference: store: other, computed beforehand." in card
    assert str(other.parent) not in card
    record = json.loads((tmp_path / "training.json").read_text())
    assert (record["reference"], record["origin"]) == ("store", f"{other}, computed beforehand")
    done = train(prefs, model=model, loss="simpo", output=tmp_path / "free", **SMALL)
    assert "Reference: none." in (done.model / "README.md").read_text()


@pytest.mark.parametrize(
    ("asks", "says"),
    [
        ("scores", "can be asked for a score."),
        ("class", "can be asked for a class of answers."),
        ("direction", "can be asked for a direction (weights of several scores)."),
    ],
)
def test_the_card_says_what_a_model_can_be_asked_for(asks: Any, says: str) -> None:
    names = ("score_help", "score_true") if asks == "direction" else ()
    form = GoalFormat(asks=asks, attributes=names, ranges=((0.0, 1.0),) * max(1, len(names)))
    assert says in _goals(form)


@pytest.mark.parametrize(
    ("said", "note"),
    [
        ({"loss": "aot"}, "compares the rows of one micro-batch of one process, of which a step has 2"),
        ({"loss": "kto"}, "the estimate of KL is of one micro-batch, of which a step has 2"),
        ({"loss": "bco"}, "the mean of rewards goes on from micro-batch to micro-batch, of which a step has 2"),
        ({"loss": "dpo"}, None),
    ],
)
def test_what_depends_on_the_parts_of_a_step_is_noted(
    said: dict[str, Any], note: str | None, model: Path, prefs: Preferences
) -> None:
    whole = prepare(prefs, resolve(model=model, **said)).examples.notes
    parted = prepare(prefs, resolve(model=model, gradient_accumulation_steps=2, **said)).examples.notes
    more = [each for each in parted if each not in whole]
    assert len(more) == (note is not None)
    assert note is None or note in more[0]


def test_after_a_look_without_dropout_each_part_is_as_it_was() -> None:
    """A part that its owner set to evaluation stays so."""
    network = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(1, 1), torch.nn.Dropout()).train()
    network[2].eval()
    with still(network):
        assert not any(part.training for part in network.modules())
    assert [part.training for part in network.modules()] == [True, True, True, False]
