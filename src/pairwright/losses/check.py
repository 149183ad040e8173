"""`check_loss`: the contract of a loss, for ours and for anyone's.

    def test_my_loss():
        check_loss(my_loss)
        check_loss(my_loss, beta=0.5)

It does not prove the formula (1.7 times DPO plus 0.3 keeps every promise below): test that on numbers from the paper.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pairwright.errors import InputError
from pairwright.losses.types import PairLogps, PairLoss, Side, needs

Loss = Callable[..., PairLoss]

_ROWS = 6
# What a loss may raise when a field that it needs is missing: our sentence, or Python's when it used the field itself.
_REFUSALS = (InputError, TypeError, AttributeError)


def check_loss(loss: Loss, **settings: Any) -> None:
    """Assert that `loss` keeps the contract of a pair loss.

    - It runs with exactly what it declared by `@uses(...)`, and refuses when any of that is missing.
    - It gives [B] finite values, one for each pair, on its own: permuted pairs give permuted losses, and a pair alone
      gives what it gives in company.
    - Where the sides are equal, a step downhill raises the chosen log-probability over the rejected one.
    - Its gradient is that of its value (central differences, float64), so no factor is detached by accident.
    - Value and gradient are finite for log-probabilities of -1000 in float32.

    Args:
        loss: a function of `PairLogps` that gives `PairLoss`.
        **settings: settings to check it with; its defaults otherwise.

    Raises:
        AssertionError: a promise is broken; the message says which and how.
    """
    for check in (_check_needs, _check_rows, _check_direction, _check_gradient, _check_extremes):
        check(loss, settings)


def _name(loss: Loss) -> str:
    return str(getattr(loss, "__name__", loss))


def _pair(fields: frozenset[str], *, dtype: torch.dtype = torch.float64, seed: int = 0) -> PairLogps:
    """A random but plausible record of `_ROWS` pairs with only `fields` besides logp; the better score is chosen."""
    draw = torch.Generator().manual_seed(seed)

    def side(low: float) -> Side:
        length = torch.randint(3, 20, (_ROWS,), generator=draw).to(dtype)
        logp = -length * (0.5 + torch.rand(_ROWS, generator=draw, dtype=dtype))
        ref = logp + torch.randn(_ROWS, generator=draw, dtype=dtype)
        score = low + 2 * torch.rand(_ROWS, generator=draw, dtype=dtype)
        return _only(Side(logp, length, ref, score), fields)

    return PairLogps(chosen=side(6.0), rejected=side(3.0))


def _only(side: Side, fields: frozenset[str]) -> Side:
    names = fields & {"ref", "length", "score"}
    return Side(side.logp, **{name: getattr(side, name) for name in names})


def _take(pair: PairLogps, rows: Tensor) -> PairLogps:
    return PairLogps(*(side.mapped(lambda value: value[rows]) for side in (pair.chosen, pair.rejected)))


def _with_logps(pair: PairLogps, chosen: Tensor, rejected: Tensor) -> PairLogps:
    """The same record with other policy log-probabilities."""

    def put(side: Side, logp: Tensor) -> Side:
        return Side(logp, side.length, side.ref, side.score)

    return PairLogps(put(pair.chosen, chosen), put(pair.rejected, rejected))


def _gradients(loss: Loss, pair: PairLogps, settings: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """The losses, and their gradients in the chosen and rejected log-probabilities, each [B]."""
    chosen = pair.chosen.logp.clone().requires_grad_()
    rejected = pair.rejected.logp.clone().requires_grad_()
    value = loss(_with_logps(pair, chosen, rejected), **settings).loss
    if not value.requires_grad:
        raise AssertionError(f"{_name(loss)}: the loss does not depend on the log-probabilities of the policy")
    parts = torch.autograd.grad(value.sum(), (chosen, rejected), allow_unused=True)
    left, right = (torch.zeros_like(value) if part is None else part for part in parts)
    return value.detach(), left, right


def _check_needs(loss: Loss, settings: dict[str, Any]) -> None:
    declared = needs(loss)
    try:
        loss(_pair(declared), **settings)
    except _REFUSALS as error:
        said = f"says that it needs {sorted(declared) or 'nothing'}"
        raise AssertionError(
            f"{_name(loss)} {said} but fails with just that; name all it uses in @uses(...): {error}"
        ) from error
    for name in sorted(declared):
        try:
            loss(_pair(declared - {name}), **settings)
        except _REFUSALS:
            continue
        raise AssertionError(f"{_name(loss)} says that it needs {name!r} but runs without it; take it out of @uses")


def _check_rows(loss: Loss, settings: dict[str, Any]) -> None:
    pair = _pair(needs(loss))
    out = loss(pair, **settings)
    for field in PairLoss._fields:
        value = getattr(out, field, None)
        if not isinstance(value, Tensor) or value.shape != (_ROWS,):
            shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise AssertionError(f"{_name(loss)}: {field} must have shape [B], one value a pair, not {shape}")
        if not value.isfinite().all():
            raise AssertionError(f"{_name(loss)}: {field} is not finite on an ordinary record")
    order = torch.arange(_ROWS - 1, -1, -1)
    turned = loss(_take(pair, order), **settings).loss
    if not torch.allclose(turned, out.loss[order], rtol=1e-10, atol=1e-12):
        raise AssertionError(f"{_name(loss)}: permuted pairs must give permuted losses")
    alone = torch.cat([loss(_take(pair, torch.tensor([row])), **settings).loss for row in range(_ROWS)])
    if not torch.allclose(alone, out.loss, rtol=1e-10, atol=1e-12):
        raise AssertionError(f"{_name(loss)}: a pair's loss must not depend on the other pairs of its batch")


def _check_direction(loss: Loss, settings: dict[str, Any]) -> None:
    pair = _pair(needs(loss))
    equal = PairLogps(
        _only(Side(pair.chosen.logp, pair.chosen.length, pair.chosen.logp, pair.chosen.score), needs(loss)),
        _only(Side(pair.chosen.logp, pair.chosen.length, pair.chosen.logp, pair.rejected.score), needs(loss)),
    )
    _, chosen, rejected = _gradients(loss, equal, settings)
    if not (chosen < rejected).all():
        raise AssertionError(
            f"{_name(loss)}: where both sides are equal, a step downhill must raise the chosen log-probability over "
            f"the rejected one; the gradients are {chosen[0]:g} and {rejected[0]:g} (is a sign turned?)"
        )


def _check_gradient(loss: Loss, settings: dict[str, Any], *, step: float = 1e-5) -> None:
    pair = _pair(needs(loss), seed=1)
    _, *slopes = _gradients(loss, pair, settings)
    moves = {"chosen": (step, 0.0), "rejected": (0.0, step)}
    for (side, (left, right)), slope in zip(moves.items(), slopes, strict=True):
        above = _with_logps(pair, pair.chosen.logp + left, pair.rejected.logp + right)
        below = _with_logps(pair, pair.chosen.logp - left, pair.rejected.logp - right)
        change = (loss(above, **settings).loss - loss(below, **settings).loss) / (2 * step)
        if not torch.allclose(change, slope, rtol=1e-5, atol=1e-7):
            raise AssertionError(
                f"{_name(loss)}: the gradient in the {side} log-probability is {slope[0]:g} but the value changes by "
                f"{change[0]:g} (is a factor detached?)"
            )


def _check_extremes(loss: Loss, settings: dict[str, Any]) -> None:
    low, high = -1000.0, -0.001
    # Every way in which policy and reference can be sure or at a loss about either side: 16 pairs.
    corners = torch.cartesian_prod(*[torch.tensor([low, high])] * 4)
    fields = needs(loss)
    for length in (1.0, 500.0):
        many = torch.full((len(corners),), length)
        better, worse = torch.full_like(many, 10.0), torch.full_like(many, 1.0)
        pair = PairLogps(
            _only(Side(corners[:, 0], many, corners[:, 1], better), fields),
            _only(Side(corners[:, 2], many, corners[:, 3], worse), fields),
        )
        for part, value in zip(("value", "gradient", "gradient"), _gradients(loss, pair, settings), strict=True):
            if not value.isfinite().all():
                row = int((~value.isfinite()).nonzero()[0])
                logp, ref, other, other_ref = corners[row].tolist()
                raise AssertionError(
                    f"{_name(loss)}: the {part} is {value[row]:g} in float32 where the chosen side has logp {logp:g} "
                    f"and ref {ref:g}, and the rejected side {other:g} and {other_ref:g}"
                )
