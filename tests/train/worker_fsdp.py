"""What each of two processes does in the test of FSDP2: one step of DPO with weights that are spread over both.

accelerate takes FSDP for GPUs alone, so PyTorch's `fully_shard` is called here as accelerate calls it: on each layer,
then on the whole.

torchrun tests/train/worker_fsdp.py MODEL OUTPUT
"""

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import distributed
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard

sys.path.insert(0, str(Path(__file__).parents[1]))


def main() -> None:
    """Two steps; the first process writes losses and weights."""
    import tiny
    from pairwright.logprobs.core import Batch, token_values
    from pairwright.logprobs.models import open_model
    from pairwright.train import resolve
    from pairwright.train.job import prepare
    from pairwright.train.records import answers_of, collate, pairs_of
    from pairwright.train.reference import Known, with_stored

    place, output = sys.argv[1:]
    distributed.init_process_group("gloo")
    rank, size = distributed.get_rank(), distributed.get_world_size()
    examples = prepare(tiny.preferences(8), resolve(model=place)).examples
    rows = with_stored(examples.rows, model=place, dtype="float32")
    loss = resolve(model=place, beta=0.3).bound_loss()
    model: Any = open_model(place).train()
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    steps = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(2):
        inputs = collate(rows[rank::size])
        values = token_values(model, Batch.from_inputs(inputs))
        pair = pairs_of(answers_of(values, inputs, Known(inputs["ref"])), inputs)
        share = loss(pair).loss.sum() / len(rows)
        (share * size).backward()  # gradients are averaged over the processes
        steps.step()
        steps.zero_grad()
        total = share.detach().clone()
        distributed.all_reduce(total)
        losses.append(total)
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if rank == 0:
        tensors = {name: value.contiguous().clone() for name, value in state.items()}
        save_file(tensors | {"losses": torch.stack(losses)}, output)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
