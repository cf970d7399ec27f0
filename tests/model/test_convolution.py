"""The strategies of a convolution are one function: values and gradients of ``F.conv2d``, in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from bnexp.model.convolution import FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, Strategy, convolve, fastest
from bnexp.model.layers import RunConv2d

STRATEGIES = [Strategy(*names) for names in itertools.product(FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT)]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize(("groups", "padding", "stride"), [(1, 0, 1), (3, 0, 1), (6, 1, 1), (1, 1, 2), (3, 0, 2)])
def test_every_strategy_equals_conv2d(strategy: Strategy, groups: int, padding: int, stride: int) -> None:
    torch.manual_seed(0)
    real = {"dtype": torch.float64}
    x = torch.randn(4, groups * 2, 7, 6, **real, requires_grad=True)
    weight, bias = (torch.randn(shape, **real, requires_grad=True) for shape in ((12, 2, 3, 3), (12,)))
    expected = F.conv2d(x, weight, bias, stride, padding, groups=groups)
    found = convolve(x, weight, bias, padding, groups, strategy, stride)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    dy = torch.randn_like(expected)
    inputs = (x, weight, bias)
    for a, b in zip(torch.autograd.grad(found, inputs, dy), torch.autograd.grad(expected, inputs, dy), strict=True):
        assert a.is_contiguous()
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FORWARD)
def test_evaluation_gathers_no_patches_which_could_fill_the_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[bool] = []
    chosen = FORWARD[name]
    monkeypatch.setitem(FORWARD, name, lambda *given: [used.append(torch.is_grad_enabled()), chosen(*given)][1])
    x, weight = torch.randn(2, 1, 6, 6), torch.randn(4, 1, 3, 3)
    expected = F.conv2d(x, weight)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(convolve(x, weight, None, 0, 1, Strategy(name)), expected)
    assert len(used) == (1 if name == "im2col" else 2)


def test_images_without_a_gradient_need_none() -> None:
    weight = torch.randn(4, 1, 3, 3, requires_grad=True)
    convolve(torch.randn(2, 1, 6, 6), weight, None, 0, 1, Strategy("im2col", "im2col", "im2col")).sum().backward()
    assert weight.grad is not None


def test_a_batch_for_each_block_of_runs_equals_a_batch_for_each_run() -> None:
    layer = RunConv2d(6, 2, 3, 3, dtype=torch.float64)
    torch.manual_seed(0)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    blocks = torch.randn(5, 2 * 2, 8, 8, dtype=torch.float64)  # two batches, each for three neighbouring runs
    every = blocks.unflatten(1, (2, 2)).repeat_interleave(3, 1).flatten(1, 2)
    torch.testing.assert_close(layer(blocks), layer(every), rtol=0, atol=1e-12)


def test_the_default_gives_way_only_to_what_is_clearly_faster() -> None:
    assert fastest({"grouped": [1.0, 9.0, 1.0], "im2col": [0.97], "channels_last": [2.0]}) == "grouped"
    assert fastest({"grouped": [1.0, 1.0, 1.0], "im2col": [0.5, 9.0, 0.5], "channels_last": [0.8]}) == "im2col"
