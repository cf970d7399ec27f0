"""A run's network as a plain torch module, without the run axis: for use outside of bnexp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bnexp.config.options import Activation
from bnexp.model.layers import MaxPool2x2, Nonlinearity, RunAveragePool, RunConv2d, RunDropout, RunFlatten, RunLinear
from bnexp.model.networks import TableNetwork
from bnexp.model.norms import RunGroupNorm, RunningNorm, RunNorm
from bnexp.model.own.network import OwnNetwork
from bnexp.model.shortcuts import AddShortcut, OpenShortcut, Row, Scale, Shift

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    Activation.relu: nn.ReLU,
    Activation.leaky_relu: nn.LeakyReLU,
    Activation.tanh: nn.Tanh,
    Activation.sigmoid: nn.Sigmoid,
    Activation.identity: nn.Identity,
    Activation.gelu: nn.GELU,
    Activation.silu: nn.SiLU,
}


def plain_module(network: TableNetwork, run: int) -> nn.Sequential:
    """One run of a network as a module of torch's own layers, with the run's parameters and buffers, in evaluation mode.

    Shortcuts, and the scalars of residual branches, are bnexp's (``shortcuts.py``): torch has no layers for them. Layers and
    weights keep their names, so its ``state_dict`` is what ``network.export(run)`` gives. In evaluation it computes what the
    network computes. In training mode ghost batches, noise and the corrections of batch renorm are left out: it has the batch
    norm that torch has.

    Args:
        network: R networks of one shape.
        run: which of them, from 0.

    Returns:
        Images ``(N, C, S, S)``, normalised as for the run -> logits ``(N, K)``.
    """
    module = Row() if any(isinstance(layer, OpenShortcut) for layer in network) else nn.Sequential()
    for name, layer in network.named_children():
        module.add_module(name, plain_layer(layer, run))
    weights = {name: torch.from_numpy(value) for name, value in network.export(run).items()}
    module.to(network.flat.dtype).load_state_dict(weights)
    return module.eval()


def own_module(network: OwnNetwork, run: int) -> nn.Module:
    """The module of one run, in evaluation mode, independent of the network. Its norm layers are torch's own.

    Ghost batches, noise and the correction of batch renorm are left out, as in ``plain_module``: they are of training
    only.

    Args:
        network: whose parameters are cut off from it; it is not used any more.
        run: which of its runs, from 0.
    """
    module, weights = network.runs[run], network.export(run)
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
    replaced: dict[nn.Module, nn.Module] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, RunNorm):
            state = {key[len(name) + 1 :]: torch.as_tensor(value) for key, value in weights.items() if _owner(key) == name}
            replaced[layer] = plain_layer(layer, 0).to(network.flat)
            replaced[layer].load_state_dict(state)
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if child in replaced:
                setattr(parent, name, replaced[child])
    return replaced.get(module, module).eval()


def _owner(key: str) -> str:
    return key.rpartition(".")[0]


def plain_layer(layer: nn.Module, run: int) -> nn.Module:
    """Torch's own layer with the shapes and options of one run of ``layer``; its parameters are new."""
    match layer:
        case RunConv2d():
            _, out_channels, in_channels, kernel_size, _ = layer.weight.shape
            return nn.Conv2d(in_channels, out_channels, kernel_size, layer.stride, layer.padding, bias=layer.bias is not None)
        case RunLinear():
            _, out_features, in_features = layer.weight.shape
            return nn.Linear(in_features, out_features)
        case RunFlatten():
            return nn.Flatten()
        case RunAveragePool():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case MaxPool2x2():
            return nn.MaxPool2d(2)
        case Nonlinearity():
            return ACTIVATIONS[layer.name]()
        case OpenShortcut():
            return OpenShortcut()
        case AddShortcut():
            return AddShortcut(layer.in_channels, layer.out_channels, layer.stride)
        case Scale():
            return Scale((1,))
        case Shift():
            return Shift((1,))
        case RunDropout():
            return nn.Dropout(float(layer.threshold[run]) / 2**32)
        case RunGroupNorm():
            affine = layer.weight is not None
            return nn.GroupNorm(layer.groups, layer.num_features, float(layer.eps[run]), affine)
        case RunningNorm():
            return _batch_norm(layer, run)
    raise TypeError(f"{type(layer).__name__} has no plain counterpart; add it to bnexp/model/export.py")


def _batch_norm(layer: RunningNorm, run: int) -> nn.Module:
    momentum = None if layer.cumulative[run] else float(layer.momentum[run])
    axes = layer.num_axes or (4 if layer.map_size > 1 else 2)
    kind: Any = {4: nn.BatchNorm2d, 5: nn.BatchNorm3d}.get(axes, nn.BatchNorm1d)
    module: nn.Module = kind(
        layer.num_features,
        eps=float(layer.eps[run]),
        momentum=momentum,
        affine=layer.weight is not None,
        track_running_stats=layer.track_running_stats,
    )
    return module
