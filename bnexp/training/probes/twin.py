"""A second network for measurements, so that they may do anything and disturb no training.

Shape letters: R runs, P parameters of a run, N batch, C channels, S side of the image.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from bnexp.config.options import Precision
from bnexp.config.schema import ConfigError
from bnexp.model.network import Network, Visit
from bnexp.training.precision import autocast
from bnexp.training.step import image_losses


@dataclass(frozen=True)
class State:
    """All that a forward pass depends on, copied at one moment.

    Args:
        flat: parameters, (R, P).
        memory: what else it depends on, as ``Network.memory`` gives it.
        modes: of each module in order: whether it is in training mode.
    """

    flat: Tensor
    memory: tuple[Tensor, ...]
    modes: tuple[bool, ...]

    @classmethod
    def of(cls, network: Network) -> State:
        memory = tuple(tensor.detach().clone() for tensor in network.memory())
        return cls(network.flat.detach().clone(), memory, tuple(module.training for module in network.modules()))


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
    columns = network.columns()
    weights = {name: columns[f"{name}.weight"] for name in network.weight_layers()}
    ends = [*(weight.start for weight in weights.values()), network.num_parameters][1:]
    return [WeightLayer(name, w, slice(w.start, end)) for (name, w), end in zip(weights.items(), ends, strict=True)]


class Twin:
    """A copy of a network that shares nothing with it. Each measurement starts from a ``State``, masks and noise included.

    So the loss and gradient of the twin at the state before a training step are those of the step itself.

    Args:
        network: what is copied.
        precision: number format of the forward pass.

    Raises:
        ConfigError: the user's own network cannot be copied.
    """

    def __init__(self, network: Network, precision: Precision) -> None:
        try:
            self.network = copy.deepcopy(network)
        except (RuntimeError, TypeError) as error:
            raise ConfigError(
                f"probes measure on a copy of the network, and this one has none ({str(error).splitlines()[0][:50]}...);"
                " leave the probes out, or use torch.nn.utils.parametrizations in place of torch.nn.utils.weight_norm."
            ) from error
        self.network.pack()
        self.precision = precision
        self.layers = weight_layers(network)
        self.num_runs = network.num_runs

    @torch.no_grad()
    def load(self, state: State, flat: Tensor | None = None) -> Network:
        """The twin's network in ``state``, with the parameters ``flat`` (R, P); None: with those of ``state``."""
        self.network.flat.copy_(state.flat if flat is None else flat)
        for tensor, value in zip(self.network.memory(), state.memory, strict=True):
            tensor.copy_(value)
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
        gradient = torch.empty_like(flat)
        self.network.gradient(losses.sum(), gradient)
        return losses.detach(), gradient

    def _losses(self, state: State, flat: Tensor, x: Tensor, labels: Tensor) -> Tensor:
        network = self.load(state, flat)
        with autocast(self.precision, x.device):
            logits = network(x)
        return image_losses(logits, labels).mean(1)

    def walk(self, x: Tensor, visit: Visit) -> None:
        """Tell ``visit`` name, layer and input of each layer in turn, as the loaded network computes them from images ``x``."""
        with autocast(self.precision, x.device):
            self.network.walk(x, visit)


def by_unit(x: Tensor, num_runs: int) -> Tensor:
    """The values of each unit. Maps (N, R*C, H, W) -> (R, C, N*H*W), features (N, R, D) -> (R, D, N)."""
    if x.dim() == 3:
        return x.permute(1, 2, 0)
    return x.reshape(len(x), num_runs, x.shape[1] // num_runs, -1).permute(1, 2, 0, 3).flatten(2)
