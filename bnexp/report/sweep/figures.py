"""The figures of a sweep: its points in order, parallel coordinates, importance, and the metric over each parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from bnexp.comparison.differing import short_names
from bnexp.comparison.sweep.importance import Importance
from bnexp.comparison.sweep.record import Axis, SweepRecord, Trial
from bnexp.comparison.sweep.result import best_so_far, point_name, shown
from bnexp.comparison.text import level_unit
from bnexp.config.keys import metric_unit
from bnexp.report import style
from bnexp.report.axes import Vertical, vertical
from bnexp.report.charts import Figure

BEST, WHOLE, EARLY = "among the best", "trained to the end", "stopped or diverged"
KINDS = (WHOLE, BEST, EARLY)
NUM_BEST = 3  # that are marked if none was trained again
LABELLED = 8  # values of a list that an axis names


@dataclass(frozen=True)
class _Shown:
    """A sweep, ready to be drawn.

    Args:
        record: the sweep.
        best: the numbers of the points that are marked.
        scale: what values are multiplied by: 100 for accuracies.
        axis: of the metric.
    """

    record: SweepRecord
    best: Sequence[int]
    scale: float
    axis: Vertical

    @classmethod
    def of(cls, record: SweepRecord) -> _Shown:
        confirmed = record.confirmed.numbers if record.confirmed else []
        best = confirmed or [trial.number for trial in record.ranked()[:NUM_BEST]]
        unit = metric_unit(record.metric)
        scale = 100.0 if unit == "pp" else 1.0
        values = pl.Series([scale * trial.value for trial in record.trials], dtype=pl.Float64)
        named = level_unit(record.metric, unit)
        title = f"{record.metric} ({named})".removesuffix(" ()")
        return cls(record, best, scale, vertical(title, {"": style.extent(values)}, named, loss=record.metric.endswith("loss")))

    def kind(self, trial: Trial) -> str:
        if trial.number in self.best:
            return BEST
        return WHOLE if trial.state == "finished" else EARLY

    def row(self, trial: Trial) -> dict[str, Any]:
        """What charts know of a point."""
        return {
            "point": trial.number,
            "kind": self.kind(trial),
            "value": self.scale * trial.value,
            "text": shown(trial.value, self.record.metric),
            "setting": point_name(trial),
            "state": trial.state if trial.state != "stopped" else f"stopped after epoch {max(trial.epochs)}",
        }

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [self.row(trial) for trial in self.record.trials if math.isfinite(trial.value)]


def figures(record: SweepRecord, found: Sequence[Importance]) -> dict[str, list[Figure]]:
    """Section of the report -> its figures."""
    sweep = _Shown.of(record)
    if not sweep.rows:
        return {"course": [], "parallel": [], "importance": [], "parameters": []}
    return {
        "course": [_course(sweep)],
        "parallel": [_parallel(sweep)],
        "importance": [_importance(found)] if found else [],
        "parameters": [_over(sweep, axis, k) for k, axis in enumerate(record.axes)],
    }


def _colour() -> alt.Fill:
    return alt.Fill("kind:N", title=None, scale=alt.Scale(domain=list(KINDS), range=_looks(style.COLOURS)))


def _shape() -> alt.Shape:
    return alt.Shape("kind:N", title=None, scale=alt.Scale(domain=list(KINDS), range=_looks(style.SHAPES)))


def _looks(values: Sequence[Any]) -> list[Any]:
    """The looks of ``KINDS``; the grey of the last one says that it is not comparable."""
    return [values[0], values[1], values[6]]


def _tooltip() -> list[alt.Tooltip]:
    named = (("point", "point"), ("setting", "setting"), ("text", "value"), ("state", "state"))
    return [alt.Tooltip(f"{name}:N", title=title) for name, title in named]


def _course(sweep: _Shown) -> Figure:
    """The value of each point in the order in which points were chosen, and the best so far."""
    record, y = sweep.record, sweep.axis
    so_far = [
        {"point": trial.number, "best": sweep.scale * value}
        for trial, value in zip(record.trials, best_so_far(record), strict=True)
    ]
    so_far = [row for row in so_far if math.isfinite(row["best"])]
    ticks = style.epoch_ticks(pl.Series([trial.number for trial in record.trials]))
    x = alt.X(
        "point:Q", title="point", axis=alt.Axis(values=ticks, format="d", grid=False), scale=alt.Scale(nice=False, padding=8)
    )
    line = y.errors_of(alt.Chart(style.data(so_far)), "best").mark_line(
        interpolate="step-after", strokeWidth=2, color=style.COLOURS[1]
    )
    dots = y.errors_of(alt.Chart(style.data(sweep.rows)), "value").mark_point(filled=True, size=60, opacity=0.9)
    layers = alt.layer(
        line.encode(x, y.at("best")),
        dots.encode(x, y.at("value"), _colour(), _shape(), tooltip=_tooltip()),
    )
    best = record.ranked()[0] if record.ranked() else None
    words = f"{record.metric} of {len(sweep.rows)} points in the order in which they were tried"
    if best:
        words += f"; the best is point {best.number} with {shown(best.value, record.metric)} ({point_name(best)})"
    return Figure("course", style.finish(layers, _title("The points in order", y), 280), f"{words}.")


def _title(text: str, y: Vertical) -> str | alt.TitleParams:
    return alt.TitleParams(text, subtitle=y.note) if y.note else text


def _parallel(sweep: _Shown) -> Figure:
    """One line per point through its parameters to its value."""
    record = sweep.record
    called = short_names([axis.name for axis in record.axes])
    places = [_Place.of(axis, called[axis.name], [t.params[axis.name] for t in record.trials]) for axis in record.axes]
    known = [trial for trial in record.trials if math.isfinite(trial.value)]
    values = [sweep.scale * trial.value for trial in known]
    metric = _Place.between(record.metric, values, log=False)
    names = [place.name for place in (*places, metric)]
    rows = []
    for trial, value in zip(known, values, strict=True):
        heights = [place.at(trial.params[axis.name]) for place, axis in zip(places, record.axes, strict=True)]
        for name, height in zip(names, [*heights, metric.at(value)], strict=True):
            rows.append(sweep.row(trial) | {"axis": name, "height": height})
    marks = [
        {"axis": place.name, "height": height, "label": label} for place in (*places, metric) for label, height in place.labels
    ]
    x = alt.X("axis:N", sort=names, title=None, axis=alt.Axis(labelAngle=0, orient="top", domain=False, ticks=False, grid=True))
    y = alt.Y("height:Q", axis=None, scale=alt.Scale(domain=[-0.04, 1.04], nice=False))
    stroke = alt.Stroke("kind:N", title=None, scale=alt.Scale(domain=list(KINDS), range=_looks(style.COLOURS)))
    dash = alt.StrokeDash("kind:N", title=None, scale=alt.Scale(domain=list(KINDS), range=[[1, 0], [1, 0], [4, 4]]))
    base = alt.Chart(style.data(rows)).encode(x, y, stroke, dash, alt.Detail("point:N"), tooltip=_tooltip())
    layers = alt.layer(
        base.transform_filter(f"datum.kind != '{BEST}'").mark_line(strokeWidth=1.4, opacity=0.55),
        base.transform_filter(f"datum.kind == '{BEST}'").mark_line(strokeWidth=2.6, opacity=1),
        alt.Chart(style.data(marks))
        .mark_text(align="left", dx=6, fontSize=11, fill=style.INK)
        .encode(x, y, alt.Text("label:N"))
        .properties(name="cells_light"),
    )
    best = "; ".join(f"{point_name(trial)} to {shown(trial.value, record.metric)}" for trial in record.ranked()[:NUM_BEST])
    words = f"Parallel coordinates of {len(known)} points: one line per point through {', '.join(names)}. The best are {best}."
    return Figure("parallel", style.finish(layers, "Parameters and result of each point", 320, "stroke"), words)


@dataclass(frozen=True)
class _Place:
    """An axis of the parallel coordinates: value -> height from 0 to 1.

    Args:
        name: of the axis.
        low: the smallest number; of a list 0.
        high: the largest number; of a list its last place.
        log: whether numbers are placed by their logarithms.
        listed: the values of a list, as text; empty for numbers.
        named: the numbers that have a label; empty: the ends and the middle.
    """

    name: str
    low: float
    high: float
    log: bool
    listed: tuple[str, ...] = ()
    named: tuple[float, ...] = ()

    @classmethod
    def of(cls, axis: Axis, name: str, values: Sequence[Any]) -> _Place:
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) == len(values) and len(set(numbers)) > 1:
            spread = min(numbers) > 0 and max(numbers) >= 10 * min(numbers)
            few = tuple(sorted(set(numbers))) if axis.values and len(set(numbers)) <= LABELLED else ()
            return replace(cls.between(name, numbers, log=axis.is_log or spread), named=few)
        listed = tuple(dict.fromkeys(map(str, axis.values or values)))
        return cls(name, 0, len(listed) - 1, False, listed)

    @classmethod
    def between(cls, name: str, values: Sequence[float], *, log: bool) -> _Place:
        low, high = min(values), max(values)
        return cls(name, low, high, log and low > 0)

    def at(self, value: Any) -> float:
        """The height of a value."""
        number = float(self.listed.index(str(value))) if self.listed else float(value)
        low, high = self.low, self.high
        if self.log:
            number, low, high = np.log([number, low, high]).tolist()
        return 0.5 if high == low else (number - low) / (high - low)

    @property
    def labels(self) -> list[tuple[str, float]]:
        """Texts beside the axis, with their heights."""
        if self.listed:
            step = math.ceil(len(self.listed) / LABELLED)
            return [(text, self.at(text)) for text in self.listed[::step]]
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return [(f"{value:.3g}", self.at(value)) for value in self.named or dict.fromkeys((self.low, middle, self.high))]


def _importance(found: Sequence[Importance]) -> Figure:
    """Bars, with a tick at what chance alone reaches."""
    rows = [
        {"name": item.name, "share": 100 * item.share, "chance": 100 * item.chance, "end": 100 * max(item.share, item.chance)}
        | {"text": f"{100 * item.share:.0f} %", "best": item.best}
        for item in found
    ]
    order = [item.name for item in found]
    title = "share of the differences between points (%)"
    scale = alt.Scale(domain=[0, 105], nice=False)
    y = alt.Y("name:N", sort=order, title=None, axis=alt.Axis(domain=False, ticks=False, grid=False, labelLimit=0))
    tooltip = [alt.Tooltip("name:N", title="parameter"), alt.Tooltip("text:N", title="share")]
    tooltip += [alt.Tooltip("chance:Q", title="chance reaches (%)", format=".0f"), alt.Tooltip("best:N", title="best at")]
    base = alt.Chart(style.data(rows)).encode(y)
    axis = alt.Axis(tickCount=5)
    layers = alt.layer(
        base.mark_bar(color=style.COLOURS[0], height={"band": 0.55}).encode(
            alt.X("share:Q", title=title, scale=scale, axis=axis), tooltip=tooltip
        ),
        base.mark_tick(color=style.COLOURS[1], thickness=2.5, size=24).encode(alt.X("chance:Q", title=title, scale=scale)),
        base.mark_text(align="left", dx=6, fill=style.INK)
        .encode(alt.X("end:Q", title=title, scale=scale), alt.Text("text:N"))
        .properties(name="cells_light"),
    )
    words = "; ".join(f"{item.name} {100 * item.share:.0f} % (chance up to {100 * item.chance:.0f} %)" for item in found)
    chart = style.finish(layers, "How much each parameter matters", 40 * max(len(rows), 2))
    return Figure("importance", chart, f"Importance of the parameters: {words}.")


def _over(sweep: _Shown, axis: Axis, number: int) -> Figure:
    """The metric over one parameter, one point each."""
    record, y = sweep.record, sweep.axis
    place = _Place.of(axis, axis.name, [trial.params[axis.name] for trial in record.trials])
    known = [trial for trial in record.trials if math.isfinite(trial.value)]
    rows = [sweep.row(trial) | {"x": trial.params[axis.name]} for trial in known]
    if place.listed:
        rows = [row | {"x": str(row["x"])} for row in rows]
        x: Any = alt.X("x:N", title=axis.name, sort=list(place.listed), axis=alt.Axis(labelAngle=0, grid=False))
    else:
        scale = alt.Scale(type="log", nice=False, padding=10) if place.log else alt.Scale(nice=False, zero=False, padding=10)
        ticks = alt.Axis(labelExpr="format(datum.value, '.4~g')", grid=False, labelOverlap="greedy", **_ticks(place))
        x = alt.X("x:Q", title=axis.name, axis=ticks, scale=scale)
    dots = y.errors_of(alt.Chart(style.data(rows)), "value").mark_point(filled=True, size=60, opacity=0.85)
    layers = alt.layer(dots.encode(x, y.at("value"), _colour(), _shape(), tooltip=_tooltip()))
    best = record.ranked()[0] if record.ranked() else None
    told = f"; the best point has {_said(best.params[axis.name])}" if best else ""
    words = f"{record.metric} over {axis.name}, one mark for each of {len(known)} points{told}."
    return Figure(f"over-{number}", style.finish(layers, _title(f"Over {axis.name}", y), 240), words)


def _ticks(place: _Place) -> dict[str, Any]:
    """Few ticks: of a logarithmic axis 1 and 3 times powers of ten."""
    if not place.log:
        return {"tickCount": 6}
    powers = range(math.floor(math.log10(place.low)), math.ceil(math.log10(place.high)) + 1)
    return {"values": [float(f"{k * 10.0**power:g}") for power in powers for k in (1, 3)]}


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
