"""Named random streams: (seed, stream name) -> generator. ``torch_rng`` has those of torch.

Parameter init, data order, augmentation and dropout each draw from a stream of their own. So runs with the same seed share
what they have in common, which is the pairing that the statistics need, and a run is the same alone or in any cohort.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def derive(seed: int, stream: str) -> int:
    """A 63-bit seed of its own for one stream: the first bytes of SHA-256 over both arguments.

    Args:
        seed: the seed of the run.
        stream: the name of the stream, like ``order/1``.
    """
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def numpy_generator(seed: int, stream: str) -> np.random.Generator:
    """A NumPy generator at the start of the stream ``stream`` of ``seed``."""
    import numpy as np

    return np.random.default_rng(derive(seed, stream))
