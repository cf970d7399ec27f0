"""Every data set as uint8 arrays: raw files in, ``RawData`` out."""

from __future__ import annotations

import logging
import tarfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bnexp.config.schema import DataConfig
from bnexp.data.catalogue import CATALOGUE, Format
from bnexp.data.download import Progress, mirrored, obtain, published_roots
from bnexp.data.folder import load_image_folder
from bnexp.data.idx import load_idx
from bnexp.data.images import RawData, fit
from bnexp.data.made import load_made
from bnexp.data.npz import load_npz
from bnexp.data.splits import stratified_split
from bnexp.rng import numpy_generator

DIGITS_FILE = Path(__file__).with_name("digits.npz")

log = logging.getLogger(__name__)


def load(config: DataConfig, scratch: Path, progress: Progress) -> RawData:
    """Read the data set, downloading what is missing.

    Args:
        config: which data set, where, and how large its images shall be.
        scratch: an empty directory for temporary files; the caller makes and removes it.
        progress: told what is being done.

    Returns:
        The data set, its images (N, C, S, S) with S = ``config.size``.

    Raises:
        ConfigError: if ``data.root`` does not name what it should.
        DataError: if files cannot be downloaded, read or understood.
    """
    raw = READERS[CATALOGUE[config.name].format](config, scratch, progress)
    return replace(
        raw,
        train_images=fit(raw.train_images, config.size, progress),
        test_images=fit(raw.test_images, config.size, progress),
    )


def _load_digits(config: DataConfig, _: Path, __: Progress) -> RawData:
    """The digits that bnexp carries (see ``digits.LICENSE``), 0..16 stretched to 0..255; a fixed fifth is the test set."""
    with np.load(DIGITS_FILE) as arrays:
        images = np.rint(arrays["images"].astype(np.float64) * (255 / 16)).astype(np.uint8)[:, None]
        labels = arrays["labels"].astype(np.int64)
    train, test = stratified_split(labels, 0.2, numpy_generator(0, "split/digits"))
    return RawData(images[train], labels[train], images[test], labels[test], CATALOGUE[config.name].class_names)


def _load_cifar(config: DataConfig, scratch: Path, progress: Progress) -> RawData:
    """CIFAR from its unpacked folder if all checksums in it hold, else from the archive, unpacked into ``scratch``."""
    from torchvision import datasets

    known, roots = CATALOGUE[config.name], published_roots(config)
    source = getattr(datasets, known.torchvision)
    for root in roots:
        if (root / source.base_folder).is_dir():
            try:
                return _read_cifar(source, root)
            except RuntimeError:
                log.warning("%s is incomplete or damaged, so it is not used.", root / source.base_folder)
    (file,) = known.files
    archive = obtain(mirrored(config.name, file), roots, progress)
    progress(f"unpacking {archive.name}", 0, 1)
    with tarfile.open(archive) as tar:
        tar.extractall(scratch, filter="data")
    return _read_cifar(source, scratch)


def _read_cifar(source: Any, root: Path) -> RawData:
    """Read with torchvision, which compares the checksum of each file before it unpickles it."""
    with warnings.catch_warnings():
        # The published pickles say dtype(align=0), which NumPy 2.4 dislikes.
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        train, test = source(root, train=True), source(root, train=False)
    return RawData(
        train.data.transpose(0, 3, 1, 2),
        np.asarray(train.targets, np.int64),
        test.data.transpose(0, 3, 1, 2),
        np.asarray(test.targets, np.int64),
        tuple(train.classes),
    )


def _load_svhn(config: DataConfig, _: Path, progress: Progress) -> RawData:
    """SVHN from its MATLAB files, which call the digit 0 class 10."""
    from scipy.io import loadmat

    known, roots = CATALOGUE[config.name], published_roots(config)
    train, test = (loadmat(obtain(mirrored(config.name, file), roots, progress)) for file in known.files)
    return RawData(
        train["X"].transpose(3, 2, 0, 1),
        train["y"][:, 0].astype(np.int64) % 10,
        test["X"].transpose(3, 2, 0, 1),
        test["y"][:, 0].astype(np.int64) % 10,
        known.class_names,
    )


# Each gives images of the size in their files, except for the image folder's, which gives them resized.
READERS: dict[Format, Callable[[DataConfig, Path, Progress], RawData]] = {
    Format.digits: _load_digits,
    Format.idx: load_idx,
    Format.cifar: _load_cifar,
    Format.svhn: _load_svhn,
    Format.image_folder: load_image_folder,
    Format.npz: load_npz,
    Format.python: load_made,
}
