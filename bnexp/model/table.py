"""The table of a network's layers, from which ``networks.py`` builds it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bnexp.config.options import ModelName
from bnexp.config.schema import LENET_CHANNELS, LENET_UNITS, ModelConfig


@dataclass(frozen=True)
class Shortcut:
    """What a residual block adds to the output of its branch: its own input.

    Args:
        in_channels: channels of the block's input.
        stride: of the branch.
    """

    in_channels: int
    stride: int


@dataclass(frozen=True)
class ConvBlock:
    """A convolution, its activation and perhaps 2x2 max pooling, with norms at the places that ``norm.placement`` names.

    Args:
        num_features: channels of the output.
        kernel_size: side of the kernel.
        padding: zeros on each side of the input.
        stride: of the convolution.
        pool: whether there is pooling.
        opens: whether a residual branch begins before the convolution.
        adds: the shortcut that is added before the activation, where a residual branch ends; None: none.
    """

    num_features: int
    kernel_size: int
    padding: int = 0
    stride: int = 1
    pool: bool = True
    opens: bool = False
    adds: Shortcut | None = None

    def side_after(self, side: int) -> int:
        """The side of the output maps, pixels, if the input maps have this ``side``."""
        side = self.conv_side(side)
        return side // 2 if self.pool else side

    def conv_side(self, side: int) -> int:
        """The side of the maps before pooling, pixels, if the input maps have this ``side``."""
        return (side + 2 * self.padding - self.kernel_size) // self.stride + 1

    def least_side(self, after: int) -> int:
        """The smallest side of the input maps, pixels, that leaves output maps of the side ``after``."""
        conv_side = 2 * after if self.pool else after
        return (conv_side - 1) * self.stride + self.kernel_size - 2 * self.padding


@dataclass(frozen=True)
class Table:
    """The layers of a network before its output layer: convolutions, maps to features, hidden linear layers.

    Args:
        convs: the convolution blocks in order.
        average: whether a feature is the mean of a map; if not, the maps are flattened.
        hidden: units of each hidden linear layer.
    """

    convs: tuple[ConvBlock, ...] = ()
    average: bool = False
    hidden: tuple[int, ...] = ()


def table(model: ModelConfig) -> Table:
    """The layers that ``model.name``, ``depth`` and ``width`` ask for.

    ``lenet``  LeCun et al. 1998, in the form of the PyTorch CIFAR tutorial
    ``mlp``    ``depth`` hidden layers of ``width`` units
    ``plain``  ``depth`` convolutions 3x3 of ``width`` channels that keep the size of the maps, without skips, then global
               average pooling: the plain net of He et al. 2015 (arXiv:1512.03385, section 4.2) at constant width. The
               convolutions form four stages, as equal in depth as possible, with 2x2 max pooling between, so that 32x32 pixels
               end as 4x4. With fewer than four convolutions each is a stage.
    ``resnet`` the residual network of the same section: a 3x3 convolution, three stages of n residual blocks, global average
               pooling and the output layer, with 6n + 2 = ``depth`` weighted layers. A block has two 3x3 convolutions and
               a shortcut around them. The stages have w, 2w and 4w channels, w = ``width``. The first convolution of the
               second and third stage has stride 2, so that 32x32 pixels end as 8x8.

    The norms of a residual block, by ``norm.placement``, in front of "+", the addition of the shortcut:
    ``before_activation``  conv norm act conv norm + act: the block of He et al.
    ``after_activation``   conv act norm conv + act norm: the second norm follows the addition, so no path avoids the norms
    ``after_pool``         as after_activation, since a residual network has no max pooling
    ``both``               conv norm act norm conv norm + act norm
    """
    if model.name is ModelName.lenet:
        return Table(convs=tuple(ConvBlock(channels, 5) for channels in LENET_CHANNELS), hidden=LENET_UNITS)
    if model.name is ModelName.mlp:
        return Table(hidden=(model.width,) * model.depth)
    convs = _resnet(model) if model.name is ModelName.resnet else _plain(model)
    return Table(tuple(convs), average=True)


def _plain(model: ModelConfig) -> Iterator[ConvBlock]:
    stages = min(4, model.depth)
    stage_ends = [stage * model.depth // stages for stage in range(1, stages)]
    for i in range(1, model.depth + 1):
        yield ConvBlock(model.width, 3, padding=1, pool=i in stage_ends)


def _resnet(model: ModelConfig) -> Iterator[ConvBlock]:
    yield ConvBlock(model.width, 3, padding=1, pool=False)
    features = model.width
    for stage, width in enumerate(model.stage_widths):
        for block in range((model.depth - 2) // 6):
            stride = 2 if stage and not block else 1
            yield ConvBlock(width, 3, padding=1, stride=stride, pool=False, opens=True)
            yield ConvBlock(width, 3, padding=1, pool=False, adds=Shortcut(features, stride))
            features = width
