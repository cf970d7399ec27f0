"""Layers with a run axis: R independent networks computed as one.

Every parameter is ``(R, ...)``: run ``r`` owns slice ``r``. Image activations are ``(N, R*C, H, W)`` with the channels of one
run side by side; after ``RunFlatten`` or ``RunAveragePool`` they are ``(N, R, D)``. No layer lets one run see another.
Between a convolution with ``split_columns`` and its pooling layer, maps are ``(N, R*C, 2, H, W/2)``. The layers between the
two need not know.

Shape letters: R runs, N batch, C channels (I in, O out), H height, W width, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bnexp.model.convolution import Strategy, convolve, convolve_columns_apart
from bnexp.model.hashing import HASH_MASK, random_bits
from bnexp.model.kernels.pooling import conv_pool, fits, pool_relu


class RunConv2d(nn.Module):
    """Convolution: ``y[n,r,o] = bias[r,o] + sum_i weight[r,o,i] * x[n,r,i]`` (cross-correlation).

    Shapes: ``(N, R*I, H, W) -> (N, R*O, H', W')`` with H' = floor((H+2p-k)/s) + 1, and W' alike. Two more inputs are possible.
    With ``(N, I, H, W)`` all runs share one batch, which makes a single dense convolution. With ``(N, G*I, H, W)`` each of G
    blocks of neighbouring runs has a batch of its own. Training and evaluation are the same.

    Parameters: ``weight`` (R, O, I, k, k); ``bias`` (R, O) or None. They are left uninitialised; see ``init.py``. The attribute
    ``strategy`` chooses how the convolution is computed, see ``convolution.py``; None: as PyTorch does it.

    Args:
        num_runs: R.
        in_channels: I.
        out_channels: O.
        kernel_size: k.
        bias: whether a bias is learned.
        padding: p, zeros on each side of the input.
        stride: s, distance between the positions of the kernel.
        split_columns: whether the output has its even and odd columns apart, ``(N, R*O, 2, H', W'/2)``. W' has to be even, s
            is 1, and no ``strategy`` is used. The sums are the same. With few channels this keeps a CPU busier, whose vector
            registers hold up to 16 of them, and ``MaxPool2x2`` then reads its pairs from two contiguous pieces of memory.
        before_pool: whether ``MaxPool2x2`` and ReLU follow and the three may be computed as one, see ``pooled``; p is 0 and s
            is 1.
        device: where the parameters live; None: PyTorch's default.
        dtype: their number format; None: PyTorch's default.

    Reference: LeCun et al., "Gradient-based learning applied to document recognition", 1998.
    """

    def __init__(
        self,
        num_runs: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        padding: int = 0,
        stride: int = 1,
        split_columns: bool = False,
        before_pool: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.padding, self.stride = padding, stride
        self.split_columns, self.before_pool = split_columns, before_pool
        self.strategy: Strategy | None = None
        shape = (num_runs, out_channels, in_channels, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(shape[:2], device=device, dtype=dtype)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.flatten(0, 1), None if self.bias is None else self.bias.flatten()
        groups = x.shape[1] // weight.shape[1]
        if self.split_columns:
            return convolve_columns_apart(x, weight, bias, self.padding, groups)
        return convolve(x, weight, bias, self.padding, groups, self.strategy, self.stride)

    def fuses(self, x: Tensor) -> bool:
        """Whether ``pooled`` can take the place of this layer, its pooling and ReLU for this input, here and now."""
        return self.before_pool and fits(x, self.weight)

    def pooled(self, x: Tensor) -> Tensor:
        """The output of the ReLU that follows max pooling: what both make of ``forward``, up to rounding."""
        return conv_pool(x, self.weight, self.bias)


class RunLinear(nn.Module):
    """Affine map: ``y[n,r] = weight[r] x[n,r] + bias[r]``.

    Shapes: ``(N, R, I) -> (N, R, O)``. With ``(N, 1, I)`` all runs share one batch; with ``(N, G, I)`` each of G blocks of
    neighbouring runs has a batch of its own. Training and evaluation are the same.

    Parameters: ``weight`` (R, O, I), ``bias`` (R, O). They are left uninitialised; see ``init.py``.

    Args:
        num_runs: R.
        in_features: I.
        out_features: O.
        device: where the parameters live; None: PyTorch's default.
        dtype: their number format; None: PyTorch's default.
    """

    def __init__(
        self,
        num_runs: int,
        in_features: int,
        out_features: int,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty((num_runs, out_features, in_features), device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty((num_runs, out_features), device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 1:  # one run or one batch: an ordinary matrix product, quicker than a batch of products
            return F.linear(x.squeeze(1), self.weight.flatten(0, 1), self.bias.flatten()).view(-1, *self.bias.shape)
        if x.shape[1] < len(self.weight):  # one batch for each block of neighbouring runs
            x = x.unsqueeze(2).expand(-1, -1, len(self.weight) // x.shape[1], -1).flatten(1, 2)
        product = torch.baddbmm(self.bias.unsqueeze(1), x.transpose(0, 1), self.weight.transpose(1, 2))
        return product.transpose(0, 1)


class RunFlatten(nn.Module):
    """Maps to features: ``(N, R*C, H, W) -> (N, R, D)``. One batch shared by all runs, ``(N, C, H, W)``, becomes ``(N, 1, D)``.

    Args:
        num_features: D = C*H*W.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, self.num_features)


