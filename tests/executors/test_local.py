"""The executors train the same runs to the same numbers, and outlive their workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from bnexp.compose import compose
from bnexp.data.resident import Resident, prepare
from bnexp.executors.local import Pool, run_inline
from bnexp.metrics import Record, RunFailed, RunFinished, RunStarted
from bnexp.plan import RunSpec

SMALL = ["data=digits", "train.epochs=1", "train.device=cpu"]


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


def test_an_error_in_one_run_leaves_the_others_alone(resident: Resident) -> None:
    good, other = specs(count=2)
    bad = RunSpec(compose([*SMALL, "train.batch_size=1", "norm=batch", "norm.placement=after_pool"]))
    bad.config.norm.linear = True  # past validation: one value a channel
    records = list(Pool(resident, num_workers=2).run([(good,), (bad,), (other,)]))
    assert finished(records).keys() == {good.run_id, other.run_id}
    (failure,) = [record for record in records if isinstance(record, RunFailed)]
    assert failure.run_id == bad.run_id
    assert "one value" in failure.error
    assert "Traceback" in failure.traceback


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


def test_a_run_that_kills_two_workers_fails_and_the_others_go_on(resident: Resident) -> None:
    records = kill_on_start(resident, times=2)
    first, second = specs(count=2)
    assert finished(records).keys() == {second.run_id}
    (failure,) = [record for record in records if isinstance(record, RunFailed)]
    assert failure.run_id == first.run_id
    assert "killed by signal SIGKILL, 2 times in a row" in failure.error


def test_stopping_early_leaves_no_worker(resident: Resident) -> None:
    pool = Pool(resident, num_workers=2)
    records = pool.run([(spec,) for spec in specs()])
    next(records)
    processes = [worker.process for worker in pool._workers]
    records.close()
    assert len(processes) == 2
    assert not any(process.is_alive() for process in processes)
