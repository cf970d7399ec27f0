"""Charts as Vega-Altair specifications, drawn alike by HTML, PNG and W&B.

Every arm has one colour, dash and point shape in all charts, so that no meaning hangs on colour alone. The colours are
those of Okabe and Ito (2008), the light ones darkened until they reach a contrast of 3:1 on white and on near-black.
Charts with arms have two parameters that a page can set: ``hidden_arms`` (a list) and ``level`` (shown level).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import polars as pl
from numpy.typing import NDArray

from bnexp.compare.result import Comparison
from bnexp.compare.text import axis_title, interval, quantity
from bnexp.config.keys import metric_unit
from bnexp.report.sections import CURVES, Factor

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b98000", "#3a97cb", "#808080", "#6a5acd")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (10, 4), (4, 4), (1, 3), (12, 3, 3, 3))
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
INTERVAL = "95 % interval"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
INK, QUIET, RULE = "#3d4350", "#6b7280", "#d9dce2"


def summarise(curves: pl.DataFrame) -> pl.DataFrame:
    """Curves over seeds: ``arm level metric epoch n mean low high``; the band goes from the lowest to the highest seed.

    Accuracies become per cent; everything else stays as recorded.
    """
    accuracies = [metric for metric in curves["metric"].unique() if metric_unit(metric) == "pp"]
    scale = pl.when(pl.col("metric").is_in(accuracies)).then(100.0).otherwise(1.0)
    value = pl.col("value")
    return (
        curves.with_columns(value=value * scale)
        .group_by("arm", "level", "metric", "epoch", maintain_order=True)
        .agg(n=value.len(), mean=value.mean(), low=value.min(), high=value.max())
        .sort("epoch", maintain_order=True)
    )


def learning_curve(summary: pl.DataFrame, metric: str, arms: Sequence[str], level: str) -> alt.LayerChart:
    """Any recorded metric over the epochs at ``level``: a line for the mean over seeds, a band from the lowest to the highest.

    ``summary``: of ``summarise``. A loss that falls to less than a fifth is on a logarithmic axis.
    """
    frame = summary.filter(pl.col("metric") == metric).drop("metric")
    least, greatest = _extent(frame["low"], frame["high"])
    logarithmic = metric.endswith("loss") and 0 < 5 * least < greatest
    if metric in CURVES:
        title = "cross entropy (nats)" if metric.endswith("loss") else "accuracy (%)"
    else:
        unit = metric_unit(metric).replace("pp", "%")
        title = f"{metric} ({unit})" if unit else metric
    return _course(frame, arms, level, CURVES.get(metric, metric), title, ("lowest seed", "highest seed"), logarithmic)


def percentiles(summary: pl.DataFrame, layer: str, arms: Sequence[str], level: str) -> alt.LayerChart:
    """Pre-activations of one layer over the epochs at ``level``: a line for the median, a band from 15th to 85th percentile.

    Each is a mean over seeds of ``activations/<layer>/p15``, ``p50``, ``p85``; as Ioffe & Szegedy 2015, figure 1.
    """
    own = [summary.filter(pl.col("metric") == f"activations/{layer}/{name}") for name in ("p50", "p15", "p85")]
    keys = ["arm", "level", "epoch"]
    frame = own[0].select(*keys, "n", "mean")
    for part, name in zip(own[1:], ("low", "high"), strict=True):
        frame = frame.join(part.select(*keys, pl.col("mean").alias(name)), on=keys, maintain_order="left")
    return _course(frame, arms, level, f"Pre-activations of {layer}", "pre-activation", ("15 %", "85 %"), False)


def _course(
    frame: pl.DataFrame,
    arms: Sequence[str],
    level: str,
    name: str,
    title: str,
    bounds: tuple[str, str],
    logarithmic: bool,
) -> alt.LayerChart:
    """Rows of ``arm level epoch n mean low high`` as lines with bands; ``bounds``: what low and high are."""
    scale = alt.Scale(type="log", nice=False) if logarithmic else alt.Scale(zero=False)
    hover = alt.selection_point(nearest=True, on="pointerover", fields=["epoch", "arm"], empty=False)
    axis = alt.Axis(values=_epoch_ticks(frame["epoch"]), format="d", grid=False)
    base = alt.Chart(_data(frame)).encode(alt.X("epoch:Q", title="epoch", axis=axis, scale=alt.Scale(nice=False)))
    base = base.transform_filter("datum.level === level && indexof(hidden_arms, datum.arm) < 0")
    y = alt.Y("mean:Q", title=title, scale=scale, axis=alt.Axis(tickCount=5))
    band = base.mark_area(opacity=0.16).encode(alt.Y("low:Q", title=title, scale=scale), alt.Y2("high:Q"), _fill(arms))
    line = base.mark_line(strokeWidth=2).encode(y, _stroke(arms), _dash(arms))
    points = base.mark_point(filled=True, size=70).encode(
        y, _fill(arms), opacity=alt.condition(hover, alt.value(1), alt.value(0)), tooltip=_course_tooltip(title, *bounds)
    )
    layers = alt.layer(band, line, points.add_params(hover)).add_params(*_arm_params(), alt.param(name="level", value=level))
    return _finish(layers, name, 260, symbol="stroke")


def _course_tooltip(mean: str, low: str, high: str) -> Any:
    """What the nearest point shows, its values under these titles.

    The pointer meets the Voronoi cell around the point. Of a cell Vega-Lite 6.4 itself reads numbers off the point, but texts
    like ``arm`` off the cell, where they are undefined; hence an expression.
    """
    point = "(datum.datum || datum)"
    shown = {"arm": f"{point}.arm", "epoch": f"{point}.epoch"}
    shown |= {title: f"format({point}.{name}, '.4~g')" for title, name in ((mean, "mean"), (low, "low"), (high, "high"))}
    shown |= {"seeds": f"{point}.n"}
    return alt.value(alt.ExprRef("{" + ", ".join(f"{json.dumps(title)}: {value}" for title, value in shown.items()) + "}"))


def difference_plot(differences: pl.DataFrame, comparisons: Sequence[Comparison], arms: Sequence[str]) -> alt.LayerChart:
    """Paired differences of comparisons that share a measure: a dot a seed, mean and 95 % interval, zero and the margin."""
    first = comparisons[0]
    rows, dots, names = _difference_rows(differences, comparisons)
    band = [{"low": -first.margin, "high": first.margin}] if np.isfinite(first.margin) else []
    ends = [0.0, *(d["difference"] for d in dots), *(row[key] for row in [*rows, *band] for key in ("low", "high"))]
    low, high = _extent(pl.Series(ends))
    pad = 0.06 * (high - low) or 1.0

    def x(column: str) -> alt.X:
        scale = alt.Scale(domain=[low - pad, high + pad], nice=False, zero=False)
        return alt.X(f"{column}:Q", title=axis_title(first.unit), axis=alt.Axis(tickCount=6), scale=scale)

    # A line each for arm, baseline and level, so that the names have room of their own beside the plot on a phone, too.
    lines = alt.ExprRef("split(datum.label, '\\n')")
    label = alt.Axis(title=None, domain=False, ticks=False, grid=False, labelLimit=180, labelExpr=lines.expr, labelPadding=10)
    y = alt.Y("row:N", sort=names, axis=label)
    margin = alt.Chart(_data(band)).mark_rect(color=QUIET, opacity=0.12)
    zero = alt.Chart(_data([{"zero": 0}])).mark_rule(color=QUIET)
    spread = alt.Chart(_data(dots)).mark_point(filled=True, size=34, opacity=0.65, yOffset=-3)
    means = alt.Chart(_data(rows))
    one = [alt.Tooltip("pair:N"), alt.Tooltip("seed:Q"), alt.Tooltip("text:N", title="difference")]
    shown = [one[0], one[2], alt.Tooltip("interval:N", title=INTERVAL), alt.Tooltip("n:Q")]
    layers = alt.layer(
        margin.encode(x("low"), alt.X2("high:Q")),
        zero.encode(x("zero")),
        spread.encode(x("difference"), y, _fill(arms), _shape(arms), tooltip=one),
        means.mark_rule(strokeWidth=2.5, yOffset=11).encode(x("low"), alt.X2("high:Q"), y, _stroke(arms), tooltip=shown),
        means.mark_point(filled=True, size=90, opacity=1, yOffset=11).encode(
            x("mean"), y, _fill(arms), _shape(arms), tooltip=shown
        ),
    )
    return _finish(layers, f"Paired differences in {first.measure}", 64 * len(rows))


def _difference_rows(
    differences: pl.DataFrame, comparisons: Sequence[Comparison]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """A row a comparison, a row a seed of each, and the labels of the comparisons in order."""
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


def factor_plot(factor: Factor, panel: str, arms: Sequence[str], metric: str, unit: str) -> alt.LayerChart:
    """The study's metric over one factor at one ``panel`` (levels of the other factors): mean and 95 % interval an arm.

    A numeric factor has lines and bands, on a logarithmic axis where it spans a factor of eight; others have intervals. What
    of an accuracy's interval lies outside 0 to 100 % is not drawn; tooltips and tables have all of it. Where the values are
    differences from a baseline, a rule marks zero.
    """
    limits = (0.0, 100.0) if unit == "pp" and not factor.baseline else (-np.inf, np.inf)
    whole = factor.frame.with_columns(bottom=pl.col("low").clip(*limits), top=pl.col("high").clip(*limits))
    frame = whole.filter(pl.col("panel") == panel).drop("panel")
    shown = [interval(row["low"], row["high"], unit) or "–" for row in frame.iter_rows(named=True)]
    frame = frame.with_columns(interval=pl.Series(shown, dtype=pl.String))
    title = f"{metric} ({'%' if unit == 'pp' and not factor.baseline else unit})".removesuffix(" ()")
    zero = [{"zero": 0.0}] if factor.baseline else []
    low, high = _extent(*(whole[column] for column in ("mean", "bottom", "top")), pl.Series([row["zero"] for row in zero]))
    pad = 0.05 * (high - low) or 1.0
    domain = alt.Scale(domain=[max(limits[0], low - pad), min(limits[1], high + pad)], nice=False, clamp=True)
    tooltip = [alt.Tooltip("arm:N"), alt.Tooltip("x", type="quantitative" if factor.numeric else "nominal", title=factor.name)]
    tooltip += [alt.Tooltip("mean:Q", format=".4~g"), alt.Tooltip("interval:N", title=INTERVAL)]
    tooltip += [alt.Tooltip("n:Q"), alt.Tooltip("diverged:Q")]
    base = alt.Chart(_data(frame)).transform_filter("indexof(hidden_arms, datum.arm) < 0")
    y = alt.Y("mean:Q", title=title, scale=domain)
    y_low, y_high = alt.Y("bottom:Q", title=title, scale=domain), alt.Y2("top:Q")
    point = base.mark_point(filled=True, size=80, opacity=1)
    if factor.numeric:
        ticks = sorted(set(frame["x"]))
        axis = alt.Axis(values=ticks, format="~g", grid=False, labelOverlap="greedy")
        x = alt.X("x:Q", title=factor.name, axis=axis, scale=alt.Scale(type="log" if factor.log else "linear", nice=False))
        layers = [
            base.mark_area(opacity=0.16).encode(x, y_low, y_high, _fill(arms)),
            base.mark_line(strokeWidth=2).encode(x, y, _stroke(arms), _dash(arms)),
            point.encode(x, y, _fill(arms), _shape(arms), tooltip=tooltip),
        ]
    else:
        order = list(dict.fromkeys(frame["x"]))
        x = alt.X(
            "x:N", title=factor.name, sort=order, axis=alt.Axis(labelAngle=0, grid=False), scale=alt.Scale(paddingInner=0.4)
        )
        offset = alt.XOffset("arm:N", sort=list(arms))
        layers = [
            base.mark_rule(strokeWidth=2.5).encode(x, y_low, y_high, offset, _stroke(arms), tooltip=tooltip),
            point.encode(x, y, offset, _fill(arms), _shape(arms), tooltip=tooltip),
        ]
    if zero:
        layers.insert(0, alt.Chart(_data(zero)).mark_rule(color=QUIET).encode(alt.Y("zero:Q", title=title, scale=domain)))
    what = f"{metric}, difference from {factor.baseline}," if factor.baseline else metric
    name = f"{what} over {factor.name}" + (f", {panel}" if panel else "")
    return _finish(alt.layer(*layers).add_params(*_arm_params()), name, 300)


def confusion_heatmap(matrix: NDArray[np.floating[Any]], class_names: Sequence[str], title: str) -> alt.LayerChart:
    """A confusion matrix (K, K) of mean counts, truth down, prediction across; shade: square root of the row's share."""
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1e-12)
    rows = [
        {"truth": truth, "prediction": prediction, "count": float(matrix[i, j]), "share": float(share[i, j])}
        for i, truth in enumerate(class_names)
        for j, prediction in enumerate(class_names)
    ]
    axis = alt.Axis(domain=False, ticks=False, grid=False, labelLimit=90, labelOverlap="greedy")
    flat = axis.copy()
    flat.labelAngle = 0 if max(map(len, class_names), default=0) <= 2 else -45
    base = alt.Chart(_data(rows)).encode(
        alt.X("prediction:N", sort=None, title="predicted class", axis=flat),
        alt.Y("truth:N", sort=None, title="true class", axis=axis),
    )
    tooltip = ["truth:N", "prediction:N", alt.Tooltip("count:Q", format=",.1f", title="mean count")]
    tooltip.append(alt.Tooltip("share:Q", format=".2%", title="of the true class"))
    shade = alt.FillOpacity("share:Q", scale=alt.Scale(type="sqrt", domain=[0, 1], range=[0, 1]), legend=None)
    layers = [base.mark_rect(fill=COLOURS[0], stroke=None).encode(shade, tooltip=tooltip)]
    if len(class_names) <= 12:
        number = alt.Text("count:Q", format=",.0f")
        for name, test in (("cells_light", "datum.share <= 0.3 && datum.count >= 0.5"), ("cells_dark", "datum.share > 0.3")):
            ink = "#ffffff" if name == "cells_dark" else INK
            layers.append(base.transform_filter(test).mark_text(fontSize=10.5, fill=ink).encode(number).properties(name=name))
    return _finish(alt.layer(*layers), title, 320)


