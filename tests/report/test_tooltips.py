"""What charts show under the pointer: every field is in the data of its layer, and has a value for every mark."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import altair as alt
import made_reports
import pytest
import vl_convert
from pages import browse, needs_browser

from bnexp.report import figures, style
from bnexp.report.html import render
from bnexp.report.sections import Report

Get = Callable[[str], Report]


def charts(page: str) -> dict[str, dict[str, Any]]:
    """Element id -> the Vega-Lite specification of each chart on a page."""
    scripts = re.findall(r'<script type="application/json" id="([\w-]+)">(.*?)</script>', page, re.S)
    return {name: json.loads(text) for name, text in scripts if name != "arms"}


def marks(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All marks of a compiled specification."""
    for mark in group.get("marks", []):
        yield mark
        yield from marks(mark)


def check_layers(spec: dict[str, Any]) -> None:
    """Each layer has rows, and in them what it encodes; one without a tooltip may be empty, like a margin that is not set.

    The whole keeps to Vega-Lite's schema.
    """
    alt.LayerChart.validate(spec)
    for layer in spec["layer"]:
        encoding = spec.get("encoding", {}) | layer["encoding"]
        rows = spec["datasets"].get(layer.get("data", spec.get("data"))["name"], [])
        assert rows or "tooltip" not in encoding
        listed = [one for channel in encoding.values() for one in (channel if isinstance(channel, list) else [channel])]
        wanted = {one["field"] for one in listed if "field" in one}
        made = {step["as"] for step in layer.get("transform", spec.get("transform", [])) if "calculate" in step}
        assert all(wanted <= set(row) | made for row in rows)


def check_tooltips(spec: dict[str, Any]) -> int:
    """Each tooltip, as Vega-Lite compiles it, reads fields of the rows; of a Voronoi cell, of the point in it. How many."""
    found = [mark for mark in marks(vl_convert.vegalite_to_vega(spec)) if "tooltip" in mark.get("encode", {}).get("update", {})]
    names = {mark["name"] for mark in found}
    fields = {name for rows in spec["datasets"].values() for row in rows for name in row}
    for mark in found:
        text = mark["encode"]["update"]["tooltip"]["signal"].replace("(datum.datum || datum)", "POINT")
        if mark["from"]["data"] in names:  # the data of this mark are other marks
            text = text.replace("datum.datum", "POINT")
            assert "datum" not in text
        read = re.findall(r'(?:POINT|datum)(?:\.(\w+)|\["([^"]+)"\])', text)
        assert read
        assert {a or b for a, b in read} <= fields
    return len(found)


@pytest.mark.parametrize("name", list(made_reports.STUDIES))
def test_every_field_of_every_chart_is_in_its_data(reports: Get, name: str) -> None:
    specs = charts(render(reports(name)))
    assert {"difference-0", "curve-val-loss", "confusion-0"} <= set(specs)
    for spec in specs.values():
        check_layers(spec)
        assert check_tooltips(spec)


def test_the_bars_of_the_bench_have_what_they_encode() -> None:
    rows = [{"name": "B0", "value": 1.0, "low": 0.5, "high": 1.5, "text": "1.0 s"}]
    spec = style.spec(figures.bar_chart(rows, "Seconds", "s"))
    check_layers(spec)
    assert check_tooltips(spec) == 1


TOOLTIPS = """
(async () => {
  const found = {};
  for (const place of document.querySelectorAll("[data-spec]")) {
    const spec = JSON.parse(document.getElementById(place.dataset.spec).textContent);
    const { view } = await vegaEmbed(place, spec, { actions: false, renderer: "svg", ast: true });
    const shown = (found[place.dataset.spec] = []);
    const visit = (item) => {
      if (item.tooltip) shown.push(Object.entries(item.tooltip).map(([key, value]) => [key, String(value)]));
      for (const child of item.items || []) visit(child);
    };
    visit(view.scenegraph().root);
  }
  const out = document.createElement("pre");
  out.id = "out"; out.dataset.out = JSON.stringify(found); document.body.append(out);
})();
"""


@needs_browser
@pytest.mark.parametrize(("name", "seeds"), [("batch_size", 6), ("conv_bias", 2)])
def test_a_browser_shows_a_value_for_every_field(name: str, seeds: int, tmp_path: Path) -> None:
    """Also of two seeds, which have no interval."""
    plan = made_reports.STUDIES[name]()
    plan.study.seeds = seeds
    html = render(made_reports.make_report(plan, tmp_path, pictures=False))
    before, end, after = re.sub(r"<meta http-equiv=[^>]*>", "", html).rpartition("</body>")
    path = tmp_path / "tooltips.html"
    path.write_text(f"{before}<script>{TOOLTIPS}</script>{end}{after}", encoding="utf-8")
    page, console = browse(path, tmp_path / "profile")
    assert console == ""
    found = json.loads(page.all("pre", id="out")[0]["data-out"] or "")
    assert found.keys() == charts(html).keys()
    for chart, shown in found.items():
        assert shown, chart
        values = {value for row in shown for _, value in row}
        assert not [value for value in values if re.search(r"undefined|null|NaN", value)], chart
    arms = {value for row in found["curve-val-loss"] for key, value in row if key == "arm"}
    assert arms == set(plan.study.arms)
