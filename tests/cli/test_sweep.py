"""``bnexp sweep`` from a file to the best setting and its uncertainty, and on from where it was left."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import yaml

from bnexp.cli.sweep import sweep
from bnexp.comparison.sweep.record import SweepRecord, Trial, find_sweep, load
from bnexp.metrics import RunFailed
from bnexp.plan.spec import RunSpec
from bnexp.run import runner
from bnexp.run.sweep.listener import Listener
from bnexp.run.sweep.sweep import run_sweep
from bnexp.tracking.store import Store
from tests.cli.conftest import Cli

SMALL = ("data=digits", "data.train_size=70", "data.size=16", "data.val_fraction=0.3", "train.epochs=1", "executor=inline")
GRID: dict[str, Any] = {
    "method": "grid",
    "metric": {"name": "val/loss", "goal": "minimize"},
    "parameters": {"norm": {"values": ["none", "batch"]}, "optim.lr": {"values": [0.003, 0.03]}},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(GRID))
    return path


@pytest.fixture
def file_without_norms(file: Path) -> Path:
    parameters = {"model.activation": {"values": ["tanh", "relu"]}, "optim.lr": GRID["parameters"]["optim.lr"]}
    file.write_text(yaml.safe_dump(GRID | {"parameters": parameters}))
    return file


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the runs that train from now on."""
    trained: list[str] = []
    train = runner._execute
    monkeypatch.setattr(runner, "_execute", lambda specs, *rest: trained.extend(s.run_id for s in specs) or train(specs, *rest))
    return trained


