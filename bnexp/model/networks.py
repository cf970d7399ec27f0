"""Networks built from a table of layers, for R runs at once.

Configuration ends here: the layers take plain arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bnexp.config.factory import load_factory
from bnexp.config.options import Activation, DropoutSide, Kernels, ModelName, NormKind, Placement, ResidualInit
from bnexp.config.schema import ConfigError, RunConfig
from bnexp.model.init import initialise, initialise_as_fixup
from bnexp.model.kernels.pooling import pool_relu
from bnexp.model.layers import MaxPool2x2, Nonlinearity, RunAveragePool, RunConv2d, RunDropout, RunFlatten, RunLinear
from bnexp.model.network import Network, Visit, Weights, check_fit
from bnexp.model.norms import RunBatchNorm, RunNorm, build_norm
from bnexp.model.own.guard import settings_kept
from bnexp.model.own.network import build_own_network
from bnexp.model.shortcuts import AddShortcut, OpenShortcut, Row, Scale, Shift, pass_on
from bnexp.model.table import ConvBlock, table
from bnexp.rng import derive

FEW_CHANNELS = 8  # with at most this many channels, doubling them still fits one CPU vector register


# What follows a convolution. Without pooling, as after every linear layer, after_pool means after the activation.
_ORDERS: dict[Placement, tuple[str, ...]] = {
    Placement.before_activation: ("norm", "act", "pool"),
    Placement.after_activation: ("act", "norm", "pool"),
    Placement.after_pool: ("act", "pool", "norm"),
    Placement.both: ("norm", "act", "norm", "pool"),
}


class TableNetwork(Row, Network):
    """R networks that are a row of layers with a run axis.

    The layers' parameters are views of ``flat``, in the order of ``named_parameters``. Run ``r`` has the weights of a plain
    torch module with the same layer names.

    Args:
        layers: name -> layer, in forward order.
        num_runs: R.
    """

    def __init__(self, layers: Mapping[str, nn.Module], num_runs: int) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.num_runs = num_runs
        self.pack()

    def pack(self) -> None:
        owners = [(layer, name, p) for layer in self.children() for name, p in layer.named_parameters(recurse=False)]
        self.flat = torch.cat([p.detach().flatten(1) for _, _, p in owners], dim=1)
        start = 0
        for layer, name, p in owners:
            end = start + p[0].numel()
            setattr(layer, name, nn.Parameter(self.flat[:, start:end].view(p.shape)))
            start = end
        self._leaves = list(self.parameters())

    def gradient(self, loss: Tensor, out: Tensor) -> None:
        gradients = torch.autograd.grad(loss, self._leaves)  # ones as grad_outputs would make torch import sympy
        torch.cat([g.flatten(1) for g in gradients], dim=1, out=out)

    def columns(self) -> dict[str, slice]:
        ends = list(accumulate(p[0].numel() for p in self.parameters()))
        return {name: slice(*ends) for (name, _), ends in zip(self.named_parameters(), pairwise([0, *ends]), strict=True)}

    def weight_layers(self) -> list[str]:
        return [name for name, layer in self.named_children() if isinstance(layer, RunConv2d | RunLinear)]

    def norm_layers(self) -> list[str]:
        return [name for name, layer in self.named_children() if isinstance(layer, RunNorm)]

    @property
    def head(self) -> str:
        return [name for name, _ in self.named_children()][-1]

    def walk(self, x: Tensor, visit: Visit) -> None:
        shortcut: Tensor | None = None
        for name, layer in self.named_children():
            visit(name, layer, x)
            x, shortcut = pass_on(layer, x, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        shortcut: Tensor | None = None
        layers = iter(self.children())
        for layer in layers:
            if isinstance(layer, RunConv2d) and layer.fuses(x):
                x = layer.pooled(x)
                next(layers), next(layers)  # pooling and ReLU
            elif isinstance(layer, MaxPool2x2) and layer.fuses(x):
                x = layer.rectified(x)
                next(layers)
            else:
                x, shortcut = pass_on(layer, x, shortcut)
        return x

    def compile_kernels(self, in_channels: int, size: int) -> list[str]:
        x, found = self.flat.new_empty(0, in_channels, size, size), []
        for name, layer in self.named_children():
            if isinstance(layer, RunConv2d):
                if not layer.fuses(x):
                    break
                found.append(f"{name} with pooling")
                y = layer.pooled(x)
                torch.autograd.grad(y.sum(), layer.weight)
                x = y.detach().requires_grad_()
        maps, layers = self.flat.new_empty(0, 1, 2, 2), list(self.children())
        if any(isinstance(b, MaxPool2x2) and b.fuses(maps) and not _with_pooling(a) for a, b in pairwise(layers)):
            torch.autograd.grad(pool_relu(maps.requires_grad_()).sum(), maps)
            found.append("pooling")
        norms = [layer for layer in layers if isinstance(layer, RunBatchNorm)]
        if norms and norms[0].compile_kernels():
            found.append("norms")
        return found

    def export(self, run: int) -> dict[str, NDArray[np.generic]]:
        return {name: value[run].detach().cpu().numpy().copy() for name, value in self.state_dict().items()}

    @torch.no_grad()
    def load(self, run: int, weights: Weights) -> None:
        state = self.state_dict()
        check_fit({name: tuple(value.shape[1:]) for name, value in state.items()}, weights)
        for name, value in state.items():
            value[run].copy_(torch.tensor(weights[name]))


def _with_pooling(layer: nn.Module) -> bool:
    return isinstance(layer, RunConv2d) and layer.before_pool


def build_network(
    configs: Sequence[RunConfig],
    in_channels: int,
    size: int,
    num_classes: int,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    num_steps: int = 1,
) -> Network:
    """The initialised network of a cohort.

    Args:
        configs: one configuration per run. They agree in everything but per-run keys: seed, dropout, init, eps and norm
            momentum are each run's own.
        in_channels: channels of the images.
        size: side of the square images, pixels.
        num_classes: K.
        device: where the network lives; None: PyTorch's default.
        dtype: number format of its parameters.
        num_steps: steps of the whole training, which the schedule of batch renorm is scaled to.

    Raises:
        ConfigError: the images are too small for the network, a norm cannot normalise a layer, or the user's own network cannot
            be built.
    """
    if configs[0].model.name is ModelName.python:
        return _own_network(configs, in_channels, size, num_classes, device, dtype, num_steps)
    layers = dict(_Builder(configs, device, dtype, num_steps).layers(in_channels, size, num_classes))
    network = TableNetwork(layers, len(configs))
    inits = [c.model.init for c in configs]
    initialise(
        network, [c.seed for c in configs], [i.scheme for i in inits], [i.gain for i in inits], [i.layers for i in inits]
    )
    if configs[0].model.init.residual is ResidualInit.fixup:
        initialise_as_fixup(network)
    return network


def _own_network(configs: Sequence[RunConfig], *arguments: Any) -> Network:
    """The network of the user's function; arguments as for ``build_network``."""
    model = configs[0].model
    assert model.factory is not None
    with settings_kept():
        factory = load_factory(model.factory, "model.factory")
    return build_own_network(factory, f"model.factory={model.factory}", model.args, configs, *arguments)


