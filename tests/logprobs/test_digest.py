import json
import os
import shutil
import time
from pathlib import Path

import pytest

import tiny
from pairwright.logprobs import digest
from pairwright.logprobs.digest import model_digest
from pairwright.logprobs.models import quiet_peft


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.model(tmp_path_factory.mktemp("models") / "small")


def edited(folder: Path, name: str, **entries: object) -> Path:
    said = json.loads((folder / name).read_text()) | entries
    (folder / name).write_text(json.dumps(said))
    return folder


def test_a_copy_is_the_same_model_and_so_is_one_with_another_tokenizer(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    (copy / "README.md").write_text("words")
    (copy / "tokenizer.json").unlink()
    (copy / "training_args.bin").write_bytes(b"other")
    edited(copy, "config.json", transformers_version="9.9", _name_or_path="elsewhere", use_cache=False)
    assert model_digest(copy) == model_digest(model)


def test_weights_and_shape_count(model: Path, tmp_path: Path) -> None:
    other = tiny.model(tmp_path / "other", seed=1)
    assert model_digest(other) != model_digest(model)
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    assert model_digest(edited(copy, "config.json", rms_norm_eps=1e-3)) != model_digest(model)


def adapter(place: Path, base: Path, *, seed: int = 0, scale: int = 8) -> Path:
    import peft
    import torch

    network = tiny.network("llama", 326)
    settings = peft.LoraConfig(r=2, lora_alpha=scale, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    with quiet_peft():
        found = peft.get_peft_model(network, settings)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, weight in found.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    with quiet_peft():
        found.save_pretrained(place)
    return edited(place, "adapter_config.json", base_model_name_or_path=str(base))


def test_an_adapter_is_its_own_content_and_its_base(model: Path, tmp_path: Path) -> None:
    one = adapter(tmp_path / "one", model)
    seen = model_digest(one)
    assert seen != model_digest(model)
    assert model_digest(adapter(tmp_path / "two", model, seed=1)) != seen
    assert model_digest(adapter(tmp_path / "scaled", model, scale=16)) != seen
    moved = Path(shutil.copytree(model, tmp_path / "moved"))
    assert model_digest(edited(one, "adapter_config.json", base_model_name_or_path=str(moved))) == seen
    turned = json.loads((one / "adapter_config.json").read_text())["target_modules"][::-1]
    assert model_digest(edited(one, "adapter_config.json", target_modules=turned)) == seen
    other = tiny.model(tmp_path / "other", seed=1)
    assert model_digest(edited(one, "adapter_config.json", base_model_name_or_path=str(other))) != seen


def test_a_large_file_is_read_once_until_it_changes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    weights = copy / "model.safetensors"
    real, seen = digest.digest_file, []
    monkeypatch.setattr(digest, "digest_file", lambda path: seen.append(path.name) or real(path))
    before = time.time() - 60
    os.utime(weights, (before, before))
    first = model_digest(copy)
    assert model_digest(copy) == first
    assert seen == ["model.safetensors"]
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert model_digest(copy) != first
    # A file that has just changed may change again within the clock's tick, so it is not remembered.
    assert model_digest(copy) != first
    assert seen == ["model.safetensors"] * 3


def test_a_damaged_note_is_not_trusted(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "_FRESH", -1.0)
    first = model_digest(model)
    (note,) = Path(os.environ["PAIRWRIGHT_CACHE"]).glob("digests/*.json")
    note.write_text(note.read_text()[:-9])
    assert model_digest(model) == first


def test_a_name_of_the_hub_is_the_commit_that_it_stands_for(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    hub = tmp_path / "models--some--one"

    def cached(name: str, file: str) -> str:
        commit = (hub / "refs" / "main").read_text()
        return str(hub / "snapshots" / commit / file)

    def put(commit: str) -> None:
        (hub / "refs").mkdir(parents=True, exist_ok=True)
        (hub / "refs" / "main").write_text(commit)
        shutil.copytree(model, hub / "snapshots" / commit)

    monkeypatch.setattr(transformers.utils.hub, "cached_file", cached)
    put("a" * 40)
    first = model_digest("some/one")
    assert model_digest("some/one") == first != model_digest(model)
    put("b" * 40)
    assert model_digest("some/one") != first
