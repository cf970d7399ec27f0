"""A study on W&B, offline: one run for each training and one for the study, read back from the files; and without wandb."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import bnexp
from bnexp.metrics import Record, RunFinished
from bnexp.plan.spec import RunSpec
from bnexp.run import runner
from bnexp.run.publish import publish
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.store import Store, StoreSink
from tests.cli.conftest import Cli
from tests.tracking.conftest import wandb_home  # noqa: F401
from tests.tracking.records import make_spec, play
from tests.tracking.wandb_file import read_all

if TYPE_CHECKING:
    from bnexp.data.resident import Resident

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning")  # wandb's own


SMALL = ("budget=smoke", "train.epochs=2", "executor=inline", "data=digits", "data.train_size=200")


def test_a_study_is_logged_run_by_run_and_as_a_whole(cli: Cli, wandb_home: Path) -> None:  # noqa: F811
    """Also when it has grown: its group has all of its runs, and one W&B line has their number."""
    offline = ("study", "batchnorm", *SMALL, "track.wandb.mode=offline")
    cli(*offline, "study.seeds=1", "track.wandb.mode=disabled")
    assert not wandb_home.exists()
    result = cli(*offline, "study.seeds=2", "--json")
    verdict = json.loads(result.out)
    runs = read_all(wandb_home)
    assert {run.run.run_group for run in runs.values()} == {"batchnorm"}
    kinds = Counter(run.run.job_type for run in runs.values())
    assert kinds == {"after_pool": 2, "none": 2, "study": 1}
    (line,) = [line for line in result.err.splitlines() if line.startswith("W&B")]
    assert line == f"W&B: 5 runs are recorded offline; upload with: wandb sync {wandb_home}/offline-run-*"

    (study,) = [run for run in runs.values() if run.run.job_type == "study"]
    assert study.summary["answer"] == verdict["answer"]
    assert {"comparisons", "images"} <= set(study.summary)
    (page,) = wandb_home.glob(f"*{study.run.run_id}/files/{study.summary['report']['path']}")
    assert page.read_text() == Path(re.search("Report: (.*)", result.err)[1]).read_text()  # with its figures
    assert (study.config["data"]["name"], study.config["optim"]["lr"]) == ("digits", 0.01)
    effect = verdict["comparisons"][0]["difference"]
    assert (study.summary["effect"], study.summary["n"]) == (pytest.approx(effect), 2)
    by_id = {run.config.get("run_id"): run for run in runs.values()}
    for outcome in verdict["outcomes"]:
        run = by_id[outcome["run_id"]]
        assert run.summary["test/accuracy"] == pytest.approx(outcome["value"])
        assert [row["epoch"] for row in run.history if "epoch" in row] == [1, 2]
        assert "predictions" in run.summary

    before = sorted(wandb_home.glob("offline-run-*/*.wandb"))
    again = json.loads(cli("publish", "batchnorm", "--json", "--where", "seed = 0").out)["runs"]
    assert {run["action"] for run in again} == {"there"}
    assert sorted(wandb_home.glob("offline-run-*/*.wandb")) == before


def test_a_study_that_ran_without_wandb_is_published_with_its_runs(
    cli: Cli,
    wandb_home: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cli("study", "batchnorm", *SMALL, "train.epochs=1", "study.seeds=1", "track.wandb.mode=disabled")
    monkeypatch.setenv("WANDB_MODE", "offline")
    asked = cli("publish", "batchnorm", "--dry-run")
    assert asked.err == "Nothing was sent. W&B lacks 3 of 3; without --dry-run the same command sends them.\n"
    steps: list[tuple[int, int]] = []
    done = publish(["batchnorm"], step=lambda count, total: steps.append((count, total)))
    assert Counter((run.kind, run.action) for run in done.runs) == {("run", "written"): 2, ("study", "written"): 1}
    assert steps == [(1, 3), (2, 3), (3, 3)]
    held = read_all(wandb_home)
    assert set(held) == {run.id for run in done.runs}
    assert Counter(run.run.run_group for run in held.values()) == {"batchnorm": 3}
    assert publish(["batchnorm"]).count("there") == 3
    assert "Nothing was sent. All 3 are at W&B or recorded offline already.\n" in cli("publish", "batchnorm", "--dry-run").err

    (record,) = Store().root.glob("batchnorm/study-*/study.json")
    gone = next(run.run for run in done.runs if run.kind == "run")
    shutil.rmtree(Store().root / "batchnorm" / gone)  # as in a copy of one study that shares runs with others
    part = publish(["batchnorm"], project="another")
    assert Counter((run.kind, run.action) for run in part.runs) == {("run", "written"): 1, ("study", "written"): 1}
    assert (
        part.messages[0]
        == f"{record.parent.name.replace('study', 'batchnorm')}: 1 of its runs has no record in {Store().root}."
    )
    record.write_text("{")
    damaged = publish(dry_run=True)
    assert [run.kind for run in damaged.runs] == ["run"]
    assert "study.json is damaged" in damaged.messages[0]
    assert damaged.messages[0].endswith("The study is left out.")


def test_after_ctrl_c_it_is_said_where_the_finished_runs_are(
    wandb_home: Path,  # noqa: F811
    shared_cache: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(specs: Sequence[RunSpec], resident: Resident, stopping: Any) -> Iterator[Record]:
        for record in execute(specs, resident, stopping):
            yield record
            if isinstance(record, RunFinished):
                raise KeyboardInterrupt

    execute = runner._execute
    monkeypatch.setattr(runner, "_execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bnexp.run_study("batchnorm", [*SMALL, "study.seeds=1", "track.wandb.mode=offline"])
    (run,) = read_all(wandb_home).values()
    assert run.run.run_group == "batchnorm"
    assert "W&B: 1 run is recorded offline; upload with: wandb sync " in capsys.readouterr().err


def test_a_full_disk_is_told_in_one_line_with_the_command_that_sends_the_rest(
    cli: Cli,
    wandb_home: Path,  # noqa: F811
    shared_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bnexp.tracking.wandb.publishing.write_run", full)
    result = cli("study", "batchnorm", *SMALL, "study.seeds=1", "track.wandb.mode=offline")
    assert [line for line in result.err.splitlines() if "W&B" in line] == [
        "W&B: 2 runs and the study batchnorm were not published (the disk is full); later: bnexp publish batchnorm"
    ]


@pytest.mark.parametrize(
    ("arguments", "mode", "told"),
    [
        (["nothing"], "offline", "'nothing' is not a recorded run in"),
        ([], "disabled", "W&B is switched off by WANDB_MODE=disabled: unset it, or set it to online or offline."),
        (["--where", "optim.lr >"], "offline", "optim.lr >"),
    ],
)
def test_what_cannot_be_published_is_said_in_one_sentence(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], mode: str, told: str
) -> None:
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("WANDB_MODE", mode)
    play(StoreSink(Store()), [make_spec()])
    result = cli("publish", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Error: ")
    assert told in result.err
    assert not list(tmp_path.glob("wandb/offline-run-*"))


def test_predictions_during_training_are_recorded_and_change_nothing(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for extra in ([], ["track.predictions_every=2"]):
        monkeypatch.setenv("BNEXP_RUNS_DIR", str(tmp_path / f"runs{len(extra)}"))
        cli("train", *SMALL, "train.epochs=5", *extra)
        (path,) = tmp_path.glob(f"runs{len(extra)}/train/*/summary.json")
        runs.append(RecordedRun(path.parent))
    plain, shown = runs
    assert (plain.predicted_epochs, shown.predicted_epochs) == ([], [2, 4])
    times = {"time/epoch_seconds", "time/images_per_second"}
    first, second = ({name: value for name, value in run.summary.metrics.items() if name not in times} for run in runs)
    assert first == second
    frames = [frame for epoch in (2, 4, None) if (frame := shown.outputs(epoch)) is not None]
    assert len({tuple(frame["loss"]) for frame in frames}) == 3


@pytest.mark.parametrize(
    ("package", "mode", "told"),
    [
        (
            "raise ImportError('no protobuf')",
            "",
            "wandb cannot be used (ImportError: no protobuf), so runs are recorded here only",
        ),
        ("", "offline", "wandb cannot be used (AttributeError: module 'wandb' has no attribute"),  # half removed
        ("raise ImportError", "disabled", ""),
    ],
)
def test_a_broken_wandb_costs_one_line_and_nothing_else(
    package: str, mode: str, told: str, shared_cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "stub" / "wandb").mkdir(parents=True)
    (tmp_path / "stub" / "wandb" / "__init__.py").write_text(package)
    command = [sys.executable, "-m", "bnexp", "study", "batchnorm", "budget=smoke", "study.seeds=1", "track.wandb.mode=auto"]
    path = os.pathsep.join([str(tmp_path / "stub"), str(Path(__file__).parents[2])])
    environment = os.environ | {"PYTHONPATH": path, "WANDB_MODE": mode}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "ESTIMATE" in done.stdout
    (report,) = tmp_path.glob("runs/batchnorm/study-*/report.html")
    lines = done.stderr.splitlines()
    assert lines[-1] == f"Report: {report}"
    said = [line for line in lines[:-1] if "wandb" in line.lower() or "W&B" in line]
    if not told:
        assert said == []
        return
    (line,) = said
    assert line.startswith(f"W&B: {told}")
    assert line.endswith("repair it with pip install --force-reinstall wandb, or do without it by track.wandb.mode=disabled.")
