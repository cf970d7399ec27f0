"""The ResNet-18 of torchvision on small images, with the norm layers of the run in place of its batch norms.

bnexp study norm_kind data=cifar10 model=python model.factory=examples/torchvision_resnet18.py:build
"""

from torch import nn
from torchvision.models import resnet18

import bnexp


def build(norm, in_channels, num_classes, size):
    """ResNet-18 with the beginning that is usual for small images: a convolution of 3x3 and no pooling.

    Its own beginning is made for 224 pixels: of 32 it leaves 8 before the first block, and 1 before the last.
    """
    network = resnet18(num_classes=num_classes)
    if size <= 64:
        network.conv1 = nn.Conv2d(in_channels, 64, kernel_size=3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    elif in_channels != 3:
        network.conv1 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return bnexp.replace_norms(network, norm)
