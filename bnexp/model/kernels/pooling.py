"""Operations of torch that compiled kernels compute: 2x2 max pooling and ReLU, alone and with the convolution before them.

Shape letters: R runs, G groups of neighbouring runs that share images, N batch, I channels in, O channels out, H W height and
width of the input, k side of the kernel, HP WP height and width of the pooled output.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from bnexp.config.schema import MachineError

Floats = NDArray[Any]  # float32 or float64
DTYPES = (torch.float32, torch.float64)


def conv_pool(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """ReLU of the largest value of each 2x2 window, stride 2, of a convolution (cross-correlation) without padding, stride 1.

    ``y[n,r,o,p,q] = max(0, bias[r,o] + sum_i,a,b weight[r,o,i,a,b] * x[n,r,i,2p+c+a,2q+d+b])`` over c and d in {0, 1}

    Shapes: ``(N, G*I, H, W) -> (N, R*O, HP, WP)`` with HP = (H-k+1)//2, and WP alike. An odd last row or column of the
    convolution is dropped. With G = R each run has a batch of its own, with G = 1 all runs share one.

    Every sum has one order, see ``loops.py``. So a run has the same bits alone and in a cohort, and on CPUs with longer and
    shorter vectors. An image has the same output and the same gradient wherever it stands in its batch.

    If values tie, the gradient goes to the first of them in row order, and if some are NaN, to the last NaN, as in
    ``torch.nn.MaxPool2d``. It ends at an output of 0, as in ``torch.nn.ReLU``. A gradient of zero adds nothing, also where the
    input is infinite: PyTorch's convolution then adds NaN. A second derivative raises RuntimeError, as that of ``MaxPool2x2``
    on a CPU does.

    Args:
        x: images, on the CPU.
        weight: (R, O, I, k, k), of the dtype of x: float32 or float64.
        bias: (R, O); None: none.

    Raises:
        ValueError: the shapes do not belong together, or the images are too small for one window.

    Reference: LeCun et al., "Gradient-based learning applied to document recognition", 1998, for the layers.
    """
    R, _, I, k, _ = weight.shape
    if x.shape[1] % I or R % (x.shape[1] // I) or min(x.shape[2:]) <= k:  # the kernels check no bounds
        raise ValueError(f"images {tuple(x.shape)} do not fit the weight {tuple(weight.shape)} of a convolution with pooling")
    y: Tensor = _ConvPool.apply(x, weight, bias)
    return y


class _ConvPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        from bnexp.model.kernels.loops import forward_kernel

        x = x.contiguous()
        R, O, I, k, _ = weight.shape
        N, GI, H, W = x.shape
        y = x.new_empty(N, R, O, (H - k + 1) // 2, (W - k + 1) // 2)
        winners = torch.empty_like(y, dtype=torch.uint8)
        channels, columns = tile(O, y.shape[-1], x.element_size(), _there())
        images = x.detach().numpy().reshape(N, GI // I, I, H, W)
        biases = x.new_zeros(R, O) if bias is None else bias.detach()
        kernel = forward_kernel(k, channels, columns)
        kernel(images, _array(weight), _array(biases), y.numpy(), winners.numpy())
        ctx.save_for_backward(x, weight, winners)
        return y.flatten(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        from bnexp.model.kernels.loops import backward_kernel

        x, weight, winners = ctx.saved_tensors
        R, O, I, k, _ = weight.shape
        N, GI, H, W = x.shape
        with_dx, _, with_bias = ctx.needs_input_grad
        lanes, vectors, together = rows(I, k, x.element_size(), _there())
        images = (N, GI // I, I, H, W)
        dx = torch.empty_like(x) if with_dx else x[:0]
        dw, db = torch.empty_like(weight), weight.new_empty(R, O)
        gradient = dy.contiguous().numpy().reshape(winners.shape)
        kernel = backward_kernel(I, k, lanes, vectors, together, with_dx)
        results = dx.numpy().reshape(-1, *images[1:]), dw.numpy(), db.numpy()
        kernel(x.numpy().reshape(images), _array(weight), winners.numpy(), gradient, *results)
        return dx if with_dx else None, dw, db if with_bias else None


def pool_relu(x: Tensor) -> Tensor:
    """ReLU of the largest value of each 2x2 window, stride 2; an odd last row or column is dropped.

    Shape: ``(N, C, H, W) -> (N, C, H//2, W//2)``. The input may also have its even and odd columns apart,
    ``(N, C, 2, H, W/2)``. Values and gradients are those of ``torch.nn.MaxPool2d`` and ``torch.nn.ReLU``, ties and NaN
    included. A second derivative raises RuntimeError.

    Args:
        x: maps on the CPU, float32 or float64, of at least 2x2 values.
    """
    y: Tensor = _PoolRelu.apply(x)
    return y


class _PoolRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        from bnexp.model.kernels.pool_loops import pool

        x = x.contiguous()
        N, C, *_, H, W = x.shape
        ctx.steps = (H * W, W, 1) if x.ndim == 5 else (1, W, 2)  # to the corner beside, to the one below, to the next window
        y = x.new_empty(N, C, H // 2, W if x.ndim == 5 else W // 2)
        winners = torch.empty_like(y, dtype=torch.uint8)
        pool(_maps(x, 1), *ctx.steps, _maps(y, 2), _maps(winners, 2))
        ctx.save_for_backward(winners)
        ctx.shape = x.shape
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        from bnexp.model.kernels.pool_loops import pool_backward

        (winners,) = ctx.saved_tensors
        dx = dy.new_empty(ctx.shape)
        pool_backward(_maps(dy.contiguous(), 2), _maps(winners, 2), *ctx.steps, _maps(dx, 1))
        return dx


def _maps(x: Tensor, num_axes: int) -> Floats:
    """(N, C, ...) -> (N*C, ...) with so many axes for a map, the same memory."""
    sides = x.shape[2:] if num_axes == 2 else (math.prod(x.shape[2:]),)
    maps: Floats = x.detach().numpy().reshape(math.prod(x.shape[:2]), *sides)
    return maps


def _array(parameter: Tensor) -> Floats:
    """The numbers of a parameter, in C order: those of several runs are not, in the flat tensor of all parameters."""
    array: Floats = parameter.detach().contiguous().numpy()
    return array


def _there() -> Registers:
    found = registers()
    assert found is not None
    return found


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
    """How the forward kernel divides its output: channels of a vector, and windows of a row whose sums are in registers.

    Args:
        out_channels: O.
        width: WP.
        itemsize: bytes of a number.
        there: the registers of the CPU.
    """
    channels = 16 if out_channels > 8 and 4 * there.of(32, itemsize) <= there.sums else 8
    most = max(1, there.sums // (2 * there.of(2 * channels, itemsize)))
    return channels, math.ceil(width / math.ceil(width / most))


def rows(in_channels: int, kernel_size: int, itemsize: int, there: Registers) -> tuple[int, int, int]:
    """How the backward kernel divides the row of a patch: lanes of a vector, vectors of the row, vectors summed at a time.

    Args:
        in_channels: I.
        kernel_size: k.
        itemsize: bytes of a number.
        there: the registers of the CPU.
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
        MachineError: numba, which compiles the kernels, cannot be imported.
    """
    try:
        from bnexp.model.kernels.compiling import features
    except Exception as error:  # a NumPy that it does not know is an ImportError, a library that is not there an OSError
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise MachineError(
            f"numba, which compiles the kernels for the CPU, cannot be imported here ({reason}): "
            "use train.kernels=torch, or install numba again with pip install --upgrade --force-reinstall numba."
        ) from error
    if not {"+avx2", "+fma"} <= features():
        return None
    return Registers(28, 64) if "+avx512f" in features() else Registers(12, 32)


def fits(x: Tensor, weight: Tensor) -> bool:
    """Whether there are kernels for these arguments of ``conv_pool``, here and now: under autocast there are none."""
    on_cpu = x.is_cpu and x.dtype == weight.dtype and x.dtype in DTYPES
    return on_cpu and not torch.is_autocast_enabled("cpu") and registers() is not None
