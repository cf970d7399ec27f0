"""Shortcuts around layers that stand in one row, and the scalars that residual branches have instead of a norm.

``OpenShortcut`` and ``AddShortcut`` enclose the layers of a residual branch. So a residual network stays a flat row of named
layers, like every other network; ``pass_on`` carries the shortcut past the branch.

Shape letters: R runs, N batch, C channels (I in, O out), H height, W width, D features.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class OpenShortcut(nn.Module):
    """The identity. Its input is also the shortcut, which ``AddShortcut`` adds to the output of the layers between."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class AddShortcut(nn.Module):
    """End of a residual branch: ``y = x + s``, where s is the shortcut, brought to the shape of x without parameters.

    The shortcut loses all rows and columns but every ``stride``-th, and gets channels of zeros after its own. He et al. 2015
    (arXiv:1512.03385, section 4.2) call this option A. Training and evaluation are the same.

    Shapes: x ``(N, R*O, H, W)`` and shortcut ``(N, R*I, H', W')`` with H = ceil(H'/stride) -> ``(N, R*O, H, W)``.

    Args:
        in_channels: I.
        out_channels: O, at least I.
        stride: of the branch.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        if self.stride > 1:
            shortcut = shortcut[:, :, :: self.stride, :: self.stride]
        if self.out_channels != self.in_channels:
            by_run = shortcut.reshape(len(shortcut), -1, self.in_channels, *shortcut.shape[2:])
            shortcut = F.pad(by_run, (0, 0, 0, 0, 0, self.out_channels - self.in_channels)).flatten(1, 2)
        return x + shortcut


def pass_on(layer: nn.Module, x: Tensor, shortcut: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The output of a layer, and the shortcut that is open after it.

    Args:
        layer: the next layer of a row.
        x: what the layer before it gave.
        shortcut: the shortcut that is open before it; None: no branch has begun.
    """
    if isinstance(layer, AddShortcut):
        return layer(x, shortcut), None
    return layer(x), x if isinstance(layer, OpenShortcut) else shortcut


class Row(nn.Sequential):
    """Layers in a row, with shortcuts around some of them."""

    def forward(self, x: Tensor) -> Tensor:
        shortcut: Tensor | None = None
        for layer in self:
            x, shortcut = pass_on(layer, x, shortcut)
        return x


class Scale(nn.Module):
    """One learned factor: ``y = weight * x``. Any shape (N, ...); with a run axis, each run has its own factor.

    Parameter: ``weight`` (1,), or (R, 1) with a run axis. Training and evaluation are the same.

    Args:
        shape: of the parameter.
        start: its initial value.
        options: ``device`` and ``dtype``.

    References: De & Smith 2020, arXiv:2002.10444, section 2 (SkipInit, from 0); Zhang et al. 2019, arXiv:1901.09321 (Fixup,
    from 1).
    """

    def __init__(self, shape: tuple[int, ...], start: float = 1.0, **options: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full(shape, start, **options))

    def forward(self, x: Tensor) -> Tensor:
        return (x.reshape(len(x), *self.weight.shape[:-1], -1) * self.weight).reshape(x.shape)


class Shift(nn.Module):
    """One learned summand: ``y = x + bias``. Any shape (N, ...); with a run axis, each run has its own summand.

    Parameter: ``bias`` (1,), or (R, 1) with a run axis; it begins at 0. Training and evaluation are the same.

    Args:
        shape: of the parameter.
        options: ``device`` and ``dtype``.

    Reference: Zhang et al. 2019, arXiv:1901.09321, section 3, rule 3.
    """

    def __init__(self, shape: tuple[int, ...], **options: Any) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape, **options))

    def forward(self, x: Tensor) -> Tensor:
        return (x.reshape(len(x), *self.bias.shape[:-1], -1) + self.bias).reshape(x.shape)
