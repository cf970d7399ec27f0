"""Vertical axes that show what differs, such as 94 against 97 %, and say so if they do not begin at 0.

An accuracy is drawn by its error on a logarithmic axis if the largest error is more than five times the smallest. So epochs
near guessing do not press the last ones flat, and nothing is cut off. All other axes end at round numbers close to the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import altair as alt

WIDE = 5  # from this ratio of the largest to the smallest value on, losses and errors have a logarithmic axis
ERRORS = (*range(100, 10, -10), *(k * 10.0**power for power in (0, -1, -2) for k in (10, 5, 2)), 0.01, 0.0)  # its ticks, %
ACCURACY = (0.0, 100.0)
Ends = tuple[float, float]


@dataclass(frozen=True)
class Vertical:
    """The vertical axis that all layers of a chart share.

    Args:
        title: what it shows, with its unit.
        scale: from values to heights.
        axis: ticks and their labels.
        by_error: whether an accuracy is drawn by its error. Layers then take their columns from ``errors_of``.
        shown: level -> ends, ticks and note of the axis, for charts that show one level at a time. The note says what a reader
            would not expect of the axis; it is empty if there is nothing.
    """

    title: str
    scale: alt.Scale
    axis: alt.Axis
    by_error: bool
    shown: dict[str, dict[str, Any]] = field(repr=False)

    @property
    def note(self) -> str:
        """The note of a chart that has no levels."""
        return str(next(iter(self.shown.values()))["note"]) if self.shown else ""

    def at(self, column: str, axis: alt.Axis | None = None) -> alt.Y:
        name = f"{column}_error" if self.by_error else column
        return alt.Y(f"{name}:Q", title=self.title, scale=self.scale, axis=axis or self.axis)

    def to(self, column: str) -> alt.Y2:
        """The other end of a band that begins ``at`` another column."""
        return alt.Y2(f"{column}_error:Q" if self.by_error else f"{column}:Q")

    def errors_of(self, chart: alt.Chart, *columns: str) -> alt.Chart:
        """``chart`` with the columns that ``at`` draws."""
        made = {f"{column}_error": f"100 - datum.{column}" for column in columns if self.by_error}
        return chart.transform_calculate(**made) if made else chart


def vertical(title: str, ends: Mapping[str, Ends], unit: str, *, loss: bool = False, level: str | None = None) -> Vertical:
    """The axis for values of one unit.

    Args:
        title: what it shows.
        ends: level -> the smallest and largest value; of a chart without levels, one entry with an empty name.
        unit: ``%`` for an accuracy, which lies between 0 and 100.
        loss: whether the values are losses, whose axis may be logarithmic.
        level: the level that is shown at first; None for a chart whose axis does not change.
    """
    least, greatest = min(low for low, _ in ends.values()), max(high for _, high in ends.values())
    if unit == "%":
        least, greatest = max(least, 0.0), min(greatest, 100.0)
        ends = {name: (min(max(low, 0.0), 100.0), max(min(high, 100.0), 0.0)) for name, (low, high) in ends.items()}
        if 100 - least > WIDE * (100 - greatest):
            return _by_error(title, ends, level)
    if loss and 0 < WIDE * least < greatest:
        note = {name: {"note": "The axis is logarithmic."} for name in ends}
        return Vertical(title, alt.Scale(type="log", nice=False), alt.Axis(tickCount=5), False, note)
    shown = {name: near(*pair, unit) for name, pair in ends.items()}
    return Vertical(title, _scale(shown, level, zero=False), _ticks(shown, level), False, shown)


def near(low: float, high: float, unit: str) -> dict[str, Any]:
    """The ``low`` and ``high`` ends of an axis at round numbers close to the data, ``ticks`` between them, and a ``note``.

    Args:
        low: the smallest value.
        high: the largest value.
        unit: ``%`` for an accuracy, whose axis ends at 0 and 100.
    """
    limits = ACCURACY if unit == "%" else (-math.inf, math.inf)
    length = (high - low) or max(abs(high), 1.0) / 10
    step, fine = round_step(length, 5), round_step(length, 10)
    first, last = max(math.floor(low / fine) * fine, limits[0]), min(math.ceil(high / fine) * fine, limits[1])
    if first == last:
        first, last = max(first - fine, limits[0]), min(last + fine, limits[1])
    inside = range(math.ceil(first / step - 1e-9), math.floor(last / step + 1e-9) + 1)
    ticks = [_plain(k * step) for k in inside]
    note = f"The axis begins at {f'{_plain(first):g} {unit}'.rstrip()}, not at 0." if first > 0 else ""
    return {"low": _plain(first), "high": _plain(last), "ticks": ticks, "note": note}


def _plain(value: float) -> float:
    """Without the last digits, in which sums of decimal fractions are wrong."""
    return float(f"{value:.10g}")


def round_step(length: float, count: int) -> float:
    """The round number (1, 2 or 5 times a power of ten) that divides a length into at most ``count`` parts."""
    power = 10.0 ** math.floor(math.log10(length / count))
    return next(k * power for k in (1, 2, 5, 10) if k * power * count >= length * (1 - 1e-9))


def _by_error(title: str, ends: Mapping[str, Ends], level: str | None) -> Vertical:
    """An accuracy by its error, with the accuracy at the ticks. The scale has a place for an error of 0."""
    errors = {name: (100 - high, 100 - low) for name, (low, high) in ends.items()}
    positive = [error for pair in errors.values() for error in pair if error > 0]
    shown = {}
    for name, (low, high) in errors.items():
        first, last = low / 1.15, min(1.1 * high, 100.0) or 1.0
        ticks = [tick for tick in ERRORS if first <= tick <= last]
        shown[name] = {"low": first, "high": last, "ticks": ticks, "note": "The error has a logarithmic scale."}
    constant = max(min(positive, default=1.0) / 2, 0.005)
    scale = _scale(shown, level, type="symlog", constant=constant, reverse=True)
    return Vertical(title, scale, _ticks(shown, level, labelExpr="format(100 - datum.value, '.5~g')"), True, shown)


def _scale(shown: Mapping[str, Any], level: str | None, **how: Any) -> alt.Scale:
    """A scale with the ends of each level, or of all."""
    if level is not None:
        low, high = (alt.ExprRef(f"axes[level].{end}") for end in ("low", "high"))
        return alt.Scale(domainMin=low, domainMax=high, nice=False, clamp=True, **how)
    (only,) = shown.values()
    return alt.Scale(domain=[only["low"], only["high"]], nice=False, clamp=True, **how)


def _ticks(shown: Mapping[str, Any], level: str | None, **how: Any) -> alt.Axis:
    values = alt.ExprRef("axes[level].ticks") if level is not None else next(iter(shown.values()))["ticks"]
    return alt.Axis(values=values, labelOverlap="greedy", **how)
