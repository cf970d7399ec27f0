"""The noise of "noisy" batch norm. It takes away the stable distribution of activations that normalisation gives.

Shape letters: R runs, N batch, C channels, M values of a channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnexp.model.hashing import HASH_MASK, random_bits

BYTE_SUM = (510.0, 147.8)  # mean and standard deviation of the sum of four random bytes: 4 * 127.5, sqrt(4 (256**2 - 1) / 12)


class DriftNoise(nn.Module):
    """Scales and shifts each activation of each image by random numbers whose distribution is itself new in every step.

    ``y = s x + m``. In each step every channel of a run draws a centre ``mu ~ U(-a, a)`` and a scale ``sigma ~ U(1, 1 + a/2)``
    with a = ``amount``. Every activation of every image, so each pixel of a channel too, then draws its own
    ``m ~ U(mu - a/5, mu + a/5)`` and ``s ~ N(sigma, a/5)``. So a channel's mean is not zero, its variance is not one, and both
    move from step to step. At a = 0.5 these are the published values: mu within 0.5 of zero, sigma from 1 to 1.25, and 0.1 for
    the spread of both.

    The normal numbers are sums of four uniform ones, which every device computes bit for bit alike; they end at 3.46 standard
    deviations.

    Shape: ``(N, R, C, M)``, unchanged.

    Args:
        amount: a.
        keys: one integer per run; the numbers are a hash of (key, step, channel) and of (key, step, image, channel, pixel).
        device: where the buffers live; None: PyTorch's default.

    Reference: Santurkar et al., "How does batch normalization help optimization?", NeurIPS 2018, arXiv:1805.11604, section
    2.1 ("we perturb each activation for each sample in the batch") and appendix A. The pixels of a channel share mu and sigma,
    because they are what batch norm normalises together.
    """

    step: Tensor
    key: Tensor

    def __init__(self, amount: float, keys: Sequence[int], device: torch.device | None = None) -> None:
        super().__init__()
        integers: dict[str, Any] = {"dtype": torch.int64, "device": device}
        self.amount = amount
        self.register_buffer("step", torch.zeros((), **integers), persistent=False)
        self.register_buffer("key", torch.tensor([k & HASH_MASK for k in keys], **integers)[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        N, R, C, M = x.shape
        a = self.amount
        self.step += 1
        bits = random_bits(self.key, self.step, 1, 2 * C + 2 * N * C * M)[0]
        mu, sigma = _uniform(bits[:, : 2 * C], x.dtype).view(1, R, 2, C, 1).unbind(2)
        own_shift, own_scale = bits[:, 2 * C :].view(R, 2, N, C, M).transpose(0, 2).unbind(1)
        shift = a * mu + (a / 5) * _uniform(own_shift, x.dtype)
        scale = (1 + a / 4) + (a / 4) * sigma + (a / 5) * _normal(own_scale, x.dtype)
        return x * scale + shift


def _uniform(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """Uniform in (-1, 1), from 32 random bits."""
    return bits.to(dtype) * 2.0**-31 - 1


def _normal(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """About standard normal, from 32 random bits."""
    mean, deviation = BYTE_SUM
    total = sum(((bits >> place) & 0xFF for place in (8, 16, 24)), bits & 0xFF)
    return (total.to(dtype) - mean) / deviation
