"""Named random streams as torch generators. They are not in ``rng``, so that comparing needs no torch."""

from __future__ import annotations

import torch

from bnexp.rng import derive


def torch_generator(seed: int, stream: str) -> torch.Generator:
    """A CPU generator at the start of the random stream ``stream`` of ``seed``, so that all devices get the same numbers."""
    return torch.Generator().manual_seed(derive(seed, stream))
