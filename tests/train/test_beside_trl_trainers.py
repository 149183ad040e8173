"""Trainings of ours beside trainings by TRL's trainers: the same pairs in the same order, every step compared.

What the losses are is compared in tests/losses; here it is what reaches them: lengths, tokens, the reference (also one
that moves), the baseline, several terms, and the gradient's way into the weights.
"""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import tiny
from pairwright.chat import assistant, prompt_id, user
from pairwright.errors import InputError
from pairwright.preferences import Preferences
from pairwright.train import resolve, train

STEPS, BATCH = 4, 4
REWARDS = ("rewards/chosen", "rewards/rejected", "rewards/margins")
LOGPS = ("logps/chosen", "logps/rejected")
SHARED = {
    "per_device_train_batch_size": BATCH,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "max_length": 128,
    "train_sampling_strategy": "sequential",
}
OLDER = ("CPO", "ORPO")  # in TRL's unstable part; constraints.txt pins the version

# TRL 1.16 asks transformers 5 for names that it calls deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:You are importing from 'trl.experimental'"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.model(tmp_path_factory.mktemp("beside") / "model", template=tiny.WITH_SYSTEM)


def theirs(
    kind: str, model: Path, rows: list[dict[str, Any]], output: Path, *, steps: int = STEPS, **settings: Any
) -> list[dict[str, float]]:
    """What TRL's trainer of this kind logs at each step."""
    import datasets
    import trl
    from transformers import AutoModelForCausalLM, AutoTokenizer

    home: Any = trl
    if kind in OLDER:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            home = __import__(f"trl.experimental.{kind.lower()}", fromlist=["trainer"])
    args = getattr(home, f"{kind}Config")(
        output_dir=str(output),
        max_steps=steps,
        seed=0,
        data_seed=0,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        dataloader_pin_memory=False,
        disable_tqdm=True,
        **SHARED | settings,
    )
    trainer = getattr(home, f"{kind}Trainer")(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=args,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    trainer.train()
    return [row for row in trainer.state.log_history if "loss" in row]


def ours(
    loss: Any, model: Path, prefs: Preferences, output: Path, *, steps: int = STEPS, **settings: Any
) -> list[dict[str, float]]:
    """What our trainer logs at each step."""
    run = train(prefs, model=model, loss=loss, output=output, max_steps=steps, **SHARED | settings)
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def assert_same(
    found: Sequence[dict[str, float]], expected: Sequence[dict[str, float]], names: Sequence[str], *, within: float
) -> None:
    assert len(found) == len(expected)
    for mine, other in zip(found, expected, strict=True):
        for name in names:
            if name in other:
                assert mine[name] == pytest.approx(other[name], abs=within / 10, rel=within), (mine["step"], name)
        assert mine["grad_norm"] == pytest.approx(other["grad_norm"], rel=2e-3), mine["step"]


def pairs(prefs: Preferences) -> list[dict[str, Any]]:
    return [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in prefs.rows()]


WPO = {"name": "wpo", "max_weight": float("inf")}


@pytest.mark.parametrize(
    ("loss", "settings", "trl", "names"),
    [
        pytest.param(
            "aot_unpaired", {"beta": 2.0}, {"loss_type": ["aot_unpaired"], "beta": 2.0}, REWARDS, id="of a batch"
        ),
        pytest.param("dpo_mean", {"beta": 5.0}, {"loss_type": ["sigmoid_norm"], "beta": 5.0}, (), id="lengths"),
        pytest.param("ld_dpo", {"alpha": 0.3}, {"ld_alpha": 0.3}, REWARDS, id="tokens"),
        pytest.param("dpo", {"weighting": WPO}, {"use_weighting": True}, REWARDS, id="collisions"),
        pytest.param("dpo", {"divergence": "forward_kl"}, {"f_divergence_type": "forward_kl"}, (), id="divergence"),
        pytest.param(
            [{"name": "dpo", "weight": 0.8}, {"name": "apo_zero", "weight": 0.2}],
            {},
            {"loss_type": ["sigmoid", "apo_zero"], "loss_weights": [0.8, 0.2]},
            REWARDS,
            id="several terms",
        ),
        pytest.param(
            "dpo",
            {"reference": "frozen", "reference_mix": 0.6, "reference_every": 2},
            {"sync_ref_model": True, "ref_model_mixup_alpha": 0.6, "ref_model_sync_steps": 2},
            REWARDS,
            id="moving reference",
        ),
    ],
)
def test_dpo_trainer(
    loss: Any, settings: dict[str, Any], trl: dict[str, Any], names: Sequence[str], model: Path, tmp_path: Path
) -> None:
    prefs = tiny.preferences(BATCH * STEPS)
    expected = theirs("DPO", model, pairs(prefs), tmp_path / "trl", **trl)
    found = ours(loss, model, prefs, tmp_path / "ours", **settings)
    logps = () if loss == "ld_dpo" else LOGPS  # TRL logs the shortened sums there, we log whole ones
    assert_same(found, expected, ("loss", *names, *logps), within=1e-4)
    assert found[0]["loss"] != pytest.approx(found[-1]["loss"], rel=1e-3)


def test_implicit_rewards_under_a_divergence_are_ours(model: Path, tmp_path: Path) -> None:
    """TRL logs beta times the log-ratio whatever the divergence; that is beta times our `pairwright/log_ratio`."""
    prefs = tiny.preferences(BATCH * 2)
    trl = {"f_divergence_type": "forward_kl", "beta": 0.5}
    expected = theirs("DPO", model, pairs(prefs), tmp_path / "trl", steps=2, **trl)[-1]
    found = ours("dpo", model, prefs, tmp_path / "ours", steps=2, divergence="forward_kl", beta=0.5)[-1]
    assert 0.5 * found["pairwright/log_ratio_chosen"] == pytest.approx(expected["rewards/chosen"], rel=1e-3)
    assert found["rewards/chosen"] < expected["rewards/chosen"]  # 1 - exp(-u) is below u


def lone_answers(num: int) -> tuple[Preferences, list[dict[str, Any]]]:
    """Prompts with one answer each, the same one, wanted and unwanted by turns; for us by score, for TRL by label.

    As all answers are one text, an answer to any other prompt is the same too, and so is the KL that is made of it.
    """
    prompts = [[user(f"{tiny.WORDS[i % 20]} {tiny.WORDS[i * 7 % 20]} {i}")] for i in range(num)]
    ids, answer = [prompt_id(prompt) for prompt in prompts], [assistant("one word")]
    wanted = [i % 3 != 1 for i in range(num)]
    prefs = Preferences.of(
        pl.DataFrame({"prompt_id": ids, "prompt": prompts}),
        pl.DataFrame(
            {
                "response_id": range(num),
                "prompt_id": ids,
                "response": [answer] * num,
                "score": [8.0 if each else 3.0 for each in wanted],
            }
        ),
    )
    rows = [{"prompt": p, "completion": answer, "label": each} for p, each in zip(prompts, wanted, strict=True)]
    return prefs, rows


@pytest.mark.parametrize(
    ("loss", "settings", "trl"),
    [
        ("kto", {"desirable_weight": 0.7}, {"desirable_weight": 0.7}),
        ("kto", {"beta": 0.5}, {"beta": 0.5}),
        ("apo_zero_unpaired", {}, {"loss_type": "apo_zero_unpaired"}),
    ],
)
def test_kto_trainer(loss: str, settings: dict[str, Any], trl: dict[str, Any], model: Path, tmp_path: Path) -> None:
    prefs, rows = lone_answers(BATCH * STEPS)
    expected = theirs("KTO", model, rows, tmp_path / "trl", **trl)
    found = ours(loss, model, prefs, tmp_path / "ours", examples="responses", threshold=5.0, **settings)
    names = ("loss", *REWARDS, *LOGPS, *(("kl",) if loss == "kto" else ()))
    assert_same(found, expected, names, within=1e-4)
    if loss == "kto":
        assert max(row["kl"] for row in found) > 0.01


def test_the_kl_of_kto_is_of_other_answers_than_trls(model: Path, tmp_path: Path) -> None:
    """TRL moves the completions of a batch on by one prompt; ours are drawn over the whole data, fixed before training.

    At step 1 the policy is the reference, every KL is 0 and all agrees; then the estimates are of different answers.
    """
    prefs = tiny.preferences(BATCH * STEPS // 2)
    rows = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in prefs.rows()
        for side in ("chosen", "rejected")
    ]
    expected = theirs("KTO", model, rows, tmp_path / "trl")
    found = ours("kto", model, prefs, tmp_path / "ours", examples="responses", threshold=5.0)
    assert_same(found[:1], expected[:1], ("loss", "kl", *REWARDS, *LOGPS), within=1e-4)
    assert [row["kl"] for row in found] != pytest.approx([row["kl"] for row in expected], rel=1e-2)
    for mine, other in zip(found, expected, strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=0.05)


def test_bco_has_a_running_mean_that_bco_pair_of_trl_lacks(model: Path, tmp_path: Path) -> None:
    """Step 1 begins at reward 0 and agrees; from step 2 on our baseline is the mean reward so far, TRL's stays 0."""
    prefs = tiny.preferences(BATCH * STEPS)
    expected = theirs("DPO", model, pairs(prefs), tmp_path / "trl", loss_type=["bco_pair"], beta=0.5)
    found = ours("bco", model, prefs, tmp_path / "ours", beta=0.5)
    assert_same(found[:1], expected[:1], ("loss", *REWARDS, *LOGPS), within=1e-4)
    assert_same(found[1:2], expected[1:2], (*REWARDS, *LOGPS), within=1e-4)  # step 1 moved the weights alike
    mean = (found[1]["rewards/chosen"] + found[1]["rewards/rejected"]) / 4  # of 4 rewards a pair the first 2 were 0
    assert found[1]["pairwright/baseline"] == pytest.approx(mean, rel=1e-4)
    assert found[1]["loss"] != pytest.approx(expected[1]["loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "settings", "trl"),
    [
        ("cpo", {"alpha": 0.0}, {"cpo_alpha": 0.0}),
        ("cpo", {"alpha": 1.0, "per_device_train_batch_size": 1}, {"cpo_alpha": 1.0, "per_device_train_batch_size": 1}),
        ("simpo", {"beta": 2.5, "gamma": 1.375}, {"loss_type": "simpo", "beta": 2.5, "simpo_gamma": 1.375}),
        ("alphapo", {"alpha": 0.25}, {"loss_type": "alphapo", "beta": 2.0, "simpo_gamma": 0.5, "alpha": 0.25}),
    ],
)
def test_cpo_trainer(loss: str, settings: dict[str, Any], trl: dict[str, Any], model: Path, tmp_path: Path) -> None:
    """With an NLL only one pair at a time agrees: TRL averages it over the tokens of the batch, we over its answers."""
    prefs = tiny.preferences(BATCH * STEPS)
    trl = {"cpo_alpha": 0.0} | trl
    expected = theirs("CPO", model, pairs(prefs), tmp_path / "trl", **trl)
    found = ours(loss, model, prefs, tmp_path / "ours", **settings)
    logps = LOGPS if loss == "cpo" else ()  # TRL logs means there, we log sums
    assert_same(found, expected, ("loss", *REWARDS, *logps), within=1e-4)


def test_orpo_trainer(model: Path, tmp_path: Path) -> None:
    """At step 1 all but the NLL agrees, which TRL takes over the prompt's tokens too; after it the models part."""
    prefs = tiny.preferences(BATCH)
    expected = theirs("ORPO", model, pairs(prefs), tmp_path / "trl", steps=1)[0]
    found = ours("orpo", model, prefs, tmp_path / "ours", steps=1)[0]
    odds = found["loss"] + found["pairwright/mean_logp_chosen"]
    assert odds == pytest.approx(expected["loss"] - expected["nll_loss"], abs=1e-5)
    assert odds == pytest.approx(-0.1 * expected["log_odds_ratio"], abs=1e-5)
    for name in REWARDS:
        assert found[name] == pytest.approx(expected[name], abs=1e-5)
    assert found["loss"] != pytest.approx(expected["loss"], rel=1e-3)


def test_a_divergence_that_trl_refuses_and_we_do_not(model: Path, tmp_path: Path) -> None:
    """Losses with a zero of their own keep it, as every divergence of ours is 0 at policy = reference."""
    prefs = tiny.preferences(BATCH)
    settings = {"loss_type": ["nca_pair"], "f_divergence_type": "js_divergence"}
    with pytest.raises(ValueError, match="is only supported for the following loss types"):
        theirs("DPO", model, pairs(prefs), tmp_path / "trl", steps=1, **settings)
    loss = [{"name": "nca_pair", "divergence": "js_divergence"}]
    assert ours(loss, model, prefs, tmp_path / "ours", steps=1)[0]["loss"] > 0


def test_a_weighting_that_both_refuse(model: Path, tmp_path: Path) -> None:
    """A value of a sorted loss is of two pairs."""
    prefs = tiny.preferences(BATCH)
    with pytest.raises(NotImplementedError, match="WPO-style weighting is not implemented for 'aot'"):
        theirs("DPO", model, pairs(prefs), tmp_path / "trl", steps=1, loss_type=["aot"], use_weighting=True)
    with pytest.raises(InputError, match="'aot' takes no weighting"):
        resolve(model=model, loss="aot", weighting="wpo")


def test_kto_of_one_answer_at_a_time(model: Path, tmp_path: Path) -> None:
    """TRL has no other completion in a batch of one and refuses it; our strangers come from the whole data."""
    prefs, rows = lone_answers(4)
    with pytest.raises(ValueError, match="batch size must be > 1"):
        theirs("KTO", model, rows, tmp_path / "trl", steps=2, per_device_train_batch_size=1)
    alone = {"examples": "responses", "threshold": 5.0, "per_device_train_batch_size": 1}
    assert len(ours("kto", model, prefs, tmp_path / "ours", steps=2, **alone)) == 2
