"""Hydra's submitit launcher runs every job as a program of its own, as on SLURM, and records what the cohort launcher does."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from bnexp.tracking.store import Store
from tests.cli.conftest import Cli

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("submitit") is None, reason="needs the extra bnexp[submitit]"),
    # submitit leaves waiting for its jobs, and their closed pipes, to the garbage collector.
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]

SUBMITIT = ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5")


def test_a_study_through_submitit_records_the_same_runs_with_the_users_own_configuration(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs" / "optim").mkdir(parents=True)
    (tmp_path / "configs" / "optim" / "fast.yaml").write_text("name: sgd\nlr: 0.05\n")
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path / "configs"))
    common = ("data=digits", "optim=fast", "train.epochs=1", "executor=inline", "--json")
    expected = json.loads(cli("train", "-m", "norm=none,batch", *common).out)

    monkeypatch.setenv("BNEXP_RUNS_DIR", str(tmp_path / "submitit"))
    study = cli("study", "batchnorm", "study.seeds=1", *common, *SUBMITIT)
    assert study.code == 0, study.err
    assert [arm["arm"] for arm in json.loads(study.out)["arms"]] == ["none", "after_pool"]
    assert len(list(Store().root.glob(".hydra/.submitit/*/*_result.pkl"))) == 2  # the jobs were submitit's

    rows = json.loads(cli("train", "-m", "norm=none,batch", *common).out)  # trains nothing: lists what the jobs recorded
    assert [row["lr"] for row in rows] == [0.05, 0.05]
    for row in rows + expected:
        row.pop("path")
    assert rows == expected


def test_a_multirun_lists_what_submitits_jobs_trained(cli: Cli) -> None:
    result = cli("train", "-m", "data=digits", "train.epochs=1", "executor=inline", "norm=batch", "--json", *SUBMITIT)
    assert result.code == 0, result.err
    assert [(row["norm"], row["status"]) for row in json.loads(result.out)] == [("batch after_pool", "finished")]
