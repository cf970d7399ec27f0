"""Networks built from a table of layers, for R runs at once.

This is where configuration ends: everything below takes plain arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bnexp.config import ConfigError, RunConfig
from bnexp.model.init import initialise
from bnexp.model.layers import MaxPool2x2, Nonlinearity, RunConv2d, RunDropout, RunFlatten, RunLinear
from bnexp.model.norms import RunBatchNorm
from bnexp.options import Activation, ModelName, NormKind, Placement
from bnexp.rng import derive


@dataclass(frozen=True)
class ConvBlock:
    """Convolution, activation and 2x2 max pooling, with norms where the placement says."""

    num_features: int
    kernel_size: int


@dataclass(frozen=True)
class HiddenBlock:
    """Linear layer and activation, then dropout."""

    num_features: int


# The rows of a network before its output layer. LeNet: LeCun et al. 1998, in the form of the PyTorch CIFAR tutorial.
TABLES: dict[ModelName, tuple[ConvBlock | HiddenBlock, ...]] = {
    ModelName.lenet: (ConvBlock(6, 5), ConvBlock(16, 5), HiddenBlock(120), HiddenBlock(84)),
}

# What follows a convolution; a linear layer has no pooling, so there after_pool means after the activation.
_ORDERS: dict[Placement, tuple[str, ...]] = {
    Placement.before_activation: ("norm", "act", "pool"),
    Placement.after_activation: ("act", "norm", "pool"),
    Placement.after_pool: ("act", "pool", "norm"),
    Placement.both: ("norm", "act", "norm", "pool"),
}


class Network(nn.Sequential):
    """R networks of one shape: images ``(N, R*C, S, S)`` -> logits ``(N, R, K)``; ``(N, C, S, S)`` is a batch for all runs.

    ``flat`` is ``(R, P)``, all parameters of a run in one row; the layers' parameters are views of it, in the order of
    ``named_parameters``. Run ``r`` has the weights of a plain torch module with the same layer names.
    """

    flat: Tensor

    def __init__(self, layers: Mapping[str, nn.Module], num_runs: int) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.num_runs = num_runs
        self._pack()

    @property
    def num_parameters(self) -> int:
        """Trainable parameters of one run."""
        return self.flat.shape[1]

    def _pack(self) -> None:
        """Move all parameters into ``flat`` and make the layers' parameters views of it."""
        owners = [(layer, name, p) for layer in self.children() for name, p in layer.named_parameters(recurse=False)]
        self.flat = torch.cat([p.detach().flatten(1) for _, _, p in owners], dim=1)
        start = 0
        for layer, name, p in owners:
            end = start + p[0].numel()
            setattr(layer, name, nn.Parameter(self.flat[:, start:end].view(p.shape)))
            start = end

    def check_batch(self, num_images: int) -> None:
        """Raise ConfigError where a training batch of so many images would leave a norm a single value a channel."""
        if num_images > 1:
            return
        for layer in self.children():
            if isinstance(layer, RunBatchNorm):
                layer.check_values(num_images * layer.map_size)

    def export(self, run: int) -> dict[str, NDArray[np.generic]]:
        """Parameters and buffers of one run, named and shaped as in a plain torch module."""
        return {name: self._slice(value, run).detach().cpu().numpy().copy() for name, value in self.state_dict().items()}

    @torch.no_grad()
    def load(self, run: int, weights: Mapping[str, NDArray[np.generic]]) -> None:
        """Set parameters and buffers of one run to what ``export`` gave. Raises ConfigError where names or shapes differ."""
        state = self.state_dict()
        if wrong := sorted(state.keys() ^ weights.keys()):
            raise ConfigError(
                f"The weights do not fit this network: {', '.join(wrong)} is only in one of them; use its own config."
            )
        for name, value in state.items():
            target, source = self._slice(value, run), torch.as_tensor(weights[name])
            if target.shape != source.shape:
                shapes = f"{tuple(source.shape)} instead of {tuple(target.shape)}"
                raise ConfigError(f"The weights do not fit this network: {name} is {shapes}; use its own config.")
            target.copy_(source)

    @staticmethod
    def _slice(value: Tensor, run: int) -> Tensor:
        return value[run] if value.dim() else value  # only num_batches_tracked has no run axis


