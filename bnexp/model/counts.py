"""What a network computes for one image, counted from the table of its layers: no network is built and no torch is needed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bnexp.config.options import Activation, Kernels, ModelName, NormKind, Placement, ResidualInit
from bnexp.config.schema import RunConfig
from bnexp.model.table import ConvBlock, table

# The networks whose layers a table names.
COUNTED = frozenset({ModelName.lenet, ModelName.mlp, ModelName.plain, ModelName.resnet})

LANES = 16  # output channels that a convolution on a CPU computes together; with fewer, the rest of them idles


@dataclass
class Counts:
    """The layers of a network by kind, and the work of a forward pass on one image.

    Args:
        convs: number of convolutions.
        linears: number of linear layers.
        norms: number of norm layers.
        others: number of activations, poolings, dropouts, added shortcuts and layers of a single scalar.
        products: multiply-adds of the convolutions. Channels of the output count in multiples of ``LANES``.
        fused_products: alike, of the convolutions that a kernel computes together with their pooling and ReLU. These two are
            none of the other layers then.
        linear_products: multiply-adds of the linear layers.
        norm_values: values that norm layers normalise.
        other_values: values that these layers read.
        pooled_values: values that kernels of pooling and ReLU read. These layers are none of the others then.
        parameters: trainable parameters.
    """

    convs: int = 0
    linears: int = 0
    norms: int = 0
    others: int = 0
    products: int = 0
    fused_products: int = 0
    linear_products: int = 0
    norm_values: int = 0
    other_values: int = 0
    pooled_values: int = 0
    parameters: int = 0


def count(config: RunConfig, in_channels: int, size: int, num_classes: int) -> Counts:
    """Count the layers of a run's network and their work.

    Args:
        config: of the run. ``train.kernels=auto`` means that kernels are used where there are some.
        in_channels: channels of the images.
        size: side of the square images, pixels.
        num_classes: number of classes.
    """
    found, layers = Counts(), table(config.model)
    features, side = in_channels, size
    fixup = config.model.init.residual is ResidualInit.fixup
    for i, row in enumerate(layers.convs):
        if fixup and i:
            _add_scalar(found, features * side**2)
        _add_conv(found, config, row, features, side)
        features, side = row.num_features, row.side_after(side)
    if layers.average:
        _add_others(found, 1, features * side**2)
    else:
        features *= side**2
    for units in layers.hidden:
        _add_linear(found, features, units)
        _add_others(found, 1 + (config.model.dropout > 0), units)
        if config.model.has_linear_norm(config.norm):
            _add_norms(found, config, units, 1)
        features = units
    if fixup:
        _add_scalar(found, features)
    _add_linear(found, features, num_classes)
    return found


def _add_conv(found: Counts, config: RunConfig, row: ConvBlock, in_channels: int, side: int) -> None:
    """A convolution block on input maps of this side."""
    model, norm, out = config.model, config.norm, row.num_features
    positions, pooled = row.conv_side(side) ** 2, row.side_after(side) ** 2
    weights = in_channels * row.kernel_size**2
    found.convs += 1
    products = math.ceil(out / LANES) * LANES * weights * positions
    if fused := _is_fused(config, row):
        found.fused_products += products
    else:
        found.products += products
    found.parameters += out * (weights + model.has_conv_bias(norm))
    relu_last = model.activation is Activation.relu and (
        norm.kind is NormKind.none or norm.placement in (Placement.before_activation, Placement.after_pool)
    )
    rectified = row.pool and relu_last and config.train.kernels is Kernels.auto
    if rectified and not fused:
        found.pooled_values += out * positions
    elif row.pool and not fused:
        _add_others(found, 1, out * positions)
    if row.adds:
        _add_others(found, 1, out * positions)
    for _ in range(_num_scalars(config, row)):
        _add_scalar(found, out * positions)
    if not rectified:
        _add_others(found, 1, out * (pooled if relu_last else positions))
    if norm.kind is not NormKind.none:
        _add_norms(found, config, out, pooled if norm.placement is Placement.after_pool else positions)


def _is_fused(config: RunConfig, row: ConvBlock) -> bool:
    """Whether a kernel computes a convolution with its pooling: nothing but a ReLU, which commutes with it, is between them."""
    norm, alone = config.norm, row.pool and not row.padding and row.stride == 1
    directly = norm.kind is NormKind.none or norm.placement is Placement.after_pool
    return config.train.kernels is Kernels.auto and alone and directly and config.model.activation is Activation.relu


def _num_scalars(config: RunConfig, row: ConvBlock) -> int:
    """The scalars that stand before the activation of a convolution block, for the start of residual branches."""
    residual, norm = config.model.init.residual, config.norm
    if residual is ResidualInit.fixup:
        return 1 + bool(row.adds)
    ends_in_norm = norm.kind is not NormKind.none and norm.affine and norm.follows_conv
    return int(residual is ResidualInit.zero and bool(row.adds) and not ends_in_norm)


def _add_scalar(found: Counts, values: int) -> None:
    """A layer that adds or multiplies a single learned number."""
    _add_others(found, 1, values)
    found.parameters += 1


def _add_linear(found: Counts, inputs: int, units: int) -> None:
    found.linears += 1
    found.linear_products += inputs * units
    found.parameters += (inputs + 1) * units


def _add_norms(found: Counts, config: RunConfig, features: int, positions: int) -> None:
    """The norms of a block: one, or with ``norm.placement=both`` two."""
    number = 1 + (config.norm.placement is Placement.both)
    found.norms += number
    found.norm_values += number * features * positions
    found.parameters += 2 * number * features * config.norm.affine


def _add_others(found: Counts, number: int, values: int) -> None:
    """Layers of this number, each of which reads so many values."""
    found.others += number
    found.other_values += number * values
