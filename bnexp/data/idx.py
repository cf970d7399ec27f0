"""MNIST and the data sets in its format: four files of bytes, compressed or not."""

from __future__ import annotations

import gzip
import logging
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bnexp.config.schema import DataConfig
from bnexp.data.catalogue import CATALOGUE, RawFile
from bnexp.data.download import DataError, Progress, md5_of, mirrored, obtain, published_roots
from bnexp.data.images import RawData, UInt8

MAX_BYTES = 1 << 28  # of an unpacked file; five times the largest

log = logging.getLogger(__name__)


def load_idx(config: DataConfig, _: Path, progress: Progress) -> RawData:
    """Read the four files of the catalogue, unpacked or compressed; see ``sources.load``."""
    known, roots = CATALOGUE[config.name], published_roots(config)
    arrays = []
    for file, shape in zip(known.files, [(28, 28), ()] * 2, strict=True):
        array = _unpacked(file, roots, shape)
        if array is None:
            array = read_idx(obtain(mirrored(config.name, file), roots, progress))
        arrays.append(array)
    train_images, train_labels, test_images, test_labels = arrays
    for images, labels in ((train_images, train_labels), (test_images, test_labels)):
        if len(images) != len(labels) or labels.max() >= known.num_classes:
            raise DataError(
                f"The files of {Path(known.files[0].path).parent} in {', '.join(map(str, roots))} do not belong together "
                f"({len(images):,} images, {len(labels):,} labels up to {labels.max()}): remove those without .gz, so that "
                "they are downloaded."
            )
    return RawData(
        train_images[:, None],
        train_labels.astype(np.int64),
        test_images[:, None],
        test_labels.astype(np.int64),
        known.class_names,
    )


def _unpacked(file: RawFile, roots: Sequence[Path], shape: tuple[int, ...]) -> UInt8 | None:
    """The first whole unpacked file below ``roots``; ``shape`` is that of one image, ``()`` for labels."""
    for root in roots:
        path = root / file.path.removesuffix(".gz")
        if not path.is_file():
            continue
        try:
            if file.unpacked_md5 and md5_of(path) != file.unpacked_md5:
                raise ValueError("wrong checksum")
            array = read_idx(path)
            if array.shape[1:] != shape or not array.size:
                raise ValueError(f"shape {array.shape}, should be {('N', *shape)}")
            return array
        except (ValueError, OSError) as error:
            log.warning("%s is damaged (%s), so it is not used.", path, error)
    return None


def read_idx(path: Path) -> UInt8:
    """Read an IDX file of bytes; it is compressed if its name ends in ``.gz``.

    Format: two zero bytes, type 8 (uint8), number of dimensions, each dimension as big-endian uint32, then the data.

    Raises:
        ValueError: if the file has another format, or another size than it announces.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(4)
            if start[:3] != b"\x00\x00\x08" or len(start) < 4:
                raise ValueError("not an IDX file of bytes")
            shape = tuple(np.frombuffer(file.read(4 * start[3]), ">u4").tolist())
            size = math.prod(shape)
            if len(shape) != start[3] or size > MAX_BYTES:
                raise ValueError(f"announces shape {shape}")
            content = file.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"cannot be unpacked: {error}") from error
    if len(content) != size:
        raise ValueError(f"announces {size:,} bytes, has {'more' if len(content) > size else f'{len(content):,}'}")
    return np.frombuffer(content, np.uint8).reshape(shape)
