"""Packed data sets are made once, and found again by every process.

A data set is packed in a temporary directory beside its place, then renamed whole. A lock file lets one process pack it while
others wait. A damaged data set is packed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bnexp.config.schema import DataConfig
from bnexp.data.catalogue import CATALOGUE
from bnexp.data.download import DataError, Progress, cache_dir, cache_errors
from bnexp.data.images import RawData
from bnexp.data.own import own_format
from bnexp.data.packed import DTYPES, Packed, check_packed, content_hash, image_moments
from bnexp.data.sources import load

VERSION = 1  # raise it when the packed form, or what goes into it, changes

log = logging.getLogger(__name__)


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


def count_train_images(config: DataConfig) -> int:
    """The number of training images, those for validation included.

    The catalogue has it for published data sets. The user's own files are counted without reading an image; what a function of
    the user's returns is packed for it.

    Raises:
        ConfigError: if ``data.root`` does not name what it should.
        DataError: if the user's own images cannot be read or understood.
    """
    own = own_format(config)
    if own is None:
        return CATALOGUE[config.name].num_train
    return own.count(config) if own.count else len(open_packed(config, lambda *_: None).array("train_labels"))


def _hash(values: list[object]) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:20]


def open_packed(config: DataConfig, progress: Progress) -> Packed:
    """Find the packed data set, or make it; another process may be doing so.

    Raises whatever ``sources.load`` raises, and DataError if the cache directory cannot be written.
    """
    path = packed_path(config)
    found = check_packed(path, config.name, progress)
    if isinstance(found, Packed):
        return found
    try:
        with _locked(path, config.name, progress):
            found = check_packed(path, config.name, progress)  # another process may have made it in the meantime
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
    made = check_packed(path, config.name, progress)
    if not isinstance(made, Packed):
        raise DataError(f"{path} changed while it was made: check the disk, then try again.")
    if config.name.is_own:
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
    meta = {"class_names": raw.class_names, "fingerprint": content_hash(raw.class_names, arrays, name, progress)}
    (path / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
