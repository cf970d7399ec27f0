"""The built networks: parameter counts, layer order, exported weights, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference import reference_network

from bnexp.config import ConfigError, ModelConfig, NormConfig, RunConfig
from bnexp.model.networks import Network, build_network
from bnexp.options import Activation, NormKind, Placement


def build(num_runs: int = 1, size: int = 32, model: ModelConfig | None = None, **norm: Any) -> Network:
    configs = [RunConfig(seed=s, model=model or ModelConfig(), norm=NormConfig(**norm)) for s in range(num_runs)]
    return build_network(configs, 3, size, 10, dtype=torch.float64)


def names(network: Network) -> list[str]:
    return [name for name, _ in network.named_children()]


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        ({}, 62_006),
        ({"kind": NormKind.batch}, 62_050),
        ({"kind": NormKind.batch, "placement": Placement.before_activation}, 62_050 - 22),  # no redundant bias
        ({"kind": NormKind.batch, "affine": False}, 62_006),
        ({"kind": NormKind.batch, "linear": True}, 62_050 + 2 * (120 + 84)),
    ],
    ids=str,
)
def test_parameter_counts(norm: dict[str, Any], expected: int) -> None:
    network = build(2, **norm)
    assert network.num_parameters == expected
    assert sum(p.numel() for p in network.parameters()) == 2 * expected


LINEAR = ["flatten", "fc1", "act3", "fc2", "act4", "fc3"]


@pytest.mark.parametrize(
    ("placement", "block"),
    [
        (Placement.before_activation, "conv norm act pool"),
        (Placement.after_activation, "conv act norm pool"),
        (Placement.after_pool, "conv act pool norm"),
        (Placement.both, "conv norm act norm_after pool"),
    ],
)
def test_the_norm_stands_where_the_placement_says(placement: Placement, block: str) -> None:
    network = build(kind=NormKind.batch, placement=placement, model=ModelConfig(activation=Activation.tanh))
    expected = [f"{part.split('_')[0]}{i}{'_after' if '_' in part else ''}" for i in (1, 2) for part in block.split()]
    assert names(network) == expected + LINEAR


def test_linear_layers_are_normalised_on_request() -> None:
    tanh = ModelConfig(activation=Activation.tanh)
    after = names(build(kind=NormKind.batch, linear=True, model=tanh))
    assert after[-7:] == ["fc1", "act3", "norm3", "fc2", "act4", "norm4", "fc3"]
    before = names(build(kind=NormKind.batch, linear=True, placement=Placement.before_activation, model=tanh))
    assert before[-7:] == ["fc1", "norm3", "act3", "fc2", "norm4", "act4", "fc3"]


def test_dropout_follows_hidden_linear_layers_where_any_run_asks_for_it() -> None:
    network = names(build(model=ModelConfig(dropout=0.5)))
    assert network[-7:] == ["fc1", "act3", "dropout1", "fc2", "act4", "dropout2", "fc3"]
    assert "dropout1" not in names(build())


def test_parameters_are_views_of_the_flat_tensor() -> None:
    network = build(3, kind=NormKind.batch)
    with torch.no_grad():
        network.flat.fill_(0.5)
    assert all((p == 0.5).all() for p in network.parameters())


@pytest.mark.parametrize("placement", [None, *Placement])
@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("size", [32, 19])
def test_exported_weights_load_strictly_into_a_plain_network_with_the_same_logits(
    placement: Placement | None, linear: bool, size: int
) -> None:
    norm = {"kind": NormKind.batch, "placement": placement, "linear": linear} if placement else {}
    network = build(2, size, **norm)
    network(torch.randn(4, 6, size, size, dtype=torch.float64))  # moves the running statistics
    network.eval()
    x = torch.randn(6, 3, size, size, dtype=torch.float64)
    logits = network(x)
    assert logits.shape == (6, 2, 10)
    for run in range(2):
        config = RunConfig(norm=NormConfig(**norm))
        oracle = reference_network(config, network.export(run), 3, size, 10).eval()
        torch.testing.assert_close(logits[:, run], oracle(x), rtol=0, atol=1e-12)


def test_load_restores_an_export_in_any_slot() -> None:
    source, target = build(1, kind=NormKind.batch), build(3, kind=NormKind.batch)
    source(torch.randn(4, 3, 32, 32, dtype=torch.float64))
    target.load(2, source.export(0))
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(target.eval()(x)[:, 2], source.eval()(x)[:, 0])


def test_load_refuses_weights_of_another_network() -> None:
    with pytest.raises(ConfigError, match=r"do not fit this network: norm1\.bias, .* is only in one of them"):
        build().load(0, build(kind=NormKind.batch).export(0))
    with pytest.raises(ConfigError, match=r"fc1\.weight is \(120, 256\) instead of \(120, 400\)"):
        build().load(0, build(size=28).export(0))


def test_an_image_that_is_too_small_is_refused() -> None:
    message = "data.size=15 is too small for model.name=lenet: allowed is at least 16; set data.size=32."
    with pytest.raises(ConfigError, match=f"^{message}$"):
        build(size=15)
    assert build(size=16)(torch.randn(2, 3, 16, 16, dtype=torch.float64)).shape == (2, 1, 10)


def test_a_batch_of_one_is_refused_where_maps_are_single_pixels() -> None:
    build(size=32, kind=NormKind.batch).check_batch(1)
    build(size=16, kind=NormKind.batch).check_batch(2)
    build(size=16, kind=NormKind.batch, placement=Placement.before_activation).check_batch(1)
    with pytest.raises(ConfigError, match="norm2 has one value a channel"):
        build(size=16, kind=NormKind.batch).check_batch(1)
    with pytest.raises(ConfigError, match="norm3 has one value a channel"):
        build(size=32, kind=NormKind.batch, linear=True).check_batch(1)
