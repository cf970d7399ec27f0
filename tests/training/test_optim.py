"""Optimisers and schedules against torch.optim and torch.optim.lr_scheduler, in float64."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from reference import reference_optimiser
from torch import nn
from torch.optim import lr_scheduler

from bnexp.config.options import OptimName, Schedule
from bnexp.config.schema import OptimConfig
from bnexp.training.optim import build_optimiser, learning_rates

SGD_RUNS = [
    OptimConfig(lr=0.1, momentum=0.9),
    OptimConfig(lr=0.01, momentum=0.0, weight_decay=0.1),
    OptimConfig(lr=0.5, momentum=0.5, weight_decay=0.01),
]
ADAM_RUNS = [
    OptimConfig(OptimName.adam, lr=0.1),
    OptimConfig(OptimName.adam, lr=0.01, weight_decay=0.1, beta1=0.5, beta2=0.9, eps=1e-3),
    OptimConfig(OptimName.adam, lr=0.001, beta1=0.0, beta2=0.0),
]


@pytest.mark.parametrize(
    "configs",
    [SGD_RUNS, [replace(c, nesterov=True, momentum=c.momentum or 0.1) for c in SGD_RUNS], ADAM_RUNS],
    ids=["sgd", "nesterov", "adam"],
)
def test_parity_with_torch_from_the_first_step(configs: list[OptimConfig]) -> None:
    torch.manual_seed(0)
    parameters = torch.randn(3, 50, dtype=torch.float64)
    layers = [nn.ParameterList([nn.Parameter(row.clone())]) for row in parameters]
    oracles = [reference_optimiser(config, layer) for config, layer in zip(configs, layers, strict=True)]
    optimiser = build_optimiser(configs, parameters, epochs=4, steps_per_epoch=5)
    for t in range(20):
        gradient = torch.randn_like(parameters)
        for row, layer, oracle in zip(gradient, layers, oracles, strict=True):
            layer[0].grad = row.clone()
            oracle.step()
        optimiser.step(gradient, torch.tensor([t]))
        torch.testing.assert_close(parameters, torch.stack([layer[0].detach() for layer in layers]), rtol=1e-12, atol=1e-14)


def torch_rates(make: Any, lr: float, num_steps: int) -> list[float]:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler, rates = make(optimiser), []
    for _ in range(num_steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("config", "make"),
    [
        (OptimConfig(), lambda o: lr_scheduler.ConstantLR(o, factor=1)),
        (OptimConfig(schedule=Schedule.cosine), lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=60)),
        (
            OptimConfig(schedule=Schedule.step, step_epochs=2, step_gamma=0.3),
            lambda o: lr_scheduler.StepLR(o, step_size=20, gamma=0.3),
        ),
        (OptimConfig(schedule=Schedule.one_cycle), lambda o: lr_scheduler.OneCycleLR(o, 0.01, 61, cycle_momentum=False)),
        (
            OptimConfig(schedule=Schedule.one_cycle, warmup=0.6),
            lambda o: lr_scheduler.OneCycleLR(o, 0.01, 61, pct_start=0.1, cycle_momentum=False),
        ),
    ],
    ids=["constant", "cosine", "step", "one_cycle", "one_cycle with warmup"],
)
def test_schedules_are_torchs(config: OptimConfig, make: Any) -> None:
    config = replace(config, lr=0.01)
    epochs, steps = (1, 61) if config.schedule is Schedule.one_cycle else (6, 10)
    config = replace(config, warmup=config.warmup / 6)
    expected = torch_rates(make, config.lr, epochs * steps)
    np.testing.assert_allclose(learning_rates(config, epochs, steps), expected, rtol=1e-12)


@pytest.mark.parametrize("warmup", [0.0, 0.3, 1.25, 2.9])
@pytest.mark.parametrize("schedule", [Schedule.constant, Schedule.cosine, Schedule.step])
def test_schedules_with_warmup_are_their_formulas(schedule: Schedule, warmup: float) -> None:
    config = OptimConfig(lr=0.2, schedule=schedule, warmup=warmup, step_epochs=0.75, step_gamma=0.5)
    rising, expected = round(8 * warmup), []
    for t in range(24):
        rate = 0.2 * min(1, (t + 1) / rising) if rising else 0.2
        if schedule is Schedule.cosine and t >= rising:
            rate *= (1 + math.cos(math.pi * (t - rising) / (24 - rising))) / 2
        if schedule is Schedule.step:
            rate *= 0.5 ** (t // 6)
        expected.append(rate)
    np.testing.assert_allclose(learning_rates(config, epochs=3, steps_per_epoch=8), expected, rtol=1e-12)


@pytest.mark.parametrize("num_steps", [3, 8, 24])
@pytest.mark.parametrize("rising", [0.35, 0.5, 0.95])
def test_one_cycle_rises_over_its_warmup_epochs(num_steps: int, rising: float) -> None:
    config = OptimConfig(lr=0.2, schedule=Schedule.one_cycle, warmup=rising * num_steps)
    expected = torch_rates(lambda o: lr_scheduler.OneCycleLR(o, 0.2, num_steps, pct_start=rising), 0.2, num_steps)
    np.testing.assert_allclose(learning_rates(config, epochs=num_steps, steps_per_epoch=1), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("warmup", "expected"), [(0.0, [1.0, 4e-6]), (1.0, [1.0, 4e-6]), (2.0, [0.04, 1.0])], ids=["none", "half", "all"]
)
def test_one_cycle_of_two_steps_has_its_peak_and_its_end(warmup: float, expected: list[float]) -> None:
    config = OptimConfig(lr=1.0, schedule=Schedule.one_cycle, warmup=warmup)
    np.testing.assert_allclose(learning_rates(config, epochs=2, steps_per_epoch=1), expected, rtol=1e-12)
    assert learning_rates(config, epochs=1, steps_per_epoch=1) == [1.0]


@pytest.mark.parametrize("schedule", [Schedule.constant, Schedule.cosine, Schedule.step])
def test_warmup_rises_linearly_to_the_peak(schedule: Schedule) -> None:
    rates = learning_rates(OptimConfig(lr=2.0, schedule=schedule, warmup=0.5), epochs=6, steps_per_epoch=8)
    np.testing.assert_allclose(rates[:4], [0.5, 1.0, 1.5, 2.0])
    assert rates[4] == 2.0
    assert (np.diff(rates[4:]) <= 0).all()


@pytest.mark.parametrize("schedule", list(Schedule))
@pytest.mark.parametrize("warmup", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_rates_are_positive_and_at_most_the_peak_however_short_the_run(schedule: Schedule, warmup: float, steps: int) -> None:
    rates = learning_rates(OptimConfig(lr=0.3, schedule=schedule, warmup=warmup), 1, steps)
    assert rates.shape == (steps,)
    assert (rates > 0).all()
    assert (rates <= 0.3 + 1e-15).all()
