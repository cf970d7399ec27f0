"""A study on W&B, offline: one run for each training and one for the study, read back from the files; and without wandb."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.tracking.conftest import wandb_home  # noqa: F401
from tests.tracking.wandb_file import read_all

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning")  # wandb's own


def test_a_study_is_logged_run_by_run_and_as_a_whole(cli: Cli, wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    arguments = ["budget=smoke", "train.epochs=2", "study.seeds=1", "executor=inline", "track.wandb.mode=offline", "--json"]
    result = cli("study", "batchnorm", *arguments)
    verdict = json.loads(result.out)
    runs = read_all(wandb_home)
    group = f"batchnorm-{verdict['study_id']}"
    assert {run.run.run_group for run in runs.values()} == {group}
    assert sorted(run.run.job_type for run in runs.values()) == ["after_pool", "none", "study"]
    assert "wandb sync" in result.err

    (study,) = [run for run in runs.values() if run.run.job_type == "study"]
    assert study.summary["answer"] == verdict["answer"]
    assert {"verdict", "figures/val_accuracy", "figures/paired_differences"} <= set(study.summary)
    for outcome in verdict["outcomes"]:
        run = runs[outcome["run_id"]]
        assert run.summary["test/accuracy"]["last"] == pytest.approx(outcome["value"])
        assert [row["epoch"] for row in run.history if "epoch" in row] == [1, 2]
        assert "predictions" in run.summary


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
