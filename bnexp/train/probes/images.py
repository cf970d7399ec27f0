"""Images that measurements look at: chosen once, the same for every run, whatever order it trains in.

Shape letters: R runs, N images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bnexp.config.options import Precision
from bnexp.model.networks import Network
from bnexp.rng import torch_generator
from bnexp.train.evaluate import Split
from bnexp.train.precision import autocast
from bnexp.train.step import image_losses, num_correct

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData


def chosen(data: DeviceData, split: Split, count: int) -> Tensor:
    """Positions of ``count`` images of a split, of all where it has fewer, drawn without regard to class or run: (N,) int64."""
    order = torch.randperm(data.num_images(split), generator=torch_generator(0, f"probe/{split}"))
    return order[:count]


def in_full_parts(positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """``positions`` (N,) in consecutive parts of ``size`` (of N where that is less), and which are counted: (M,) each.

    Where the size does not divide N the last part is filled up with positions from before, which are not counted again: so
    the statistics of every part rest on as many images, and every image counts once.
    """
    num_images = len(positions)
    size = min(size, num_images)
    rest = num_images % size
    counted = torch.ones(num_images, dtype=torch.bool)
    if not rest:
        return positions, counted
    counted = torch.cat([counted[:-rest], torch.zeros(size - rest, dtype=torch.bool), counted[-rest:]])
    return torch.cat([positions[: num_images - rest], positions[-size:]]), counted


@torch.no_grad()
def score(
    network: Network, data: DeviceData, split: Split, positions: Tensor, counted: Tensor, size: int, precision: Precision
) -> tuple[Tensor, Tensor]:
    """Mean loss (nats) and accuracy (0 to 1) of each run, (R,) float64 on the CPU, over the ``counted`` of the images at
    ``positions``, (N,) each.

    The network stays in the mode that it is in, and looks at batches of ``size`` images.
    """
    losses, correct = [], []
    counted = counted.to(data.device)
    for start in range(0, len(positions), size):
        counts = counted[start : start + size]
        x, y = data.images(split, positions[start : start + size])
        with autocast(precision, x.device):
            logits = network(x)[counts]
        labels = y[counts].expand(network.num_runs, -1)
        losses.append(image_losses(logits, labels).sum(1))
        correct.append(num_correct(logits, labels))
    num_images = int(counted.sum())
    loss, hits = (torch.stack(sums).cpu().double().sum(0) for sums in (losses, correct))
    return loss / num_images, hits / num_images
