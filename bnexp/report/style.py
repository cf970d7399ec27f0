"""What all charts share: the look of each arm, axes and titles, inline data, and a chart as JSON or PNG.

Every arm has one colour, dash and point shape in all charts, so that no meaning hangs on colour alone. The colours are
those of Okabe and Ito (2008), the light ones darkened until they reach a contrast of 3:1 on white and on near-black.

Charts get their channels as altair's classes, ``alt.Text("text:N")``. Of a bare name or a dict, altair finds the class by its
whole schema, which takes 2 ms for each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

import altair as alt
import numpy as np
import polars as pl

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b98000", "#3a97cb", "#808080", "#6a5acd")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (10, 4), (4, 4), (1, 3), (12, 3, 3, 3))
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
INK, QUIET, RULE = "#3d4350", "#6b7280", "#d9dce2"


def spec(chart: alt.LayerChart, *, legend: bool = True) -> dict[str, Any]:
    """The Vega-Lite specification as plain JSON values. ``legend``: False for pages that have a legend of their own.

    It is not validated against Vega-Lite's schema, which takes most of the time; the tests do so for every figure.
    """
    made = json.loads(json.dumps(chart.to_dict(validate=False), allow_nan=False))
    if not legend:
        made["config"]["legend"] = {"disable": True}
    return dict(made)


def png(chart: alt.LayerChart, *, width: int = 640, scale: float = 2.0) -> bytes:
    """The chart as a PNG on white, drawn without a browser or a network.

    Args:
        chart: what is drawn.
        width: in logical pixels.
        scale: pixels per logical pixel.
    """
    import vl_convert

    return bytes(vl_convert.vegalite_to_png(_alone(chart, width), vl_version=_vegalite(), scale=scale))


def svg(chart: alt.LayerChart, description: str, *, width: int = 640) -> str:
    """The chart as an SVG on white, drawn without a browser or a network.

    Args:
        chart: what is drawn.
        description: what it shows, for readers that do not see it.
        width: in pixels.
    """
    import vl_convert

    drawn = str(vl_convert.vegalite_to_svg(_alone(chart, width), vl_version=_vegalite()))
    start, inside = drawn.split(">", 1)
    return f'{start} role="img"><title>{escape(description)}</title>{inside}'


def _alone(chart: alt.LayerChart, width: int) -> dict[str, Any]:
    return spec(chart) | {"width": width, "background": "white"}


def _vegalite() -> str:
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def finish(chart: Any, title: str | alt.TitleParams, height: int, symbol: str = "circle") -> alt.LayerChart:
    axis = alt.AxisConfig(
        labelColor=QUIET,
        titleColor=QUIET,
        gridColor=RULE,
        domainColor=RULE,
        tickColor=RULE,
        titleFontWeight="normal",
        labelFontSize=11,
    )
    chart.width, chart.height, chart.title, chart.background = "container", height, title, "transparent"
    chart.config = alt.Config(  # assigned, because each method of altair that configures a chart copies all of it
        font=FONT,
        axis=axis,
        view=alt.ViewConfig(stroke=None),
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        title=alt.TitleConfig(
            anchor="start", fontSize=13, fontWeight=600, color=INK, offset=12, subtitleColor=QUIET, subtitleFontSize=11
        ),
        legend=alt.LegendConfig(
            orient="top",
            title=None,
            labelColor=INK,
            symbolType=symbol,
            symbolSize=320 if symbol == "stroke" else 100,
            symbolStrokeWidth=2,
            symbolOpacity=1,
        ),
    )
    finished: alt.LayerChart = chart
    return finished


def arm_params() -> list[Any]:
    """What ``params`` of layers needs. Added to them later, it would cost a copy of all."""
    return [alt.param(name="hidden_arms", value=[]).param]


def _pick(values: Sequence[Any], arms: Sequence[str]) -> list[Any]:
    return [values[k % len(values)] for k in range(len(arms))]


def stroke(arms: Sequence[str]) -> alt.Stroke:
    """The arm's colour for lines. Separate from ``fill``, so that legends show both; Vega-Lite merges them into one."""
    return alt.Stroke("arm:N", title=None, scale=alt.Scale(domain=list(arms), range=_pick(COLOURS, arms)))


def fill(arms: Sequence[str]) -> alt.Fill:
    """The arm's colour for areas and points."""
    return alt.Fill("arm:N", title=None, scale=alt.Scale(domain=list(arms), range=_pick(COLOURS, arms)))


def dash(arms: Sequence[str]) -> alt.StrokeDash:
    return alt.StrokeDash("arm:N", title=None, scale=alt.Scale(domain=list(arms), range=_pick(DASHES, arms)))


def shape(arms: Sequence[str]) -> alt.Shape:
    return alt.Shape("arm:N", title=None, scale=alt.Scale(domain=list(arms), range=_pick(SHAPES, arms)))


def data(rows: pl.DataFrame | list[dict[str, Any]]) -> alt.InlineData:
    """Inline rows; floats have six digits, and numbers that are not finite are null."""
    records = rows.to_dicts() if isinstance(rows, pl.DataFrame) else rows
    return alt.InlineData([{key: _short(value) for key, value in row.items()} for row in records])


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if np.isfinite(value) else None


def epoch_ticks(epochs: pl.Series) -> list[int]:
    """The first epoch and round numbers after it, at most eleven. Vega's own ticks would repeat whole numbers."""
    if epochs.is_empty():
        return []
    first, last = int(epochs.min()), int(epochs.max())  # type: ignore[arg-type]
    step = next(size for power in range(12) for k in (1, 2, 5) if (size := k * 10**power) * 10 >= last - first)
    return [first, *range((first // step + 1) * step, last + 1, step)]


def line_axis() -> alt.Axis:
    """The axis of rows whose names have several lines, so that they have room of their own beside the plot, also on a phone."""
    lines = alt.ExprRef("split(datum.label, '\\n')")
    return alt.Axis(title=None, domain=False, ticks=False, grid=False, labelLimit=180, labelExpr=lines.expr, labelPadding=10)


def extent(*columns: pl.Series) -> tuple[float, float]:
    """The smallest and the largest finite value; (0, 1) if there is none."""
    values = np.concatenate([column.cast(pl.Float64).to_numpy() for column in columns])
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
