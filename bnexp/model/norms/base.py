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
    """``x`` (N, R, ...), laid out in memory with one run after the other.

    A sum over an outer axis adds in an order that depends on the number of columns. If a channel has a single value, the
    columns have to be those of one run, so that the run gets the same sums alone and in any cohort.
    """
    return x.transpose(0, 1).contiguous().transpose(0, 1)


class _GradientRunByRun(torch.autograd.Function):
    """The identity, whose gradient is laid out in memory run by run."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_: Any, dx: Tensor) -> Tensor:
        return _run_by_run(dx)


class RunNorm(nn.Module):
    """Base of all norm layers: ``(N, R*C, H, W)`` or ``(N, R, C)`` -> the same shape, computed in the precision of ``eps``.

    Parameters: ``weight`` and ``bias``, each (R, C), starting at 1 and 0; both None without ``affine``. The attribute
    ``num_axes`` is the number of axes of the input in a user's own network, whose layers have one run each; None in a built-in
    one.

    Args:
        name: the layer's name in the network, for error messages.
        num_features: C.
        map_size: M.
        eps: added to the variance, one value per run (R,).
        affine: whether a scale and a shift per channel are learned.
        backward: how the gradient is computed, see ``standardise``.
        device: where parameters and buffers live; None: PyTorch's default.
        dtype: their number format; None: PyTorch's default.
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
        self.num_axes: int | None = None
        self.weight = nn.Parameter(torch.ones(self.shape, **real)) if affine else None
        self.bias = nn.Parameter(torch.zeros(self.shape, **real)) if affine else None
        self.register_buffer("eps", torch.tensor(eps, **real)[:, None], persistent=False)

    def check_map(self, called: str = "", remedy: str = "") -> None:
        """Raise ConfigError if a norm that takes each image alone has a single value to normalise on maps of this size.

        Args:
            called: what the layer is called in the message; empty: by its name.
            remedy: how to do without it; empty: the keys that say so to a built-in network.
        """

    def values(self, x: Tensor) -> Tensor:
        """The input as ``(N, R, C, M)`` in full precision, which statistics need; under autocast the input is bfloat16."""
        values = x.to(self.eps.dtype).reshape(x.shape[0], *self.shape, -1)
        return _run_by_run(values) if values.shape[-1] == 1 and self.num_axes is None else values

    def output(self, y: Tensor, x: Tensor) -> Tensor:
        """``y`` (N, R, ...) in the shape of the input ``x``. Autograd does not know it as a view, so that what follows, such as
        ``nn.ReLU(inplace=True)``, may change it in place."""
        if y.shape[-1] == 1 and self.num_axes is None:
            y = _GradientRunByRun.apply(y)
        y = y.reshape(x.shape)
        return torch.ops.aten._unsafe_view(y, y.shape)  # type: ignore[no-any-return]

    def affine(self, *shape: int) -> tuple[Tensor | None, Tensor | None]:
        """``weight`` and ``bias`` in another shape, or None twice."""
        if self.weight is None or self.bias is None:
            return None, None
        return self.weight.view(shape), self.bias.view(shape)

    def check_batch(self, num_images: int) -> None:
        """Raise ConfigError if a batch of ``num_images`` leaves a single value to normalise, in the mode that is on."""


class RunningNorm(RunNorm, ABC):
    """Base of the norm layers that normalise by the batch in training and by running statistics in evaluation.

    Evaluation: ``y = weight * (x - running_mean) / sqrt(running_var + eps) + bias``.

    If ``frozen`` is set, training normalises by the running statistics too and leaves them as they are. They are then constants
    to the gradient, and ghost batches, noise and correction are left out.

    A training step moves the running statistics by ``r <- (1 - p) r + p * batch`` with p = ``momentum``. The variance enters
    unbiased (divided by m - 1, m = N*M). Both are as in PyTorch, whose p = 0.1 others call "momentum 0.9".

    Buffers: ``running_mean`` and ``running_var``, each (R, C); ``num_batches_tracked`` (R,).

    Args:
        name: the layer's name in the network, for error messages.
        num_features: C.
        map_size: M.
        eps: added to the variance, one value per run (R,).
        momentum: weight of the newest batch, one value per run; None: all batches count equally.
        track_running_stats: whether there are running statistics. If not, evaluation normalises by its own batch.
        options: ``affine``, ``backward``, ``device``, ``dtype`` as in ``RunNorm``.
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
        """Whether the next batch is normalised by the running statistics, not by its own."""
        return self.track_running_stats and (self.frozen or not self.training)

    @abstractmethod
    def _in_training(self, x: Tensor) -> Tensor:
        """The output of a training step on ``x`` (N, R, C, M), which also moves the running statistics."""

    def _standardise(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``x`` (..., N, R, C, M) normalised over N and M, and its mean and biased variance (..., 1, R, C, 1)."""
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
        for running, batch in ((self.running_mean, mean), (self.running_var, unbiased_var)):
            running.copy_(running.lerp(batch, momentum.expand_as(batch)))  # torch.func cannot map ``lerp_``

    def check_batch(self, num_images: int) -> None:
        if not self.by_running_statistics:
            self._check_values(num_images, self.map_size)

    def _check_values(self, num_images: int, map_size: int) -> None:
        if num_images * map_size < 2:
            raise ConfigError(
                f"{self.name} has one value per channel to normalise, since a batch has a single image there: choose "
                "train.batch_size and data.train_size so that every batch, the last one included, has at least 2 images, "
                "or normalise larger maps (norm.linear=false, another norm.placement, a larger data.size)."
            )


def running_norms(network: nn.Module) -> list[RunningNorm]:
    """The layers of a network that have running statistics."""
    return [layer for layer in network.modules() if isinstance(layer, RunningNorm) and layer.track_running_stats]
