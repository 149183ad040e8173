"""The arms that most claims share: plain DPO, and DPO on relabelled pairs asked for the top score."""

from typing import Any

from pairwright.reproduce.language.setting import TOP, Arm, Goal

PLAIN = Arm(name="plain")
"""DPO on the pairs as they are, asked for nothing."""


def relabelled_as(mode: str, *, name: str = "", goal: Goal | None = TOP, **settings: Any) -> Arm:
    """DPO on pairs relabelled in a mode of `relabel`, asked for a goal; `settings` are more of `relabel`'s."""
    told = (("mode", mode), *sorted(settings.items()))
    return Arm(
        name=name or mode,
        data="pairwright.reproduce.language.data:relabelled",
        data_settings=told,
        goal=goal,
    )


RA = relabelled_as("ra")
"""Reward-augmented relabelling, asked for the top score."""
