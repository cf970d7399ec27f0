"""Initial weights: distributions, gain, and what arms with one seed share."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bnexp.config.options import InitLayers, InitScheme, ModelName, NormKind, Placement
from bnexp.config.schema import InitConfig, ModelConfig, NormConfig, RunConfig
from bnexp.model.init import draw_weight
from bnexp.model.network import Network
from bnexp.model.networks import build_network
from bnexp.torch_rng import torch_generator


def network(
    seed: int = 0, scheme: InitScheme = InitScheme.torch, gain: float = 1.0, dtype: torch.dtype = torch.float64
) -> Network:
    config = RunConfig(seed=seed, model=ModelConfig(init=InitConfig(scheme, gain)))
    return build_network([config], 3, 32, 10, dtype=dtype)


def draw(scheme: str, *shape: int) -> torch.Tensor:
    return draw_weight(scheme, shape, torch_generator(0, "test"))


@pytest.mark.parametrize(("scheme", "bound"), [("torch", 1 / math.sqrt(100)), ("xavier", math.sqrt(6 / (100 + 1600)))])
def test_uniform_schemes_fill_their_bound(scheme: str, bound: float) -> None:
    weight = draw(scheme, 64, 4, 5, 5)
    assert 0.999 * bound < weight.abs().max() <= bound
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.03)


@pytest.mark.parametrize(("scheme", "std"), [("normal", 0.01), ("kaiming", math.sqrt(2 / 100))])
def test_normal_schemes_have_their_deviation(scheme: str, std: float) -> None:
    weight = draw(scheme, 64, 4, 5, 5)
    assert weight.std() == pytest.approx(std, rel=0.04)
    assert weight.abs().max() > 3 * std


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (16, 6, 5, 5)])
def test_orthogonal_rows_or_columns(shape: tuple[int, ...]) -> None:
    matrix = draw("orthogonal", *shape).flatten(1)
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=torch.float64))


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4)])
def test_orthogonal_matrices_favour_no_direction(shape: tuple[int, int]) -> None:
    """Uniform over orthogonal matrices, every entry has mean 0 and, as unit vectors do, mean square 1 / (larger side)."""
    draws = torch.stack([draw_weight("orthogonal", shape, torch_generator(seed, "test")) for seed in range(500)])
    deviation = math.sqrt(1 / max(shape))
    assert draws.mean(0).abs().max() < 4.5 * deviation / math.sqrt(500)
    assert draws.square().mean(0) == pytest.approx(np.full(shape, deviation**2), rel=0.25)


def test_torch_scheme_has_torchs_bounds_for_weights_and_biases() -> None:
    state = network().export(0)
    for name, fan_in in (("conv1", 75), ("conv2", 150), ("fc1", 400), ("fc2", 120), ("fc3", 84)):
        for parameter in ("weight", "bias"):
            largest = abs(state[f"{name}.{parameter}"]).max()
            assert largest <= 1 / math.sqrt(fan_in)
            assert largest > 0.5 / math.sqrt(fan_in)


@pytest.mark.parametrize("scheme", [s for s in InitScheme if s is not InitScheme.torch])
def test_other_schemes_start_without_bias(scheme: InitScheme) -> None:
    state = network(scheme=scheme).export(0)
    assert all((value == 0).all() for name, value in state.items() if name.endswith("bias"))


def test_gain_scales_weights_and_not_biases() -> None:
    one, two = network().export(0), network(gain=2.0).export(0)
    for name, value in one.items():
        assert (two[name] == (2 * value if name.endswith("weight") else value)).all()


@pytest.mark.parametrize("name", [ModelName.lenet, ModelName.plain])
def test_scheme_and_gain_for_convolutions_only_leave_linear_layers_as_torch_has_them(name: ModelName) -> None:
    inits = [InitConfig(), InitConfig(InitScheme.kaiming, 3.0), InitConfig(InitScheme.kaiming, 3.0, InitLayers.conv)]
    configs = [RunConfig(seed=4, model=ModelConfig(name=name, init=init)) for init in inits]
    cohort = build_network(configs, 3, 32, 10, dtype=torch.float64)
    default, everywhere, conv_only = (cohort.export(run) for run in range(3))
    for parameter, value in conv_only.items():
        expected = everywhere if parameter.startswith("conv") else default
        assert (value == expected[parameter]).all(), parameter
        assert (default[parameter] != everywhere[parameter]).any(), parameter


def test_precisions_agree_and_seeds_differ() -> None:
    double, single = network(), network(dtype=torch.float32)
    assert torch.equal(double.flat.float(), single.flat)
    assert not torch.equal(double.flat, network(seed=1).flat)


def test_arms_with_one_seed_share_the_parameters_that_they_have_in_common() -> None:
    plain = network().export(0)
    for placement in Placement:
        norm = NormConfig(NormKind.batch, placement=placement, linear=True)
        arm = build_network([RunConfig(norm=norm)], 3, 32, 10, dtype=torch.float64).export(0)
        common = {name for name in plain if name in arm}
        assert {"conv1.weight", "conv2.weight", "fc1.weight", "fc1.bias", "fc3.bias"} <= common
        assert all((plain[name] == arm[name]).all() for name in common)


def test_a_run_starts_the_same_alone_and_in_any_cohort() -> None:
    configs = [RunConfig(seed=s, model=ModelConfig(init=InitConfig(i, 1.0 + s))) for s, i in enumerate(InitScheme)]
    cohort = build_network(configs, 1, 32, 10)
    for run, config in enumerate(configs):
        assert torch.equal(cohort.flat[run], build_network([config], 1, 32, 10).flat[0])
