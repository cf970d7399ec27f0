"""A run's network as a plain torch module: the same numbers, of torch's own layers, under the same names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from bnexp.config.options import Activation, ModelName, NormKind, Placement, ResidualInit
from bnexp.config.schema import InitConfig, ModelConfig, NormConfig, RunConfig
from bnexp.model.export import plain_layer, plain_module
from bnexp.model.networks import build_network


def configs(model: ModelConfig, **norm: Any) -> list[RunConfig]:
    return [RunConfig(seed=seed, model=model, norm=NormConfig(**norm)) for seed in (3, 4)]


NORMS: list[dict[str, Any]] = [
    *({"kind": kind} for kind in NormKind),
    *({"kind": NormKind.batch, "placement": placement} for placement in Placement),
    {"kind": NormKind.batch, "linear": True, "affine": False},
    {"kind": NormKind.batch, "track_running_stats": False},
    {"kind": NormKind.batch, "momentum": None, "eps": 0.1},
    {"kind": NormKind.batch, "ghost_size": 4},
]


RESNET = ModelConfig(ModelName.resnet, depth=8, width=4)
FIXUP, ZERO = (replace(RESNET, init=InitConfig(residual=residual)) for residual in (ResidualInit.fixup, ResidualInit.zero))
CASES = [
    *((model, norm) for model in (ModelConfig(), ModelConfig(ModelName.plain, depth=5, width=8), RESNET) for norm in NORMS),
    *((model, {}) for model in (FIXUP, ZERO)),
]


@pytest.mark.parametrize(("model", "norm"), CASES, ids=lambda case: case.name if isinstance(case, ModelConfig) else str(case))
def test_it_computes_what_the_run_computes(model: ModelConfig, norm: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = build_network(configs(model, **norm), 3, 32, 10, dtype=torch.float64)
    images = torch.randn(16, 3, 32, 32, dtype=torch.float64)
    network.train()(images)  # running statistics move
    with torch.no_grad():
        network.flat += 0.1 * torch.randn_like(network.flat)  # nothing stays at 0
        expected = network.eval()(images)
    for run in (0, 1):
        module = plain_module(network, run)
        assert not module.training
        torch.testing.assert_close(module(images), expected[:, run], rtol=1e-12, atol=1e-12)
        assert set(module.state_dict()) == set(network.export(run))


@pytest.mark.parametrize("activation", Activation)
def test_every_activation_is_torchs_own(activation: Activation) -> None:
    model = ModelConfig(ModelName.mlp, depth=2, width=5, activation=activation, dropout=0.25)
    network = build_network(configs(model, kind=NormKind.batch), 1, 8, 10, dtype=torch.float64).eval()
    images = torch.randn(6, 1, 8, 8, dtype=torch.float64)
    module = plain_module(network, 1)
    torch.testing.assert_close(module(images), network(images)[:, 1], rtol=1e-12, atol=1e-12)
    assert all(type(layer).__module__.startswith("torch.nn") for layer in module.modules())
    assert [layer.p for layer in module if isinstance(layer, nn.Dropout)] == [0.25, 0.25]


@pytest.mark.parametrize("momentum", [None, 0.25])
def test_running_statistics_move_on_as_in_the_run(momentum: float | None) -> None:
    network = build_network(configs(ModelConfig(), kind=NormKind.batch, momentum=momentum), 1, 32, 10, dtype=torch.float64)
    images = torch.randn(8, 1, 32, 32, dtype=torch.float64)
    network.train()(images)
    module = plain_module(network, 1).train()
    for batch in (2 * images + 1, images):
        network(batch), module(batch)
    for name, value in network.export(1).items():
        torch.testing.assert_close(module.state_dict()[name], torch.from_numpy(value), rtol=1e-9, atol=1e-9)


def test_a_layer_without_a_counterpart_is_named() -> None:
    with pytest.raises(TypeError, match="Softmax has no plain counterpart; add it to"):
        plain_layer(nn.Softmax(), 0)
