"""Normalisation layers with a run axis, from scratch.

Shape letters: R runs, N batch, C channels or features, H height, W width; m = N*H*W values are normalised together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bnexp.config import ConfigError


class _Standardise(torch.autograd.Function):
    """``y = weight * (x - mean) / sqrt(var + eps) + bias`` with mean and biased variance of ``x`` over ``dims``.

    Returns ``(y, mean, var)``; the statistics keep their reduced axes and carry no gradient. The backward pass is the
    compact form of Ioffe & Szegedy's six steps (arXiv:1502.03167, section 3):
    ``dx = weight / (m sqrt(var+eps)) * (m dy - sum dy - xhat sum(dy xhat))``.
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
        ctx.dims = dims
        ctx.save_for_backward(centred, inv_std, weight)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        centred, inv_std, weight = ctx.saved_tensors
        m = centred.numel() // inv_std.numel()
        sum_dy = dy.sum(ctx.dims, keepdim=True)
        sum_dy_xhat = (dy * centred).sum(ctx.dims, keepdim=True) * inv_std
        scale = inv_std if weight is None else inv_std * weight
        dx = centred * (inv_std * sum_dy_xhat / -m)
        dx += dy
        dx -= sum_dy / m
        dx *= scale
        if weight is None:
            return dx, None, None, None, None
        return dx, sum_dy_xhat[0], sum_dy[0], None, None


class RunBatchNorm(nn.Module):
    """Batch normalisation of each channel of each run.

    Training: ``y = weight * (x - mean) / sqrt(var + eps) + bias`` with the mean and the biased variance (divided by m) of
    the batch, over N, H and W. The running statistics move by ``r <- (1 - p) r + p * batch`` with p = ``momentum``, the
    variance entering unbiased (divided by m - 1), as in PyTorch; ``momentum=None`` averages all batches equally.
    Evaluation: the running statistics take the place of the batch's; without ``track_running_stats`` the batch's are used.

    Shapes: ``(N, R*C, H, W)`` or ``(N, R, C)``, unchanged. ``eps`` and ``momentum`` have one entry a run. ``weight`` and
    ``bias`` are ``(R, C)``, starting at 1 and 0, or None where ``affine`` is off. Buffers ``running_mean`` and
    ``running_var`` ``(R, C)``, ``num_batches_tracked`` ``()``. ``name`` is for errors; ``map_size`` is H*W, 1 for features.

    Raises ConfigError where a batch has a single value a channel: it equals its mean, so every output would be ``bias``.
    Reference: Ioffe & Szegedy, "Batch normalization", 2015, arXiv:1502.03167, algorithms 1 and 2.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    eps: Tensor
    momentum: Tensor
    cumulative: Tensor

    def __init__(
        self,
        name: str,
        num_features: int,
        map_size: int,
        eps: Sequence[float],
        momentum: Sequence[float | None],
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        real: dict[str, Any] = {"device": device, "dtype": dtype}
        shape = (len(eps), num_features)
        self.name = name
        self.map_size = map_size
        self.track_running_stats = track_running_stats
        self.weight = nn.Parameter(torch.ones(shape, **real)) if affine else None
        self.bias = nn.Parameter(torch.zeros(shape, **real)) if affine else None
        if track_running_stats:
            self.register_buffer("running_mean", torch.zeros(shape, **real))
            self.register_buffer("running_var", torch.ones(shape, **real))
            self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64, device=device))
        self.register_buffer("eps", torch.tensor(eps, **real)[:, None], persistent=False)
        self.register_buffer("momentum", torch.tensor([p or 0.0 for p in momentum], **real)[:, None], persistent=False)
        self.register_buffer(
            "cumulative", torch.tensor([p is None for p in momentum], device=device)[:, None], persistent=False
        )
        self.any_cumulative = None in momentum

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.eps.dtype)  # under autocast the input is bfloat16; statistics need full precision
        if x.dim() == 3:
            return self._normalise(x, (0,))
        return self._normalise(x.reshape(x.shape[0], *self.eps.shape[:1], -1, *x.shape[2:]), (0, 3, 4)).flatten(1, 2)

    def _normalise(self, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        tail = (1,) * (x.dim() - 3)
        weight, bias = (None if p is None else p.view(*p.shape, *tail) for p in (self.weight, self.bias))
        eps = self.eps.view(-1, 1, *tail)
        if not self.training and self.track_running_stats:
            scale = (self.running_var.view(*self.running_var.shape, *tail) + eps).rsqrt()
            scale = scale if weight is None else scale * weight
            shift = -self.running_mean.view(*self.running_mean.shape, *tail) * scale
            return x * scale + (shift if bias is None else shift + bias)
        m = x.numel() // (x.shape[1] * x.shape[2])
        self.check_values(m)
        y, mean, var = _Standardise.apply(x, weight, bias, eps, dims)
        if self.training and self.track_running_stats:
            self._track(mean.view(self.running_mean.shape), var.view(self.running_var.shape) * (m / (m - 1)))
        return y  # type: ignore[no-any-return]

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased_var: Tensor) -> None:
        self.num_batches_tracked += 1
        momentum = self.momentum
        if self.any_cumulative:
            momentum = torch.where(self.cumulative, 1 / self.num_batches_tracked.to(momentum.dtype), momentum)
        self.running_mean.lerp_(mean, momentum.expand_as(mean))
        self.running_var.lerp_(unbiased_var, momentum.expand_as(mean))

    def check_values(self, num_values: int) -> None:
        """Raise ConfigError unless a batch has at least two values a channel; ``num_values`` is m = N*H*W."""
        if num_values < 2:
            raise ConfigError(
                f"{self.name} has one value a channel to normalise, since a batch has a single image there: choose "
                "train.batch_size and data.train_size so that every batch, the last one included, has at least 2 images, "
                "or normalise larger maps (norm.linear=false, another norm.placement, a larger data.size)."
            )
