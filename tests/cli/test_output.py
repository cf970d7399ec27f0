"""What a terminal shows: as many columns as fit, no cell broken, names as they are, and nothing that steers it."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from bnexp.cli import result as cli_result
from bnexp.cli.output import Format, print_json, print_rows
from bnexp.cli.studies import print_studies
from bnexp.comparison.result import Outcome, Status, StudyResult, Verdict
from bnexp.comparison.verdict import analyse
from bnexp.config.options import Analysis, Direction
from bnexp.config.schema import Decides, StudyConfig
from bnexp.plan import session
from bnexp.tracking.store import Store
from tests.cli.conftest import Cli

ARMS = ("before_activation", "after_activation", "after_pool")


def test_numbers_that_are_not_finite_are_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"metrics": [{"test/loss": math.nan, "seconds": 1.5}], "largest": (math.inf,)})
    assert json.loads(capsys.readouterr().out) == {"metrics": [{"test/loss": None, "seconds": 1.5}], "largest": [None]}


@pytest.mark.parametrize(("width", "last"), [(130, "n needed"), (110, "p adjusted"), (80, "95 % interval"), (70, "difference")])
def test_a_narrow_terminal_has_fewer_columns_and_whole_verdicts(
    width: int, last: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = [
        Outcome(arm, "", {}, seed, Status.finished, 0.9 + 0.01 * ((seed * 7 + i * 3) % 5), f"{arm}-{seed}")
        for i, arm in enumerate(ARMS)
        for seed in range(6)
    ]
    made = StudyConfig(name="made", arms={arm: [] for arm in ARMS})
    result = analyse(made, outcomes, study_id="0", margin=1.0, chance=0.1, settings={})
    for module in ("result", "output"):
        monkeypatch.setattr(f"bnexp.cli.{module}.stdout", lambda: Console(width=width, highlight=False))
    cli_result.print_result(result, Format.table)
    lines = capsys.readouterr().out.splitlines()
    (at,) = [i for i, line in enumerate(lines) if "baseline" in line]
    assert lines[at].removesuffix("verdict".ljust(12)).rstrip().endswith(last)
    assert all(row.rstrip().endswith(tuple(Verdict)) for row in lines[at + 1 : at + 4])


def made_result(*, stuck: str = "", analysis: Analysis = Analysis.levels, **keys: Any) -> StudyResult:
    """Two arms of six seeds at two rates. ``stuck``: why the first run is."""
    outcomes = [
        Outcome(arm, f"lr={rate}", {"lr": rate}, seed, Status.finished, 0.9 + 0.01 * (seed % 3), f"{arm}-{rate}-{seed}")
        for arm in ARMS[:2]
        for rate in (0.1, 0.2)
        for seed in range(6)
    ]
    outcomes[0] = replace(outcomes[0], stuck=stuck)
    made = StudyConfig(name="made", arms={arm: [] for arm in ARMS[:2]}, factors={"lr": [0.1, 0.2]}, analysis=analysis, **keys)
    return analyse(made, outcomes, study_id="0", margin=1.0, chance=0.1, settings={})


def test_what_decides_comes_first_and_what_is_measured_besides_has_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    result = made_result(decides=[Decides(at={"lr": "0.2"}, expect=Direction.greater)])
    assert [c.decides for c in result.comparisons] == [False, True]
    cli_result.print_result(result, Format.table)
    lines = capsys.readouterr().out.splitlines()
    (at,) = [i for i, line in enumerate(lines) if line == "Also measured, without a verdict:"]
    (row,) = [line for line in lines[:at] if line.startswith(ARMS[1]) and " pp " in line]
    assert "lr=0.2" in row
    assert row.split()[-1] == result.comparisons[1].verdict
    assert lines[at + 1].split() == ["arm", "baseline", "level", "n", "difference", "95", "%", "interval"]
    assert "lr=0.1" in lines[at + 2]
    cli_result.print_result(result, Format.md)
    header, _, first, second = capsys.readouterr().out.splitlines()
    column = [name.strip() for name in header.split("|")].index("decides")
    assert [row.split("|")[column].strip() for row in (first, second)] == ["yes", "no"]
    assert second.split("|")[column + 1].strip() == "–"


def test_counts_of_lost_runs_are_shown_if_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    for stuck, columns in (("", ["sd"]), ("training accuracy 10.0 %", ["sd", "stuck"])):
        cli_result.print_result(made_result(stuck=stuck), Format.table)
        header = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("arm "))
        assert header.split()[-len(columns) :] == columns
        assert "test/accuracy (%)" in header


def test_a_stuck_run_is_a_mishap_unless_the_study_looks_for_settings_that_do_not_train() -> None:
    assert not cli_result.went_wrong(made_result())
    assert cli_result.went_wrong(made_result(stuck="training accuracy 10.0 %"))
    assert not cli_result.went_wrong(made_result(stuck="training accuracy 10.0 %", analysis=Analysis.sensitivity))


def test_columns_have_their_names_with_underscores_and_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"d_z": "1", "train.batch_size": "64", "statistics/batch_8": ".5", "[bold]": "x"}
    for format in (Format.table, Format.csv, Format.md):
        print_rows([row], format)
        header = capsys.readouterr().out.splitlines()[0]
        assert re.findall(r"[^\s|,]+", header) == list(row)


STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")  # of what a terminal obeys, all that these tests write
HOSTILE_STUDY = r"""# @package _global_
defaults: [{override /hydra/sweeper: study}]
study:
  name: hostile
  question: "Is \e[31mthis\e]0;owned\a or \u202enot?"
  arms: {none: [norm=none], batch: [norm=batch]}
  factors: {rate: {"high\e[2J\r\x9b": [optim.lr=0.1]}}
