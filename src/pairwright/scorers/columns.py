"""Scores that follow from columns which are there already."""

from collections.abc import Sequence

from pairwright.errors import InputError
from pairwright.plug import nearest
from pairwright.scorers.sample import Sample, Score


def implicit(samples: Sequence[Sample], *, policy: str, reference: str, beta: float = 1.0) -> list[Score]:
    """The implicit reward beta (log pi(y|x) - log ref(y|x)) from log-probabilities in columns.

    Sums over the answer's tokens, nats. Its size is not that of a judge's 1 to 10: relabel it with
    `source_range percentiles`.

    Args:
        samples: answers with `logp_<policy>` and `logp_<reference>` among their numbers.
        policy: NAME of the trained model's `logp_NAME`.
        reference: NAME of the reference's `logp_NAME`.
        beta: of the training.

    Raises:
        InputError: there is no such column.

    Source: arXiv 2305.18290, equation 5; as a score, arXiv 2410.08067, section 6.2 ("IRA").
    """
    columns = [f"logp_{name.removeprefix('logp_')}" for name in (policy, reference)]
    for column in columns:
        if samples and column not in samples[0].numbers:
            there = [name for name in samples[0].numbers if name.startswith("logp_")]
            hint = nearest(column, there) or (f"; there are {', '.join(there)}" if there else "")
            raise InputError(f"implicit: responses have no column {column!r}{hint} (`logprobs` writes it)")
    scores = []
    for sample in samples:
        own, other = (sample.numbers[column] for column in columns)
        if own is None or other is None:
            scores.append(Score(None, "no_logp"))
        else:
            scores.append(Score(beta * (own - other)))
    return scores
