"""Loss, accuracy and predictions of all runs over a split.

Shape letters: R runs, N images of the split, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnexp.metrics import Float32, Int64
from bnexp.model.networks import Network
from bnexp.options import Precision
from bnexp.train.precision import autocast
from bnexp.train.step import image_losses, num_correct

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Evaluation:
    """``loss`` (mean cross entropy, nats) and ``accuracy`` (0 to 1), each (R,); ``labels`` (N,); ``probabilities`` (R, N, K)
    softmax outputs, where they were asked for."""

    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    labels: Int64
    probabilities: Float32 | None


@torch.no_grad()
def evaluate(
    network: Network, data: DeviceData, split: Split, batch_size: int, precision: Precision, probabilities: bool = False
) -> Evaluation:
    """Evaluate every run on the same images, in evaluation mode, without gradient; the mode is put back afterwards."""
    was_training = network.training
    network.eval()
    losses: list[Tensor] = []
    correct: list[Tensor] = []
    labels: list[Tensor] = []
    outputs: list[Tensor] = []
    for x, y in data.eval_batches(split, batch_size):
        with autocast(precision, x.device):
            logits = network(x)
        y_all = y.expand(network.num_runs, -1)
        losses.append(image_losses(logits, y_all).sum(1))
        correct.append(num_correct(logits, y_all))
        labels.append(y)
        if probabilities:
            outputs.append(logits.float().softmax(-1).transpose(0, 1))
    network.train(was_training)
    num_images = sum(len(y) for y in labels)
    return Evaluation(
        loss=torch.stack(losses).cpu().double().sum(0).numpy() / num_images,
        accuracy=torch.stack(correct).sum(0).cpu().double().numpy() / num_images,
        labels=torch.cat(labels).cpu().numpy(),
        probabilities=torch.cat(outputs, 1).cpu().numpy() if probabilities else None,
    )
