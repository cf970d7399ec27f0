"""A packed data set: a directory of ``.npy`` files, and a ``meta.json`` with a fingerprint of what is in them.

Every process memory-maps the same files. Each compares the content with the fingerprint before it first uses it.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexp.data.download import Progress, cache_dir
from bnexp.data.images import Int64, UInt8

CHUNK_IMAGES = 2048
SLOW_BYTES = 1 << 30  # checking as much takes more than a second, so progress is shown
DTYPES: dict[str, type[np.generic]] = {
    "train_images": np.uint8,
    "train_labels": np.int64,
    "test_images": np.uint8,
    "test_labels": np.int64,
    "moments": np.int64,
}

# Path -> state of its files when this process last compared the content.
_checked: dict[Path, list[tuple[int, int, int]]] = {}


@dataclass(frozen=True)
class Packed:
    """A packed data set that is whole.

    Args:
        path: its directory.
        class_names: names of the classes in the order of the labels.
        fingerprint: hash of images, labels and class names.
    """

    path: Path
    class_names: tuple[str, ...]
    fingerprint: str

    def array(self, name: str) -> NDArray[Any]:
        """One array, memory-mapped, so that all processes share the pages. Writing to it changes a private copy.

        Args:
            name: ``train_images`` or ``test_images`` (N, C, S, S) uint8; ``train_labels`` or ``test_labels`` (N,) int64;
                ``moments`` of the training images, see ``image_moments``.
        """
        return np.asarray(np.lib.format.open_memmap(self.path / f"{name}.npy", mode="c"))


def check_packed(path: Path, name: str, progress: Progress) -> Packed | Path | None:
    """Look for a packed data set, and check its content once per process, or again if a file has changed since.

    Args:
        path: its directory.
        name: what progress calls it.
        progress: told of a check that takes long.

    Returns:
        The data set if it is whole, else the damaged file or directory; None if there is nothing.
    """
    if not os.path.lexists(path):
        return None
    try:
        meta = json.loads((path / "meta.json").read_text())
        packed = Packed(path, tuple(meta["class_names"]), meta["fingerprint"])
        state = [(stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in map(os.stat, sorted(path.iterdir()))]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return path / "meta.json"
    if _checked.get(path) != state:
        damaged = _damaged(packed, name, progress)
        if damaged:
            return damaged
        _checked[path] = state
    return packed


def _damaged(packed: Packed, name: str, progress: Progress) -> Path | None:
    """The file of ``packed`` that has changed, or the directory if it could be any of them; None if all are whole."""
    arrays = {}
    for key, dtype in DTYPES.items():
        try:
            arrays[key] = packed.array(key)
        except Exception:  # NumPy raises many kinds for a broken header
            return packed.path / f"{key}.npy"
        if arrays[key].dtype != dtype:
            return packed.path / f"{key}.npy"
    if content_hash(packed.class_names, arrays, name, progress) != packed.fingerprint:
        return packed.path
    if not np.array_equal(arrays["moments"], image_moments(arrays["train_images"])):
        return packed.path / "moments.npy"
    return None


def find_packed(fingerprint: str) -> Packed | None:
    """The packed data set with this fingerprint, wherever its raw files are now; None if the cache has none. Packs nothing."""
    if not fingerprint:
        return None
    for meta in sorted((cache_dir() / "packed").glob("[!.]*/meta.json")):
        with suppress(OSError, UnicodeDecodeError):
            if fingerprint not in meta.read_text():
                continue
            found = check_packed(meta.parent, "packed data", lambda *_: None)
            if isinstance(found, Packed) and found.fingerprint == fingerprint:
                return found
    return None


def content_hash(class_names: tuple[str, ...], arrays: dict[str, NDArray[Any]], name: str, progress: Progress) -> str:
    """The hash of class names, images and labels. Records hold it, so it must never change for equal content."""
    digest = hashlib.sha256(repr(class_names).encode())
    for key, array in arrays.items():
        if key == "moments":
            continue
        digest.update(repr((key, array.shape)).encode())
        for start in range(0, len(array), CHUNK_IMAGES):
            digest.update(np.ascontiguousarray(array[start : start + CHUNK_IMAGES]).data)
            if array.nbytes >= SLOW_BYTES:
                progress(f"checking {name}", start, len(array))
    return digest.hexdigest()[:20]


def image_moments(images: UInt8) -> Int64:
    """The exact sum of the pixel values, and of their squares, for each image and channel.

    Mean and deviation of any part of the images follow from them without reading a pixel.

    Args:
        images: (N, C, S, S).

    Returns:
        (N, C, 2).
    """
    moments = np.empty((*images.shape[:2], 2), np.int64)
    for start in range(0, len(images), CHUNK_IMAGES):
        part = images[start : start + CHUNK_IMAGES].reshape(-1, images.shape[1], images.shape[2] * images.shape[3])
        moments[start : start + CHUNK_IMAGES, :, 0] = part.sum(2, dtype=np.int64)
        moments[start : start + CHUNK_IMAGES, :, 1] = np.square(part, dtype=np.uint16).sum(2, dtype=np.int64)
    return moments
