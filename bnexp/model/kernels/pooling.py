"""Convolution and 2x2 max pooling as one operation of torch, computed by compiled kernels.

Shape letters: R runs, G groups of neighbouring runs that share images, N batch, I and O channels in and out, H and W sides of the
input, k side of the kernel, HP and WP sides of the pooled output.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from bnexp.config.schema import ConfigError

Floats = NDArray[Any]  # float32 or float64
DTYPES = (torch.float32, torch.float64)


def conv_pool(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Largest value of each 2x2 window, stride 2, of a convolution without padding, stride 1.

    ``y[n,r,o,p,q] = max over c, d in {0, 1} of bias[r,o] + sum_i,a,b weight[r,o,i,a,b] * x[n,r,i,2p+c+a,2q+d+b]``

    An odd last row or column of the convolution is dropped. If values tie, the gradient goes to the first of them in row order;
    if some are NaN, to the last NaN: all as in ``torch.nn.MaxPool2d``. The convolution itself is never in memory.

    Every sum has one order, see ``compiled.py``. So a run has the same bits alone, in a cohort, and on CPUs with longer or
    shorter vectors; and an image has the same output and the same gradient wherever it stands in its batch. Gradients of zero
    are skipped, so zero times an infinite input adds 0, not NaN. There is no gradient of the gradient: asking for it raises
    RuntimeError.

    Shapes: ``(N, G*I, H, W) -> (N, R*O, HP, WP)`` with HP = (H-k+1)//2, and WP alike. R is a multiple of G.

    Args:
        x: images on a CPU; G blocks of R/G neighbouring runs have a batch each.
        weight: (R, O, I, k, k), of the same dtype, float32 or float64.
        bias: (R, O); None: none.

    Reference for taking only the winners of a window into the backward pass: LeCun et al., "Gradient-based learning applied to
    document recognition", 1998, trains such layers; the sparse gradient is that of the maximum.
    """
    y: Tensor = _ConvPool.apply(x, weight, bias)
    return y


