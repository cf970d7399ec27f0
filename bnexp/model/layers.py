"""Layers with a run axis: R independent networks computed as one.

Every parameter is ``(R, ...)``: run ``r`` owns slice ``r``. Image activations are ``(N, R*C, H, W)`` with the channels of a
run side by side; after ``RunFlatten`` or ``RunAveragePool`` they are ``(N, R, D)``. No layer lets one run see another.
Between a convolution with ``split_columns`` and its pooling maps are ``(N, R*C, 2, H, W/2)``, which only those two tell apart.

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


class RunConv2d(nn.Module):
    """Convolution, stride 1: ``y[n,r,o] = bias[r,o] + sum_i weight[r,o,i] * x[n,r,i]`` (cross-correlation).

    Shapes: ``(N, R*I, H, W) -> (N, R*O, H+2p-k+1, W+2p-k+1)`` with p = ``padding`` zeros on each side; also ``(N, I, H, W)``,
    one batch shared by all runs, which is then a single dense convolution, and ``(N, G*I, H, W)``, a batch for each of G
    blocks of neighbouring runs. ``strategy`` says how it is computed (see ``convolution.py``). ``weight`` is
    ``(R, O, I, k, k)``, ``bias`` ``(R, O)`` or None. Training and evaluation are the same. Parameters are left uninitialised;
    see ``init.py``.

    ``split_columns``: the even and the odd columns of a map come apart, ``(N, R*O, 2, H', W'/2)``, where W' is even. They are
    two channels of one convolution with stride 2 along the width: the same sums, but with few channels a CPU, whose vectors
    hold up to 16 of them, is less idle, and ``MaxPool2x2`` finds its pairs far apart in memory instead of side by side. No
    ``strategy`` is used then.
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
        split_columns: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.padding = padding
        self.split_columns = split_columns
        self.strategy: Strategy | None = None
        shape = (num_runs, out_channels, in_channels, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(shape[:2], device=device, dtype=dtype)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.flatten(0, 1), None if self.bias is None else self.bias.flatten()
        groups = x.shape[1] // weight.shape[1]
        if self.split_columns:
            return convolve_columns_apart(x, weight, bias, self.padding, groups)
        return convolve(x, weight, bias, self.padding, groups, self.strategy)


class RunLinear(nn.Module):
    """Affine map: ``y[n,r] = weight[r] x[n,r] + bias[r]``.

    Shapes: ``(N, R, I) -> (N, R, O)``; also ``(N, 1, I)``, one batch shared by all runs. ``weight`` is ``(R, O, I)``, ``bias``
    ``(R, O)``. Training and evaluation are the same. Parameters are left uninitialised; see ``init.py``.
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
        if x.shape[1] == 1:  # one run or one input: an ordinary matrix product, quicker than a batch of products
            return F.linear(x.squeeze(1), self.weight.flatten(0, 1), self.bias.flatten()).view(-1, *self.bias.shape)
        if x.shape[1] < len(self.weight):  # a batch for each block of neighbouring runs
            x = x.unsqueeze(2).expand(-1, -1, len(self.weight) // x.shape[1], -1).flatten(1, 2)
        product = torch.baddbmm(self.bias.unsqueeze(1), x.transpose(0, 1), self.weight.transpose(1, 2))
        return product.transpose(0, 1)


class RunFlatten(nn.Module):
    """Images to features: ``(N, R*C, H, W) -> (N, R, D)``, D = C*H*W = ``num_features``; ``(N, C, H, W)``, one batch shared by
    all runs, becomes ``(N, 1, D)``."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, self.num_features)


class RunAveragePool(nn.Module):
    """Global average pooling: ``y[n,r,c]`` is the mean of map ``x[n,r,c]``; ``(N, R*C, H, W) -> (N, R, C)``.

    ``num_channels`` is C. Training and evaluation are the same.
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
    """An elementwise activation function by name; any shape, the same in training and evaluation.

    ``relu`` max(x, 0); ``leaky_relu`` max(x, 0.01 x); ``tanh``; ``sigmoid`` 1/(1+exp(-x)); ``identity``; ``gelu`` x Phi(x);
    ``silu`` x sigmoid(x).
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

    Shape: ``(N, C, H, W) -> (N, C, H//2, W//2)``, or ``(N, C, 2, H, W/2)`` with even and odd columns apart (see
    ``RunConv2d``); the same in training and evaluation. Where values tie, the gradient goes to the first of them in row
    order, as in ``torch.nn.MaxPool2d``, with which values and gradients are bit-equal.
    """

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
    """Max pooling as two elementwise maxima: on a CPU several times faster than torch's scalar loop over windows.

    The columns of ``x`` (N, C, H, W/2 and 2 along ``axis``) are even and odd ones.
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
    """1 where ``x >= y``, else 0, as numbers: multiplying by truth values would convert them first."""
    if x.stride(-1) > 1:  # every second column: there the comparison itself is slow where its result is to be a number
        return (x >= y).to(x.dtype)
    return torch.ge(x, y, out=torch.empty_like(x, memory_format=torch.contiguous_format))


def _share(dy: Tensor, first_wins: Tensor, out: Sequence[Tensor]) -> None:
    """Fill ``out`` with the gradient of two tensors of whose elements the larger was taken."""
    torch.mul(dy, first_wins, out=out[0])
    torch.sub(dy, out[0], out=out[1])


class RunDropout(nn.Module):
    """Training: each unit of run ``r`` is zero with probability ``p[r]``, else scaled by ``1/(1-p[r])``. Evaluation: identity.

    Shape: ``(N, R, D) -> (N, R, D)``. The mask is a hash of (key of the run, training step, unit), so it needs no state but
    a step counter, is the same on every device, and does not depend on the other runs. Runs with one key share a mask.
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
