"""The norm layers of a user's own network: what ``norm(num_channels)`` returns, and ``replace_norms``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from bnexp.config.options import NormKind
from bnexp.config.schema import ConfigError, RunConfig
from bnexp.model.hashing import HASH_MASK
from bnexp.model.norms import RunBatchNorm, RunNorm, build_norm
from bnexp.rng import derive

HOW_TO_WRITE = "write self.norm1 = norm(num_channels) in the module, or return bnexp.replace_norms(module, norm)"


class Norm(Protocol):
    """What a factory is given to make norm layers."""

    def __call__(self, num_channels: int, spatial: bool = True) -> nn.Module:
        """The norm layer of the arm, or ``nn.Identity`` without a norm.

        Args:
            num_channels: channels of the maps ``(N, C, H, W)``, or features ``(N, C)``, that it will normalise.
            spatial: whether it will be given maps; False: features.
        """


class NormLayers:
    """Makes the norm layers of one run's module, and names them once the module is there.

    Args:
        config: of the run: kind and options of the norm, and the seed of its noise.
        num_steps: steps of the whole training.
        dtype: number format of parameters and statistics.
        label: what the factory is called in messages.
    """

    def __init__(self, config: RunConfig, num_steps: int, dtype: torch.dtype, label: str) -> None:
        self.config, self.num_steps, self.dtype, self.label = config, num_steps, dtype, label
        self.made: list[nn.Module] = []

    def __call__(self, num_channels: int, spatial: bool = True) -> nn.Module:
        if isinstance(num_channels, bool) or not isinstance(num_channels, int) or num_channels < 1:
            raise ConfigError(f"{self.label} calls norm({num_channels!r}): give the number of channels, an integer from 1.")
        self.made.append(self._new(num_channels, spatial))
        return self.made[-1]

    def _new(self, num_channels: int, spatial: bool) -> nn.Module:
        if self.config.norm.kind is NormKind.none:
            return nn.Identity()
        # How large the maps are is known once images have passed. Until then they are taken to be large enough.
        layer = build_norm(
            f"norm {len(self.made) + 1}", [self.config], num_channels, 2, self.num_steps, torch.device("cpu"), self.dtype
        )
        layer.map_size = 2 if spatial else 1
        return layer

    def settle(self, module: nn.Module) -> None:
        """Name the layers after their place in ``module``.

        Raises:
            ConfigError: the run has a norm, but the module has none of it, or not all that were made.
        """
        if self.config.norm.kind is NormKind.none:
            return
        inside = {layer: name for name, layer in module.named_modules() if isinstance(layer, RunNorm)}
        if not inside:
            found = "never calls norm" if not self.made else "calls norm, but no layer that it returned is in the module"
            raise ConfigError(
                f"{self.label} {found}, so norm.kind={self.config.norm.kind} would change nothing: {HOW_TO_WRITE}."
            )
        lost = [i for i, layer in enumerate(self.made, start=1) if layer not in inside]
        if lost and inside.keys() <= set(self.made):  # copies of a layer may have taken its place
            raise ConfigError(
                f"{self.label} calls norm {len(self.made)} times, but the layer of call {lost[0]} is not in the module: assign "
                "it to an attribute, or put lists of layers into nn.ModuleList."
            )
        for layer, name in inside.items():
            layer.name = name
            if isinstance(layer, RunBatchNorm) and layer.noise is not None:
                layer.noise.key.fill_(derive(self.config.seed, f"noise/{name}") & HASH_MASK)


def replace_norms(module: nn.Module, norm: Callable[..., nn.Module]) -> nn.Module:
    """Put the norm layers of an arm in the place of a module's batch norms.

    Every ``nn.BatchNorm1d`` and ``nn.BatchNorm2d`` inside the module, however deep, is replaced by
    ``norm(num_features)``. Where the new layer has them, it takes over scale, shift and running statistics, so that a
    start at zero (``zero_init_residual=True``) stays one; eps and momentum are those of the arm (``norm.eps``,
    ``norm.momentum``). A layer that stands at several places stays one layer.

    Args:
        module: the network; it is changed in place.
        norm: what the factory was given.

    Returns:
        ``module``, or the new layer if ``module`` itself is a batch norm.

    Raises:
        ConfigError: there is no batch norm in the module.

    Example:
        >>> def build(norm, in_channels, num_classes, size):
        ...     return bnexp.replace_norms(torchvision.models.resnet18(num_classes=num_classes), norm)
    """
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return _like(module, norm)
    made: dict[nn.Module, nn.Module] = {}
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                if child not in made:
                    made[child] = _like(child, norm)
                setattr(parent, name, made[child])
    if not made:
        raise ConfigError(
            f"bnexp.replace_norms found no nn.BatchNorm1d or nn.BatchNorm2d in {type(module).__name__}: call "
            "norm(num_channels) where the network is to be normalised."
        )
    return module


@torch.no_grad()
def _like(old: nn.BatchNorm1d | nn.BatchNorm2d, norm: Callable[..., nn.Module]) -> nn.Module:
    new = norm(old.num_features, spatial=isinstance(old, nn.BatchNorm2d))
    for name in ("weight", "bias", "running_mean", "running_var"):
        source, target = getattr(old, name, None), getattr(new, name, None)
        if isinstance(source, Tensor) and isinstance(target, Tensor):
            target.copy_(source.expand_as(target))
    return new.train(old.training)
