"""Layers with a run axis against torch's own, run by run."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bnexp.config.options import Activation
from bnexp.model.layers import MaxPool2x2, Nonlinearity, RunAveragePool, RunConv2d, RunDropout, RunFlatten, RunLinear

REAL = torch.float64


def fill(layer: nn.Module) -> None:
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_()


@pytest.mark.parametrize("num_runs", [1, 3])
@pytest.mark.parametrize(("bias", "padding"), [(True, 0), (False, 0), (True, 1), (False, 2)])
def test_convolution_of_each_run_is_torchs(num_runs: int, bias: bool, padding: int) -> None:
    layer = RunConv2d(num_runs, 2, 4, 3, bias, padding, dtype=REAL)
    fill(layer)
    x = torch.randn(5, num_runs * 2, 8, 8, dtype=REAL)
    y = layer(x)
    assert y.shape == (5, num_runs * 4, 6 + 2 * padding, 6 + 2 * padding)
    for r in range(num_runs):
        own = x[:, 2 * r : 2 * r + 2]
        expected = nn.functional.conv2d(own, layer.weight[r], layer.bias[r] if bias else None, padding=padding)
        torch.testing.assert_close(y[:, 4 * r : 4 * r + 4], expected)


def merged(x: torch.Tensor) -> torch.Tensor:
    """Even and odd columns side by side again: (N, C, 2, H, W/2) -> (N, C, H, W)."""
    return x.movedim(2, -1).flatten(3)


@pytest.mark.parametrize("num_runs", [1, 3])
@pytest.mark.parametrize(("bias", "padding"), [(True, 0), (False, 2)])
def test_columns_that_come_apart_are_those_of_the_ordinary_convolution(num_runs: int, bias: bool, padding: int) -> None:
    layer = RunConv2d(num_runs, 2, 4, 3, bias, padding, dtype=REAL)
    fill(layer)
    x = torch.randn(5, num_runs * 2, 8, 8, dtype=REAL, requires_grad=True)
    y = layer(x)
    dy = torch.randn_like(y)
    expected = torch.autograd.grad(y, [x, *layer.parameters()], dy)
    layer.split_columns = True
    apart = layer(x)
    assert apart.shape == (5, num_runs * 4, 2, 6 + 2 * padding, 3 + padding)
    torch.testing.assert_close(merged(apart), y)
    torch.testing.assert_close(torch.autograd.grad(merged(apart), [x, *layer.parameters()], dy), expected)


def test_a_batch_shared_by_all_runs_gives_what_repeating_it_gives() -> None:
    layer = RunConv2d(3, 2, 4, 3, dtype=REAL)
    fill(layer)
    x = torch.randn(5, 2, 8, 8, dtype=REAL)
    torch.testing.assert_close(layer(x), layer(x.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("num_runs", [1, 3])
def test_linear_of_each_run_is_torchs(num_runs: int) -> None:
    layer = RunLinear(num_runs, 6, 4, dtype=REAL)
    fill(layer)
    x = torch.randn(5, num_runs, 6, dtype=REAL)
    y = layer(x)
    assert y.shape == (5, num_runs, 4)
    for r in range(num_runs):
        torch.testing.assert_close(y[:, r], nn.functional.linear(x[:, r], layer.weight[r], layer.bias[r]))


def test_features_shared_by_all_runs_give_what_repeating_them_gives() -> None:
    layer = RunLinear(3, 6, 4, dtype=REAL)
    fill(layer)
    x = torch.randn(5, 1, 6, dtype=REAL)
    torch.testing.assert_close(layer(x), layer(x.repeat(1, 3, 1)))


def test_flatten_keeps_the_channels_of_a_run_together() -> None:
    x = torch.randn(2, 6, 3, 3)
    assert torch.equal(RunFlatten(18)(x)[:, 1], x[:, 2:4].flatten(1))


def test_average_pooling_is_the_mean_of_each_map() -> None:
    x = torch.randn(2, 6, 3, 4, dtype=REAL)
    y = RunAveragePool(2)(x)
    assert y.shape == (2, 3, 2)
    torch.testing.assert_close(y[:, 1], nn.functional.adaptive_avg_pool2d(x[:, 2:4], 1).flatten(1))


@given(
    values=st.lists(st.sampled_from([-1.0, -0.0, 0.0, 1.0, 2.0, float("inf")]), min_size=24, max_size=24),
    shape=st.sampled_from([(1, 1, 4, 6), (1, 6, 2, 2), (2, 1, 3, 4), (1, 2, 2, 6)]),
)
@settings(max_examples=60, deadline=None)
def test_max_pooling_is_bit_equal_to_torchs_also_where_values_tie(values: list[float], shape: tuple[int, ...]) -> None:
    x, z = (torch.tensor(values).view(shape).requires_grad_() for _ in range(2))
    y, expected = MaxPool2x2()(x), nn.functional.max_pool2d(z, 2)
    assert torch.equal(y, expected)
    dy = torch.arange(1.0, y.numel() + 1).view(y.shape)
    y.backward(dy)
    expected.backward(dy)
    assert torch.equal(x.grad, z.grad)


def test_max_pooling_of_columns_that_come_apart_is_bit_equal_to_that_of_the_map() -> None:
    columns = torch.randint(-2, 3, (4, 3, 2, 6, 5)).float()  # many ties
    x, z = columns.clone().requires_grad_(), merged(columns).requires_grad_()
    y, expected = MaxPool2x2()(x), nn.functional.max_pool2d(z, 2)
    assert torch.equal(y, expected)
    dy = torch.randn_like(y)
    y.backward(dy)
    expected.backward(dy)
    assert torch.equal(merged(x.grad), z.grad)


def test_max_pooling_passes_nan_on_and_gradcheck_holds() -> None:
    x = torch.randn(2, 3, 4, 4, dtype=REAL)
    assert torch.autograd.gradcheck(MaxPool2x2(), x.clone().requires_grad_())
    x[0, 0, 1, 1] = float("nan")
    assert MaxPool2x2()(x).isnan().sum() == 1


def test_pooling_before_relu_is_relu_before_pooling_bit_for_bit() -> None:
    values = torch.randint(-2, 3, (4, 3, 6, 6)).float()  # many ties
    x, z = values.clone().requires_grad_(), values.clone().requires_grad_()
    y, expected = MaxPool2x2()(x).relu(), nn.functional.max_pool2d(z.relu(), 2)
    assert torch.equal(y, expected)
    dy = torch.randn_like(y)
    y.backward(dy)
    expected.backward(dy)
    assert torch.equal(x.grad, z.grad)


@pytest.mark.parametrize("name", list(Activation))
def test_every_activation_of_the_schema_exists(name: Activation) -> None:
    assert Nonlinearity(name)(torch.zeros(2, 3)).shape == (2, 3)


class TestDropout:
    x = torch.ones(50, 2, 200)

    def test_scale_keeps_the_mean_and_the_rate_is_p(self) -> None:
        y = RunDropout([0.5, 0.2], [1, 2])(self.x)
        for r, p in enumerate((0.5, 0.2)):
            kept = y[:, r] != 0
            assert abs(kept.double().mean() - (1 - p)) < 4 * (p * (1 - p) / 10_000) ** 0.5
            assert torch.equal(y[:, r][kept], torch.full_like(y[:, r][kept], 1 / (1 - p)))

    def test_off_in_evaluation(self) -> None:
        assert RunDropout([0.5, 0.2], [1, 2]).eval()(self.x) is self.x

    def test_none_dropped_at_p_zero(self) -> None:
        assert torch.equal(RunDropout([0.0, 0.9], [1, 2])(self.x)[:, 0], self.x[:, 0])

    def test_a_run_is_the_same_alone_and_in_a_cohort_and_each_step_differs(self) -> None:
        cohort, alone = RunDropout([0.5, 0.3], [1, 2]), RunDropout([0.3], [2])
        steps = [(cohort(self.x)[:, 1], alone(self.x[:, :1])[:, 0]) for _ in range(3)]
        for together, single in steps:
            assert torch.equal(together, single)
        assert not torch.equal(steps[0][0], steps[1][0])

    def test_runs_share_masks_exactly_where_they_share_a_key(self) -> None:
        y = RunDropout([0.5, 0.5, 0.5], [7, 7, 8])(torch.ones(50, 3, 200))
        assert torch.equal(y[:, 0], y[:, 1])
        agreement = ((y[:, 0] != 0) == (y[:, 2] != 0)).double().mean()
        assert abs(agreement - 0.5) < 0.03

    def test_units_steps_and_images_are_uncorrelated(self) -> None:
        layer = RunDropout([0.5], [3])
        kept = torch.stack([layer(self.x[:, :1])[:, 0] for _ in range(20)]) - 1.0  # +-1: steps, images, units
        for axis in range(3):
            a, b = kept.narrow(axis, 0, kept.shape[axis] - 1), kept.narrow(axis, 1, kept.shape[axis] - 1)
            assert abs((a * b).mean()) < 5 / a.numel() ** 0.5
