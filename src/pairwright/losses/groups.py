"""Losses that look at all scored answers of a prompt together."""

from torch import Tensor

from pairwright.losses.types import GroupLogps, Side


def filled(group: GroupLogps) -> Side:
    """The answers with a harmless 1 in absent places, so that whatever stands there gives no NaN, not even times 0.

    Token fields are left out: no loss of groups looks at them.
    """
    absent, answers = ~group.there, group.answers

    def fill(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.masked_fill(absent, 1)

    named = None if answers.scores is None else {name: v.masked_fill(absent, 1) for name, v in answers.scores.items()}
    logp = answers.logp.masked_fill(absent, 1)
    return Side(logp, fill(answers.length), fill(answers.ref), fill(answers.score), named)
