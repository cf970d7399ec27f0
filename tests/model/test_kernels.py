"""Compiled kernels against torch's operations, and against themselves in other company."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bnexp.config.schema import ConfigError
from bnexp.model.kernels import pooling
from bnexp.model.kernels.normalising import batch_norm
from bnexp.model.kernels.pooling import Registers, conv_pool, pool_relu, registers, rows, tile

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or registers() is None, reason="there are no kernels for this CPU"
)

AVX2 = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+avx,+fma,+sse4.2,+bmi2"}
Shape = tuple[int, int, int]  # channels in, side of the kernel, width of the image
FIRST, SECOND, THREE = (1, 5, 20), (6, 5, 9), (3, 3, 12)  # few: each shape and number format is compiled


def arguments(N: int, G: int, runs: int, O: int, shape: Shape, H: int, dtype: torch.dtype) -> list[Tensor]:
    """Images, weight and bias of ``runs`` runs in each of G groups."""
    I, k, W = shape
    g = torch.Generator().manual_seed(0)
    shapes = [(N, G * I, H, W), (G * runs, O, I, k, k), (G * runs, O)]
    return [torch.randn(shape, generator=g, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


def gradient(y: Tensor) -> Tensor:
    """Half of it zero, as behind ReLU."""
    g = torch.Generator().manual_seed(1)
    dy = torch.randn(y.shape, generator=g, dtype=torch.float64) * (torch.rand(y.shape, generator=g) < 0.5)
    return dy.to(y.dtype)


def by_torch(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    groups = x.shape[1] // weight.shape[2]
    return F.max_pool2d(F.conv2d(x, weight.flatten(0, 1), bias.flatten(), groups=groups), 2).relu()


def assert_close(found: Tensor, expected: Tensor, error: float) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= error * expected.abs().max()


@given(
    case=st.sampled_from(
        [
            (FIRST, torch.float32, [1, 6, 8]),
            (SECOND, torch.float32, [9, 16, 17]),
            (SECOND, torch.float64, [9, 16, 17]),
            (THREE, torch.float64, [1, 6, 8]),
        ]
    ),
    N=st.integers(1, 5),
    G=st.integers(1, 3),
    runs=st.integers(1, 2),
    out_channels=st.integers(0, 2),
    more=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_values_and_gradients_are_torchs(
    case: tuple[Shape, torch.dtype, list[int]], N: int, G: int, runs: int, out_channels: int, more: int
) -> None:
    shape, dtype, choices = case
    values = arguments(N, G, runs, choices[out_channels], shape, shape[1] + 1 + more, dtype)
    exact = [value.detach().double().requires_grad_() for value in values]
    if shape is FIRST:  # images need no gradient
        values[0].requires_grad_(False)
    wanted = slice(shape is FIRST, None)
    y, expected = conv_pool(*values), by_torch(*exact)
    dy = gradient(y)
    found = torch.autograd.grad(y, values[wanted], dy)
    error = 1e-12 if dtype is torch.float64 else 1e-6
    assert_close(y, expected, error)
    for value, right in zip(found, torch.autograd.grad(expected, exact[wanted], dy.double()), strict=True):
        assert value.dtype is dtype
        assert_close(value, right, error)


@given(st.lists(st.sampled_from([-1.0, -0.0, 0.0, 1.0, 2.0, 3e38, -3e38, math.nan]), min_size=32, max_size=32))
@settings(max_examples=60, deadline=None)
def test_ties_nan_and_infinity_are_pooled_as_by_torch(values: list[float]) -> None:
    """A kernel with a single tap copies a channel, twice as large: 3e38 becomes infinite. All other outputs tie."""
    weight, bias = torch.zeros(1, 16, 6, 5, 5), torch.zeros(1, 16)
    weight[0, 0, 0, 0, 0] = 2.0
    images = F.pad(torch.tensor(values).view(1, 1, 8, 4), (0, 5, 0, 4, 0, 5))
    for image in (images.nan_to_num(), images):  # a NaN spreads to all outputs that see it
        x, z = image.clone().requires_grad_(), image.clone().requires_grad_()
        y, expected = conv_pool(x, weight, bias), by_torch(z, weight, bias)
        torch.testing.assert_close(y, expected, rtol=0, atol=0, equal_nan=True)
        dy = torch.arange(1.0, y.numel() + 1).view(y.shape)
        assert torch.equal(*(torch.autograd.grad(out, source, dy)[0] for out, source in ((y, x), (expected, z))))


def test_a_gradient_that_is_not_finite_stays_in_its_patch() -> None:
    x, weight, bias = arguments(2, 1, 1, 16, SECOND, 8, torch.float32)
    y, expected = conv_pool(x, weight, bias), by_torch(x, weight, bias)
    dy = gradient(y)
    dy[0, 2, 1, 0], dy[1, 3, 0, 1] = math.inf, math.nan
    (found,), (right,) = (torch.autograd.grad(out, x, dy) for out in (y, expected))
    assert torch.equal(found.isfinite(), right.isfinite())
    assert 0 < found.isfinite().sum() < found.numel()


def test_denormal_numbers_are_flushed_as_torch_does() -> None:
    x, weight, bias = arguments(2, 1, 1, 16, SECOND, 8, torch.float32)
    torch.set_flush_denormal(True)
    try:
        tiny = 1e-39 * x
        y = conv_pool(tiny, weight, 0 * bias)
        assert torch.equal(y, by_torch(tiny, weight, 0 * bias))
        assert not y.any()
        y = conv_pool(x, weight, bias)
        for found in torch.autograd.grad(y, [x, weight, bias], torch.full_like(y, 1e-39)):
            assert not found.any()
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_run_has_the_same_bits_alone_and_in_a_cohort(dtype: torch.dtype) -> None:
    I = 6
    x, weight, bias = arguments(4, 2, 2, 16, SECOND, 8, dtype)
    y = conv_pool(x, weight, bias)
    dy = gradient(y)
    together = torch.autograd.grad(y, [x, weight, bias], dy)
    d_images = 0.0
    for run in range(4):
        own = [x[:, run // 2 * I : run // 2 * I + I], weight[run : run + 1], bias[run : run + 1]]
        alone = conv_pool(*own)
        assert torch.equal(alone, y[:, 16 * run : 16 * run + 16])
        d_x, *d_parameters = torch.autograd.grad(alone, own, dy[:, 16 * run : 16 * run + 16])
        for found, value in zip(d_parameters, together[1:], strict=True):
            assert torch.equal(found[0], value[run])
        d_images += F.pad(d_x, (0, 0, 0, 0, run // 2 * I, I - run // 2 * I))
    assert_close(d_images, together[0], 1e-6)


def test_an_image_has_the_same_bits_at_each_place_of_its_batch() -> None:
    x, weight, bias = arguments(5, 1, 1, 16, SECOND, 8, torch.float32)
    y = conv_pool(x, weight, bias)
    dy = gradient(y)
    (dx,) = torch.autograd.grad(y, x, dy)
    for shift in range(1, 5):
        moved = conv_pool(x.roll(shift, 0), weight, bias)
        assert torch.equal(moved, y.roll(shift, 0))
        assert torch.equal(torch.autograd.grad(moved, x, dy.roll(shift, 0))[0], dx)


def test_any_layout_of_images_and_weights_is_convolved_and_pooled() -> None:
    x, weight, bias = arguments(2, 1, 1, 16, SECOND, 8, torch.float32)
    turned = weight.transpose(3, 4).contiguous().transpose(3, 4)
    for by, others in ((conv_pool, (weight, bias)), (pool_relu, ())):
        y = by(x, *others)
        z = by(x.contiguous(memory_format=torch.channels_last), *(turned, bias)[: len(others)])
        assert torch.equal(z, y)
        dy, wanted = gradient(y), (x, *others)
        found = torch.autograd.grad(z, wanted, dy.contiguous(memory_format=torch.channels_last))
        assert all(map(torch.equal, found, torch.autograd.grad(y, wanted, dy)))


def some_bits() -> bytes:
    """The outputs and gradients of both number formats, which another CPU has to reproduce."""
    found = []
    for dtype in (torch.float32, torch.float64):
        values = arguments(3, 1, 1, 16, SECOND, 9, dtype)
        y = conv_pool(*values)
        found += [y, *torch.autograd.grad(y, values, gradient(y))]
        images, weight, bias = norm_arguments(dtype)
        y, *statistics = batch_norm(images, weight, bias, torch.full_like(bias, 1e-3))
        found += [y, *statistics, *torch.autograd.grad(y, (images, weight, bias), gradient(y))]
    return b"".join(value.detach().numpy().tobytes() for value in found)


def test_shorter_vectors_give_the_same_bits() -> None:
    code = (
        "import sys; import test_kernels as t; "
        "assert t.registers() == t.Registers(12, 32), t.registers(); sys.stdout.buffer.write(t.some_bits())"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | AVX2 | {"PYTHONPATH": paths}, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout == some_bits()


def norm_arguments(dtype: torch.dtype, shape: tuple[int, ...] = (5, 6, 9, 21)) -> list[Tensor]:
    """Images of 2 runs with means far from 0, weight and bias."""
    g = torch.Generator().manual_seed(0)
    channels = (2, math.prod(shape[1:3]) // 2) if len(shape) == 3 else (2, shape[1] // 2)
    values = [100 + torch.randn(shape, generator=g, dtype=torch.float64), *torch.randn(2, *channels, generator=g)]
    return [value.to(dtype).requires_grad_() for value in values]


@pytest.mark.parametrize("shape", [(5, 6, 9, 21), (3, 4, 35, 33), (7, 2, 40)])  # maps and features, short rows and long
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_a_batch_is_normalised_as_by_torch(dtype: torch.dtype, error: float, shape: tuple[int, ...]) -> None:
    values = norm_arguments(dtype, shape)
    values[0] = (values[0] - 99).detach().requires_grad_()
    exact = [value.detach().double().requires_grad_() for value in values]
    eps = torch.tensor([[1e-5], [1e-1]], dtype=dtype).expand_as(values[1])
    y, mean, var = batch_norm(*values, eps)
    dy = gradient(y)
    found = torch.autograd.grad(y, values, dy)
    for r, part in enumerate(exact[0].view(len(y), 2, -1, math.prod(shape[2:]) if len(shape) == 4 else 1).unbind(1)):
        running = torch.zeros_like(exact[1][r]), torch.zeros_like(exact[1][r])
        expected = F.batch_norm(part, *running, exact[1][r], exact[2][r], True, 1.0, float(eps[r, 0]))
        m = part[:, 0].numel()
        assert_close(y.view(len(y), 2, -1)[:, r], expected.flatten(1), error)
        assert_close(mean[r], running[0], error)
        assert_close(var[r], running[1] * (m - 1) / m, error)
        right = torch.autograd.grad(expected, exact, dy.view(len(y), 2, -1)[:, r].view_as(expected).double())
        assert_close(found[0].view(len(y), 2, -1)[:, r], right[0].view(len(y), 2, -1)[:, r], error)
        for parameter in (1, 2):
            assert_close(found[parameter][r], right[parameter][r], error)


def test_sums_of_a_large_batch_are_rounded_once() -> None:
    """In float32, sums of so many numbers of one sign would lose their last digits."""
    g = torch.Generator().manual_seed(0)
    x, dy = (torch.rand(3000, 2, 3, generator=g) for _ in range(2))
    weight, bias = (torch.ones(2, 3, requires_grad=True) for _ in range(2))
    y, mean, var = batch_norm(x, weight, bias, torch.full((2, 3), 1e-3))
    d_weight, d_bias = torch.autograd.grad(y, (weight, bias), dy)
    torch.testing.assert_close(mean, x.double().mean(0).float(), rtol=1e-7, atol=0)
    torch.testing.assert_close(var, x.double().var(0, correction=0).float(), rtol=1e-7, atol=0)
    torch.testing.assert_close(d_bias, dy.double().sum(0).float(), rtol=1e-7, atol=0)
    centred = (x - mean).double() / (var.double() + 1e-3).sqrt()
    assert_close(d_weight, (dy.double() * centred).sum(0), 2e-7)


def test_any_layout_of_images_is_normalised() -> None:
    values = norm_arguments(torch.float64)
    eps = torch.full_like(values[2], 1e-3)
    y, mean, var = batch_norm(*values, eps)
    z, *_ = batch_norm(values[0].contiguous(memory_format=torch.channels_last), *values[1:], eps)
    assert torch.equal(z, y)
    dy = gradient(y)
    (dx,), (dz,) = (torch.autograd.grad(out, values[0], dy) for out in (y, z))
    assert torch.equal(dz, dx)
    assert not mean.requires_grad  # they are no way to a gradient that would be left out
    assert not var.requires_grad


def test_without_weight_and_bias_a_batch_is_normalised_as_with_ones_and_zeros() -> None:
    images, weight, bias = norm_arguments(torch.float32)
    eps = torch.full_like(bias, 1e-3)
    with torch.no_grad():
        weight.fill_(1.0), bias.zero_()
    (y, *statistics), (z, *others) = batch_norm(images, weight, bias, eps), batch_norm(images, None, None, eps)
    assert all(map(torch.equal, (z, *others), (y, *statistics)))
    (dx,), (dz,) = (torch.autograd.grad(out, images, gradient(y)) for out in (y, z))
    assert torch.equal(dz, dx)


def test_a_batch_without_images_is_one_afterwards() -> None:
    x, weight, bias = arguments(0, 1, 1, 16, SECOND, 8, torch.float32)
    norm, *parameters = norm_arguments(torch.float32, (0, 6, 9, 21))
    for y, images, sides in (
        (conv_pool(x, weight, bias), x, (16, 2, 2)),
        (pool_relu(x), x, (6, 4, 4)),
        (batch_norm(norm, *parameters, torch.full_like(parameters[0], 1e-3))[0], norm, (6, 9, 21)),
    ):
        assert y.shape == (0, *sides)
        (gradients,) = torch.autograd.grad(y, images, y.detach())
        assert gradients.shape == images.shape


def test_a_channel_that_is_not_finite_leaves_the_others() -> None:
    images, weight, bias = norm_arguments(torch.float32)
    eps = torch.full_like(bias, 1e-3)
    y, _, _ = batch_norm(images, weight, bias, eps)
    (dx,) = torch.autograd.grad(y, images, gradient(y))
    broken = images.detach().clone()
    broken[0, 1, 3, 3], broken[2, 4, 0, 0] = math.nan, math.inf
    z, _, _ = batch_norm(broken.requires_grad_(), weight, bias, eps)
    (dz,) = torch.autograd.grad(z, broken, gradient(z))
    for found, right in ((z, y), (dz, dx)):
        assert found[:, [1, 4]].isnan().all()
        assert torch.equal(found[:, [0, 2, 3, 5]], right[:, [0, 2, 3, 5]])


@given(
    st.sampled_from([(2, 2), (2, 6), (6, 2), (5, 7), (40, 38)]),
    st.lists(st.sampled_from([-1.0, -0.0, 0.0, 1.0, 2.0, math.inf, -math.inf, math.nan]), min_size=64, max_size=64),
    st.sampled_from([torch.float32, torch.float64]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_pooling_and_relu_are_torchs(sides: tuple[int, int], values: list[float], dtype: torch.dtype, apart: bool) -> None:
    g = torch.Generator().manual_seed(0)
    chosen = torch.randint(64, (2, 3, *sides), generator=g)
    x, z = (torch.tensor(values, dtype=dtype)[chosen].requires_grad_() for _ in range(2))
    columns = torch.stack([x[..., ::2], x[..., 1::2]], 2) if apart and sides[1] % 2 == 0 else x
    y, expected = pool_relu(columns), F.max_pool2d(z, 2).relu()
    torch.testing.assert_close(y, expected, rtol=0, atol=0, equal_nan=True)
    dy = torch.arange(1.0, y.numel() + 1, dtype=dtype).view(y.shape)
    dy.view(-1)[::3] = math.nan
    found, right = (torch.autograd.grad(out, source, dy)[0] for out, source in ((y, x), (expected, z)))
    torch.testing.assert_close(found, right, rtol=0, atol=0, equal_nan=True)


def test_a_second_derivative_is_refused() -> None:
    x, weight, bias = arguments(1, 1, 1, 16, SECOND, 9, torch.float32)
    (first,) = torch.autograd.grad(conv_pool(x, weight, bias).square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first.sum().backward()


@pytest.mark.parametrize("images", [(1, 9, 9, 9), (1, 12, 9, 9), (1, 6, 5, 9), (1, 6, 9, 5)])
def test_images_that_do_not_fit_are_refused(images: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="do not fit the weight"):
        conv_pool(torch.zeros(images), torch.zeros(3, 16, 6, 5, 5), None)


def test_a_machine_without_numba_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bnexp.model.kernels.compiling", None)
    registers.cache_clear()
    try:
        with pytest.raises(ConfigError, match=r"numba, .* cannot be imported here .*: use train\.kernels=torch, or install"):
            pooling.fits(torch.zeros(1), torch.zeros(1))
    finally:
        registers.cache_clear()


@pytest.mark.parametrize(("features", "found"), [({"+avx2"}, None), ({"+fma"}, None), ({"+avx2", "+fma"}, Registers(12, 32))])
def test_a_cpu_without_multiply_add_has_no_kernels(
    features: set[str], found: Registers | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnexp.model.kernels.compiling.features", lambda: features)
    registers.cache_clear()
    try:
        assert registers() == found
        assert pooling.fits(torch.zeros(1), torch.zeros(1)) == (found is not None)
    finally:
        registers.cache_clear()


def test_only_equal_number_formats_without_autocast_fit() -> None:
    x = torch.zeros(1)
    assert pooling.fits(x, x)
    assert not pooling.fits(x.to("meta"), x)
    assert not pooling.fits(x, x.double())
    assert not pooling.fits(x.half(), x.half())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not pooling.fits(x, x)


@pytest.mark.parametrize("there", [Registers(28, 64), Registers(12, 32)])
@pytest.mark.parametrize("itemsize", [4, 8])
def test_a_tile_fits_into_the_registers_and_covers_all(there: Registers, itemsize: int) -> None:
    for O in (1, 6, 8, 9, 16, 120):
        for width in range(1, 40):
            channels, windows = tile(O, width, itemsize, there)
            assert channels in (8, 16)
            assert 1 <= windows <= width
            assert windows == 1 or 2 * windows * there.of(2 * channels, itemsize) <= there.sums
    for I in (1, 3, 6, 64):
        for k in (1, 3, 5):
            lanes, vectors, together = rows(I, k, itemsize, there)
            assert vectors * lanes >= I * k
            assert vectors % together == 0
            assert together == 1 or together * k * there.of(lanes, itemsize) <= there.sums


def test_kernels_work_where_their_cache_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from bnexp.model.kernels.compiling import compiled

    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])
    monkeypatch.setattr(compiled, "kept", True)
    monkeypatch.setattr(compiled, "said", False)
    total = torch.zeros(1)

    def kernel(value: float, out: object) -> None:
        out[0] = value  # type: ignore[index]

    kernel.__module__ = "bnexp.somewhere"
    for function in (compiled(kernel), compiled(kernel)):  # both are compiled, and that is said once
        for value in (2.0, 3.0):
            function(value, total.numpy())
            assert total.item() == value
    assert [record.message for record in caplog.records] == [
        "Compiling kernels for this CPU, at every start, because numba's cache cannot be used (NUMBA_CACHE_DIR): about 8 s."
    ]
    kernel.__module__ = "elsewhere"
    monkeypatch.setattr(compiled, "said", False)
    compiled(kernel)(2.0, total.numpy())
    assert len(caplog.records) == 1
