"""Batch normalisation and batch renormalisation with a run axis.

Shape letters: R runs, N batch, C channels or features, M = H*W values of a channel, 1 for features; m = N*M values are
normalised together, P parts of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bnexp.config.options import Backward
from bnexp.config.schema import ConfigError
from bnexp.model.kernels.normalising import batch_norm
from bnexp.model.kernels.pooling import fits
from bnexp.model.norms.base import RunningNorm
from bnexp.model.norms.noise import DriftNoise
from bnexp.model.norms.standardise import standardise, sum_of_first

# When the bounds of batch renorm begin and cease to open, as fractions of a run: the paper's steps by the length of its runs.
_R_OPENS = (5_000 / 130_000, 40_000 / 130_000)
_D_OPENS = (5_000 / 130_000, 25_000 / 130_000)


class RunBatchNorm(RunningNorm):
    """Batch normalisation of each channel of each run.

    Training: ``y = weight * (x - mean) / sqrt(var + eps) + bias`` with the mean and the biased variance (divided by m) of
    the batch, over N, H and W. Evaluation: by running statistics, see ``RunningNorm``.

    Shapes: ``(N, R*C, H, W)`` or ``(N, R, C)``, unchanged.

    Args:
        name, num_features, map_size, eps, momentum, options: as in ``RunningNorm``.
        ghost_size: images per part in ghost batch norm: in training, consecutive parts of the batch are normalised each by its
            own statistics. The last part is smaller if the size does not divide the batch. The running statistics move once
            per step, by the mean over the parts, weighted by their numbers of images. None: the whole batch is one part.
        noise: scales and shifts the output in training; None: no noise.
        kernels: whether compiled kernels may compute a training step, see ``by_kernels``: with the default gradient, without
            ghost batches and noise.

    Raises:
        ConfigError: a batch or a part has a single value per channel. It equals its mean, so every output would be ``bias``.

    References: Ioffe & Szegedy, "Batch normalization", 2015, arXiv:1502.03167, algorithms 1 and 2; Hoffer et al., "Train
    longer, generalize better", 2017, arXiv:1705.08741, algorithm 1.
    """

    def __init__(
        self,
        name: str,
        num_features: int,
        map_size: int,
        eps: Sequence[float],
        momentum: Sequence[float | None],
        *,
        ghost_size: int | None = None,
        noise: DriftNoise | None = None,
        kernels: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(name, num_features, map_size, eps, momentum, **options)
        self.kernels = kernels and ghost_size is None and noise is None and self.backward is Backward.compact
        self.ghost_size = ghost_size
        self.noise = noise
        self.fused = None if None in momentum else (float(momentum[0] or 0), eps[0])

    def forward(self, x: Tensor) -> Tensor:
        if self.by_kernels(x):
            return self._by_kernels(x)
        if self.fused is None or not self._is_fused(x):
            return super().forward(x)
        self._check_values(len(x), math.prod(x.shape[2:]))
        weight, bias = self.affine(self.num_features)
        mean, var = (self.running_mean[0], self.running_var[0]) if self.track_running_stats else (None, None)
        if self.track_running_stats:
            self.num_batches_tracked += 1
        return F.batch_norm(x, mean, var, weight, bias, True, *self.fused)

    def _is_fused(self, x: Tensor) -> bool:
        """Whether torch's own kernel computes this training step: in a user's network, whose layers have one run each.

        The result is the same up to rounding, in less time. ``norm.backward`` has to be the default.
        """
        plain = self.noise is None and (self.ghost_size is None or self.ghost_size >= len(x))
        own = self.num_axes is not None and self.backward is Backward.compact and x.dtype == self.eps.dtype
        return own and plain and self.training and not self.frozen

    def by_kernels(self, x: Tensor) -> bool:
        """Whether kernels compute this training step: in a built-in network, on a CPU that there are kernels for."""
        return self.kernels and self.num_axes is None and self.training and not self.frozen and fits(x, self.eps)

    def compile_kernels(self) -> bool:
        """Compile the kernels, or read them from the disk. Returns whether training calls them, see ``by_kernels``."""
        mode, x = self.training, self.eps.new_empty(0, self.eps.numel(), self.num_features)
        used = self.train().by_kernels(x)
        if used:
            y, _, _ = batch_norm(x.requires_grad_(), self.weight, self.bias, self.eps.expand(self.shape))
            torch.autograd.grad(y.sum(), x)
        self.train(mode)
        return used

    def _by_kernels(self, x: Tensor) -> Tensor:
        m = x.numel() // math.prod(self.shape)
        self._check_values(m, 1)
        y, mean, var = batch_norm(x, self.weight, self.bias, self.eps.expand(self.shape))
        if self.track_running_stats:
            self._track(mean, var * (m / (m - 1)))
        return y

    def _in_training(self, x: Tensor) -> Tensor:
        if self.ghost_size is None or self.ghost_size >= len(x):
            y, mean, var = self._standardise(x)
            m = len(x) * x.shape[-1]
            unbiased_var = var.view(self.shape) * (m / (m - 1))
        else:
            y, mean, unbiased_var = self._by_parts(x, self.ghost_size)
        if self.track_running_stats:
            self._track(mean.view(self.shape), unbiased_var)
        return y if self.noise is None else self.noise(y)

    def _by_parts(self, x: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """The batch normalised part by part, and mean and unbiased variance (R, C), averaged over the parts."""
        num_whole = len(x) // size * size
        blocks = [x[:num_whole].reshape(-1, size, *x.shape[1:])]  # (P, size, R, C, M)
        if num_whole < len(x):
            blocks.append(x[num_whole:].unsqueeze(0))
        outputs, means, variances = [], [], []
        for block in blocks:
            y, mean, var = self._standardise(block)
            m, share = block.shape[1] * block.shape[-1], block.shape[1] / len(x)
            outputs.append(y.flatten(0, 1))
            means.append(sum_of_first(mean) * share)
            variances.append(sum_of_first(var) * (share * m / (m - 1)))
        return torch.cat(outputs), sum(means[1:], means[0]), sum(variances[1:], variances[0]).view(self.shape)

    def _check_values(self, num_images: int, map_size: int) -> None:
        super()._check_values(num_images, map_size)
        if not self.training or self.ghost_size is None:
            return
        smallest = num_images % self.ghost_size or self.ghost_size
        if smallest * map_size < 2:
            raise ConfigError(
                f"norm.ghost_size={self.ghost_size} leaves {self.name} one value per channel to normalise in a part of a batch "
                f"of {num_images} images: choose norm.ghost_size above 1, and train.batch_size and data.train_size so that no "
                "part of a batch, the last one included, has a single image, or normalise larger maps (norm.linear=false, "
                "another norm.placement, a larger data.size)."
            )


class RunBatchRenorm(RunningNorm):
    """Batch renormalisation: batch norm whose training output is corrected towards that of evaluation.

    Training: ``y = weight * (xhat r + d) + bias`` with ``xhat`` as in batch norm, s = sqrt(running_var + eps),
    s_B = sqrt(var + eps), ``r = clip(s_B / s, 1/r_max, r_max)`` and ``d = clip((mean - running_mean) / s, -d_max, d_max)``.
    Both use the running statistics before this step, and both are constants to the gradient. If nothing is clipped, this is the
    output of evaluation. Evaluation: by running statistics, see ``RunningNorm``.

    The bounds open over the run, in the proportions of the paper's 130,000 steps. Over the first 3.8 % of the run (5,000 steps)
    they are 1 and 0, which is plain batch norm. Then they rise linearly, to ``r_max`` at 30.8 % (40,000 steps) and to ``d_max``
    at 19.2 % (25,000 steps). The step counter lives on the device. The running statistics are those of batch norm, so they
    average the variance; the paper averages s_B instead.

    Shapes: ``(N, R*C, H, W)`` or ``(N, R, C)``, unchanged.

    Args:
        name, num_features, map_size, eps, momentum, options: as in ``RunningNorm``.
        r_max: largest correction of the scale, at least 1.
        d_max: largest correction of the mean, in standard deviations.
        num_steps: steps of the whole training.

    Raises:
        ConfigError: there are no running statistics, or a batch has a single value per channel.

    Reference: Ioffe, "Batch renormalization", 2017, arXiv:1702.03275, algorithm 1 and section 4.
    """

    step: Tensor

    def __init__(
        self,
        name: str,
        num_features: int,
        map_size: int,
        eps: Sequence[float],
        momentum: Sequence[float | None],
        *,
        r_max: float,
        d_max: float,
        num_steps: int,
        **options: Any,
    ) -> None:
        super().__init__(name, num_features, map_size, eps, momentum, **options)
        if not self.track_running_stats:
            raise ConfigError(
                "norm.track_running_stats=false leaves batch renorm nothing to correct by; set norm.track_running_stats=true "
                "or norm=batch."
            )
        self.r_max, self.d_max, self.num_steps = r_max, d_max, num_steps
        self.register_buffer("step", self.eps.new_zeros((), dtype=torch.int64), persistent=False)

    def _in_training(self, x: Tensor) -> Tensor:
        xhat, mean, var = standardise(x, None, None, self.eps.unsqueeze(-1), (0, 3), self.backward)
        mean, var = mean.view(self.shape), var.view(self.shape)
        weight, bias = self.affine(*self.shape)
        scale, shift = self._correction(mean, var)
        if weight is not None and bias is not None:
            scale, shift = scale * weight, shift * weight + bias
        m = len(x) * x.shape[-1]
        self._track(mean, var * (m / (m - 1)))
        return xhat * scale.unsqueeze(-1) + shift.unsqueeze(-1)

    @torch.no_grad()
    def _correction(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """r and d, each (R, C), of a batch with this mean and biased variance; moves the step counter on."""
        progress = self.step.to(mean.dtype) / self.num_steps
        self.step += 1
        r_max = 1 + (self.r_max - 1) * _ramp(progress, *_R_OPENS)
        d_max = self.d_max * _ramp(progress, *_D_OPENS)
        s = (self.running_var + self.eps).sqrt()
        r = ((var + self.eps).sqrt() / s).clamp(1 / r_max, r_max)
        d = ((mean - self.running_mean) / s).clamp(-d_max, d_max)
        return r, d


def _ramp(progress: Tensor, start: float, end: float) -> Tensor:
    """0 before ``start``, 1 after ``end``, linear between."""
    return ((progress - start) / (end - start)).clamp(0, 1)
