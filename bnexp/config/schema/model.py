"""``model.*`` and ``norm.*``: the network and its normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bnexp.config.options import (
    Activation,
    Backward,
    DropoutSide,
    InitLayers,
    InitScheme,
    ModelName,
    NormKind,
    Placement,
    ResidualInit,
    Statistics,
)
from bnexp.config.schema.field import key


@dataclass
class NormConfig:
    kind: NormKind = key(NormKind.none, "normalisation layer")
    placement: Placement = key(
        Placement.after_pool,
        "position of the norm in a convolution block; both: before and after the activation; in a block without pooling "
        "after_pool means after_activation; a residual block adds its shortcut right before its last activation",
        built_in=True,
    )
    eps: float = key(1e-5, "added to the variance", above=0.0)
    momentum: float | None = key(
        0.1, "weight of the newest batch in the running statistics; null: cumulative", above=0.0, high=1.0
    )
    affine: bool = key(True, "learn a scale and a shift per channel")
    track_running_stats: bool = key(True, "keep running statistics; false: normalise by the batch in evaluation too")
    linear: bool = key(False, "lenet: normalise hidden linear layers too; an mlp always normalises them", built_in=True)
    groups: int = key(2, "group norm: number of groups; must divide the number of channels of every normalised layer", low=1)
    ghost_size: int | None = key(
        None, "batch norm: number of images that are normalised together; null: the whole batch", low=1
    )
    statistics: Statistics = key(
        Statistics.running, "evaluation by running statistics, or precise ones taken over all training images"
    )
    noise: float = key(
        0.0, "noisy batch norm: spread of the random scale and shift of each activation; Santurkar et al. take 0.5", low=0.0
    )
    r_max: float = key(3.0, "batch renorm: largest correction of the scale", low=1.0)
    d_max: float = key(5.0, "batch renorm: largest correction of the mean, in standard deviations", low=0.0)
    backward: Backward = key(Backward.compact, "how the gradient is computed; the same up to rounding", identity=False)

    @property
    def follows_conv(self) -> bool:
        """Whether a norm directly follows each convolution."""
        return self.placement in (Placement.before_activation, Placement.both)


@dataclass
class InitConfig:
    scheme: InitScheme = key(InitScheme.torch, "distribution of initial weights", built_in=True)
    gain: float = key(1.0, "factor on the initial weights", above=0.0, built_in=True)
    layers: InitLayers = key(
        InitLayers.all, "layers that scheme and gain apply to; the others get PyTorch's default", built_in=True
    )
    residual: ResidualInit = key(
        ResidualInit.none,
        "resnet: start of the residual branches; none: like other layers; zero: at 0, by the scale of the norm that ends a "
        "branch, or else by a learned factor; fixup: without norm, with scaled weights and learned scalars",
        built_in=True,
    )


LENET_CHANNELS = (6, 16)

LENET_UNITS = (120, 84)


@dataclass
class ModelConfig:
    name: ModelName = key(ModelName.lenet, "network")
    factory: str | None = key(None, "python: your function that makes the network, FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION")
    args: dict[str, Any] = key(factory=dict, help="python: further arguments of your function, by name")
    fingerprint: str = key("", "python: hash of your function's source; set by bnexp")
    depth: int = key(
        4,
        "plain: number of convolutions, in four stages with pooling between; mlp: number of hidden layers; resnet: number of "
        "weighted layers, 6n+2 for n blocks in each of three stages",
        low=1,
        high=50,
        built_in=True,
    )
    width: int = key(
        16,
        "plain: channels of each convolution; mlp: units of each hidden layer; resnet: channels of the first stage, which "
        "double from stage to stage",
        low=1,
        built_in=True,
    )
    conv_bias: str = key(
        "auto",
        "bias of convolutions; auto: none if a per-channel affine norm follows directly, or if fixup puts scalars in its place",
        choices=("auto", "true", "false"),
        built_in=True,
    )
    activation: Activation = key(Activation.relu, "activation function", built_in=True)
    dropout: float = key(0.0, "probability that a hidden linear unit is dropped in training", low=0.0, below=1.0, built_in=True)
    dropout_side: DropoutSide = key(
        DropoutSide.after_norm,
        "before_norm: dropout right before the norm of a linear block; after_norm: at its end",
        built_in=True,
    )
    init: InitConfig = key(factory=InitConfig, help="initial weights")

    def __post_init__(self) -> None:
        self.conv_bias = str(self.conv_bias).lower()  # YAML reads true and false as booleans

    def has_conv_bias(self, norm: NormConfig) -> bool:
        """Whether convolutions have a bias.

        With ``auto`` it is dropped before a per-channel affine norm, which cancels it and has its own shift. Layer and group
        norm subtract a mean over several channels, so a bias before them is not redundant. Fixup has one scalar in its place.
        """
        if self.conv_bias != "auto":
            return self.conv_bias == "true"
        if self.init.residual is ResidualInit.fixup:
            return False
        return not (norm.kind.normalises_single_channels and norm.affine and norm.follows_conv)

    @property
    def stage_widths(self) -> tuple[int, int, int]:
        """Number of channels in each stage of a resnet."""
        return self.width, 2 * self.width, 4 * self.width

    def normalised_widths(self, norm: NormConfig) -> list[int]:
        """Number of channels or units of each layer that has a norm; empty without one."""
        if norm.kind is NormKind.none:
            return []
        if self.name is ModelName.resnet:
            return list(self.stage_widths)
        if self.name is not ModelName.lenet:
            return [self.width]
        return [*LENET_CHANNELS, *(LENET_UNITS if norm.linear else ())]

    def has_linear_norm(self, norm: NormConfig) -> bool:
        """Whether hidden linear layers are normalised. In an MLP with a norm they always are: it has no other layers."""
        return norm.kind is not NormKind.none and (self.name is ModelName.mlp or (self.name is ModelName.lenet and norm.linear))
