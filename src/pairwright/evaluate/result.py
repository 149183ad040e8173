"""What every evaluation gives: numbers with their intervals, the number of cases, and what each number is."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from pairwright.errors import InputError
from pairwright.stats import Interval


def _defined(value: Any) -> Any:
    """NaN and the infinities are no JSON; a number that is not defined, or not finite, is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_defined)]


class Metric(BaseModel):
    """One number. Null where it is not defined or not finite, such as the ends of an interval over a single case."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """Of the number; parts of one measure share what stands before the slash."""
    value: Number
    """The estimate."""
    low: Number = None
    """Lower end of its 95% interval."""
    high: Number = None
    """Upper end."""
    n: int
    """Cases that it rests on."""
    says: str
    """What it is, in a sentence, and what the cases are."""

    @classmethod
    def of(cls, name: str, interval: Interval, says: str) -> "Metric":
        """A metric from an estimate."""
        return cls(name=name, value=interval.value, low=interval.low, high=interval.high, n=interval.n, says=says)


class Result(BaseModel):
    """One evaluation."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """Of the evaluation."""
    n: int
    """Rows that it rests on."""
    settings: dict[str, Any] = {}
    """As resolved."""
    metrics: tuple[Metric, ...]
    """The headline numbers."""
    table: tuple[dict[str, Any], ...] = ()
    """The numbers behind them, a row for each part: JSON values only."""
    notes: tuple[str, ...] = ()
    """What a reader should know, one sentence each: rows left out, numbers that are not there and why."""

    @model_validator(mode="after")
    def _each_name_once(self) -> Self:
        times = Counter(metric.name for metric in self.metrics)
        twice = [name for name, count in times.items() if count > 1]
        if twice:
            raise InputError(
                f"evaluate {self.name}: the measure {twice[0]!r} is there twice, so one value would hide the other; "
                "give the model, group or column that is called so another name"
            )
        return self

    def metric(self, name: str) -> Metric:
        """The metric of that name.

        Raises:
            KeyError: there is none.
        """
        found = {metric.name: metric for metric in self.metrics}
        if name not in found:
            raise KeyError(f"{self.name} has no metric {name!r}; it has {', '.join(found)}")
        return found[name]

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values: its fields, and each metric's value under the metric's own name beside them."""
        fields = self.model_dump(mode="json")
        return fields | {metric.name: metric.value for metric in self.metrics if metric.name not in fields}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Result":
        """What `to_dict` gave, again a result."""
        return cls.model_validate({name: value for name, value in values.items() if name in cls.model_fields})

    def __str__(self) -> str:
        """A table for a terminal."""
        head = ("measure", "value", "95% interval", "n", "what it is")
        rows = [head, *(_row(metric) for metric in self.metrics)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([f"{self.name} (n = {self.n:,})", *lines, *self.notes])


def _row(metric: Metric) -> tuple[str, str, str, str, str]:
    value = "-" if metric.value is None else f"{metric.value:.4g}"
    around = "-" if metric.low is None or metric.high is None else f"{metric.low:.4g} to {metric.high:.4g}"
    return metric.name, value, around, f"{metric.n:,}", metric.says


def as_json(interval: Interval) -> dict[str, float | None]:
    """`value`, `low`, `high` of an interval as JSON values, for a row of a result's table."""
    return {"value": _defined(interval.value), "low": _defined(interval.low), "high": _defined(interval.high)}
