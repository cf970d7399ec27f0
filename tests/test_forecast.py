"""What a dry run promises: who trains together, where, for how long and in how much memory."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bnexp.compose import compose
from bnexp.executors import arrange
from bnexp.forecast import PROCESS_BYTES, SHARED_BYTES, forecast, part_columns, part_rows
from bnexp.plan import RunSpec
from bnexp.tracking.store import Store


class MadeStore(Store):
    """Knows of finished runs that trained so many images a second on these devices."""

    def __init__(self, **speeds: float) -> None:
        self.speeds = speeds

    def latest(self, count: int) -> Any:
        for device, speed in self.speeds.items():
            metrics = {"time/images_per_second": speed}
            yield SimpleNamespace(
                summary={"data": "mnist", "model": "lenet", "batch_size": 64, "device": device, "metrics": metrics}
            )


def specs(*overrides: str, seeds: int = 3) -> list[RunSpec]:
    base = compose(["data=mnist", "data.train_size=10000", "train.epochs=2", "train.device=cpu", *overrides])
    return [RunSpec(replace(base, seed=seed)) for seed in range(seeds)]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrange, "_on_accelerator", lambda spec: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (120 * 2**20, 140 * 2**20))


def test_processes_share_the_libraries_and_the_time() -> None:
    parts = forecast(specs("executor=local", "executor.workers=2"), MadeStore(cpu=1000.0))
    assert [(len(part.runs), part.seconds) for part in parts] == [(1, 20.0)] * 3
    (row,) = part_rows(parts)
    assert row["runs"] == 3
    assert row["where"] == "2 processes"
    assert row["time"] == "40 s"  # two at once, then the third
    memory = int(row["memory"].removesuffix(" MiB")) * 2**20
    assert SHARED_BYTES + 2 * PROCESS_BYTES < memory < 2 * (SHARED_BYTES + PROCESS_BYTES)


def test_a_cohort_on_the_cpu_takes_the_time_of_its_runs() -> None:
    (part,) = forecast(specs("executor=inline"), MadeStore(cpu=1000.0))
    assert (len(part.runs), part.seconds) == (3, 60.0)
    assert part_rows([part])[0]["where"] == "this process"


@pytest.mark.usefixtures("gpu")
def test_a_gpu_trains_what_fits_at_once_and_its_speed_is_not_that_of_a_cpu() -> None:
    runs = specs(seeds=12)
    parts = forecast(runs, MadeStore(cpu=1000.0))
    assert [part.seconds for part in parts] == [None] * len(parts)
    assert part_rows(parts)[0]["time"] == "unknown"
    assert 1 < len(parts) < 12
    assert sum(len(part.runs) for part in parts) == 12
    assert all(part.bytes < 120 * 2**20 for part in parts)
    columns = part_columns(parts)
    assert columns.keys() == {spec.run_id for spec in runs}
    assert {extra["cohort"] for extra in columns.values()} == set(range(1, len(parts) + 1))
    timed = forecast(runs, MadeStore(cpu=1000.0, cuda=5000.0))
    assert [part.seconds for part in timed] == [4.0] * len(parts)  # all runs of a cohort at once


def test_each_data_set_and_network_is_counted_for_itself() -> None:
    runs = [*specs("executor=local", seeds=1), *specs("executor=local", "data=cifar10", "norm=batch", seeds=2)]
    parts = forecast(runs, MadeStore())
    assert [row["runs"] for row in part_rows(parts)] == [1, 2]
    assert parts[1].bytes > parts[0].bytes


def test_small_batches_take_longer_and_other_networks_are_timed_by_their_own_runs() -> None:
    store = MadeStore(cpu=1000.0)
    usual, one = (forecast(specs(f"train.batch_size={size}", seeds=1), store)[0].seconds for size in (64, 1))
    assert usual == 20.0
    assert one is not None
    assert one > 10 * usual
    mlp = specs("model=mlp", seeds=1)
    assert forecast(mlp, store)[0].seconds == forecast(mlp, MadeStore())[0].seconds
