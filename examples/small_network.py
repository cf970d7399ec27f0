"""A network of one's own.

bnexp study batchnorm data=digits model=python model.factory=examples/small_network.py:build
"""

from torch import nn


def build(norm, in_channels, num_classes, size, width=16, depth=3):
    """A few blocks of convolution, norm and activation, with pooling between, then the mean of each map.

    Args:
        norm: ``norm(channels)`` is the norm layer of the run, or ``nn.Identity`` without one. Behind a linear layer it is
            ``norm(units, spatial=False)``.
        in_channels: 1 for grey images, 3 for colour.
        num_classes: number of outputs.
        size: side of the square images, pixels.
        width: channels of each convolution: ``model.args.width=32``.
        depth: number of blocks.
    """
    layers = []
    for i in range(depth):
        layers += [nn.Conv2d(width if i else in_channels, width, 3, padding=1), norm(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if i < depth - 1 and size >> i > 4 else []
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