def bar_chart(rows: list[dict[str, Any]], title: str, axis_title: str) -> alt.LayerChart:
    """A horizontal bar from zero for each row (``name``, ``value``, ``low``, ``high``, ``text``), with its range and text."""
    order = [row["name"] for row in rows]
    y = alt.Y("name:N", sort=order, title=None, axis=alt.Axis(domain=False, ticks=False, grid=False, labelLimit=0))
    x = alt.X("value:Q", title=axis_title, axis=alt.Axis(tickCount=5), scale=alt.Scale(zero=True, nice=False, padding=10))
    tooltip = ["name:N", *(alt.Tooltip(f"{key}:Q", format=".4~g", title=key) for key in ("value", "low", "high"))]
    base = alt.Chart(_data(rows)).encode(y)
    layers = alt.layer(
        base.mark_bar(color=COLOURS[0], height={"band": 0.55}).encode(x, tooltip=tooltip),
        base.mark_rule(color=COLOURS[1], strokeWidth=2.5).encode(alt.X("low:Q", title=axis_title), alt.X2("high:Q")),
        base.mark_text(align="left", dx=6, fill=INK)
        .encode(alt.X("high:Q", title=axis_title), text="text:N")
        .properties(name="cells_light"),
    )
    return _finish(layers, title, 34 * max(len(rows), 2))


