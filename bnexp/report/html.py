"""The report as one HTML file that opens from disk, without a network.

The charting library, styles, data and pictures are inside. Every string from data or configuration is escaped by the
template engine, and what goes into a script block is escaped for that place too. Beyond that a content security policy
allows only the page's own two scripts, by their hashes, and nothing from elsewhere: a string that slipped through could
neither run nor load anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import bnexp
from bnexp.compare.text import number, p_equals, p_text, quantity, signed
from bnexp.data.download import cache_dir
from bnexp.report import figures
from bnexp.report.sections import CURVES, Report
from bnexp.tracking.store import write_atomic, write_if_allowed

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Chart:
    """A chart on the page: its element id, specification, and what it shows in words."""

    id: str
    spec: dict[str, Any]
    description: str


def write(report: Report, path: Path) -> bool:
    """Write the report as one self-contained file, whole or not at all; False where files may only be read."""
    return write_if_allowed(path, render(report))


def render(report: Report) -> str:
    """The report as the text of one HTML document."""
    summary = figures.summarise(report.curves)
    return page(
        HERE / "report.html.jinja",
        r=report,
        result=report.result,
        unit="%" if report.result.unit == "pp" else report.result.unit,
        looks=arm_looks(report.arms),
        curves=_curve_charts(report, summary),
        curve_rows=last_epochs(summary, report),
        curve_names=CURVES,
        differences=_difference_charts(report),
        factors=_factor_charts(report),
        probes=_probe_charts(report),
        confusions=_confusion_charts(report),
    )


def page(template: Path, **content: Any) -> str:
    """A template with ``content`` as one document that needs nothing from outside.

    The template gets the style, the charting library, the script that draws charts, and the hashes of both scripts for its
    content security policy.
    """
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "signed": signed,
        "number": number,
        "quantity": quantity,
        "span": span,
        "fixed": fixed,
        "p": p_text,
        "p_equals": p_equals,
        "count": count,
        "script_json": script_json,
    }
    library, program = _library(), (HERE / "report.js").read_text(encoding="utf-8")
    return environment.get_template(template.name).render(
        **content,
        style=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        library=Markup(library),
        program=Markup(program),
        hashes=" ".join(f"'sha256-{_sha256(script)}'" for script in (library, program)),
        version=bnexp.__version__,
    )


@cache
def _library() -> str:
    """Vega-Embed with Vega and Vega-Lite as one script that sets ``window.vegaEmbed``, fit for a ``<script>`` element.

    To bundle it takes more than a second, so the user cache keeps it, by the version of the package that has it.
    """
    path = cache_dir() / "report" / f"vega-embed-{version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    import vl_convert

    bundle = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    script = bundle.replace("</script", "<\\/script").replace("\r\n", "\n").replace("\r", "\n")
    with suppress(OSError):  # a cache that cannot be written costs the second, no more
        write_atomic(path, script)
    return script


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def script_json(value: Any) -> Markup:
    """JSON that can stand in a ``<script>`` element: nothing in it can close the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def arm_looks(arms: Sequence[str]) -> dict[str, dict[str, str]]:
    """Arm -> colour and dash as in the charts, for legends outside them."""
    size = len(figures.COLOURS)
    return {
        arm: {"colour": figures.COLOURS[k % size], "dash": " ".join(map(str, figures.DASHES[k % size]))}
        for k, arm in enumerate(arms)
    }


def last_epochs(summary: pl.DataFrame, report: Report) -> list[dict[str, Any]]:
    """The text beside the curves: a row an arm and level with each metric's mean and range over seeds in the last epoch."""
    rows = []
    for level in report.levels:
        for arm in report.arms:
            mine = summary.filter((pl.col("arm") == arm) & (pl.col("level") == level))
            if mine.is_empty():
                continue
            cells = {metric: mine.filter(pl.col("metric") == metric).tail(1).to_dicts() for metric in CURVES}
            found = {metric: cell[0] for metric, cell in cells.items() if cell}
            rows.append({"arm": arm, "level": level, "epoch": mine["epoch"].max(), "n": mine["n"].max(), "cells": found})
    return rows


