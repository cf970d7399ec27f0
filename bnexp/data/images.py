"""What all sources yield, how images come to the size of the network's input, and how they are shown.

Shapes: N images, C channels (1 or 3), H and W pixels, S the side of the input image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnexp.data.download import Progress

if TYPE_CHECKING:
    from PIL import Image

UInt8 = NDArray[np.uint8]
Int64 = NDArray[np.int64]

ImagesById = Callable[[Int64], UInt8]
"""Ids (n,) of images -> their pixels (n, S, S, C) for display: as stored, not normalised, grey with one channel."""

MAX_CLASSES = 1000  # as ImageNet; a confusion matrix has the square of this many cells


@dataclass(frozen=True, eq=False)
class RawData:
    """A data set in memory: images (N, C, H, W) uint8 and labels (N,) int64 from 0, in the order of the source."""

    train_images: UInt8
    train_labels: Int64
    test_images: UInt8
    test_labels: Int64
    class_names: tuple[str, ...]


class FileState(NamedTuple):
    """What tells, without reading them, whether the user's own files are still the same.

    ``place``: where they are. ``content``: their names, sizes and times of change. ``has_test_set``: False if the test set may
    have to be split off, so that the packed images depend on how.
    """

    place: str
    content: list[object]
    has_test_set: bool


def images_by_id(images: UInt8) -> ImagesById:
    """A function that gives those of the ``images`` (M, C, S, S) that are asked for, ready for display."""

    def chosen(ids: Int64) -> UInt8:
        return np.ascontiguousarray(images[ids].transpose(0, 2, 3, 1))

    return chosen


def fit(images: UInt8, size: int, progress: Progress) -> UInt8:
    """Bring images (N, C, H, W) to (N, C, S, S) with S = ``size``.

    Grey 28 x 28 images, the format of MNIST, get a black margin up to 32 x 32 (LeNet's input) as far as ``size`` allows.
    Images that then have another size are cut to their central square and resized.
    """
    if images.shape[1:] == (1, 28, 28) and size > 28:
        margin = min(size, 32) - 28
        sides = (margin // 2, margin - margin // 2)
        images = np.pad(images, ((0, 0), (0, 0), sides, sides))
    if images.shape[2:] == (size, size):
        return images
    from PIL import Image

    out = np.empty((*images.shape[:2], size, size), np.uint8)
    for i, image in enumerate(images):
        picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
        out[i] = np.asarray(square(picture, size)).reshape(size, size, -1).transpose(2, 0, 1)
        if i % 1000 == 999 or i + 1 == len(images):
            progress("resizing images", i + 1, len(images))
    return out


def square(image: Image.Image, size: int) -> Image.Image:
    """The central square of an image, resized to ``size`` x ``size``: bilinear, antialiased if it shrinks."""
    from PIL import Image

    if image.size == (size, size):
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Cropped first: with resize(box=...) pixels outside the square would change those at its edge.
    return image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)
