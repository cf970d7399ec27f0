"""Normalisation layers with a run axis, from scratch: batch, batch renorm, layer, instance and group norm.

``standardise.py`` has the algorithm and its gradient, ``base.py`` what the layers share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bnexp.config.options import NormKind
from bnexp.config.schema import RunConfig
from bnexp.model.norms.base import RunningNorm, RunNorm, running_norms
from bnexp.model.norms.batch import RunBatchNorm, RunBatchRenorm
from bnexp.model.norms.group import RunGroupNorm
from bnexp.model.norms.noise import DriftNoise
from bnexp.rng import derive

__all__ = [
    "DriftNoise",
    "RunBatchNorm",
    "RunBatchRenorm",
    "RunGroupNorm",
    "RunNorm",
    "RunningNorm",
    "build_norm",
    "running_norms",
]


def build_norm(
    name: str,
    configs: Sequence[RunConfig],
    num_features: int,
    map_size: int,
    num_steps: int,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> RunNorm:
    """The norm layer that ``norm`` asks for, one run for each configuration.

    ``num_features`` channels or features of ``map_size`` values each; ``num_steps`` of the whole training. The first
    configuration decides kind and options; eps, momentum and the random stream are taken from each. Raises ConfigError where
    the layer cannot normalise such values. The kind is not ``none``.
    """
    norm = configs[0].norm
    place = (name, num_features, map_size, [c.norm.eps for c in configs])
    options: dict[str, Any] = {"affine": norm.affine, "backward": norm.backward, "device": device, "dtype": dtype}
    groups = {NormKind.layer: 1, NormKind.instance: None, NormKind.group: norm.groups}
    if norm.kind in groups:
        return RunGroupNorm(*place, groups[norm.kind], **options)
    momentum = [c.norm.momentum for c in configs]
    options["track_running_stats"] = norm.track_running_stats
    if norm.kind is NormKind.batch_renorm:
        return RunBatchRenorm(*place, momentum, r_max=norm.r_max, d_max=norm.d_max, num_steps=num_steps, **options)
    keys = [derive(c.seed, f"noise/{name}") for c in configs]
    noise = DriftNoise(norm.noise, keys, device) if norm.noise else None
    return RunBatchNorm(*place, momentum, ghost_size=norm.ghost_size, noise=noise, **options)
