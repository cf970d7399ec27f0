"""What the engine does on a GPU alone, on a fake one: graphs of steps and validations, trials, and clocks that wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_cuda import CUDA, FakeCuda
from fake_data import FakeData, make_spec
from own_specs import own_spec

from bnexp.config.options import Kernels, ModelName, Statistics
from bnexp.metrics import EpochMetrics, Record, RunFinished, RunStarted
from bnexp.plan.spec import RunSpec
from bnexp.training import engine, probes
from bnexp.training.engine import fit
from bnexp.training.loop import EpochLoop
from bnexp.training.step import TrainStep

MODEL = {"name": ModelName.mlp, "depth": 2, "width": 8, "dropout": 0.3}
SPECS = [make_spec(seed, {}, model=MODEL, train={"kernels": Kernels.torch}) for seed in range(2)]  # on the CPU as on a GPU


def records(specs: Sequence[RunSpec], data: FakeData, on: Any) -> list[Record]:
    data.device = on
    return list(fit(specs, data))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "functions", "graphs"),
    [({}, 3, 4 + 1 + 4 + 1), ({"num_val": 0}, 2, 8), ({"num_train": 12}, 2, 2 + 2)],
    ids=["two batch sizes", "no validation", "one step"],
)
def test_steps_and_validations_are_replayed_and_the_training_is_that_of_the_cpu(
    cuda: FakeCuda, images: dict[str, int], functions: int, graphs: int
) -> None:
    expected = records(SPECS, FakeData(**images), FakeData().device)
    assert cuda.log == []
    found = records(SPECS, FakeData(**images), CUDA)
    assert cuda.num_graphs == functions
    assert len([line for line in cuda.log if line.startswith("replay")]) == graphs
    for a, b in zip(found, expected, strict=True):
        assert type(a) is type(b)
        if isinstance(a, RunStarted):
            assert a.device == "cuda (Fake 100)"
            assert a.execution == "cuda graph; no convolutions"
        if isinstance(a, EpochMetrics | RunFinished):
            assert isinstance(b, EpochMetrics | RunFinished)
            untimed = {name: value for name, value in b.metrics.items() if not name.startswith("time/")}
            assert {name: a.metrics[name] for name in untimed} == pytest.approx(untimed, abs=1e-9)


def test_convolutions_are_tried_on_a_full_batch(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(
        engine, "choose_convolutions", lambda network, x, precision: tried.append((x.shape, precision)) or "tried"
    )
    found = records(SPECS, FakeData(), CUDA)
    assert tried == [((12, 2, 20, 20), SPECS[0].config.train.precision)]
    assert isinstance(found[0], RunStarted)
    assert found[0].execution == "cuda graph; tried"


def test_seconds_are_those_of_the_work_which_goes_on_after_it_was_asked_for(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes 1 s, a measurement 100 s, a validation 10,000 s of the device's time, and none of the host's."""

    def takes(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            cuda.work(seconds)
            return function(*given, **named)

        return timed

    monkeypatch.setattr(engine, "captured", lambda functions, *_: (list(functions), "eager"))
    monkeypatch.setattr(TrainStep, "__call__", takes(1, TrainStep.__call__))
    monkeypatch.setattr(engine.SplitScores, "__call__", takes(10_000, engine.SplitScores.__call__))
    monkeypatch.setattr(probes, "gradients", takes(100, probes.gradients))
    for module in (engine, probes):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: cuda.now))
    train = {"evals_per_epoch": 3, "batch_size": 11}  # 4 steps, of which the second and the last are measured
    found = records([make_spec(0, train=train, probe={"gradients": True, "per_epoch": 2})], FakeData(), CUDA)
    times = [record.metrics["time/epoch_seconds"] for record in found if isinstance(record, EpochMetrics)]
    assert times == [4, 4]


def test_the_next_epoch_is_drawn_while_the_device_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def noting(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any) -> Any:
            events.append(" ".join([what, *(str(value) for value in given if isinstance(value, int))]))
            return function(*given)

        return noted

    monkeypatch.setattr(EpochLoop, "read", noting("read", EpochLoop.read))
    monkeypatch.setattr(FakeData, "epoch_draws", noting("draw", FakeData.epoch_draws))
    list(fit([make_spec(0, train={"epochs": 3})], FakeData()))  # type: ignore[arg-type]
    assert events == ["draw 1", "draw 2", "read", "draw 3", "read", "read"]


def test_networks_of_the_users_own_are_computed_one_after_another_and_the_reason_is_recorded(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_generator(monkeypatch)
    specs = [own_spec(seed, {}, args={"dropout": 0.5}) for seed in range(2)]
    started, *_ = records(specs, FakeData(), CUDA)
    assert isinstance(started, RunStarted)
    reason = "eager: a network of your own, its runs computed one after another: vmap: called random operation"
    assert started.execution.startswith(reason)
    assert cuda.num_graphs == 0


def own_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "default_generators", (torch.Generator(),))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


@pytest.mark.parametrize("seeds", [(0, 1, 2), (0, 0, 1, 1), (4, 4)], ids=["an order each", "two orders", "one order"])
def test_networks_of_the_users_own_are_computed_as_one_where_that_gives_the_same(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, seeds: tuple[int, ...]
) -> None:
    own_generator(monkeypatch)
    probe = {"statistics": True, "gradients": True, "similar": True}
    specs = [
        own_spec(seed, {"statistics": Statistics.precise}, probe=probe, optim={"lr": 0.01 * i})
        for i, seed in enumerate(seeds, 1)
    ]
    found = records(specs, FakeData(), CUDA)
    expected = records(specs, FakeData(), FakeData().device)
    assert cuda.num_graphs == 0
    for a, b in zip(found, expected, strict=True):
        if isinstance(a, RunStarted):
            assert a.execution == "eager: a network of your own, its runs computed as one by torch.func"
        if isinstance(a, EpochMetrics | RunFinished):
            assert isinstance(b, EpochMetrics | RunFinished)
            untimed = {name: value for name, value in b.metrics.items() if not name.startswith("time/")}
            assert {name: a.metrics[name] for name in untimed} == pytest.approx(untimed, abs=1e-7)