class RunAveragePool(nn.Module):
    """Global average pooling: ``y[n,r,c]`` is the mean of map ``x[n,r,c]``; ``(N, R*C, H, W) -> (N, R, C)``.

    Training and evaluation are the same.

    Args:
        num_channels: C.

    Reference: Lin et al., "Network in network", ICLR 2014, section 3.2.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.num_channels = num_channels

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)).view(x.shape[0], -1, self.num_channels)


_NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "identity": lambda x: x,
    "gelu": F.gelu,
    "silu": F.silu,
}


class Nonlinearity(nn.Module):
    """An elementwise activation function; any shape, the same in training and evaluation.

    Args:
        name: ``relu`` max(x, 0); ``leaky_relu`` max(x, 0.01 x); ``tanh``; ``sigmoid`` 1/(1+exp(-x)); ``identity`` x; ``gelu``
            x Phi(x); ``silu`` x sigmoid(x).
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.function = _NONLINEARITIES[name]

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return self.name


class MaxPool2x2(nn.Module):
    """Largest value of each 2x2 window, stride 2; an odd last row or column is dropped.

    Shape: ``(N, C, H, W) -> (N, C, H//2, W//2)``. The input may also have its even and odd columns apart, ``(N, C, 2, H, W/2)``
    (see ``RunConv2d``). Training and evaluation are the same. If values tie, the gradient goes to the first of them in row
    order. Values and gradients are bit-equal to those of ``torch.nn.MaxPool2d``.

    Args:
        before_relu: whether ReLU follows and the two may be computed as one, see ``rectified``.
    """

    def __init__(self, before_relu: bool = False) -> None:
        super().__init__()
        self.before_relu = before_relu

    def fuses(self, x: Tensor) -> bool:
        """Whether ``rectified`` can take the place of this layer and ReLU for this input, here and now."""
        return self.before_relu and fits(x, x)

    def rectified(self, x: Tensor) -> Tensor:
        """The output of the ReLU that follows."""
        return pool_relu(x)

    def forward(self, x: Tensor) -> Tensor:
        axis = 2
        if x.ndim == 4:
            N, C, H, W = x.shape
            if not x.is_cpu or H % 2 or W % 2:
                return F.max_pool2d(x, 2)
            x, axis = x.view(N, C, H, W // 2, 2), 4
        pooled: Tensor = _MaxPool2x2.apply(x, axis)
        return pooled


class _MaxPool2x2(torch.autograd.Function):
    """Max pooling as two elementwise maxima: on a CPU several times faster than PyTorch's scalar loop over windows.

    ``x`` is (N, C, H, W/2) with a further axis of length 2 at ``axis``: the even and the odd columns.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: int) -> Tensor:
        left, right = x.unbind(axis)
        rows = torch.maximum(left, right)
        top, bottom = _pairs_of_rows(rows)
        if ctx.needs_input_grad[0]:
            ctx.axis = axis
            ctx.save_for_backward(_at_least(left, right), _at_least(top, bottom))
        return torch.maximum(top, bottom)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        left_wins, top_wins = ctx.saved_tensors
        d_rows = torch.empty_like(left_wins)
        _share(dy, top_wins, _pairs_of_rows(d_rows))
        shape = list(left_wins.shape)
        shape.insert(ctx.axis, 2)
        dx = dy.new_empty(shape)
        _share(d_rows, left_wins, dx.unbind(ctx.axis))
        return dx, None


def _pairs_of_rows(x: Tensor) -> tuple[Tensor, ...]:
    N, C, H, W = x.shape
    return x.view(N, C, H // 2, 2, W).unbind(3)


def _at_least(x: Tensor, y: Tensor) -> Tensor:
    """1 if ``x >= y``, else 0, as numbers: a product with truth values would convert them first."""
    if x.stride(-1) > 1:  # every second column: there a comparison that writes numbers is slow
        return (x >= y).to(x.dtype)
    return torch.ge(x, y, out=torch.empty_like(x, memory_format=torch.contiguous_format))


def _share(dy: Tensor, first_wins: Tensor, out: Sequence[Tensor]) -> None:
    """Fill the two tensors ``out`` with the gradient of ``max(first, second)``; ``first_wins`` is 1 if it goes to the first."""
    torch.mul(dy, first_wins, out=out[0])
    torch.sub(dy, out[0], out=out[1])


class RunDropout(nn.Module):
    """Dropout: in training a unit of run ``r`` is zero with probability ``p[r]``, else scaled by ``1/(1-p[r])``.

    Evaluation is the identity.

    Shape: ``(N, R, D) -> (N, R, D)``. The mask is a hash of (key of the run, training step, unit). So it needs no state but a
    step counter, is the same on every device, and does not depend on the other runs.

    Args:
        p: probability of each run, (R,), at least 0 and below 1.
        keys: one integer per run; runs with equal keys have equal masks.
        device: where the buffers live; None: PyTorch's default.
        dtype: number format of the scale; None: PyTorch's default.

    Reference: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 2014.
    """

    step: Tensor
    key: Tensor
    threshold: Tensor
    scale: Tensor

    def __init__(
        self, p: Sequence[float], keys: Sequence[int], device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        integers: dict[str, Any] = {"dtype": torch.int64, "device": device}
        self.register_buffer("step", torch.zeros((), **integers), persistent=False)
        self.register_buffer("key", torch.tensor([k & HASH_MASK for k in keys], **integers)[:, None], persistent=False)
        threshold = torch.tensor([round(q * 2**32) for q in p], **integers)[:, None]
        self.register_buffer("threshold", threshold, persistent=False)
        scale = torch.tensor([1 / (1 - q) for q in p], dtype=dtype, device=device)[:, None]
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        N, _, D = x.shape
        self.step += 1
        keep = random_bits(self.key, self.step, N, D) >= self.threshold
        return x * (keep * self.scale).to(x.dtype)
