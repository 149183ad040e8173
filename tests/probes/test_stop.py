"""The rule that ends a training: planted probes fire it at the step that arithmetic says, and a control does not."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from pairwright.errors import InputError
from pairwright.probes.stop import StopRule, stopped
from pairwright.probes.store import PROBE, About, write_about, write_probe

LEAKING = [0.90, 0.90, 0.86, 0.86, 0.86]
"""Without smoothing 0.04 below the first from the third probe on: the second in a row is the fourth, step 30."""
LEVEL = [0.90, 0.90, 0.86, 0.90, 0.86]
"""Never twice in a row."""
RISEN = [2.0, 2.5, 2.6, 2.5, 2.4]
"""Rises by 30 %, then falls by 3.8 % and 7.7 %: the second more than 2 % below its highest is the fifth, step 40."""


def plant(run: Path, *, mass: list[float], entropy: list[float] | None = None, upto: int | None = None) -> None:
    """Probes each 10 steps of two answers, whose means are these."""
    about = About(pairs=1, split="test", every=10, vocabulary=50, start="start")
    write_about(run, about)
    for i in range(len(mass) if upto is None else upto):
        rows = pl.DataFrame({"side": ["chosen", "chosen", "rejected"], "pair": [0, 1, 0]}).with_columns(
            prompt_id=pl.lit("p"),
            response_id=pl.lit(0),
            score=pl.lit(None),
            asked=pl.lit("none"),
            logp=pl.lit(-5.0),
            length=pl.lit(3),
            start_logp=pl.lit(-5.0),
            entropy=pl.lit(1.0),
            top_entropy=pl.lit(1.0 if entropy is None else entropy[i]),
            raw_top_entropy=pl.lit(1.0),
            # The mean is of the chosen answers; the rejected one must not count.
            top_mass=pl.Series([mass[i] - 0.05, mass[i] + 0.05, 0.1]),
        )
        write_probe(run, 10 * i, rows.select(pl.col(name).cast(kind) for name, kind in PROBE.items()))


def ended(rule: StopRule, run: Path, *, mass: list[float], entropy: list[float] | None = None) -> int | None:
    """The step at which a rule ends a training of 45 steps whose probes come one after the other."""
    plant(run, mass=mass, entropy=entropy, upto=1)
    args: Any = SimpleNamespace()
    state: Any = SimpleNamespace(global_step=0, max_steps=45)
    control: Any = SimpleNamespace(should_training_stop=False, should_log=False)
    rule.on_train_begin(args, state, control)
    for step in range(1, 46):
        if step % 10 == 0:
            plant(run, mass=mass, entropy=entropy, upto=step // 10 + 1)
        state.global_step = step
        rule.on_step_end(args, state, control)
        if control.should_training_stop:
            assert control.should_log
            return step
    return None


@pytest.mark.parametrize(
    ("signal", "mass", "entropy", "expected"),
    [
        ("mass_leak", LEAKING, None, 30),
        ("mass_leak", LEVEL, None, None),
        ("mass_leak", [1 - value for value in LEAKING], None, None),
        ("mass_leak", [0.9] * 5, RISEN, None),
        ("entropy_reversal", LEAKING, RISEN, 40),
        ("entropy_reversal", LEAKING, [2.6, 2.5, 2.4, 2.3, 2.2], None),
        ("entropy_reversal", LEAKING, [2.0] * 5, None),
    ],
)
def test_a_planted_turn_ends_the_training_and_a_control_does_not(
    signal: str, mass: list[float], entropy: list[float] | None, expected: int | None, tmp_path: Path
) -> None:
    rule = StopRule(tmp_path, signals=[signal], smoothing=0.0)
    assert ended(rule, tmp_path, mass=mass, entropy=entropy) == expected
    assert (stopped(tmp_path) is None) == (expected is None)


def test_it_says_why_and_with_which_bounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(StopRule(tmp_path, smoothing=0.0, fall=0.03), tmp_path, mass=LEAKING) == 30
    why = json.loads((tmp_path / "probes/stopped.json").read_text())
    assert why == stopped(tmp_path)
    assert (why["step"], why["signal"]) == (30, "mass_leak")
    assert why["parameters"] == {"smoothing": 0.0, "checks": 2, "fall": 0.03}
    assert f"train: stopped at step 30 of 45 by mass_leak: {why['says']}" in capsys.readouterr().err
    assert "from 0.9 to 0.86" in why["says"]


def test_the_bounds_are_those_that_are_given(tmp_path: Path) -> None:
    assert ended(StopRule(tmp_path / "far", smoothing=0.0, fall=0.05), tmp_path / "far", mass=LEAKING) is None
    assert ended(StopRule(tmp_path / "once", smoothing=0.0, checks=1), tmp_path / "once", mass=LEAKING) == 20
    drop = StopRule(tmp_path / "drop", signals=["entropy_reversal"], smoothing=0.0, drop=0.05, checks=1)
    assert ended(drop, tmp_path / "drop", mass=[0.9] * 5, entropy=RISEN) == 40


def test_the_last_step_needs_no_stop(tmp_path: Path) -> None:
    rule = StopRule(tmp_path, smoothing=0.0)
    plant(tmp_path, mass=LEAKING)
    control: Any = SimpleNamespace(should_training_stop=False, should_log=False)
    rule.on_train_begin(None, SimpleNamespace(global_step=30, max_steps=40), control)  # type: ignore[arg-type]
    rule.on_step_end(None, SimpleNamespace(global_step=40, max_steps=40), control)  # type: ignore[arg-type]
    assert not control.should_training_stop


@pytest.mark.parametrize(("step", "stays"), [(0, False), (20, False), (30, True), (40, True)])
def test_a_stop_after_the_checkpoint_is_forgotten(step: int, stays: bool, tmp_path: Path) -> None:
    ended(StopRule(tmp_path, smoothing=0.0), tmp_path, mass=LEAKING)
    state: Any = SimpleNamespace(global_step=step, max_steps=45)
    control: Any = SimpleNamespace(should_training_stop=False)
    StopRule(tmp_path).on_train_begin(None, state, control)  # type: ignore[arg-type]
    assert (stopped(tmp_path) is not None) == stays == control.should_training_stop


def test_what_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no signal 'mass_leek'; did you mean 'mass_leak'"):
        StopRule(tmp_path, signals=["mass_leek"])
    state: Any = SimpleNamespace(global_step=0, max_steps=45)
    with pytest.raises(InputError, match=r"nothing is probed into .*; add a Probe that writes there before the Stop"):
        StopRule(tmp_path).on_train_begin(None, state, None)  # type: ignore[arg-type]
    plant(tmp_path, mass=LEVEL)
    (tmp_path / "probes/stopped.json").write_text("{}")
    with pytest.raises(InputError, match=r"stopped.json is damaged; remove it"):
        stopped(tmp_path)
