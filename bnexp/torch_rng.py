"""Named random streams as torch generators, apart from ``rng`` so that comparing needs no torch."""

from __future__ import annotations

import torch

from bnexp.rng import derive


def torch_generator(seed: int, stream: str) -> torch.Generator:
    """A ``torch.Generator`` at the start of the stream ``stream`` of ``seed``. On the CPU: all devices get the same numbers."""
    return torch.Generator().manual_seed(derive(seed, stream))
