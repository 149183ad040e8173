"""The profiles, read by accelerate's own classes. deepspeed itself is not needed to read its settings."""

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

import tiny
from pairwright.errors import InputError
from pairwright.train import train
from pairwright.train.profiles import PROFILES

TYPES = {
    "ddp": DistributedType.MULTI_GPU,
    "fsdp2": DistributedType.FSDP,
    "zero2": DistributedType.DEEPSPEED,
    "zero3": DistributedType.DEEPSPEED,
}


def asked(name: str) -> Namespace:
    """What `accelerate launch --config_file PROFILE x.py` resolves to."""
    arguments = launch_command_parser().parse_args(["--config_file", str(PROFILES[name]), "x.py"])
    return _validate_launch_command(arguments)[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", PROFILES)
def test_accelerate_reads_every_profile(name: str) -> None:
    config = load_config_from_file(str(PROFILES[name]))
    assert isinstance(config, ClusterConfig)
    assert config.distributed_type == TYPES[name]
    found = asked(name)
    assert found.mixed_precision == "bf16"
    assert found.num_processes == 8
    assert (found.multi_gpu, found.use_fsdp, found.use_deepspeed) == {
        "ddp": (True, False, False),
        "fsdp2": (False, True, False),
        "zero2": (False, False, True),
        "zero3": (False, False, True),
    }[name]
    # accelerate ignores names that it does not know, so a slip of the pen would go unseen.
    for key in (*config.fsdp_config, *config.deepspeed_config):
        assert hasattr(found, key), key


def test_fsdp_gets_version_2_with_whole_models_on_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in prepare_multi_gpu_env(asked("fsdp2")).items():
        if key.startswith(("FSDP", "ACCELERATE")):
            monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.state_dict_type.name == "SHARDED_STATE_DICT"
    assert plugin.cpu_ram_efficient_loading is False
    assert plugin.activation_checkpointing is False


@pytest.mark.parametrize(("name", "stage"), [("zero2", "2"), ("zero3", "3")])
def test_deepspeed_gets_its_stage(name: str, stage: str) -> None:
    arguments = asked(name)
    arguments.deepspeed_fields_from_accelerate_config = "zero_stage"  # launch_command sets it just before
    environment = prepare_deepspeed_cmd_env(arguments)[1]
    assert environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == stage
    assert environment["ACCELERATE_DEEPSPEED_ZERO3_INIT"] == "false"
    assert environment.get("ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL", "false") == str(stage == "3").lower()


def test_a_profile_is_found_by_its_name() -> None:
    command = [sys.executable, "-m", "pairwright.train.profiles"]
    found = subprocess.run([*command, "fsdp2"], capture_output=True, text=True, check=True, timeout=60)
    assert Path(found.stdout.strip()) == PROFILES["fsdp2"]
    lost = subprocess.run([*command, "fsdp"], capture_output=True, text=True, check=False, timeout=60)
    assert lost.returncode == 2
    assert "did you mean 'fsdp2'?" in lost.stderr


def test_models_without_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    model = tiny.model(tmp_path / "model")
    with pytest.raises(InputError, match="set it to false"):
        train(tiny.preferences(2), model=model, output=tmp_path / "run")


def test_a_launcher_whose_processes_are_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = tiny.model(tmp_path / "model")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    assert "LOCAL_RANK" not in os.environ
    with pytest.raises(InputError, match="processes"):
        train(tiny.preferences(2), model=model, output=tmp_path / "run", use_cpu=False)
