"""Probes: what a model says of the same held-out pairs, again and again as training goes on.

A training's directory gets, while it trains (`probe_every`) or afterwards (`probe_run`):

probes/probes.json             how it was probed: settings, steps, pairs, goal format, start, what was dropped
probes/data/                   the held-out pairs, native: better-scored answer first, no goals; `pair` is a row of them
probes/000050.parquet          one row for each answer under each prompt at optimiser step 50 (000000: before training)
probes/000050-samples.parquet  the model's own answers to the held-out prompts at that step, where they were asked for
probes/credit.parquet          log-ratio of each token of some answers, for the model as it ended
probes/start.parquet           what the start said of these tokens, kept while it trains for the credit at the end
probes/stopped.json            at which step, by which signal and why a rule ended the training, where one did

A row of a probe (`PROBE`): `pair` (row of data/), `prompt_id`, `response_id`, `side` (chosen, rejected), `score` (null
when unscored), `asked` (`none`: no goal in the prompt; `top`: the best goal of the format; `own`: the answer's own
score), `logp` (nats, summed), `length` (tokens), `start_logp` (the same at step 0, null where it is not known), and
means over the answer's tokens of how the next token's probability was spread: `entropy` (nats, whole vocabulary),
`top_entropy` (bits, of the k most likely tokens, renormalised), `raw_top_entropy` (bits, of their plain probabilities),
`top_mass`.

A sample (`SAMPLE`): `prompt_id`, `sample` (its number), `asked`, `goal`, `text`, `score` (null until somebody scores
it), `logp`, `start_logp`, `length`, `kl` (sum over its positions of the exact KL divergence from the start, nats),
`entropy`, `top_entropy`, `raw_top_entropy`, `top_mass`, `stopped`.

A credit (`CREDIT`): `pair`, `side`, `asked`, `tokens` (list of texts), `credit` (list of nats: log pi - log start).

Importing this package loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pairwright.probes.after import probe_run as probe_run
    from pairwright.probes.callback import Probe as Probe
    from pairwright.probes.held import held_out as held_out
    from pairwright.probes.stop import StopRule as StopRule
    from pairwright.probes.store import Probes as Probes
    from pairwright.probes.store import load_probes as load_probes

_HOMES = {
    "Probe": "pairwright.probes.callback",
    "Probes": "pairwright.probes.store",
    "StopRule": "pairwright.probes.stop",
    "held_out": "pairwright.probes.held",
    "load_probes": "pairwright.probes.store",
    "probe_run": "pairwright.probes.after",
}

__all__ = ["Probe", "Probes", "StopRule", "held_out", "load_probes", "probe_run"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pairwright.probes' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
