"""Each metric against a plain computation in Python or numpy that shares no code with it."""

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from pairwright.errors import InputError
from pairwright.metrics import METRICS
from pairwright.plug import listing
from pairwright.preferences import Preferences, Step
from pairwright.select import numbers

NAN = math.nan


def made(pairs: dict[str, Any], lineage: tuple[Step, ...] = (), **answers: Any) -> Preferences:
    """One prompt; answers with the given number columns; `pairs` as columns."""
    count = len(next(iter(answers.values())))
    responses = pl.DataFrame(
        {
            "prompt_id": ["p"] * count,
            "response": [[{"role": "assistant", "content": "x" * (i + 1)}] for i in range(count)],
            **answers,
        },
        strict=False,
    )
    rows = pl.DataFrame({"prompt_id": ["p"] * len(pairs["chosen_id"]), **pairs}, strict=False)
    prompts = pl.DataFrame({"prompt_id": ["p"], "prompt": [[{"role": "user", "content": "Q"}]]})
    return Preferences.of(prompts, responses, rows, lineage)


def values(prefs: Preferences, name: str, **settings: Any) -> list[float | None]:
    view = numbers(prefs)
    result: list[float | None] = view.select(METRICS[name](view, **settings)).collect().to_series().to_list()
    return result


FOUR: dict[str, Any] = {"chosen_id": [0, 2, 1, 3], "rejected_id": [1, 3, 0, 2]}


def test_explicit_gap_is_chosen_minus_rejected() -> None:
    prefs = made(FOUR, score=[9.0, 2.0, 4.0, None])
    assert values(prefs, "explicit_gap") == [7.0, None, -7.0, None]


def test_a_score_that_is_no_number_cannot_say() -> None:
    assert values(made(FOUR, score=[9.0, NAN, math.inf, 1.0]), "explicit_gap") == [None, None, None, None]


def test_explicit_gap_knows_the_goal() -> None:
    # Asked for 2, the answer with 2 is 7 nearer than the answer with 9; asked for 5, |9-5| - |2-5| = 1.
    prefs = made(
        {"chosen_id": [0, 1, 1, 0], "rejected_id": [1, 0, 0, 1], "goal": [9.0, 2.0, 5.0, None]}, score=[9.0, 2.0]
    )
    assert values(prefs, "explicit_gap") == [7.0, 7.0, 1.0, 7.0]


def test_explicit_gap_of_a_vector_goal_is_euclidean() -> None:
    form = {"placement": "user", "ranges": [[1, 10], [1, 10]], "attributes": ["honesty", "depth"]}
    prefs = made(
        {"chosen_id": [0, 1, 1], "rejected_id": [1, 0, 0], "goal": [[9.0, 9.0], [6.0, 5.0], [9.0, 9.0]]},
        (Step(name="relabel", settings={"goal": form}),),
        score=[None, None],
        score_honesty=[9.0, 6.0],
        score_depth=[9.0, 5.0],
    )
    # (9, 9) and (6, 5) are 5 apart.
    assert values(prefs, "explicit_gap") == [5.0, 5.0, -5.0]


def test_explicit_gap_of_a_vector_goal_needs_every_attribute() -> None:
    form = {"placement": "user", "ranges": [[1, 10], [1, 10]], "attributes": ["honesty", "depth"]}
    prefs = made(
        {"chosen_id": [0], "rejected_id": [1], "goal": [[9.0, 9.0]]},
        (Step(name="relabel", settings={"goal": form}),),
        score_honesty=[9.0, 6.0],
        score_depth=[9.0, None],
    )
    assert values(prefs, "explicit_gap") == [None]


def test_length_gap_counts_characters_or_named_tokens() -> None:
    prefs = made(FOUR, len_t=[10, 4, None, 1])
    assert values(prefs, "length_gap") == [-1.0, -1.0, 1.0, 1.0]
    assert values(prefs, "length_gap", length="t") == [6.0, None, -6.0, None]
    assert values(prefs, "length_gap", length="len_t") == [6.0, None, -6.0, None]
    with pytest.raises(InputError, match="no column 'len_tt'; did you mean 't'"):
        values(prefs, "length_gap", length="tt")


def test_random_is_seeded_and_belongs_to_the_pair() -> None:
    one = values(made(FOUR, score=[1.0] * 4), "random", seed=1)
    assert one == values(made(FOUR, score=[1.0] * 4), "random", seed=1)
    assert one != values(made(FOUR, score=[1.0] * 4), "random", seed=2)
    back = made({name: ids[::-1] for name, ids in FOUR.items()}, score=[1.0] * 4)
    assert values(back, "random", seed=1) == one[::-1]


