"""Relabelled DPO against its rivals, in the world of language.

Every rival trains from the same base, for equally many steps, on answers to the same instructions, and has as many
tries to tune as RA has. A rival may come in several forms, each tuned by itself; the best of them on the test counts,
which favours the rival.

Only RA and the rivals of supervised training under a condition are asked for something: that is how they are meant.
What a rival gives when it is asked for 10 all the same, by a prompt that it never trained on, is measured beside it.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import hypot
from typing import Any

import numpy as np

from pairwright.charts import Chart, Series
from pairwright.evaluate.result import Metric
from pairwright.reproduce.claim import Outcome, Setup
from pairwright.reproduce.language.arms import PLAIN, RA, relabelled_as
from pairwright.reproduce.language.bench import (
    Measured,
    base_found,
    difference,
    level,
    measure,
    row_of,
    seconds_of,
)
from pairwright.reproduce.language.setting import TOP, Arm, Goal, World
from pairwright.reproduce.verdicts import all_of, verdict_of
from pairwright.stats import Interval

BEST_DIRECTION = (3 / hypot(3, 1), 1 / hypot(3, 1))
"""Gold is correctness less a half for each filler, and brevity is 10 less 1.5 for each: so gold is correctness plus a
third of brevity, but for a constant."""
POINTS = tuple(float(point) for point in range(2, 11))
"""Edges of ten classes: class 8 has the scores from 8 up to 9. The base takes a number for a score, so that of two
classes, 1 and 2, it would take the better one for a poor score."""


def _conditioned(mode: str, *, name: str, goal: Goal = TOP, **settings: Any) -> Arm:
    """Supervised training under a condition; it has no strength to tune."""
    arm = relabelled_as(mode, name=name, goal=goal, **settings)
    return replace(arm, loss="sft", strength="", strengths=(1.0,))


FORMS: dict[str, tuple[Arm, ...]] = {
    # Fixed at half a nat for a point: at 1, gaps of five points are all but hard labels (0.993; here 0.92).
    "rpo": (Arm(name="rpo", loss="rpo_backward_kl", settings=(("eta", 0.5),), score=True),),
    # gamma / beta is 0.5 and 0.1; the authors' settings go from 0.1 to 0.8.
    "simpo": (Arm(name="simpo", loss="simpo", settings=(("gamma", 1.0),), strengths=(2.0, 10.0)),),
    # A target of five nats for a pair, and of one.
    "ipo": (Arm(name="ipo", loss="ipo_sum", strengths=(0.1, 0.5)),),
    "kto": (Arm(name="kto", loss="kto"),),
    "r_dpo": (Arm(name="r_dpo", loss="r_dpo", settings=(("alpha", 0.05),)),),
    "orpo": (Arm(name="orpo", loss="orpo"),),
    "cpo": (Arm(name="cpo", loss="cpo"),),
    # The likelihood of the best answer is summed, and far larger than the ranking at the published weight of 1.
    "rrhf": (
        Arm(name="rrhf", loss="rrhf", strength="sft_weight", strengths=(1.0, 0.1), examples="groups", score=True),
    ),
    "slic": (Arm(name="slic", loss="slic", strength="delta", strengths=(1.0, 5.0)),),
    # alpha is in points: near the spread of four scores, so that targets are soft; 1e-4 would be one-hot.
    "nca": (
        Arm(name="nca", loss="nca", settings=(("alpha", 1.0),), examples="groups", score=True),
        Arm(name="nca on pairs", loss="nca_pair"),
    ),
    # On pairs with one-hot targets it is DPO.
    "infonca": (Arm(name="infonca", loss="infonca", settings=(("alpha", 1.0),), examples="groups", score=True),),
    "steerlm": (_conditioned("steerlm", name="steerlm", over="answers"),),
    # The usual sentence has words that the base never read.
    "dpa": (
        _conditioned(
            "dpa",
            name="dpa",
            goal=BEST_DIRECTION,
            over="answers",
            attributes=("correctness", "brevity"),
            source_range=(1.0, 10.0),
            template="The target is {correctness},{brevity}.",
        ),
    ),
    "c_rlft": (
        _conditioned(
            "c_rlft",
            name="c_rlft",
            goal=(10.0,),
            over="answers",
            edges=POINTS,
            weights=tuple(point / 10 for point in range(1, 11)),
            template="Overall score: {class}.",
        ),
    ),
}
"""The forms of each rival. beta is 0.1 or 1, as for DPO, where nothing else stands."""
CONDITIONS = {
    "steerlm": "It is asked by the sentence that asks RA, and learns all four answers by their likelihood where RA "
    "compares two.",
    "c_rlft": "It is asked by the sentence that asks RA, and learns all four answers by their likelihood where RA "
    "compares two.",
    "dpa": "It is asked for a direction, of which the base knows nothing, where RA is asked for a score.",
}
"""How a rival that is asked for something stands to RA."""


def against_rpo(setup: Setup) -> Outcome:
    """RA against reward-aware preference optimisation, with a soft label by the gap of scores."""
    return _against("rpo", setup)


def against_simpo(setup: Setup) -> Outcome:
    """RA against SimPO."""
    return _against("simpo", setup)


def against_ipo(setup: Setup) -> Outcome:
    """RA against IPO on sums."""
    return _against("ipo", setup)


def against_kto(setup: Setup) -> Outcome:
    """RA against KTO."""
    return _against("kto", setup)


def against_r_dpo(setup: Setup) -> Outcome:
    """RA against length-regularised DPO."""
    return _against("r_dpo", setup)


def against_orpo(setup: Setup) -> Outcome:
    """RA against ORPO."""
    return _against("orpo", setup)


def against_cpo(setup: Setup) -> Outcome:
    """RA against CPO."""
    return _against("cpo", setup)


def against_rrhf(setup: Setup) -> Outcome:
    """RA against RRHF on groups of four scored answers."""
    return _against("rrhf", setup)


def against_slic(setup: Setup) -> Outcome:
    """RA against SLiC-HF."""
    return _against("slic", setup)


def against_nca(setup: Setup) -> Outcome:
    """RA against NCA, on groups of four scored answers and on pairs."""
    return _against("nca", setup)


def against_infonca(setup: Setup) -> Outcome:
    """RA against InfoNCA on groups of four scored answers."""
    return _against("infonca", setup)


def against_steerlm(setup: Setup) -> Outcome:
    """RA against supervised training under each answer's own score."""
    return _against("steerlm", setup)


