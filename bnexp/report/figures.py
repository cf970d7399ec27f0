"""Charts as Vega-Altair specifications, drawn alike by HTML, PNG and W&B.

Charts with arms have two parameters that a page can set: ``hidden_arms`` (a list) and ``level`` (the level that is shown).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import polars as pl
from numpy.typing import NDArray

from bnexp.comparison.result import Comparison
from bnexp.comparison.text import axis_title, interval, level_unit, quantity
from bnexp.report import style
from bnexp.report.axes import Ends, Vertical, vertical
from bnexp.report.factor import Factor

INTERVAL = "95 % interval"


def difference_plot(
    differences: pl.DataFrame, comparisons: Sequence[Comparison], arms: Sequence[str], also: Ends | None = None
) -> alt.LayerChart:
    """Paired differences: one dot per seed, mean and 95 % interval, zero and the margin.

    Args:
        differences: one row per comparison and seed, of ``sections.paired_differences``.
        comparisons: at least one; all share one measure.
        arms: all arms of the study, in the order of their colours.
        also: values that the axis covers besides, such as those of a chart beside it.
    """
    first = comparisons[0]
    rows, dots, names = _difference_rows(differences, comparisons)
    band = [{"low": -first.margin, "high": first.margin}] if np.isfinite(first.margin) else []
    ends = [*difference_ends(comparisons), *(d["difference"] for d in dots), *(also or ())]
    scale = alt.Scale(domain=_padded(style.extent(pl.Series(ends)), 0.06), nice=False, zero=False)

    def x(column: str) -> alt.X:
        return alt.X(f"{column}:Q", title=axis_title(first.unit), axis=alt.Axis(tickCount=6), scale=scale)

    y = alt.Y("row:N", sort=names, axis=style.line_axis())
    margin = alt.Chart(style.data(band)).mark_rect(color=style.QUIET, opacity=0.12)
    zero = alt.Chart(style.data([{"zero": 0}])).mark_rule(color=style.QUIET)
    spread = alt.Chart(style.data(dots)).mark_point(filled=True, size=34, opacity=0.65, yOffset=-3)
    means = alt.Chart(style.data(rows))
    mean_point = means.mark_point(filled=True, size=90, opacity=1, yOffset=11)
    fill, shape = style.fill(arms), style.shape(arms)
    pair, text = alt.Tooltip("pair:N"), alt.Tooltip("text:N", title="difference")
    of_mean = [pair, text, alt.Tooltip("interval:N", title=INTERVAL), alt.Tooltip("n:Q")]
    layers = alt.layer(
        margin.encode(x("low"), alt.X2("high:Q")),
        zero.encode(x("zero")),
        spread.encode(x("difference"), y, fill, shape, tooltip=[pair, alt.Tooltip("seed:Q"), text]),
        means.mark_rule(strokeWidth=2.5, yOffset=11).encode(x("low"), alt.X2("high:Q"), y, style.stroke(arms), tooltip=of_mean),
        mean_point.encode(x("mean"), y, fill, shape, tooltip=of_mean),
    )
    return style.finish(layers, f"Paired differences in {first.measure}", 64 * len(rows))


def difference_ends(comparisons: Sequence[Comparison]) -> Ends:
    """The smallest and the largest value that a chart of paired differences shows: 0, margin, intervals and seeds."""
    values = [0.0, *(value for c in comparisons for value in (c.low, c.high, -c.margin, c.margin, *c.differences))]
    return style.extent(pl.Series(values, dtype=pl.Float64))


def _padded(ends: tuple[float, float], share: float) -> list[float]:
    """The ends of an axis, each moved outwards by a share of its length; by 1 if the length is zero."""
    low, high = ends
    pad = share * (high - low) or 1.0
    return [low - pad, high + pad]


def _difference_rows(
    differences: pl.DataFrame, comparisons: Sequence[Comparison]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """One row per comparison, one row per comparison and seed, and the labels of the comparisons in order."""
    labels = {
        (c.arm, c.baseline, c.level): "\n".join([f"{c.arm} −", c.baseline, *filter(None, [c.level])]) for c in comparisons
    }
    known = {key: {"row": label, "pair": label.replace(" −\n", " − ").replace("\n", ", ")} for key, label in labels.items()}
    unit = comparisons[0].unit
    rows = [
        known[c.arm, c.baseline, c.level]
        | {"arm": c.arm, "n": c.n, "mean": c.difference, "low": c.low, "high": c.high}
        | {"text": quantity(c.difference, unit, sign=True), "interval": interval(c.low, c.high, unit) or "–"}
        for c in comparisons
    ]
    dots = [
        known[key]
        | {name: d[name] for name in ("arm", "seed", "difference")}
        | {"text": quantity(d["difference"], unit, sign=True)}
        for d in differences.to_dicts()
        if d["measure"] == comparisons[0].measure and (key := (d["arm"], d["baseline"], d["level"])) in known
    ]
    return rows, dots, list(labels.values())


def factor_plot(
    factor: Factor, panel: str, arms: Sequence[str], metric: str, unit: str, also: Ends | None = None
) -> alt.LayerChart:
    """The study's metric over one factor: mean and 95 % interval of each arm.

    A numeric factor has lines and bands, others have one interval per level and arm. Differences from a baseline have a rule
    at zero.

    Args:
        factor: the values to draw.
        panel: the levels of the other factors, one of ``factor.panels``.
        arms: all arms of the study, in the order of their colours.
        metric: name of the study's metric.
        unit: unit of the values; accuracies (pp) are drawn in per cent, differences of them in pp.
        also: values that the vertical axis covers besides, such as those of a chart beside it.
    """
    y = _factor_axis(factor, metric, unit, also)
    frame = factor.frame.filter(pl.col("panel") == panel).drop("panel")
    shown = [interval(row["low"], row["high"], unit) or "–" for row in frame.iter_rows(named=True)]
    frame = frame.with_columns(interval=pl.Series(shown, dtype=pl.String))
    layers = (_numeric_layers if factor.numeric else _named_layers)(factor, frame, arms, y)
    if factor.baseline:
        rule = alt.Chart(style.data([{"zero": 0.0}])).mark_rule(color=style.QUIET)
        layers.insert(0, rule.encode(y.at("zero")))
    what = f"{metric}, difference from {factor.baseline}," if factor.baseline else metric
    name = f"{what} over {factor.name}" + (f", {panel}" if panel else "")
    heading = alt.TitleParams(name, subtitle=y.note) if y.note else name
    return style.finish(alt.layer(*layers, params=style.arm_params()), heading, 300)


def factor_ends(factor: Factor) -> Ends:
    """The smallest and the largest value that charts of a factor show, with their intervals."""
    zero = pl.Series([0.0] if factor.baseline else [], dtype=pl.Float64)
    return style.extent(*(factor.frame[column] for column in ("mean", "low", "high")), zero)


def _factor_axis(factor: Factor, metric: str, unit: str, also: Ends | None) -> Vertical:
    shown_unit = unit if factor.baseline else level_unit(metric, unit)
    title = f"{'difference in ' if factor.baseline else ''}{metric} ({shown_unit})".removesuffix(" ()")
    own = factor_ends(factor)
    both = own if also is None else (min(own[0], also[0]), max(own[1], also[1]))
    return vertical(title, {"": both}, shown_unit)


def _numeric_layers(factor: Factor, frame: pl.DataFrame, arms: Sequence[str], y: Vertical) -> list[alt.Chart]:
    """Bands, lines and points over the numbers of a factor."""
    base = _shown_arms(frame, y)
    axis = alt.Axis(values=sorted(set(frame["x"])), format="~g", grid=False, labelOverlap="greedy")
    x = alt.X("x:Q", title=factor.name, axis=axis, scale=alt.Scale(type="log" if factor.log else "linear", nice=False))
    band = base.mark_area(opacity=0.16)
    line = base.mark_line(strokeWidth=2)
    point = base.mark_point(filled=True, size=80, opacity=1)
    fill, mean, tooltip = style.fill(arms), y.at("mean"), _factor_tooltip(factor)
    return [
        band.encode(x, y.at("low"), y.to("high"), fill),
        line.encode(x, mean, style.stroke(arms), style.dash(arms)),
        point.encode(x, mean, fill, style.shape(arms), tooltip=tooltip),
    ]


def _named_layers(factor: Factor, frame: pl.DataFrame, arms: Sequence[str], y: Vertical) -> list[alt.Chart]:
    """Intervals and points, the arms of a level side by side."""
    base = _shown_arms(frame, y)
    axis, scale = alt.Axis(labelAngle=0, grid=False), alt.Scale(paddingInner=0.4)
    x = alt.X("x:N", title=factor.name, sort=list(dict.fromkeys(frame["x"])), axis=axis, scale=scale)
    offset = alt.XOffset("arm:N", sort=list(arms))
    bar = base.mark_rule(strokeWidth=2.5)
    point = base.mark_point(filled=True, size=80, opacity=1)
    tooltip = _factor_tooltip(factor)
    return [
        bar.encode(x, y.at("low"), y.to("high"), offset, style.stroke(arms), tooltip=tooltip),
        point.encode(x, y.at("mean"), offset, style.fill(arms), style.shape(arms), tooltip=tooltip),
    ]


def _shown_arms(frame: pl.DataFrame, y: Vertical) -> alt.Chart:
    chart = alt.Chart(style.data(frame)).transform_filter("indexof(hidden_arms, datum.arm) < 0")
    return y.errors_of(chart, "mean", "low", "high")


def _factor_tooltip(factor: Factor) -> list[alt.Tooltip]:
    level = alt.Tooltip("x", type="quantitative" if factor.numeric else "nominal", title=factor.name)
    mean, interval = alt.Tooltip("mean:Q", format=".4~g"), alt.Tooltip("interval:N", title=INTERVAL)
    return [alt.Tooltip("arm:N"), level, mean, interval, alt.Tooltip("n:Q"), alt.Tooltip("untrained:Q")]


def confusion_heatmap(matrix: NDArray[np.floating[Any]], class_names: Sequence[str], title: str) -> alt.LayerChart:
    """A confusion matrix. The shade of a cell is the square root of its share of the true class.

    Args:
        matrix: mean counts (K, K), one row per true class, one column per predicted class.
        class_names: of the K classes.
        title: above the chart.
    """
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1e-12)
    rows = [
        {"truth": truth, "prediction": prediction, "count": float(matrix[i, j]), "share": float(share[i, j])}
        for i, truth in enumerate(class_names)
        for j, prediction in enumerate(class_names)
    ]
    axis = alt.Axis(domain=False, ticks=False, grid=False, labelLimit=90, labelOverlap="greedy")
    flat = axis.copy()
    flat.labelAngle = 0 if max(map(len, class_names), default=0) <= 2 else -45
    base = alt.Chart(style.data(rows)).encode(
        alt.X("prediction:N", sort=None, title="predicted class", axis=flat),
        alt.Y("truth:N", sort=None, title="true class", axis=axis),
    )
    tooltip = [alt.Tooltip("truth:N"), alt.Tooltip("prediction:N"), alt.Tooltip("count:Q", format=",.1f", title="mean count")]
    tooltip.append(alt.Tooltip("share:Q", format=".2%", title="of the true class"))
    shade = alt.FillOpacity("share:Q", scale=alt.Scale(type="sqrt", domain=[0, 1], range=[0, 1]), legend=None)
    layers = [base.mark_rect(fill=style.COLOURS[0], stroke=None).encode(shade, tooltip=tooltip)]
    if len(class_names) <= 12:
        number = alt.Text("count:Q", format=",.0f")
        for name, test in (("cells_light", "datum.share <= 0.3 && datum.count >= 0.5"), ("cells_dark", "datum.share > 0.3")):
            ink = "#ffffff" if name == "cells_dark" else style.INK
            layers.append(base.transform_filter(test).mark_text(fontSize=10.5, fill=ink).encode(number).properties(name=name))
    return style.finish(alt.layer(*layers), title, 320)


def bar_chart(rows: list[dict[str, Any]], title: str, axis_title: str) -> alt.LayerChart:
    """Horizontal bars from zero, each with its range and a text.

    Args:
        rows: one mapping per bar, with ``name``, ``value``, ``low``, ``high`` and ``text``.
        title: above the chart.
        axis_title: what the values are.
    """
    order = [row["name"] for row in rows]
    y = alt.Y("name:N", sort=order, title=None, axis=alt.Axis(domain=False, ticks=False, grid=False, labelLimit=0))
    x = alt.X("value:Q", title=axis_title, axis=alt.Axis(tickCount=5), scale=alt.Scale(zero=True, nice=False, padding=10))
    tooltip = [alt.Tooltip("name:N"), *(alt.Tooltip(f"{key}:Q", format=".4~g", title=key) for key in ("value", "low", "high"))]
    base = alt.Chart(style.data(rows)).encode(y)
    layers = alt.layer(
        base.mark_bar(color=style.COLOURS[0], height={"band": 0.55}).encode(x, tooltip=tooltip),
        base.mark_rule(color=style.COLOURS[1], strokeWidth=2.5).encode(alt.X("low:Q", title=axis_title), alt.X2("high:Q")),
        base.mark_text(align="left", dx=6, fill=style.INK)
        .encode(alt.X("high:Q", title=axis_title), alt.Text("text:N"))
        .properties(name="cells_light"),
    )
    return style.finish(layers, title, 34 * max(len(rows), 2))
