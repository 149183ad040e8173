"""Log-probabilities of many answers under a model that is named, each computed once."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pairwright.errors import PairwrightError
from pairwright.logprobs.models import Dtype, device_for_models, open_model
from pairwright.logprobs.progress import Ticker
from pairwright.logprobs.trees import batches

if TYPE_CHECKING:
    from pairwright.logprobs.core import Ids


def stored_logps(
    prompts: "Sequence[Ids]",
    answers: "Sequence[Ids]",
    owner: Sequence[int],
    *,
    model: str | Path,
    dtype: Dtype = "float32",
    batch_tokens: int = 8192,
    label: str = "logprobs",
) -> NDArray[np.float64]:
    """The log-probability of each answer, summed over its tokens, in nats.

    Args:
        prompts: token ids of the prompts, [P], at least one token each.
        answers: token ids of the completions, [N], at least one token each.
        owner: `answers[i]` continues `prompts[owner[i]]`, [N].
        model: a `save_pretrained` directory, a hub name, or the directory of a PEFT adapter.
        dtype: precision of the model's weights; sums are float32 in any case.
        batch_tokens: tokens of a batch, at most; each prompt counts once.
        label: what the progress line and the errors call it.

    Returns:
        [N] nats, none missing.

    Raises:
        InputError: there is no such model.
        PairwrightError: a log-probability is not finite.
    """
    import torch

    from pairwright.logprobs.core import Batch, answer_logps

    values = np.full(len(answers), math.nan)
    if not len(answers):
        return values
    heads, texts = [len(each) for each in prompts], [len(each) for each in answers]
    groups = list(batches(heads, texts, owner, order=range(len(answers)), budget=batch_tokens))
    network: Any = open_model(model, dtype=dtype).to(device_for_models())
    device = next(network.parameters()).device
    ticker = Ticker(label, sum(texts), "tokens")
    with torch.inference_mode():
        for group in groups:
            asked = list(dict.fromkeys(owner[i] for i in group))
            place = {prompt: at for at, prompt in enumerate(asked)}
            batch = Batch.of([prompts[p] for p in asked], [answers[i] for i in group], [place[owner[i]] for i in group])
            values[group] = answer_logps(network, batch.to(device)).logp.double().cpu().numpy()
            ticker.add(sum(texts[i] for i in group))
    broken = np.flatnonzero(~np.isfinite(values))
    if len(broken):
        raise PairwrightError(
            f"{label} is not finite for {len(broken):,} answers (the first: {broken[0]}); try float32"
        )
    return values
