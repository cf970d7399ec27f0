"""Precise statistics: the running statistics of norm layers, taken over a whole set of images with the weights as they are.

Shape letters: R runs, N batch, C channels or features, M values of a channel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bnexp.config.options import Precision
from bnexp.model.network import Network
from bnexp.model.norms import RunningNorm, running_norms
from bnexp.torch_rng import torch_generator
from bnexp.training.precision import autocast

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData

MOST_IMAGES = 256  # per batch; larger batches come closer to the population, whatever the batch size of training


def statistics_batches(data: DeviceData) -> Iterator[tuple[Tensor, Tensor]]:
    """Every training image once, without augmentation, for ``precise_statistics``: images (N, C, S, S) and labels (N,).

    The order is random, so that every batch is a fair sample of the classes, but it is always the same. Batches are as equal
    in size as possible. Neither depends on a run, or on a key that is not part of the run id.
    """
    order = torch.randperm(data.num_images("train"), generator=torch_generator(0, "statistics"))
    for positions in order.tensor_split(math.ceil(len(order) / MOST_IMAGES)):
        yield data.images("train", positions)


@torch.no_grad()
def precise_statistics(network: Network, batches: Iterable[tuple[Tensor, Tensor]], precision: Precision) -> None:
    """Set the running mean and variance of every batch norm and batch renorm to those of the images in ``batches``.

    The mean is E[mean]; the variance is E[mean^2 + var] - E[mean]^2 with the biased variance of each batch. Both averages are
    over batches, weighted by their numbers of images. So the statistics are pooled over all values.

    All layers are measured in one pass, in which each normalises every batch by the batch's own statistics, as batch norm
    does in training. This is exact for the first norm; what the later ones see depends on how the images are cut into batches.
    Ghost batches, noise and batch renorm's correction are left out, and dropout is off, as in the evaluation that uses the
    statistics. Buffers are filled in place; modes, counters and random streams stay as they are.

    Args:
        network: a network of R runs; nothing happens if it has no running statistics.
        batches: pairs of images, (N, R*C, S, S) or (N, C, S, S), and labels, which are not used.
        precision: number format of the forward pass.

    Raises:
        ConfigError: a batch leaves a norm one value per channel.

    Reference: Wu & Johnson, "Rethinking 'batch' in BatchNorm", 2021, arXiv:2105.07576, section 3.
    """
    norms = running_norms(network)
    if not norms:
        return
    with ExitStack() as stack:
        stack.callback(network.train, network.training)
        network.eval()
        pools = [stack.enter_context(_measured(norm)) for norm in norms]
        for x, _ in batches:
            with autocast(precision, x.device):
                network(x)
    for norm, pool in zip(norms, pools, strict=True):
        norm.running_mean.copy_(pool.mean)
        norm.running_var.copy_(pool.var)


@contextmanager
def by_precise_statistics(network: Network, data: DeviceData, precision: Precision) -> Iterator[None]:
    """Inside, the running statistics are the precise ones of all training images; afterwards they are what they were."""
    with kept_statistics(network):
        precise_statistics(network, statistics_batches(data), precision)
        yield


@contextmanager
def kept_statistics(network: Network) -> Iterator[None]:
    """Inside, the running statistics may change; afterwards they are what they were."""
    buffers = [b for norm in running_norms(network) for b in (norm.running_mean, norm.running_var, norm.num_batches_tracked)]
    before = [b.clone() for b in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)


class _Pool:
    """Mean and biased variance (R, C) of all values so far, joined batch by batch without cancellation.

    Reference: Chan et al., "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """

    def __init__(self, norm: RunningNorm) -> None:
        self.num_images = 0
        self.mean, self.var = torch.zeros_like(norm.running_mean), torch.zeros_like(norm.running_var)

    def add(self, x: Tensor) -> None:
        """``x`` (N, R, C, M)."""
        self.num_images += len(x)
        share = len(x) / self.num_images
        mean = x.mean((0, 3))
        var = ((x - mean.unsqueeze(-1)) ** 2).mean((0, 3))
        change = mean - self.mean
        self.mean += change * share
        self.var += (var - self.var) * share + change**2 * (share * (1 - share))


@contextmanager
def _measured(norm: RunningNorm) -> Iterator[_Pool]:
    """Inside, the layer normalises by the batch in evaluation mode too, and its inputs are added to the pool."""
    pool = _Pool(norm)

    def take(_: nn.Module, inputs: tuple[Tensor]) -> None:
        pool.add(norm.values(inputs[0]))

    hook = norm.register_forward_pre_hook(take)
    norm.track_running_stats = False
    try:
        yield pool
    finally:
        norm.track_running_stats = True
        hook.remove()
