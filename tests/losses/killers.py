"""What the suite holds against a loss, as functions: a fault that none of them sees would be seen by no test.

Each raises if the loss given is not what the name promises.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch

from losses.beside_oracle import KINDS, SETTINGS, assert_slopes, assert_values
from losses.more_values import VALUES as MORE_VALUES
from losses.mutants import Mutant
from losses.pair_values import VALUES as PAIR_VALUES
from losses.score_values import VALUES as SCORE_VALUES
from losses.worked_example import Value, rewards_of
from pairwright.losses import check_loss, takes

Loss = Callable[..., Any]
VALUES: Sequence[Value] = [*PAIR_VALUES, *SCORE_VALUES, *MORE_VALUES]


def values(loss: Loss, name: str) -> None:
    """The worked values, as test_worked_values.py checks them."""
    for value in VALUES:
        if value.loss == name:
            out = loss(value.record(), **value.settings)
            expected = torch.tensor(value.expected, dtype=torch.float64)
            torch.testing.assert_close(out.loss.detach(), expected, rtol=0.0, atol=1e-6)
            if value.rewards is not None:
                rewards = torch.tensor(value.rewards, dtype=torch.float64)
                torch.testing.assert_close(rewards_of(out).detach(), rewards, rtol=0.0, atol=1e-6)


def contract(loss: Loss, name: str) -> None:
    """`check_loss`, as test_table.py runs it, with the defaults and with settings that differ from all of them."""
    for settings in SETTINGS[name]:
        check_loss(loss, **settings)


def oracle(loss: Loss, name: str) -> None:
    """The second implementation, as test_oracle.py compares with it, on fewer rows."""
    assert_values(loss, name, count=12)
    assert_slopes(loss, name)


KILLERS: dict[str, Callable[[Loss, str], None]] = {"values": values, "contract": contract, "oracle": oracle}


def runs(mutant: Mutant, loss: Loss) -> bool:
    """Whether a mutant gives anything on ordinary records, and the planted fault meets something that it changes.

    One that fails at once would be seen by any test at all, so it is no credit to these.
    """
    given = 0
    for kind in takes(loss):
        draw, _, record = KINDS[kind]
        for settings in SETTINGS[mutant.loss]:
            with suppress(Exception):
                loss(record(draw(mutant.loss, 3, 6, 0.4)), **settings)
                given += 1
    return given > 0 and (mutant.touched is None or mutant.touched[0] > 0)


def killer(mutant: Mutant, loss: Loss) -> str | None:
    """The first of `KILLERS` that sees the fault, or None."""
    for name, assertion in KILLERS.items():
        try:
            assertion(loss, mutant.loss)
        except Exception:
            return name
    return None
