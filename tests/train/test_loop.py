"""An epoch on fixed tensors is the plain loop over batches, bit for bit, and a capture leaves no trace of its warm-up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from epochs import epoch_batches
from fake_data import FakeData, make_config

from bnexp.config import RunConfig
from bnexp.model.networks import build_network
from bnexp.options import OptimName, Schedule
from bnexp.train import capture
from bnexp.train.capture import Function, captured
from bnexp.train.loop import EpochLoop, shared_orders
from bnexp.train.optim import build_optimiser
from bnexp.train.step import TrainStep

DATA = FakeData(num_train=22)
BATCH = 6  # 4 steps an epoch, the last one on a partial batch


def build(configs: Sequence[RunConfig]) -> TrainStep:
    network = build_network(configs, DATA.in_channels, DATA.size, DATA.num_classes, dtype=DATA.dtype)
    optimiser = build_optimiser([config.optim for config in configs], network.flat, 3, 4)
    return TrainStep(network.train(), optimiser, configs[0].train.precision)


def make_loop(configs: Sequence[RunConfig]) -> EpochLoop:
    return EpochLoop(build(configs), DATA, [config.seed for config in configs], BATCH)


def configs(*seeds: int, **optim: Any) -> list[RunConfig]:
    model = {"dropout": 0.3}
    return [make_config(s, {"linear": True}, model=model, optim={"lr": 0.01 * (i + 1), **optim}) for i, s in enumerate(seeds)]


@pytest.mark.parametrize("optim", [{"schedule": Schedule.cosine, "warmup": 0.5}, {"name": OptimName.adam}], ids=["sgd", "adam"])
def test_fixed_tensors_give_the_bits_of_the_plain_loop(optim: dict[str, Any]) -> None:
    runs = configs(0, 1, 2, **optim)
    loop, plain = make_loop(runs), build(runs)
    for epoch in (1, 2, 3):
        loop.begin(epoch)
        for size in loop.sizes:
            loop.functions[size]()
        found = [plain(x, y) for x, y in epoch_batches(DATA, [0, 1, 2], epoch, BATCH)]
        assert torch.equal(loop.losses, torch.stack([losses for losses, _ in found]))
        assert torch.equal(loop.correct, torch.stack([correct for _, correct in found]))
    assert all(torch.equal(a, b) for a, b in zip(loop.step.state, plain.state, strict=True))
    assert loop.sizes == [6, 6, 6, 4]
    assert int(plain.t) == 12


@pytest.mark.parametrize(
    ("seeds", "orders"),
    [([5, 5, 5], [5]), ([3, 3, 5, 5], [3, 5]), ([3, 5, 3, 5], [3, 5, 3, 5]), ([3, 3, 5], [3, 3, 5]), ([1, 2], [1, 2])],
)
def test_batches_are_gathered_once_for_each_block_of_equal_seeds(seeds: list[int], orders: list[int]) -> None:
    assert shared_orders(seeds) == orders
    x, y = make_loop(configs(*seeds)).gather(BATCH)
    assert x.shape[1] == len(orders)
    assert len(y) == len(seeds)


@pytest.mark.parametrize("seeds", [[5, 5, 5], [3, 3, 5, 5]])
def test_a_shared_batch_trains_each_run_as_its_own_batch_does(seeds: list[int]) -> None:
    runs = configs(*seeds)
    loop, plain = make_loop(runs), build(runs)
    loop.begin(1)
    for size in loop.sizes:
        loop.functions[size]()
    for x, y in epoch_batches(DATA, seeds, 1, BATCH):
        plain(x, y)
    torch.testing.assert_close(loop.step.network.flat, plain.network.flat, rtol=0, atol=1e-9)


def test_epochs_drawn_ahead_are_the_same() -> None:
    first, second = make_loop(configs(0)), make_loop(configs(0))
    first.draw(2)
    for loop in (first, second):
        loop.begin(2)
    assert torch.equal(first.draws, second.draws)
    assert not torch.equal(first.draws, DATA.epoch_draws([0], 1))


CUDA = torch.device("cuda")


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warm-up and recording as on a GPU, but for the stream and the graph; replaying is calling."""

    def warm_up(functions: Sequence[Function], restore: Function) -> None:
        for function in functions:
            for _ in range(capture.WARM_UP_CALLS):
                function()
                restore()

    monkeypatch.setattr(capture, "_warm_up", warm_up)
    monkeypatch.setattr(capture, "_record", lambda function, _: function)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)


@pytest.mark.usefixtures("fake_cuda")
def test_a_capture_leaves_no_trace_of_its_warm_up() -> None:
    loop, expected = make_loop(configs(0, 1)), make_loop(configs(0, 1))
    functions = dict(zip(loop.functions, captured(list(loop.functions.values()), loop.state, CUDA)[0], strict=True))
    for each, steps in ((loop, functions), (expected, expected.functions)):
        each.begin(1)
        for size in each.sizes:
            steps[size]()
    assert all(torch.equal(a, b) for a, b in zip(loop.state, expected.state, strict=True))


@pytest.mark.usefixtures("fake_cuda")
def test_what_cannot_be_captured_runs_eagerly_for_a_recorded_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Function:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nMore lines follow.")

    monkeypatch.setattr(capture, "_record", refuse)
    loop = make_loop(configs(0))
    functions = list(loop.functions.values())
    before = [tensor.clone() for tensor in loop.state]
    found, execution = captured(functions, loop.state, CUDA)
    assert found == functions
    assert execution == "eager: CUDA error: operation not permitted when stream is capturing"
    assert all(torch.equal(a, b) for a, b in zip(loop.state, before, strict=True))


@pytest.mark.usefixtures("fake_cuda")
def test_memory_that_runs_out_in_a_capture_is_no_reason_for_eager_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Function:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(capture, "_record", full)
    loop = make_loop(configs(0))
    with pytest.raises(torch.OutOfMemoryError):
        captured(list(loop.functions.values()), loop.state, CUDA)


def test_elsewhere_functions_are_called_as_they_are() -> None:
    functions = list(make_loop(configs(0)).functions.values())
    assert captured(functions, [], torch.device("cpu")) == (functions, "eager: no CUDA device")
