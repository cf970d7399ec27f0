"""Memory of cohorts: the line through measurements, and an estimate that goes with what it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from fake_cuda import CUDA, FakeCuda
from fake_data import FakeData, make_config, make_spec
from hypothesis import given
from hypothesis import strategies as st

from bnexp.config.options import Activation, ModelName, OptimName, Precision
from bnexp.config.schema import TrainConfig
from bnexp.model.networks import TableNetwork
from bnexp.plan.spec import RunSpec
from bnexp.training import memory
from bnexp.training.loop import EpochLoop
from bnexp.training.memory import MemoryLine, _build, _measure, estimate, fit_memory, make_hungry, runs_that_fit
from bnexp.training.precision import compute_dtype


@given(st.integers(0, 10**10), st.integers(1, 10**8))
def test_the_fit_finds_the_line(fixed: int, per_run: int) -> None:
    line = fit_memory({2: fixed + 2 * per_run, 6: fixed + 6 * per_run})
    assert line.bytes(100) == pytest.approx(fixed + 100 * per_run, rel=1e-5)
    most = line.max_runs(10**11)
    assert line.bytes(most) <= 10**11 < line.bytes(most + 1)


def test_noise_makes_no_negative_memory() -> None:
    assert fit_memory({2: 100.0, 6: 90.0}).per_run == 0
    assert fit_memory({2: 10.0, 6: 50.0}).fixed == 0


def test_one_run_is_always_tried() -> None:
    assert MemoryLine(1000.0, 10.0).max_runs(5.0) == 1


def test_runs_that_take_next_to_nothing_have_no_bound() -> None:
    assert MemoryLine(1000.0, 0.5).max_runs(1100.0) == 200
    assert MemoryLine(1000.0, 0.0).max_runs(5.0) > 10**12


def bytes_of(train: dict[str, Any] | None = None, norm: dict[str, Any] | None = None, **sections: Any) -> float:
    config = make_config(0, norm, **sections)
    config = replace(config, train=replace(config.train, **{"eval_batch_size": 1, "batch_size": 100} | (train or {})))
    return estimate(config, 1, 28, 10).per_run


def test_an_estimate_grows_with_what_takes_memory() -> None:
    plain = bytes_of()
    assert bytes_of({"batch_size": 200}) == pytest.approx(2 * plain, rel=0.2)
    assert bytes_of({"precision": Precision.fp32}) == pytest.approx(plain / 2, rel=0.1)
    assert bytes_of(norm={}) > plain
    assert bytes_of(optim={"name": OptimName.adam}) > plain
    assert bytes_of({"eval_batch_size": 5000}) > 5 * plain
    assert bytes_of({"eval_batch_size": 2}) == plain


@pytest.mark.parametrize("precision", [Precision.fp64, Precision.fp32])
@pytest.mark.parametrize(("name", "copies"), [(OptimName.sgd, 4), (OptimName.adam, 5)])
@pytest.mark.parametrize(("width", "widest"), [(900, 900), (5, 784)])
def test_an_estimate_is_the_sum_of_what_a_run_holds(
    width: int, widest: int, name: OptimName, copies: int, precision: Precision
) -> None:
    """Of two hidden layers of sigmoids, which keep their outputs, on images of 28 x 28 pixels."""
    wide = {"name": ModelName.mlp, "depth": 2, "width": width, "activation": Activation.sigmoid}
    each = 8 if precision is Precision.fp64 else 4
    parameters = 784 * width + width + width**2 + width + 10 * width + 10
    for batch_size, eval_batch_size in ((7, 1), (1, 100_000)):
        train = {"precision": precision, "batch_size": batch_size, "eval_batch_size": eval_batch_size}
        training = copies * parameters + batch_size * (784 + 2 * width + 2 * widest)
        evaluation = (
            parameters + eval_batch_size * 2 * widest
        )  # an input and its output, of the same size where they are widest
        expected = each * max(training, evaluation)
        assert bytes_of(train, model=wide, optim={"name": name}) == expected


def test_evaluation_holds_the_shortcut_of_a_residual_branch_too() -> None:
    """The most is needed where the shortcut is added: input, shortcut and sum, each of the size of the widest maps."""
    resnet = {"name": ModelName.resnet, "depth": 8, "width": 4, "conv_bias": "false"}
    parameters = 9 * (4 + 2 * 16 + 32 + 64 + 128 + 256) + 170
    found = bytes_of({"batch_size": 1, "eval_batch_size": 1000}, model=resnet)
    assert found == 8 * (parameters + 1000 * 3 * 4 * 28 * 28)


def test_a_step_holds_parameters_their_gradient_twice_and_what_the_optimiser_remembers() -> None:
    """Of a wide network on one image, whose activations are next to nothing."""
    wide = {"name": ModelName.mlp, "width": 1000, "depth": 2}
    parameters = 8 * (28 * 28 * 1000 + 1000 * 1000 + 1000 * 10 + 1000 + 1000 + 10)
    for optimiser, copies in ((OptimName.sgd, 4), (OptimName.adam, 5)):
        found = bytes_of({"batch_size": 1}, model=wide, optim={"name": optimiser})
        assert found == pytest.approx(copies * parameters, rel=0.01)


def test_an_estimate_counts_at_least_what_the_first_layers_leave() -> None:
    images, maps = 28 * 28, 6 * 24 * 24 + 6 * 12 * 12  # of the first convolution, and pooled
    assert 100 * 8 * (images + maps) < bytes_of() < 100 * 8 * 10 * (images + maps)


def test_nothing_is_measured_and_nothing_split_on_the_cpu() -> None:
    assert runs_that_fit([make_spec(seed) for seed in range(20)], FakeData()) == 20  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("free", "num_specs", "expected"),
    [(2010, 30, 17), (2000, 10, 10), (2000, 7, 7), (1190, 30, 10), (99, 30, 1), (600, 6, 6), (0, 3, 3)],
)
def test_a_gpu_is_filled_to_85_per_cent_of_what_is_free_now_which_counts_what_is_fixed_already(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, free: int, num_specs: int, expected: int
) -> None:
    """Two small cohorts say that a run takes 100 bytes; nothing is measured where no more runs than that are asked for."""
    measured: list[int] = []
    monkeypatch.setattr(memory, "_measure", lambda specs, _: measured.append(len(specs)) or 1000 + 100.0 * len(specs))
    cuda.free = free
    assert runs_that_fit([make_spec(seed) for seed in range(num_specs)], on_cuda()) == expected
    assert measured == ([2, 6] if num_specs > 6 else [])
    assert cuda.log == (["empty cache", "free"] if num_specs > 6 else [])


def test_where_a_small_cohort_does_not_fit_the_smallest_is_tried(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(specs: Sequence[RunSpec], _: object) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(memory, "_measure", full)
    assert runs_that_fit([make_spec(seed) for seed in range(20)], on_cuda()) == 2


def test_what_is_measured_are_two_steps_and_an_evaluation_batch_of_the_hungriest_kind(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[object, ...]] = []
    forward = TableNetwork.forward

    def noting(network: TableNetwork, x: torch.Tensor) -> torch.Tensor:
        cuda.log.append("pass")
        seen.append((tuple(x.shape), network.training, torch.is_grad_enabled(), str(network.conv1.strategy)))
        return forward(network, x)

    monkeypatch.setattr(TableNetwork, "forward", noting)
    assert _measure([make_spec(seed, {}) for seed in range(1)], on_cuda(num_train=12)) == 777
    hungry = "im2col/im2col/im2col"
    assert seen == [((12, 1, 20, 20), True, True, hungry)] * 2 + [((7, 1, 20, 20), False, False, hungry)]
    assert cuda.log == ["empty cache", "reset peak", "pass", "pass", "pass", "peak"]


def on_cuda(**images: int) -> Any:
    data = FakeData(**images)
    data.device = CUDA
    return data


@pytest.mark.parametrize("precision", [Precision.fp64, Precision.bf16])
def test_the_step_that_takes_most_memory_can_be_taken(precision: Precision) -> None:
    data: Any = FakeData(dtype=compute_dtype(precision))
    configs = [make_config(seed, {}, train={"precision": precision, "batch_size": 12}) for seed in (0, 1)]
    network, step = _build(configs, (data.in_channels, data.size, data.num_classes))
    make_hungry(network, precision)
    loop = EpochLoop(step, data, [0, 1], TrainConfig(batch_size=12))
    loop.begin(1)
    loop.functions[12]()
    assert loop.losses[0].isfinite().all()
    assert loop.losses[0].min() > 0
