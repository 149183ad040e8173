"""Losses on the command line and in recipes: the list of them, sums of them, and what is refused beforehand."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

import tiny
from pairwright.cli import main
from pairwright.cli.lists import BASELINES, NEEDED
from pairwright.errors import InputError
from pairwright.losses import LOSSES
from pairwright.losses.types import NEEDS, Baseline
from pairwright.pipeline import dry_run, run
from pairwright.preferences import Preferences

SUM = "[{name: dpo, weight: 8e-1, beta: 2e-1, divergence: js_divergence}, {name: sft, weight: 0.2}]"
SHORT = ["max_steps=2", "per_device_train_batch_size=4", "learning_rate=1e-3", "logging_steps=1"]


def call(*words: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.model(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.preferences(8).save(tmp_path_factory.mktemp("data") / "prefs")


def changes(*more: str) -> list[str]:
    return [word for change in (*SHORT, *more) for word in ("--set", change)]


def test_the_list_says_what_each_loss_needs_and_takes(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = call("list", "losses", "--json", capsys=capsys)
    rows = {row["name"]: row for row in json.loads(printed)}
    assert code == 0
    assert set(rows) == set(LOSSES)
    assert (rows["dpo"]["needs"], rows["dpo"]["takes"]) == (["ref"], ["pairs"])
    assert rows["simpo"]["needs"] == ["length"]
    assert rows["ld_dpo"]["needs"] == ["length", "ref", "token_logp", "token_ref"]
    assert rows["sft"]["takes"] == ["pairs", "responses"]
    assert rows["infonca"]["takes"] == ["pairs", "groups"]
    assert (rows["kto"]["baseline"], rows["dpo"]["baseline"]) == ("mismatched_kl", None)
    assert rows["modpo"]["needs"] == ["ref", "score"]
    assert [name for name in rows if rows[name]["of_batch"]] == ["aot", "aot_unpaired"]
    code, printed, _ = call("list", "losses", capsys=capsys)
    lines = printed.splitlines()
    assert lines[0].split() == ["name", "needs", "takes", "what", "it", "is", "source"]
    shown = {line.split()[0]: line for line in lines[2:]}
    assert shown["ld_dpo"].split("  ")[0] == "ld_dpo"
    assert "reference, lengths, tokens " in shown["ld_dpo"]
    assert "reference, scores " in shown["infonca"]
    assert "pairs, groups " in shown["infonca"]
    assert " - " in shown["slic"]
    assert "reference, whole batch " in shown["aot"]
    assert "reference, baseline (KL) " in shown["kto"]
    assert "reference, baseline (running mean) " in shown["bco"]
    assert not [name for name in shown if "baseline (" in shown[name] and name not in ("kto", "bco")]


def test_there_is_a_word_for_everything_that_a_loss_may_ask_for() -> None:
    assert set(NEEDED) == NEEDS
    assert set(BASELINES) == set(get_args(Baseline))


def test_a_sum_of_losses_trains_from_the_command_line(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = call(
        "train", data, "--model", model, "-o", tmp_path / "run", "--loss", SUM, *changes(), capsys=capsys
    )
    assert code == 0, error
    said = json.loads((tmp_path / "run/training.json").read_text())["config"]
    dpo, sft = said["loss"]
    assert dpo == {
        "name": "dpo",
        "weight": 0.8,
        "settings": {"beta": 0.2, "label_smoothing": 0.0},
        "divergence": "js_divergence",
        "weighting": None,
    }
    assert (sft["name"], sft["weight"], said["loss_settings"]) == ("sft", 0.2, {})
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] == pytest.approx(
        0.8 * lines[-1]["pairwright/loss_dpo"] + 0.2 * lines[-1]["pairwright/loss_sft"], abs=1e-5
    )
    card = (tmp_path / "run/model/README.md").read_text()
    assert "trained with 0.8 dpo + 0.2 sft" in card
    assert "\n- dpo\n- sft\n---" in card
    assert "| 0.8 | dpo | beta=0.2, label_smoothing=0.0, divergence=js_divergence |\n| 0.2 | sft |  |" in card


def test_one_term_may_be_said_alone(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = call(
        "train", data, "--model", model, "-o", tmp_path / "run", "--loss", "{name: simpo, weight: 2}", *changes(),
        capsys=capsys,
    )  # fmt: skip
    assert code == 0, error
    assert json.loads((tmp_path / "run/training.json").read_text())["config"]["loss"][0]["weight"] == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--loss", "[{name: dpo"], "--loss"),
        (["--loss", "[{name: dpoo}]"], "did you mean 'dpo'"),
        (["--loss", SUM, "--set", "beta=0.3"], "'beta' stands beside a list of losses"),
        (["--loss", "simpo", "--set", "label_smoothing=0.1"], "'simpo' has no setting 'label_smoothing'"),
        (["--loss", "kto", "--set", "examples=responses"], "set threshold to the score from which one is"),
        (["--loss", "goal_sft"], "needs pairs that ask for a goal; relabel the data first"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    words: list[str], says: str, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = call("train", data, "--model", model, "-o", tmp_path / "run", *words, capsys=capsys)
    assert code == 2
    assert says in error
    assert not (tmp_path / "run").exists()


def recipe(data: Path, model: Path, **line: Any) -> list[dict[str, Any]]:
    short = {"max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-3}
    return [{"do": "read", "source": str(data)}, {"do": "train", "model": str(model), **short, **line}]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"loss": "dpo", "betta": 0.1}, "no setting 'betta'; did you mean 'beta'"),
        ({"loss": [{"name": "dpo", "betta": 0.1}]}, "no setting 'betta'; did you mean 'beta'"),
        ({"loss": ["dpo", "sft"], "beta": 0.1}, "'beta' stands beside a list"),
        ({"loss": [5]}, "loss"),
        ({"loss": "simpo", "threshold": 5}, "leave threshold out"),
        ({"loss": "dpo", "reference_mix": 0.5, "reference": "store"}, "leave reference_mix out"),
    ],
)
def test_a_recipe_is_refused_when_it_is_planned(line: dict[str, Any], says: str, data: Path, model: Path) -> None:
    with pytest.raises(InputError, match=r"step 'train' \(train\): .*" + says):
        dry_run(recipe(data, model, **line))


def test_a_recipe_sums_losses_and_knows_them_again(data: Path, model: Path, tmp_path: Path) -> None:
    terms = [{"name": "dpo", "weight": 0.5, "beta": 0.1}, "sft"]
    steps = recipe(data, model, loss=terms)
    assert run(steps, output=tmp_path / "run").reused == set()
    assert run(steps, output=tmp_path / "run").reused == {"read", "train"}
    (planned,) = (
        row for row in dry_run(steps, output=tmp_path / "run", set=["train.loss=orpo"]) if row.name == "train"
    )
    assert (planned.state, "loss=orpo" in planned.settings) == ("run", True)
    changed = ["train.loss=[{name: dpo, weight: 0.25, beta: 0.1}, sft]"]
    (planned,) = (row for row in dry_run(steps, output=tmp_path / "run", set=changed) if row.name == "train")
    assert planned.state == "run"


def test_what_decides_the_weights_is_in_the_mark(data: Path, model: Path) -> None:
    from pairwright.train import resolve
    from pairwright.train.job import prepare

    prefs = Preferences.load(data)
    asked: list[dict[str, Any]] = [
        {"loss": ["dpo", "sft"]},
        {"loss": ["sft", "dpo"]},
        {"loss": [{"name": "dpo", "weight": 0.5}, "sft"]},
        {"loss": [{"name": "dpo", "beta": 0.2}, "sft"]},
        {"loss": [{"name": "dpo", "divergence": "js_divergence"}, "sft"]},
        {"loss": "dpo"},
        {"loss": "dpo", "divergence": "js_divergence"},
        {"loss": "dpo", "divergence": {"name": "alpha_divergence", "alpha": 0.3}},
        {"loss": "dpo", "weighting": "wpo_plain"},
        {"loss": "kto", "examples": "responses", "threshold": 3},
        {"loss": "kto", "examples": "responses", "threshold": 4},
        {"loss": "kto", "examples": "responses", "threshold": 8.5},
        {"loss": "kto"},
        {"loss": "infonca"},
        {"loss": "infonca", "examples": "groups"},
    ]
    marks = [prepare(prefs, resolve(model=model, **each)).mark for each in asked]
    assert len(set(marks)) == len(asked)