def _curve_charts(report: Report, summary: pl.DataFrame) -> list[Chart]:
    present = set(summary["metric"])
    return [
        Chart(
            f"curve-{metric.replace('/', '-')}",
            figures.spec(figures.learning_curve(summary, metric, report.arms, report.focus), legend=False),
            f"{name} by epoch, a line for each of {', '.join(report.arms)}. The table below has the last epoch in numbers.",
        )
        for metric, name in CURVES.items()
        if metric in present
    ]


def _difference_charts(report: Report) -> list[Chart]:
    """A chart a measure, because measures differ in unit."""
    order = list(dict.fromkeys(c.measure for c in report.result.comparisons))
    ordered = sorted(report.result.comparisons, key=lambda c: order.index(c.measure))
    charts = []
    for k, (measure, group) in enumerate(groupby(ordered, key=lambda c: c.measure)):
        comparisons = [c for c in group if math.isfinite(c.difference)]
        if not comparisons:
            continue
        words = "; ".join(f"{c.arm} minus {c.baseline} {c.level}: {c.difference:+.3g} {c.unit}" for c in comparisons)
        chart = figures.difference_plot(report.differences, comparisons, report.arms)
        charts.append(Chart(f"difference-{k}", figures.spec(chart, legend=False), f"Paired differences in {measure}. {words}."))
    return charts


def _factor_charts(report: Report) -> list[Chart]:
    """The study's metric over the factor, and, where the analysis asks how it changes, the difference from the baseline."""
    result, charts = report.result, []
    for kind, factor in (("factor", report.factor), ("advantage", report.advantage)):
        for k, panel in enumerate(factor.panels if factor else []):
            assert factor is not None
            about = f"{result.metric}, difference from {factor.baseline}," if factor.baseline else result.metric
            chart = figures.factor_plot(factor, panel, report.arms, result.metric, result.unit)
            words = f"{about} over {factor.name}, a series for each of {', '.join(dict.fromkeys(factor.frame['arm']))}. "
            words += "Tables or notes on this page have the same numbers."
            charts.append(Chart(f"{kind}-{k}", figures.spec(chart, legend=False), words))
    return charts


def _probe_charts(report: Report) -> list[Chart]:
    """What probes measured, by epoch: percentiles of each layer's pre-activations, and every metric of a whole network."""
    summary = figures.summarise(report.probes)
    names = sorted(set(summary["metric"]))
    layers = [name.split("/")[1] for name in names if name.startswith("activations/") and name.endswith("/p50")]
    drawn = {f"Pre-activations of {layer}": figures.percentiles(summary, layer, report.arms, report.focus) for layer in layers}
    whole = [name for name in names if name.count("/") == 1]
    drawn |= {name: figures.learning_curve(summary, name, report.arms, report.focus) for name in whole}
    return [
        Chart(f"probe-{k}", figures.spec(chart, legend=False), f"{name} by epoch, a line for each of {', '.join(report.arms)}.")
        for k, (name, chart) in enumerate(drawn.items())
    ]


def _confusion_charts(report: Report) -> list[tuple[str, Chart]]:
    if report.predictions is None:
        return []
    charts = []
    for k, (arm, matrix) in enumerate(report.predictions.confusions.items()):
        chart = figures.confusion_heatmap(matrix, report.class_names, arm)
        words = (
            f"Confusion matrix of {arm}: mean counts, true class down, predicted class across. The table below has the numbers."
        )
        charts.append((arm, Chart(f"confusion-{k}", figures.spec(chart), words)))
    return charts


def span(low: float, high: float, unit: str, sign: bool = False) -> str:
    """``0.12 to 0.28``; a dash where there is no interval."""
    shown = signed if sign else number
    return f"{shown(low, unit)} to {shown(high, unit)}" if math.isfinite(low) and math.isfinite(high) else "–"


def fixed(value: float | None, digits: int) -> str:
    """A number with fixed digits; a dash where there is none."""
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else "–"


def count(value: float) -> str:
    """A mean count: whole where it is whole, thousands apart by a thin space."""
    return (f"{value:,.0f}" if float(value).is_integer() or value >= 100 else f"{value:,.1f}").replace(",", "\u202f")
