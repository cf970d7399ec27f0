"""One measurement, whose processes are played: which command a rung is, and what is read from what it left."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bnexp.bench import measure as measuring
from bnexp.bench.environment import Environment
from bnexp.bench.measure import measure
from bnexp.bench.peer import peer_commands
from bnexp.bench.work import BenchError, RungResult, RunResult, Work
from bnexp.config.options import DataName, Device
from bnexp.metrics import EpochMetrics, Record, RunFinished, RunStarted
from bnexp.plan.spec import RunSpec
from bnexp.tracking.records import DataFacts
from bnexp.tracking.store import Store, StoreSink

WORK = Work(DataName.digits, 600, 2, 4, Device.cpu)
Command = Sequence[str]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[Command, Mapping[str, str]]]]:
    """Plays the processes: ``leave`` writes their files, given a folder. The list says which were started."""

    def play(leave: Callable[[Path], None], code: int = 0) -> list[tuple[Command, Mapping[str, str]]]:
        started: list[tuple[Command, Mapping[str, str]]] = []

        def timed(commands: Sequence[Command], variables: Mapping[str, str], errors: Any) -> tuple[float, int]:
            started.extend((command, variables) for command in commands)
            leave(Path(errors.name).parent)
            errors.write("a warning\nthe last line\n")
            return 12.0, code

        monkeypatch.setattr(measuring, "_timed", timed)
        monkeypatch.setattr(measuring, "num_cores", lambda: 2)
        return started

    return play


def records(folder: Path, work: Work, seconds: Callable[[int], float]) -> None:
    """What ``bnexp`` records of the work: an epoch of 600 images of run k takes ``seconds(k)``."""
    specs = [RunSpec(config) for config in work.configs()]
    sink = StoreSink(Store(folder), "bnexp", DataFacts(["a", "b"], 10, "content"))
    sink.begin(specs)
    for k, spec in enumerate(specs):
        time = {"time/epoch_seconds": seconds(k), "time/images_per_second": 600 / seconds(k)}
        end = RunFinished(spec.run_id, {"test/accuracy": 0.9 + k / 100}, 2 * seconds(k), None, {}, None)
        made: list[Record] = [RunStarted(spec.run_id, 123, 20, "cpu", "eager")]
        made += [EpochMetrics(spec.run_id, epoch, 10 * epoch, time) for epoch in (1, 2)]
        for record in [*made, end]:
            sink.record(spec, record)
    sink.close()


def test_bnexp_trains_into_records_of_its_own_with_w_and_b_offline(
    played: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BNEXP_CONFIG_PATH", "/mine")
    started = played(lambda folder: records(folder, WORK, lambda k: 1.0 + k))
    found = measure("B5", WORK, 3, tmp_path / "bench")
    ((command, variables),) = started
    assert command == [str(Path(sys.executable).parent / "bnexp"), *WORK.command("B5")]
    assert variables["BNEXP_RUNS_DIR"] == variables["WANDB_DIR"] != str(tmp_path / "bench")
    assert variables["WANDB_MODE"] == "offline"
    assert "BNEXP_CONFIG_PATH" not in variables
    assert (found.rung, found.num_runs, found.repeat, found.seconds, found.answer) == ("B5", 4, 3, 12.0, None)
    runs = [("after_pool", 0), ("none", 0), ("after_pool", 1), ("none", 1)]
    assert [(run.arm, run.seed) for run in found.result.runs] == runs
    assert [run.test_accuracy for run in found.result.runs] == pytest.approx([0.91, 0.9, 0.93, 0.92])
    assert (found.result.images, found.result.num_processes, found.result.num_threads) == (600 * 2 * 4, 2, 1)
    assert found.result.train_seconds == pytest.approx(2 * (1 + 2 + 3 + 4) / 2)  # by two processes
    assert list((tmp_path / "bench").iterdir()) == []


def test_the_runs_of_a_cohort_share_their_time(played: Any, tmp_path: Path) -> None:
    on_gpu = replace(WORK, device=Device.cuda)
    played(lambda folder: records(folder, on_gpu, lambda k: 3.0))
    found = measure("B5", on_gpu, 1, tmp_path).result
    assert (found.train_seconds, found.images, found.num_processes) == (6.0, 600 * 2 * 4, 1)


def test_a_single_run_is_trained_by_itself_and_named_like_its_arm(played: Any, tmp_path: Path) -> None:
    single = replace(WORK, num_runs=1)
    played(lambda folder: records(folder, single, lambda k: 3.0))
    found = measure("B5-torch", single, 1, tmp_path).result
    assert [(run.arm, run.seed) for run in found.runs] == [("after_pool", 0)]
    assert (found.train_seconds, found.num_processes) == (6.0, 1)


def test_a_rung_of_ours_is_this_python_and_says_itself_what_it_did(played: Any, tmp_path: Path) -> None:
    result = RungResult([RunResult("none", 1, 0.8), RunResult("none", 0, 0.9)], 2400, 5.0, 2, 1)
    started = played(lambda folder: (folder / "result.json").write_text(result.to_json()))
    found = measure("B2", WORK, 1, tmp_path)
    ((command, _),) = started
    assert command[:5] == [sys.executable, "-m", "bnexp.bench.rung", "B2", WORK.to_json()]
    assert found.result == replace(result, runs=result.runs[::-1])
    assert found.images_per_second == 480


def test_the_last_line_of_a_rung_that_fails_is_the_reason(played: Any, tmp_path: Path) -> None:
    played(lambda folder: None, code=3)
    with pytest.raises(BenchError, match=r"^rung B2 with 4 runs failed: the last line$"):
        measure("B2", WORK, 1, tmp_path)


def test_a_peer_needs_its_environment_and_all_of_its_runs(played: Any, tmp_path: Path, shared_cache: Path) -> None:
    def leave(folder: Path, count: int = 4) -> None:
        for k, (norm, seed) in enumerate([("none", 0), ("batch", 0), ("none", 1), ("batch", 1)][:count]):
            (folder / str(k)).mkdir()
            facts = {"norm": norm, "seed": seed, "test_accuracy": 0.9, "train_seconds": 3.0, "images": 1200}
            (folder / str(k) / "metrics.json").write_text(json.dumps(facts))

    with pytest.raises(BenchError, match=r"rung P1 needs an environment of its own"):
        measure("P1", WORK, 1, tmp_path)
    environment = Environment(Path("/peers/bin/python"), {})
    started = played(leave)
    found = measure("P1", WORK, 1, tmp_path, environment).result
    assert started[0][0][0] == "/peers/bin/python"
    assert (len(found.runs), found.images) == (4, 4800)
    played(lambda folder: leave(folder, 3))
    with pytest.raises(BenchError, match=r"^rung P1 finished 3 of 4 runs: the last line$"):
        measure("P1", WORK, 1, tmp_path, environment)


def test_the_sweep_of_a_peer_has_its_images_epochs_device_and_folder(
    tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def server(program: str, sweep: str, points: Sequence[Mapping[str, Any]]) -> Any:
        asked.append(sweep)
        raise InterruptedError

    monkeypatch.setattr("bnexp.bench.sweep_server.sweep_server", server)
    environment = Environment(Path("/peers/bin/python"), {})
    with pytest.raises(InterruptedError), peer_commands("P2", WORK, tmp_path, environment):
        pass
    command = yaml.safe_load(asked[0])["command"]
    given = [f"--data={tmp_path / 'images.npz'}", "--epochs=2", "--device=cpu", f"--out={tmp_path}", "${args}"]
    assert command == ["${env}", "WANDB_MODE=offline", "${interpreter}", "${program}", *given]