def spec(chart: alt.LayerChart, *, legend: bool = True) -> dict[str, Any]:
    """The Vega-Lite specification as plain JSON values; ``legend=False`` for pages that have a legend of their own."""
    made = json.loads(json.dumps(chart.to_dict(), allow_nan=False))
    if not legend:
        made["config"]["legend"] = {"disable": True}
    return dict(made)


def png(chart: alt.LayerChart, *, width: int = 640, scale: float = 2.0) -> bytes:
    """The chart as a PNG on white, ``width`` logical pixels wide; drawn without a browser or a network."""
    import vl_convert

    fixed = spec(chart) | {"width": width, "background": "white"}
    return bytes(vl_convert.vegalite_to_png(fixed, vl_version=_vegalite(), scale=scale))


def _vegalite() -> str:
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _finish(chart: Any, title: str, height: int, symbol: str = "circle") -> alt.LayerChart:
    axis = alt.AxisConfig(
        labelColor=QUIET,
        titleColor=QUIET,
        gridColor=RULE,
        domainColor=RULE,
        tickColor=RULE,
        titleFontWeight="normal",
        labelFontSize=11,
    )
    finished: alt.LayerChart = (
        chart.properties(width="container", height=height, title=title, background="transparent")
        .configure(
            font=FONT,
            axis=axis,
            view=alt.ViewConfig(stroke=None),
            autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        )
        .configure_title(anchor="start", fontSize=13, fontWeight=600, color=INK, offset=12)
        .configure_legend(
            orient="top",
            title=None,
            labelColor=INK,
            symbolType=symbol,
            symbolSize=320 if symbol == "stroke" else 100,
            symbolStrokeWidth=2,
            symbolOpacity=1,
        )
    )
    return finished


