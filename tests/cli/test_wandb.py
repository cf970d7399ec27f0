"""A study on W&B, offline: one run for each training and one for the study, read back from the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.tracking.conftest import wandb_home  # noqa: F401
from tests.tracking.wandb_file import read_all

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning")  # wandb's own


def test_a_study_is_logged_run_by_run_and_as_a_whole(cli: Cli, wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("WANDB_MODE", "offline")
    result = cli("study", "batchnorm", "budget=smoke", "train.epochs=2", "study.seeds=1", "executor=inline", "--json")
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