def test_a_sweep_says_the_best_setting_with_the_uncertainty_of_fresh_seeds(
    cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("sweep", str(file), *SMALL, "--confirm", "1", "--fresh-seeds", "3")
    trained = counted(monkeypatch)
    first = cli(*command)
    assert first.code == 0, first.err
    assert "confirming the best points and the best of each norm (2 points) with seeds 1 to 3: 6 runs to train" in first.err
    assert len(trained) == 4 + 2 * 3
    assert "is the best of 4 points: val/loss" in first.out
    assert "with 3 fresh seeds (in the sweep" in first.out
    assert "not told apart from" in first.out
    assert "bnexp train data=digits" in first.out
    (line,) = [line for line in first.out.splitlines() if line.startswith("bnexp compare ")]
    assert "val/loss" in cli(*line.split()[1:]).out

    again = cli(*command, "--json")
    assert len(trained) == 10
    assert "(2 points) with seeds 1 to 3: all recorded" in again.err
    found = json.loads(again.out)
    values = [point["val/loss"] for point in found["points"]]
    assert values == sorted(values)
    assert [point["rank"] for point in found["points"]] == [1, 2, 3, 4]
    record = load(find_sweep("mine", Store()))  # type: ignore[arg-type]
    assert record.confirmed is not None
    assert record.confirmed.seeds == [1, 2, 3]
    best = found["points"][0]
    other = next(point for point in found["points"] if point["norm"] != best["norm"])
    assert record.confirmed.numbers == [best["point"], other["point"]]
    fresh = Store().finished(record.confirmed.run_ids[str(found["best"]["point"])])
    means = [run.summary.metrics["val/loss"] for run in fresh.values()]
    assert found["confirmed"][0]["mean"] == pytest.approx(sum(means) / 3, abs=1e-5)  # type: ignore[arg-type]
    assert found["confirmed"][0]["mean"] <= found["confirmed"][1]["mean"]
    assert {pair["verdict"] for pair in found["comparisons"]} == {"ESTIMATE"}  # three pairs are too few for a verdict
    from_python = run_sweep(str(file), SMALL, confirm=0, report=False)
    assert (from_python.record.command, len(trained)) == (f"bnexp sweep {file}", 10)


def test_a_dry_run_lists_the_points_and_what_is_recorded_of_them(cli: Cli, file: Path) -> None:
    assert cli("train", *SMALL, "norm=batch", "optim.lr=0.03").code == 0
    result = cli("sweep", str(file), *SMALL, "--dry-run", "--csv")
    rows = [line.split(",") for line in result.out.splitlines()]
    assert rows[0][:6] == ["run", "point", "norm", "optim.lr", "seed", "state"]
    assert [row[5] for row in rows[1:]] == ["to train"] * 3 + ["finished"]
    assert "4 points, 3 runs to train" in result.err
    assert find_sweep("mine", Store()) is None


def test_an_interrupted_sweep_says_what_it_has_and_goes_on(cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = runner._execute

    def interrupted(*arguments: Any) -> Any:
        for number, record in enumerate(train(*arguments)):
            if number > 8:
                raise KeyboardInterrupt
            yield record

    monkeypatch.setattr(runner, "_execute", interrupted)
    result = cli("sweep", str(file), *SMALL, "--confirm", "0")
    assert result.code == 130
    assert "is the best of 3 points" in result.out
    assert "3 finished, 1 missing" in result.out
    monkeypatch.setattr(runner, "_execute", train)
    trained = counted(monkeypatch)
    assert cli("sweep", str(file), *SMALL, "--confirm", "0").code == 0
    assert len(trained) == 1


def test_a_shorter_command_loses_nothing_that_is_recorded(
    cli: Cli, file_without_norms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("sweep", str(file_without_norms), *SMALL, "--confirm")
    assert cli(*command, "2", "--fresh-seeds", "2").code == 0
    folder = find_sweep("mine", Store())
    assert folder is not None
    whole = load(folder)
    trained = counted(monkeypatch)
    shorter = cli(*command, "0", "--count", "1")
    assert "point 1, all recorded" in shorter.err
    assert "is the best of 4 points" in shorter.out
    assert cli(*command, "1", "--fresh-seeds", "1", "--count", "2").code == 0
    assert (load(folder).trials, load(folder).confirmed) == (whole.trials, whole.confirmed)
    assert trained == []
    more = cli(*command, "3", "--fresh-seeds", "1")
    assert more.code == 0
    assert len(trained) == 1
    confirmed = load(folder).confirmed
    assert confirmed is not None
    assert [len(confirmed.run_ids[str(number)]) for number in confirmed.numbers] == [2, 2, 1]
    assert confirmed.seeds == [1, 2]


def test_a_wrong_file_ends_with_code_2_before_anything_trains(cli: Cli, file: Path) -> None:
    file.write_text(yaml.safe_dump(GRID | {"method": "gird"}))
    result = cli("sweep", str(file), *SMALL)
    assert result.code == 2
    assert result.err == "Error: mine.yaml: method: gird is not possible. Did you mean grid? Allowed are grid, random, bayes.\n"
    file.write_text(yaml.safe_dump(GRID | {"method": "random"}))
    assert "give a number of points: --count 20" in cli("sweep", str(file), *SMALL).err
    assert not Store().root.exists()


def test_a_grid_that_is_too_large_is_refused_at_once_and_not_cut_off(cli: Cli, file: Path) -> None:
    ranges = {name: {"distribution": "q_uniform", "min": 1, "max": 1000} for name in ("train.batch_size", "train.epochs")}
    file.write_text(yaml.safe_dump(GRID | {"parameters": ranges}))
    for extra in ((), ("--dry-run",)):
        result = cli("sweep", str(file), "data=digits", *extra)
        assert result.code == 2
        assert "mine makes 1,000,000 runs: allowed are at most 100,000; give fewer values, or --count 100." in result.err
    assert cli("sweep", str(file), "data=digits", "--dry-run", "--count", "3").code == 0


def test_a_dry_run_of_bayes_without_an_end_says_so_before_any_point(cli: Cli, file: Path) -> None:
    pytest.importorskip("optuna")
    file.write_text(yaml.safe_dump(GRID | {"method": "bayes"}))
    result = cli("sweep", str(file), *SMALL, "--dry-run")
    assert (result.code, result.out) == (2, "")
    assert "sweep mine-" in cli("sweep", str(file), *SMALL, "--dry-run", "--count", "2").err


@pytest.mark.parametrize("method", ["bayes", "random"])
def test_a_point_that_cannot_train_is_named_and_the_sweep_goes_on(
    method: str, cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "bayes":
        pytest.importorskip("optuna")
    rates = {"distribution": "normal", "mu": 0.01, "sigma": 0.1}
    parameters = {"norm": {"value": "batch"}, "optim.lr": rates}
    file.write_text(yaml.safe_dump(GRID | {"method": method, "parameters": parameters}))
    command = ("sweep", str(file), *SMALL, "--confirm", "0", "--count", "5", "--parallel", "2")
    first = cli(*command, "--json")
    assert first.code == 0, first.err
    points = json.loads(first.out)["points"]
    failed = {point["point"]: point for point in points if point["optim.lr"] < 0}
    assert 0 < len(failed) < 5
    for point in points:
        assert point["state"] == ("failed" if point["point"] in failed else "finished")
        assert ("is out of range" in point["error"], bool(point["runs"])) == (
            (True, False) if point["error"] else (False, True)
        )
    assert len(points) == 5
    number = min(failed)
    assert f"Point {number} cannot train: optim.lr={failed[number]['optim.lr']} is out of range" in first.err
    trained = counted(monkeypatch)
    again = cli(*command)
    assert f"is the best of {5 - len(failed)} points" in again.out
    assert f"Point {number} failed: optim.lr=" in again.out
    assert "norm" not in again.out.splitlines()[3].split()  # it has one value, so it is no column
    assert "norm=batch optim.lr=" in again.out.splitlines()[-1]  # but part of the command
    assert trained == []
    if method == "random":
        listed = cli(*command, "--dry-run")
        assert f"Point {number} cannot train: optim.lr=" in listed.err


def test_the_exit_code_says_whether_runs_failed_or_nothing_has_a_result(
    cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = runner._execute

    def failing(specs: Any, *rest: Any) -> Any:
        yield RunFailed(specs[0].run_id, "out of memory")
        yield from train(specs[1:], *rest)

    monkeypatch.setattr(runner, "_execute", failing)
    result = cli("sweep", str(file), *SMALL, "--confirm", "0", "--count", "2")
    assert result.code == 3
    assert "1 failed, 1 finished" in result.out
    assert "Point 1 failed: out of memory." in result.out
    parameters = {"optim.lr": {"distribution": "normal", "mu": 0.01, "sigma": 0.1}}  # the first draw of seed 2 is negative
    file.write_text(yaml.safe_dump(GRID | {"method": "random", "parameters": parameters}))
    nothing = cli("sweep", str(file), *SMALL, "--count", "1", "--search-seed", "2")
    assert nothing.code == 1
    assert "No point of the sweep has a result yet: 1 failed." in nothing.out
    assert "point 1, none can train" in nothing.err


def test_from_python_a_sweep_is_what_the_command_runs_by_default() -> None:
    command, function = signature(sweep).parameters, signature(run_sweep).parameters
    for name in ("count", "seeds", "search_seed", "confirm", "fresh_seeds"):
        assert function[name].default == command[name].default, name
    assert function["search_seed"].default == 0  # so that the points of random and bayes stay the same from version to version


class Together(Listener):
    """While the first command trains, another one works on the same sweep and ends before it."""

    def __init__(self, file: Path) -> None:
        self.files = [file]

    def planned(self, record: SweepRecord, trials: Sequence[Trial], todo: Sequence[RunSpec]) -> None:
        for file in [self.files.pop() for _ in self.files]:
            run_sweep(str(file), SMALL, confirm=1, fresh_seeds=1, report=False)


def test_two_commands_on_the_same_sweep_lose_nothing_of_each_other(file: Path) -> None:
    result = run_sweep(str(file), SMALL, count=1, confirm=0, report=False, listener=Together(file))
    assert [trial.state for trial in result.record.trials] == ["finished"] * 4
    assert len(result.fresh) == 2  # the best, and the best of the other norm
    assert load(result.record.folder).trials == result.record.trials


def test_bayes_without_optuna_says_what_to_install(cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    file.write_text(yaml.safe_dump(GRID | {"method": "bayes"}))
    result = cli("sweep", str(file), *SMALL, "--count", "2")
    assert result.code == 2
    assert "pip install 'bnexp[optuna]'" in result.err


def test_points_after_the_target_are_not_tried(cli: Cli, file: Path) -> None:
    metric = GRID["metric"] | {"target": 100.0}
    file.write_text(yaml.safe_dump(GRID | {"metric": metric}))
    result = cli("sweep", str(file), *SMALL, "--confirm", "0", "--parallel", "1")
    assert "val/loss has reached the target of 100" in result.err
    assert "the only point" in result.out
    assert len(load(find_sweep("mine", Store())).trials) == 1  # type: ignore[arg-type]


def test_a_recorded_sweep_gets_its_report_again_and_completes(cli: Cli, file: Path, tmp_path: Path) -> None:
    first = cli("sweep", str(file), *SMALL, "--confirm", "0")
    path = tmp_path / "runs" / "mine" / f"sweep-{first.err.partition('mine-')[2][:8]}" / "report.html"
    before = path.read_text()
    path.unlink()
    again = cli("report", "mine")
    assert (again.code, again.out) == (0, first.out)
    assert path.read_text() == before
    assert "is a sweep" in cli("report", "mine", "--metric", "test/loss").err
    from bnexp.cli.complete import studies, sweeps

    assert studies("mi") == [("mine", "sweep")]
    assert sweeps("lr") == ["lr_norm"]


def test_bayes_chooses_the_same_points_again_when_it_goes_on(cli: Cli, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    parameters = {
        "norm": GRID["parameters"]["norm"],
        "optim.lr": {"distribution": "log_uniform_values", "min": 0.001, "max": 1.0},
    }
    file.write_text(yaml.safe_dump(GRID | {"method": "bayes", "parameters": parameters}))
    command = ("sweep", str(file), *SMALL, "--confirm", "0", "--json", "--parallel", "2", "--count")

    def points(count: int) -> dict[int, tuple[Any, ...]]:
        result = cli(*command, str(count))
        assert result.code == 0, result.err
        assert result.err.count("recorded offline") == 1  # not after each round
        found = json.loads(result.out)["points"]
        return {point["point"]: (point["norm"], point["optim.lr"], point["val/loss"]) for point in found}

    monkeypatch.setenv("WANDB_MODE", "offline")
    first = points(2)
    trained = counted(monkeypatch)
    longer = points(4)
    told = cli(*command[:-2], "1", "--count", "4").err
    assert "chose 2 points at once so far; with 1 it would choose others than are recorded." in told
    assert len(trained) == 2
    assert {number: longer[number] for number in first} == first
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(file.parent / "other"))
    assert {number: point[:2] for number, point in points(4).items()} == {n: point[:2] for n, point in longer.items()}


def test_wandb_gets_all_runs_of_a_sweep_also_those_that_were_recorded_without_it(
    cli: Cli, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("sweep", str(file), *SMALL, "optim.lr=0.03", "--confirm", "1", "--fresh-seeds", "1")
    assert cli(*command).code == 0
    monkeypatch.setenv("WANDB_MODE", "offline")
    for _ in range(2):
        again = cli(*command)
        assert again.err.count("W&B: 4 runs are recorded offline; upload with: wandb sync") == 1
        assert len(list((tmp_path / "wandb" / "wandb").glob("offline-run-*"))) == 4
