"""What a norm costs: time, memory and parameters, against the same network without norm."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bnexp.config.options import NormKind
from bnexp.config.schema import RunConfig
from bnexp.model.network import Network
from bnexp.model.networks import build_network
from bnexp.training.memory import saved_bytes
from bnexp.training.optim import build_optimiser
from bnexp.training.precision import compute_dtype, synchronise
from bnexp.training.probes.images import chosen
from bnexp.training.step import TrainStep

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData

WARM_UP_STEPS = 4
ROUNDS = 20
NUM_STEPS = WARM_UP_STEPS + 2 * ROUNDS


def measure_cost(config: RunConfig, data: DeviceData) -> dict[str, float]:
    """The cost of training one run of ``config``, whatever cohort it is in.

    ``cost/step_ms``         time of one training step (forward, backward, update) of a single run at ``train.batch_size``,
                             launched kernel by kernel, milliseconds: median of 40
    ``cost/step_ratio``      that over the time of the same network with ``norm=none``. The two take turns as A B B A, so that
                             whatever else the machine does affects both; median of 20 turns
    ``cost/activation_mib``  memory that a step keeps for its backward pass, without parameters and images, MiB
    ``cost/parameters``      number of trainable parameters

    Args:
        config: a configuration of the run.
        data: where the images of the steps are.
    """
    without = replace(config, norm=replace(config.norm, kind=NormKind.none))
    x, y = data.images("train", chosen(data, "train", config.train.batch_size))
    network = _network(config, data)
    seconds, ratio = _interleaved(_step(network, config, x, y), _step(_network(without, data), without, x, y), data.device)
    return {
        "cost/step_ms": 1e3 * seconds,
        "cost/step_ratio": ratio,
        "cost/activation_mib": saved_bytes(network, x) / 2**20,
        "cost/parameters": float(network.num_parameters),
    }


def _network(config: RunConfig, data: DeviceData) -> Network:
    dtype = compute_dtype(config.train.precision)
    images = data.in_channels, data.size, data.num_classes
    return build_network([config], *images, data.device, dtype, NUM_STEPS).train()


def _step(network: Network, config: RunConfig, x: Tensor, y: Tensor) -> Callable[[], object]:
    """A whole training step on images ``x`` (N, C, S, S) with labels ``y`` (N,)."""
    optimiser = build_optimiser([config.optim], network.flat, config.train.epochs, NUM_STEPS)
    step = TrainStep(network, optimiser, config.train.precision)
    return lambda: step(x, y[None])


def _interleaved(a: Callable[[], object], b: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Median seconds of ``a``, and the median over rounds of its time divided by that of ``b``. A round calls a b b a."""
    for _ in range(WARM_UP_STEPS):
        a()
        b()
    times: list[float] = []
    ratios: list[float] = []
    for _ in range(ROUNDS):
        first, second, third, last = (_seconds(step, device) for step in (a, b, b, a))
        times += [first, last]
        ratios.append((first + last) / (second + third))
    return median(times), median(ratios)


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    begin = time.perf_counter()
    step()
    synchronise(device)
    return time.perf_counter() - begin
