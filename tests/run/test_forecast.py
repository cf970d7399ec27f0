"""What a dry run promises: who trains together, where, for how long and in how much memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bnexp.config.keys import PROBE_METRICS
from bnexp.config.options import DataName, Device
from bnexp.config.schema import ConfigError, DataConfig, RefineConfig, RunConfig, StudyConfig, TrainConfig
from bnexp.plan.compose import compose
from bnexp.plan.spec import RunSpec
from bnexp.run import arrange, timed
from bnexp.run.cost import BETWEEN, LOAD, START, STUDY, run_seconds
from bnexp.run.forecast import (
    PROCESS_BYTES,
    SHARED_BYTES,
    Part,
    duration_text,
    estimate_seconds,
    estimate_text,
    forecast,
    outlook,
    part_columns,
    part_rows,
    with_added,
)
from bnexp.run.outline import outlined
from bnexp.run.pace import DevicePace, Pace, recorded_pace
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.store import Store
from bnexp.training.memory import estimate
from tests.run.made import Recorded, made_run


class MadeStore(Store):
    """Knows of finished runs, each of which took so many times as long as expected.

    Args:
        ratios: device -> recorded time divided by the expected one.
    """

    def __init__(self, **ratios: float) -> None:
        self.ratios = ratios

    def latest(self, count: int) -> list[RecordedRun]:
        trained = compose(["data=mnist", "train.kernels=torch"])
        return [made_run(trained, ratio, device=device) for device, ratio in self.ratios.items() for _ in range(50)]


def specs(*overrides: str, seeds: int = 3) -> list[RunSpec]:
    fixed = ["data=mnist", "data.train_size=10000", "train.epochs=2", "train.device=cpu", "train.kernels=torch"]
    base = compose([*fixed, *overrides])
    return [RunSpec(replace(base, seed=seed)) for seed in range(seeds)]


@pytest.fixture(autouse=True)
def usual_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step has been timed on this machine, and took as long as expected."""
    monkeypatch.setattr(timed, "_found", {"": 1.0})


SECONDS = run_seconds(specs(seeds=1)[0].config)  # as expected without records


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrange, "_on_accelerator", lambda spec: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (120 * 2**20, 900 * 2**20))


def test_processes_share_the_libraries_and_the_time() -> None:
    parts = forecast(runs := specs("executor=local", "executor.workers=2"), MadeStore(cpu=20 / SECONDS))
    assert run_seconds(runs[0].config) == pytest.approx(SECONDS)
    assert [(len(part.runs), part.seconds) for part in parts] == [(1, pytest.approx(20.0, rel=0.01))] * 3
    (row,) = part_rows(parts)
    assert row["runs"] == 3
    assert row["where"] == "2 processes"
    assert row["time"] == "40 s"  # two at once, then the third
    memory = int(row["memory"].removesuffix(" MiB")) * 2**20
    assert SHARED_BYTES + 2 * PROCESS_BYTES < memory < 2 * (SHARED_BYTES + PROCESS_BYTES)


def test_runs_in_this_process_train_one_after_another_on_a_cpu() -> None:
    parts = forecast(specs("executor=inline"), MadeStore(cpu=20 / SECONDS))
    assert [(len(part.runs), part.seconds) for part in parts] == [(1, pytest.approx(20.0, rel=0.01))] * 3
    (row,) = part_rows(parts)
    assert (row["where"], row["runs"], row["time"]) == ("this process", 3, "60 s")


@pytest.mark.usefixtures("gpu")
def test_a_gpu_trains_what_fits_at_once_and_its_speed_is_not_that_of_a_cpu() -> None:
    runs = specs(seeds=12)
    parts = forecast(runs, MadeStore(cpu=2.0))
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
    timed = forecast(runs, MadeStore(cpu=2.0, cuda=4 / SECONDS))
    assert [part.seconds for part in timed] == [pytest.approx(4.0, rel=0.01)] * len(parts)  # all runs of a cohort at once


