"""What is to be drawn, as plain records: a chart carries every number that it shows, and draws nothing itself.

Evaluations and diagnostics say what there is to see; the report draws it, and prints the same numbers in a table.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _drawable(value: Any) -> Any:
    """What is not finite is a gap: no drawing and no JSON can hold it."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | int | None, BeforeValidator(_drawable)]


class Series(BaseModel):
    """One line, one set of bars or one cloud of points; x and y are equally long."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    x: list[Number | str]
    y: list[Number]
    """Null is a gap in the line."""
    low: list[Number] | None = None
    """Lower ends of the intervals of y."""
    high: list[Number] | None = None
    x_low: list[Number] | None = None
    """Lower ends of the intervals of x."""
    x_high: list[Number] | None = None
    labels: list[str] | None = None
    """What a point is, shown when it is pointed at, such as `beta 0.1, seed 2`."""
    setting: str | None = None
    """What this line has in common with others, such as `beta 0.1`: they share a colour and an entry of the legend."""
    reference: bool = False
    """A thin dotted line to compare with, such as "asked = given"."""


class Chart(BaseModel):
    """One drawing."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    id: str
    """Unique among the charts of one part; the report puts a prefix before it."""
    title: str
    says: str
    """What one sees in it, for those who do not."""
    x: str
    """What the horizontal axis is, with its unit."""
    y: str
    kind: Literal["line", "bar", "points"] = "line"
    """`points` are not joined, but for series that are a `reference`."""
    series: list[Series]
