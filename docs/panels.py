"""Two panels, one above the other, as SVG: a value and its gradient along one axis.

Written by hand, because a plotting library would be one more pinned dependency, and its bytes would change with each
version of it. Text stays text, the colours are Okabe and Ito's and each curve has a dash of its own, so that none has
to be told by its colour. The ground is white: a code host shows the figure on a dark page too. It is as narrow as a
telephone, so that nothing has to be made smaller there.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor, log10

WIDTH, PANEL, TOP, BETWEEN, BOTTOM = 400, 170, 20, 56, 50
LEFT, ACROSS = 52.0, 332.0
TEXT = 13
"""Size of all text in pixels; on a screen of 360 pixels, with the margins of a code host, 10.6 are left of it."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
DASHES = ("", "9 4", "3 3", "12 3 3 3")
INK, FAINT, GREY = "#222222", "#E4E4E4", "#6A6A6A"
CHARACTER = 6.6  # the mean width of a character of this size, for placing the legend
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
        jumps: numbers of the places at which the gradient begins anew, which no line leads to.
    """

    name: str
    along: Sequence[float]
    value: Sequence[float]
    slope: Sequence[float]
    jumps: Sequence[int] = ()


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


def draw(
    curves: Sequence[Curve],
    *,
    title: str,
    along: str,
    slope_in: str,
    value: str = "loss",
    start: float | None = None,
) -> str:
    """The picture.

    Args:
        curves: at most four.
        title: for readers who cannot see it.
        along: what the axis is, with its unit.
        slope_in: what the gradient is taken in, in words.
        value: what the upper panel shows.
        start: the place where policy and reference are equal, if the axis has one.

    Returns:
        an SVG document.
    """
    legend, rows = _legend([curve.name for curve in curves])
    upper = TOP + 20 * rows + 28
    height = upper + 2 * PANEL + BETWEEN + BOTTOM
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" font-family="Helvetica, Arial, sans-serif" font-size="{TEXT}" fill="{INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#FFFFFF"/>',
        *legend,
    ]
    across = Axis(curves[0].along[0], curves[0].along[-1], LEFT, LEFT + ACROSS)
    for top, name, part in ((upper, value, "value"), (upper + PANEL + BETWEEN, "gradient", "slope")):
        low, high = _range([number for curve in curves for number in getattr(curve, part)])
        up = Axis(low, high, top + PANEL, top)
        out += _frame(across, up, name=name, start=start)
        for number, curve in enumerate(curves):
            pixels = [
                f"{_n(across.at(x))},{_n(up.at(y))}" for x, y in zip(curve.along, getattr(curve, part), strict=True)
            ]
            edges = [0, *(curve.jumps if part == "slope" else ()), len(pixels)]
            for first, last in pairwise(edges):
                points = " ".join(pixels[first:last])
                line = f'<polyline points="{points}" fill="none" stroke-width="2" stroke-linejoin="round"'
                out.append(f"{line}{_stroke(number)}/>")
    if start is not None:
        at = f'x="{_n(across.at(start))}" y="{upper - 9}" text-anchor="middle" fill="{GREY}"'
        out.append(f"<text {at}>policy = reference</text>")
    # After the bold word, which is 57 pixels wide in Helvetica and 70 in the widest of its stand-ins.
    says = f'<text x="{_n(LEFT + 76)}" y="{upper + PANEL + BETWEEN - 9}" fill="{GREY}">'
    out.append(f"{says}slope in {escape(slope_in)}</text>")
    middle = _n(LEFT + ACROSS / 2)
    out.append(f'<text x="{middle}" y="{height - 12}" text-anchor="middle">{escape(along)}</text>')
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


def _legend(names: Sequence[str]) -> tuple[list[str], int]:
    """The entries below one another, or in two columns where they are short; and how many rows that makes."""
    widest = 36 + CHARACTER * max(map(len, names))
    columns = 2 if widest <= (WIDTH - LEFT) / 2 else 1
    out = []
    for number, name in enumerate(names):
        left, y = LEFT + number % columns * (WIDTH - LEFT) / 2, TOP + 20 * (number // columns)
        line = f'<line x1="{_n(left)}" y1="{y}" x2="{_n(left + 28)}" y2="{y}" stroke-width="2.5"{_stroke(number)}/>'
        out.append(f'{line}<text x="{_n(left + 36)}" y="{y + 4}">{escape(name)}</text>')
    return out, ceil(len(names) / columns)


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


def _frame(across: Axis, up: Axis, *, name: str, start: float | None) -> Iterable[str]:
    left, right, bottom, top = _n(across.start), _n(across.end), _n(up.start), _n(up.end)
    yield f'<text x="{left}" y="{_n(up.end - 9)}" font-weight="bold">{escape(name)}</text>'
    for tick in up.ticks(5):
        y = _n(up.at(tick))
        colour = "#9A9A9A" if tick == 0 else FAINT
        yield f'<line x1="{left}" y1="{y}" x2="{right}" y2="{y}" stroke="{colour}"/>'
        yield f'<text x="{_n(across.start - 7)}" y="{_n(up.at(tick) + 4)}" text-anchor="end">{_label(tick)}</text>'
    for tick in across.ticks(7):
        x = _n(across.at(tick))
        yield f'<line x1="{x}" y1="{bottom}" x2="{x}" y2="{_n(up.start + 4)}" stroke="#9A9A9A"/>'
        yield f'<text x="{x}" y="{_n(up.start + 18)}" text-anchor="middle">{_label(tick)}</text>'
    if start is not None:
        x = _n(across.at(start))
        yield f'<line x1="{x}" y1="{top}" x2="{x}" y2="{bottom}" stroke="#9A9A9A" stroke-dasharray="1 3"/>'


def _label(tick: float) -> str:
    return f"{tick:g}".replace("-", "\N{MINUS SIGN}")
