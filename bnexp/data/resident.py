"""A data set ready for training: memory-mapped uint8 images, splits and normalisation constants."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bnexp.config.schema import ConfigError, DataConfig
from bnexp.data.amount import too_large
from bnexp.data.cache import open_packed
from bnexp.data.download import Progress
from bnexp.data.images import Int64, UInt8
from bnexp.data.overlap import Overlap, find_overlap, overlap_warning
from bnexp.data.packed import Packed
from bnexp.data.splits import stratified_choice, stratified_split
from bnexp.rng import numpy_generator

Split = Literal["train", "val", "test"]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Resident:
    """A data set as a run sees it. Cheap to pickle: a process that receives one opens the shared files itself.

    Args:
        name: of the data set.
        size: side of the images, pixels.
        in_channels: channels of the network's input. If the images have fewer, grey is to be repeated.
        train_index: positions in ``train_images`` that are trained on, ascending.
        val_index: positions in ``train_images`` for validation, ascending; none of them is in ``train_index``.
        mean: mean (in_channels,) of the images in ``train_index``, pixel values scaled to 0..1.
        std: their standard deviation (in_channels,); 1 if they do not vary.
        packed: the arrays on disk.
    """

    name: str
    size: int
    in_channels: int
    train_index: Int64
    val_index: Int64
    mean: Float64
    std: Float64
    packed: Packed

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.packed.class_names

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def fingerprint(self) -> str:
        """Hash of images, labels and class names: equal for equal content, wherever the files are."""
        return self.packed.fingerprint

    @property
    def channels(self) -> int:
        """Channels of the images; fewer than ``in_channels`` if grey is to be repeated."""
        return int(self.train_images.shape[1])

    @cached_property
    def train_images(self) -> UInt8:
        """(M, C, S, S): all training images of the source, those for validation included."""
        return self.packed.array("train_images")

    @cached_property
    def train_labels(self) -> Int64:
        """(M,): classes of ``train_images``."""
        return self.packed.array("train_labels")

    @cached_property
    def test_images(self) -> UInt8:
        """(T, C, S, S): the test images."""
        return self.packed.array("test_images")

    @cached_property
    def test_labels(self) -> Int64:
        """(T,): classes of ``test_images``."""
        return self.packed.array("test_labels")

    @cached_property
    def overlap(self) -> Overlap:
        """How many images have copies where they should not be."""
        train, test = (self.train_images, self.train_labels), (self.test_images, self.test_labels)
        return find_overlap(train, test, self.train_index, self.val_index)

    def overlap_warning(self, margin: float) -> str:
        """What is said of test and validation images that are also training images; empty if ``margin`` (pp) covers them."""
        seen = {"test": (self.overlap.test, len(self.test_labels)), "validation": (self.overlap.val, len(self.val_index))}
        return overlap_warning(seen, margin)

    def __getstate__(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}  # without the opened arrays


def prepare(config: DataConfig, progress: Progress | None = None) -> Resident:
    """Make the data set ready: find its packed form, or download, read and pack it; split it; compute mean and deviation.

    Args:
        config: ``data.*``; validated.
        progress: called with (what is done, units done, units in all or 0) during long work; None: nobody is told.

    Raises:
        ConfigError: if a key asks for what the data cannot give.
        DataError: if files cannot be downloaded, read, understood or written.
    """
    data = open_packed(config, progress or (lambda *_: None))
    train_index, val_index = _split(config, data.array("train_labels"), data.class_names)
    mean, std = normalisation(data.array("moments")[train_index], config.size)
    channels = len(mean)
    in_channels = config.channels or channels
    if in_channels < channels:
        raise ConfigError(
            f"data.channels={in_channels} is not possible: {config.name} has colour images; allowed is 3 or null (as they are)."
        )
    repeat = in_channels // channels
    return Resident(
        name=str(config.name),
        size=config.size,
        in_channels=in_channels,
        train_index=train_index,
        val_index=val_index,
        mean=np.tile(mean, repeat),
        std=np.tile(std, repeat),
        packed=data,
    )


def training_normalisation(data: Packed, config: DataConfig) -> tuple[Float64, Float64]:
    """As ``normalisation``, of those images of a packed data set that ``config`` trains on. Raises as ``prepare``."""
    train_index, _ = _split(config, data.array("train_labels"), data.class_names)
    return normalisation(data.array("moments")[train_index], config.size)


def normalisation(moments: Int64, size: int) -> tuple[Float64, Float64]:
    """Mean and standard deviation (biased) of each channel, for pixel values scaled to 0..1.

    The sums are exact integers, so the result does not depend on the order or grouping of the images.

    Args:
        moments: (N, C, 2) of ``image_moments``.
        size: side of the images, pixels.

    Returns:
        ``(mean, std)``, each (C,); ``std`` is 1 if the images do not vary.
    """
    n = len(moments) * size * size
    mean, std = [], []
    for total, squares in moments.sum(0).tolist():  # Python integers: n * squares exceeds 64 bits
        mean.append(total / n / 255)
        std.append((n * squares - total * total) ** 0.5 / n / 255 or 1.0)
    return np.array(mean), np.array(std)


def _split(config: DataConfig, labels: Int64, class_names: tuple[str, ...]) -> tuple[Int64, Int64]:
    """Choose the validation images, then ``train_size`` of the rest; each stratified and with its own random stream."""
    train, val = stratified_split(labels, config.val_fraction, numpy_generator(config.split_seed, "split/val"))
    if config.val_fraction > 0 and not len(val):
        raise ConfigError(
            f"data.val_fraction={config.val_fraction:g} of {len(labels)} training images is none: raise it, or set "
            "data.val_fraction=0 to do without validation."
        )
    _require_every_class(labels[train], class_names, f"data.val_fraction={config.val_fraction:g}", "lower it or add images")
    if config.train_size is not None:
        if config.train_size > len(train):
            raise too_large(config, len(train), len(val))
        generator = numpy_generator(config.split_seed, "split/train_size")
        train = train[stratified_choice(labels[train], config.train_size, generator)]
        _require_every_class(labels[train], class_names, f"data.train_size={config.train_size}", "raise it")
    return train, val


def _require_every_class(labels: Int64, class_names: tuple[str, ...], setting: str, remedy: str) -> None:
    counts = np.bincount(labels, minlength=len(class_names))
    if not counts.all():
        empty = class_names[int(counts.argmin())]
        raise ConfigError(f"{setting} leaves no training image of class {empty}: {remedy}.")
