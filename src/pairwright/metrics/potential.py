"""Margins that a model already has, and the potential that is left.

M_r is the explicit gap of the scores. M is the model's own margin between the two answers, from one of three places:

- `margin=NAME`: a column of the pairs, chosen minus rejected;
- `policy=NAME`: SimPO's form, M = beta (logp_c / len_c - logp_r / len_r), from `logp_NAME` and `len_NAME`;
- `policy=NAME, reference=REF`: DPO's form, M = beta ((logp_c - ref_c) - (logp_r - ref_r)), sums.

z(v) = (v - mean) / std with the population's standard deviation (ddof=0), over the pairs where both parts are known.

Source: arXiv 2503.01864 and its released code, metric_selection.py (`rm-logp`, `rm-xlogp`, `logp_margin_norm_abs`).
The code takes |mean logp_c - mean logp_r| without beta for |M| in all cases, which is SimPO's form with beta = 1; under
z-scores beta cancels.
"""

import polars as pl

from pairwright.errors import InputError
from pairwright.metrics.gaps import explicit_gap
from pairwright.plug import nearest

_FLAT = 1e-12  # a standard deviation that is rounding, relative to the size of the numbers
_SAME = 1e-9  # nats: log-probabilities of a model and of itself


def implicit_margin(
    view: pl.LazyFrame,
    *,
    margin: str | None = None,
    policy: str | None = None,
    reference: str | None = None,
    beta: float = 1.0,
) -> pl.Expr:
    """Minus the size of the model's margin, -|M|: the pairs between which the model decides least come first.

    Args:
        view: pairs.
        margin: a column of the pairs that holds M.
        policy: NAME of `logp_NAME` and, without a reference, `len_NAME`.
        reference: NAME of the reference's `logp_NAME`.
        beta: factor of M.

    Raises:
        InputError: nothing says where M comes from, a column is missing, or policy and reference are the same model.

    Source: arXiv 2503.01864, M_pi ("select small |M_pi|").
    """
    own = _margin(view, margin=margin, policy=policy, reference=reference, beta=beta)
    numbers = view.select(own=own).collect(engine="streaming")["own"]
    _refuse_same_model(numbers, policy=policy, reference=reference, beta=beta)
    return pl.lit(-numbers.abs())


def alignment_potential(
    view: pl.LazyFrame,
    *,
    margin: str | None = None,
    policy: str | None = None,
    reference: str | None = None,
    beta: float = 1.0,
    weight: float = 1.0,
) -> pl.Expr:
    """What the scores ask for beyond the margin that the model has: z(M_r) - weight z(|M|).

    M_r is r(chosen) - r(rejected) of the pair itself, not the range over all answers as in the released code, which
    is the same for best-against-worst pairs and wrong for others; under a goal it is the gap to the goal.

    Args:
        view: pairs.
        margin: a column of the pairs that holds M.
        policy: NAME of `logp_NAME` and, without a reference, `len_NAME`.
        reference: NAME of the reference's `logp_NAME`.
        beta: factor of M; it cancels.
        weight: 1 in the paper's selection, 2.5 in its evolving rounds.

    Raises:
        InputError: as `implicit_margin`; or gaps or margins have no spread, so that z is not defined.

    Source: arXiv 2503.01864, M_AP = |M_r| - |M_pi|; z-scores as its code's `rm-xlogp`.
    """
    own = _margin(view, margin=margin, policy=policy, reference=reference, beta=beta)
    parts = view.select(gap=explicit_gap(view), own=own).collect(engine="streaming")
    _refuse_same_model(parts["own"], policy=policy, reference=reference, beta=beta)
    return _difference_of_z(parts["gap"], parts["own"].abs(), weight=weight)


def signed_potential(
    view: pl.LazyFrame,
    *,
    margin: str | None = None,
    policy: str | None = None,
    reference: str | None = None,
    beta: float = 1.0,
    weight: float = 1.0,
) -> pl.Expr:
    """The signed variant z(M_r) - weight z(M), which prefers pairs that the model orders the other way.

    Where labels are noisy those are often the mislabelled ones; it is the variant that the paper argues against.

    Args:
        view: pairs.
        margin: a column of the pairs that holds M.
        policy: NAME of `logp_NAME` and, without a reference, `len_NAME`.
        reference: NAME of the reference's `logp_NAME`.
        beta: factor of M; it cancels.
        weight: of the margin's z-score.

    Raises:
        InputError: as `alignment_potential`.

    Source: arXiv 2503.01864, M_+ of figures 2 and 3, read as M_r - M_pi (the formula is inferred).
    """
    own = _margin(view, margin=margin, policy=policy, reference=reference, beta=beta)
    parts = view.select(gap=explicit_gap(view), own=own).collect(engine="streaming")
    _refuse_same_model(parts["own"], policy=policy, reference=reference, beta=beta)
    return _difference_of_z(parts["gap"], parts["own"], weight=weight)


