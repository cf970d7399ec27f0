"""The counts from the table against the network that is built from it."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from bnexp.config.options import Activation, Kernels, ModelName, NormKind, Placement, ResidualInit
from bnexp.config.schema import RunConfig
from bnexp.model.counts import count
from bnexp.model.layers import MaxPool2x2, RunConv2d, RunFlatten, RunLinear
from bnexp.model.networks import build_network
from bnexp.model.norms import RunNorm
from bnexp.model.shortcuts import OpenShortcut
from bnexp.model.table import table
from tests.changed import changed

CONFIGS = [
    changed(RunConfig(), {"model.name": name, "model.depth": 8, "norm.kind": kind, "norm.placement": placement} | other)
    for name in ModelName
    if name is not ModelName.python
    for kind, placement in [(NormKind.none, Placement.after_pool), *((NormKind.batch, placement) for placement in Placement)]
    for other in ({}, {"norm.linear": True, "norm.affine": False, "model.dropout": 0.5, "model.activation": Activation.tanh})
]
CONFIGS += [
    changed(RunConfig(), {"model.name": ModelName.resnet, "model.depth": 8, "model.init.residual": residual, "norm.kind": kind})
    for residual, kind in itertools.product(ResidualInit, (NormKind.none, NormKind.batch))
    if not (residual is ResidualInit.fixup and kind is NormKind.batch)
]
CONFIGS += [
    changed(CONFIGS[-1], {"norm.placement": Placement.before_activation, "norm.affine": affine}) for affine in (True, False)
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_counts_are_those_of_the_layers_of_the_built_network(config: RunConfig) -> None:
    config = changed(config, {"train.kernels": Kernels.torch})  # layer by layer
    network = build_network([config], 3, 32, 10).eval()
    sizes: dict[str, list[tuple[nn.Module, int, int]]] = {"conv": [], "linear": [], "norm": [], "other": []}

    def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        kinds = {RunConv2d: "conv", RunLinear: "linear", RunNorm: "norm"}
        kind = next((kind for cls, kind in kinds.items() if isinstance(layer, cls)), "other")
        if not isinstance(layer, RunFlatten | OpenShortcut):
            sizes[kind].append((layer, inputs[0].numel(), output.numel()))

    for layer in network.children():
        layer.register_forward_hook(note)
    network(torch.zeros(1, 3, 32, 32))
    found = count(config, 3, 32, 10)
    assert found.parameters == network.num_parameters
    assert (found.convs, found.linears) == (len(sizes["conv"]), len(sizes["linear"]))
    assert (found.norms, found.norm_values) == (len(sizes["norm"]), sum(size for _, size, _ in sizes["norm"]))
    assert (found.others, found.other_values) == (len(sizes["other"]), sum(size for _, size, _ in sizes["other"]))
    assert found.linear_products == sum(layer.weight.numel() for layer, _, _ in sizes["linear"])


def test_products_count_output_channels_in_lanes_of_sixteen() -> None:
    config = changed(RunConfig(), {"model.name": ModelName.plain, "model.depth": 1, "model.width": 20})
    assert len(table(config.model).convs) == 1
    assert count(config, 3, 32, 10).products == 32 * 3 * 9 * 32**2


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_kernels_are_counted_where_the_built_network_has_them(config: RunConfig) -> None:
    plain, found = (count(changed(config, {"train.kernels": kernels}), 3, 32, 10) for kernels in (Kernels.torch, Kernels.auto))
    network = build_network([config], 3, 32, 10)
    fused = [layer for layer in network.children() if isinstance(layer, RunConv2d) and layer.before_pool]
    assert plain.fused_products == 0
    assert found.products + found.fused_products == plain.products
    assert (found.fused_products > 0, found.products > 0) == (bool(fused), found.convs > len(fused))
    pools = [layer for layer in network.children() if isinstance(layer, MaxPool2x2) and layer.before_relu]
    assert found.others == plain.others - 2 * len(pools)
    assert (found.pooled_values > 0) == (len(pools) > len(fused))
