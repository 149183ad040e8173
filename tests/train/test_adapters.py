"""Training that starts from an adapter: what it is compared with, and what it leaves behind."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny
from pairwright.errors import InputError
from pairwright.generate import generate
from pairwright.logprobs import logprobs
from pairwright.logprobs.models import open_config, open_model, open_tokenizer, parts_of
from pairwright.preferences import Preferences
from pairwright.train import train

PAIRS = 4
EVERY: dict[str, Any] = {
    "learning_rate": 0.01,
    "per_device_train_batch_size": PAIRS,
    "logging_steps": 1,
    "save_strategy": "no",
    "train_sampling_strategy": "sequential",
}
NOISE = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
pytestmark = NOISE


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.model(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="module")
def sft(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that moves the base far, as other programs write it: without a tokenizer, with dropout."""
    folder = tmp_path_factory.mktemp("tiny") / "sft"
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    wanted = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_dropout=0.1, target_modules=["q_proj", "v_proj"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):
            model = peft.get_peft_model(plain, wanted)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def prefs() -> Preferences:
    return tiny.preferences(PAIRS)


def sides(prefs: Preferences, tokenizer: Any) -> list[list[tuple[list[int], list[int]]]]:
    """Prompt and answer tokens of chosen and rejected sides, by the chat template alone."""
    found: list[list[tuple[list[int], list[int]]]] = [[], []]
    for row in prefs.rows():
        head = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        for at, side in enumerate(("chosen", "rejected")):
            whole = tokenizer.apply_chat_template(row["prompt"] + row[side], return_dict=False)
            found[at].append((head, whole[len(head) :]))
    return found


def plain_logps(model: Any, rows: list[tuple[list[int], list[int]]]) -> torch.Tensor:
    """One forward pass for each answer, by transformers alone."""
    found = []
    for head, tail in rows:
        logits = model(input_ids=torch.tensor([head + tail])).logits[0]
        at = torch.arange(len(head) - 1, len(head) + len(tail) - 1)
        found.append(logits[at].log_softmax(-1)[torch.arange(len(tail)), torch.tensor(tail)].sum())
    return torch.stack(found)


def adapted(base: Path, adapter: Path, *, trainable: bool = False) -> Any:
    """The model by peft and transformers alone."""
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(plain, adapter, is_trainable=trainable).eval()


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


