"""A fault planted anywhere in a loss is seen by the tests of losses.

mutants.py makes the faults, and killers.py holds what has to see them.

A mutant that no input tells from the loss is no fault. equivalent_mutants.py lists those with the reason, and they are
compared with the loss on random records; whatever else survives counts against the suite.
"""

from collections import Counter
from dataclasses import dataclass, field

import pytest
import torch

from losses.beside_oracle import KINDS, SETTINGS, slopes_of
from losses.mutation.equivalent_mutants import EQUIVALENT
from losses.mutation.killers import KILLERS, PLUG_KILLERS, killer, record_killer, runs
from losses.mutation.mutants import Mutant, mutants, mutants_of
from pairwright.losses import DIVERGENCES, LOSSES, WEIGHTINGS, GroupLogps, PairLogps, Side, takes

# Faults that anyone makes: a sign turned, a sum for a mean, a factor dropped, a mean too early, a term detached.
EVERYDAY = (
    "sign",
    "mean_logp for logp",
    "logp for mean_logp",
    "log_ratio for mean_log_ratio",
    "mean_log_ratio for log_ratio",
    "factor dropped",
    "early reduction",
    "detached",
    "sides exchanged",
)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_killers_let_the_loss_itself_live(name: str) -> None:
    """Else every mutant would die of nothing."""
    for assertion in KILLERS.values():
        assertion(LOSSES[name], name)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_an_everyday_fault_is_seen(name: str) -> None:
    """The first of each kind that a loss can have; all of them are in the slow test below."""
    seen: dict[str, Mutant] = {}
    for mutant in mutants(name):
        if mutant.kind in EVERYDAY and mutant.kind not in seen and mutant.name not in EQUIVALENT:
            loss = mutant.make()
            if runs(mutant, loss):
                seen[mutant.kind] = mutant
                assert killer(mutant, loss), mutant.name
    assert "detached" in seen
    assert "early reduction" in seen


@dataclass
class Tally:
    """What became of the mutants of one loss."""

    killed: Counter[str] = field(default_factory=Counter)
    survived: list[str] = field(default_factory=list)
    equivalent: list[str] = field(default_factory=list)
    stillborn: int = 0

    @property
    def share(self) -> float:
        return self.killed.total() / (self.killed.total() + len(self.survived))


def tally(name: str) -> Tally:
    found = Tally()
    for mutant in mutants(name):
        loss = mutant.make()
        if not runs(mutant, loss):
            found.stillborn += 1
        elif seen := killer(mutant, loss):
            found.killed[seen] += 1
        elif mutant.name in EQUIVALENT:
            assert_same(mutant)
            found.equivalent.append(mutant.name)
        else:
            found.survived.append(mutant.name)
    return found


def assert_same(mutant: Mutant) -> None:
    """A mutant gives what the loss gives, with the same slopes, on random records and every set of settings."""
    for kind in takes(LOSSES[mutant.loss]):
        draw, _, make = KINDS[kind]
        for settings in SETTINGS[mutant.loss]:
            for seed in range(20, 24):
                rows = draw(mutant.loss, seed, 25, 0.4)
                found = []
                for loss in (LOSSES[mutant.loss], mutant.make()):
                    record = make(rows)
                    out = loss(record, **settings)
                    slopes = slopes_of(out.loss.sum(), record, rows)
                    found.append(torch.cat([*(part.detach().flatten() for part in out), slopes]))
                assert torch.equal(*found), mutant.name


@pytest.mark.slow
def test_at_least_95_percent_of_all_faults_are_seen() -> None:
    """Over all losses; and no loss stays below 90 %. Run with `-rP` to read the table."""
    found = {name: tally(name) for name in sorted(LOSSES)}
    print("\nloss                 mutants  killed  by", *KILLERS, " equivalent  did not run")
    for name, each in found.items():
        by = " ".join(f"{each.killed[killer]:>8}" for killer in KILLERS)
        total = each.killed.total() + len(each.survived)
        print(f"{name:<20} {total:>7}  {each.share:>6.1%} {by} {len(each.equivalent):>10} {each.stillborn:>10}")
        print(*(f"    survived: {survivor}" for survivor in each.survived), sep="\n", end="\n" if each.survived else "")
    killed = sum(each.killed.total() for each in found.values())
    total = killed + sum(len(each.survived) for each in found.values())
    print(f"killed {killed} of {total}: {killed / total:.2%}")
    assert total > 50 * len(LOSSES)
    assert killed >= 0.95 * total
    assert min(each.share for each in found.values()) >= 0.9
    listed = {name for each in found.values() for name in each.equivalent}
    assert listed == {
        name for name in EQUIVALENT if name.split(":")[0] in LOSSES
    }  # one that is gone or is seen now has no place in the list


# Of each record what it derives from its fields, and losses that look at it.
DERIVED: dict[type, dict[str, tuple[str, ...]]] = {
    Side: {
        "log_ratio": ("dpo",),
        "mean_logp": ("simpo", "sft"),
        "mean_log_ratio": ("ipo_mean",),
        "named": ("modpo",),
    },
    PairLogps: {"score_gap": ("rpo_squared", "odpo"), "known_anchor": ("goal_sft",)},
    GroupLogps: {"of": ("rrhf",), "worth": ("rrhf",), "there": ("infonca", "nca", "rrhf")},
}
CASES = [(record, name, losses) for record, table in DERIVED.items() for name, losses in table.items()]


@pytest.mark.parametrize(("record", "attribute", "losses"), CASES, ids=[f"{r.__name__}-{name}" for r, name, _ in CASES])
def test_a_fault_in_a_record_is_seen(
    record: type, attribute: str, losses: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert record_killer(losses) is None
    survived = []
    for mutant in mutants_of(record, attribute):
        with monkeypatch.context() as patch:
            patch.setattr(record, attribute, mutant.make())
            if record_killer(losses) is None and (mutant.touched is None or mutant.touched[0] > 0):
                survived.append(mutant.name)
    listed = {name for name in EQUIVALENT if name.startswith(f"{record.__name__}.{attribute}:")}
    assert set(survived) == listed


@pytest.mark.parametrize("name", sorted(PLUG_KILLERS))
def test_a_fault_in_a_divergence_or_a_weight_is_seen(name: str) -> None:
    plug = {**DIVERGENCES, **WEIGHTINGS}[name]
    PLUG_KILLERS[name](plug, name)
    survived = []
    for mutant in mutants(name, plug):
        try:
            PLUG_KILLERS[name](mutant.make(), name)
        except Exception:
            continue
        if mutant.touched is None or mutant.touched[0] > 0:
            survived.append(mutant.name)
    assert set(survived) == {known for known in EQUIVALENT if known.startswith(f"{name}:")}
