"""Every data set as uint8 arrays: raw files in, ``RawData`` out.

torchvision knows where the published data sets lie, their checksums, and how their files are read; it is imported only
when a data set is made for the first time."""

from __future__ import annotations

import gzip
import logging
import math
import tarfile
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from bnexp.config.options import DataName
from bnexp.config.schema import ConfigError, DataConfig
from bnexp.data.download import DataError, Progress, RawFile, md5_of, mirrored, obtain, raw_roots
from bnexp.data.folder import load_image_folder
from bnexp.data.images import RawData, UInt8, fit
from bnexp.data.npz import load_npz
from bnexp.data.splits import stratified_split
from bnexp.rng import numpy_generator

__all__ = ["DataError", "Progress", "RawData", "load"]

log = logging.getLogger(__name__)

TORCHVISION_CLASS = {
    DataName.mnist: "MNIST",
    DataName.fashion_mnist: "FashionMNIST",
    DataName.kmnist: "KMNIST",
    DataName.cifar10: "CIFAR10",
    DataName.cifar100: "CIFAR100",
    DataName.svhn: "SVHN",
}

# Many people keep only the unpacked files, whose checksums torchvision does not have.
UNPACKED_MD5 = {
    "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
DIGITS_FILE = Path(__file__).with_name("digits.npz")
MAX_IDX_BYTES = 1 << 28  # five times the largest of these files


def load(config: DataConfig, scratch: Path, progress: Progress) -> RawData:
    """Read the data set, downloading what is missing; images come as (N, C, S, S) with S = ``config.size``.

    Args:
        config: which data set, where, and how large its images shall be.
        scratch: an empty directory for temporary files, of the caller's making and removal.
        progress: told what is being done.

    Raises:
        ConfigError: if ``data.root`` does not name what it should.
        DataError: if files cannot be downloaded, read or understood.
    """
    if config.name is DataName.image_folder:
        return load_image_folder(config, scratch, progress)
    if config.name is DataName.npz:
        raw = load_npz(config)
    elif config.name is DataName.digits:
        raw = _digits()
    else:
        raw = _published(config, scratch, progress)
    return RawData(
        fit(raw.train_images, config.size, progress),
        raw.train_labels,
        fit(raw.test_images, config.size, progress),
        raw.test_labels,
        raw.class_names,
    )


def _digits() -> RawData:
    """The digits that bnexp carries (see ``digits.LICENSE``), 0..16 stretched to 0..255; a fixed fifth is the test set."""
    with np.load(DIGITS_FILE) as arrays:
        images = np.rint(arrays["images"].astype(np.float64) * (255 / 16)).astype(np.uint8)[:, None]
        labels = arrays["labels"].astype(np.int64)
    train, test = stratified_split(labels, 0.2, numpy_generator(0, "split/digits"))
    return RawData(images[train], labels[train], images[test], labels[test], tuple(map(str, range(10))))


def _published(config: DataConfig, scratch: Path, progress: Progress) -> RawData:
    roots = raw_roots(config.root)
    if config.root and not roots[0].is_dir():
        raise ConfigError(
            f"data.root={config.root} is not a directory: name the one that holds the raw files of {config.name}, or leave "
            "data.root away to look in BNEXP_DATA_DIR and then download."
        )
    from torchvision import datasets

    source = getattr(datasets, TORCHVISION_CLASS[config.name])
    if config.name is DataName.svhn:
        return _svhn(source, roots, progress)
    if config.name in (DataName.cifar10, DataName.cifar100):
        return _cifar(config.name, source, roots, scratch, progress)
    return _mnist(config.name, source, roots, progress)


def _mnist(name: DataName, source: Any, roots: list[Path], progress: Progress) -> RawData:
    """MNIST and the sets of its format, from ``<root>/<class>/raw``, compressed or not."""
    arrays = []
    for (filename, md5), shape in zip(source.resources, [(28, 28), ()] * 2, strict=True):
        relative = f"{source.__name__}/raw/{filename}"
        array = _unpacked_idx(relative.removesuffix(".gz"), roots, shape)
        if array is None:
            urls = mirrored(name, [base + filename for base in source.mirrors])
            array = read_idx(obtain(RawFile(relative, md5, urls), roots, progress))
        arrays.append(array)
    train_images, train_labels, test_images, test_labels = arrays
    for images, labels in ((train_images, train_labels), (test_images, test_labels)):
        if len(images) != len(labels) or labels.max() >= len(source.classes):
            raise DataError(
                f"The files of {source.__name__}/raw in {', '.join(map(str, roots))} do not belong together ({len(images):,} "
                f"images, {len(labels):,} labels up to {labels.max()}): remove those without .gz, so that they are downloaded."
            )
    return RawData(
        train_images[:, None],
        train_labels.astype(np.int64),
        test_images[:, None],
        test_labels.astype(np.int64),
        tuple(str(label).split(" - ")[0] for label in source.classes),  # "0 - zero" is read as "0"
    )


def _unpacked_idx(relative: str, roots: list[Path], shape: tuple[int, ...]) -> UInt8 | None:
    """The array of the first whole file below ``roots``. ``shape``: of one image, ``()`` for labels."""
    for root in roots:
        path = root / relative
        if not path.is_file():
            continue
        try:
            if relative in UNPACKED_MD5 and md5_of(path) != UNPACKED_MD5[relative]:
                raise ValueError("wrong checksum")
            array = read_idx(path)
            if array.shape[1:] != shape or not array.size:
                raise ValueError(f"shape {array.shape}, should be {('N', *shape)}")
            return array
        except (ValueError, OSError) as error:
            log.warning("%s is damaged (%s), so it is not used.", path, error)
    return None


def read_idx(path: Path) -> UInt8:
    """An IDX file of bytes, compressed if its name ends in ``.gz``. Raises ValueError if its size is not what it announces.

    Format: two zero bytes, type 8 (uint8), number of dimensions, each dimension as big-endian uint32, then the data.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(4)
            if start[:3] != b"\x00\x00\x08" or len(start) < 4:
                raise ValueError("not an IDX file of bytes")
            shape = tuple(np.frombuffer(file.read(4 * start[3]), ">u4").tolist())
            size = math.prod(shape)
            if len(shape) != start[3] or size > MAX_IDX_BYTES:
                raise ValueError(f"announces shape {shape}")
            content = file.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"cannot be unpacked: {error}") from error
    if len(content) != size:
        raise ValueError(f"announces {size:,} bytes, has {'more' if len(content) > size else f'{len(content):,}'}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _cifar(name: DataName, source: Any, roots: list[Path], scratch: Path, progress: Progress) -> RawData:
    """CIFAR from its unpacked folder where all of its checksums hold, else from the archive, unpacked into ``scratch``."""
    for root in roots:
        if (root / source.base_folder).is_dir():
            try:
                return _read_cifar(source, root)
            except RuntimeError:
                log.warning("%s is incomplete or damaged, so it is not used.", root / source.base_folder)
    archive = obtain(RawFile(source.filename, source.tgz_md5, mirrored(name, [source.url])), roots, progress)
    progress(f"unpacking {archive.name}", 0, 1)
    with tarfile.open(archive) as tar:
        tar.extractall(scratch, filter="data")
    return _read_cifar(source, scratch)


def _read_cifar(source: Any, root: Path) -> RawData:
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


def _svhn(source: Any, roots: list[Path], progress: Progress) -> RawData:
    parts = []
    for split in ("train", "test"):
        url, filename, md5 = source.split_list[split]
        path = obtain(RawFile(filename, md5, mirrored(DataName.svhn, [url])), roots, progress)
        parts.append(source(path.parent, split=split))
    train, test = parts
    return RawData(train.data, train.labels, test.data, test.labels, tuple(map(str, range(10))))