WAYS: dict[str, tuple[dict[str, Any], str]] = {
    "store": ({}, "store"),
    "frozen": ({"reference": "frozen"}, "adapter_before"),
    "lora_store": ({"lora": {"r": 2}}, "store"),
    "lora_frozen": ({"lora": {"r": 2}, "reference": "frozen"}, "adapter_off"),
    "reference_model": ({"reference": "frozen", "reference_model": "SFT"}, "frozen"),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_reference_of_a_training_on_an_adapter_is_the_model_with_it(
    way: str, base: Path, sft: Path, prefs: Preferences, tmp_path: Path
) -> None:
    settings, kind = WAYS[way]
    settings = {name: sft if value == "SFT" else value for name, value in settings.items()}
    train(prefs, model=sft, output=tmp_path, max_steps=4, **EVERY, **settings)
    assert json.loads((tmp_path / "training.json").read_text())["reference"] == kind
    rows = sides(prefs, AutoTokenizer.from_pretrained(base))
    with torch.no_grad():
        right = [plain_logps(adapted(base, sft), side).mean().item() for side in rows]
        wrong = [plain_logps(AutoModelForCausalLM.from_pretrained(base).eval(), side).mean().item() for side in rows]
    found = lines(tmp_path)
    assert found[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    for row in found:
        for side, ours, bases in zip(("chosen", "rejected"), right, wrong, strict=True):
            reference = row[f"logps/{side}"] - row[f"pairwright/log_ratio_{side}"]
            assert reference == pytest.approx(ours, abs=1e-3)
            assert abs(reference - bases) > 1.0
    assert found[-1]["loss"] < 0.5


def test_an_adapter_trained_on_takes_the_steps_of_a_loop_by_peft_alone(
    base: Path, sft: Path, prefs: Preferences, tmp_path: Path
) -> None:
    train(prefs, model=sft, output=tmp_path, max_steps=3, beta=0.2, lr_scheduler_type="constant", **EVERY)
    rows = sides(prefs, AutoTokenizer.from_pretrained(base))
    model = adapted(base, sft, trainable=True)
    with torch.no_grad():
        start = [plain_logps(model, side) for side in rows]
    steps = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=0.01, weight_decay=0.0)
    expected = []
    for _ in range(3):
        chosen, rejected = (plain_logps(model, side) - ref for side, ref in zip(rows, start, strict=True))
        loss = -torch.nn.functional.logsigmoid(0.2 * (chosen - rejected)).mean()
        expected.append(loss.item())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        steps.step()
        steps.zero_grad()
    assert [row["loss"] for row in lines(tmp_path)] == pytest.approx(expected, abs=2e-4)
    assert expected[-1] < expected[0] - 0.05
    ours = load_file(tmp_path / "adapter/adapter_model.safetensors")
    theirs = peft.get_peft_model_state_dict(model)
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-3


@pytest.mark.parametrize("settings", [{"reference": "frozen"}, {"lora": {"r": 2}}], ids=["on", "on_top"])
def test_what_is_saved_opens_by_peft_alone_and_after_a_move(
    settings: dict[str, Any], base: Path, sft: Path, prefs: Preferences, tmp_path: Path
) -> None:
    train(prefs, model=sft, output=tmp_path / "here", max_steps=2, **EVERY, **settings)
    run = (tmp_path / "here").rename(tmp_path / "there")
    ids = torch.arange(20)[None] + 20
    with torch.no_grad():
        whole = AutoModelForCausalLM.from_pretrained(run / "model").eval()(input_ids=ids).logits
        stands_on = run / "base" if "lora" in settings else base
        by_peft = adapted(stands_on, run / "adapter")(input_ids=ids).logits
        ours = open_model(run / "adapter")(input_ids=ids).logits
        before = adapted(base, sft)(input_ids=ids).logits
    assert (whole - by_peft).abs().max() < 1e-4
    assert (whole - ours).abs().max() < 1e-4
    assert (whole - before).abs().max() > 1e-2
    assert sorted(path.name for path in (run / "adapter").iterdir() if path.is_dir()) == []
    assert (run / "base").exists() == ("lora" in settings)
    if "lora" in settings:
        assert json.loads((run / "adapter/adapter_config.json").read_text())["base_model_name_or_path"] == "../base"
        with torch.no_grad():
            below = AutoModelForCausalLM.from_pretrained(run / "base").eval()(input_ids=ids).logits
        assert (below - before).abs().max() < 1e-4


@pytest.mark.parametrize("reference", ["store", "frozen"])
def test_a_resumed_training_of_an_adapter_ends_in_the_same_bits(
    reference: str, sft: Path, prefs: Preferences, tmp_path: Path
) -> None:
    settings = EVERY | {"model": sft, "reference": reference, "per_device_train_batch_size": 2, "save_steps": 2}
    settings |= {"save_strategy": "steps", "num_train_epochs": 3.0, "keep_checkpoints": True}
    train(prefs, output=tmp_path / "whole", **settings)
    shutil.copytree(tmp_path / "whole/checkpoints", tmp_path / "parts/checkpoints")
    for late in ("checkpoint-4", "checkpoint-6"):
        shutil.rmtree(tmp_path / "parts/checkpoints" / late, ignore_errors=True)
    left = [path.name for path in (tmp_path / "parts/checkpoints").glob("checkpoint-*")]
    shutil.copytree(
        tmp_path / "whole/checkpoints/checkpoint-4", tmp_path / "parts/checkpoints/checkpoint-4", dirs_exist_ok=True
    )
    assert left in ([], ["checkpoint-2"])
    train(prefs, output=tmp_path / "parts", **settings)
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name


def test_every_verb_with_a_model_takes_an_adapter(base: Path, sft: Path, prefs: Preferences, tmp_path: Path) -> None:
    found = logprobs(prefs, model=sft, name="m").view("logp_m").collect()
    rows = sides(prefs, AutoTokenizer.from_pretrained(base))
    with torch.no_grad():
        expected = plain_logps(adapted(base, sft), rows[0])
    assert found["logp_m_chosen"].to_list() == pytest.approx(expected.tolist(), abs=1e-3)
    run = train(prefs, model=sft, output=tmp_path / "run", max_steps=1, **EVERY)
    asked = {"max_new_tokens": 8, "temperature": 0.0, "limit": 2}
    texts = [
        [row["content"] for answer in generate(place, prefs, **asked).responses.collect()["response"] for row in answer]
        for place in (run.directory / "adapter", run.model)
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 2


def test_the_tokenizer_of_an_adapter_is_its_own_or_else_that_of_its_base(base: Path, sft: Path, tmp_path: Path) -> None:
    assert open_tokenizer(sft).chat_template == tiny.WITH_SYSTEM
    own = shutil.copytree(sft, tmp_path / "own")
    tiny.tokenizer(tiny.WITHOUT_SYSTEM).save_pretrained(own)
    assert open_tokenizer(own).chat_template == tiny.WITHOUT_SYSTEM
    assert open_config(own).hidden_size == open_config(base).hidden_size


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"base_model_name_or_path": "/no/such/place"}, "is not at '/no/such/place'; put it there or set"),
        ({"base_model_name_or_path": "./gone"}, "is not at './gone'"),
        ({"base_model_name_or_path": None}, "names no base model"),
        ({"base_model_name_or_path": "."}, "names itself as its base"),
        ({"r": 3}, "does not fit its base model"),
        ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, "does not fit its base model"),
        (None, "save the adapter there again"),
    ],
)
def test_an_adapter_that_cannot_be_opened_is_one_sentence(
    change: dict[str, Any] | None, says: str, sft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    broken = shutil.copytree(sft, tmp_path / "broken")
    if change is None:
        (broken / "adapter_model.safetensors").unlink()
    else:
        said = json.loads((broken / "adapter_config.json").read_text())
        (broken / "adapter_config.json").write_text(json.dumps(said | change))
    if change == {"base_model_name_or_path": "."}:
        monkeypatch.chdir(broken)
    with pytest.raises(InputError, match=says):
        open_model(broken)


def test_a_base_is_found_from_the_current_directory_and_from_the_adapter(
    base: Path, sft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(base, tmp_path / "world/base")
    folder = shutil.copytree(sft, tmp_path / "world/adapters/mine")
    said = json.loads((folder / "adapter_config.json").read_text())
    for name, stand in (("base", tmp_path / "world"), ("../../base", tmp_path)):
        (folder / "adapter_config.json").write_text(json.dumps(said | {"base_model_name_or_path": name}))
        monkeypatch.chdir(stand)
        assert Path(parts_of(folder).base).resolve() == (tmp_path / "world/base").resolve()
    (folder / "adapter_config.json").write_text(json.dumps(said | {"base_model_name_or_path": "owner/name"}))
    assert parts_of(folder).base == "owner/name"


def test_an_adapter_on_an_adapter_opens_with_both(base: Path, sft: Path, tmp_path: Path) -> None:
    second = shutil.copytree(sft, tmp_path / "second")
    said = json.loads((second / "adapter_config.json").read_text())
    (second / "adapter_config.json").write_text(json.dumps(said | {"base_model_name_or_path": str(sft)}))
    ids = torch.arange(20)[None] + 20
    with torch.no_grad():
        twice = open_model(second)(input_ids=ids).logits
        merged = adapted(base, sft).merge_and_unload()
        merged.__dict__.pop("peft_config", None)
        expected = peft.PeftModel.from_pretrained(merged, sft).eval()(input_ids=ids).logits
    assert (twice - expected).abs().max() < 1e-4


def named(adapter: Path) -> str:
    return str(json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"])


def test_a_base_named_from_the_adapter_is_never_taken_from_the_current_directory(
    base: Path, sft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(sft, tmp_path / "run/adapter")
    said = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(said | {"base_model_name_or_path": "../base"}))
    tiny.model(tmp_path / "other/base", seed=3)
    (tmp_path / "other/here").mkdir()
    monkeypatch.chdir(tmp_path / "other/here")
    with pytest.raises(InputError, match=r"is not at '\.\./base'"):
        parts_of(folder)
    shutil.copytree(base, tmp_path / "run/base")
    assert Path(parts_of(folder).base).resolve() == (tmp_path / "run/base").resolve()
    (folder / "adapter_config.json").write_text(json.dumps(said | {"base_model_name_or_path": "./base"}))
    shutil.copytree(base, tmp_path / "other/here/base")
    assert Path(parts_of(folder).base).resolve() == (tmp_path / "other/here/base").resolve()
    shutil.copytree(base, folder / "base")
    assert Path(parts_of(folder).base).resolve() == (folder / "base").resolve()


def test_an_adapter_trained_on_names_its_base_from_its_new_place(
    base: Path, sft: Path, prefs: Preferences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = EVERY | {"max_steps": 1}
    train(prefs, model=sft, output="first", lora={"r": 2}, **settings)
    train(prefs, model="first/adapter", output="deep/second", **settings)
    assert named(tmp_path / "deep/second/adapter") == str((tmp_path / "first/base").resolve())
    shutil.copytree(base, tmp_path / "base")
    train(prefs, model="base", output="third", lora={"r": 2}, **settings)
    assert named(tmp_path / "third/adapter") == str((tmp_path / "base").resolve())
    (tmp_path / "run/02-train").mkdir(parents=True)
    (tmp_path / "run/02-train/settings.json").write_text("{}")
    (tmp_path / "base").rename(tmp_path / "run/base")
    train(prefs, model="run/base", output="run/02-train", lora={"r": 2}, **settings)
    assert named(tmp_path / "run/02-train/adapter") == "../../base"
    monkeypatch.chdir("/")
    ids = torch.arange(20)[None] + 20
    for run in (tmp_path / "deep/second", (tmp_path / "run").rename(tmp_path / "moved") / "02-train"):
        with torch.no_grad():
            whole = AutoModelForCausalLM.from_pretrained(run / "model").eval()(input_ids=ids).logits
            assert (whole - open_model(run / "adapter")(input_ids=ids).logits).abs().max() < 1e-4


def test_an_adapter_that_cannot_be_on_a_model_twice_is_one_sentence(prefs: Preferences, tmp_path: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(tiny.model(tmp_path / "gpt2", kind="gpt2"), dtype=torch.float32)
    wanted = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"], bias="all", fan_in_fan_out=True)
    peft.get_peft_model(plain, wanted).save_pretrained(tmp_path / "bias")
    with pytest.raises(InputError, match="use reference 'store'"):
        train(prefs, model=tmp_path / "bias", reference="frozen", output=tmp_path / "run", max_steps=1, **EVERY)
