"""``bnexp import``: what it prints, and how it ends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

SAMPLES = Path(__file__).parents[1] / "tracking" / "foreign" / "samples"
TABLE = "norm,lr,seed,test_accuracy\nbatch,0.1,0,0.95\nnone,0.1,0,0.90\n"


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(tmp_path / "runs"))


def test_it_says_what_was_taken_for_what_and_what_to_do_next(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(TABLE)
    tried = cli("import", str(tmp_path / "r.csv"), "--dry-run")
    assert "Nothing is written. Runs: 2 new.\n" in tried.err
    assert not (tmp_path / "runs").exists()
    result = cli("import", str(tmp_path / "r.csv"))
    assert result.code == 0
    assert [line.split() for line in result.out.splitlines()] == [
        ["study", "source", "runs", "new", "seeds"],
        ["r", "csv", "2", "2", "1"],
    ]
    assert "r: metrics: test_accuracy. Settings: norm, lr. Seed: seed.\n" in result.err
    assert "Runs: 2 new. Compare them: bnexp compare r\n" in result.err
    assert "Runs: 2 already there. Compare them: bnexp compare r\n" in cli("import", str(tmp_path / "r.csv")).err


def test_runs_and_show_read_what_was_imported(cli: Cli) -> None:
    assert cli("import", str(SAMPLES / "wandb")).code == 0
    listed = json.loads(cli("runs", "--json").out)
    assert [(run["run"], run["study"], run["seed"], run["status"]) for run in listed] == [
        ("wandb-abcd0000", "my_nets", 0, "finished"),
        ("wandb-abcd0001", "my_nets", 1, "finished"),
        ("wandb-abcd0002", "my_nets", None, "failed"),
    ]
    shown = json.loads(cli("show", "wandb-abcd0001", "--json").out)
    assert shown["summary"]["metrics"]["val/acc"] == 95.0
    assert shown["config"]["optimizer.name"] == "sgd"
    assert [row["step"] for row in shown["metrics"]] == [0, 1, 2, 3]


def test_json_has_one_entry_for_each_run(cli: Cli) -> None:
    entries = json.loads(cli("import", str(SAMPLES / "mlruns"), "--json", "--study", "mine").out)
    assert [(entry["action"], entry["study"], entry["seed"], entry["seed_key"]) for entry in entries] == [
        ("new", "mine", 7, "random_state"),
        ("new", "mine", 8, "random_state"),
    ]
    assert entries[0]["metrics"] == ["bad", "loss", "val/accuracy"]
    assert (
        cli("import", str(SAMPLES / "mlruns"), "--csv")
        .out.splitlines()[0]
        .startswith("run,action,source,study,arm,seed,status")
    )


def test_what_cannot_be_read_is_named_and_the_rest_is_imported(cli: Cli, tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "wandb", tmp_path / "wandb")
    (path,) = (tmp_path / "wandb").glob("*0001/*.wandb")
    path.write_bytes(b"\x1b]0;x\x07")
    result = cli("import", str(tmp_path / "wandb"))
    assert result.code == 3
    assert f"{path} is damaged: it does not begin like a file of W&B." in result.err
    assert "Runs: 2 new, 1 could not be imported. Compare them: bnexp compare my_nets\n" in result.err
    alone = cli("import", str(path))
    assert (alone.code, alone.err) == (2, f"Error: {path} is damaged: it does not begin like a file of W&B.\n")


def test_wrong_use_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(TABLE)
    assert cli("import", str(tmp_path / "no")).code == 2
    result = cli("import", str(tmp_path / "r.csv"), "--metrics", "test_acc")
    known = "it has norm, lr, seed, test_accuracy."
    assert (result.code, result.err) == (
        2,
        f"Error: {tmp_path}/r.csv has no column test_acc: {known} Did you mean test_accuracy?\n",
    )
    result = cli("import", str(SAMPLES / "mlruns"), "--run", "x")
    assert result.err == "Error: --metrics and --run tell the columns of a CSV file, and none is among the paths.\n"
