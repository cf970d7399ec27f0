"""The network that the scripts in this folder and the rungs of ``bnexp.bench`` train.

Shapes: N batch, C channels, S side of the image, K classes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class LeNet(nn.Module):
    """LeNet: two blocks of convolution, ReLU, max pooling and perhaps batch norm, then three linear layers."""

    def __init__(self, in_channels: int, size: int, num_classes: int, batch_norm: bool) -> None:
        super().__init__()
        side = ((size - 4) // 2 - 4) // 2
        self.conv1 = nn.Conv2d(in_channels, 6, 5)
        self.norm1 = nn.BatchNorm2d(6) if batch_norm else nn.Identity()
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.norm2 = nn.BatchNorm2d(16) if batch_norm else nn.Identity()
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, S, S) -> logits (N, K)."""
        x = self.norm1(F.max_pool2d(F.relu(self.conv1(x)), 2))
        x = self.norm2(F.max_pool2d(F.relu(self.conv2(x)), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits
