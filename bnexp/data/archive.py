"""Arrays out of a ``.npz`` file of unknown origin: nothing is unpickled, and a small file cannot ask for much memory or time.

A file announces the size of an array twice: in the directory of the zip archive and in the header of the array. Both are
compared with each other and with the size of the file before any array is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from bnexp.data.download import DataError

FREE_BYTES = 64 << 20  # arrays up to this size are read, however small the file is
MAX_RATIO = 200  # size of the arrays over size of the file; dSprites, white shapes on black, has about 115
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_arrays(path: Path, wanted: Sequence[str]) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Read some arrays of a ``.npz`` file.

    Args:
        path: the file.
        wanted: the names of the arrays; names that the file does not have are left out.

    Returns:
        The arrays by name, and the names of everything that the file holds.

    Raises:
        DataError: if the file cannot be read, is not what it announces, or unpacks to far more than its own size.
    """
    with _opened(path, wanted) as (archive, members, _, names):
        return {name: _read(archive, info) for name, info in members.items()}, names


def read_shapes(path: Path, wanted: Sequence[str]) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """The shapes of some arrays, without reading them; otherwise as ``read_arrays``."""
    with _opened(path, wanted) as (_, __, shapes, names):
        return shapes, names


@contextmanager
def _opened(
    path: Path, wanted: Sequence[str]
) -> Iterator[tuple[ZipFile, dict[str, ZipInfo], dict[str, tuple[int, ...]], list[str]]]:
    """The open file, its members and their shapes by name, checked, and all names. Whatever goes wrong becomes a DataError."""
    try:
        with ZipFile(path) as archive:
            found = [(info.filename.removesuffix(".npy"), info) for info in archive.infolist()]
            names = [name for name, _ in found]
            for name in wanted:
                if names.count(name) > 1:
                    raise ValueError(f"it holds {name} {names.count(name)} times")
            members = {name: info for name, info in found if name in wanted}
            _check_size(path, list(members.values()))
            shapes = {name: _checked_shape(archive, name, info) for name, info in members.items()}
            yield archive, members, shapes, names
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path} does not fit into memory: write images as uint8, or fewer of them.") from error
    except Exception as error:  # zipfile, what it decompresses with, and NumPy raise many kinds
        reason = str(error) or type(error).__name__
        raise DataError(
            f"{path} cannot be read as a .npz file of plain arrays ({reason}): write it with numpy.savez."
        ) from error


def _check_size(path: Path, members: list[ZipInfo]) -> None:
    size, unpacked = path.stat().st_size, sum(info.file_size for info in members)
    if unpacked > max(FREE_BYTES, MAX_RATIO * size):
        raise DataError(
            f"{path} has {size:,} bytes and unpacks to {unpacked:,}, more than {MAX_RATIO} times as much, which images do not: "
            "if it is as meant, write it with numpy.savez, without compression."
        )


def _checked_shape(archive: ZipFile, name: str, info: ZipInfo) -> tuple[int, ...]:
    """The shape in the header of an array. Raises ValueError if the array is not plain numbers of that shape."""
    with archive.open(info.filename) as member:
        version = np.lib.format.read_magic(member)
        if version not in HEADERS:
            raise ValueError(f"{name} has columns with names")
        shape, _, dtype = HEADERS[version](member)
        if dtype.hasobject:
            raise ValueError(f"{name} holds Python objects")
        announced, there = math.prod(shape) * dtype.itemsize, info.file_size - member.tell()
    if announced != there or not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"{name} announces shape {shape} of {dtype}, {announced:,} bytes, and has {there:,}")
    return shape


def _read(archive: ZipFile, info: ZipInfo) -> NDArray[Any]:
    with archive.open(info.filename) as member:
        array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
    return array
