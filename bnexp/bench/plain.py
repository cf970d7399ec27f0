"""The network and its training in plain PyTorch, for the rungs below bnexp.

Initial weights, batch order, number format and evaluation are bnexp's, so that every rung trains the same runs in its own way.
Shapes: N batch, C channels, S side of the image, K classes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnexp.bench.peers.lenet import LeNet
from bnexp.bench.work import RunResult
from bnexp.config.options import NormKind
from bnexp.config.schema import RunConfig
from bnexp.data.resident import Resident, Split
from bnexp.model.networks import build_network

Batch = tuple[Tensor, Tensor]


class Batches(Protocol):
    """The images of a rung, batch by batch: x (N, C, S, S), normalised, and y (N,) int64, on any device."""

    def train(self, seed: int, epoch: int) -> Iterable[Batch]:
        """The training images of one epoch in the order of ``seed``."""

    def evaluate(self, split: Split) -> Iterable[Batch]:
        """All images of a split."""


def start_network(config: RunConfig, data: Resident) -> LeNet:
    """The plain network of a run with the initial weights that bnexp gives it."""
    weights = build_network([config], data.in_channels, data.size, data.num_classes).export(0)
    network = LeNet(data.in_channels, data.size, data.num_classes, config.norm.kind is NormKind.batch)
    network.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})
    return network


def start_optimiser(config: RunConfig, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=config.optim.lr, momentum=config.optim.momentum)


@dataclass(frozen=True)
class Trained:
    """A trained run.

    Args:
        result: its arm, seed and test accuracy.
        history: metrics, one mapping per epoch.
        weights: parameters and buffers by name.
        images: training images seen, over all epochs.
        train_seconds: wall time of the epochs, without evaluation.
    """

    result: RunResult
    history: Sequence[Mapping[str, float]]
    weights: Mapping[str, Tensor]
    images: int
    train_seconds: float

    def save(self, folder: Path) -> None:
        """Write weights and metrics, as any training script would."""
        path = folder / f"{self.result.arm}-{self.result.seed}"
        torch.save(dict(self.weights), path.with_suffix(".pt"))
        path.with_suffix(".json").write_text(json.dumps([*self.history, {"test_accuracy": self.result.test_accuracy}]))


def train_run(config: RunConfig, data: Resident, batches: Batches, device: torch.device) -> Trained:
    """Train one network in the usual loop; evaluate it on validation images after each epoch, on test images at the end."""
    network = start_network(config, data).to(device)
    optimiser = start_optimiser(config, network.parameters())
    history, images, seconds = [], 0, 0.0
    for epoch in range(1, config.train.epochs + 1):
        begin = time.perf_counter()
        network.train()
        total_loss = torch.zeros((), device=device)
        num_images = 0
        for x, y in batches.train(config.seed, epoch):
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            optimiser.zero_grad()
            loss = F.cross_entropy(network(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total_loss += loss.detach() * len(y)
            num_images += len(y)
        train_loss = total_loss.item() / num_images  # waits for the device
        seconds += time.perf_counter() - begin
        images += num_images
        history.append({"epoch": epoch, "train_loss": train_loss, "val_accuracy": accuracy(network, batches, "val", device)})
    result = RunResult(config.study.arm, config.seed, accuracy(network, batches, "test", device))
    return Trained(result, history, network.state_dict(), images, seconds)


@torch.no_grad()
def accuracy(network: nn.Module, batches: Batches, split: Split, device: torch.device) -> float:
    """Fraction of the images of a split that the network classifies correctly, in evaluation mode."""
    network.eval()
    correct, num_images = torch.zeros((), dtype=torch.int64, device=device), 0
    for x, y in batches.evaluate(split):
        x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
        correct += (network(x).argmax(-1) == y).sum()
        num_images += len(y)
    return correct.item() / num_images
