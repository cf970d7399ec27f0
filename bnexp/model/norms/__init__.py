"""Normalisation layers with a run axis, from scratch: batch, batch renorm, layer, instance and group norm.

``standardise.py`` has the algorithm and its gradient, ``base.py`` what the layers share. A new layer has a file here, a line in
``LAYERS``, a member of ``NormKind`` with its properties, and a file ``configs/norm/NAME.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bnexp.config.options import Kernels, NormKind
from bnexp.config.schema import NormConfig, RunConfig
from bnexp.model.norms.base import RunningNorm, RunNorm, running_norms
from bnexp.model.norms.batch import RunBatchNorm, RunBatchRenorm
from bnexp.model.norms.group import RunGroupNorm
from bnexp.model.norms.noise import DriftNoise
from bnexp.rng import derive

__all__ = [
    "LAYERS",
    "DriftNoise",
    "RunBatchNorm",
    "RunBatchRenorm",
    "RunGroupNorm",
    "RunNorm",
    "RunningNorm",
    "build_norm",
    "running_norms",
]


@dataclass(frozen=True)
class _Site:
    """Where a norm layer is to stand: what its own arguments are taken from."""

    configs: Sequence[RunConfig]
    name: str
    num_steps: int
    device: torch.device | None

    @property
    def norm(self) -> NormConfig:
        return self.configs[0].norm


def _running(site: _Site) -> dict[str, Any]:
    return {
        "momentum": [config.norm.momentum for config in site.configs],
        "track_running_stats": site.norm.track_running_stats,
    }


def _batch(site: _Site) -> dict[str, Any]:
    keys = [derive(config.seed, f"noise/{site.name}") for config in site.configs]
    noise = DriftNoise(site.norm.noise, keys, site.device) if site.norm.noise else None
    kernels = site.configs[0].train.kernels is Kernels.auto
    return _running(site) | {"ghost_size": site.norm.ghost_size, "noise": noise, "kernels": kernels}


def _batch_renorm(site: _Site) -> dict[str, Any]:
    return _running(site) | {"r_max": site.norm.r_max, "d_max": site.norm.d_max, "num_steps": site.num_steps}


# Kind -> its layer, and the arguments by name that this layer takes beside those of every norm.
LAYERS: dict[NormKind, tuple[type[RunNorm], Callable[[_Site], dict[str, Any]]]] = {
    NormKind.batch: (RunBatchNorm, _batch),
    NormKind.batch_renorm: (RunBatchRenorm, _batch_renorm),
    NormKind.layer: (RunGroupNorm, lambda _: {"groups": 1}),
    NormKind.instance: (RunGroupNorm, lambda _: {"groups": None}),
    NormKind.group: (RunGroupNorm, lambda site: {"groups": site.norm.groups}),
}


def build_norm(
    name: str,
    configs: Sequence[RunConfig],
    num_features: int,
    map_size: int,
    num_steps: int,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> RunNorm:
    """The norm layer of a cohort.

    Args:
        name: the layer's name in the network, for error messages and for its random streams.
        configs: one configuration per run. The first one decides the kind, which is not ``none``, and the options; eps,
            momentum and the random stream are each run's own.
        num_features: number of channels or features.
        map_size: values per channel of one image, H*W; 1 for features.
        num_steps: steps of the whole training, which the schedule of batch renorm is scaled to.
        device: where the layer lives; None: PyTorch's default.
        dtype: number format of parameters and statistics; None: PyTorch's default.

    Raises:
        ConfigError: the layer cannot normalise such values.
    """
    norm = configs[0].norm
    layer, own = LAYERS[norm.kind]
    eps = [config.norm.eps for config in configs]
    common: dict[str, Any] = {"affine": norm.affine, "backward": norm.backward, "device": device, "dtype": dtype}
    return layer(name, num_features, map_size, eps, **own(_Site(configs, name, num_steps, device)), **common)
