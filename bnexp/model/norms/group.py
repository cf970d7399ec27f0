"""Group, layer and instance normalisation with a run axis: each image by itself.

Shape letters: R runs, N batch, C channels or features, G groups of K = C/G channels, M = H*W values of a channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from bnexp.config.schema import ConfigError
from bnexp.model.norms.base import RunNorm
from bnexp.model.norms.standardise import standardise


class RunGroupNorm(RunNorm):
    """Normalisation of each image of each run over groups of channels.

    ``y = weight * (x - mean) / sqrt(var + eps) + bias``. Mean and biased variance are those of one image, over the K channels
    of a group and their H*W values. Each channel has its own scale and shift. Training and evaluation are the same: there are
    no running statistics, and a batch of one image is like any other. On features ``(N, R, C)`` the values are the C features.

    One group is layer norm, over all of C, H and W. Here too a channel has one scale and shift for all its pixels; in
    ``torch.nn.LayerNorm`` each pixel has its own.

    Shapes: ``(N, R*C, H, W)`` or ``(N, R, C)``, unchanged.

    Args:
        name, num_features, map_size, eps, options: as in ``RunNorm``.
        groups: G; None: as many groups as channels, which is instance norm.

    Raises:
        ConfigError: the groups do not divide the channels, or leave a single value to normalise. It equals its mean, so every
            output would be ``bias``.

    References: Wu & He, "Group normalization", 2018, arXiv:1803.08494; Ba et al., "Layer normalization", 2016,
    arXiv:1607.06450; Ulyanov et al., "Instance normalization", 2016, arXiv:1607.08022.
    """

    def __init__(
        self, name: str, num_features: int, map_size: int, eps: Sequence[float], groups: int | None, **options: Any
    ) -> None:
        super().__init__(name, num_features, map_size, eps, **options)
        self.per_channel = groups is None
        self.groups = groups or num_features
        self.check_map()

    def check_map(self, called: str = "", remedy: str = "") -> None:
        if self.num_features % self.groups or self.num_features // self.groups * self.map_size < 2:
            raise ConfigError(self._problem(None if self.per_channel else self.groups, called or self.name, remedy))

    def _problem(self, groups: int | None, called: str, remedy: str) -> str:
        C, M = self.num_features, self.map_size
        where = f"{called} with {C} channel" + "s" * (C > 1) + " of one value" * (M == 1)
        if groups is None:
            keys = "keep it off features and single pixels (norm.linear=false, another norm.placement, a larger data.size)"
            return (
                f"{where} leaves instance norm a single value to normalise: {remedy or keys}, or use norm=layer or norm=batch."
            )
        allowed = [g for g in range(1, C + 1) if C % g == 0 and C // g * M > 1]
        if not allowed:
            return f"{where} has a single value of an image to normalise: {remedy or 'raise model.width'}, or use norm=batch."
        return (
            f"norm.groups={groups} does not fit {where}: allowed there is {', '.join(map(str, allowed))}; "
            "set norm.groups to a number that fits every normalised layer."
        )

    def forward(self, x: Tensor) -> Tensor:
        R, G, K = self.shape[0], self.groups, self.num_features // self.groups
        values = self.values(x).reshape(x.shape[0], R, G, K, -1)
        weight, bias = self.affine(1, R, G, K, 1)
        y, _, _ = standardise(values, weight, bias, self.eps.view(-1, 1, 1, 1), (3, 4), self.backward)
        return self.output(y, x)
