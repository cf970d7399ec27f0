"""How much memory a cohort takes, measured on the device or estimated from the network, and how many runs fit.

Memory is a line, ``fixed + per_run * runs``. Data and libraries are there once; parameters, optimiser state and activations are
there for each run.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from bnexp.config.options import Kernels, Precision
from bnexp.config.schema import RunConfig
from bnexp.model.convolution import Strategy
from bnexp.model.layers import RunConv2d
from bnexp.model.network import Network
from bnexp.model.networks import build_network
from bnexp.model.shortcuts import AddShortcut, OpenShortcut
from bnexp.plan.spec import RunSpec
from bnexp.training.capture import release_memory
from bnexp.training.loop import EpochLoop
from bnexp.training.optim import build_optimiser
from bnexp.training.precision import compute_dtype
from bnexp.training.step import TrainStep
from bnexp.training.trial import is_tried

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData

USABLE = 0.85  # fraction of the free memory; the rest is for fragments, for cuDNN's workspaces and for the graphs themselves
TRIAL_SIZES = (2, 6)  # runs of the two cohorts that are measured; a cohort of at most 6 is not measured
NUM_STEPS = 2  # of each: the first allocates what is kept, the second finds it there

HUNGRIEST = Strategy("im2col", "im2col", "im2col")  # its patches have k*k times as many values as the input


@dataclass(frozen=True)
class MemoryLine:
    """Bytes that a cohort takes.

    Args:
        fixed: whatever the number of runs.
        per_run: for each run.
    """

    fixed: float
    per_run: float

    def bytes(self, runs: int) -> float:
        return self.fixed + self.per_run * runs

    def max_runs(self, available: float) -> int:
        """How many runs fit into ``available`` bytes, at least 1: the device itself refuses a run that is too large."""
        return max(1, int((available - self.fixed) / self.per_run)) if self.per_run > 0 else sys.maxsize


def fit_memory(measured: Mapping[int, float]) -> MemoryLine:
    """The least-squares line through peak bytes by number of runs.

    Args:
        measured: number of runs -> peak bytes, for at least two numbers.

    Returns:
        The line; neither part is negative.
    """
    runs, peak = np.array(list(measured)), np.array(list(measured.values()))
    per_run = max(float(np.polyfit(runs, peak, 1)[0]), 0.0)
    return MemoryLine(max(float((peak - per_run * runs).mean()), 0.0), per_run)


def runs_that_fit(specs: Sequence[RunSpec], data: DeviceData) -> int:
    """How many runs of a cohort fit into a GPU's free memory, measured by real steps of two small cohorts.

    Args:
        specs: the runs, with equal fuse keys.
        data: what they train on. Off CUDA all runs count as fitting.
    """
    if data.device.type != "cuda" or len(specs) <= max(TRIAL_SIZES):
        return len(specs)
    try:
        line = fit_memory({size: _measure(specs[:size], data) for size in TRIAL_SIZES})
    except torch.OutOfMemoryError:
        return TRIAL_SIZES[0]
    release_memory(data.device)
    free, _ = torch.cuda.mem_get_info(data.device)
    return min(len(specs), line.max_runs(USABLE * free + line.fixed))


def _measure(specs: Sequence[RunSpec], data: DeviceData) -> float:
    """Peak bytes of a training step and an evaluation batch, with the convolution strategies that take most."""
    release_memory(data.device)  # what was measured before, too
    torch.cuda.reset_peak_memory_stats(data.device)
    configs = [spec.config for spec in specs]
    train = configs[0].train
    network, step = _build(configs, (data.in_channels, data.size, data.num_classes), data.device)
    make_hungry(network, train.precision)
    loop = EpochLoop(step, data, [config.seed for config in configs], train)
    for _ in range(NUM_STEPS):
        loop.begin(1)
        loop.functions[loop.sizes[0]]()
    with torch.no_grad():
        network.eval()(next(iter(data.eval_batches("test", train.eval_batch_size)))[0])
    return float(torch.cuda.max_memory_allocated(data.device))


def make_hungry(network: Network, precision: Precision) -> None:
    """Give the convolutions the strategy that takes most memory, unless ``precision`` allows no strategies."""
    if not is_tried(precision):
        return
    for layer in network.children():
        if isinstance(layer, RunConv2d):
            layer.strategy = HUNGRIEST


def _build(
    configs: Sequence[RunConfig], images: tuple[int, int, int], device: torch.device | None = None
) -> tuple[Network, TrainStep]:
    train = configs[0].train
    network = build_network(configs, *images, device, compute_dtype(train.precision))
    optimiser = build_optimiser([config.optim for config in configs], network.flat, 1, NUM_STEPS)
    return network, TrainStep(network, optimiser, train.precision)


def estimate(config: RunConfig, in_channels: int, size: int, num_classes: int) -> MemoryLine:
    """The memory that runs of ``config`` take, computed without their device; libraries and data are not counted.

    Training takes the parameters, their gradient twice (by layer and flat), the optimiser state, what autograd saves for a
    batch, and the largest activation with its gradient. What autograd saves is measured on two small batches, from which it
    grows in proportion. Evaluation takes the parameters and the most that a layer has at once of a batch: its input, its
    output and an open shortcut. A run takes
    the larger of the two sums.

    Args:
        config: a configuration of the runs.
        in_channels: channels of the images.
        size: side of the images, pixels.
        num_classes: number of classes.
    """
    config = replace(
        config, train=replace(config.train, kernels=Kernels.torch)
    )  # compiling kernels takes seconds; they need less
    network, step = _build([config], (in_channels, size, num_classes))
    images = torch.zeros(4, in_channels, size, size, dtype=network.flat.dtype)
    image_bytes = images[:1].nbytes
    small, large = (saved_bytes(network.train(), batch) for batch in (images[:2], images))
    per_image = image_bytes + (large - small) / 2
    largest, held = _evaluation_bytes(network, in_channels, size)
    parameters = network.flat.nbytes
    kept = 3 * parameters + sum(tensor.nbytes for tensor in step.optimiser.state)
    training = kept + config.train.batch_size * (per_image + 2 * largest)
    return MemoryLine(0.0, max(training, parameters + config.train.eval_batch_size * held))


def saved_bytes(network: Network, x: Tensor) -> int:
    """Bytes that a forward pass on ``x`` (N, C, S, S) keeps for the backward pass, each piece of memory counted once.

    Parameters, buffers and the images themselves are not counted: they are there anyway.
    """
    there = {tensor.untyped_storage().data_ptr() for tensor in (x, *network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in there:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = network(x)
    del logits  # kept until here, so that no memory was used twice
    return sum(kept.values())


def _evaluation_bytes(network: Network, in_channels: int, size: int) -> tuple[float, float]:
    """Bytes for one image: of the largest activation or input, and of the most tensors that a layer needs at once."""
    largest = held = 0.0
    x = torch.zeros(2, in_channels, size, size, dtype=network.flat.dtype)
    passed: list[tuple[nn.Module, float]] = []
    with torch.no_grad():
        network.eval().walk(x, lambda _, layer, value: passed.append((layer, value.nbytes / len(value))))
        logits = network(x).nbytes / len(x)
    opened = shortcut = 0.0  # right after the opening, the shortcut is the input itself
    for (layer, before), after in zip(passed, [*(size for _, size in passed[1:]), logits], strict=True):
        largest, held = max(largest, before, after), max(held, shortcut + before + after)
        shortcut = 0.0 if isinstance(layer, AddShortcut) else opened or shortcut
        opened = before if isinstance(layer, OpenShortcut) else 0.0
    return largest, held
