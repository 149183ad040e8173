"""What the suite holds against a loss, as functions: a fault that none of them sees would be seen by no test.

Each raises if the loss given is not what the name promises.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import fields
from functools import partial
from math import exp
from typing import Any

import torch
from torch import Tensor

from losses import oracle as oracle_of
from losses import random_cases
from losses.beside_oracle import KINDS, SETTINGS, assert_slopes, assert_values
from losses.mutation.mutants import Mutant
from losses.pair_values import VALUES as PAIR_VALUES
from losses.score_values import VALUES as SCORE_VALUES
from losses.worked_example import Value, rewards_of
from pairwright.losses import DIVERGENCES, LOSSES, WEIGHTINGS, GroupLogps, PairLogps, Side, check_loss, takes

Loss = Callable[..., Any]
VALUES: Sequence[Value] = [*PAIR_VALUES, *SCORE_VALUES]


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
    """`check_loss`, with the defaults and with settings that differ from all of them."""
    for settings in SETTINGS[name]:
        check_loss(loss, **settings)


def oracle(loss: Loss, name: str) -> None:
    """The second implementation, as test_oracle.py compares with it, on fewer rows."""
    assert_values(loss, name, count=12)
    assert_slopes(loss, name)


KILLERS: dict[str, Callable[[Loss, str], None]] = {"values": values, "contract": contract, "oracle": oracle}


def divergence(plug: Callable[..., Tensor], name: str) -> None:
    """The oracle's f(u) - f(0) and its differences; the straight line below -30; finite far out in float32."""
    for settings in ({}, {"alpha": 0.3}) if name == "alpha_divergence" else ({},):
        f = partial(oracle_of.DIVERGENCES[name], **settings)
        near = torch.linspace(-6, 6, 41, dtype=torch.float64, requires_grad=True)
        found = plug(near, **settings)
        expected = torch.tensor([f(u) - f(0.0) for u in near.tolist()], dtype=torch.float64)
        torch.testing.assert_close(found.detach(), expected, rtol=1e-10, atol=1e-10)
        (slope,) = torch.autograd.grad(found.sum(), near)
        rise = torch.tensor([(f(u + 1e-5) - f(u - 1e-5)) / 2e-5 for u in near.tolist()], dtype=torch.float64)
        torch.testing.assert_close(slope, rise, rtol=1e-6, atol=1e-8)
        far = torch.tensor([-1000.0, -60.0, 60.0, 1000.0], requires_grad=True)
        (slope,) = torch.autograd.grad(plug(far, **settings).sum(), far)
        assert plug(far, **settings).isfinite().all()
        assert slope.isfinite().all()
        assert (slope[:2] > 0).all()
    pace = {"forward_kl": 1.0, "alpha_divergence": 0.5}.get(name)
    if pace:  # f(u) = (1 - exp(-a u)) / a, one unit of a u beyond where the line begins: twice exp(30)
        line = plug(torch.tensor([-31.0 / pace], dtype=torch.float64))
        assert abs(line.item() / ((1 - 2 * exp(30.0)) / pace) - 1) < 1e-12


def weighting(plug: Callable[..., Tensor], name: str) -> None:
    """The oracle's weights, which have no gradient; a cap cuts some of them where there is one."""
    rows = random_cases.cases(5, 40)
    record = random_cases.pair_record(rows)
    second: Callable[..., float] = getattr(oracle_of, name)
    for settings in ({}, {"max_weight": 0.3}, {"max_weight": 5.0}) if name == "wpo" else ({},):
        found = plug(record, **settings)
        expected = torch.tensor([second(row, **settings) for row in rows], dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        assert not found.requires_grad


PLUG_KILLERS = {
    **dict.fromkeys(DIVERGENCES, divergence),
    **dict.fromkeys(WEIGHTINGS, weighting),
}


def one_sided() -> None:
    """A pair of which only one side has a field is a group without it, whichever side that is."""
    pair = random_cases.pair_record(random_cases.cases(0, 2))
    for have, lack in ((pair.chosen, Side(pair.rejected.logp)), (Side(pair.chosen.logp), pair.rejected)):
        for field in fields(Side)[1:]:
            assert getattr(GroupLogps.of(PairLogps(have, lack)).answers, field.name) is None


def record_killer(losses: Iterable[str]) -> str | None:
    """What sees a fault planted in the records themselves: one of these losses or the test above; or None."""
    steps = [(name, partial(assertion, LOSSES[name], name)) for assertion in (values, oracle) for name in losses]
    steps += [("one_sided", one_sided), *((name, partial(contract, LOSSES[name], name)) for name in losses)]
    for name, step in steps:
        try:
            step()
        except Exception:
            return name
    return None


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
