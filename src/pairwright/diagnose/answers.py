"""A model's answers to held-out prompts as the diagnostics read them, wherever they came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

ANSWERS: Mapping[str, Any] = {
    "prompt_id": pl.String,
    "goal": pl.Float64,
    "text": pl.String,
    "score": pl.Float64,
    "length": pl.Int64,
    "logp": pl.Float64,
    "start_logp": pl.Float64,
    "kl": pl.Float64,
}


@dataclass(frozen=True)
class Answers:
    """Answers that one model gave.

    Attributes:
        name: of the model or the step that drew them, such as `dpo beta 0.1 step 50`.
        frame: columns `ANSWERS`. `prompt_id` is that of the prompt before a goal was put into it. `goal` is null where
            none was asked for, `score` when unscored. `length` is in tokens of the policy. `logp` and `start_logp` are
            summed, in nats, under the prompt as it was asked. `kl` is the sum over the answer's positions of the exact
            KL divergence of policy from start, in nats. What is unknown is null.
        training: of which training the model is; empty for a start.
        step: optimiser step of the checkpoint; None for a model as it ended.
        settings: what decided the training and the drawing, where known: of the training `loss`, `beta`,
            `learning_rate`, `seed`, and `trained` (what else it was, see `trainings.trained`); of the drawing
            `temperature`, `top_p`, `max_new_tokens`, `draw_seed`.
        asked: how all of them were asked, where that is known: `none` for no goal, `top` for the best one; empty where
            `goal` tells. Several numbers, or a direction, are no number: of `top` the goal is then null, too.
    """

    name: str
    frame: pl.DataFrame
    training: str = ""
    step: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    asked: Literal["", "none", "top"] = ""
