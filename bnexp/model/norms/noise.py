"""The noise of "noisy" batch norm. It takes away the stable distribution of activations that normalisation gives.

Shape letters: R runs, N batch, C channels, M values of a channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnexp.model.hashing import HASH_MASK, random_bits


class DriftNoise(nn.Module):
    """Scales and shifts each channel by random numbers whose distribution is itself drawn anew in every step.

    ``y = s x + m``. In each step every channel of a run draws a centre ``mu ~ U(-a, a)`` and a scale ``sigma ~ U(1, 1 + a/2)``
    with a = ``amount``. Every image then draws ``m ~ U(mu - a/5, mu + a/5)`` and ``s ~ U(sigma - a/5, sigma + a/5)`` for each
    channel; they are the same for all its pixels. So the mean is not zero, the variance is not one, and both move from step to
    step. At a = 0.5, mu lies within 0.5 of zero, sigma between 1 and 1.25, and images differ by up to 0.1 from both.

    Shape: ``(N, R, C, M)``, unchanged.

    Args:
        amount: a.
        keys: one integer per run; the numbers are a hash of (key, step, image, channel).
        device: where the buffers live; None: PyTorch's default.

    Reference: Santurkar et al., "How does batch normalization help optimization?", NeurIPS 2018, arXiv:1805.11604, section
    2.2 and appendix A; their s is normal, here it is uniform, which every device computes bit for bit alike.
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
        N, R, C, _ = x.shape
        a = self.amount
        self.step += 1
        bits = random_bits(self.key, self.step, N + 1, 2 * C)
        uniform = (bits.to(x.dtype) * 2.0**-31 - 1).view(N + 1, R, 2, C, 1)  # in (-1, 1)
        centre, spread = uniform[:1], uniform[1:] * (a / 5)
        shift = centre[:, :, 0] * a + spread[:, :, 0]
        scale = centre[:, :, 1] * (a / 4) + (1 + a / 4) + spread[:, :, 1]
        return x * scale + shift