def against_dpa(setup: Setup) -> Outcome:
    """RA against supervised training on the best answer along a drawn direction."""
    return _against("dpa", setup)


def against_c_rlft(setup: Setup) -> Outcome:
    """RA against weighted supervised training under classes of scores."""
    return _against("c_rlft", setup)


def ra_first_of_all(setup: Setup) -> Outcome:
    """RA against plain DPO and every rival, best first; the trainings are those of the single claims."""
    ra, forms, base = _found(((PLAIN,), *FORMS.values()), setup)
    others = {"dpo": _best(forms, (PLAIN,))} | {name: _best(forms, arms) for name, arms in FORMS.items()}
    gains = {name: difference(ra.own, other.own) for name, other in others.items()}
    verdicts = {name: verdict_of(gain) for name, gain in gains.items()}
    behind = [name for name, verdict in verdicts.items() if verdict == "holds"]
    ahead = [name for name, verdict in verdicts.items() if verdict == "does not hold"]
    open_ = [name for name, verdict in verdicts.items() if verdict == "not identified"]
    parts = [
        f"RA asked for 10 ({_mean(ra.own):.2f}) is above {len(behind)} of {len(others)} rivals with intervals that "
        "exclude zero."
    ]
    if ahead:
        parts.append(f"Above RA: {_listed(ahead, gains)}.")
    if open_:
        parts.append(f"Not told apart: {_listed(open_, gains)}.")
    least = min((name for name in others if others[name].arm.goal is None), key=lambda name: _over(ra, others[name]))
    parts.append(_of_base(ra, base))
    prompted = others[least].gold(TOP)
    parts.append(
        f"Asked for 10 as well, of which it learned nothing, the best of the others, {least}, reaches "
        f"{_mean(prompted):.2f} (RA {_signed(difference(ra.own, prompted))})."
    )
    rows = sorted(
        [row_of(ra), *(_row(other, ra) | {"rival": name} for name, other in others.items())],
        key=lambda row: -float(row["gold"]),
    )
    return Outcome(
        verdict=all_of(list(verdicts.values())),
        says=" ".join(parts),
        metrics=(
            Metric.of("gold/ra", level(ra.own), "Mean gold reward, 1 to 10, of RA asked for 10; cases are seeds."),
            *(
                Metric.of(f"gain/{name}", gain, f"Gold of RA asked for 10 less that of {name}; cases are seeds.")
                for name, gain in gains.items()
            ),
            *(
                Metric.of(
                    f"gain_over_asked/{name}",
                    difference(ra.own, other.gold(TOP)),
                    f"Gold of RA asked for 10 less that of {name} asked for 10 too; cases are seeds.",
                )
                for name, other in others.items()
                if other.arm.goal is None
            ),
        ),
        table=tuple(rows),
        charts=(_chart({"ra": ra} | others, base),),
        seconds=seconds_of(ra, *forms.values(), base),
    )


