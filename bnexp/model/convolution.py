"""Ways to compute the convolution of many runs. They agree up to rounding; the GPU, shapes and direction decide the fastest.

Shape letters: N batch, G groups of runs that share an input, R runs, O and I channels out and in, k kernel, D = I*k*k,
P = N*H'*W' positions of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

DEFAULT = "grouped"
Geometry = tuple[int, int]  # of a convolution: padding and stride

WORTH_IT = 0.95  # another strategy is taken only if its time is below this fraction of the default's


@dataclass(frozen=True)
class Strategy:
    """How each direction of a convolution is computed: the output, the gradient of the input, the gradient of the weight.

    ``grouped``        one convolution with one group per input
    ``im2col``         patches are gathered, then multiplied in a batched matrix product
    ``channels_last``  as ``grouped``, with the channels of a pixel side by side in memory
    """

    forward: str = DEFAULT
    input_gradient: str = DEFAULT
    weight_gradient: str = DEFAULT

    def __str__(self) -> str:
        return "/".join(getattr(self, item.name) for item in fields(self))


def fastest(times: Mapping[str, Sequence[float]]) -> str:
    """The strategy with the smallest median time, or the default if none is clearly faster.

    Args:
        times: strategy -> its times in seconds, for the default too.
    """
    best = min(times, key=lambda name: median(times[name]))
    return best if median(times[best]) < WORTH_IT * median(times[DEFAULT]) else DEFAULT


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, groups: int, strategy: Strategy | None, stride: int = 1
) -> Tensor:
    """``F.conv2d``, computed as a strategy says.

    Args:
        x: (N, G*I, H, W).
        weight: (R*O, I, k, k).
        bias: (R*O,); None: none.
        padding: zeros on each side.
        groups: G.
        strategy: chosen for training. In evaluation im2col is not used: batches are larger, and its patches could fill the
            memory. None: as PyTorch does it.
        stride: distance between the positions of the kernel.

    Returns:
        (N, R*O, H', W').
    """
    if strategy is None or (strategy.forward == "im2col" and not torch.is_grad_enabled()):
        return F.conv2d(x, weight, bias, stride, padding, groups=groups)
    y: Tensor = _Convolution.apply(x, weight, (padding, stride), groups, strategy)
    return y if bias is None else y + bias.view(-1, 1, 1)


def convolve_columns_apart(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, groups: int) -> Tensor:
    """As ``convolve``, with the even and the odd columns of a map apart: (N, R*O, 2, H', W'/2). W' has to be even.

    Even and odd columns are two channels of one convolution with stride 2 along the width: the same sums.
    """
    pair = torch.stack([F.pad(weight, (0, 1)), F.pad(weight, (1, 0))], 1).flatten(0, 1)  # (2*R*O, I, k, k+1)
    biases = None if bias is None else bias.repeat_interleave(2)
    y = F.conv2d(x, pair, biases, stride=(1, 2), padding=padding, groups=groups)
    return y.view(len(y), -1, 2, *y.shape[2:])


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: Geometry, groups: int, strategy: Strategy) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.options = geometry, groups, strategy
        return FORWARD[strategy.forward](x, weight, geometry, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        geometry, groups, strategy = ctx.options
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = INPUT_GRADIENT[strategy.input_gradient](dy, x, weight, geometry, groups)
        if ctx.needs_input_grad[1]:
            dw = WEIGHT_GRADIENT[strategy.weight_gradient](dy, x, weight, geometry, groups)
        return dx, dw, None, None, None


def _grouped(x: Tensor, weight: Tensor, geometry: Geometry, groups: int) -> Tensor:
    padding, stride = geometry
    return F.conv2d(x, weight, None, stride, padding, groups=groups)


def _grouped_input_gradient(dy: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, groups: int) -> Tensor:
    return _backward(dy, x, weight, geometry, groups, (True, False))


def _grouped_weight_gradient(dy: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, groups: int) -> Tensor:
    return _backward(dy, x, weight, geometry, groups, (False, True))


def _backward(dy: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, groups: int, wanted: tuple[bool, bool]) -> Tensor:
    """The one gradient that is wanted: (True, False) of x, (False, True) of weight."""
    padding, stride = geometry
    options = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups)
    gradients = torch.ops.aten.convolution_backward(dy, x, weight, None, *options, [*wanted, False])
    gradient: Tensor = gradients[wanted.index(True)]
    return gradient


def _last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _last_forward(x: Tensor, weight: Tensor, geometry: Geometry, groups: int) -> Tensor:
    return _grouped(_last(x), _last(weight), geometry, groups).contiguous()


def _last_input_gradient(dy: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, groups: int) -> Tensor:
    return _grouped_input_gradient(_last(dy), _last(x), _last(weight), geometry, groups).contiguous()


def _last_weight_gradient(dy: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, groups: int) -> Tensor:
    return _grouped_weight_gradient(_last(dy), _last(x), _last(weight), geometry, groups).contiguous()


def _patches(x: Tensor, k: int, geometry: Geometry, groups: int) -> Tensor:
    """(N, G*I, H, W) -> (G, D, P)."""
    padding, stride = geometry
    x = F.pad(x, (padding,) * 4) if padding else x
    by_group: Tensor = x.view(len(x), groups, -1, *x.shape[2:])
    windows = by_group.unfold(3, k, stride).unfold(4, k, stride)  # (N, G, I, H', W', k, k)
    return windows.permute(1, 2, 5, 6, 0, 3, 4).reshape(groups, -1, len(x) * windows.shape[3] * windows.shape[4])


def _by_group(dy: Tensor, groups: int) -> Tensor:
    """(N, R*O, H', W') -> (G, R*O/G, P)."""
    return dy.reshape(len(dy), groups, -1, *dy.shape[2:]).permute(1, 2, 0, 3, 4).flatten(2)


def _matrices(weight: Tensor, groups: int) -> Tensor:
    """(R*O, I, k, k) -> (G, R*O/G, D)."""
    return weight.view(groups, len(weight) // groups, -1)


def _im2col_forward(x: Tensor, weight: Tensor, geometry: Geometry, groups: int) -> Tensor:
    k = weight.shape[-1]
    padding, stride = geometry
    height, width = ((side + 2 * padding - k) // stride + 1 for side in x.shape[2:])
    y = torch.bmm(_matrices(weight, groups), _patches(x, k, geometry, groups))
    return y.view(groups, -1, len(x), height, width).permute(2, 0, 1, 3, 4).flatten(1, 2).contiguous()


def _im2col_input_gradient(dy: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, groups: int) -> Tensor:
    d_patches = torch.bmm(_matrices(weight, groups).transpose(1, 2), _by_group(dy, groups))
    columns = d_patches.view(*d_patches.shape[:2], len(x), -1).permute(2, 0, 1, 3).flatten(1, 2)
    height, width = x.shape[2:]
    padding, stride = geometry
    return F.fold(columns, (height, width), weight.shape[-1], padding=padding, stride=stride)


def _im2col_weight_gradient(dy: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, groups: int) -> Tensor:
    patches = _patches(x, weight.shape[-1], geometry, groups)
    return torch.bmm(_by_group(dy, groups), patches.transpose(1, 2)).view_as(weight)


FORWARD: dict[str, Callable[..., Tensor]] = {"grouped": _grouped, "im2col": _im2col_forward, "channels_last": _last_forward}
INPUT_GRADIENT: dict[str, Callable[..., Tensor]] = {
    "grouped": _grouped_input_gradient,
    "im2col": _im2col_input_gradient,
    "channels_last": _last_input_gradient,
}
WEIGHT_GRADIENT: dict[str, Callable[..., Tensor]] = {
    "grouped": _grouped_weight_gradient,
    "im2col": _im2col_weight_gradient,
    "channels_last": _last_weight_gradient,
}
