"""axe-core finds no barrier in a report and in the book of claims: light and dark, on a desktop and on a phone.

Its script comes from the package axe-core-python, or from axe-playwright-python if that is there, which has a newer one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import made_reports
import pytest
from pages import browse, needs_browser

from bnexp.report import book
from bnexp.report.claims import arrange, tell
from bnexp.report.html import render
from bnexp.report.sections import Report

WIDTHS = (1280, 390)
SCHEMES = {"light": (), "dark": ("--blink-settings=preferredColorScheme=0",)}

# Runs in the page: opens every part, waits for the charts, and tells the frame around it what axe finds.
CHECK = """
(async () => {
  for (const part of document.querySelectorAll("details:not(.menu)")) part.open = true;
  while (document.querySelector("[data-spec]:not([data-drawn])")) await new Promise((go) => setTimeout(go, 50));
  const { passes, violations } = await axe.run(document, { resultTypes: ["violations"] });
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const told = violations.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | ")}`);
  parent.postMessage({ width: innerWidth, dark, rules: passes.length, told }, "*");
})();
"""
AROUND = """
addEventListener("message", (event) => {
  const found = document.createElement("output");
  found.dataset.found = JSON.stringify(event.data);
  document.body.append(found);
});
"""


def axe() -> str:
    """The source of axe-core; the test is skipped if no package has it."""
    for package in ("axe_playwright_python", "axe_core_python"):
        spec = find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            if (path := Path(place, "axe.min.js")).is_file():
                return path.read_text(encoding="utf-8")
    pytest.skip("axe-core is not installed: pip install axe-core-python")


def found_by_axe(html: str, folder: Path, scheme: str) -> dict[int, list[str]]:
    """Width of the page -> what axe finds there, one line per rule. Frames have the widths, because windows have a minimum."""
    before, after = re.sub(r"<meta http-equiv=.Content-Security-Policy.[^>]*>", "", html).rsplit("</body>", 1)
    page = f"{before}<script>{axe()}</script><script>{CHECK}</script></body>{after}"
    (folder / "page.html").write_text(page, encoding="utf-8")
    frames = "".join(f'<iframe src="page.html" width="{width}" height="900" style="border: 0"></iframe>' for width in WIDTHS)
    (folder / "around.html").write_text(f"<body><script>{AROUND}</script>{frames}</body>", encoding="utf-8")
    around, _ = browse(folder / "around.html", folder / "profile", flags=SCHEMES[scheme])
    answers = [json.loads(output["data-found"] or "") for output in around.all("output")]
    assert {(answer["width"], answer["dark"]) for answer in answers} == {(width, scheme == "dark") for width in WIDTHS}
    assert all(answer["rules"] > 20 for answer in answers)  # it has looked
    return {answer["width"]: answer["told"] for answer in answers}


def shortened(report: Report) -> Report:
    """The report with a few images in its gallery, which are as good as all."""
    assert report.predictions
    return replace(report, predictions=replace(report.predictions, gallery=report.predictions.gallery[:6]))


@pytest.fixture(scope="module")
def pages(reports: Callable[[str], Report], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("book")
    plan = made_reports.placement()
    result, store = made_reports.record(plan, root)
    claim = tell(made_reports.study_record(plan, result, root), result, store, root)
    return {
        "report": render(shortened(reports("batchnorm"))),
        "book": book.render(book.Book([], missing={"absent": "not run"}, folder=Path("book-0")), arrange([claim])),
    }


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["report", "book"])
def test_axe_finds_nothing(name: str, scheme: str, pages: dict[str, str], tmp_path: Path) -> None:
    assert found_by_axe(pages[name], tmp_path, scheme) == {width: [] for width in WIDTHS}
