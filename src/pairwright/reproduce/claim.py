"""A claim, what its check is given, and what it finds."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict

from pairwright.charts import Chart
from pairwright.evaluate.result import Metric

World = Literal["tabular", "tree", "language"]
Verdict = Literal["holds", "does not hold", "not identified"]
"""`not identified`: what was done cannot tell, for example because an interval has both answers in it."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a check may use.

    Attributes:
        seeds: how many seeds a claim about samples repeats its experiment with; an exact claim needs none.
        quick: do less: smaller worlds or fewer settings, for a first look.
        out: a folder of the claim's own for files besides the outcome; None keeps nothing.
    """

    seeds: int = 5
    quick: bool = False
    out: Path | None = None


class Outcome(BaseModel):
    """What the check of a claim found."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    verdict: Verdict
    """Of the claim as it is worded; a claim of several parts holds when every part does."""
    says: str
    """What was found, in a sentence or two, with its numbers; where a claim fails, also why as far as is known."""
    metrics: tuple[Metric, ...]
    """The numbers that decide, with intervals over seeds where there are any; exact numbers have no ends."""
    table: tuple[dict[str, Any], ...] = ()
    """The numbers behind them, a row for each arm or setting: JSON values only."""
    charts: tuple[Chart, ...] = ()
    """What there is to see."""
    seconds: float | None = None
    """How long the check took, on one core; `reproduce` fills it in where the check does not say."""

    def metric(self, name: str) -> Metric:
        """The metric of that name.

        Raises:
            KeyError: there is none.
        """
        return {metric.name: metric for metric in self.metrics}[name]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement of a paper that a world can decide.

    Attributes:
        name: as it is called on the command line, for example `goals_steer`.
        says: the claim, in a sentence.
        paper: what the paper reports for it.
        source: paper and section.
        world: in which it is tested.
        check: `module:function`, which takes a `Setup` and gives an `Outcome`; it is imported when the claim is run,
            so that a list of claims loads no torch.
        seeds: how often it repeats its experiment when nothing else is asked for.
    """

    name: str
    says: str
    paper: str
    source: str
    world: World
    check: str
    seeds: int = 5

    def run(self, setup: Setup) -> Outcome:
        """Check the claim."""
        module, _, name = self.check.partition(":")
        return cast(Callable[[Setup], Outcome], getattr(import_module(module), name))(setup)
