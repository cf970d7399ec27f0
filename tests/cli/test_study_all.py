"""``bnexp study --all``: every study runs at the smallest budget, and the book tells each claim with its verdict."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from markupsafe import escape

from bnexp.plan import compose, session
from bnexp.tracking.store import Store
from bnexp.tracking.wandb.session import WandbSession
from tests.cli.conftest import Cli, only
from tests.tracking.conftest import wandb_home  # noqa: F401

ONE = ("budget=smoke", "study.seeds=1")


def book() -> Path:
    """The one book of ``study --all``."""
    (path,) = Store().root.glob("book/book-*/book.json")
    return path.parent


def book_id() -> str:
    return book().name.removeprefix("book-")


@pytest.mark.slow
@pytest.mark.timeout(600)  # a minute on two quiet cores
def test_every_study_runs_and_the_book_has_every_claim(cli: Cli) -> None:
    result = cli("study", "--all", "--budget", "smoke", "study.seeds=1", "data.size=16", "executor=inline", "--json")
    assert result.code == 0, result.err
    rows = json.loads(result.out)
    assert [row["study"] for row in rows] == session.groups()["study"]
    assert {row["verdict"] for row in rows} == {"ESTIMATE"}  # one seed allows no verdict
    page, text = (book() / "book.html").read_text(), (book() / "book.md").read_text()
    for row in rows:
        assert f'id="study-{row["study"]}"' in page
        assert f'<a id="{row["study"]}"></a>' in text
    pictures = re.findall(r"\]\((figures/[\w-]+\.png)\)", text)
    assert len(pictures) >= len(rows) - 1  # one seed is too little for the one of predictions
    assert {book() / picture for picture in pictures} == set(book().glob("figures/*.png"))
    assert page.count("data-spec=") == len(pictures)


def test_a_study_that_cannot_run_stops_no_other_and_is_named(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "broken.yaml").write_text("# @package _global_\nstudy:\n  name: broken\n  arms: {one: []}\n")
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    only(monkeypatch, "broken", "batchnorm")
    result = cli("study", "--all", *ONE, "--json")
    assert result.code == 3
    assert [row["study"] for row in json.loads(result.out)] == ["batchnorm"]
    assert "study broken is left out: it needs at least two arms" in result.err
    assert "needs at least two arms" in (book() / "book.html").read_text()
    assert "needs at least two arms" in (book() / "book.md").read_text()


def test_with_a_limited_time_each_study_begins_and_the_nearest_to_an_answer_goes_on(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "affine", "batchnorm")
    ran = cli("study", "--all", "budget=smoke", "--time", "1h", "--max-seeds", "8", "--json")
    rows = {row["study"]: row["verdict"] for row in json.loads(ran.out)}
    assert set(rows) == {"affine", "batchnorm"}
    assert "ESTIMATE" not in rows.values()  # six seeds each before anything else
    assert ran.err.index("[2/2] batchnorm") < (ran.err.find(" goes on to ") + 1 or len(ran.err))
    assert "Seeds are added until it is settled, at most 8." in ran.err
    late = cli("study", "--all", "budget=smoke", "--time", "0.001s", "--max-seeds", "8", "--json")
    assert "The time was over before 2 studies began: affine, batchnorm. The same command goes on from there." in late.err
    assert (json.loads(late.out), late.code) == ([], 3)


@pytest.mark.parametrize("what", [("batchnorm", "data=digits"), ("--all", "budget=smoke")])
def test_a_dry_run_refuses_what_is_no_duration(cli: Cli, what: tuple[str, ...]) -> None:
    result = cli("study", *what, "--dry-run", "--time=-5m")
    assert (result.code, result.out) == (2, "")
    assert "time=-5m is no duration: allowed are numbers with a unit, like 90s, 30m, 8h or 1h30m." in result.err


def test_the_book_is_written_again_from_the_records(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "blog", "conv_bias")
    first = cli("study", "--all", *ONE, "--json")
    assert "about" in first.err
    before = (book() / "book.md").read_text()
    for name in ("book.html", "book.md"):
        (book() / name).unlink()
    again = cli("report", book_id(), "--book", "--json")
    assert again.code == 0
    assert json.loads(again.out) == json.loads(first.out)
    assert (book() / "book.md").read_text() == before
    assert "bnexp study --all budget=smoke study.seeds=1" in before
    page = (book() / "book.html").read_text()
    assert page.rstrip().endswith("</html>")
    errata = compose.compose(["study=blog"]).study.show.errata
    assert len(errata) == 4
    assert all(str(escape(text)) in page for text in errata)
    assert "is not a recorded book" in cli("report", "nothing", "--book").err


def test_a_book_is_made_of_the_latest_concluded_study_of_each_name(cli: Cli) -> None:
    for name, *overrides in (("batchnorm", "optim.lr=0.02"), ("batchnorm",), ("epsilon",)):
        cli("study", name, *ONE, *overrides)
    kept, older = sorted(
        Store().root.glob("batchnorm/study-*"), key=lambda path: "optim.lr=0.02" in (path / "study.json").read_text()
    )
    cli("report", f"batchnorm-{older.name.removeprefix('study-')}")  # to look at it does not make it the latest
    open_one = Store().root / "placement" / "study-0123"
    open_one.mkdir(parents=True)
    (open_one / "study.json").write_text((kept / "study.json").read_text())
    result = cli("report", "--book", "--json")
    assert result.code == 0
    rows = json.loads(result.out)
    assert rows[0]["id"] == kept.name.removeprefix("study-")
    assert [row["study"] for row in rows] == ["batchnorm", "epsilon"]
    page = Store().root / "book" / "book-recorded" / "book.html"
    assert f"The book of claims: {page}" in result.err
    label = older.name.replace("study-", "batchnorm-")
    for text in (result.err, page.read_text(), page.with_name("book.md").read_text().replace("\\", "")):
        assert label in text
        assert f"{kept.name.replace('study-', 'batchnorm-')} was run later" in text
        assert "placement-0123" in text
        assert "it has no verdict yet" in text


def test_a_book_links_to_the_reports_that_it_is_asked_to_write(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "batchnorm")
    cli("study", "--all", *ONE)
    (folder,) = Store().root.glob("batchnorm/study-*")
    link = f"../../batchnorm/{folder.name}/report.html"
    assert link not in (book() / "book.html").read_text()
    assert f"bnexp report {folder.name.replace('study-', 'batchnorm-')}" in (book() / "book.html").read_text()
    result = cli("report", book_id(), "--book", "--reports")
    assert result.code == 0
    assert (book() / link).exists()
    assert f'href="{link}"' in (book() / "book.html").read_text()


OWN = """# @package _global_
defaults:
  - override /hydra/sweeper: study
