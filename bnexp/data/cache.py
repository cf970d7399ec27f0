"""Data sets as packed uint8 arrays on disk, made once and then memory-mapped by every process.

A packed data set is a directory of ``.npy`` files and a ``meta.json`` with its fingerprint. It is made in a temporary
directory beside its place, then renamed whole. A lock file lets one process make it while others wait. Each process compares
the content with the fingerprint before it first uses it. A damaged data set is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexp.config.schema import DataConfig
from bnexp.data.download import DataError, Progress, cache_dir, cache_errors
from bnexp.data.images import Int64, RawData, UInt8
from bnexp.data.own import own_format
from bnexp.data.sources import load

VERSION = 1  # raise it when the packed form, or what goes into it, changes
CHUNK_IMAGES = 2048
SLOW_BYTES = 1 << 30  # checking as much takes more than a second, so progress is shown
DTYPES: dict[str, type[np.generic]] = {
    "train_images": np.uint8,
    "train_labels": np.int64,
    "test_images": np.uint8,
    "test_labels": np.int64,
    "moments": np.int64,
}

log = logging.getLogger(__name__)
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


def packed_path(config: DataConfig) -> Path:
    """The directory of the packed data set, whether it has been made or not. Raises as ``cache_key``."""
    return cache_dir() / "packed" / cache_key(config)


def cache_key(config: DataConfig) -> str:
    """The name of that directory: equal for equal content, without reading any image.

    The user's own files are known by path, size and time of change. Their name has two more parts: one for where they are
    and how they are used, and a last one for sizes and times.

    Raises:
        ConfigError: if the user's own files are not there.
        DataError: if they cannot be listed.
    """
    key = f"{config.name}-{config.size}-v{VERSION}"
    own = own_format(config)
    if own is None:
        return key
    place, content, has_test_set = own.state(config)
    split: list[object] = [] if has_test_set else [config.test_fraction, config.split_seed]
    return f"{key}-{_hash([place, *split])}-{_hash(content)}"


def _hash(values: list[object]) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:20]


def open_packed(config: DataConfig, progress: Progress) -> Packed:
    """Find the packed data set, or make it; another process may be doing so.

    Raises whatever ``sources.load`` raises, and DataError if the cache directory cannot be written.
    """
    path = packed_path(config)
    found = _find(path, config.name, progress)
    if isinstance(found, Packed):
        return found
    try:
        with _locked(path, config.name, progress):
            found = _find(path, config.name, progress)  # another process may have made it in the meantime
            if isinstance(found, Packed):
                return found
            if found:
                log.warning("%s is damaged: %s is packed again.", found, config.name)
            return _make(path, config, progress)
    except DataError as error:
        if not found:
            raise
        raise DataError(f"{found} is damaged and {config.name} cannot be packed again: {error}") from error


@contextmanager
def _locked(path: Path, name: str, progress: Progress) -> Iterator[None]:
    """One process at a time; the others wait."""
    from filelock import FileLock, Timeout

    with cache_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress(f"waiting for another process that prepares {name}", 0, 0)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _find(path: Path, name: str, progress: Progress) -> Packed | Path | None:
    """The packed data set at ``path`` if it is whole, else the damaged file or directory, or None if there is nothing.

    The content is compared once per process, and again only if a file has changed since.
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
    if _fingerprint(packed.class_names, arrays, name, progress) != packed.fingerprint:
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
            found = _find(meta.parent, "packed data", lambda *_: None)
            if isinstance(found, Packed) and found.fingerprint == fingerprint:
                return found
    return None


def _fingerprint(class_names: tuple[str, ...], arrays: dict[str, NDArray[Any]], name: str, progress: Progress) -> str:
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


def _make(path: Path, config: DataConfig, progress: Progress) -> Packed:
    with cache_errors(path.parent):
        for left_over in path.parent.glob(f".{path.name}.*.tmp"):  # the lock is held, so no process works on these
            shutil.rmtree(left_over)
        work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        scratch, new = work / "scratch", work / "new"
        scratch.mkdir()
        new.mkdir()
    try:
        raw = load(config, scratch, progress)
        with cache_errors(path.parent):
            _write(new, raw, config.name, progress)
            if os.path.lexists(path):
                path.rename(work / "old")
            new.rename(path)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    made = _find(path, config.name, progress)
    if not isinstance(made, Packed):
        raise DataError(f"{path} changed while it was made: check the disk, then try again.")
    if config.name.own_files:
        for old in path.parent.glob(f"{path.name.rsplit('-', 1)[0]}-*"):
            if old != path:  # packed before the files changed, so never used again
                shutil.rmtree(old, ignore_errors=True)
    return made


def _write(path: Path, raw: RawData, name: str, progress: Progress) -> None:
    arrays = {key: getattr(raw, key) for key in DTYPES if key != "moments"}
    for i, (key, array) in enumerate(arrays.items()):
        progress(f"packing {name}", i, len(DTYPES))
        np.save(path / f"{key}.npy", np.ascontiguousarray(array))
    progress(f"packing {name}", len(arrays), len(DTYPES))
    np.save(path / "moments.npy", image_moments(raw.train_images))
    progress(f"packing {name}", len(DTYPES), len(DTYPES))
    meta = {"class_names": raw.class_names, "fingerprint": _fingerprint(raw.class_names, arrays, name, progress)}
    (path / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")


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
