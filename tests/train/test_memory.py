"""Memory of cohorts: the line through measurements, and an estimate that goes with what it is made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fake_data import FakeData, make_config, make_spec
from hypothesis import given
from hypothesis import strategies as st

from bnexp.options import ModelName, OptimName, Precision
from bnexp.train.loop import EpochLoop
from bnexp.train.memory import MemoryLine, _build, estimate, fit_memory, make_hungry, runs_that_fit
from bnexp.train.precision import compute_dtype


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


@pytest.mark.parametrize("precision", [Precision.fp64, Precision.bf16])
def test_the_step_that_takes_most_memory_can_be_taken(precision: Precision) -> None:
    data: Any = FakeData(dtype=compute_dtype(precision))
    configs = [make_config(seed, {}, train={"precision": precision, "batch_size": 12}) for seed in (0, 1)]
    network, step = _build(configs, (data.in_channels, data.size, data.num_classes))
    make_hungry(network, precision)
    loop = EpochLoop(step, data, [0, 1], 12)
    loop.begin(1)
    loop.functions[12]()
    assert loop.losses[0].isfinite().all()
    assert loop.losses[0].min() > 0
