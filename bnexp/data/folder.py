"""The user's own images: one folder per class, below ``train/`` and ``test/`` or, with a part split off as test set, directly.

Every image is cut to its central square and resized, bilinear and antialiased. Images stay grey (one channel) only if all
of them are grey. Transparency is dropped. A photograph is turned as its EXIF tag says.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnexp.config.keys import did_you_mean
from bnexp.config.schema import ConfigError, DataConfig
from bnexp.data.decoding import decode, shown
from bnexp.data.download import DataError, Progress, cache_dir, cache_errors
from bnexp.data.images import MAX_CLASSES, FileState, Int64, RawData, UInt8, square
from bnexp.data.splits import split_off_test

CHUNK_IMAGES = 64
SMALL_FILE_BYTES = 16 * 1024
MAX_VISITS = 10  # of one directory; links may lead to it from several places, or from inside itself without end


@dataclass(frozen=True)
class ImageFile:
    """A file below ``data.root``.

    Args:
        path: relative to ``data.root``, with ``/``.
        bytes: size.
        changed: time of the last change, nanoseconds.
    """

    path: str
    bytes: int
    changed: int


def scan(root: Path) -> list[ImageFile]:
    """Every file below ``root`` that is not hidden, ordered by path. Opens none; 60,000 files take about 0.2 s."""
    files: list[ImageFile] = []
    visits: Counter[tuple[int, int]] = Counter()
    waiting = [(os.fspath(root), "")]
    try:
        while waiting:
            directory, prefix = waiting.pop()
            about = os.stat(directory)
            visits[about.st_dev, about.st_ino] += 1
            if visits[about.st_dev, about.st_ino] > MAX_VISITS:
                raise DataError(f"{shown(directory)} is reached again and again through links: remove the links.")
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        waiting.append((entry.path, f"{prefix}{entry.name}/"))
                        continue
                    about = entry.stat()
                    if not stat.S_ISREG(about.st_mode):
                        raise DataError(f"{shown(entry.path)} is neither a file nor a folder: remove it.")
                    files.append(ImageFile(prefix + entry.name, about.st_size, about.st_mtime_ns))
    except OSError as error:
        raise DataError(f"{shown(error.filename)} cannot be read ({error.strerror}): make it readable or remove it.") from error
    return sorted(files, key=lambda file: file.path)


def image_root(config: DataConfig) -> Path:
    """``data.root`` as a directory. Raises ConfigError if it is not one."""
    root = Path(config.root or "").expanduser()
    if not config.root or not root.is_dir():
        raise ConfigError(
            f"data.root={config.root} is not a directory: data=image_folder needs the one with one folder per class."
        )
    return root.resolve()


def folder_state(config: DataConfig) -> FileState:
    """What tells that the files have changed; see ``FileState``. Raises ConfigError and DataError as ``find_images``."""
    root = image_root(config)
    files = scan(root)
    return FileState(str(root), [(file.path, file.bytes, file.changed) for file in files], _has_test_folder(files))


def count_folder_images(config: DataConfig) -> int:
    """The number of training images; opens none. Raises ConfigError and DataError as ``find_images``."""
    return len(find_images(config).train)


def load_image_folder(config: DataConfig, scratch: Path, progress: Progress) -> RawData:
    """Read a folder of images, resized as they are read; see ``sources.load``."""
    found = find_images(config)
    images = _decode(found.root, found.train + found.test, config.size, scratch / "images", progress)
    num_train = len(found.train)
    return RawData(images[:num_train], found.train_labels, images[num_train:], found.test_labels, found.class_names)


@dataclass(frozen=True, eq=False)
class FoundImages:
    """The image files of a data set and the labels (N,) that their folders give them."""

    root: Path
    class_names: tuple[str, ...]
    train: list[ImageFile]
    train_labels: Int64
    test: list[ImageFile]
    test_labels: Int64


def find_images(config: DataConfig) -> FoundImages:
    """List the image files below ``data.root``; opens none.

    Raises:
        ConfigError: if ``data.root`` is not a directory, or ``data.test_fraction`` leaves a part without images.
        DataError: if the folders cannot be read, or are not arranged as they should be.
    """
    root = image_root(config)
    files = images_only(scan(root))
    if not files:
        raise DataError(f"No images below {root}: data=image_folder needs one folder per class with image files in it.")
    if _has_test_folder(files):
        train, test = _by_class(root, files, "train/"), _by_class(root, files, "test/")
    else:
        _reject_lone_train(root, files)
        train, test = _by_class(root, files, ""), {}
    classes = _class_names(root, train, test)
    train_files, train_labels = _labelled(train, classes)
    if test:
        return FoundImages(root, classes, train_files, train_labels, *_labelled(test, classes))
    kept, taken = split_off_test(config, train_labels)
    parts = ([train_files[i] for i in kept], train_labels[kept], [train_files[i] for i in taken], train_labels[taken])
    return FoundImages(root, classes, *parts)


def _has_test_folder(files: Iterable[ImageFile]) -> bool:
    """Whether the files lie in ``train/`` and ``test/`` rather than in class folders directly."""
    return {"train", "test"} <= {file.path.split("/", 1)[0] for file in files if "/" in file.path}


def images_only(files: list[ImageFile]) -> list[ImageFile]:
    """Those whose name ends as that of an image that Pillow reads."""
    from PIL import Image

    readable = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
    return [file for file in files if os.path.splitext(file.path)[1].lower() in readable]


def _reject_lone_train(root: Path, files: list[ImageFile]) -> None:
    """Raise DataError for ``train/`` without ``test/``, which would otherwise be read as a class named train."""
    if any(file.path.count("/") > 1 and file.path.startswith("train/") for file in files):
        raise DataError(
            f"{root} has train/ but no test/: add test/ with the same class folders, or set data.root={root / 'train'} to have "
            "data.test_fraction of its images split off."
        )


def _by_class(root: Path, files: list[ImageFile], prefix: str) -> dict[str, list[ImageFile]]:
    """The files of each class folder below ``root/prefix``; folders may be nested further."""
    classes: dict[str, list[ImageFile]] = {}
    folders = sorted(entry.name for entry in os.scandir(root / prefix) if entry.is_dir() and not entry.name.startswith("."))
    for name in folders:
        if shown(name) != name:
            raise DataError(f"The name of the folder {shown(root / prefix / name)} is not UTF-8: rename it.")
        classes[name] = []
    for file in files:
        inside = file.path.removeprefix(prefix)
        if file.path.startswith(prefix) and "/" in inside:
            classes[inside.split("/", 1)[0]].append(file)
    for name, members in classes.items():
        if not members:
            raise DataError(f"No images in {root / prefix / name}: put some there or remove the folder.")
    return classes


def _class_names(root: Path, train: dict[str, list[ImageFile]], test: dict[str, list[ImageFile]]) -> tuple[str, ...]:
    for name in test:
        if name not in train:
            raise DataError(
                f"{root / 'test' / name} is a class that {root / 'train'} does not have: name it as there or remove it."
                + did_you_mean(name, list(train))
            )
    if not 2 <= len(train) <= MAX_CLASSES:
        folders = "1 class folder" if len(train) == 1 else f"{len(train):,} class folders"
        raise DataError(f"{root} has {folders}: allowed are 2 to {MAX_CLASSES}, one for each class.")
    return tuple(train)


def _labelled(classes: dict[str, list[ImageFile]], names: tuple[str, ...]) -> tuple[list[ImageFile], Int64]:
    files = [file for members in classes.values() for file in members]
    label = {name: i for i, name in enumerate(names)}
    labels = [label[name] for name, members in classes.items() for _ in members]
    return files, np.asarray(labels, np.int64)


def _decode(root: Path, files: list[ImageFile], size: int, path: Path, progress: Progress) -> UInt8:
    """All images as (N, C, S, S), in an array backed by the file ``path``, because a folder may be larger than memory.

    The file is written, not mapped for writing: a full disk then raises an error and does not kill the process.
    """
    from PIL import Image

    def decode_chunk(start: int) -> tuple[UInt8, bool]:
        part = files[start : start + CHUNK_IMAGES]
        chunk = np.empty((len(part), 3, size, size), np.uint8)
        grey = [_decode_one(root / file.path, out) for file, out in zip(part, chunk, strict=True)]
        return chunk, all(grey)

    # Decoding runs outside Python's global lock, but opening does not: below this size threads only wait for each other.
    small = sum(file.bytes for file in files) < SMALL_FILE_BYTES * len(files)
    all_grey = True
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(1 if small else min(8, os.cpu_count() or 1)) as pool,
        cache_errors(cache_dir()),
        path.open("wb") as file,
    ):
        # Pillow warns from 90 million pixels on, and refuses images with more than twice as many.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for i, (chunk, grey) in enumerate(pool.map(decode_chunk, range(0, len(files), CHUNK_IMAGES))):
            file.write(chunk.data)
            all_grey &= grey
            progress("reading images", min((i + 1) * CHUNK_IMAGES, len(files)), len(files))
    images = np.memmap(path, np.uint8, "r", shape=(len(files), 3, size, size))
    return images[:, :1] if all_grey else images


def _decode_one(path: Path, out: UInt8) -> bool:
    """Write one image to ``out`` (3, S, S). Returns whether it is grey."""
    size = out.shape[-1]
    found = decode(path, size)
    out[:] = np.asarray(square(found.image.convert("RGB"), size)).transpose(2, 0, 1)
    return found.grey
