"""The executors train the same runs to the same numbers, and outlive their workers."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import Pipe, forkserver
from pathlib import Path

import numpy as np
import pytest
import torch

import bnexp
from bnexp.data.batches import DeviceData
from bnexp.data.resident import Resident, prepare
from bnexp.metrics import EpochMetrics, Record, RunFailed, RunFinished, RunStarted
from bnexp.plan.compose import compose
from bnexp.plan.spec import RunSpec
from bnexp.run import local
from bnexp.run.cohorts import Cohort
from bnexp.run.local import Pool, run_inline
from bnexp.training import engine

SMALL = ["data=digits", "train.epochs=1", "train.device=cpu"]
FEW = ["data.train_size=70", "data.size=16"]


def specs(*overrides: str, count: int = 3) -> list[RunSpec]:
    return [RunSpec(compose([*SMALL, f"seed={seed}", *overrides])) for seed in range(count)]


@pytest.fixture
def resident(shared_cache: Path) -> Resident:
    return prepare(compose(SMALL).data)


def finished(records: list[Record]) -> dict[str, RunFinished]:
    return {record.run_id: record for record in records if isinstance(record, RunFinished)}


def test_a_pool_of_processes_trains_the_same_bits_as_this_process(resident: Resident) -> None:
    singles = [(spec,) for spec in specs("norm=batch")]
    here = finished(list(run_inline(singles, resident)))
    there = finished(list(Pool(resident, num_workers=2).run(singles)))
    assert here.keys() == there.keys() == {spec.run_id for (spec,) in singles}
    for run_id, record in here.items():
        for name, weight in record.weights.items():
            np.testing.assert_array_equal(weight, there[run_id].weights[name])
        assert record.metrics["test/loss"] == there[run_id].metrics["test/loss"]


@pytest.mark.usefixtures("shared_cache")
def test_executors_and_cohorts_agree_within_rounding() -> None:
    """Fused, one by one and in other processes: equal numbers but for the order of sums in float32."""
    runs = specs("norm=batch", "train.epochs=2", *FEW)
    resident = prepare(runs[0].config.data)
    singles = [(spec,) for spec in runs]
    together = finished(list(run_inline([(runs[2], runs[0], runs[1])], resident)))
    for other in (run_inline(singles, resident), Pool(resident, num_workers=2).run(singles)):
        for run_id, record in finished(list(other)).items():
            assert record.metrics["test/loss"] == pytest.approx(together[run_id].metrics["test/loss"], abs=1e-4)
            for name, weight in record.weights.items():
                np.testing.assert_allclose(weight, together[run_id].weights[name], rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", 8), ("250000 100000", 2), ("1000 100000", 1), ("9900000 100000", 8)]
)
def test_a_containers_quota_limits_the_workers(text: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(local, "CPU_QUOTA", tmp_path / "cpu.max")
    assert local.num_cores() == 8
    (tmp_path / "cpu.max").write_text(text)
    assert local.num_cores() == cores


def test_an_error_in_one_run_leaves_the_others_alone(resident: Resident) -> None:
    good, other = specs(count=2)
    bad = RunSpec(compose([*SMALL, "train.batch_size=1", "norm=batch", "norm.placement=after_pool"]))
    bad.config.norm.linear = True  # past validation: one value per channel
    records = list(Pool(resident, num_workers=2).run([(good,), (bad,), (other,)]))
    assert finished(records).keys() == {good.run_id, other.run_id}
    (failure,) = [record for record in records if isinstance(record, RunFailed)]
    assert failure.run_id == bad.run_id
    assert "one value" in failure.error
    assert "Traceback" in failure.traceback


class SmallDevice:
    """``engine.fit`` on a device that holds so many runs at once: more run out of memory after their first epoch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, holds: int) -> None:
        self.holds, self.sizes = holds, list[int]()
        self.fit = engine.fit
        monkeypatch.setattr(engine, "fit", self)

    def __call__(self, cohort: Cohort, data: DeviceData, stops: engine.Stops | None) -> Iterator[Record]:
        self.sizes.append(len(cohort))
        for record in self.fit(cohort, data, stops):
            yield record
            if len(cohort) > self.holds and isinstance(record, EpochMetrics):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.usefixtures("shared_cache")
def test_a_cohort_that_runs_out_of_memory_is_trained_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = tuple(specs("train.epochs=2", *FEW, count=5))
    resident = prepare(cohort[0].config.data)
    expected = finished(list(run_inline([cohort], resident)))
    device = SmallDevice(monkeypatch, holds=2)
    records = list(run_inline([cohort], resident))
    assert device.sizes == [5, 2, 3, 2, 1]
    assert not any(isinstance(record, RunFailed) for record in records)
    found = finished(records)
    for spec in cohort:
        assert found[spec.run_id].metrics["test/loss"] == pytest.approx(expected[spec.run_id].metrics["test/loss"], abs=1e-4)
        last_start = max(i for i, r in enumerate(records) if isinstance(r, RunStarted) and r.run_id == spec.run_id)
        epochs = [r.epoch for r in records[last_start:] if isinstance(r, EpochMetrics) and r.run_id == spec.run_id]
        assert epochs == [1, 2]


