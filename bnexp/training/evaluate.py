"""Loss, accuracy, calibration error and predictions of all runs over a split.

Shape letters: R runs, N images of the split or of a batch, B batches, K classes, M bins of confidence.
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
from bnexp.metrics import CONFIDENCE_EDGES, Float32, Int64
from bnexp.model.network import Network
from bnexp.training.precision import autocast
from bnexp.training.step import image_losses

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Args:
        loss: mean cross entropy of each run, nats, (R,).
        accuracy: of each run, 0 to 1, (R,).
        ece: expected calibration error of each run, 0 to 1, (R,), see ``overconfidence``.
        labels: true classes in order of the images' index, (N,); None: not kept.
        probabilities: softmax outputs in the same order, (R, N, K); None: not kept.
    """

    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    ece: NDArray[np.float64]
    labels: Int64 | None = None
    probabilities: Float32 | None = None


def overconfidence(confidence: Tensor, correct: Tensor, edges: Tensor) -> Tensor:
    """Confidence minus correctness, summed over the images in each bin of confidence: (R, M).

    The absolute sums of the bins, added up and divided by the number of images, are the expected calibration error:
    ``sum_m |B_m| / N |acc(B_m) - conf(B_m)| = sum_m |sum over B_m of (confidence - correct)| / N``. So neither the numbers of
    images nor the accuracies of single bins are needed, and an empty bin adds nothing.

    Args:
        confidence: largest softmax output of each image, (R, N).
        correct: whether the image is classified correctly, (R, N) bool.
        edges: of the bins, ascending, (M + 1,). A confidence on an edge belongs to the bin below it.

    Reference: Guo et al., "On calibration of modern neural networks", 2017, arXiv:1706.04599, equation 3.
    """
    confidence = confidence.unsqueeze(1)
    inside = (confidence > edges[:-1, None]) & (confidence <= edges[1:, None])
    return torch.where(inside, confidence - correct.unsqueeze(1).to(confidence.dtype), 0).sum(-1)


class SplitScores:
    """Loss, accuracy and calibration error of every run on a split, in evaluation mode and without gradient.

    A call depends on device state alone and writes the sums of each batch to the device; ``read`` waits for them.

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
        bins = torch.promote_types(flat.dtype, torch.float32)
        self.edges = torch.from_numpy(CONFIDENCE_EDGES).to(bins).to(flat.device)
        self.excess = torch.zeros(*shape, len(self.edges) - 1, dtype=bins, device=flat.device)

    @property
    def state(self) -> list[Tensor]:
        """Every tensor that a call changes."""
        return [self.losses, self.correct, self.excess]

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
            confidence, correct = logits.to(self.edges.dtype).softmax(-1).amax(-1).T, y_all == logits.argmax(-1).T
            self.correct[i] = correct.sum(1)
            self.excess[i] = overconfidence(confidence, correct, self.edges)
            if keep:
                keep(logits, y)
        self.network.train(was_training)

    def read(self) -> Evaluation:
        """What the last call found."""
        num_images = self.data.num_images(self.split)
        loss = self.losses.cpu().double().sum(0).numpy() / num_images
        accuracy = self.correct.sum(0).cpu().double().numpy() / num_images
        ece = self.excess.cpu().double().sum(0).abs().sum(-1).numpy() / num_images
        return Evaluation(loss, accuracy, ece)


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