def _arm_params() -> list[alt.Parameter]:
    return [alt.param(name="hidden_arms", value=[])]


def _pick(values: Sequence[Any], arms: Sequence[str]) -> list[Any]:
    return [values[k % len(values)] for k in range(len(arms))]


def _stroke(arms: Sequence[str]) -> alt.Stroke:
    """The arm's colour for lines. Apart from ``_fill``, so that legends have both; Vega-Lite merges them into one."""
    return alt.Stroke("arm:N", title=None, scale=alt.Scale(domain=list(arms), range=_pick(COLOURS, arms)))


def _fill(arms: Sequence[str]) -> alt.Fill:
    """The arm's colour for areas and points."""
    return alt.Fill("arm:N", title=None, scale=alt.Scale(domain=list(arms), range=_pick(COLOURS, arms)))


def _dash(arms: Sequence[str]) -> alt.StrokeDash:
    return alt.StrokeDash("arm:N", title=None, scale=alt.Scale(domain=list(arms), range=_pick(DASHES, arms)))


def _shape(arms: Sequence[str]) -> alt.Shape:
    return alt.Shape("arm:N", title=None, scale=alt.Scale(domain=list(arms), range=_pick(SHAPES, arms)))


def _data(rows: pl.DataFrame | list[dict[str, Any]]) -> alt.InlineData:
    """Inline rows, floats to six digits, what is not finite as null."""
    records = rows.to_dicts() if isinstance(rows, pl.DataFrame) else rows
    return alt.InlineData([{key: _short(value) for key, value in row.items()} for row in records])


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _epoch_ticks(epochs: pl.Series) -> list[int]:
    """The first epoch and round numbers after it, at most eleven; Vega's own ticks would repeat whole numbers."""
    if epochs.is_empty():
        return []
    first, last = int(epochs.min()), int(epochs.max())  # type: ignore[arg-type]
    step = next(size for power in range(12) for k in (1, 2, 5) if (size := k * 10**power) * 10 >= last - first)
    return [first, *range((first // step + 1) * step, last + 1, step)]


def _extent(*columns: pl.Series) -> tuple[float, float]:
    """The least and the greatest finite value; (0, 1) where there is none."""
    values = np.concatenate([column.cast(pl.Float64).to_numpy() for column in columns])
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
