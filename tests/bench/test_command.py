"""``bnexp bench`` from what is typed to what is printed and written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bnexp.bench import ladder
from bnexp.bench.environment import Environment
from bnexp.bench.measure import Measurement
from bnexp.bench.page import render
from bnexp.bench.result import build
from bnexp.bench.work import Work
from tests.bench.made_measurements import WORK, measurement
from tests.cli.conftest import Cli, cli

__all__ = ["cli"]  # the fixture


@pytest.mark.slow
def test_rungs_run_as_processes_and_agree(cli: Cli, tmp_path: Path) -> None:
    work = ("--data", "digits", "--train-size", "600", "--epochs", "1", "--runs", "2", "--repeats", "1")
    result = cli("bench", "--rungs", "B0,B5-torch,B5", *work, "--json")
    assert result.code == 0, result.err
    shown = json.loads(result.out)
    assert [row["rung"] for row in shown["rows"]] == ["B0", "B5-torch", "B5"]
    assert 0 < shown["limits"]["2"] < min(row["seconds"]["median"] for row in shown["rows"])
    assert not any(row["flagged"] for row in shown["rows"])
    for measured in shown["measurements"]:
        assert measured["result"]["images"] == 600 * 2
        assert measured["seconds"] > measured["result"]["train_seconds"] > 0
        for run, first in zip(measured["result"]["runs"], shown["measurements"][0]["result"]["runs"], strict=True):
            assert (run["arm"], run["seed"]) == (first["arm"], first["seed"])
            assert run["test_accuracy"] == pytest.approx(first["test_accuracy"], abs=3.5 / 359)
    for words in ("repeats: 1, about", "runs: 2, repeat 1/1: B0", "left"):
        assert words in result.err
    written = sorted((tmp_path / "runs" / "bench").iterdir())
    assert [path.suffix for path in written] == [".html", ".json"]  # and no rung's own files
    assert json.loads(written[1].read_text()) == shown
    assert not list((tmp_path / "runs").glob("*/*/summary.json"))


def test_an_interruption_keeps_what_was_measured(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([3.0])

    def measured_once(rung: str, work: Work, repeat: int, folder: Path, environment: Environment | None) -> Measurement:
        for seconds in times:
            return measurement(rung, work.num_runs, repeat, seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr(ladder, "measure", measured_once)
    result = cli("bench", "--data", "digits", "--rungs", "B2", "--runs", "2", "--device", "cpu", "--json")
    assert result.code == 130
    assert "Interrupted after 1 measurement; the same command measures all of them anew." in result.err
    assert "goes on from there" not in result.err
    assert len(json.loads(result.out)["measurements"]) == 1
    assert [path.suffix for path in sorted((tmp_path / "runs" / "bench").iterdir())] == [".html", ".json"]


def test_without_their_environment_the_peers_say_why_and_the_rest_goes_on(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(rung: str, work: Work, repeat: int, folder: Path, environment: Environment | None) -> Measurement:
        return measurement(rung, work.num_runs, repeat, 3.0)

    monkeypatch.setattr(ladder, "measure", measured)
    lacks = f"{tmp_path} lacks lightning, hydra-core"
    work = ("--data", "digits", "--runs", "2", "--device", "cpu", "--peers", str(tmp_path))
    result = cli("bench", "--rungs", "B2,P1,P2", *work, "--csv")
    assert result.code == 0
    assert lacks in result.err
    lines = result.out.splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == ["B2", "limit", "P1", "P2"]
    assert f"left out: {lacks}" in lines[3]
    (page,) = (tmp_path / "runs" / "bench").glob("*.html")
    assert f"Rung P2 at 2 runs was left out: {lacks}" in page.read_text()
    result = cli("bench", "--rungs", "P1", *work)
    assert result.code == 2
    assert f"nothing was measured (P1: {lacks}" in result.err.replace("\n", " ")


def test_the_page_needs_nothing_from_outside_and_shows_every_number() -> None:
    made = [measurement(rung, n, repeat, 10.0 + n) for n in (1, 6) for repeat in (1, 2, 3) for rung in ("B0", "B2", "B5")]
    html = render(build(WORK, made, 10_000, {"system": "<b>odd</b> & co"}))
    assert not re.search(r"<(?:link|img|iframe)\b|<script[^>]*\bsrc=|@import|url\(", html.split("<script>")[0])
    assert "default-src 'none'" in html
    assert "&lt;b&gt;odd&lt;/b&gt; &amp; co" in html
    ids = re.findall(r'data-spec="([^"]+)"', html)
    assert ids == ["seconds-1", "images-1", "seconds-6", "images-6"]
    for id in ids:
        found = re.search(rf'<script type="application/json" id="{id}">(.*?)</script>', html)
        assert found is not None
        for rung in ("B0", "B2", "B5"):
            assert f'"name":"{rung}"' in found[1]
    assert html.count("B5 over B2") == 1
    assert "11.0 to 11.0" in html
    assert "16.0 to 16.0" in html


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--rungs", "B0,B9"],
            "--rungs B0,B9 names B9, which is no rung: allowed are B0, B1, B2, B3, B4, B5-torch, B5-local, B5, P1, P2, S0, S1.",
        ),
        (["--rungs", ","], "--rungs is empty"),
        (["--rungs", "B0,B2", "--once", "B0,B5"], "--once names B5, which is not measured: allowed are B0, B2."),
        (["--rungs", "B0", "--once", "ALL", "--runs", "3"], "--runs 3 is not possible"),
        (["--runs", "3"], "--runs 3 is not possible: allowed are 1 and even numbers"),
        (["--runs", "many"], "--runs many is not possible"),
        (["--repeats", "0"], "--repeats"),
        (["--data", "mnst"], "Did you mean mnist?"),
        (["--data", "npz"], "--data npz is not possible"),
        (["--data", "digits", "--train-size", "5000"], "data.train_size=5000 is more than there is"),
        (["--data", "digits", "--device", "mps"], "train.device=mps does not exist here"),
        (["--data", "digits", "--device", "GPU"], "train.device=GPU is not possible. Did you mean cuda?"),
        (["--data", "digits", "--device", "cpu", "--limit", "0"], "nothing was measured (B0: it would take about"),
        (["--json", "--md"], "--json and --md exclude each other"),
    ],
)
def test_wrong_use_is_one_sentence_and_code_two(cli: Cli, arguments: list[str], sentence: str) -> None:
    result = cli("bench", *arguments)
    assert sentence in re.sub(r"\s+", " ", result.err)
    assert result.code == 2
    assert "Traceback" not in result.err


def test_a_folder_of_the_peers_that_cannot_be_written_leaves_them_out(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    work = ("--data", "digits", "--runs", "2", "--device", "cpu", "--peers", str(tmp_path / "file" / "peers"))
    result = cli("bench", "--rungs", "P1", *work)
    assert result.code == 2
    assert "P1 left out, because their environment is not there:" in result.err
    assert "cannot be written (Not a directory): name another folder with --peers)" in result.err
    assert "repeats" not in result.err  # there is nothing to announce
    assert "BNEXP_RUNS_DIR" not in result.err