class _ConvPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        from bnexp.model.kernels.compiled import forward_kernel

        x = x.contiguous()
        R, O, I, k, _ = weight.shape  # noqa: E741  # as in the legend
        N, GI, H, W = x.shape
        y = x.new_empty(N, R, O, (H - k + 1) // 2, (W - k + 1) // 2)
        winners = torch.empty_like(y, dtype=torch.uint8)
        lanes, columns = tile(O, y.shape[-1], x.element_size(), _there())
        by_channel, biases = _by_channel(weight, bias, lanes)
        images = x.detach().numpy().reshape(N, GI // I, I, H, W)
        forward_kernel(I, k, lanes, columns)(images, by_channel, biases, y.numpy(), winners.numpy())
        ctx.save_for_backward(x, weight, winners)
        return y.flatten(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        from bnexp.model.kernels.compiled import backward_kernel

        x, weight, winners = ctx.saved_tensors
        R, O, I, k, _ = weight.shape  # noqa: E741
        N, GI, H, W = x.shape
        with_dx, _, with_bias = ctx.needs_input_grad
        lanes, vectors, together = rows(I, k, x.element_size(), _there())
        by_row = _by_row(weight, vectors * lanes)
        images = x.numpy().reshape(N, GI // I, I, H, W)
        d_images = np.empty_like(images if with_dx else images[:0])
        d_weight, d_bias = np.zeros_like(by_row), np.zeros_like(by_row, shape=(R, O))
        gradient = dy.contiguous().numpy().reshape(winners.shape)
        kernel = backward_kernel(I, k, lanes, vectors, together, with_dx)
        kernel(images, by_row, winners.numpy(), gradient, d_images, d_weight, d_bias)
        dx = torch.from_numpy(d_images.reshape(x.shape)) if with_dx else None
        dw = torch.from_numpy(d_weight[..., : k * I].reshape(R, O, k, k, I).transpose(0, 1, 4, 2, 3))
        return dx, dw, torch.from_numpy(d_bias) if with_bias else None


def _there() -> Registers:
    found = registers()
    assert found is not None
    return found


def _by_channel(weight: Tensor, bias: Tensor | None, lanes: int) -> tuple[Floats, Floats]:
    """Weight (R, O, I, k, k) -> (R, k, k, I, C) and bias (R, O) -> (R, C): O is filled up with zeros to a multiple of ``lanes``."""
    R, O, I, k, _ = weight.shape  # noqa: E741
    source = weight.detach().numpy()
    filled = np.zeros((R, k, k, I, math.ceil(O / lanes) * lanes), source.dtype)
    filled[..., :O] = source.transpose(0, 3, 4, 2, 1)
    biases = np.zeros((R, filled.shape[-1]), source.dtype)
    if bias is not None:
        biases[:, :O] = bias.detach().numpy()
    return filled, biases


def _by_row(weight: Tensor, length: int) -> Floats:
    """Weight (R, O, I, k, k) -> (R, O, k, length): row by row, the k*I numbers of a row filled up with zeros."""
    R, O, I, k, _ = weight.shape  # noqa: E741
    source = weight.detach().numpy()
    filled = np.zeros((R, O, k, length), source.dtype)
    filled[..., : k * I] = source.transpose(0, 1, 3, 4, 2).reshape(R, O, k, k * I)
    return filled


class Registers(NamedTuple):
    """The vector registers of a CPU.

    Args:
        sums: how many may hold sums; a few more are left for what is added.
        size: bytes of one.
    """

    sums: int
    size: int

    def of(self, lanes: int, itemsize: int) -> int:
        """How many hold a vector of so many lanes."""
        return math.ceil(lanes * itemsize / self.size)


def tile(out_channels: int, width: int, itemsize: int, there: Registers) -> tuple[int, int]:
    """How the forward kernel divides its output: lanes of a vector of channels, and pooled columns whose sums are in registers.

    Args:
        out_channels: O.
        width: WP.
        itemsize: bytes of a number.
        there: the registers of the CPU.
    """
    lanes = 8 if out_channels <= 8 or 4 * there.of(16, itemsize) > there.sums else 16
    most = max(1, there.sums // (4 * there.of(lanes, itemsize)))
    return lanes, math.ceil(width / math.ceil(width / most))


def rows(in_channels: int, kernel_size: int, itemsize: int, there: Registers) -> tuple[int, int, int]:
    """How the backward kernel divides a row of a patch: lanes of a vector, vectors of the row, and those summed at the same time.

    Arguments as for ``tile``.
    """
    length = in_channels * kernel_size
    lanes = 8 if length <= 8 else 16
    most = max(1, there.sums // (kernel_size * there.of(lanes, itemsize)))
    passes = math.ceil(math.ceil(length / lanes) / most)
    together = math.ceil(length / lanes / passes)
    return lanes, passes * together, together


@cache
def registers() -> Registers | None:
    """The vector registers of this CPU; None if there are no kernels for it: they need AVX2 or AVX-512, and multiply-add.

    Raises:
        ConfigError: numba, which compiles the kernels, cannot be imported.
    """
    try:
        from numba.core.registry import cpu_target
    except ImportError as error:  # also for a version of NumPy that it does not know
        raise ConfigError(
            f"numba, which compiles the kernels for the CPU, cannot be imported ({str(error).splitlines()[0]}): install it again "
            "with pip install --force-reinstall numba, or use train.kernels=torch."
        ) from error
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    if "+fma" not in features or "+avx2" not in features:
        return None
    return Registers(28, 64) if "+avx512f" in features else Registers(12, 32)


def fits(x: Tensor, weight: Tensor) -> bool:
    """Whether there are kernels for these arguments of ``conv_pool``, here and now: under autocast there are none."""
    on_cpu = x.is_cpu and x.dtype == weight.dtype and x.dtype in DTYPES
    return on_cpu and not torch.is_autocast_enabled("cpu") and registers() is not None