def _against(rival: str, setup: Setup) -> Outcome:
    """RA against the best form of one rival."""
    ra, forms, base = _found((FORMS[rival],), setup)
    other = _best(forms, FORMS[rival])
    gain = difference(ra.own, other.own)
    verdict = verdict_of(gain)
    metrics = [
        Metric.of("gain", gain, f"Gold reward of RA asked for 10 less that of {other.arm.name}; cases are seeds."),
        Metric.of("gold/ra", level(ra.own), "Mean gold reward, 1 to 10, of RA asked for 10; cases are seeds."),
        Metric.of(f"gold/{rival}", level(other.own), f"The same of {other.arm.name} as it is meant to be asked."),
        Metric.of("gold/base", level(base.own), "The same of the base without any training, asked for 10."),
    ]
    said = (
        f"RA asked for 10 reaches {_mean(ra.own):.2f} gold, {other.arm.name} {_mean(other.own):.2f}: {_signed(gain)}."
    )
    if other.arm.goal is None:
        asked = difference(ra.own, other.gold(TOP))
        metrics.append(
            Metric.of("gain_over_asked", asked, f"The gain over {other.arm.name} asked for 10 too; cases are seeds.")
        )
        said += (
            f" {_of_base(ra, base)} Asked for 10 as well, of which it learned nothing, {other.arm.name} reaches "
            f"{_mean(other.gold(TOP)):.2f} (RA {_signed(asked)})."
        )
    else:
        said += f" {CONDITIONS[rival]} {_of_base(ra, base)}"
    return Outcome(
        verdict=verdict,
        says=said,
        metrics=tuple(metrics),
        table=(row_of(ra), *(_row(form, ra) for form in forms.values())),
        seconds=seconds_of(ra, *forms.values(), base),
    )


def _found(rivals: Sequence[tuple[Arm, ...]], setup: Setup) -> tuple[Measured, dict[str, Measured], Measured]:
    """RA, all forms by name, and the base asked for 10; equal trainings for every claim, so that they are shared."""
    arms = [arm for forms in rivals for arm in forms]
    goals = {arm.name: (TOP,) for arm in arms if arm.goal is None}
    found = measure([RA, *arms], World(), setup, goals=goals)
    base = base_found(World(), setup, (TOP,))
    return found.pop(RA.name), found, replace(base, arm=replace(base.arm, goal=TOP))


def _best(found: dict[str, Measured], arms: Sequence[Arm]) -> Measured:
    return max((found[arm.name] for arm in arms), key=lambda form: _mean(form.own))


def _row(other: Measured, ra: Measured) -> dict[str, Any]:
    """A line of a rival: what RA gains over it, and what it gives when it is asked for 10 by prompt alone."""
    gain = difference(ra.own, other.own)
    more = {"ra_gain": round(gain.value, 3), "ra_gain_low": round(gain.low, 3), "ra_gain_high": round(gain.high, 3)}
    asked = {} if other.arm.goal is not None else {"gold_asked_10": round(_mean(other.gold(TOP)), 3)}
    return row_of(other, **more, **asked)


def _over(ra: Measured, other: Measured) -> float:
    """How far RA is above a rival that is asked for 10 too."""
    return _mean(ra.own) - _mean(other.gold(TOP))


def _mean(gold: Sequence[Sequence[float]]) -> float:
    return float(np.mean(gold))


def _signed(gain: Interval) -> str:
    return f"{gain.value:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]"


def _listed(names: Sequence[str], gains: dict[str, Interval]) -> str:
    return ", ".join(f"{name} (RA {_signed(gains[name])})" for name in names)


def _of_base(ra: Measured, base: Measured) -> str:
    return (
        f"The base asked for 10 gives {_mean(base.own):.2f} before any training (RA "
        f"{_signed(difference(ra.own, base.own))}): of scores it knows from its text."
    )


def _chart(arms: dict[str, Measured], base: Measured) -> Chart:
    """Arms, best first, as they are meant to be asked, and by a prompt that they never trained on."""
    order = sorted(arms, key=lambda name: -_mean(arms[name].own))
    own = [level(arms[name].own) for name in order]
    prompted = [None if arms[name].arm.goal is not None else level(arms[name].gold(TOP)) for name in order]
    names: list[float | int | str | None] = [*order]
    return Chart(
        id="rivals",
        title="Gold reward by arm",
        says="Bars are means over seeds and held-out instructions, with 95% intervals, best first. The second bar of "
        "an arm that asks for nothing is its model asked for 10 all the same.",
        x="arm",
        y="gold reward, 1 to 10",
        kind="bar",
        series=[
            Series(
                name="as it is meant to be asked",
                x=names,
                y=[each.value for each in own],
                low=[each.low for each in own],
                high=[each.high for each in own],
            ),
            Series(
                name="asked for 10 by the prompt alone",
                x=names,
                y=[None if each is None else each.value for each in prompted],
                low=[None if each is None else each.low for each in prompted],
                high=[None if each is None else each.high for each in prompted],
            ),
            Series(
                name="the base asked for 10",
                x=names,
                y=[_mean(base.own)] * len(order),
                reference=True,
            ),
        ],
    )
