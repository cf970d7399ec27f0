"""What was recorded by epoch, drawn: learning curves and percentiles, at one level of the factors at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

from bnexp.comparison.text import level_unit
from bnexp.config.keys import metric_unit
from bnexp.report import style
from bnexp.report.axes import Ends, Vertical, vertical
from bnexp.report.courses import CURVES


@dataclass(frozen=True)
class _Course:
    """What is drawn by epoch.

    Args:
        frame: ``arm level epoch n mean low high``.
        name: above the chart.
        title: of the vertical axis.
        bounds: what low and high are.
        unit: ``%`` for an accuracy.
        loss: whether it is a loss.
    """

    frame: pl.DataFrame
    name: str
    title: str
    bounds: tuple[str, str]
    unit: str = ""
    loss: bool = False


def learning_curve(summary: pl.DataFrame, metric: str, arms: Sequence[str], level: str) -> alt.LayerChart:
    """A recorded metric by epoch: a line for the mean over seeds, a band from the lowest to the highest seed.

    Args:
        summary: of ``courses.summarise``.
        metric: one of those in ``summary``.
        arms: all arms of the study, in the order of their colours.
        level: the level that is shown at first.
    """
    frame = summary.filter(pl.col("metric") == metric).drop("metric")
    unit = level_unit(metric, metric_unit(metric))
    if metric in CURVES:
        title = "cross entropy (nats)" if metric.endswith("loss") else "accuracy (%)"
    else:
        title = f"{metric} ({unit})" if unit else metric
    seeds = ("lowest seed", "highest seed")
    course = _Course(frame, CURVES.get(metric, metric), title, seeds, unit, loss=metric.endswith("loss"))
    return _drawn(course, arms, level)


def percentiles(summary: pl.DataFrame, layer: str, arms: Sequence[str], level: str) -> alt.LayerChart:
    """Pre-activations of one layer by epoch: a line for the median, a band from the 15th to the 85th percentile.

    Each is a mean over seeds of ``activations/<layer>/p15``, ``p50``, ``p85``; as Ioffe & Szegedy 2015, figure 1. Arguments as
    ``learning_curve``.
    """
    own = [summary.filter(pl.col("metric") == f"activations/{layer}/{name}") for name in ("p50", "p15", "p85")]
    keys = ["arm", "level", "epoch"]
    frame = own[0].select(*keys, "n", "mean")
    for part, name in zip(own[1:], ("low", "high"), strict=True):
        frame = frame.join(part.select(*keys, pl.col("mean").alias(name)), on=keys, maintain_order="left")
    return _drawn(_Course(frame, f"Pre-activations of {layer}", "pre-activation", ("15 %", "85 %")), arms, level)


def _drawn(course: _Course, arms: Sequence[str], level: str) -> alt.LayerChart:
    """A course as lines with bands."""
    frame = course.frame
    y = vertical(course.title, _ends(frame), course.unit, loss=course.loss, level=level)
    hover = alt.selection_point(nearest=True, on="pointerover", fields=["epoch", "arm"], empty=False)
    axis = alt.Axis(values=style.epoch_ticks(frame["epoch"]), format="d", grid=False)
    base = alt.Chart(style.data(frame)).encode(alt.X("epoch:Q", title="epoch", axis=axis, scale=alt.Scale(nice=False)))
    base = y.errors_of(
        base.transform_filter("datum.level === level && indexof(hidden_arms, datum.arm) < 0"), "mean", "low", "high"
    )
    band = base.mark_area(opacity=0.16).encode(y.at("low"), y.to("high"), style.fill(arms))
    line = base.mark_line(strokeWidth=2).encode(y.at("mean"), style.stroke(arms), style.dash(arms))
    points = base.mark_point(filled=True, size=70).encode(
        y.at("mean"),
        style.fill(arms),
        alt.OpacityValue(**alt.condition(hover, alt.value(1), alt.value(0))),
        _tooltip(course.title, *course.bounds),
    )
    shown = _shown(y)
    params = [*style.arm_params(), alt.param(name="level", value=level).param, alt.param(name="axes", value=shown).param]
    layers = alt.layer(band, line, points.add_params(hover), params=params)
    about = shown[level]["about"] if level in shown else []
    title = alt.TitleParams(course.name, subtitle=about) if about else course.name
    return style.finish(layers, title, 260, symbol="stroke")


def _ends(frame: pl.DataFrame) -> dict[str, Ends]:
    """Level -> the smallest and the largest value."""
    return {level: style.extent(own["low"], own["high"]) for (level,), own in frame.group_by("level", maintain_order=True)}


def _shown(y: Vertical) -> dict[str, Any]:
    """Level -> what the axis looks like, and the lines below the title: the level, and what is unusual of the axis."""
    return {
        level: own | {"about": [line for line in (f"At {level}" if level else "", own["note"]) if line]}
        for level, own in y.shown.items()
    }


def _tooltip(mean: str, low: str, high: str) -> alt.TooltipValue:
    """What the nearest point shows. The arguments are the titles of its values.

    The pointer meets the Voronoi cell around the point. Vega-Lite 6.4 then reads numbers from the point, but texts like
    ``arm`` from the cell, which does not have them. Hence an expression.
    """
    point = "(datum.datum || datum)"
    shown = {"arm": f"{point}.arm", "epoch": f"{point}.epoch"}
    shown |= {title: f"format({point}.{name}, '.4~g')" for title, name in ((mean, "mean"), (low, "low"), (high, "high"))}
    shown |= {"seeds": f"{point}.n"}
    return alt.TooltipValue(
        alt.ExprRef("{" + ", ".join(f"{json.dumps(title)}: {value}" for title, value in shown.items()) + "}")
    )
