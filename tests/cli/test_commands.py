"""The commands, from what is typed to what is printed and recorded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer import rich_utils

from bnexp.config.options import DataName
from bnexp.data import download, resident
from bnexp.data.catalogue import CATALOGUE
from bnexp.tracking.store import Store
from tests.cli.conftest import Cli, only

QUICK = ("data=digits", "train.epochs=1", "executor=inline")
SMOKE = ("budget=smoke", "study.seeds=1", "train.epochs=1", "executor=inline")


def test_a_study_trains_compares_and_reports_and_repeats_nothing(cli: Cli) -> None:
    first = cli("study", "batchnorm", "budget=smoke", "executor=inline", "--json")
    assert first.code == 0
    result = json.loads(first.out)
    assert [arm["arm"] for arm in result["arms"]] == ["none", "after_pool"]
    assert result["verdict"] == "ESTIMATE"  # two seeds allow no verdict
    assert "4/4" in first.err
    report = Path(first.err.rsplit("Report: ", 1)[1].strip())
    assert "Does batch norm help this network?" in report.read_text()

    files = {path: path.stat().st_mtime_ns for path in Store().root.glob("*/*/summary.json")}
    again = cli("study", "batchnorm", "budget=smoke", "executor=inline", "--json")
    assert json.loads(again.out) == result
    assert "4 finished before" in again.err
    assert {path: path.stat().st_mtime_ns for path in Store().root.glob("*/*/summary.json")} == files

    more = cli("study", "batchnorm", "budget=smoke", "study.seeds=3", "executor=inline")
    assert "4 finished before" in more.err
    assert "2/2" in more.err


def test_runs_of_one_study_serve_another(cli: Cli) -> None:
    cli("study", "batchnorm", *SMOKE)
    result = cli("study", "placement", *SMOKE)
    assert "1 finished before" in result.err
    assert len(list(Store().runs())) == 5


def test_the_table_has_answer_arms_and_comparison(cli: Cli) -> None:
    result = cli("study", "batchnorm", *SMOKE)
    for word in ("none", "after_pool", "95 % interval", "ESTIMATE", "Held fixed: data.name=digits"):
        assert word in result.out
    assert "\nArms: none is norm=none; after_pool is norm=batch norm.placement=after_pool\n" in result.out
    assert "\x1b" not in result.out + result.err  # not a terminal: no colours, no cursor movement
    report = cli("report", "batchnorm", "--md")
    assert report.out.startswith("| arm | baseline |")


def test_a_run_is_recorded_and_listed_and_shown(cli: Cli) -> None:
    trained = cli("train", *QUICK, "norm=batch", "--json")
    (row,) = json.loads(trained.out)
    assert trained.code == 0
    assert row["status"] == "finished"
    for name in ("config.yaml", "metrics.jsonl", "predictions.parquet", "model.safetensors", "summary.json"):
        assert (Path(row["path"]) / name).exists()
    (listed,) = json.loads(cli("runs", "--json").out)
    assert listed["run"] == row["run"]
    shown = json.loads(cli("show", row["run"][:6], "--json").out)
    assert shown["config"]["norm"]["kind"] == "batch"
    assert cli("show", "zzz").code == 2


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_every_launcher_trains_the_same_runs(cli: Cli, launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ("-m", *QUICK, "norm=none,batch", "--json")
    cohort = json.loads(cli("train", *overrides).out)
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(tmp_path / launcher))
    other = json.loads(cli("train", *overrides, f"hydra/launcher={launcher}").out)
    assert len(other) == 2
    for row in cohort + other:
        row.pop("path")
    assert other == cohort


def test_a_study_runs_through_train_and_another_launcher(cli: Cli) -> None:
    result = cli("train", "-m", "study=batchnorm", *SMOKE, "hydra/launcher=basic", "--json")
    assert [row["norm"] for row in json.loads(result.out)] == ["none", "batch after_pool"]
    assert "2 finished before" in cli("study", "batchnorm", *SMOKE).err


def test_a_dry_run_lists_and_trains_nothing(cli: Cli) -> None:
    result = cli("study", "learning_rate", "study.seeds=2", "--dry-run", "--json")
    assert len(json.loads(result.out)) == 2 * 11 * 2
    assert "44 to train" in result.err
    assert len(json.loads(cli("train", "-m", "seed=range(5)", "--dry-run", "--json").out)) == 5
    assert not list(Store().root.glob("*/*"))


def test_a_failed_run_ends_in_code_three_and_keeps_the_others(cli: Cli) -> None:
    # 1,366 training images leave a last batch of one in batches of 65: one value per channel for a linear norm.
    bad = ("train.batch_size=65", "norm.linear=true")
    result = cli("train", "-m", *QUICK, "norm=none,batch", *bad, "--json")
    assert result.code == 3
    assert [row["norm"] for row in json.loads(result.out)] == ["none"]
    assert "norm3 has one value per channel" in result.err


def test_divergence_is_counted_at_chance_and_flagged(cli: Cli) -> None:
    result = cli("study", "batchnorm", *SMOKE, "optim.lr=1e6", "--json")
    arms = json.loads(result.out)["arms"]
    assert result.code == 3
    assert arms[0]["diverged"] == 1
    assert arms[0]["mean"] == pytest.approx(10.0)


def test_a_study_whose_data_is_out_of_reach_leaves_no_trace(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("BNEXP_DATA_DIR", str(tmp_path / "raw"))
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("BNEXP_DATA_MIRROR", "http://127.0.0.1:9")
    monkeypatch.setattr(download, "BACKOFF_SECONDS", (0.0, 0.0))
    result = cli("study", "batchnorm", "data=kmnist")
    assert (result.code, result.err.count("Could not download")) == (1, 1)
    assert [path for path in (tmp_path / "runs").rglob("*") if ".locks" not in path.parts] == []


def test_the_list_of_data_sets_says_what_is_here(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNEXP_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(tmp_path / "cache"))
    for file in CATALOGUE[DataName.kmnist].files:
        (tmp_path / file.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file.path).touch()
    cli("data", "digits")
    here = {row["data"]: row["here"] for row in json.loads(cli("data", "--json").out)}
    assert (here["digits"], here["kmnist"], here["cifar10"], here["npz"]) == ("packed", "raw files", "no", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["study", "batchnrm"], "Did you mean batchnorm?"),
        (["study", "data=digits"], "the study's name comes first: bnexp study batchnorm data=digits"),
        (["train", "optim.lr=-1"], "optim.lr=-1 is out of range"),
        (["train", "optim.lr=0.1,0.2"], "add -m"),
        (["train", "data=digits", "data.train_size=5000", "--dry-run"], "digits has 1366 training images"),
        (["train", "-m", "data=digits", "data.train_size=50,5000"], "data.train_size=5000 is more than there is"),
        (["study", "batchnorm", "data=digits", "data.train_size=5000"], "allowed is at most 1366 or null (all)"),
        (["study", "batchnorm", "data=digits", "budget=quick", "data.train_size=5000", "--dry-run"], "is more than there is"),
        (["train", "--json", "--csv"], "--json and --csv exclude each other"),
        (["train", "train.device=mps", *QUICK], "train.device=mps does not exist here"),
        (["data", "mnst"], "Did you mean mnist?"),
        (["report", "batchnorm"], "no study is recorded"),
        (["config", "--md"], "--md goes with --keys"),
        (["config", "--keys", "optim"], "--keys lists all keys with their defaults: leave out optim, or leave out --keys."),
        (["nonsense"], "Error: there is no command nonsense. (see bnexp --help)\n"),
        (["stdy"], "there is no command stdy. Did you mean study? (see bnexp --help)"),
        (["diff", "3f2a"], "Error: bnexp diff needs A and B. Example: bnexp diff 3f2a 91bc (see bnexp diff --help)\n"),
        (["predict"], "bnexp predict needs RUN. Example: bnexp predict 3f2a digit.png (see bnexp predict --help)"),
        (["import"], "bnexp import needs PATH. Example: bnexp import wandb/ results.csv --study baseline (see"),
        (["runs", "--last", "0"], "Error: --last should be at least 1. Example: bnexp runs batchnorm --last 20 (see"),
        (["runs", "--last", "many"], "--last should be a valid integer. Example: bnexp runs"),
        (["runs", "--where"], "--where needs a value."),
        (
            ["data=digits", "study", "batchnorm"],
            "data=digits stands before the command; write it behind: bnexp study ... data=digits.",
        ),
        (["norm=batch"], "norm=batch stands before the command; write it behind: bnexp train ... norm=batch."),
        (["--json", "runs"], "--json stands before the command; write it behind: bnexp runs ... --json."),
        (["--cfg", "job", "train"], "--cfg stands before the command; write it behind: bnexp train ... --cfg."),
        (["list"], "there is no command list. Did you mean bnexp runs? See all with bnexp --help."),
        (["train", "--lr", "0.1"], "there is no option --lr; settings are written without dashes: optim.lr=0.1."),
        (["study", "batchnorm", "--seeds", "3"], "settings are written without dashes: study.seeds=3."),
        (["study", "batchnorm", "--data=digits"], "settings are written without dashes: data=digits."),
        (["study", "batchnorm", "--norm"], "settings are written without dashes: norm=VALUE."),
        (["runs", "--lr", "0.1"], 'there is no option --lr; runs are chosen by a condition: --where "optim.lr = 0.1".'),
        (["compare", "--norm", "bn"], """runs are chosen by a condition: --where "norm.kind = 'batch'".\n"""),
        (["compare", "--arm", "batch"], "there is no option --arm."),  # a key of studies, not of runs
        (["study", "batchnorm", "--max-seed", "3"], "there is no option --max-seed. Did you mean --max-seeds?"),
    ],
)
def test_wrong_use_is_one_sentence_and_code_two(cli: Cli, arguments: list[str], sentence: str) -> None:
    result = cli(*arguments)
    assert sentence in result.err
    assert "Traceback" not in result.err
    assert "Usage:" not in result.err
    assert result.code == 2
    assert not list(Store().root.glob("*/*/summary.json"))


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        (["config", f"optim.lr={'x' * 100_000}"], "is not possible: allowed is a number above 0 (learning rate (peak)).\n"),
        (["bench", "--rungs", "no such rung " * 9_000], "B5, P1, P2, S0, S1.\n"),
        (["nonsense" * 10_000], "(see bnexp --help)\n"),
    ],
)
def test_a_long_value_is_not_repeated_whole(cli: Cli, arguments: list[str], end: str) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert result.err.endswith(end)
    assert len(result.err) < 1_000
    assert "characters left out" in result.err


def test_without_a_command_the_help_is_shown_and_nothing_else(cli: Cli) -> None:
    result = cli()
    assert "Run a controlled comparison" in result.out
    assert result.err == ""
    assert result.code == 2


def test_overrides_that_no_study_can_run_with_are_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "batchnorm", "learning_rate")
    result = cli("study", "--all", "data=digits", "data.train_size=5000", "--dry-run")
    assert result.code == 2
    for name in ("batchnorm", "learning_rate"):
        assert f"study {name} cannot run: " in result.err
    assert "no study can run with these overrides" in result.err
    assert "Traceback" not in result.err
    assert not list(Store().root.glob("*/*/summary.json"))


def test_debug_shows_the_traceback(cli: Cli) -> None:
    assert "Traceback" in cli("train", "optim.lr=-1", "--debug").err


def test_the_configuration_is_shown_whole(cli: Cli) -> None:
    tree = json.loads(cli("config", "norm=batch", "--json").out)
    assert tree["norm"]["kind"] == "batch"
    assert len(tree["run_id"]) == 12
    keys = json.loads(cli("config", "--keys", "--json").out)
    assert {"optim.lr", "norm.placement", "track.wandb.mode"} <= {row["key"] for row in keys}


def test_studies_and_data_sets_are_listed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, *(few := ("batchnorm", "conv_bias", "learning_rate")))
    rows = json.loads(cli("study", "--json").out)
    assert {row["study"] for row in rows} == set(few)
    assert all(row["question"].endswith("?") for row in rows)
    assert {row["data"] for row in json.loads(cli("data", "--json").out)} >= {"digits", "mnist", "cifar10", "npz"}
    assert "training images" in cli("data", "digits").out
    facts = {row["fact"]: row["value"] for row in json.loads(cli("data", "digits", "--json").out)}
    assert "Alpaydin" in facts["source"]
    assert facts["image"] == "1x32x32"


def test_help_has_one_pair_of_brackets_and_whole_install_lines(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", 120)
    assert "[[" not in cli("show", "--help").out
    assert "pip install 'bnexp[reports]'" in " ".join(cli("report", "--help").out.replace("│", "").split())


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom bnexp.cli.app import main\nsys.argv = ['bnexp', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'wandb', 'torchvision', 'hydra', 'polars', 'altair', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    for arguments in (["--help"], ["study", "--help"], ["train", "--help"]):
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, timeout=60)


@pytest.mark.slow
def test_an_interrupted_study_keeps_what_is_finished_and_goes_on(shared_cache: Path, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).parent / "bnexp"),
        "study",
        "batchnorm",
        "data=digits",
        "train.epochs=3",
        "study.seeds=3",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=tmp_path) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "1/6" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "the same command goes on from there" in rest
    assert "Traceback" not in rest
    done = len(list(Store().runs()))
    assert 1 <= done < 6
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, env=dict(os.environ))
    assert again.returncode == 0
    assert f"{done} finished before" in again.stderr


def test_two_processes_share_the_work_and_repeat_nothing(shared_cache: Path, tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).parent / "bnexp"),
        "study",
        "batchnorm",
        "data=digits",
        "train.epochs=1",
        "study.seeds=2",
    ]
    pair = [
        subprocess.Popen(
            [*command, "executor=inline", "--json"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
        )
        for _ in range(2)
    ]
    results = [process.communicate(timeout=120) for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    assert results[0][0] == results[1][0]
    trained = sum(err.count("test accuracy") for _, err in results)
    assert trained == 4


def test_a_budget_uses_all_images_of_smaller_data_and_says_so(cli: Cli, tmp_path: Path) -> None:
    said = "has {} training images, fewer than the 2,000 of the budget: all of them are used."
    digits = ("study", "batchnorm", "data=digits", "budget=quick", "study.seeds=1", "train.epochs=1", "executor=inline")
    assert said.format("1,409") in cli(*digits, "--dry-run").err
    result = cli(*digits)
    assert (result.code, said.format("1,409") in result.err) == (0, True)
    assert "finished before" in cli(*digits, "data.train_size=null").err  # the same runs
    images, labels = np.random.default_rng(0).integers(0, 255, (80, 16, 16), np.uint8), np.arange(80) % 2
    np.savez(tmp_path / "mine.npz", x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
    own = ("data=npz", f"data.root={tmp_path / 'mine.npz'}", "data.val_fraction=0.1", "train.epochs=1", "executor=inline")
    result = cli("train", *own, "budget=quick", "--json")
    assert (result.code, said.format(72) in result.err) == (0, True)
    (row,) = json.loads(cli("train", *own, "--json").out)
    assert row == json.loads(result.out)[0]
    refused = cli("study", "batchnorm", *own, "data.train_size=73", "--dry-run")
    assert (refused.code, "npz has 72 training images" in refused.err) == (2, True)


@pytest.mark.parametrize("command", [("study", "batchnorm"), ("train",)])
def test_a_dry_run_looks_for_the_images_of_the_user(cli: Cli, command: tuple[str, ...]) -> None:
    result = cli(*command, "data=image_folder", "data.root=nosuch", "--dry-run")
    assert (result.code, result.out) == (2, "")
    assert "data.root=nosuch is not a directory" in result.err


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of open files")
def test_a_study_of_more_runs_than_files_may_be_open(shared_cache: Path, tmp_path: Path) -> None:
    bnexp = str(Path(sys.executable).parent / "bnexp")
    study = f"{bnexp} train -m data=digits data.train_size=10 data.size=16 train.epochs=1 executor.workers=1 'seed=range(50)'"
    done = subprocess.run(f"ulimit -n 48; {study}", shell=True, capture_output=True, text=True, cwd=tmp_path, timeout=200)
    assert "50/50" in done.stderr
    assert done.returncode == 0


def test_changed_contents_of_the_users_file_train_anew(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    command = ("train", "data=npz", f"data.root={path}", "train.epochs=1", "executor=inline", "--json")
    results = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        images, labels = rng.integers(0, 255, (80, 16, 16), np.uint8), np.arange(80) % 2
        np.savez(path, x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
        results.append(cli(*command))
    assert all("1/1" in result.err for result in results)
    assert len(list(Store().runs())) == 1  # the record of the earlier contents has been replaced
    assert "1/1" not in cli(*command).err


def test_the_users_file_is_prepared_once_to_know_finished_runs_and_to_train_the_rest(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = np.random.default_rng(0).integers(0, 255, (80, 16, 16), np.uint8), np.arange(80) % 2
    np.savez(tmp_path / "mine.npz", x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
    own = ("data=npz", f"data.root={tmp_path / 'mine.npz'}", "budget=quick", "train.epochs=1", "executor=inline")
    cli("train", *own)
    times, prepare = [], resident.prepare
    monkeypatch.setattr(resident, "prepare", lambda *arguments: times.append(1) or prepare(*arguments))
    result = cli("train", "-m", *own, "seed=0,1", "--json")
    assert (result.code, len(json.loads(result.out)), "1/1" in result.err) == (0, 2, True)
    assert len(times) == 1


def test_a_damaged_record_is_named_and_trained_again(cli: Cli, caplog: pytest.LogCaptureFixture) -> None:
    cli("study", "batchnorm", *SMOKE)
    for number, content in enumerate(['{"run_id": "', "{}", ""]):
        path = sorted(Store().root.glob("*/*/summary.json"))[0]
        path.write_text(content)
        assert cli("runs", "--json").out.count('"run"') == 1
        assert str(path) in caplog.text
        again = cli("study", "batchnorm", *SMOKE)
        assert (again.code, "1 finished before" in again.err) == (0, True), number


def test_a_data_set_out_of_reach_fails_its_runs_and_no_others(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNEXP_DATA_MIRROR", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setattr(download, "BACKOFF_SECONDS", (0.0, 0.0))
    result = cli("train", "-m", "data=digits,kmnist", "train.epochs=1", "executor=inline", "--json")
    assert result.code == 3
    assert [row["data"] for row in json.loads(result.out)] == ["digits"]
    assert "Could not download train-images-idx3-ubyte.gz" in result.err
    study = cli("study", "batchnorm", "data=kmnist", "study.seeds=1")
    assert study.code == 1
    assert study.err.count("Could not download") == 1  # tried once, said once


def test_a_records_directory_that_cannot_be_used_is_named(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(tmp_path / "file"))
    result = cli("study", "batchnorm", *SMOKE)
    assert result.code == 1
    assert "BNEXP_RUNS_DIR" in result.err
    assert str(tmp_path / "file") in result.err


def test_an_unknown_mode_of_wandb_is_refused_before_training(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "bogus")
    result = cli("train", *QUICK)
    assert result.code == 2
    assert "WANDB_MODE=bogus is not possible: allowed are online, offline, disabled" in result.err


@pytest.mark.parametrize("pipe", ["|", "2>&1 |"])
def test_a_reader_that_leaves_early_costs_no_report(shared_cache: Path, tmp_path: Path, pipe: str) -> None:
    bnexp = str(Path(sys.executable).parent / "bnexp")
    command = f"{bnexp} study batchnorm {' '.join(SMOKE)} {pipe} head -n 1"
    subprocess.run(command, shell=True, check=True, capture_output=True, cwd=tmp_path, timeout=120)
    assert list(Store().root.glob("*/study-*/report.html"))
