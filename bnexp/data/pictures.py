"""Images of the user's own that a trained network is asked about: found, and brought to the size of its input.

Shapes: N images, C channels (1 or 3), H and W pixels, S the side of the input image.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnexp.config.schema import ConfigError, DataConfig
from bnexp.data.catalogue import CATALOGUE, Format
from bnexp.data.decoding import decode, shown
from bnexp.data.download import DataError
from bnexp.data.folder import images_only, scan
from bnexp.data.images import UInt8, fit, square

if TYPE_CHECKING:
    from PIL import Image

MOST_PIXELS = 64_000_000  # of one image, after what the JPEG decoder skips; four are decoded at a time
THREADS = 4


@dataclass(frozen=True)
class Picture:
    """An image file.

    Args:
        path: where it is.
        folder: the folder, directly in the one that was named, in which it lies; None for a file that was named itself, and
            for one that lies in the named folder.
    """

    path: Path
    folder: str | None = None

    @property
    def name(self) -> str:
        """The path as text that can be printed."""
        return shown(self.path)

    def label(self, class_names: Sequence[str]) -> int | None:
        """The class that the folder's name says; None if it is no class. Case and signs other than letters are not compared."""
        if self.folder is None:
            return None
        if self.folder in class_names:
            return class_names.index(self.folder)
        alike = [i for i, name in enumerate(class_names) if _bare(name) == _bare(self.folder)]
        return alike[0] if len(alike) == 1 else None


def _bare(name: str) -> str:
    """``t_shirt_top`` for ``T-shirt/top``, which cannot be the name of a folder."""
    return re.sub(r"[\W_]+", "_", name.casefold())


def find_pictures(places: Sequence[str | Path]) -> list[Picture]:
    """The image files that are meant, each once; opens none.

    Args:
        places: image files, and folders, of which all image files are taken, also those in folders below. Hidden files, and
            files whose names do not end as those of images, count only if they are named themselves.

    Raises:
        ConfigError: there is no such file, or a folder without images.
        DataError: a folder cannot be read.
    """
    found: dict[Path, Picture] = {}
    for place in places:
        path = Path(place).expanduser()
        if not os.path.lexists(path):
            raise ConfigError(f"{shown(path)} does not exist: name an image file, or a folder of images.")
        for picture in _inside(path) if path.is_dir() else [Picture(path)]:
            found.setdefault(picture.path, picture)
    return list(found.values())


def _inside(folder: Path) -> list[Picture]:
    files = images_only(scan(folder))
    if not files:
        raise ConfigError(f"no images in {shown(folder)}: name image files, or a folder with PNG or JPEG files in it.")
    return [Picture(folder / file.path, file.path.split("/")[0] if "/" in file.path else None) for file in files]


def read_picture(path: Path, data: DataConfig, channels: int) -> tuple[UInt8, tuple[str, ...]]:
    """An image file as the network's input, see ``as_input``, and what of the file is left out: see ``Decoded.notes``.

    Raises DataError if it cannot be read.
    """
    found = decode(path, max(CATALOGUE[data.name].size, data.size), MOST_PIXELS)
    return as_input(found.image, data, channels), found.notes


def as_input(image: Image.Image, data: DataConfig, channels: int) -> UInt8:
    """An image as a run's network takes it, but for the normalisation.

    It goes the way of the training images. One with the size of the data set's own images is treated as these were: MNIST's get
    a margin, others are resized. One with the size of the network's input is taken as it is. One of any other size is
    first cut to its central square and resized to the size of the data set's own images, if that is known.

    Args:
        image: upright and opaque.
        data: ``data.*`` of the run.
        channels: of the images that the run was trained on, 1 or 3; colour becomes grey for 1, by luminance.

    Returns:
        (C, S, S).
    """
    known = CATALOGUE[data.name]
    plain = image.convert("L" if channels == 1 else "RGB")
    if plain.size != (data.size, data.size):
        if known.format is Format.image_folder:
            plain = square(plain, data.size)
        elif known.size:
            plain = square(plain, known.size)
    pixels = np.asarray(plain).reshape(plain.height, plain.width, channels).transpose(2, 0, 1)
    (found,) = fit(np.ascontiguousarray(pixels)[None], data.size, lambda *_: None)
    return np.asarray(found)


def read_pictures(
    paths: Sequence[Path], data: DataConfig, channels: int
) -> Iterator[tuple[UInt8, tuple[str, ...]] | DataError]:
    """``read_picture`` of each file, in order, some at a time; the error for one that cannot be read."""
    from PIL import Image

    def one(path: Path) -> tuple[UInt8, tuple[str, ...]] | DataError:
        try:
            return read_picture(path, data, channels)
        except DataError as error:
            return error

    with warnings.catch_warnings(), ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield from pool.map(one, paths)
