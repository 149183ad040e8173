"""Two panels side by side as SVG: a value and its gradient along one axis.

Written by hand, because a plotting library would be one more pinned dependency, and its bytes would change with each
version of it. Text stays text, the colours are Okabe and Ito's and each curve has a dash of its own, so that none has
to be told by its colour. The ground is white: a code host shows the figure on a dark page too.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, PANEL, TOP, BOTTOM = 760, 196, 18, 46
LEFTS, ACROSS = (58.0, 442.0), 296.0
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
DASHES = ("", "9 4", "3 3", "12 3 3 3")
INK, FAINT, GREY = "#222222", "#E4E4E4", "#6A6A6A"
CHARACTER = 6.7  # the mean width of a character at 12 px, for placing the legend
TAG = re.compile(r"(<[^>]*>)")
NUMBER = re.compile(r"(?<![#\w.])-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Curve:
    """One line in both panels.

    Attributes:
        name: what the legend says.
        along: places on the axis, increasing.
        value: the value at each place.
        slope: its gradient at each place.
    """

    name: str
    along: Sequence[float]
    value: Sequence[float]
    slope: Sequence[float]


@dataclass(frozen=True)
class Axis:
    """A stretch of numbers, and where it lies in the picture, in pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of a number."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """Round numbers on the axis, at most `most` + 1 of them."""
        rough = (self.high - self.low) / most
        size = 10.0 ** floor(log10(rough))
        step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * 0.999)
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [round(number * step, 10) for number in range(first, last + 1)]


def draw(curves: Sequence[Curve], *, title: str, along: str, start: float | None = None) -> str:
    """The picture.

    Args:
        curves: at most four.
        title: for readers who cannot see it.
        along: what the axis is, with its unit.
        start: the place where policy and reference are equal, if the axis has one.

    Returns:
        an SVG document.
    """
    rows = _rows([curve.name for curve in curves])
    top = TOP + 20 * len(rows) + 26
    height = top + PANEL + BOTTOM
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="{INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#FFFFFF"/>',
        *_legend(rows),
    ]
    for left, name, part in zip(LEFTS, ("loss", "gradient"), ("value", "slope"), strict=True):
        across = Axis(curves[0].along[0], curves[0].along[-1], left, left + ACROSS)
        low, high = _range([number for curve in curves for number in getattr(curve, part)])
        up = Axis(low, high, top + PANEL, top)
        out += _frame(across, up, name=name, along=along, start=start, says_start=part == "value")
        for number, curve in enumerate(curves):
            places = zip(curve.along, getattr(curve, part), strict=True)
            points = " ".join(f"{_n(across.at(x))},{_n(up.at(y))}" for x, y in places)
            out.append(
                f'<polyline points="{points}" fill="none" stroke-width="2" stroke-linejoin="round"{_stroke(number)}/>'
            )
    return "\n".join([*out, "</svg>"]) + "\n"


def same_picture(one: str, other: str, *, within: float = 0.25) -> bool:
    """Whether two pictures say the same and no number of theirs differs by more than `within` pixels.

    Another version of torch may round a curve otherwise; a changed formula moves it.
    """
    left, right = TAG.split(one), TAG.split(other)
    # Tags stand at odd places; what is between them is text, of which a number is a letter like others.
    if left[::2] != right[::2] or [NUMBER.sub("", tag) for tag in left] != [NUMBER.sub("", tag) for tag in right]:
        return False
    numbers = (NUMBER.findall("".join(tags[1::2])) for tags in (left, right))
    return all(abs(float(a) - float(b)) <= within for a, b in zip(*numbers, strict=True))


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _stroke(number: int) -> str:
    dash = f' stroke-dasharray="{DASHES[number]}"' if DASHES[number] else ""
    return f' stroke="{COLOURS[number]}"{dash}'


def _rows(names: Sequence[str]) -> list[list[tuple[int, float, str]]]:
    """The legend in rows that fit: number, left edge and name of each entry."""
    rows: list[list[tuple[int, float, str]]] = [[]]
    left = LEFTS[0]
    for number, name in enumerate(names):
        wide = 34 + CHARACTER * len(name) + 24
        if rows[-1] and left + wide > WIDTH - 4:
            rows.append([])
            left = LEFTS[0]
        rows[-1].append((number, left, name))
        left += wide
    return rows


def _legend(rows: Sequence[Sequence[tuple[int, float, str]]]) -> Iterable[str]:
    for row, entries in enumerate(rows):
        y = TOP + 20 * row
        for number, left, name in entries:
            yield (
                f'<line x1="{_n(left)}" y1="{y}" x2="{_n(left + 28)}" y2="{y}" stroke-width="2.5"{_stroke(number)}/>'
                f'<text x="{_n(left + 34)}" y="{y + 4}">{escape(name)}</text>'
            )


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The stretch to show: all values, 0 where it is near, and a little air."""
    low, high = min(values), max(values)
    span = high - low
    if 0 < low <= 0.6 * span:
        low = 0.0
    if 0 > high >= -0.6 * span:
        high = 0.0
    if high - low <= 1e-9 * max(abs(low), abs(high), 1.0):  # a flat line
        low, high = min(low, 0.0), max(high, 0.0)
        if low == high:
            low, high = -1.0, 1.0
    air = 0.06 * (high - low)
    return low - air, high + air


def _frame(across: Axis, up: Axis, *, name: str, along: str, start: float | None, says_start: bool) -> Iterable[str]:
    left, right, bottom, top = _n(across.start), _n(across.end), _n(up.start), _n(up.end)
    yield f'<text x="{left}" y="{_n(up.end - 9)}" font-weight="bold">{name}</text>'
    for tick in up.ticks(6):
        y = _n(up.at(tick))
        colour = "#9A9A9A" if tick == 0 else FAINT
        yield f'<line x1="{left}" y1="{y}" x2="{right}" y2="{y}" stroke="{colour}"/>'
        yield f'<text x="{_n(across.start - 7)}" y="{_n(up.at(tick) + 4)}" text-anchor="end">{_label(tick)}</text>'
    for tick in across.ticks(8):
        x = _n(across.at(tick))
        yield f'<line x1="{x}" y1="{bottom}" x2="{x}" y2="{_n(up.start + 4)}" stroke="#9A9A9A"/>'
        yield f'<text x="{x}" y="{_n(up.start + 18)}" text-anchor="middle">{_label(tick)}</text>'
    if start is not None:
        x = _n(across.at(start))
        yield f'<line x1="{x}" y1="{top}" x2="{x}" y2="{bottom}" stroke="#9A9A9A" stroke-dasharray="1 3"/>'
        if says_start:
            anchor = f'x="{x}" y="{_n(up.end - 9)}" text-anchor="middle" font-size="11" fill="{GREY}"'
            yield f"<text {anchor}>policy = reference</text>"
    middle = _n((across.start + across.end) / 2)
    yield f'<text x="{middle}" y="{_n(up.start + 37)}" text-anchor="middle">{escape(along)}</text>'


def _label(tick: float) -> str:
    return f"{tick:g}".replace("-", "\N{MINUS SIGN}")
