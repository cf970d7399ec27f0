"""A cohort's step is the step of each run: against plain PyTorch, alone against together, and next to a diverged run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from epochs import epoch_batches
from fake_data import FakeData
from fake_data import make_config as make_any_config
from reference import reference_network, reference_train

from bnexp.config.options import Activation, OptimName
from bnexp.config.schema import RunConfig
from bnexp.model.network import Network
from bnexp.model.networks import build_network
from bnexp.training.optim import build_optimiser
from bnexp.training.step import TrainStep, image_losses

DATA = FakeData(num_train=22)
EPOCHS = 13  # 4 steps each, the last one on a partial batch


def make_config(*args: Any, **sections: Any) -> RunConfig:
    return make_any_config(*args, **{"train": {"batch_size": 6}, **sections})


def train(configs: Sequence[RunConfig], epochs: int = EPOCHS, data: FakeData = DATA) -> tuple[Network, torch.Tensor]:
    """The trained network and the loss of each step, (steps, R)."""
    network = build_network(configs, data.in_channels, data.size, data.num_classes, dtype=data.dtype)
    optimiser = build_optimiser([c.optim for c in configs], network.flat, epochs, 4)
    step = TrainStep(network, optimiser, configs[0].train.precision)
    losses = []
    for epoch in range(1, epochs + 1):
        for x, y in epoch_batches(data, [c.seed for c in configs], epoch, configs[0].train.batch_size):
            losses.append(step(x, y)[0])
    return network, torch.stack(losses)


def batches_of(config: RunConfig) -> list[tuple[torch.Tensor, torch.Tensor]]:
    batch_size = config.train.batch_size
    return [(x, y[0]) for epoch in range(1, EPOCHS + 1) for x, y in epoch_batches(DATA, [config.seed], epoch, batch_size)]


def assert_equals_oracle(configs: Sequence[RunConfig]) -> None:
    shape = (DATA.in_channels, DATA.size, DATA.num_classes)
    initial = build_network(configs, *shape, dtype=torch.float64)
    trained, losses = train(configs)
    for run, config in enumerate(configs):
        oracle = reference_network(config, initial.export(run), *shape)
        expected = reference_train(config, oracle, batches_of(config))
        torch.testing.assert_close(losses[:, run], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)
        state = {name: torch.as_tensor(value) for name, value in trained.export(run).items()}
        for name, value in oracle.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=0, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


def sgd(lr: float, momentum: float, **more: Any) -> dict[str, Any]:
    return {"lr": lr, "momentum": momentum, **more}


PLACEMENTS = ["before_activation", "after_activation", "after_pool", "both"]


@pytest.mark.parametrize("norm", [None, *({"placement": p} for p in PLACEMENTS)], ids=["none", *PLACEMENTS])
@pytest.mark.parametrize("kind", ["sgd", "nesterov", "adam"])
def test_cohort_equals_three_serial_plain_trainings(norm: dict[str, Any] | None, kind: str) -> None:
    if kind == "adam":  # a larger eps than usual: where a gradient is zero but for rounding, a tiny one amplifies the rounding
        optims = [
            {"name": OptimName.adam, "lr": lr, "weight_decay": decay, "beta1": beta, "eps": eps}
            for lr, decay, beta, eps in ((1e-3, 0.0, 0.9, 1e-4), (3e-3, 1e-2, 0.5, 1e-5), (1e-4, 1e-3, 0.0, 1e-4))
        ]
    else:
        extra = {"nesterov": True, "weight_decay": 1e-3} if kind == "nesterov" else {}
        optims = [sgd(0.01, 0.9, **extra), sgd(0.03, 0.5, **extra), sgd(0.1, 0.1, **extra)]
    assert_equals_oracle([make_config(seed, norm, optim=optim) for seed, optim in enumerate(optims)])


@pytest.mark.parametrize("activation", [a for a in Activation if a is not Activation.relu])
def test_every_activation_equals_the_oracle(activation: Activation) -> None:
    model = {"activation": activation}
    assert_equals_oracle([make_config(0, {}, model=model), make_config(1, {}, model=model, optim=sgd(0.05, 0.0))])


@pytest.mark.parametrize(
    "norm",
    [
        {"linear": True, "placement": "before_activation"},
        {"linear": True, "placement": "both"},
        {"affine": False, "placement": "before_activation"},
        {"track_running_stats": False},
        {"momentum": None, "eps": 1e-2},
    ],
    ids=str,
)
def test_every_norm_option_equals_the_oracle(norm: dict[str, Any]) -> None:
    more = {"train": {"batch_size": 12}}  # norms on linear layers amplify rounding where four images hardly differ in a unit
    assert_equals_oracle([make_config(0, norm, **more), make_config(1, norm, optim=sgd(0.03, 0.5), **more)])


def test_one_run_equals_the_oracle() -> None:
    assert_equals_oracle([make_config(5, {}, optim=sgd(0.02, 0.9, weight_decay=1e-3))])


def test_bias_before_a_norm_changes_nothing() -> None:
    norm = {"placement": "before_activation"}
    with_bias, losses = train([make_config(0, norm, model={"conv_bias": "true"})], 25)
    without, other = train([make_config(0, norm, model={"conv_bias": "false"})], 25)
    assert len(losses) == 100
    assert "conv1.bias" in with_bias.state_dict()
    assert "conv1.bias" not in without.state_dict()
    torch.testing.assert_close(losses, other, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", [None, {"linear": True}])
def test_a_diverged_run_leaves_the_others_bit_identical(norm: dict[str, Any] | None, dtype: torch.dtype) -> None:
    data = FakeData(num_train=22, dtype=dtype)
    calm = [make_config(seed, norm) for seed in range(3)]
    wild = [calm[0], make_config(1, norm, optim={"lr": 1e30}), calm[2]]
    expected, losses = train(calm, 5, data)
    actual, wild_losses = train(wild, 5, data)
    assert not wild_losses[-1, 1].isfinite()
    for run in (0, 2):
        assert torch.equal(losses[:, run], wild_losses[:, run])
        assert torch.equal(expected.flat[run], actual.flat[run])
        for name, value in expected.export(run).items():
            assert (value == actual.export(run)[name]).all(), name


def test_the_same_training_twice_gives_the_same_bits() -> None:
    data = FakeData(num_train=22, dtype=torch.float32)
    configs = [make_config(seed, {}, model={"dropout": 0.3}) for seed in range(2)]
    first, second = train(configs, 4, data), train(configs, 4, data)
    assert torch.equal(first[0].flat, second[0].flat)
    assert torch.equal(first[1], second[1])


def test_losses_are_means_of_each_run_not_of_the_cohort() -> None:
    logits = torch.randn(5, 3, 4, dtype=torch.float64)
    labels = torch.randint(4, (3, 5))
    losses = image_losses(logits, labels)
    for r in range(3):
        expected = torch.nn.functional.cross_entropy(logits[:, r], labels[r], reduction="none")
        torch.testing.assert_close(losses[r], expected)
