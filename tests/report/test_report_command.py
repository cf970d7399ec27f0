"""``bnexp report`` on recorded studies: another metric, pictures, several studies on one page; the studies stay as they are."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import made_reports
import pytest
from pages import Page
from test_tooltips import charts, check_layers

from bnexp.cli.commands import run
from bnexp.comparison.conclude import conclude, read_by
from bnexp.comparison.record import load
from bnexp.report.together import gather
from bnexp.tracking.store import Store

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies with the same runs: ``first``, and ``second`` without its last three seeds. Both are concluded."""
    root = tmp_path_factory.mktemp("runs")
    for k, name in enumerate(("first", "second")):
        plan = made_reports.batchnorm()
        plan.study.name, plan.study.question, plan.study.seeds, plan.failed = name, f"Is this {name}?", 9 - 3 * k, set()
        result, _ = made_reports.record(plan, root)
        record = made_reports.study_record(plan, result, root)
        record = dataclasses.replace(record, folder=root / name / f"study-{k}a5f0c3a1b9d", study_id=f"{k}a5f0c3a1b9d")
        record.save()
        record.save_verdict(result)
        os.utime(record.folder / "verdict.json", (k, k))
    return root


@pytest.fixture
def ask(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(runs))

    def typed(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bnexp", "report", *arguments])
        code = run()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return typed


def test_to_report_a_study_again_does_not_make_it_the_one_concluded_last(ask: Ask, runs: Path) -> None:
    assert ask("first")[0] == 0
    code, _, err = ask()
    assert code == 0
    assert str(runs / "second" / "study-1a5f0c3a1b9d" / "report.html") in err


def test_another_metric_has_a_report_of_its_own_that_says_it_is_exploratory(ask: Ask, runs: Path) -> None:
    folder = runs / "first" / "study-0a5f0c3a1b9d"
    (folder / "report.html").write_text("the study's own")
    verdict = (folder / "verdict.json").read_bytes()
    code, out, err = ask("0a5f", "--metric", "test/loss", "--json")
    found = json.loads(out)
    assert (code, found["metric"], found["unit"]) == (0, "test/loss", "nats")
    assert found["notes"][0] == (
        "test/loss was chosen after the fact; the study was planned with test/accuracy: read this as exploratory."
    )
    (c,) = found["comparisons"]
    assert c["difference"] < 0  # made_reports: less loss with more accuracy
    assert str(folder / "report-test-loss.html") in err
    page = Page((folder / "report-test-loss.html").read_text())
    assert "Exploratory. The study was planned with test/accuracy and is read here by test/loss" in page.text
    assert "Claim:" not in page.text
    assert "Paired differences in test/accuracy" in json.dumps([a.get("data-title") for a in page.all("div")])
    assert (folder / "report.html").read_text() == "the study's own"
    assert (folder / "verdict.json").read_bytes() == verdict
    (folder / "report.html").unlink()


def test_a_metric_that_cannot_be_read_is_refused_with_those_that_can(ask: Ask) -> None:
    code, _, err = ask("first", "--metric", "test/los")
    assert code == 2
    assert "has not recorded the metric test/los; it has test/accuracy, test/loss. Did you mean test/loss?" in err
    code, _, err = ask("first", "--metric", "test/accuracy")
    assert code == 2
    assert "test/accuracy is the metric that study first was planned with" in err


def test_figures_become_files_that_tell_what_they_show(ask: Ask, tmp_path: Path) -> None:
    code, _, err = ask("first", "--png", str(tmp_path / "png"), "--svg", str(tmp_path / "deep" / "svg"))
    assert code == 0
    pngs, svgs = ({path.stem: path for path in (tmp_path / folder).iterdir()} for folder in ("png", "deep/svg"))
    assert set(pngs) == set(svgs)
    assert {"first-validation-accuracy", "first-training-loss", "first-paired-differences-in-test-accuracy"} <= set(pngs)
    assert f"{len(pngs)} PNG files in {tmp_path / 'png'}" in err
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pngs.values())
    text = svgs["first-validation-accuracy"].read_text()
    assert text.count("<title>") == 1
    assert "<title>Validation accuracy from epoch 1 to 10, mean over seeds: none " in text
    assert ">after_pool</text>" in text  # a legend, which the page has outside its charts
    (tmp_path / "file").write_text("mine")
    code, _, err = ask("first", "--png", str(tmp_path / "file"))
    assert (code, (tmp_path / "file").read_text()) == (2, "mine")
    assert f"{tmp_path / 'file'} cannot be written to" in err


def test_two_studies_on_one_page_with_what_they_share_and_where_they_differ(ask: Ask, runs: Path) -> None:
    code, out, err = ask("first", "second")
    assert code == 0
    assert out.index("first-0a5f0c3a1b9d") < out.index("second-1a5f0c3a1b9d")
    path = runs / "first" / "study-0a5f0c3a1b9d" / "report-with-second-1a5f0c3a1b9d.html"
    assert str(path) in err
    html = path.read_text()
    page = Page(html)
    for question in ("Is this first?", "Is this second?"):
        assert question in page.text
    assert "12 runs are part of more than one study" in page.text
    assert "after_pool of first-0a5f0c3a1b9d and after_pool of second-1a5f0c3a1b9d: 6 runs in common" in page.text
    assert "The studies have the same settings" not in page.text
    rows = [text.split() for text in page.text.split("setting", 1)[1].splitlines() if text.startswith("seeds")]
    assert rows == [["seeds96"]]
    specs = charts(html)
    assert set(specs) == {"all-arms", "study-0-difference-0", "study-1-difference-0"}
    for spec in specs.values():
        check_layers(spec)
    first, second = (specs[f"study-{k}-difference-0"]["layer"][1]["encoding"]["x"]["scale"]["domain"] for k in (0, 1))
    assert first == second
    assert "bnexp report first-0a5f0c3a1b9d second-1a5f0c3a1b9d" in page.text


def test_a_study_is_not_compared_with_itself(ask: Ask) -> None:
    code, _, err = ask("first", "0a5f")
    assert code == 2
    assert "one study is named twice (first-0a5f0c3a1b9d, first-0a5f0c3a1b9d)" in err


def test_studies_by_different_metrics_share_no_axis(runs: Path) -> None:
    records = [load(next((runs / name).glob("study-*"))) for name in ("first", "second")]
    store = Store(runs)
    studies = [(record, conclude(record, store), store) for record in records]
    loss = read_by(records[1], "test/loss")
    found = gather([studies[0], (loss, conclude(loss, store), store)])
    assert found.on_one_axis is None
    assert "share no axis" in found.apart
    assert found.differing["metric"] == ["test/accuracy", "test/loss"]
    assert len(found.figures) == 2
