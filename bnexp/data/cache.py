"""Data sets as packed uint8 arrays on disk, made once and then memory-mapped by every process.

A packed data set is a directory of ``.npy`` files and a ``meta.json`` with their sizes. It is made in a temporary
neighbour and renamed whole; a lock file lets one process make it while others wait. One whose sizes are wrong is made anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexp.config import DataConfig
from bnexp.data.download import DataError, Progress, cache_dir
from bnexp.data.folder import has_test_folder, image_root, scan
from bnexp.data.images import Int64, RawData, UInt8
from bnexp.data.npz import npz_path
from bnexp.options import DataName

VERSION = 1  # raise it when the packed form, or what goes into it, changes
MOMENTS_CHUNK = 2048

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packed:
    """A whole packed data set. ``fingerprint``: hash of images, labels and class names."""

    path: Path
    class_names: tuple[str, ...]
    fingerprint: str

    def array(self, name: str) -> NDArray[Any]:
        """``train_images``, ``test_images`` (N, C, S, S) uint8; ``train_labels``, ``test_labels`` (N,) int64; ``moments``.

        Memory-mapped: all processes share the pages. Writing to the array changes a private copy, never the file.
        """
        return np.asarray(np.load(self.path / f"{name}.npy", mmap_mode="c"))


def cache_key(config: DataConfig) -> str:
    """The directory name of the packed data set: equal for equal content, without reading any image.

    The user's own files are known by path, size and time of change: the last part of the name, after one for where they are
    and how they are used. Raises ConfigError if they are not there.
    """
    key = f"{config.name}-{config.size}-v{VERSION}"
    if config.name is DataName.image_folder:
        root = image_root(config)
        files = scan(root)
        place: list[object] = [str(root)]
        content: list[object] = [(file.path, file.bytes, file.changed) for file in files]
        own_split = not has_test_folder(files)
    elif config.name is DataName.npz:
        path = npz_path(config)
        stat = path.stat()
        place, content = [str(path)], [stat.st_size, stat.st_mtime_ns]
        own_split = True  # whether the file has a test set is not known without opening it
    else:
        return key
    if own_split:
        place += [config.test_fraction, config.split_seed]
    return f"{key}-{_hash(place)}-{_hash(content)}"


def _hash(values: list[object]) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:20]


def open_packed(config: DataConfig, load: Callable[[DataConfig, Path, Progress], RawData], progress: Progress) -> Packed:
    """Find the packed data set, or make it from ``load(config, scratch, progress)``; another process may be doing so.

    Raises whatever ``load`` raises, and DataError if the cache directory cannot be written.
    """
    path = cache_dir() / "packed" / cache_key(config)
    found = _find(path)
    if found:
        return found
    from filelock import FileLock, Timeout

    with _cache_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress(f"waiting for another process that prepares {config.name}", 0, 0)
            lock.acquire()
    try:
        return _find(path) or _make(path, config, load, progress)
    finally:
        lock.release()


@contextmanager
def _cache_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"The cache {directory} cannot be written ({error.strerror or error}): free some space, "
            "or set BNEXP_CACHE_DIR to another folder."
        ) from error


def _find(path: Path) -> Packed | None:
    """The packed data set at ``path`` if it is there and every file has the size that was recorded."""
    if not path.is_dir():
        return None
    try:
        meta = json.loads((path / "meta.json").read_text())
        wrong = [name for name, size in meta["bytes"].items() if (path / name).stat().st_size != size]
        if not wrong:
            return Packed(path, tuple(meta["class_names"]), meta["fingerprint"])
        log.warning("%s is damaged: it is made anew.", path / wrong[0])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        log.warning("%s is damaged: it is made anew.", path)
    return None


def _make(path: Path, config: DataConfig, load: Callable[[DataConfig, Path, Progress], RawData], progress: Progress) -> Packed:
    with _cache_errors(path.parent):
        for left_over in path.parent.glob(f".{path.name}.*.tmp"):  # the lock is held, so nobody is at work on these
            shutil.rmtree(left_over)
        work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        scratch, new = work / "scratch", work / "new"
        scratch.mkdir()
        new.mkdir()
    try:
        raw = load(config, scratch, progress)
        with _cache_errors(path.parent):
            _write(new, raw, config.name, progress)
            if path.exists():
                path.rename(work / "old")
            new.rename(path)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    made = _find(path)
    if made is None:
        raise DataError(f"{path} changed while it was made: check the disk, then try again.")
    if config.name in (DataName.image_folder, DataName.npz):
        for old in path.parent.glob(f"{path.name.rsplit('-', 1)[0]}-*"):
            if old != path:  # the files have changed since: nothing will ask for it again
                shutil.rmtree(old, ignore_errors=True)
    return made


def _write(path: Path, raw: RawData, name: str, progress: Progress) -> None:
    digest = hashlib.sha256(repr(raw.class_names).encode())
    arrays: dict[str, NDArray[Any]] = {
        "train_images": raw.train_images,
        "train_labels": raw.train_labels,
        "test_images": raw.test_images,
        "test_labels": raw.test_labels,
    }
    for i, (key, array) in enumerate(arrays.items()):
        progress(f"packing {name}", i, len(arrays) + 1)
        contiguous = np.ascontiguousarray(array)
        np.save(path / f"{key}.npy", contiguous)
        digest.update(repr((key, array.shape)).encode())
        digest.update(contiguous.data)
    progress(f"packing {name}", len(arrays), len(arrays) + 1)
    np.save(path / "moments.npy", image_moments(raw.train_images))
    progress(f"packing {name}", len(arrays) + 1, len(arrays) + 1)
    meta = {
        "class_names": list(raw.class_names),
        "fingerprint": digest.hexdigest()[:20],
        "bytes": {file.name: file.stat().st_size for file in sorted(path.glob("*.npy"))},
    }
    (path / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")


def image_moments(images: UInt8) -> Int64:
    """(N, C, 2): sum of the pixel values and of their squares, exact, for each image and channel.

    With these, mean and deviation of any part of the images follow without reading a pixel.
    """
    moments = np.empty((*images.shape[:2], 2), np.int64)
    for start in range(0, len(images), MOMENTS_CHUNK):
        part = images[start : start + MOMENTS_CHUNK].reshape(-1, images.shape[1], images.shape[2] * images.shape[3])
        moments[start : start + MOMENTS_CHUNK, :, 0] = part.sum(2, dtype=np.int64)
        moments[start : start + MOMENTS_CHUNK, :, 1] = np.square(part, dtype=np.uint16).sum(2, dtype=np.int64)
    return moments
