"""The report as one HTML file that opens from disk, without a network.

The charting library, styles, data and pictures are inside. The template engine escapes every string from data or
configuration. What goes into a script block is escaped for that place too. In addition, a content security policy allows only
the page's own two scripts, by their hashes, and nothing from elsewhere. So a string that slipped through could neither run
nor load anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import bnexp
from bnexp.comparison.text import label, level_unit, number, p_equals, p_equivalence, p_text, quantity, signed
from bnexp.data.download import cache_dir
from bnexp.report import charts, style
from bnexp.report.charts import Figure
from bnexp.report.courses import CURVES, summarise
from bnexp.report.export import file_name
from bnexp.report.published import references, told
from bnexp.report.sections import Report
from bnexp.tracking.store import write_atomic

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Chart:
    """A chart on a page.

    Args:
        id: of its element.
        spec: in Vega-Lite.
        description: what it shows, in words.
        title: what stands above it.
        file: name of the file if it is saved, without ending.
        told: level -> description, if it shows one level of several at a time.
    """

    id: str
    spec: dict[str, Any]
    description: str
    title: str
    file: str
    told: dict[str, str]


def render(report: Report) -> str:
    """The report as the text of one HTML document."""
    summary = summarise(report.curves)
    return page(
        HERE / "report.html.jinja",
        r=report,
        result=report.result,
        unit=level_unit(report.result.metric, report.result.unit),
        looks=arm_looks(report.arms),
        curve_rows=last_epochs(summary, report),
        curve_names=CURVES,
        references=references(report.result, report.show),
        published=told(report.result, report.show),
        **_sections(report, summary),
    )


def page(template: Path, own: str = "", /, **content: Any) -> str:
    """A template with ``content`` as one document that needs nothing from outside.

    The template gets the style, the charting library, the script that draws charts, and the hashes of both scripts for its
    content security policy. It extends ``page.html.jinja``, wherever it lies itself.

    Args:
        template: path of the template.
        own: name of the style ``<own>.css`` and the script ``<own>.js`` that only this page has; empty if it has none.
        content: what the template shows.
    """
    parts = ["report", own] if own else ["report"]
    look, program = (
        "\n".join((HERE / f"{part}.{kind}").read_text(encoding="utf-8") for part in parts) for kind in ("css", "js")
    )
    library = _library()
    return (
        _environment(template.parent)
        .get_template(template.name)
        .render(
            **content,
            style=Markup(look),
            library=Markup(library),
            program=Markup(program),
            hashes=" ".join(f"'sha256-{_sha256(script)}'" for script in (library, program)),
            version=bnexp.__version__,
        )
    )


def load() -> None:
    """Compile the templates of a study's report and read the charting library, so that no report waits for them."""
    for template in ("report.html.jinja", "page.html.jinja", "parts.html.jinja"):
        _environment(HERE).get_template(template)
    _library()


@cache
def _environment(folder: Path) -> Environment:
    """Where templates come from, and what they can call; it keeps those that it has compiled."""
    environment = Environment(
        loader=FileSystemLoader([folder, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "level_unit": level_unit,
        "signed": signed,
        "number": number,
        "quantity": quantity,
        "span": span,
        "fixed": fixed,
        "p": p_text,
        "p_equals": p_equals,
        "p_equivalence": p_equivalence,
        "count": count,
        "unbroken": unbroken,
        "script_json": script_json,
        "embedded": embedded,
        "label": label,
    }
    return environment


@cache
def _library() -> str:
    """Vega-Embed with Vega and Vega-Lite as one script that sets ``window.vegaEmbed``, fit for a ``<script>`` element.

    Bundling takes more than a second, so the user's cache keeps the result, one file per version of the package.
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
    """JSON for a ``<script>`` element: nothing in it can close the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def arm_looks(arms: Sequence[str]) -> dict[str, dict[str, str]]:
    """Arm -> colour and dash as in the charts, for legends outside them."""
    size = len(style.COLOURS)
    return {
        arm: {"colour": style.COLOURS[k % size], "dash": " ".join(map(str, style.DASHES[k % size]))}
        for k, arm in enumerate(arms)
    }


def last_epochs(summary: pl.DataFrame, report: Report) -> list[dict[str, Any]]:
    """The text beside the curves: one row per arm and level, with the mean and range over seeds of each metric's last epoch."""
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


def embedded(figure: Figure, prefix: str, more: str = "", *, legend: bool = True) -> Chart:
    """A figure for a page.

    Args:
        figure: what is drawn.
        prefix: how the name of its file begins if it is saved.
        more: what its words say of this page besides, like where the numbers are.
        legend: False if the page has a legend of its own.
    """
    told = {level: f"{text} {more}".rstrip() for level, text in figure.told.items()} if len(figure.told) > 1 else {}
    described = f"{figure.description} {more}".rstrip()
    return Chart(figure.id, style.spec(figure.chart, legend=legend), described, figure.title, file_name(prefix, figure), told)


def _sections(report: Report, summary: pl.DataFrame) -> dict[str, list[Any]]:
    """Section of a report -> its charts; confusion matrices with their arm."""
    more = {
        "curves": "The table below has the last epoch in numbers.",
        "factors": "Tables or notes on this page have the same numbers.",
        "confusions": "The table below has the numbers.",
    }
    found: dict[str, list[Any]] = {
        name: [embedded(figure, report.title, more.get(name, ""), legend=False) for figure in figures]
        for name, figures in charts.sections(report, summary).items()
    }
    names = report.predictions.confusions if report.predictions else ()
    return found | {"confusions": list(zip(names, found["confusions"], strict=True))}


def span(low: float, high: float, unit: str, sign: bool = False) -> str:
    """``0.12 to 0.28``; a dash if there is no interval."""
    shown = signed if sign else number
    return f"{shown(low, unit)} to {shown(high, unit)}" if math.isfinite(low) and math.isfinite(high) else "–"


def fixed(value: float | None, digits: int) -> str:
    """A number with fixed digits; a dash if there is none."""
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else "–"


def count(value: float) -> str:
    """A mean count: without decimals if it is whole or large."""
    return f"{value:,.0f}" if float(value).is_integer() or value >= 100 else f"{value:,.1f}"


def unbroken(text: str) -> str:
    """The text with spaces that break no line in ``p < .001``, ``n = 6`` and between a number and its unit."""
    text = re.sub(r"\b([pnq]) ([=<]) (?=[\d.])", "\\1\u00a0\\2\u00a0", text)
    return re.sub(r"(?<=\d) (?=(?:%|pp|nats|octaves?)(?!\w))", "\u00a0", text)
