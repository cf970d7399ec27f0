"""Loss, accuracy and predictions of all runs over a split.

Shape letters: R runs, N images of the split, B batches, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnexp.config.options import Precision
from bnexp.metrics import Float32, Int64
from bnexp.model.networks import Network
from bnexp.training.precision import autocast
from bnexp.training.step import image_losses, num_correct

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Args:
        loss: mean cross entropy of each run, nats, (R,).
        accuracy: of each run, 0 to 1, (R,).
        labels: true classes in order of the images' index, (N,); None: not kept.
        probabilities: softmax outputs in the same order, (R, N, K); None: not kept.
    """

    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    labels: Int64 | None = None
    probabilities: Float32 | None = None


class SplitScores:
    """Loss and accuracy of every run on a split, in evaluation mode, without gradient: a function of device state alone.

    A call writes the sums of each batch to the device; ``read`` waits for them.

    Args:
        network: what is evaluated.
        data: where the images are.
        split: which images.
        batch_size: images per batch.
        precision: number format of the forward pass.
    """

    def __init__(self, network: Network, data: DeviceData, split: Split, batch_size: int, precision: Precision) -> None:
        self.network, self.data, self.split = network, data, split
        self.batch_size, self.precision = batch_size, precision
        flat, shape = network.flat, (math.ceil(data.num_images(split) / batch_size), network.num_runs)
        self.losses = torch.zeros(shape, dtype=flat.dtype, device=flat.device)
        self.correct = torch.zeros(shape, dtype=torch.int64, device=flat.device)

    @property
    def state(self) -> list[Tensor]:
        """Every tensor that a call changes."""
        return [self.losses, self.correct]

    @torch.no_grad()
    def __call__(self, keep: Callable[[Tensor, Tensor], None] | None = None) -> None:
        """Look at every image; ``keep`` is given the logits (N, R, K) and labels (N,) of each batch."""
        was_training = self.network.training
        self.network.eval()
        for i, (x, y) in enumerate(self.data.eval_batches(self.split, self.batch_size)):
            with autocast(self.precision, x.device):
                logits = self.network(x)
            y_all = y.expand(self.network.num_runs, -1)
            self.losses[i] = image_losses(logits, y_all).sum(1)
            self.correct[i] = num_correct(logits, y_all)
            if keep:
                keep(logits, y)
        self.network.train(was_training)

    def read(self) -> Evaluation:
        """What the last call found."""
        num_images = self.data.num_images(self.split)
        loss = self.losses.cpu().double().sum(0).numpy() / num_images
        return Evaluation(loss, self.correct.sum(0).cpu().double().numpy() / num_images)


def evaluate(network: Network, data: DeviceData, split: Split, batch_size: int, precision: Precision) -> Evaluation:
    """Evaluate every run on all images of a split and keep its output for each image.

    The network computes in evaluation mode and without gradient; afterwards it is in the mode that it was in. Arguments as for
    ``SplitScores``.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    scores = SplitScores(network, data, split, batch_size, precision)
    scores(lambda logits, y: kept.append((logits.float().softmax(-1).transpose(0, 1), y)))
    outputs, labels = zip(*kept, strict=True)
    by_index = data.eval_order[split].argsort()
    return replace(
        scores.read(),
        labels=torch.cat(labels)[by_index].cpu().numpy(),
        probabilities=torch.cat(outputs, 1)[:, by_index].cpu().numpy(),
    )
