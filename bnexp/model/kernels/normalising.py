"""Batch normalisation as one operation of torch, computed by compiled kernels.

Shape letters: R runs, N batch, C channels or features, H height, W width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bnexp.model.kernels.pooling import Floats


def batch_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``y = weight * (x - mean) / sqrt(var + eps) + bias`` with the mean and the biased variance of the batch.

    Mean and variance are those of a channel of a run, over N, H and W. They carry no gradient of their own: what depends on the
    input through them is part of the gradient of ``y``. Every sum has one order, see ``norm_loops.py``. So a run has the same
    bits alone and in a cohort, and on CPUs with longer and shorter vectors. A second derivative raises RuntimeError.

    Args:
        x: (N, R*C, H, W) or (N, R, C), on the CPU, float32 or float64; the other arguments are alike.
        weight: (R, C); None: no scale.
        bias: (R, C); None exactly if ``weight`` is.
        eps: added to the variance, (R, C).

    Returns:
        ``(y, mean, var)``: y in the shape of ``x``, the others (R, C).

    Reference: Ioffe & Szegedy, "Batch normalization", 2015, arXiv:1502.03167, algorithm 1 and section 3.
    """
    result: tuple[Tensor, Tensor, Tensor] = _BatchNorm.apply(x, weight, bias, eps)
    return result


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from bnexp.model.kernels.norm_loops import normalise

        x = x.contiguous()
        y, mean, var = torch.empty_like(x), torch.empty_like(eps), torch.empty_like(eps)
        scale = torch.ones_like(eps) if weight is None else weight
        shift = torch.zeros_like(eps) if bias is None else bias
        normalise(_rows(x), *(_flat(values) for values in (scale, shift, eps)), _rows(y), _flat(mean), _flat(var))
        ctx.save_for_backward(x, mean, var, eps, scale)
        ctx.affine = weight is not None
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        from bnexp.model.kernels.norm_loops import normalise_backward

        x, mean, var, eps, scale = ctx.saved_tensors
        dx, d_weight, d_bias = torch.empty_like(x), torch.empty_like(mean), torch.empty_like(mean)
        statistics = (_flat(values) for values in (mean, var, eps, scale))
        normalise_backward(_rows(x), *statistics, _rows(dy.contiguous()), _rows(dx), _flat(d_weight), _flat(d_bias))
        return (dx, d_weight, d_bias, None) if ctx.affine else (dx, None, None, None)


def _rows(x: Tensor) -> Floats:
    """(N, ...) -> (N, all values of an image), the same memory."""
    rows: Floats = x.detach().numpy().reshape(len(x), math.prod(x.shape[1:]))
    return rows


def _flat(values: Tensor) -> Floats:
    """(R, C) -> (R*C,), the same memory if it is contiguous."""
    return values.detach().numpy().reshape(-1)