@pytest.mark.usefixtures("shared_cache")
def test_a_run_that_is_too_large_alone_fails_and_says_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = tuple(specs(*FEW, count=2))
    resident = prepare(cohort[0].config.data)
    device = SmallDevice(monkeypatch, holds=0)
    failures = [record for record in run_inline([cohort], resident) if isinstance(record, RunFailed)]
    assert device.sizes == [2, 1]
    assert {record.run_id for record in failures} == {spec.run_id for spec in cohort}
    assert "does not fit into the memory" in failures[0].error
    assert "train.batch_size=64" in failures[0].error


def kill_on_start(resident: Resident, times: int) -> list[Record]:
    """Train two runs on one worker; the worker is killed as often as said when the first run starts."""
    pool = Pool(resident, num_workers=1)
    records = []
    first, second = specs(count=2)
    for record in pool.run([(first,), (second,)]):
        records.append(record)
        if isinstance(record, RunStarted) and record.run_id == first.run_id and times:
            times -= 1
            os.kill(pool._workers[0].process.pid, signal.SIGKILL)
    return records


def test_a_killed_worker_is_replaced_and_its_run_tried_again(resident: Resident) -> None:
    records = kill_on_start(resident, times=1)
    assert len(finished(records)) == 2
    assert not any(isinstance(record, RunFailed) for record in records)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no fork server")
def test_a_fork_server_that_is_killed_with_its_workers_is_started_again(resident: Resident) -> None:
    pool = Pool(resident, num_workers=1)
    records = []
    for record in pool.run([(spec,) for spec in specs(count=2)]):
        records.append(record)
        if len(records) == 1:
            os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]
    assert len(finished(records)) == 2
    assert not any(isinstance(record, RunFailed) for record in records)


def test_a_run_that_kills_two_workers_fails_and_the_others_go_on(resident: Resident) -> None:
    records = kill_on_start(resident, times=2)
    first, second = specs(count=2)
    assert finished(records).keys() == {second.run_id}
    (failure,) = [record for record in records if isinstance(record, RunFailed)]
    assert failure.run_id == first.run_id
    assert "killed by signal SIGKILL, 2 times in a row" in failure.error


def test_a_worker_goes_on_while_nobody_takes_its_records(resident: Resident) -> None:
    pool = Pool(resident, num_workers=1)
    records = pool.run([(spec,) for spec in specs()])
    assert any(isinstance(record, RunFinished) for record in records)  # up to the first of them
    connection = pool._workers[0].connection
    assert connection.recv() is None
    assert isinstance(connection.recv(), RunStarted)
    records.close()


def test_no_run_waits_behind_a_longer_one(resident: Resident) -> None:
    pool = Pool(resident, num_workers=2)
    (long,), short = specs("train.epochs=3", count=1), specs(count=3)
    records = pool.run([(spec,) for spec in (long, *short)])
    next(records)
    assert [len(worker.cohorts) for worker in pool._workers] == [1, 2]
    assert len(finished(list(records))) == 4


def test_stopping_early_leaves_no_worker(resident: Resident) -> None:
    pool = Pool(resident, num_workers=2)
    records = pool.run([(spec,) for spec in specs()])
    next(records)
    processes = [worker.process for worker in pool._workers]
    records.close()
    assert len(processes) == 2
    assert not any(process.is_alive() for process in processes)


def test_what_workers_log_is_said_once_in_this_process(resident: Resident, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = Pipe()
    forwarder = local._Forwarder(theirs)
    for _ in range(2):
        forwarder.handle(logging.makeLogRecord({"msg": "Compiling kernels, %s.", "args": ("once",)}))
    pool = Pool(resident, num_workers=2)
    for _ in range(2):
        pool._say(ours.recv().text)
    assert [record.getMessage() for record in caplog.records] == ["Compiling kernels, once."]


def test_a_broken_numba_is_said_once_before_anything_trains(tmp_path: Path) -> None:
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba/__init__.py").write_text("raise OSError('no library')")
    places = {"BNEXP_RUNS_DIR": str(tmp_path / "runs"), "BNEXP_CACHE_DIR": str(tmp_path / "cache")}
    path = os.pathsep.join([str(tmp_path), str(Path(bnexp.__file__).parents[1])])
    command = [sys.executable, "-m", "bnexp", "train", "-m", "seed=0,1", "norm=none,batch", "data=digits", "executor.workers=2"]
    environment = os.environ | places | {"PYTHONPATH": path, "WANDB_MODE": "disabled"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert done.stderr.count("cannot be imported here (no library): use train.kernels=torch") == 1
    assert "Traceback" not in done.stderr


def test_garbage_with_tensors_is_found_soon_while_a_users_network_trains(
    resident: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line has Python look seldom. A network that leaves 1 MB in a cycle at each step would fill the memory."""
    seen: list[tuple[int, int, int]] = []
    monkeypatch.setattr(local, "train_cohort", lambda *_: iter([seen.append(gc.get_threshold())]))
    before = gc.get_threshold()
    try:
        gc.set_threshold(200_000, 50, 50)
        list(run_inline([(specs(count=1)[0],)], resident))
        assert (seen, gc.get_threshold()) == ([(700, 10, 10)], (200_000, 50, 50))
    finally:
        gc.set_threshold(*before)
