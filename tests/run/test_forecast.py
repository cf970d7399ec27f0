"""What a dry run promises: who trains together, where, for how long and in how much memory."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bnexp.config.options import DataName, Device
from bnexp.config.schema import DataConfig, RunConfig, TrainConfig
from bnexp.plan.compose import compose
from bnexp.plan.spec import RunSpec
from bnexp.run import arrange
from bnexp.run.forecast import (
    PROCESS_BYTES,
    SHARED_BYTES,
    Part,
    duration_text,
    estimate_seconds,
    forecast,
    part_columns,
    part_rows,
)
from bnexp.tracking.records import Summary
from bnexp.tracking.store import Store
from bnexp.training.memory import estimate


class MadeStore(Store):
    """Knows of finished runs that trained so many images a second on these devices, each in order; ``known``: of all."""

    def __init__(self, known: dict[str, Any] | None = None, **speeds: float | list[float]) -> None:
        self.known = {"model": "lenet", "batch_size": 64} if known is None else known
        self.speeds = {device: speed if isinstance(speed, list) else [speed] for device, speed in speeds.items()}

    def latest(self, count: int) -> Any:
        texts = dict.fromkeys(("run_id", "study", "arm", "finished_at"), "")
        base = texts | {"data": "mnist", "levels": {}, "seed": 0, "status": "finished", "seconds": 1.0} | self.known
        for device, speed in [(device, speed) for device, speeds in self.speeds.items() for speed in speeds[-count:]]:
            yield SimpleNamespace(summary=Summary(**base, device=device, metrics={"time/images_per_second": speed}))


def specs(*overrides: str, seeds: int = 3) -> list[RunSpec]:
    base = compose(["data=mnist", "data.train_size=10000", "train.epochs=2", "train.device=cpu", *overrides])
    return [RunSpec(replace(base, seed=seed)) for seed in range(seeds)]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrange, "_on_accelerator", lambda spec: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (120 * 2**20, 900 * 2**20))


def test_processes_share_the_libraries_and_the_time() -> None:
    parts = forecast(specs("executor=local", "executor.workers=2"), MadeStore(cpu=1000.0))
    assert [(len(part.runs), part.seconds) for part in parts] == [(1, 20.0)] * 3
    (row,) = part_rows(parts)
    assert row["runs"] == 3
    assert row["where"] == "2 processes"
    assert row["time"] == "40 s"  # two at once, then the third
    memory = int(row["memory"].removesuffix(" MiB")) * 2**20
    assert SHARED_BYTES + 2 * PROCESS_BYTES < memory < 2 * (SHARED_BYTES + PROCESS_BYTES)


def test_runs_in_this_process_train_one_after_another_on_a_cpu() -> None:
    parts = forecast(specs("executor=inline"), MadeStore(cpu=1000.0))
    assert [(len(part.runs), part.seconds) for part in parts] == [(1, 20.0)] * 3
    (row,) = part_rows(parts)
    assert (row["where"], row["runs"], row["time"]) == ("this process", 3, "60 s")


@pytest.mark.usefixtures("gpu")
def test_a_gpu_trains_what_fits_at_once_and_its_speed_is_not_that_of_a_cpu() -> None:
    runs = specs(seeds=12)
    parts = forecast(runs, MadeStore(cpu=1000.0))
    assert [part.seconds for part in parts] == [None] * len(parts)
    assert [(row["cohort"], row["where"], row["time"]) for row in part_rows(parts)][:2] == [
        (1, "GPU", "unknown"),
        (2, "GPU", "unknown"),
    ]
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


def test_the_speed_is_the_median_of_the_latest_fifty_runs_and_an_estimate_where_there_is_none() -> None:
    runs = specs(seeds=1)
    assert forecast(runs, MadeStore(cpu=[1.0, 500.0, 1000.0, 2000.0, 90_000.0]))[0].seconds == 20.0
    fifty = [1000.0] * 25 + [3000.0] * 25
    assert forecast(runs, MadeStore(cpu=[5000.0, *fifty]))[0].seconds == 10.0
    assert forecast(runs, MadeStore())[0].seconds == pytest.approx(20_000 * (1 + 21 / 64) / 11_000)
    assert forecast([RunSpec(RunConfig(data=DataConfig(DataName.npz)))], MadeStore(cpu=1000.0))[0].seconds is None
    counted = RunConfig(data=DataConfig(DataName.npz), train=TrainConfig(epochs=1, steps_per_epoch=100))
    assert forecast([RunSpec(counted)], MadeStore(cpu=1000.0))[0].seconds == pytest.approx(100 * (64 + 21) / 11_000)


def test_records_tell_of_their_network_and_batches_and_old_ones_of_lenet_in_batches_of_64() -> None:
    assert forecast(specs(seeds=1), MadeStore({}, cpu=1000.0))[0].seconds == 20.0
    mlp = MadeStore({"model": "mlp", "batch_size": 21}, cpu=1000.0)  # 2000 a second in large batches
    assert forecast(specs("model=mlp", "train.batch_size=42", seeds=1), mlp)[0].seconds == 15.0
    assert forecast(specs(seeds=1), mlp) == forecast(specs(seeds=1), MadeStore())


def bytes_of(data: DataConfig) -> float:
    return forecast([RunSpec(RunConfig(data=data, train=TrainConfig(device=Device.cpu)))], MadeStore())[0].bytes


def test_channels_and_classes_take_memory() -> None:
    classes, own = {"cifar100": 100}, SHARED_BYTES + PROCESS_BYTES
    for name in DataName:
        channels = 3 if name in ("cifar10", "cifar100", "svhn", "image_folder", "npz") else 1
        expected = estimate(RunConfig(), channels, 32, classes.get(name, 10)).bytes(1)
        assert bytes_of(DataConfig(name)) == own + expected, name
    assert bytes_of(DataConfig(DataName.mnist, channels=3)) == bytes_of(DataConfig(DataName.cifar10))
    assert bytes_of(DataConfig(DataName.cifar10, channels=1)) == bytes_of(DataConfig(DataName.mnist))
    assert bytes_of(DataConfig(DataName.mnist, size=28)) == own + estimate(RunConfig(), 1, 28, 10).bytes(1)


def test_on_a_gpu_only_its_own_memory_counts(request: pytest.FixtureRequest) -> None:
    on_cpu = bytes_of(DataConfig(DataName.mnist))
    request.getfixturevalue("gpu")
    assert bytes_of(DataConfig(DataName.mnist)) == on_cpu - SHARED_BYTES - PROCESS_BYTES


def test_an_accelerator_that_does_not_tell_its_memory_trains_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrange, "_on_accelerator", lambda spec: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**20, 2**20))
    assert len(forecast(specs("executor=inline", seeds=12), MadeStore())) == 1


def part(*runs: RunSpec, place: str = "processes", at_once: int = 2, seconds: float | None = 30.04, extra: int = 0) -> Part:
    return Part(runs, place, at_once, seconds, SHARED_BYTES + PROCESS_BYTES + extra)


def test_rows_sum_up_what_trains_alike() -> None:
    a, b, c = specs("norm=none", "executor=local", seeds=3)
    other = specs("norm=batch", "executor=local", seeds=1)[0]
    parts = [part(a), part(other, seconds=90.0), part(b, seconds=50.0, extra=2**20), part(c, seconds=None)]
    first, second = part_rows(parts)
    assert first == {
        "cohort": None,
        "runs": 3,
        "where": "2 processes",
        "arms": "none",
        "seeds": 3,
        "time": "80 s",  # two turns of 40 s in the mean
        "memory": "472 MiB",
    }
    assert (second["runs"], second["where"], second["time"], second["memory"]) == (1, "1 process", "2 min", "375 MiB")
    fused = [part(a, b, other, place="GPU", at_once=1), part(c, place="GPU", at_once=1, seconds=None)]
    assert [(row["cohort"], row["runs"], row["where"], row["arms"], row["seeds"]) for row in part_rows(fused)] == [
        (1, 3, "GPU", "none, batch", 2),
        (2, 1, "GPU", "none", 1),
    ]
    assert [(row["time"], row["memory"]) for row in part_rows(fused)] == [("30 s", "375 MiB"), ("unknown", "375 MiB")]


def test_columns_say_of_each_run_what_it_trains_with() -> None:
    a, b, c = specs(seeds=3)
    columns = part_columns([part(a, b, extra=1), part(c, seconds=None)])
    size = SHARED_BYTES + PROCESS_BYTES
    assert columns[a.run_id] == columns[b.run_id] == {"cohort": 1, "cohort_seconds": 30.0, "cohort_bytes": size + 1}
    assert columns[c.run_id] == {"cohort": 2, "cohort_seconds": None, "cohort_bytes": size}


def test_the_time_of_all_runs_is_shared_by_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnexp.run.forecast.num_cores", lambda: 4)
    store = MadeStore(cpu=1000.0)
    assert [estimate_seconds(specs(seeds=n), store) for n in (0, 1, 3, 4, 8)] == [0.0, 20.0, 20.0, 20.0, 40.0]
    assert estimate_seconds([*specs(seeds=2), RunSpec(RunConfig(data=DataConfig(DataName.npz)))], store) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "1 s"), (1.4, "1 s"), (1.6, "2 s"), (89.9, "90 s"), (90, "2 min")),
        *((719, "12 min"), (5399, "90 min"), (5400, "1.5 h"), (36_000, "10.0 h")),
    ],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