def test_each_data_set_and_network_is_counted_for_itself() -> None:
    runs = [*specs("executor=local", seeds=1), *specs("executor=local", "data=cifar10", "norm=batch", seeds=2)]
    parts = forecast(runs, MadeStore())
    assert [row["runs"] for row in part_rows(parts)] == [1, 2]
    assert parts[1].bytes > parts[0].bytes


def seconds(*overrides: str) -> float:
    (spec,) = specs(*overrides, seeds=1)
    return run_seconds(spec.config)


def test_twice_the_layers_or_epochs_take_about_twice_as_long() -> None:
    deep = [seconds("model=plain", f"model.depth={depth}", "norm=batch") for depth in (8, 16, 32)]
    assert 1.8 < deep[1] / deep[0] < 2.5
    assert 1.8 < deep[2] / deep[1] < 2.2
    assert 1.7 < seconds("train.epochs=4") / seconds("train.epochs=2") < 2.0


def test_small_batches_wide_networks_large_images_norms_and_evaluations_take_longer() -> None:
    assert seconds("train.batch_size=1") > 10 * seconds("train.batch_size=64")
    assert seconds("model=plain", "model.width=64") > 2 * seconds("model=plain", "model.width=32")
    assert seconds("model=lenet", "data.size=64") > 3 * seconds("model=lenet")
    assert seconds("norm=batch") > seconds("norm=none")
    assert seconds("norm=batch", "norm.placement=both") > seconds("norm=batch")
    assert seconds("train.evals_per_epoch=20") > seconds()
    assert seconds("data.train_size=100", "train.epochs=1") > 0.2  # nearly all of it tests 10,000 images
    assert seconds("norm=batch", "norm.statistics=precise") > seconds("norm=batch")


@pytest.mark.parametrize("probe", sorted(PROBE_METRICS.keys() - {"oscillation"}))  # which looks at losses that are there anyway
def test_a_probe_takes_time(probe: str) -> None:
    assert seconds("norm=batch", f"probe.{probe}=true", "probe.per_epoch=10") > seconds("norm=batch")


def test_the_time_of_images_that_nobody_has_counted_is_not_known() -> None:
    npz = DataConfig(DataName.npz)
    assert forecast([RunSpec(RunConfig(data=npz))], MadeStore())[0].seconds is None
    counted = RunConfig(data=npz, train=TrainConfig(epochs=1, steps_per_epoch=100))
    assert forecast([RunSpec(counted)], MadeStore())[0].seconds is not None


def test_an_outline_takes_as_long_as_the_composed_run() -> None:
    base = RunSpec(compose(["data=mnist"]))
    job = {
        "model": "plain",
        "model.depth": "16",
        "norm": "batch",
        "norm.placement": "both",
        "train.batch_size": "2",
        "seed": "3",
    }
    composed = compose(["data=mnist", *(f"{key}={value}" for key, value in job.items())])
    assert run_seconds(outlined(base, job).config) == run_seconds(composed) > 10 * run_seconds(base.config)
    assert outlined(base, {"train.epochs": "unknown", "optim.lr": "0.5"}).config.train == base.config.train


def bytes_of(data: DataConfig) -> float:
    return forecast([RunSpec(RunConfig(data=data, train=TrainConfig(device=Device.cpu)))], MadeStore())[0].bytes


def test_channels_and_classes_take_memory() -> None:
    classes, own = {"cifar100": 100}, SHARED_BYTES + PROCESS_BYTES
    for name in DataName:
        channels = 3 if name in ("cifar10", "cifar100", "svhn", "image_folder", "npz", "python") else 1
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


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrange, "num_cores", lambda: 4)


@pytest.mark.usefixtures("four_cores")
def test_the_time_of_all_runs_is_shared_by_the_processes_and_includes_the_reports() -> None:
    rate = 20 / (SECONDS + BETWEEN)
    pace = Pace(DevicePace(rate), DevicePace(None))
    around = rate * (START + STUDY)
    found = [estimate_seconds(specs(seeds=n), pace) for n in (1, 3, 4, 5, 8)]
    assert found == [pytest.approx(20 * turns + around) for turns in (1, 1, 1, 2, 2)]
    assert estimate_seconds([], pace) == 0
    inline = estimate_seconds(specs("executor=inline", seeds=4), pace, num_studies=3)
    assert inline == pytest.approx(80 + around + rate * 2 * STUDY)
    assert estimate_seconds([*specs(seeds=2), RunSpec(RunConfig(data=DataConfig(DataName.npz)))], pace) is None


