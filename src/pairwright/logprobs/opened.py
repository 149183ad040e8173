"""A model that is opened once and asked about batch after batch, in this process or in a worker of a cluster."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairwright.errors import need
from pairwright.logprobs.models import Dtype, device_for_models, open_model

if TYPE_CHECKING:
    from pairwright.logprobs.core import Ids


class Part(NamedTuple):
    """A batch of work.

    Attributes:
        prompts: token ids, [P].
        answers: token ids, [N].
        owner: `answers[i]` continues `prompts[owner[i]]`, [N].
    """

    prompts: "Sequence[Ids]"
    answers: "Sequence[Ids]"
    owner: Sequence[int]

    @property
    def tokens(self) -> int:
        """Tokens of the answers."""
        return sum(map(len, self.answers))


class OpenedModel:
    """A model in evaluation mode, on the GPU where there is one.

    Args:
        model: a `save_pretrained` directory, a hub name, or the directory of a PEFT adapter.
        dtype: precision of its weights.
    """

    def __init__(self, model: str | Path, dtype: Dtype) -> None:
        # Without gradients nothing is ever kept for a backward pass.
        self._network: Any = open_model(model, dtype=dtype).requires_grad_(False).to(device_for_models())

    def logps(self, part: Part) -> NDArray[np.float64]:
        """The log-probability of each answer, [N], in nats."""
        torch: Any = need("torch", extra="train")
        from pairwright.logprobs.core import Batch, answer_logps

        batch = Batch.of(*part).to(next(self._network.parameters()).device)
        with torch.inference_mode():
            return np.asarray(answer_logps(self._network, batch).logp.double().cpu().numpy())