probe:
  activations: true
study:
  name: own
  question: Does it help?
  arms: {none: [norm=none], batch: [norm=batch]}
  baseline: none
  show:
    figures: [curves, activations/dead]
    errata: [The sources forgot the seeds.]
    published:
      table:
        source: A. N. Other 2020
        note: half of it.
        at: {data.name: digits}
        values: {batch: {value: 87.25, low: 99.5, high: 100}}
"""


def test_a_study_of_ones_own_shows_its_figures_and_what_others_found(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "own.yaml").write_text(OWN)
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    only(monkeypatch, "own")
    assert cli("study", "own", *ONE).code == 0
    assert cli("study", "--all", *ONE).code == 0
    (report,) = Store().root.glob("own/study-*/report.html")
    (tmp_path / "study" / "own.yaml").unlink()  # records are enough
    for path in (report, book() / "book.html", book() / "book.md"):
        path.unlink()
    assert cli("report", "own").code == 0
    assert cli("report", book_id(), "--book").code == 0
    found = ("A. N. Other 2020", "half of it.", "87.25", "99.5 to 100", "The sources forgot the seeds.")
    for path in (report, book() / "book.html"):
        page = path.read_text()
        assert all(text in page for text in found)
        assert "Paired differences in activations/dead" in page
        assert "Validation accuracy after epoch 1, mean over seeds" in page
    text = re.sub(r"\\(.)", r"\1", (book() / "book.md").read_text())
    assert all(
        words in text for words in (*found, "Paired differences in activations/dead", "Validation accuracy after epoch 1")
    )


def test_finished_runs_are_reused_and_other_data_have_a_book_of_their_own(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "batchnorm")
    cli("study", "--all", *ONE)
    files = {path: path.stat().st_mtime_ns for path in Store().root.glob("*/*/summary.json")}
    again = cli("study", "--all", "--budget", "smoke", "study.seeds=1")
    assert "finished before" in again.err
    assert {path: path.stat().st_mtime_ns for path in Store().root.glob("*/*/summary.json")} == files
    assert len(list(Store().root.glob("book/*"))) == 1
    cli("study", "--all", *ONE, "optim.lr=0.02")
    assert len(list(Store().root.glob("book/*"))) == 2


def test_a_dry_run_of_all_counts_shared_runs_once_and_trains_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "batchnorm", "predictions")
    result = cli("study", "--all", *ONE, "--dry-run", "--json")
    assert [(row["runs"], row["to_train"]) for row in json.loads(result.out)][1] == (2, 0)
    assert not list(Store().root.glob("*/*"))


def test_each_study_is_logged_where_wandb_is_on(cli: Cli, wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    only(monkeypatch, "batchnorm")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    cli("study", "--all", *ONE)
    assert not list(Store().root.glob("*/study-*/report.html"))
    monkeypatch.delenv("WANDB_MODE")
    result = cli("study", "--all", *ONE, "optim.lr=0.02", "track.wandb.mode=offline")
    assert result.code == 0
    assert "wandb sync" in result.err
    (report,) = Store().root.glob("*/study-*/report.html")
    assert f"Report: {report}" in result.err.splitlines()
    assert len(list(wandb_home.glob("offline-run-*"))) == 3  # two runs and the study


def test_every_study_runs_where_a_settings_file_switches_wandb_off(
    cli: Cli,
    wandb_home: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(monkeypatch, "batchnorm")
    (wandb_home.parent / "config_dir").mkdir()
    (wandb_home.parent / "config_dir" / "settings").write_text("[default]\nmode = disabled\n")
    result = cli("study", "--all", *ONE, "track.wandb.mode=auto", "--json")
    assert result.code == 0, result.err
    assert [row["study"] for row in json.loads(result.out)] == ["batchnorm"]
    assert not list(Store().root.glob("*/study-*/report.html"))


def test_every_study_runs_where_wandb_is_not_installed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "batchnorm", "placement")
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(WandbSession, "_told_unusable", False)
    result = cli("study", "--all", *ONE, "track.wandb.mode=auto", "--json")
    assert result.code == 0, result.err
    assert [row["study"] for row in json.loads(result.out)] == ["batchnorm", "placement"]
    assert result.err.count("W&B") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["study", "batchnorm", "--all"], "--all runs every study: leave out batchnorm"),
        (["study", "--all", "--budget", "smok"], "Did you mean smoke?"),
        (["report", "--book"], "no study is concluded in"),
        (["report", "59ec6b25", "--book"], "no book of bnexp study --all is recorded in"),
        (["report", "--reports"], "--reports goes with --book"),
    ],
)
def test_wrong_use_is_answered_in_one_sentence(cli: Cli, arguments: list[str], sentence: str) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert sentence in result.err


def test_studies_are_listed_by_theme(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "batchnorm", "cost", "norm_kind")
    rows = json.loads(cli("study", "--json").out)
    assert [(row["theme"], row["study"]) for row in rows] == [
        ("accuracy", "batchnorm"),
        ("accuracy", "norm_kind"),
        ("speed and cost", "cost"),
    ]
    table = cli("study").out.splitlines()
    first = [line.split("  ")[0].rstrip() for line in table if line.strip()]
    assert first == ["study", "accuracy", "batchnorm", "norm_kind", "speed and cost", "cost"]


def test_the_list_of_studies_takes_a_budget(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "learning_rate", "running_statistics")
    rows = {row["study"]: row for row in json.loads(cli("study", "--budget", "quick", "--json").out)}
    assert rows["learning_rate"]["runs"] == "2 arms x 5 optim.lr x 6 seeds = 60, and those at levels that are added"
    assert rows["running_statistics"]["runs"] == "5 arms x 6 seeds = 30 readings of 6 runs"


@pytest.mark.parametrize(
    ("name", "budget", "arithmetic", "runs"),
    [
        ("running_statistics", "smoke", "5 arms x 2 seeds = 10 readings of 2 runs", 2),
        ("batch_size", "smoke", "5 arms x 3 train.batch_size x 2 seeds = 30, after 30 that tune", 60),
        ("transfer", "standard", "5 arms x 2 shift x 2 data.train_size x 10 seeds = 200, after 10 to start from", 210),
        ("batchnorm", "tuned", "2 arms x 10 seeds = 20, after 36 that tune", 56),
    ],
)
def test_the_list_counts_and_times_what_a_dry_run_does(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, budget: str, arithmetic: str, runs: int
) -> None:
    only(monkeypatch, name)
    (row,) = json.loads(cli("study", "--budget", budget, "--json").out)
    assert row["runs"] == arithmetic
    assert cli("study", name, "--budget", budget, "--dry-run").err.endswith(
        f"{runs} runs, {runs} to train, about {row['estimated_time']} until the report\n"
    )


def test_a_study_of_readings_says_how_many_runs_they_are_of(cli: Cli) -> None:
    result = cli("study", "running_statistics", *ONE)
    assert "1 run, 5 readings: running, batch_1, batch_2, batch_8, training_mode x 1 seed" in result.err