def _margin(
    view: pl.LazyFrame, *, margin: str | None, policy: str | None, reference: str | None, beta: float
) -> pl.Expr:
    """M, chosen minus rejected; null where a part is unknown or, in SimPO's form, an answer has no token."""
    schema = view.collect_schema()
    if (margin is None) == (policy is None):
        logps = sorted(n.removesuffix("_chosen") for n in schema if n.startswith("logp_") and n.endswith("_chosen"))
        there = f"there are {', '.join(logps)}" if logps else "there are no logp_ columns; `logprobs` writes them"
        raise InputError(
            "the model's margin comes from one place: margin=COLUMN of the pairs, or policy=NAME of a column "
            f"logp_NAME ({there})"
        )
    if margin is not None:
        if reference is not None:
            raise InputError(f"margin={margin!r} is a margin already, so a reference is not used; leave one out")
        if margin not in schema or not schema[margin].is_numeric():
            numbers = [name for name, kind in schema.items() if kind.is_numeric()]
            raise InputError(f"the pairs have no number column {margin!r}{nearest(margin, numbers)}")
        return beta * pl.when(pl.col(margin).is_finite()).then(pl.col(margin))
    if reference is not None:
        chosen, rejected = (_side(schema, "logp", policy, s) - _side(schema, "logp", reference, s) for s in _SIDES)
    else:
        chosen, rejected = (_mean_logp(schema, policy, side) for side in _SIDES)
    own = beta * (chosen - rejected)
    return pl.when(own.is_finite()).then(own)


_SIDES = ("chosen", "rejected")


def _mean_logp(schema: pl.Schema, policy: str | None, side: str) -> pl.Expr:
    length = _side(schema, "len", policy, side)
    return _side(schema, "logp", policy, side) / pl.when(length > 0).then(length)


def _side(schema: pl.Schema, kind: str, name: str | None, side: str) -> pl.Expr:
    stem = f"{kind}_{str(name).removeprefix('logp_')}"
    if f"{stem}_{side}" not in schema:
        there = [n.removesuffix(f"_{side}") for n in schema if n.startswith(f"{kind}_") and n.endswith(f"_{side}")]
        hint = nearest(stem, there) or (f"; there are {', '.join(there)}" if there else "")
        raise InputError(f"there is no column {stem!r} in pairs or responses{hint} (`logprobs` writes it)")
    return pl.col(f"{stem}_{side}")


def _refuse_same_model(own: pl.Series, *, policy: str | None, reference: str | None, beta: float) -> None:
    if reference is None:
        return
    widest = own.abs().max()
    if widest is not None and widest <= abs(beta) * _SAME:  # type: ignore[operator]
        raise InputError(
            f"policy {policy!r} and reference {reference!r} give equal log-probabilities, so every margin of DPO's "
            "form is zero and says nothing; leave the reference out (SimPO's form), or take a model that was trained"
        )


def _difference_of_z(gap: pl.Series, own: pl.Series, *, weight: float) -> pl.Expr:
    """z(gap) - weight z(own) as numbers, one for each pair of the view: its columns are read once and not again."""
    known = gap.is_not_null() & own.is_not_null()
    if not known.any():
        raise InputError(
            "no pair has both scores and a margin, so there is nothing to compare; score and logprobs first"
        )
    z = []
    for name, part in {"gaps of the scores": gap, "margins of the model": own}.items():
        # Summed by numpy in row order: the streaming engine adds up in an order that differs from run to run, and a
        # metric that differs in its last digit is another file.
        numbers = part.filter(known).to_numpy()
        mean, std = float(numbers.mean()), float(numbers.std())
        if std <= _FLAT * max(1.0, abs(mean)):
            raise InputError(
                f"the {name} are the same in all {len(numbers):,} pairs ({mean:g}), so they have no z-score; "
                "select by the other part alone (explicit_gap or implicit_margin)"
            )
        z.append((part - mean) / std)
    first, second = z
    return pl.lit(first - weight * second)
