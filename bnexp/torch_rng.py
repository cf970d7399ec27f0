"""Named random streams as torch generators."""

from __future__ import annotations

import torch

from bnexp.rng import derive


def torch_generator(seed: int, stream: str) -> torch.Generator:
    """A CPU ``torch.Generator`` at the start of the stream (CPU, so that every device draws the same numbers)."""
    return torch.Generator().manual_seed(derive(seed, stream))
