"""Random numbers without state: a hash of (key of the run, training step, unit).

A layer that draws this way keeps nothing but a step counter on its device. It draws the same numbers on every device, alone or
in any cohort, and it can be captured in a CUDA graph.
"""

from __future__ import annotations

import torch
from torch import Tensor

HASH_MASK = 0xFFFFFFFF


def random_bits(keys: Tensor, step: Tensor, num_rows: int, num_units: int) -> Tensor:
    """32 random bits for each unit of each run.

    Args:
        keys: (R, 1) int64, at least 0 and below 2**32; runs with equal keys draw the same bits.
        step: () int64, the training step.
        num_rows: images of the batch.
        num_units: units per image and run.

    Returns:
        (num_rows, R, num_units) int64, at least 0 and below 2**32.
    """
    stream = _hash32(_hash32(keys) + step & HASH_MASK)
    unit = _hash32(torch.arange(num_rows * num_units, device=keys.device).view(num_rows, 1, num_units))
    return _hash32(unit + stream & HASH_MASK)


def _hash32(x: Tensor) -> Tensor:
    """Mix 32-bit integers held in int64. The multiplier is below 2**31, so that no product overflows."""
    for _ in range(2):
        x = ((x >> 16) ^ x) * 0x45D9F3B & HASH_MASK
    return (x >> 16) ^ x