"""
LEVEL = r"high\x1b[2J\r\x9b"
COMMANDS = (  # each with what it shows
    (("study",), r"Is \x1b[31mthis\x1b]0;owned\x07"),
    (("study", "hostile", "--dry-run"), LEVEL),
    (("study", "hostile"), rf"none rate={LEVEL} seed=0"),
    (("report", "hostile", "--md"), LEVEL),
    (("runs", "--columns", "run,study.levels"), LEVEL),
    (("runs", "--csv"), LEVEL),
)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "hostile.yaml").write_text(HOSTILE_STUDY)
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    known = session.groups() | {"study": ["hostile"]}  # the list of studies is quicker with one
    monkeypatch.setattr(session, "groups", lambda: known)


@pytest.mark.usefixtures("hostile")
def test_what_is_asked_and_recorded_cannot_steer_the_terminal(cli: Cli) -> None:
    for arguments, shown in COMMANDS:
        more = ("budget=smoke", "study.seeds=1") if arguments[1:2] == ("hostile",) and arguments[0] == "study" else ()
        result = cli(*arguments, *more)
        assert shown in result.out + result.err, arguments
        assert not STEERING.search(result.out + result.err), arguments
    path = next(Store().root.glob("*/*/summary.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"study": "\x1b]0;owned\x07", "arm": "a\nb"}, ensure_ascii=False))
    for arguments in (("runs",), ("runs", "--md"), ("show", path.parent.name)):
        result = cli(*arguments)
        assert "0;owned" in result.out
        assert not STEERING.search(result.out), arguments
    assert r"a\nb" in cli("runs").out


def test_names_of_classes_and_files_cannot_steer_the_terminal(cli: Cli, tmp_path: Path) -> None:
    for k, name in enumerate(["a\x1b[31mred", ":cat:", "left\u202e\r[bold]right"]):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(6):
            pixels = np.random.default_rng([k, i]).integers(0, 255, (16, 16), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    root = f"data.root={tmp_path / 'images'}"
    for format in ((), ("--csv",), ("--md",)):
        result = cli("data", "image_folder", root, "data.val_fraction=0.3", *format)
        assert r":cat:, a\x1b[31mred, left\u202e\r[bold]right" in result.out
        assert not STEERING.search(result.out + result.err)
    (tmp_path / "images" / "a\x1b[31mred" / "0.png").write_bytes(b"")
    result = cli("train", "data=image_folder", root)
    assert r"a\x1b[31mred/0.png cannot be read as an image" in result.err
    assert not STEERING.search(result.err)
    assert not STEERING.search(cli("train", "data=image_folder", root, "--debug").err)
    (tmp_path / "runs" / "\x1b[31m" / "1").mkdir(parents=True)
    (tmp_path / "runs" / "\x1b[31m" / "1" / "summary.json").write_text("")
    logged = subprocess.run([sys.executable, "-m", "bnexp", "runs"], capture_output=True, text=True, timeout=60, check=True)
    assert r"\x1b[31m/1/summary.json is damaged" in logged.stderr
    assert not STEERING.search(logged.stderr)


def test_a_narrow_terminal_leaves_out_the_spread_and_folds_no_level(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    norms = ("none", "before_activation")
    outcomes = [
        Outcome(arm, f"norm={norm}", {"norm": norm}, seed, Status.finished, 0.9 + 0.01 * (seed % 3), f"{arm}-{norm}-{seed}")
        for arm in ("no_bias", "bias")
        for norm in norms
        for seed in range(6)
    ]
    outcomes[0] = replace(outcomes[0], stuck="training accuracy 10 %")
    made = StudyConfig(name="made", arms={"no_bias": [], "bias": []}, factors={"norm": list(norms)})
    result = analyse(made, outcomes, study_id="0", margin=1.0, chance=0.1, settings={})
    for module in ("result", "output"):
        monkeypatch.setattr(f"bnexp.cli.{module}.stdout", lambda: Console(width=80, highlight=False))
    cli_result.print_result(result, Format.table)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("no_bias  norm=before_activation  6") for line in lines) == 1
    assert not any(" sd " in line for line in lines)


def test_a_narrow_terminal_lists_each_study_on_one_line_below_its_theme(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = session.groups() | {"study": ["gradient_predictiveness", "placement"]}
    monkeypatch.setattr(session, "groups", lambda: known)
    for module in ("studies", "output"):
        monkeypatch.setattr(f"bnexp.cli.{module}.stdout", lambda: Console(width=80, highlight=False))
    print_studies(Format.table, [])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert [line.split("  ")[0] for line in lines if line] == [
        "study",
        "layer design",
        "placement",
        "training dynamics",
        "gradient_predictiveness",
    ]
    cut = next(line for line in lines if line.startswith("placement"))
    assert re.fullmatch(r"placement +Does the place of batch norm in a .*… +[\d.]+ (s|min|h)", cut)
    assert len(cut) <= 80


def test_a_verdict_becomes_a_table_for_a_paper(capsys: pytest.CaptureFixture[str]) -> None:
    result = made_result()
    cli_result.print_result(result, Format.latex)
    table = capsys.readouterr().out
    first = result.comparisons[0]
    assert "arm & baseline & level & n & difference & 95 \\% interval & p adjusted & verdict \\\\\n\\midrule\n" in table
    assert f"{first.arm} & {first.baseline} & ".replace("_", "\\_") in table
    assert "\\caption{Not settled: after\\_activation is on average as accurate as " in table
