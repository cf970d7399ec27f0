"""The HTML report: complete, self-contained, escaped, usable; drawn and operated in a real browser where there is one."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import made_reports
import pytest
from pages import HOSTILE, Page, browse, drawn, hostile_study, needs_browser

import bnexp
from bnexp.comparison.result import Status
from bnexp.report.html import render, script_json, unbroken
from bnexp.report.sections import Report, days
from bnexp.tracking.store import write_if_allowed

Get = Callable[[str], Report]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render(made_reports.make_report(hostile_study(), tmp_path_factory.mktemp("hostile"), pictures=False))


def test_says_question_answer_verdict_failures_and_command(reports: Get) -> None:
    report = reports("batchnorm")
    html = render(report)
    page = Page(html)
    assert page.text.index(report.result.question) < page.text.index(report.result.answer)
    assert "Supported" in page.text
    assert "out of memory: 1.2 GB were asked for <b>and</b> 0.9 GB were free" in page.text
    assert report.command in page.text
    for arm in report.arms:
        assert page.all("li", data_arm=arm), f"{arm} is not in the gallery"
    for heading in ("Verdict", "Learning curves", "Predictions", "Runs", "Configuration", "Reproduce"):
        assert heading in page.text


def test_pictures_are_loaded_at_once_so_that_they_are_printed(reports: Get) -> None:
    pictures = Page(render(reports("batchnorm"))).all("img")
    assert pictures
    assert all("loading" not in picture for picture in pictures)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n = 6, t test p < .001", "n~=~6, t test p~<~.001"),
        ("[0.87, 1.38] over 0.20 pp and 95 % or 0.75 octaves", "[0.87, 1.38] over 0.20~pp and 95~% or 0.75~octaves"),
        ("64 ppm, lr = 0.1, 5 epochs", "64 ppm, lr = 0.1, 5 epochs"),
    ],
)
def test_a_line_does_not_break_inside_a_number_with_its_unit(text: str, expected: str) -> None:
    assert unbroken(text) == expected.replace("~", "\u00a0")


def test_diverged_runs_are_listed(reports: Get) -> None:
    report = reports("learning_rate")
    diverged = [o for o in report.result.outcomes if o.status is Status.diverged]
    assert diverged
    page = Page(render(report))
    assert f"{len(diverged)} diverged" in page.text
    assert page.text.count("counted at chance accuracy") == len(diverged)


@pytest.mark.parametrize("name", ["batchnorm", "placement", "conv_bias"])
def test_refers_to_nothing_outside(reports: Get, name: str) -> None:
    html = render(reports(name))
    page = Page(html)
    for tag, attributes in page.elements:
        for key in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(key) or ""
            assert not value or value.startswith(("#", "data:image/png;base64,")), f"<{tag} {key}={value[:60]}>"
    style = re.search(r"<style>(.*?)</style>", html, re.S)
    assert style
    assert not re.search(r"url\(|@import|@font-face", style[1])
    assert not page.all("link")


def test_stays_small_and_shares_pictures(reports: Get) -> None:
    html = render(reports("batchnorm"))
    assert len(html.encode()) < 2e6
    pictures = [a["src"] for a in Page(html).all("img")]
    assert len(pictures) == len({image.image_id for image in reports("batchnorm").predictions.gallery})  # type: ignore[union-attr]


def test_is_accessible_in_structure(reports: Get) -> None:
    page = Page(render(reports("conv_bias")))
    tags = [tag for tag, _ in page.elements]
    assert page.all("html", lang="en")
    assert tags.count("h1") == 1
    assert tags.count("table") == tags.count("caption")
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    assert all(a.get("alt") for a in page.all("img"))
    assert all(a.get("aria-label") for t, a in page.elements if t == "div" and "data-spec" in a)
    for chart in (a for _, a in page.elements if "data-spec" in a):
        assert re.search(r"\d[.,]\d", chart["aria-label"] or ""), "a chart is described without numbers"
    regions = [a["aria-label"] for _, a in page.elements if a.get("role") == "region"]
    assert len(regions) == len(set(regions))
    assert page.all("a", href="#main")
    assert page.all("p", aria_live="polite")
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_head_says_when_on_what_and_with_which_version(reports: Get) -> None:
    report = reports("batchnorm")
    html = render(report)
    text = " ".join(Page(html).text.split("Verdict")[0].split())
    assert f"trained {report.trained} with bnexp {bnexp.__version__}" in text
    assert re.fullmatch(r"\d+ [A-Z][a-z]+ \d{4}", report.trained)
    for name, value in (("data", "mnist"), ("learning rate", "0.01"), ("test images", "400"), ("metric", "test/accuracy")):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in html
    assert "optim.lr" not in text


def test_a_record_may_say_nothing_of_where_it_was_made(reports: Get) -> None:
    page = Page(render(dataclasses.replace(reports("batchnorm"), environment={})))
    assert "with bnexp" not in page.text


def test_days_are_told_once_or_from_first_to_last() -> None:
    times = ["2026-11-22T23:59:00+0000", "2026-11-03T00:01:00+0100", "2026-11-10T00:00:00+0000"]
    assert days(times) == "3 November 2026 to 22 November 2026"
    assert days(times[:1]) == "22 November 2026"
    assert days([None, "", "yesterday"]) == ""


def test_a_right_prediction_has_the_colour_of_what_is_good(reports: Get) -> None:
    html = render(reports("batchnorm"))
    style = re.search(r"<style>(.*?)@media \(max-width", html, re.S)
    assert style
    rules = re.findall(r"^([^\s@{}][^{}\n]*) \{(.*)\}$", style[1], re.M)
    assert len(rules) == len({selector for selector, _ in rules}), "a selector that stands twice undoes itself"
    colours = {selector: body for selector, body in rules if ".mark" in selector and "color" in body}
    assert colours == {".right .mark": " color: var(--good); ", ".wrong .mark": " color: var(--bad); "}
    shown = set(re.findall(r'<li class="(\w+)".*?<span class="mark" aria-hidden="true">(.)</span>', html))
    assert shown == {("right", "✓"), ("wrong", "✕")}


def test_hostile_strings_stay_text(hostile: str) -> None:
    page = Page(hostile)
    assert "document.documentElement.dataset.pwned=1</script>" not in hostile
    assert not [a for _, a in page.elements if "onerror" in a]
    assert len([a for a in page.all("script") if a.get("type") != "application/json"]) == 2
    assert "{{7*7}}" in page.text
    assert HOSTILE in page.text


def test_script_json_cannot_leave_its_element() -> None:
    text = script_json({"a": "</script><!--\u2028&"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!--\u2028&"}


def test_write_is_whole_or_nothing(reports: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "report.html"
    write_if_allowed(path, render(reports("batchnorm")))
    before = path.read_bytes()
    assert before.rstrip().endswith(b"</html>")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_if_allowed(path, render(dataclasses.replace(reports("batchnorm"), command="other")))
    assert path.read_bytes() == before


def test_report_without_results_still_says_so(tmp_path: Path) -> None:
    plan = made_reports.batchnorm()
    plan.failed = {(arm, seed) for arm in plan.study.arms for seed in range(10)}
    report = made_reports.make_report(plan, tmp_path)
    page = Page(render(report))
    assert report.predictions is None
    assert "20 planned, 0 finished, 20 failed" in page.text
    assert page.text.count("No run has finished yet. The command at the end of this page") == 2  # no curves, no predictions


def test_one_arm_one_seed(tmp_path: Path) -> None:
    plan = made_reports.batchnorm()
    plan.study.arms, plan.study.baseline, plan.study.seeds, plan.failed = {"after_pool": ["norm=batch"]}, None, 1, set()
    page = Page(render(made_reports.make_report(plan, tmp_path, pictures=False)))
    assert "Nothing to compare" in page.text
    assert not page.all("img")
    assert page.all("li", data_arm="after_pool")


@needs_browser
def test_hostile_page_draws_without_errors_or_network(hostile: str, tmp_path: Path) -> None:
    page = drawn(hostile, tmp_path)
    assert len(page.all("svg", **{"class": "marks"})) >= 8
    charts = [a for a in page.all("div") if "data-spec" in a]
    assert {(a["role"], bool(a["aria-label"])) for a in charts} == {("img", True)}
    assert all(a.get("aria-hidden") == "true" for a in page.all("svg", **{"class": "marks"})), "marks are told one by one"
    assert not [a for a in page.all("g") if "role-legend" in (a.get("class") or "")], "the page has its own legend"


PROBE = """
setTimeout(() => {
  const shown = () => document.querySelectorAll(".gallery > li:not([hidden])").length;
  const lines = () => document.querySelectorAll("#curves .mark-line path").length;
  const out = {all: shown(), lines: lines()};
  const colours = (of) => [...new Set([...document.querySelectorAll(of)].map((mark) => getComputedStyle(mark).color))];
  out.colours = [colours(".right .mark"), colours(".wrong .mark"), colours(".badge.supported")];
  const form = document.getElementById("filters");
  const set = (name, value) => { form.elements[name].value = value; form.dispatchEvent(new Event("change")); };
  set("outcome", "disagree"); out.disagree = shown(); out.status = document.getElementById("shown").textContent;
  set("outcome", "wrong"); set("truth", "3"); out.wrong3 = shown();
  out.saved = [];
  HTMLAnchorElement.prototype.click = function () { out.saved.push([this.download, this.href.slice(0, 22)]); };
  document.querySelectorAll("#curves .menu button").forEach((button, k) => k < 2 && button.click());
  const level = document.getElementById("level");
  const label = () => document.querySelector("#curves .chart").getAttribute("aria-label");
  out.told = [label()];
  const before = document.querySelector("#curves .mark-line path").getAttribute("d");
  level.value = level.options[0].value; level.dispatchEvent(new Event("change"));
  setTimeout(() => {
    out.told.push(label());
    out.moved = before !== document.querySelector("#curves .mark-line path").getAttribute("d");
    document.querySelector("#curves .legend button").click();
    setTimeout(() => {
      out.hidden = lines();
      out.pressed = document.querySelectorAll('[aria-pressed="false"]').length;
      const probe = document.createElement("pre");
      probe.id = "probe"; probe.dataset.out = JSON.stringify(out); document.body.append(probe);
    }, 500);
  }, 500);
}, 3000);
"""


@needs_browser
def test_controls_work(reports: Get, tmp_path: Path) -> None:
    """Level, legend and gallery filters, operated by a script that the page's own policy would not let in."""
    report = reports("conv_bias")
    before, end, after = re.sub(r"<meta http-equiv=[^>]*>", "", render(report)).rpartition("</body>")
    path = tmp_path / "probe.html"
    path.write_text(f"{before}<script>{PROBE}</script>{end}{after}", encoding="utf-8")
    page, console = browse(path, tmp_path / "profile")
    assert console == ""
    out = json.loads(page.all("pre", id="probe")[0]["data-out"] or "")
    assert report.predictions
    gallery = report.predictions.gallery
    disagreeing = sum(image.disagreement for image in gallery)
    assert (out["all"], out["disagree"]) == (len(gallery), disagreeing)
    assert out["status"] == f"{disagreeing} of {len(gallery)} images"
    assert out["wrong3"] == sum(image.truth == 3 and any(not row.correct for row in image.rows) for image in gallery)
    right, wrong, supported = out["colours"]
    assert (len(right), len(wrong)) == (1, 1)
    assert right == supported != wrong
    assert out["moved"]
    assert sorted(out["saved"]) == [
        ["conv_bias-training-loss.png", "data:image/png;base64,"],
        ["conv_bias-training-loss.svg", "data:image/svg+xml,%3C"],
    ]
    for level, told in zip((report.focus, report.levels[0]), out["told"], strict=True):
        assert f"at {level}, mean over seeds" in told
    assert (out["lines"], out["hidden"]) == (8, 4)
    assert out["pressed"] == 2
