"""A second network for measurements, so that they may do anything and disturb no training.

Shape letters: R runs, P parameters of a run, N batch, C channels, S side of the image.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bnexp.config.options import Precision
from bnexp.model.layers import RunConv2d, RunLinear
from bnexp.model.networks import Network
from bnexp.model.shortcuts import pass_on
from bnexp.training.precision import autocast
from bnexp.training.step import image_losses


@dataclass(frozen=True)
class State:
    """All that a forward pass depends on, copied at one moment.

    Args:
        flat: parameters, (R, P).
        buffers: of the network, in its own order.
        modes: of each module in order: whether it is in training mode.
    """

    flat: Tensor
    buffers: tuple[Tensor, ...]
    modes: tuple[bool, ...]

    @classmethod
    def of(cls, network: Network) -> State:
        buffers = tuple(buffer.clone() for buffer in network.buffers())
        return cls(network.flat.detach().clone(), buffers, tuple(module.training for module in network.modules()))


@dataclass(frozen=True)
class WeightLayer:
    """A convolution or linear layer, and where ``flat`` has its parameters.

    Args:
        name: of the layer.
        weight: the columns of its weight.
        block: the columns from its weight to the next such layer: its bias too, and scale and shift of the norms after it.
            In a residual branch also the scalars before that layer. Everything in columns before the block comes before the
            layer.
    """

    name: str
    weight: slice
    block: slice


def weight_layers(network: Network) -> list[WeightLayer]:
    """The convolutions and linear layers of a network in forward order, which is also the order of the columns of ``flat``."""
    starts: list[tuple[str, int, int]] = []
    column = 0
    for layer_name, layer in network.named_children():
        for name, parameter in layer.named_parameters():
            size = parameter[0].numel()
            if name == "weight" and isinstance(layer, RunConv2d | RunLinear):
                starts.append((layer_name, column, column + size))
            column += size
    ends = [*(start for _, start, _ in starts[1:]), column]
    return [WeightLayer(name, slice(a, b), slice(a, end)) for (name, a, b), end in zip(starts, ends, strict=True)]


class Twin:
    """A copy of a network that shares nothing with it. Each measurement starts from a ``State``, masks and noise included.

    So the loss and gradient of the twin at the state before a training step are those of the step itself.

    Args:
        network: what is copied.
        precision: number format of the forward pass.
    """

    def __init__(self, network: Network, precision: Precision) -> None:
        self.network = copy.deepcopy(network).requires_grad_()
        self.precision = precision
        self.layers = weight_layers(network)
        self.num_runs = network.num_runs

    @torch.no_grad()
    def load(self, state: State, flat: Tensor | None = None) -> Network:
        """The twin's network in ``state``, with the parameters ``flat`` (R, P); None: with those of ``state``."""
        column = 0
        source = state.flat if flat is None else flat
        for parameter in self.network.parameters():
            size = parameter[0].numel()
            parameter.copy_(source[:, column : column + size].view_as(parameter))
            column += size
        for buffer, value in zip(self.network.buffers(), state.buffers, strict=True):
            buffer.copy_(value)
        for module, mode in zip(self.network.modules(), state.modes, strict=True):
            module.training = mode
        return self.network

    def losses(self, state: State, flat: Tensor, x: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of each run, (R,), nats.

        Args:
            state: buffers and modes that the forward pass starts from.
            flat: parameters, (R, P).
            x: images, (N, R*C, S, S) or (N, C, S, S).
            labels: (R, N).
        """
        with torch.no_grad():
            return self._losses(state, flat, x, labels)

    def gradient(self, state: State, flat: Tensor, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """As ``losses``, and the gradient of each run's mean loss, (R, P)."""
        losses = self._losses(state, flat, x, labels)
        gradients = torch.autograd.grad(losses.sum(), list(self.network.parameters()))
        return losses.detach(), torch.cat([g.flatten(1) for g in gradients], dim=1)

    def _losses(self, state: State, flat: Tensor, x: Tensor, labels: Tensor) -> Tensor:
        network = self.load(state, flat)
        with autocast(self.precision, x.device):
            logits = network(x)
        return image_losses(logits, labels).mean(1)

    def walk(self, x: Tensor) -> Iterator[tuple[str, torch.nn.Module, Tensor]]:
        """Name, layer and input of each layer in turn, as the loaded network computes them from images ``x``."""
        shortcut: Tensor | None = None
        for name, layer in self.network.named_children():
            yield name, layer, x
            with autocast(self.precision, x.device):
                x, shortcut = pass_on(layer, x, shortcut)


def by_unit(x: Tensor, num_runs: int) -> Tensor:
    """The values of each unit. Maps (N, R*C, H, W) -> (R, C, N*H*W), features (N, R, D) -> (R, D, N)."""
    if x.dim() == 3:
        return x.permute(1, 2, 0)
    return x.reshape(len(x), num_runs, x.shape[1] // num_runs, -1).permute(1, 2, 0, 3).flatten(2)
