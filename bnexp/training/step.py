"""One training step of a cohort, and what an epoch's steps gave.

Shape letters: R runs, N batch, K classes, P parameters of a run, S steps of an epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bnexp.config.options import Precision
from bnexp.model.network import Network
from bnexp.training.optim import Optimiser
from bnexp.training.precision import autocast


def image_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of every image, nats: logits (N, R, K) and labels (R, N) -> (R, N)."""
    N, R, K = logits.shape
    flat = logits.transpose(0, 1).reshape(R * N, K)
    return F.cross_entropy(flat.to(torch.promote_types(flat.dtype, torch.float32)), labels.flatten(), reduction="none").view(
        R, N
    )


def num_correct(logits: Tensor, labels: Tensor) -> Tensor:
    """The number of images whose largest logit is that of their label: logits (N, R, K) and labels (R, N) -> (R,)."""
    return (labels == logits.argmax(-1).T).sum(1)


class TrainStep:
    """Forward, backward and update of all runs on one batch.

    The objective is the sum over runs of each run's mean loss. So every run gets the gradient of its own mean: the cohort
    changes no learning rate, and a run whose loss is not finite does not touch the others.

    Args:
        network: R networks.
        optimiser: updates ``network.flat``.
        precision: number format of the forward pass.
    """

    def __init__(self, network: Network, optimiser: Optimiser, precision: Precision) -> None:
        self.network = network
        self.optimiser = optimiser
        self.precision = precision
        self.gradient = torch.zeros_like(network.flat)
        self.t = torch.zeros(1, dtype=torch.int64, device=network.flat.device)

    @property
    def state(self) -> list[Tensor]:
        """Every tensor that a step changes: parameters, what layers and optimiser remember, the number of steps done."""
        return [self.network.flat, *self.network.memory(), *self.optimiser.state, self.t]

    def __call__(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Make one step. It depends on tensors on the device alone, so that a captured graph of it can be replayed.

        Args:
            x: images, (N, R*C, S, S), or fewer if runs share them (see ``RunConv2d``).
            labels: (R, N).

        Returns:
            Mean loss and number of correct images of each run before the update, each (R,).
        """
        with autocast(self.precision, x.device):
            logits = self.network(x)
        losses = image_losses(logits, labels).mean(1)
        self.network.gradient(losses.sum(), self.gradient)
        with torch.no_grad():
            self.optimiser.step(self.gradient, self.t)
            self.t += 1
            return losses.detach(), num_correct(logits, labels)


@dataclass(frozen=True)
class EpochTotals:
    """What the steps of an epoch gave.

    Args:
        losses: mean loss of each step, (S, R), nats.
        loss: mean over all images, (R,), nats.
        accuracy: over all images, 0 to 1, (R,).
    """

    losses: NDArray[np.float64]
    loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]
