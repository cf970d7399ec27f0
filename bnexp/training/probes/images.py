"""Images that measurements look at: chosen once, the same for every run, whatever its data order.

Shape letters: R runs, N images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bnexp.config.options import Precision
from bnexp.model.network import Network
from bnexp.torch_rng import torch_generator
from bnexp.training.evaluate import Split
from bnexp.training.precision import autocast
from bnexp.training.step import image_losses, num_correct

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData


def chosen(data: DeviceData, split: Split, count: int) -> Tensor:
    """Positions of ``count`` images of a split, or of all if it has fewer, drawn without regard to class or run: (N,) int64."""
    order = torch.randperm(data.num_images(split), generator=torch_generator(0, f"probe/{split}"))
    return order[:count]


def in_full_parts(positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cut positions into parts of equal size, so that the statistics of every part rest on equally many images.

    If the size does not divide N, earlier positions fill up the last part. They are not counted again.

    Args:
        positions: (N,).
        size: of a part; N if that is less.

    Returns:
        The positions of all parts in order, (M,), and whether each of them is counted, (M,).
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
    """Mean loss (nats) and accuracy (0 to 1) of each run on some images, each (R,) float64 on the CPU.

    Args:
        network: used in the mode that it is in.
        data: where the images are.
        split: of which part of the data.
        positions: of the images in their split, (N,).
        counted: whether each of them counts, (N,) bool.
        size: images per batch.
        precision: number format of the forward pass.
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
