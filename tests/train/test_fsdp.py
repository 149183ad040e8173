"""Weights spread over two processes by PyTorch's FSDP2, on the CPU over gloo: the same numbers as in one process.

accelerate has FSDP for GPUs alone, so the trainer itself is not run here; the profile is read in test_profiles.py.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tiny
from pairwright.logprobs.core import Batch, answer_logps, token_values
from pairwright.logprobs.models import open_model
from pairwright.losses import dpo
from pairwright.train import resolve
from pairwright.train.job import prepare
from pairwright.train.records import answers_of, collate, pairs_of
from pairwright.train.reference import Known


@pytest.mark.slow
def test_spread_weights_take_the_steps_of_whole_ones(tmp_path: Path) -> None:
    model = tiny.model(tmp_path / "model")
    output = tmp_path / "found.safetensors"
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", "--local_addr", "127.0.0.1"]
    command = [sys.executable, *launcher, str(Path(__file__).with_name("worker_fsdp.py")), str(model), str(output)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, errors = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            process.terminate()  # the launcher ends its workers
            pytest.fail(f"the processes did not end: {process.communicate(timeout=30)[1][-2000:]}")
    assert process.returncode == 0, errors[-3000:]
    found = load_file(output)
    whole = open_model(model).train()
    inputs = collate(prepare(tiny.preferences(8), resolve(model=model)).examples.rows)
    batch = Batch.from_inputs(inputs)
    with torch.no_grad():
        ref = answer_logps(whole, batch).logp
    steps = torch.optim.SGD(whole.parameters(), lr=0.05)
    losses = []
    for _ in range(2):
        values = token_values(whole, batch)
        loss = dpo(pairs_of(answers_of(values, inputs, Known(ref)), inputs), beta=0.3).loss.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        steps.step()
        steps.zero_grad()
        losses.append(loss.detach().item())
    assert found.pop("losses").tolist() == pytest.approx(losses, abs=1e-5)
    assert losses[1] < losses[0] - 0.1
    ours = dict(whole.named_parameters())
    assert ours.keys() <= found.keys()
    start = dict(open_model(model).named_parameters())
    moved = max(float((ours[name] - start[name]).detach().abs().max()) for name in ours)
    assert max(float((ours[name] - found[name]).detach().abs().max()) for name in ours) < 1e-3 * moved
