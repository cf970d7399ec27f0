"""Networks of a user's own, small enough for tests."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnexp.model.own.norms import Norm


class LeNet(nn.Module):
    """The built-in LeNet, as a user would write it: the norm after pooling."""

    def __init__(self, norm: Norm, in_channels: int, num_classes: int, size: int, dropout: float = 0.0) -> None:
        super().__init__()
        side = ((size - 4) // 2 - 4) // 2
        self.conv1 = nn.Conv2d(in_channels, 6, 5)
        self.norm1 = norm(6)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.norm2 = norm(16)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.dropout = nn.Dropout(dropout)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(F.max_pool2d(F.relu(self.conv1(x)), 2))
        x = self.norm2(F.max_pool2d(F.relu(self.conv2(x)), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        x = self.dropout(F.relu(self.fc2(x)))
        logits: Tensor = self.fc3(x)
        return logits


def lenet(norm: Norm, in_channels: int, num_classes: int, size: int, **args: Any) -> nn.Module:
    """The network with the name that ``model.factory`` gives it."""
    return LeNet(norm, in_channels, num_classes, size, **args)


def modular(norm: Norm, in_channels: int, num_classes: int, size: int) -> nn.Module:
    """The same LeNet as a row of modules, with one ReLU for all places."""
    side = ((size - 4) // 2 - 4) // 2
    relu = nn.ReLU(inplace=True)
    convs = [nn.Conv2d(in_channels, 6, 5), relu, nn.MaxPool2d(2), norm(6), nn.Conv2d(6, 16, 5), relu, nn.MaxPool2d(2), norm(16)]
    return nn.Sequential(
        *convs,
        nn.Flatten(),
        *[nn.Linear(16 * side * side, 120), relu, nn.Linear(120, 84), relu, nn.Linear(84, num_classes)],
    )


class Squeezing(nn.Module):
    """A mistake that shows with a batch of one image only."""

    def __init__(self, norm: Norm, features: int, num_classes: int) -> None:
        super().__init__()
        self.norm = norm(1)
        self.fc = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.norm(x).flatten(1)).squeeze()
        return logits


def squeezing(norm: Norm, in_channels: int, num_classes: int, size: int) -> nn.Module:
    """The network with the name that ``model.factory`` gives it."""
    return Squeezing(norm, in_channels * size**2, num_classes)


class Float(nn.Module):
    """Makes a tensor in the number format that is the default."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.LazyLinear(num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(x.flatten(1)) @ torch.eye(self.fc.out_features)
        return logits


def making_tensors(norm: Norm, in_channels: int, num_classes: int, size: int) -> nn.Module:
    """The network with the name that ``model.factory`` gives it."""
    return Float(num_classes)