LOGPS: dict[str, Any] = {
    "logp_m": [-10.0, -12.0, -30.0, -3.0],
    "len_m": [5, 4, 10, 0],
    "logp_ref": [-11.0, -11.0, -20.0, -4.0],
}


def test_implicit_margin_in_simpo_form() -> None:
    # Means by token: -2, -3, -3, none. Pair (0, 1): |-2 + 3| = 1; the answer without a token cannot say.
    prefs = made({"chosen_id": [0, 1, 2, 3], "rejected_id": [1, 2, 0, 0]}, **LOGPS)
    assert values(prefs, "implicit_margin", policy="m") == [-1.0, 0.0, -1.0, None]
    assert values(prefs, "implicit_margin", policy="m", beta=2.5) == [-2.5, 0.0, -2.5, None]


def test_implicit_margin_in_dpo_form_takes_sums() -> None:
    # Log ratios: 1, -1, -10, 1.
    prefs = made({"chosen_id": [0, 1, 2, 3], "rejected_id": [1, 2, 0, 0]}, **LOGPS)
    got = values(prefs, "implicit_margin", policy="m", reference="ref", beta=0.1)
    assert got == pytest.approx([-0.2, -0.9, -1.1, 0.0])


def test_implicit_margin_from_a_column_of_the_pairs() -> None:
    prefs = made({**FOUR, "own": [0.5, -2.0, None, NAN]}, score=[1.0] * 4)
    assert values(prefs, "implicit_margin", margin="own") == [-0.5, -2.0, None, None]


def test_logps_of_goal_conditioned_pairs_are_taken_from_the_pairs() -> None:
    prefs = made({**FOUR, "logp_m_chosen": [-1.0] * 4, "logp_m_rejected": [-3.0] * 4}, **LOGPS)
    assert values(prefs, "implicit_margin", policy="m", reference="ref")[0] == -2.0 - 0.0


