"""An epoch on fixed tensors is the plain loop over batches, bit for bit, and a capture leaves no trace of its warm-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from epochs import epoch_batches
from fake_cuda import CUDA
from fake_data import FakeData, make_config

from bnexp.config.options import Kernels, OptimName, Precision, Schedule
from bnexp.config.schema import RunConfig, TrainConfig
from bnexp.model.networks import build_network
from bnexp.training.capture import captured
from bnexp.training.evaluate import SplitScores
from bnexp.training.loop import EpochLoop, filled, shared_orders
from bnexp.training.optim import build_optimiser
from bnexp.training.step import TrainStep

DATA = FakeData(num_train=22)
BATCH = 6  # 4 steps an epoch, the last one on a partial batch
TRAIN = TrainConfig(batch_size=BATCH)


def build(configs: Sequence[RunConfig]) -> TrainStep:
    network = build_network(configs, DATA.in_channels, DATA.size, DATA.num_classes, dtype=DATA.dtype)
    optimiser = build_optimiser([config.optim for config in configs], network.flat, 3, 4)
    return TrainStep(network.train(), optimiser, configs[0].train.precision)


def make_loop(configs: Sequence[RunConfig]) -> EpochLoop:
    return EpochLoop(build(configs), DATA, [config.seed for config in configs], TRAIN)


def configs(*seeds: int, **optim: Any) -> list[RunConfig]:
    common = {"model": {"dropout": 0.3}, "train": {"kernels": Kernels.torch}}  # as on a GPU, so that all can be captured
    return [make_config(s, {"linear": True}, optim={"lr": 0.01 * (i + 1), **optim}, **common) for i, s in enumerate(seeds)]


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
        totals = loop.read()
        np.testing.assert_array_equal(totals.losses, loop.losses)
        np.testing.assert_allclose(totals.loss, np.average(loop.losses, axis=0, weights=[6, 6, 6, 4]), rtol=1e-14)
        np.testing.assert_array_equal(totals.accuracy, loop.correct.sum(0).numpy() / 22)
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


def test_each_step_sees_its_batch_and_is_remembered_in_its_row() -> None:
    """By a step that learns nothing: its loss is the number of images, its correct ones those of the first class."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def step(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append((x, y))
        return torch.full((3,), float(len(x))), (y == 0).sum(1)

    step.network = SimpleNamespace(flat=torch.zeros(3, 1))  # type: ignore[attr-defined]
    loop = EpochLoop(step, DATA, [5, 5, 7], TRAIN)  # type: ignore[arg-type]
    for epoch in (1, 2):
        seen.clear()
        loop.begin(epoch)
        for size in loop.sizes:
            loop.functions[size]()
        for (x, y), (expected_x, expected_y) in zip(seen, epoch_batches(DATA, [5, 5, 7], epoch, BATCH), strict=True):
            assert torch.equal(x, expected_x)
            assert torch.equal(y, expected_y)
        totals = loop.read()
        assert totals.losses.tolist() == [[6] * 3, [6] * 3, [6] * 3, [4] * 3]
        assert totals.loss == pytest.approx([(3 * 36 + 16) / 22] * 3)
        assert totals.accuracy == pytest.approx((torch.cat([y for _, y in seen], 1) == 0).double().mean(1).numpy())


def test_with_a_number_of_updates_passes_follow_each_other_without_a_gap() -> None:
    """Batches of 6 from 22 images: 11 updates are three passes, and an epoch of 4 ends in the middle of one."""
    runs, train = configs(5, 7), replace(TRAIN, steps_per_epoch=4)
    loop = EpochLoop(build(runs), DATA, [5, 7], train)
    assert loop.sizes == [6] * 4
    passes = torch.cat([DATA.epoch_draws([5, 7], number) for number in (1, 2, 3, 4)], 1)
    seen = []
    for epoch in (1, 2, 3):
        loop.begin(epoch)
        for size in loop.sizes:
            begin = 6 * len(seen)
            expected = DATA.train_batch(passes[:, begin : begin + 6])
            assert all(torch.equal(a, b) for a, b in zip(loop.gather(size), expected, strict=True))
            seen.append(loop.draws[0, 6 * int(loop.index) : 6 * int(loop.index) + 6, 0].clone())
            loop.functions[size]()
    assert torch.cat(seen[:11]).bincount().tolist() == [3] * 22


def test_images_that_belong_together_stay_in_one_batch_from_pass_to_pass() -> None:
    """The last block of a pass is filled by its own images, with their own augmentation, and is as long as the others."""
    draws = torch.arange(10).view(1, 10, 1) + torch.tensor([0, 100])
    assert filled(draws, 4)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 8, 9]
    assert filled(draws, 4)[0, :, 1].tolist() == [*range(100, 110), 108, 109]
    assert filled(draws, 16)[0, :, 0].tolist() == [*range(10), *range(6)]
    assert torch.equal(filled(draws, 5), draws)


def test_losses_that_are_no_numbers_are_totalled_without_a_warning() -> None:
    loop = make_loop(configs(0, 1, 2, 3))
    loop.losses[:] = torch.tensor([1.0, 1e308, torch.inf, torch.nan])
    loop.losses[1, 2] = -torch.inf
    assert loop.read().loss.tolist() == pytest.approx([1, np.inf, np.nan, np.nan], nan_ok=True)


def test_what_steps_and_validations_write_lies_beside_the_parameters_in_their_number_format() -> None:
    """On a device without memory, which refuses nothing."""
    flat = torch.zeros(2, 5, dtype=torch.float64, device="meta")
    network: Any = SimpleNamespace(flat=flat, num_runs=2, memory=lambda: [])
    optimiser: Any = SimpleNamespace(state=())
    step = TrainStep(network, optimiser, Precision.fp64)
    loop, scores = EpochLoop(step, DATA, [0, 1], TRAIN), SplitScores(network, DATA, "test", 7, Precision.fp64)
    floats, counts = torch.float64, torch.int64
    expected = [(flat.shape, floats), ((1,), counts), ((1,), counts), ((4, 2), floats), ((4, 2), counts)]
    assert [(tensor.shape, tensor.dtype) for tensor in loop.state] == expected
    sums = [((3, 2), floats), ((3, 2), counts), ((3, 2, 15), floats)]
    assert [(tensor.shape, tensor.dtype) for tensor in scores.state] == sums
    assert {tensor.device.type for tensor in (*loop.state, *scores.state, loop.offsets, step.gradient)} == {"meta"}


@pytest.mark.usefixtures("cuda")
def test_a_captured_epoch_has_the_bits_of_an_eager_one() -> None:
    """No trace of the warm-up; nothing that a replay would not do again."""
    loop, expected = make_loop(configs(0, 1)), make_loop(configs(0, 1))
    replays, _ = captured(list(loop.functions.values()), loop.state, CUDA)
    functions = dict(zip(loop.functions, replays, strict=True))
    for epoch in (1, 2):
        for each, steps in ((loop, functions), (expected, expected.functions)):
            each.begin(epoch)
            for size in each.sizes:
                steps[size]()
    assert all(torch.equal(a, b) for a, b in zip(loop.state, expected.state, strict=True))
