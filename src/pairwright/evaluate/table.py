"""EVALUATIONS: what can be measured."""

from collections.abc import Callable

from pairwright.evaluate.accuracy import accuracy
from pairwright.evaluate.agreement import agreement
from pairwright.evaluate.arena import arena
from pairwright.evaluate.compare import compare
from pairwright.evaluate.control import control
from pairwright.evaluate.harness import harness
from pairwright.evaluate.humans import humans
from pairwright.evaluate.mtbench import mtbench
from pairwright.evaluate.pairs import pairs
from pairwright.evaluate.result import Result
from pairwright.evaluate.rewardbench import rewardbench2
from pairwright.evaluate.rounds import rounds
from pairwright.evaluate.winrate import winrate

EVALUATIONS: dict[str, Callable[..., Result]] = {
    "pairs": pairs,
    "control": control,
    "compare": compare,
    "agreement": agreement,
    "rounds": rounds,
    "rewardbench2": rewardbench2,
    "accuracy": accuracy,
    "winrate": winrate,
    "arena": arena,
    "mtbench": mtbench,
    "humans": humans,
    "harness": harness,
}