def reference_z(v: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    centred = v - v.sum() / len(v)
    return centred / np.sqrt((centred**2).sum() / len(v))


# One in ten is null, one in ten no number; halves, so that there are many ties.
number = st.integers(0, 19).map(lambda n: [None, NAN][n % 2] if n < 4 else n / 2)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(number, number, st.integers(-40, 0), st.integers(0, 9)), min_size=12, max_size=60),
    st.sampled_from([1.0, 2.5, 0.25]),
)
def test_potentials_agree_with_numpy_on_ties_and_nulls(rows: list[tuple[Any, ...]], weight: float) -> None:
    rows = rows[: len(rows) // 2 * 2]
    scores, extra, logps, lengths = (list(column) for column in zip(*rows, strict=True))
    logp = [None if e is None else float(v) for v, e in zip(logps, extra, strict=True)]
    half = len(rows) // 2
    pairs = {"chosen_id": list(range(half)), "rejected_id": list(range(half, 2 * half))}
    raw = {"score": scores, "logp_m": logp, "len_m": lengths}
    columns = {name: pl.Series(column, dtype=pl.Float64, strict=False) for name, column in raw.items()}
    prefs = made(pairs, **columns)

    def number_of(v: Any) -> float:
        return NAN if v is None else float(v)

    s, p, n = (np.array([number_of(v) for v in column]) for column in (scores, logp, lengths))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(n > 0, p / n, NAN)
    u, m = s[:half] - s[half:], mean[:half] - mean[half:]
    known = ~np.isnan(u) & ~np.isnan(m)
    for name, v in (("alignment_potential", np.abs(m)), ("signed_potential", m)):
        flat = known.sum() == 0 or np.ptp(u[known]) < 1e-9 or np.ptp(v[known]) < 1e-9
        if flat:
            with pytest.raises(InputError, match=r"z-score|nothing to compare"):
                values(prefs, name, policy="m", weight=weight)
            continue
        expected = np.full(half, NAN)
        expected[known] = reference_z(u[known]) - weight * reference_z(v[known])
        got = np.array([number_of(value) for value in values(prefs, name, policy="m", weight=weight)])
        np.testing.assert_allclose(got, expected, atol=1e-9)
        event("compared with numpy")


def test_signed_potential_falls_where_the_model_agrees() -> None:
    # Means by token -1, -2, -4: the model prefers the first answer to the second by 1, the third by 3.
    prefs = made(
        {"chosen_id": [0, 0, 2, 2], "rejected_id": [1, 2, 0, 1]},
        score=[5.0, 4.0, 3.0],
        logp_m=[-2.0, -4.0, -8.0],
        len_m=[2, 2, 2],
    )
    got = values(prefs, "signed_potential", policy="m")
    # Gaps 1, 2, -2, -1 (mean 0, std sqrt(2.5)); margins 1, 3, -3, -2 (mean -1/4, std sqrt(23/4 - 1/16)).
    wide, own = math.sqrt(2.5), math.sqrt(23 / 4 - 1 / 16)
    expected = [u / wide - (m + 0.25) / own for u, m in zip([1, 2, -2, -1], [1, 3, -3, -2], strict=True)]
    assert got == pytest.approx(expected)


def test_the_two_potentials_part_where_the_model_disagrees() -> None:
    # Equal gaps but for the last; margins +2, -2, 0: M_+ puts the disagreement first, M_AP the undecided pair.
    prefs = made(
        {"chosen_id": [0, 0, 0, 0], "rejected_id": [1, 1, 1, 2], "own": [2.0, -2.0, 0.0, 1.0]}, score=[9.0, 2.0, 3.0]
    )
    potential = np.array(values(prefs, "alignment_potential", margin="own"), dtype=float)
    signed = np.array(values(prefs, "signed_potential", margin="own"), dtype=float)
    assert potential.argmax() == 2
    assert potential[0] == potential[1]
    assert signed.argmax() == 1
    assert signed[1] > signed[2] > signed[0]


def test_potential_of_relabelled_copies_uses_the_gap_to_the_goal() -> None:
    # A pair and its negative copy: same gap under their goals, so the same potential when |M| is the same.
    prefs = made(
        {
            "chosen_id": [0, 1, 0],
            "rejected_id": [1, 0, 2],
            "goal": [9.0, 2.0, 9.0],
            "own": [1.0, -1.0, 3.0],
        },
        score=[9.0, 2.0, 8.0],
    )
    one, other, third = values(prefs, "alignment_potential", margin="own")
    assert one == other
    assert one is not None
    assert third is not None
    assert one > third


def test_no_spread_is_a_sentence() -> None:
    prefs = made({**FOUR, "own": [1.0, 2.0, 3.0, 4.0], "flat": [0.1, -0.1, 0.1, -0.1]}, score=[3.0, 3.0, 3.0, 3.0])
    with pytest.raises(InputError, match="gaps of the scores are the same in all 4 pairs"):
        values(prefs, "alignment_potential", margin="own")
    prefs = made({**FOUR, "flat": [0.1, -0.1, 0.1, -0.1]}, score=[1.0, 3.0, 4.0, 3.0])
    with pytest.raises(InputError, match="margins of the model are the same in all 4 pairs"):
        values(prefs, "alignment_potential", margin="flat")
    values(prefs, "signed_potential", margin="flat")  # has spread with its sign


@pytest.mark.parametrize("name", ["implicit_margin", "alignment_potential", "signed_potential"])
def test_a_model_beside_itself_is_refused(name: str) -> None:
    prefs = made(FOUR, score=[1.0, 3.0, 4.0, 3.0], logp_a=[-1.0, -2.0, -3.0, -4.0], logp_b=[-1.0, -2.0, -3.0, -4.0])
    with pytest.raises(InputError, match="every margin of DPO's form is zero"):
        values(prefs, name, policy="a", reference="b")


@pytest.mark.parametrize("name", ["implicit_margin", "alignment_potential", "signed_potential"])
def test_where_the_margin_comes_from_must_be_said_once(name: str) -> None:
    prefs = made({**FOUR, "own": [1.0, 2.0, 3.0, 4.0]}, score=[1.0, 3.0, 4.0, 3.0], logp_mine=[-1.0] * 4)
    with pytest.raises(InputError, match=r"comes from one place.*there are logp_mine"):
        values(prefs, name)
    with pytest.raises(InputError, match="comes from one place"):
        values(prefs, name, policy="mine", margin="own")
    with pytest.raises(InputError, match="is a margin already"):
        values(prefs, name, margin="own", reference="mine")
    with pytest.raises(InputError, match="no column 'len_mine'"):
        values(prefs, name, policy="mine")
    with pytest.raises(InputError, match=r"no column 'logp_mina'.*did you mean 'logp_mine'"):
        values(prefs, name, policy="mina", reference="mine")
    with pytest.raises(InputError, match="no number column 'owm'; did you mean 'own'"):
        values(prefs, name, margin="owm")


def test_every_metric_says_what_it_is() -> None:
    for row in listing(METRICS):
        assert row["says"].endswith(".")
        assert row["source"] or row["name"] == "random"