def build_network(
    configs: Sequence[RunConfig],
    in_channels: int,
    size: int,
    num_classes: int,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Network:
    """The initialised network of a cohort: one run for each configuration, which agree in everything but per-run keys.

    ``size`` is the side of the square input, pixels. The first configuration decides the graph; seed, dropout, init, eps and
    norm momentum are taken from each. Raises ConfigError where the image is too small for the network.
    """
    layers = dict(_Builder(configs, device, dtype).layers(in_channels, size, num_classes))
    network = Network(layers, len(configs))
    inits = [c.model.init for c in configs]
    initialise(network, [c.seed for c in configs], [i.scheme for i in inits], [i.gain for i in inits])
    return network


class _Builder:
    """Walks the table of a network and yields named layers."""

    def __init__(self, configs: Sequence[RunConfig], device: torch.device | None, dtype: torch.dtype) -> None:
        self.configs = configs
        self.model, self.norm_config = configs[0].model, configs[0].norm
        self.placement: dict[str, Any] = {"device": device, "dtype": dtype}

    def layers(self, in_channels: int, size: int, num_classes: int) -> Iterator[tuple[str, nn.Module]]:
        num_runs, smallest = len(self.configs), self._smallest_size()
        if size < smallest:
            raise ConfigError(
                f"data.size={size} is too small for model.name={self.model.name}: allowed is at least {smallest}; "
                f"set data.size={max(smallest, 32)}."
            )
        features, map_side, flat, num_linear = in_channels, size, False, 0
        for i, row in enumerate(TABLES[self.model.name], start=1):
            if isinstance(row, ConvBlock):
                bias = self.model.has_conv_bias(self.norm_config)
                conv = RunConv2d(num_runs, features, row.num_features, row.kernel_size, bias, **self.placement)
                yield f"conv{i}", conv
                features, map_side = row.num_features, map_side - row.kernel_size + 1
                yield from self._after_conv(i, features, map_side)
                map_side //= 2
                continue
            if not flat:
                yield "flatten", RunFlatten(num_runs)
                features, flat = features * map_side**2, True
            num_linear += 1
            yield f"fc{num_linear}", RunLinear(num_runs, features, row.num_features, **self.placement)
            features = row.num_features
            yield from self._after_linear(i, num_linear, features)
        yield f"fc{num_linear + 1}", RunLinear(num_runs, features, num_classes, **self.placement)

    def _smallest_size(self) -> int:
        """The input side that leaves the last convolution block one pixel."""
        size = 1
        for row in reversed([row for row in TABLES[self.model.name] if isinstance(row, ConvBlock)]):
            size = 2 * size + row.kernel_size - 1
        return size

    def _after_conv(self, i: int, features: int, map_side: int) -> Iterator[tuple[str, nn.Module]]:
        order = self._order(self.norm_config.kind is not NormKind.none)
        at = order.index("pool")
        if self.model.activation is Activation.relu and order[at - 1] == "act":
            # ReLU commutes with the maximum, values and gradients alike: pooled first it sees a quarter of the elements.
            order[at - 1], order[at] = "pool", "act"
        for position, kind in enumerate(order):
            if kind == "pool":
                map_side //= 2
                yield f"pool{i}", MaxPool2x2()
            else:
                yield self._act_or_norm(i, kind, "act" in order[:position], features, map_side**2)

    def _after_linear(self, i: int, num_linear: int, features: int) -> Iterator[tuple[str, nn.Module]]:
        order = self._order(self.norm_config.kind is not NormKind.none and self.norm_config.linear)
        for position, kind in enumerate(order):
            if kind != "pool":
                yield self._act_or_norm(i, kind, "act" in order[:position], features, 1)
        if any(c.model.dropout for c in self.configs):
            name = f"dropout{num_linear}"
            keys = [derive(c.seed, name) for c in self.configs]
            yield name, RunDropout([c.model.dropout for c in self.configs], keys, **self.placement)

    def _order(self, with_norm: bool) -> list[str]:
        return [kind for kind in _ORDERS[self.norm_config.placement] if with_norm or kind != "norm"]

    def _act_or_norm(self, i: int, kind: str, after_act: bool, features: int, map_size: int) -> tuple[str, nn.Module]:
        if kind == "act":
            return f"act{i}", Nonlinearity(self.model.activation)
        norm = self.norm_config
        name = f"norm{i}_after" if norm.placement is Placement.both and after_act else f"norm{i}"
        eps, momentum = [c.norm.eps for c in self.configs], [c.norm.momentum for c in self.configs]
        layer = RunBatchNorm(name, features, map_size, eps, momentum, norm.affine, norm.track_running_stats, **self.placement)
        return name, layer