@pytest.mark.usefixtures("four_cores")
def test_the_list_a_dry_run_and_the_progress_bar_say_the_same() -> None:
    runs, store = specs("norm=batch", seeds=9), MadeStore(cpu=30.0)
    pace = recorded_pace(store)
    at_first = outlook(runs, pace).seconds
    assert at_first is not None
    around = pace.machine * (START + STUDY)
    assert estimate_seconds(runs, pace) == pytest.approx(at_first + around)
    assert estimate_text(runs, store) == f", about {duration_text(at_first + around)} until the report"
    rest = pace.machine * (LOAD + 3 * STUDY)
    assert estimate_text(runs, store, 3, begun=True) == f", about {duration_text(at_first + rest)} until the reports"


def test_levels_that_a_study_is_going_to_add_take_time_too() -> None:
    study = StudyConfig(
        arms={"none": [], "batch": []},
        seeds=3,
        factors={"optim.lr": [0.1, 0.8]},
        refine=RefineConfig(ratio=2.0, extensions=0),
    )
    runs = specs(seeds=5)
    # 0.1 to 0.8 is three octaves: each arm halves them twice, so 2 arms x 2 levels, each with 2 arms x 3 seeds
    assert with_added(runs, study) == [*runs, *(runs[i % 5] for i in range(24))]
    assert len(with_added(runs, study, [0.2, 0.4])) == 5 + 12
    assert len(with_added(runs, study, [0.2, 0.4, 0.3, 0.25, 0.35])) == 5
    assert with_added([], study) == []
    assert with_added(runs, replace(study, refine=RefineConfig())) == runs


@pytest.mark.usefixtures("gpu")
def test_on_a_gpu_the_forecast_is_that_of_its_cohorts() -> None:
    runs, store = specs(seeds=12), MadeStore(cpu=2.0, cuda=1000 / SECONDS)
    assert estimate_text(runs, MadeStore(cpu=2.0)) == ""
    seconds = outlook(runs, recorded_pace(store)).seconds
    assert seconds == pytest.approx(1000, rel=0.02)


def test_a_device_that_does_not_exist_is_left_to_the_runs_to_tell() -> None:
    runs = specs("train.device=cuda")
    with pytest.raises(ConfigError, match="cuda"):
        outlook(runs, recorded_pace(Recorded()))
    assert estimate_text(runs, Recorded(), begun=True) == ""


def test_a_run_on_a_machine_without_records_is_preceded_by_a_timed_step(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def slow() -> None:
        calls.append(1)
        timed._found[""] = 3.0

    monkeypatch.setattr(timed, "time_machine_in_pool", slow)
    runs, usual = specs("train.epochs=50"), estimate_seconds(specs("train.epochs=50"), recorded_pace(Recorded()))
    assert usual is not None
    before = 3 * (usual - START - STUDY + LOAD + STUDY)
    assert estimate_text(runs, Recorded(), begun=True) == f", about {duration_text(before)} until the report"
    assert calls == [1]
    estimate_text(runs, MadeStore(cpu=1.0), begun=True)  # recorded runs tell
    estimate_text(runs, Recorded())  # no process is going to load torch
    monkeypatch.setattr("bnexp.run.forecast.has_driver", lambda: True)  # a GPU is going to train
    estimate_text(runs, Recorded(), begun=True)
    assert calls == [1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0.1 s"), (1.44, "1.4 s"), (3.02, "3 s"), (9.96, "10 s"), (10.4, "10 s"), (89.9, "90 s"), (90, "2 min")),
        *((719, "12 min"), (5399, "90 min"), (5400, "1.5 h"), (36_000, "10.0 h")),
    ],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
