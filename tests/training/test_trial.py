"""The trial of convolution strategies, on a fake GPU whose clock the strategies move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fake_cuda import FakeCuda
from fake_data import make_config
from torch import Tensor

from bnexp.config.options import ModelName, Precision
from bnexp.model.network import Network
from bnexp.model.networks import build_network
from bnexp.training import trial
from bnexp.training.trial import choose_convolutions

# Milliseconds that each strategy takes at the first convolution, forward, backward to its input and to its weight.
FIRST = {"grouped": (4.0, 4.0, 4.0), "im2col": (3.0, 5.0, 4.0), "channels_last": (5.0, 3.0, 3.9)}


@pytest.fixture(autouse=True)
def _nothing_chosen_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_chosen", {})


@pytest.fixture
def tried(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, ...]]:
    """The tensors that strategies are given, call by call; the second convolution takes 1 ms everywhere, but 0.1 by im2col."""
    calls: list[tuple[Tensor, ...]] = []

    def timed(name: str, direction: int, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*given: Any) -> Tensor:
            tensors = tuple(value for value in given if isinstance(value, Tensor))
            calls.append(tensors)
            is_first = tensors[-1].shape[1] == 1
            cuda.work((FIRST[name][direction] if is_first else 0.1 if name == "im2col" else 1.0) / 1000)
            return function(*given)

        return call

    for direction, functions in enumerate((trial.FORWARD, trial.INPUT_GRADIENT, trial.WEIGHT_GRADIENT)):
        for name, function in functions.items():
            monkeypatch.setitem(functions, name, timed(name, direction, function))
    return calls


def network(num_runs: int = 2) -> Network:
    return build_network([make_config(seed, {}) for seed in range(num_runs)], 1, 20, 4, dtype=torch.float64)


IMAGES = torch.randn(12, 2, 20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
CHOSEN = "conv1 im2col/channels_last/grouped, conv2 im2col/im2col/im2col"


@pytest.mark.parametrize("training", [True, False])
def test_each_layer_gets_the_fastest_of_each_direction(tried: list[tuple[Tensor, ...]], training: bool) -> None:
    net = network().train(training)
    before = [tensor.clone() for tensor in (net.flat, *net.buffers())]
    assert choose_convolutions(net, IMAGES, Precision.fp64) == CHOSEN
    assert f"conv1 {net.conv1.strategy}, conv2 {net.conv2.strategy}" == CHOSEN
    assert net.training is training
    assert all(layer.training is training for layer in net.children())
    assert all(torch.equal(a, b) for a, b in zip(before, (net.flat, *net.buffers()), strict=True))


def test_the_convolutions_of_residual_branches_are_tried_at_their_strides(tried: list[tuple[Tensor, ...]]) -> None:
    config = make_config(0, model={"name": ModelName.resnet, "depth": 8, "width": 2})
    net = build_network([config], 1, 20, 4, dtype=torch.float64)
    chosen = choose_convolutions(net, IMAGES[:, :1], Precision.fp64)
    assert [words.split()[0] for words in chosen.split(", ")] == [f"conv{i}" for i in range(1, 8)]
    gradients = [call[0].shape[1:] for call in tried if len(call) == 3]
    assert set(gradients) == {(2, 20, 20), (4, 10, 10), (8, 5, 5)}


def test_what_is_tried_is_what_the_layer_will_be_given(tried: list[tuple[Tensor, ...]]) -> None:
    net = network().eval()
    choose_convolutions(net, IMAGES, Precision.fp64)
    x = IMAGES
    with torch.no_grad():
        for name, layer in net.named_children():
            if name.startswith("conv"):
                weight = layer.weight.flatten(0, 1)
                calls = [call for call in tried if torch.equal(call[-1], weight) and torch.equal(call[-2], x)]
                gradients = [call[0].shape for call in calls if len(call) == 3]
                assert len(calls) == 3 * 3 * (2 + trial.REPEATS) + 1  # the first one makes what the gradients come from
                assert set(gradients) == {(12, len(weight), *(side - 4 for side in x.shape[2:]))}
            x = layer(x)


def test_layers_of_the_same_shapes_are_tried_once_in_a_process(tried: list[tuple[Tensor, ...]]) -> None:
    choose_convolutions(network(), IMAGES, Precision.fp64)
    count = len(tried)
    other = network()
    assert choose_convolutions(other, IMAGES, Precision.fp64) == CHOSEN
    assert str(other.conv2.strategy) == "im2col/im2col/im2col"
    assert len(tried) == count
    choose_convolutions(network(), IMAGES[:8], Precision.fp64)
    assert len(tried) == 2 * count


def test_a_network_without_convolutions_says_so(tried: list[tuple[Tensor, ...]]) -> None:
    net = build_network([make_config(0, {}, model={"name": ModelName.mlp})], 1, 20, 4, dtype=torch.float64)
    assert choose_convolutions(net, IMAGES[:, :1], Precision.fp64) == "no convolutions"
    assert tried == []


def test_under_bf16_nothing_is_tried(tried: list[tuple[Tensor, ...]]) -> None:
    net = network()
    assert choose_convolutions(net, IMAGES, Precision.bf16) == "convolutions grouped"
    assert net.conv1.strategy is None
    assert tried == []


def test_each_repeat_is_timed_after_two_calls_that_are_not(cuda: FakeCuda) -> None:
    times = iter([9.0, 9.0, 0.1, 0.2, 0.3, 0.4, 0.5])

    def function() -> Tensor:
        cuda.work(next(times))
        return IMAGES

    assert trial._seconds(function) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert next(times, None) is None
