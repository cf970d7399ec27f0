"""Every quantity that a probe measures of a step, against plain PyTorch and by its definition."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from epochs import epoch_batches
from fake_data import FakeData, make_config
from reference import ACTIVATIONS, reference_network
from torch import Tensor, nn

from bnexp.config.options import Activation, InitScheme, ModelName, NormKind, Precision
from bnexp.config.schema import InitConfig, RunConfig
from bnexp.model.network import Network
from bnexp.model.networks import build_network
from bnexp.torch_rng import torch_generator
from bnexp.training.optim import build_optimiser
from bnexp.training.probes.activations import Activations, dead, percentiles
from bnexp.training.probes.similar import SimilarImages
from bnexp.training.probes.steps import MULTIPLES, Step, Values, covariate_shift, decoupling, gradients, landscape
from bnexp.training.probes.twin import State, Twin
from bnexp.training.step import TrainStep

DATA = FakeData(num_test=48)
LAYERS = ["conv1", "norm1", "conv2", "norm2", "fc1", "norm3", "fc2", "norm4", "fc3"]
WEIGHTS = ["conv1", "conv2", "fc1", "fc2", "fc3"]
Arrays = Mapping[str, np.ndarray[Any, Any]]


def made_network(configs: Sequence[RunConfig]) -> Network:
    return build_network(configs, DATA.in_channels, DATA.size, DATA.num_classes, dtype=torch.float64, num_steps=10).train()


def made_step(configs: Sequence[RunConfig], num_before: int = 2) -> tuple[Step, list[Arrays], list[Arrays]]:
    """A true training step of a cohort after a few others, and the exported weights of each run before and after it."""
    network = made_network(configs)
    train = TrainStep(network, build_optimiser([c.optim for c in configs], network.flat, 1, num_before + 1), Precision.fp64)
    batches = iter([*epoch_batches(DATA, [c.seed for c in configs], 1, 12)])
    for _ in range(num_before):
        train(*next(batches))
    x, y = next(batches)
    runs = range(len(configs))
    before, exported = State.of(network), [network.export(r) for r in runs]
    train(x, y)
    rates = torch.tensor([c.optim.lr for c in configs], dtype=torch.float64)
    step = Step(Twin(made_network(configs), Precision.fp64), before, State.of(network), x, y, rates)
    return step, exported, [network.export(r) for r in runs]


def of_kind(kind: NormKind, config: RunConfig) -> RunConfig:
    return replace(config, norm=replace(config.norm, kind=kind))


class Plain:
    """Run ``run`` of a step, as a plain network computes it."""

    def __init__(self, config: RunConfig, step: Step, run: int) -> None:
        self.config = config
        self.x, self.y = step.x[:, run : run + 1], step.labels[run]

    def loss_and_gradients(self, weights: Arrays) -> tuple[Tensor, dict[str, Tensor]]:
        network = reference_network(self.config, weights, DATA.in_channels, DATA.size, DATA.num_classes).train()
        loss = F.cross_entropy(network(self.x), self.y)
        loss.backward()
        return loss.detach(), {name: p.grad for name, p in network.named_parameters() if p.grad is not None}

    def loss(self, weights: Arrays) -> Tensor:
        return self.loss_and_gradients(weights)[0]


def mixed(before: Arrays, after: Arrays, moved: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """The weights before, but for the layers that have moved."""
    return {name: (after if name.split(".")[0] in moved else before)[name] for name in before}


def assert_values(found: Values, expected: Sequence[Mapping[str, Any]]) -> None:
    assert {name for name, value in found.items() if value.shape == (len(expected),)} == found.keys()
    for run, values in enumerate(expected):
        assert {name: found[name][run].item() for name in values} == pytest.approx({n: float(v) for n, v in values.items()})


NORMS = [None, {"linear": True}]


def two_runs(norm: dict[str, Any] | None) -> list[RunConfig]:
    return [make_config(seed, norm, optim={"lr": lr, "momentum": 0.5}) for seed, lr in ((0, 0.05), (1, 0.2))]


@pytest.mark.parametrize("norm", NORMS)
def test_gradient_norms_are_those_of_the_plain_networks_weights(norm: dict[str, Any] | None) -> None:
    configs = two_runs(norm)
    step, before, _ = made_step(configs)
    expected = []
    for run, config in enumerate(configs):
        _, grads = Plain(config, step, run).loss_and_gradients(before[run])
        norms = {f"gradients/{layer}/norm": grads[f"{layer}.weight"].norm() for layer in WEIGHTS}
        ratio = norms["gradients/conv1/norm"] / norms["gradients/fc3/norm"]
        expected.append(norms | {"gradients/log_ratio": torch.log10(ratio)})
    assert_values(gradients(step), expected)


@pytest.mark.parametrize("norm", NORMS)
def test_covariate_shift_is_the_gradients_change_by_the_preceding_layers_update(norm: dict[str, Any] | None) -> None:
    configs = two_runs(norm)
    step, before, after = made_step(configs)
    expected = []
    for run, config in enumerate(configs):
        plain, values = Plain(config, step, run), {}
        _, old = plain.loss_and_gradients(before[run])
        for layer in WEIGHTS[1:]:
            _, new = plain.loss_and_gradients(mixed(before[run], after[run], LAYERS[: LAYERS.index(layer)]))
            g, h = old[f"{layer}.weight"].flatten(), new[f"{layer}.weight"].flatten()
            values[f"covariate_shift/{layer}/l2"] = (h - g).norm()
            values[f"covariate_shift/{layer}/relative_l2"] = (h - g).norm() / g.norm()
            values[f"covariate_shift/{layer}/cosine"] = torch.dot(g, h) / g.norm() / h.norm()
        for kind in ("l2", "relative_l2", "cosine"):
            values[f"covariate_shift/{kind}"] = sum(values[f"covariate_shift/{layer}/{kind}"] for layer in WEIGHTS[1:]) / 4
        expected.append(values)
    assert_values(covariate_shift(step), expected)


@pytest.mark.parametrize("norm", NORMS)
def test_landscape_follows_the_gradient_at_multiples_of_the_learning_rate(norm: dict[str, Any] | None) -> None:
    configs = two_runs(norm)
    step, before, _ = made_step(configs)
    assert MULTIPLES == (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4)
    expected = []
    for run, config in enumerate(configs):
        plain, losses, changes, betas = Plain(config, step, run), [], [], []
        _, g = plain.loss_and_gradients(before[run])
        for multiple in MULTIPLES:
            distance = multiple * config.optim.lr
            moved = {n: w - distance * g[n].numpy() if n in g else w for n, w in before[run].items()}
            loss, h = plain.loss_and_gradients(moved)
            losses.append(loss.item())
            changes.append(sum(((h[n] - g[n]) ** 2).sum().item() for n in g) ** 0.5)
            betas.append(changes[-1] / (distance * sum((g[n] ** 2).sum().item() for n in g) ** 0.5))
        expected.append(
            {
                "landscape/loss_range": max(losses) - min(losses),
                "landscape/gradient_change": max(changes),
                "landscape/relative_gradient_change": max(changes) / sum((g[n] ** 2).sum().item() for n in g) ** 0.5,
                "landscape/beta": max(betas),
            }
        )
    assert_values(landscape(step), expected)


@pytest.mark.parametrize("norm", NORMS)
def test_decoupling_compares_the_joint_step_with_single_layers(norm: dict[str, Any] | None) -> None:
    configs = two_runs(norm)
    step, before, after = made_step(configs)
    blocks = [["conv1", "norm1"], ["conv2", "norm2"], ["fc1", "norm3"], ["fc2", "norm4"], ["fc3"]]
    expected = []
    for run, config in enumerate(configs):
        plain = Plain(config, step, run)
        start = plain.loss(before[run])
        joint = plain.loss(after[run]) - start
        changes = torch.stack([plain.loss(mixed(before[run], after[run], block)) - start for block in blocks])
        gap = (joint - changes.sum()).abs() / changes.abs().sum()
        expected.append({"decoupling/joint": joint, "decoupling/separate": changes.sum(), "decoupling/gap": gap})
    assert_values(decoupling(step), expected)


@pytest.mark.parametrize(
    "config",
    [
        make_config(1, {"linear": True, "noise": 0.5}, model={"dropout": 0.5}),
        make_config(1, {"ghost_size": 4}, model={"dropout": 0.2}),
        of_kind(NormKind.batch_renorm, make_config(1, {})),
    ],
    ids=["dropout and noise", "ghost batches", "batch renorm"],
)
def test_the_twins_gradient_is_that_of_the_step_masks_noise_and_counters_included(config: RunConfig) -> None:
    config.optim.momentum = 0.0
    step, _, _ = made_step([config])
    torch.testing.assert_close(step.before.flat - step.after.flat, config.optim.lr * step.base[1], rtol=1e-9, atol=1e-12)
    again = step.gradient_at(step.before.flat)
    assert (again[0] == step.base[0]).all()
    assert (again[1] == step.base[1]).all()


@pytest.mark.parametrize("network", [{}, {"name": ModelName.resnet, "depth": 8, "width": 2}], ids=["lenet", "resnet"])
@pytest.mark.parametrize("norm", [None, {"linear": True, "placement": "before_activation"}])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_activations_are_the_inputs_of_the_plain_networks_nonlinearities(
    activation: str, norm: dict[str, Any] | None, network: dict[str, Any]
) -> None:
    model = network | {"activation": Activation(activation), "init": InitConfig(InitScheme.torch, 4.0)}
    configs = [make_config(seed, norm, model=model, optim={"lr": 0.02}) for seed in (0, 1)]
    step, before, after = made_step(configs)
    images, _ = DATA.images("train", torch.arange(9))
    found = Activations(step.twin, images, step.before)(step)
    expected = []
    for run, config in enumerate(configs):
        first, second = (pre_activations(config, weights[run], images) for weights in (before, after))
        values, drifts = {}, []
        for i, (old, new) in enumerate(zip(first, second, strict=True), start=1):
            values |= {f"activations/act{i}/p{q}": np.percentile(new, q) for q in (15, 50, 85)}
            was, now = (np.percentile(pre, (15, 50, 85), axis=1) for pre in (old, new))
            drifts.append(np.abs(now - was).mean() / ((now[2] - now[0]).mean() / 2 + (was[2] - was[0]).mean() / 2))
            values[f"activations/act{i}/dead"] = dead_units(activation, new).mean()
        values["activations/drift"] = np.mean(drifts)
        values["activations/dead"] = np.concatenate([dead_units(activation, new) for new in second]).mean()
        expected.append(values)
    assert_values(found, expected)
    if activation == "relu" and norm is None:
        assert 0 < found["activations/dead"].max() < 1


def pre_activations(config: RunConfig, weights: Arrays, images: Tensor) -> list[np.ndarray[Any, Any]]:
    """Of each nonlinearity in turn its inputs, (units, values)."""
    network = reference_network(config, weights, DATA.in_channels, DATA.size, DATA.num_classes).train()
    found: list[np.ndarray[Any, Any]] = []
    act = next(m for m in network.modules() if isinstance(m, type(ACTIVATIONS[config.model.activation]())))
    act.register_forward_pre_hook(lambda _, args: found.append(args[0].detach().transpose(0, 1).flatten(1).numpy()))
    network(images)
    return found


def dead_units(activation: str, pre: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if activation == "relu":
        return (pre <= 0).all(1)
    f = 1 / (1 + np.exp(-pre)) if activation == "sigmoid" else np.tanh(pre)
    slope = f * (1 - f) if activation == "sigmoid" else 1 - f**2
    return (slope < 1e-3).all(1)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, 101])
def test_percentiles_are_numpys_and_undefined_where_a_value_is_not_finite(size: int) -> None:
    values = torch.randn(2, 3, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    expected = np.moveaxis(np.percentile(values, (15, 50, 85), axis=-1), 0, -1)
    np.testing.assert_allclose(percentiles(values), expected, rtol=1e-12)
    values[0, 1, 0], values[1, 2, -1] = torch.nan, torch.inf
    expected[0, 1], expected[1, 2] = np.nan, np.nan
    np.testing.assert_allclose(percentiles(values), expected, rtol=1e-12)


def test_a_unit_is_dead_where_every_slope_is_below_a_thousandth() -> None:
    for slopes, is_dead in (([0.9e-3, -0.5e-3, 0.0], 1.0), ([0.9e-3, 0.5e-3, 1e-3], 0.0), ([-1.1e-3, 0.0, 0.0], 0.0)):
        layer: Any = functools.partial(torch.mul, torch.tensor(slopes, dtype=torch.float64))
        pre = torch.ones(2, 1, 3, dtype=torch.float64)
        assert dead(layer, pre).tolist() == [[is_dead], [is_dead]]
        pre[1, 0, 2] = torch.inf
        found = dead(layer, pre)
        assert found[0] == is_dead
        assert found[1].isnan()


def test_a_network_that_stands_still_does_not_drift() -> None:
    step, _, _ = made_step([make_config(0)])
    activations = Activations(step.twin, DATA.images("train", torch.arange(9))[0], step.before)
    assert activations(step)["activations/drift"] > 0
    assert activations(step)["activations/drift"] == 0


@pytest.mark.parametrize("jitter", [1.0, 1e-6])
def test_similar_images_gain_the_inverse_deviation_and_at_most_that_of_eps(jitter: float) -> None:
    model = {"name": ModelName.mlp, "depth": 2, "width": 40}
    configs = [make_config(seed, {"placement": "before_activation"}, model=model) for seed in (0, 1)]
    step, _, after = made_step(configs)
    image = DATA.images("train", torch.tensor([3]))[0][0]
    images = image + jitter * gaussian("probe/jitter", 50, *image.shape)
    dy = gaussian("probe/gradient", 50, 1, 40)[:, 0]
    expected = []
    for config, weights in zip(configs, after, strict=True):
        network = reference_network(config, weights, DATA.in_channels, DATA.size, DATA.num_classes).train()
        assert isinstance(network.fc1, nn.Linear)
        assert isinstance(network.norm1, nn.BatchNorm1d)
        x = network.fc1(images.flatten(1)).detach().requires_grad_()
        y = network.norm1(x)
        (dx,) = torch.autograd.grad(y, x, dy)
        variances = [values.detach().var(0, correction=0) for values in (x, y)]
        deviation = (variances[1].mean() / variances[0].mean()).sqrt()
        expected.append({"similar/output_deviation": deviation, "similar/backward_gain": dx.norm() / dy.norm()})
        gain = (network.norm1.weight**2 / (variances[0] + 1e-5)).mean().sqrt().item()
        assert expected[-1]["similar/backward_gain"].item() == pytest.approx(gain, rel=0.05)  # a random gradient, of 50 images
        assert jitter == 1 or deviation.item() == pytest.approx(1e-5**-0.5, rel=0.02)
    assert_values(SimilarImages(step.twin, image, 50, jitter)(step), expected)


def gaussian(stream: str, *shape: int) -> Tensor:
    """The numbers that every run of every version sees."""
    return torch.randn(shape, generator=torch_generator(0, stream), dtype=torch.float64)


def test_without_norm_similar_images_stay_as_similar() -> None:
    step, _, _ = made_step([make_config(0)])
    found = SimilarImages(step.twin, DATA.images("train", torch.tensor([3]))[0][0], 6, 0.1)(step)
    assert_values(found, [{"similar/output_deviation": 1, "similar/backward_gain": 1}])
