"""Standardisation with scale and shift, and its gradient, computed in three ways that agree up to rounding.

``y = weight * xhat + bias`` with ``xhat = (x - mean) / sqrt(var + eps)``; mean and biased variance are taken over ``dims``,
m values together. ``weight`` and ``bias`` broadcast against ``x``. The statistics keep their reduced axes and carry no
gradient of their own: what depends on the input through them is part of the gradient of ``y``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bnexp.config.options import Backward


def standardise(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: Tensor,
    dims: tuple[int, ...],
    backward: Backward = Backward.compact,
) -> tuple[Tensor, Tensor, Tensor]:
    """``x`` standardised, scaled and shifted, and its statistics.

    Args:
        x: any shape.
        weight: broadcasts against ``x``; None: no scale.
        bias: broadcasts against ``x``; None exactly if ``weight`` is.
        eps: broadcasts against the statistics.
        dims: the axes whose values are normalised together.
        backward: how the gradient is computed: in closed form (``compact``), step by step (``staged``), or by PyTorch.

    Returns:
        ``(y, mean, var)``: y in the shape of ``x``, the statistics with the reduced axes kept.
    """
    if backward is Backward.autograd:
        return _by_autograd(x, weight, bias, eps, dims)
    function = _Compact if backward is Backward.compact else _Staged
    result: tuple[Tensor, Tensor, Tensor] = function.apply(x, weight, bias, eps, dims)
    return result


def sum_of_first(x: Tensor) -> Tensor:
    """The sum over the first axis, added in an order that depends on its length alone.

    A plain sum over an outer axis adds in an order that depends on the number of columns, and so on the number of runs.
    """
    return x.movedim(0, -1).contiguous().sum(-1)


def _by_autograd(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: Tensor, dims: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.mean(dims, keepdim=True)
    centred = x - mean
    var = (centred * centred).mean(dims, keepdim=True)
    y = centred * (var + eps).rsqrt()
    if weight is not None and bias is not None:
        y = y * weight + bias
    return y, mean.detach(), var.detach()


def _remembered(
    ctx: Any, dims: tuple[int, ...], result: tuple[Tensor, Tensor, Tensor], *tensors: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """``result`` (y, mean, var), with ``dims`` and ``tensors`` kept for the backward pass; mean and var get no gradient."""
    ctx.dims = dims
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*result[1:])
    return result


class _Compact(torch.autograd.Function):
    """The gradient in closed form, from Ioffe & Szegedy's six steps (arXiv:1502.03167, section 3).

    With ``dxhat = weight dy``: ``dx = (m dxhat - sum dxhat - xhat sum(dxhat xhat)) / (m sqrt(var + eps))``. If all m values
    have the same weight, as in batch norm, it comes out of the sums:
    ``dx = weight / (m sqrt(var + eps)) * (m dy - sum dy - xhat sum(dy xhat))``.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: Tensor, dims: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = x.mean(dims, keepdim=True)
        centred = x - mean
        var = (centred * centred).mean(dims, keepdim=True)
        inv_std = (var + eps).rsqrt()
        y = centred * (inv_std if weight is None else inv_std * weight)
        if bias is not None:
            y += bias
        return _remembered(ctx, dims, (y, mean, var), centred, inv_std, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        centred, inv_std, weight = ctx.saved_tensors
        m = centred.numel() // inv_std.numel()
        products = dy * centred
        if weight is None or weight.shape == inv_std.shape:  # one weight for all m values comes out of the sums
            dxhat, scale = dy, inv_std if weight is None else inv_std * weight
            sum_dxhat = dbias = dy.sum(ctx.dims, keepdim=True)
            sum_dxhat_xhat = dweight = products.sum(ctx.dims, keepdim=True) * inv_std
        else:  # first over the axes that statistics and weight share: what remains is small, and serves all four
            dxhat, scale = dy * weight, inv_std
            shared = (inv_std * weight).shape
            sum_dy, sum_dy_xhat = dy.sum_to_size(shared), products.sum_to_size(shared) * inv_std
            dbias, dweight = (sum_of_first(s).view(weight.shape) for s in (sum_dy, sum_dy_xhat))
            sum_dxhat = (sum_dy * weight).sum_to_size(inv_std.shape)
            sum_dxhat_xhat = (sum_dy_xhat * weight).sum_to_size(inv_std.shape)
        dx = torch.mul(centred, inv_std * sum_dxhat_xhat / -m, out=products)
        dx += dxhat
        dx -= sum_dxhat / m
        dx *= scale
        return (dx, None, None, None, None) if weight is None else (dx, dweight, dbias, None, None)


class _Staged(torch.autograd.Function):
    """The gradient node by node, as on the computational graph: nine steps forwards, the same nine backwards.

    Reference: the graph of Kratzert, "Understanding the backward pass through batch normalization layer", 2016.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: Tensor, dims: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = x.mean(dims, keepdim=True)  # 1
        centred = x - mean  # 2
        square = centred**2  # 3
        var = square.mean(dims, keepdim=True)  # 4
        std = (var + eps).sqrt()  # 5
        inv_std = 1 / std  # 6
        xhat = centred * inv_std  # 7
        scaled = xhat if weight is None else weight * xhat  # 8
        y = scaled if bias is None else scaled + bias  # 9
        return _remembered(ctx, dims, (y, mean, var), centred, std, inv_std, xhat, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        centred, std, inv_std, xhat, weight = ctx.saved_tensors
        m = centred.numel() // std.numel()
        dbias = None if weight is None else dy.sum_to_size(weight.shape)  # 9
        dweight = None if weight is None else (dy * xhat).sum_to_size(weight.shape)  # 8
        dxhat = dy if weight is None else dy * weight
        dinv_std = (dxhat * centred).sum(ctx.dims, keepdim=True)  # 7
        dcentred = dxhat * inv_std
        dstd = -dinv_std / std**2  # 6
        dvar = dstd / (2 * std)  # 5
        dsquare = dvar / m  # 4
        dcentred = dcentred + 2 * centred * dsquare  # 3
        dmean = -dcentred.sum(ctx.dims, keepdim=True)  # 2
        dx = dcentred + dmean / m  # 1
        return dx, dweight, dbias, None, None
