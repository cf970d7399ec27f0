"""What norm layers share: shapes, learned scale and shift, eps, and the running statistics of those that have them.

Shape letters: R runs, N batch, C channels or features, H height, W width; M = H*W values of a channel, 1 for features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnexp.config.options import Backward
from bnexp.config.schema import ConfigError
from bnexp.model.norms.standardise import standardise


def _run_by_run(x: Tensor) -> Tensor:
    """``x`` (N, R, ...), in memory with one run after the other.

    Sums over an outer axis add in an order that depends on the number of columns. Where a channel has one value, the columns
    are to be those of one run, so that it gets the same sums alone and in any cohort.
    """
    return x.transpose(0, 1).contiguous().transpose(0, 1)


class _GradientRunByRun(torch.autograd.Function):
    """The identity; the gradient is laid out in memory run by run."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_: Any, dx: Tensor) -> Tensor:
        return _run_by_run(dx)


class RunNorm(nn.Module):
    """A norm layer of R runs: ``(N, R*C, H, W)`` or ``(N, R, C)`` -> the same shape, in the precision of ``eps``.

    ``weight`` and ``bias`` are ``(R, C)``, starting at 1 and 0, or None where ``affine`` is off. ``name`` is the layer's, for
    errors; ``num_features`` is C; ``map_size`` M; ``eps`` has one entry a run. ``backward`` chooses how the gradient is
    computed, see ``standardise``.
    """

    eps: Tensor

    def __init__(
        self,
        name: str,
        num_features: int,
        map_size: int,
        eps: Sequence[float],
        affine: bool = True,
        backward: Backward = Backward.compact,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        real: dict[str, Any] = {"device": device, "dtype": dtype}
        self.name, self.num_features, self.map_size, self.backward = name, num_features, map_size, backward
        self.shape = (len(eps), num_features)
        self.weight = nn.Parameter(torch.ones(self.shape, **real)) if affine else None
        self.bias = nn.Parameter(torch.zeros(self.shape, **real)) if affine else None
        self.register_buffer("eps", torch.tensor(eps, **real)[:, None], persistent=False)

    def values(self, x: Tensor) -> Tensor:
        """The input as ``(N, R, C, M)``; under autocast it is bfloat16, but statistics need full precision."""
        values = x.to(self.eps.dtype).reshape(x.shape[0], *self.shape, -1)
        return _run_by_run(values) if values.shape[-1] == 1 else values

    def output(self, y: Tensor, x: Tensor) -> Tensor:
        """``y`` (N, R, ...) in the shape of the input ``x``."""
        if y.shape[-1] == 1:
            y = _GradientRunByRun.apply(y)
        return y.reshape(x.shape)

    def affine(self, *shape: int) -> tuple[Tensor | None, Tensor | None]:
        """``weight`` and ``bias`` in another shape."""
        if self.weight is None or self.bias is None:
            return None, None
        return self.weight.view(shape), self.bias.view(shape)

    def check_batch(self, num_images: int) -> None:
        """Raise ConfigError where a batch of so many images leaves a single value to normalise, in the mode that is on."""


class RunningNorm(RunNorm, ABC):
    """A norm layer that normalises by the batch in training and by running statistics in evaluation.

    Evaluation: ``y = weight * (x - running_mean) / sqrt(running_var + eps) + bias``; without ``track_running_stats`` the
    statistics of the batch take their place. With ``frozen`` training normalises by the running statistics too and leaves them
    as they are; they are constants to the gradient, and ghost batches, noise and correction are left out.

    The running statistics move by ``r <- (1 - p) r + p * batch`` with p = ``momentum``, one entry a run; the variance enters
    unbiased (divided by m - 1, m = N*M), as in PyTorch, whose p = 0.1 is the "momentum 0.9" of others. ``momentum=None``
    averages all batches equally. Buffers ``running_mean`` and ``running_var`` ``(R, C)``, ``num_batches_tracked`` ``(R,)``.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: Tensor
    cumulative: Tensor

    def __init__(
        self,
        name: str,
        num_features: int,
        map_size: int,
        eps: Sequence[float],
        momentum: Sequence[float | None],
        *,
        track_running_stats: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(name, num_features, map_size, eps, **options)
        self.frozen = False
        self.track_running_stats = track_running_stats
        if track_running_stats:
            self.register_buffer("running_mean", self.eps.new_zeros(self.shape))
            self.register_buffer("running_var", self.eps.new_ones(self.shape))
            self.register_buffer("num_batches_tracked", self.eps.new_zeros(len(eps), dtype=torch.int64))
        self.register_buffer("momentum", self.eps.new_tensor([p or 0.0 for p in momentum])[:, None], persistent=False)
        cumulative = self.eps.new_tensor([p is None for p in momentum], dtype=torch.bool)
        self.register_buffer("cumulative", cumulative[:, None], persistent=False)
        self.any_cumulative = None in momentum

    def forward(self, x: Tensor) -> Tensor:
        values = self.values(x)
        if self.by_running_statistics:
            return self.output(self._by_running_statistics(values), x)
        self._check_values(x.shape[0], values.shape[-1])
        return self.output(self._in_training(values) if self.training else self._standardise(values)[0], x)

    @property
    def by_running_statistics(self) -> bool:
        """Whether the running statistics, not the batch's, normalise the next batch."""
        return self.track_running_stats and (self.frozen or not self.training)

    @abstractmethod
    def _in_training(self, x: Tensor) -> Tensor:
        """The output of a training step on ``x`` (N, R, C, M), which also moves the running statistics."""

    def _standardise(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``x`` (..., N, R, C, M) normalised over N and M, with mean and biased variance (..., 1, R, C, 1)."""
        weight, bias = self.affine(1, *self.shape, 1)
        return standardise(x, weight, bias, self.eps.unsqueeze(-1), (-4, -1), self.backward)

    def _by_running_statistics(self, x: Tensor) -> Tensor:
        weight, bias = self.affine(*self.shape, 1)
        scale = (self.running_var + self.eps).rsqrt().unsqueeze(-1)
        scale = scale if weight is None else scale * weight
        shift = -self.running_mean.unsqueeze(-1) * scale
        return x * scale + (shift if bias is None else shift + bias)

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased_var: Tensor) -> None:
        self.num_batches_tracked += 1
        momentum = self.momentum
        if self.any_cumulative:
            momentum = torch.where(self.cumulative, 1 / self.num_batches_tracked[:, None].to(momentum.dtype), momentum)
        self.running_mean.lerp_(mean, momentum.expand_as(mean))
        self.running_var.lerp_(unbiased_var, momentum.expand_as(mean))

    def check_batch(self, num_images: int) -> None:
        if not self.by_running_statistics:
            self._check_values(num_images, self.map_size)

    def _check_values(self, num_images: int, map_size: int) -> None:
        if num_images * map_size < 2:
            raise ConfigError(
                f"{self.name} has one value a channel to normalise, since a batch has a single image there: choose "
                "train.batch_size and data.train_size so that every batch, the last one included, has at least 2 images, "
                "or normalise larger maps (norm.linear=false, another norm.placement, a larger data.size)."
            )


def running_norms(network: nn.Module) -> list[RunningNorm]:
    """The layers of a network that have running statistics."""
    return [layer for layer in network.modules() if isinstance(layer, RunningNorm) and layer.track_running_stats]
