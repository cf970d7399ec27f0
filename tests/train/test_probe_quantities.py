"""Every quantity that a probe measures, against plain PyTorch and by its definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from epochs import epoch_batches
from fake_data import FakeData, make_config
from hypothesis import given
from hypothesis import strategies as st
from reference import ACTIVATIONS, reference_network
from torch import Tensor, nn

from bnexp.config import InitConfig, RunConfig
from bnexp.model.networks import Network, build_network
from bnexp.options import Activation, InitScheme, ModelName, NormKind, Precision
from bnexp.train.evaluate import evaluate
from bnexp.train.memory import saved_bytes
from bnexp.train.optim import build_optimiser
from bnexp.train.probes.activations import Activations
from bnexp.train.probes.images import chosen, in_full_parts
from bnexp.train.probes.losses import EvaluationGap, oscillation
from bnexp.train.probes.readings import Readings
from bnexp.train.probes.similar import SimilarImages
from bnexp.train.probes.steps import MULTIPLES, Step, Values, covariate_shift, decoupling, gradients, landscape
from bnexp.train.probes.twin import State, Twin
from bnexp.train.statistics import precise_statistics
from bnexp.train.step import EpochTotals, TrainStep

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
    step = Step(Twin(network, Precision.fp64), before, State.of(network), x, y, rates)
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
            values[f"covariate_shift/{layer}/cosine"] = torch.dot(g, h) / g.norm() / h.norm()
        for kind in ("l2", "cosine"):
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


@pytest.mark.parametrize("norm", [None, {"linear": True, "placement": "before_activation"}])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_activations_are_the_inputs_of_the_plain_networks_nonlinearities(activation: str, norm: dict[str, Any] | None) -> None:
    model = {"activation": Activation(activation), "init": InitConfig(InitScheme.torch, 4.0)}
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


def test_a_network_that_stands_still_does_not_drift() -> None:
    step, _, _ = made_step([make_config(0)])
    activations = Activations(step.twin, DATA.images("train", torch.arange(9))[0], step.before)
    assert activations(step)["activations/drift"] > 0
    assert activations(step)["activations/drift"] == 0


@pytest.mark.parametrize("jitter", [1.0, 1e-6])
def test_similar_images_gain_the_inverse_deviation_and_at_most_that_of_eps(jitter: float) -> None:
    model = {"name": ModelName.mlp, "depth": 2, "width": 40}
    config = make_config(0, {"placement": "before_activation"}, model=model)
    step, _, after = made_step([config])
    probe = SimilarImages(step.twin, DATA.images("train", torch.tensor([3]))[0][0], 50, jitter)
    found = {name: value.item() for name, value in probe(step).items()}
    network = reference_network(config, after[0], DATA.in_channels, DATA.size, DATA.num_classes).train()
    assert isinstance(network.fc1, nn.Linear)
    assert isinstance(network.norm1, nn.BatchNorm1d)
    x = network.fc1(probe.images.flatten(1)).detach()
    y = network.norm1(x).detach()
    deviation = (y.var(0, correction=0).mean() / x.var(0, correction=0).mean()).sqrt().item()
    assert found["similar/output_deviation"] == pytest.approx(deviation)
    scale = (network.norm1.weight**2 / (x.var(0, correction=0) + 1e-5)).mean().sqrt().item()
    assert found["similar/backward_gain"] == pytest.approx(scale, rel=0.05)  # a random gradient, of 50 images
    if jitter < 1e-3:
        assert found["similar/output_deviation"] == pytest.approx(1e-5**-0.5, rel=0.02)


def test_without_norm_similar_images_stay_as_similar() -> None:
    step, _, _ = made_step([make_config(0)])
    found = SimilarImages(step.twin, DATA.images("train", torch.tensor([3]))[0][0], 6, 0.1)(step)
    assert_values(found, [{"similar/output_deviation": 1, "similar/backward_gain": 1}])


def made_readings(config: RunConfig) -> tuple[dict[str, float], nn.Module, Network]:
    network = made_network([config])
    train = TrainStep(network, build_optimiser([config.optim], network.flat, 1, 30), Precision.fp64)
    for epoch in range(1, 6):
        for x, y in epoch_batches(DATA, [config.seed], epoch, 12):
            train(x, y)
    found = Readings(Twin(network, Precision.fp64), DATA, config.train)(State.of(network))
    plain = reference_network(config, network.export(0), DATA.in_channels, DATA.size, DATA.num_classes)
    return {name.removeprefix("statistics/"): value.item() for name, value in found.items()}, plain, network


@pytest.mark.parametrize("linear", [False, True])
def test_readings_are_accuracies_by_the_statistics_they_name(linear: bool) -> None:
    config = make_config(0, {"linear": linear, "placement": "before_activation"}, train={"eval_batch_size": 1000})
    found, plain, network = made_readings(config)
    order = chosen(DATA, "test", 48)
    x, y = DATA.images("test", order)

    def accuracy(size: int = 48) -> float:
        with torch.no_grad():
            right = [plain(images).argmax(1) for images in x.split(size)]
        return (torch.cat(right) == y).double().mean().item()

    plain.eval()
    expected = {"running": accuracy()}
    norms = [m for m in plain.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
    batch = {size: accuracy(size) for size in (2, 8, 48) + ((1,) if not linear else ())}
    expected |= {f"batch_{size}": batch[min(size, 48)] for size in (1, 2, 8, 64, 1000) if size > 1 or not linear}
    plain = reference_network(config, network.export(0), DATA.in_channels, DATA.size, DATA.num_classes).train()
    expected["training_mode"] = accuracy()
    plain.eval()
    expected["after_training_mode"] = accuracy()
    precise_statistics(network, [DATA.splits["train"]], Precision.fp64)
    expected["precise"] = float(evaluate(network, DATA, "test", 48, Precision.fp64).accuracy[0])
    assert found == pytest.approx(expected)
    assert len(set(expected.values())) > 3


def test_training_mode_drops_units() -> None:
    with_dropout = make_config(0, {}, model={"dropout": 0.9})
    found, _, _ = made_readings(with_dropout)
    assert found["training_mode"] != found["batch_64"]


@pytest.mark.parametrize("norm", [None, NormKind.layer])
def test_without_batch_statistics_all_readings_are_the_same(norm: NormKind | None) -> None:
    config = make_config(0) if norm is None else of_kind(norm, make_config(0, {}))
    found, plain, _ = made_readings(config)
    x, y = DATA.splits["test"]
    assert found.keys() == {"running", "precise", "training_mode", "after_training_mode"} | {
        f"batch_{size}" for size in (1, 2, 8, 64, 1000)
    }
    assert set(found.values()) == {(plain.eval()(x).argmax(1) == y).double().mean().item()}


def test_without_running_statistics_there_are_no_readings_by_them() -> None:
    found, _, _ = made_readings(make_config(0, {"track_running_stats": False}))
    assert found.keys() == {"training_mode"} | {f"batch_{size}" for size in (1, 2, 8, 64, 1000)}


@given(st.integers(1, 40), st.integers(1, 50))
def test_parts_are_full_and_every_image_counts_once(num_images: int, size: int) -> None:
    order = torch.randperm(num_images, generator=torch.Generator().manual_seed(0))
    positions, counted = in_full_parts(order, size)
    assert len(positions) % min(size, num_images) == 0
    assert positions[counted].tolist() == order.tolist()
    assert all(len(part.unique()) == len(part) for part in positions.split(min(size, num_images)))


def test_the_gap_is_between_training_and_validation_images_in_evaluation_mode() -> None:
    config = make_config(0, {}, model={"dropout": 0.5}, train={"eval_batch_size": 5})
    network = made_network([config])
    validation = evaluate(network, DATA, "val", 7, Precision.fp64)
    gap = EvaluationGap(Twin(network, Precision.fp64), DATA, config)
    totals = EpochTotals(np.ones((1, 1)), np.ones(1), np.array([0.75]))
    found = gap(State.of(network), totals, validation)
    plain = reference_network(config, network.export(0), DATA.in_channels, DATA.size, DATA.num_classes).eval()
    loss, accuracy = {}, {}
    for split in ("train", "val"):
        x, y = DATA.splits[split]
        logits = plain(x).detach()
        loss[split], accuracy[split] = F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).double().mean().item()
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {
            "train_eval/loss": loss["train"],
            "train_eval/accuracy": accuracy["train"],
            "gap/loss": loss["val"] - loss["train"],
            "gap/accuracy": accuracy["train"] - accuracy["val"],
            "gap/mode_accuracy": 0.75 - accuracy["train"],
        }
    )
    assert gap(State.of(network), totals, None).keys() == found.keys() - {"gap/loss", "gap/accuracy"}


def test_oscillation_is_the_spread_about_the_trend() -> None:
    rng = np.random.default_rng(0)
    line = np.linspace(3, 1, 4000)[:, None]
    noise = rng.normal(0, [0.1, 0.02], (4000, 2))
    assert oscillation(line + noise) == pytest.approx([0.1, 0.02], rel=0.05)
    assert oscillation(line[:60]) == pytest.approx([0], abs=1e-12)
    assert oscillation(np.array([[1.0], [4.0], [1.0]])) == pytest.approx([2 / (2 / 3) ** 0.5])
    assert np.isnan(oscillation(line[:2])).all()


def test_saved_bytes_are_the_activations_that_the_backward_pass_reads() -> None:
    model = {"name": ModelName.mlp, "depth": 2, "width": 5, "activation": Activation.sigmoid}
    x, _ = DATA.images("train", torch.arange(12))
    assert saved_bytes(made_network([make_config(0, model=model)]), x) == 2 * 12 * 5 * 8
    normalised = made_network([make_config(0, {}, model=model)])
    assert saved_bytes(normalised, x) >= 4 * 12 * 5 * 8
