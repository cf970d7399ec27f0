"""Intervals drawn in the terminal: one line per estimate, on an axis that all of them share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_LABEL = 32  # characters of a label
LEAST_AXIS = 20  # characters of the axis, however narrow the terminal is
WIDEST = 120  # characters of a line
UNICODE, ASCII = "├─●┤│┊", "|-o|||"


@dataclass(frozen=True)
class Bar:
    """An estimate with its interval.

    Args:
        label: what it is of.
        estimate: the estimate.
        low: lower bound; NaN if there is no interval.
        high: upper bound.
        text: the estimate as text.
    """

    label: str
    estimate: float
    low: float
    high: float
    text: str


def plotted(
    bars: Sequence[Bar], width: int, *, zero: bool = False, margin: float = math.nan, ascii_only: bool = False
) -> list[str]:
    """The lines of a plot; none without an estimate.

    Args:
        bars: from top to bottom.
        width: of the terminal, characters; no line is wider.
        zero: whether 0 is on the axis, with a line there.
        margin: a difference that counts as none is marked on both sides of 0; NaN: nothing is marked.
        ascii_only: whether the terminal shows nothing but ASCII.
    """
    shown = [bar for bar in bars if math.isfinite(bar.estimate)]
    if not shown:
        return []
    label = min(max(len(bar.label) for bar in shown), MOST_LABEL)
    text = max(len(bar.text) for bar in shown)
    axis = _Axis.of(shown, max(LEAST_AXIS, min(width, WIDEST) - label - text - 4), zero)
    marks = {axis.place(0.0): 4} if zero else {}
    if zero and math.isfinite(margin):
        marks |= {axis.place(value): 5 for value in (-margin, margin) if axis.low <= value <= axis.high}
    signs = ASCII if ascii_only else UNICODE
    lines = [
        f"{_cut(bar.label, label, ascii_only):<{label}}  {bar.text:>{text}}  {axis.line(bar, marks, signs)}".rstrip()
        for bar in shown
    ]
    return [*lines, " " * (label + text + 4) + axis.ticks(zero)]


def _cut(label: str, most: int, ascii_only: bool) -> str:
    if len(label) <= most:
        return label
    return f"{label[: most - 3]}..." if ascii_only else f"{label[: most - 1]}…"


@dataclass(frozen=True)
class _Axis:
    """From ``low`` at the first character to ``high`` at the last of ``length``."""

    low: float
    high: float
    length: int

    @classmethod
    def of(cls, bars: Sequence[Bar], length: int, zero: bool) -> _Axis:
        values = [value for bar in bars for value in (bar.estimate, bar.low, bar.high) if math.isfinite(value)]
        low, high = min(values + [0.0] * zero), max(values + [0.0] * zero)
        if high <= low:
            low, high = low - 1, high + 1
        return cls(low, high, length)

    def place(self, value: float) -> int:
        return round((value - self.low) / (self.high - self.low) * (self.length - 1))

    def line(self, bar: Bar, marks: dict[int, int], signs: str) -> str:
        cells = [signs[marks[place]] if place in marks else " " for place in range(self.length)]
        if math.isfinite(bar.low) and math.isfinite(bar.high):
            first, last = self.place(bar.low), self.place(bar.high)
            cells[first : last + 1] = [signs[1]] * (last - first + 1)
            cells[first], cells[last] = signs[0], signs[3]
        cells[self.place(bar.estimate)] = signs[2]
        return "".join(cells)

    def ticks(self, zero: bool) -> str:
        """The bounds of the axis below their places, and 0 below its own if there is room."""
        left, right = (f"{value:.4g}".replace("-", "−") for value in (self.low, self.high))
        cells = list(left + " " * max(1, self.length - len(left) - len(right)) + right)
        place = self.place(0.0) if zero else -1
        if 0 < place < len(cells) - 1 and all(cell == " " for cell in cells[place - 1 : place + 2]):
            cells[place] = "0"
        return "".join(cells)