class _Builder:
    """Walks the table of a network and yields named layers."""

    def __init__(self, configs: Sequence[RunConfig], device: torch.device | None, dtype: torch.dtype, num_steps: int) -> None:
        self.configs, self.num_steps = configs, num_steps
        self.model, self.norm_config = configs[0].model, configs[0].norm
        self.residual = self.model.init.residual
        self.table = table(self.model)
        self.placement: dict[str, Any] = {"device": device, "dtype": dtype}

    def layers(self, in_channels: int, size: int, num_classes: int) -> Iterator[tuple[str, nn.Module]]:
        self._check_size(size)
        num_runs, convs, hidden = len(self.configs), self.table.convs, self.table.hidden
        bias = self.model.has_conv_bias(self.norm_config)
        features, side = in_channels, size
        for i, row in enumerate(convs, start=1):
            if row.opens:
                yield f"shortcut{i}", OpenShortcut()
            if i > 1 and self.residual is ResidualInit.fixup:
                yield self._shift(f"conv{i}")
            split = self._splits_columns(row, side)
            fused = self._is_fused(row)
            shape = (num_runs, features, row.num_features, row.kernel_size)
            yield f"conv{i}", RunConv2d(*shape, bias, row.padding, row.stride, split, fused, **self.placement)
            features = row.num_features
            yield from self._after_conv(i, row, side)
            side = row.side_after(side)
        if self.table.average:
            yield "average", RunAveragePool(features)
        else:
            features *= side**2
            yield "flatten", RunFlatten(features)
        for i, units in enumerate(hidden, start=1):
            yield f"fc{i}", RunLinear(num_runs, features, units, **self.placement)
            features = units
            yield from self._after_linear(i, features)
        if self.residual is ResidualInit.fixup:
            yield self._shift(f"fc{len(hidden) + 1}")
        yield f"fc{len(hidden) + 1}", RunLinear(num_runs, features, num_classes, **self.placement)

    def _splits_columns(self, row: ConvBlock, side: int) -> bool:
        """Whether the convolution, on input maps of this side, is quicker with even and odd columns apart."""
        return self._on_cpu and row.pool and row.num_features <= FEW_CHANNELS and row.conv_side(side) % 2 == 0

    def _is_fused(self, row: ConvBlock) -> bool:
        """Whether the convolution may be computed together with its pooling. Padding is nothing that the kernels can do."""
        return self._by_kernels and not row.padding and row.stride == 1 and self._conv_order(row)[:2] == ["pool", "act"]

    @property
    def _by_kernels(self) -> bool:
        """Whether compiled kernels may compute parts of the network."""
        return self._on_cpu and self.configs[0].train.kernels is Kernels.auto

    @property
    def _on_cpu(self) -> bool:
        device = self.placement["device"]
        return device is None or device.type == "cpu"

    def _check_size(self, size: int) -> None:
        """Raise ConfigError if an input of this side leaves the last convolution block less than one pixel."""
        smallest = 1
        for row in reversed(self.table.convs):
            smallest = row.least_side(smallest)
        if size < smallest:
            raise ConfigError(
                f"data.size={size} is too small for model.name={self.model.name}: allowed is at least {smallest}; "
                f"set data.size={max(smallest, 32)}."
            )

    def _after_conv(self, i: int, row: ConvBlock, side: int) -> Iterator[tuple[str, nn.Module]]:
        side = row.conv_side(side)
        order = self._conv_order(row)
        for position, kind in enumerate(order):
            match kind:
                case "pool":
                    side //= 2
                    by_kernel = self._by_kernels and order[position + 1 :][:1] == ["act"]
                    yield f"pool{i}", MaxPool2x2(by_kernel and self.model.activation is Activation.relu)
                case "scale":
                    start = 0.0 if self.residual is ResidualInit.zero else 1.0
                    yield f"scale{i}", Scale((len(self.configs), 1), start, **self.placement)
                case "shift":
                    yield self._shift(f"act{i}")
                case "add":
                    assert row.adds is not None
                    yield f"add{i}", AddShortcut(row.adds.in_channels, row.num_features, row.adds.stride)
                case _:
                    name, layer = self._act_or_norm(i, kind, "act" in order[:position], row.num_features, side**2)
                    if self.residual is ResidualInit.zero and order[position + 1 :][:1] == ["add"]:
                        assert isinstance(layer, RunNorm)
                        assert layer.weight is not None
                        nn.init.zeros_(layer.weight)
                    yield name, layer

    def _conv_order(self, row: ConvBlock) -> list[str]:
        """What follows a convolution: norms, activation and pooling, and what a residual branch ends in."""
        order = self._order(self.norm_config.kind is not NormKind.none, row.pool)
        if row.pool and self.model.activation is Activation.relu and order[(at := order.index("pool")) - 1] == "act":
            # ReLU commutes with the maximum, in values and gradients. After pooling it sees a quarter of the elements.
            order[at - 1], order[at] = "pool", "act"
        at = order.index("act")
        fixup = self.residual is ResidualInit.fixup
        without_scale = self.residual is ResidualInit.zero and not (at and self.norm_config.affine)
        wanted = {"scale": row.adds and (fixup or without_scale), "shift": fixup, "add": row.adds}
        order[at:at] = [kind for kind, is_wanted in wanted.items() if is_wanted]
        return order

    def _shift(self, before: str) -> tuple[str, nn.Module]:
        """The scalar that Fixup adds in front of the layer that is named ``before``."""
        return f"shift_{before}", Shift((len(self.configs), 1), **self.placement)

    def _after_linear(self, i: int, features: int) -> Iterator[tuple[str, nn.Module]]:
        """Activation and norm in the order of a convolution block, and dropout, if any run asks for it.

        With ``model.dropout_side=after_norm`` dropout is the last of the block, whatever the placement. With ``before_norm`` it
        stands right before the norm of the block, under ``both`` before the first of the two; without a norm it is the last.
        """
        order = self._order(self.model.has_linear_norm(self.norm_config), with_pool=False)
        if any(c.model.dropout for c in self.configs):
            early = self.model.dropout_side is DropoutSide.before_norm and "norm" in order
            order.insert(order.index("norm") if early else len(order), "dropout")
        for position, kind in enumerate(order):
            if kind == "dropout":
                keys = [derive(c.seed, f"dropout{i}") for c in self.configs]
                yield f"dropout{i}", RunDropout([c.model.dropout for c in self.configs], keys, **self.placement)
            else:
                yield self._act_or_norm(len(self.table.convs) + i, kind, "act" in order[:position], features, 1)

    def _order(self, with_norm: bool, with_pool: bool) -> list[str]:
        absent = {"norm": not with_norm, "pool": not with_pool}
        return [kind for kind in _ORDERS[self.norm_config.placement] if not absent.get(kind)]

    def _act_or_norm(self, i: int, kind: str, after_act: bool, features: int, map_size: int) -> tuple[str, nn.Module]:
        if kind == "act":
            return f"act{i}", Nonlinearity(self.model.activation)
        name = f"norm{i}_after" if self.norm_config.placement is Placement.both and after_act else f"norm{i}"
        return name, build_norm(name, self.configs, features, map_size, self.num_steps, **self.placement)
