"""npz files that are damaged or lie about themselves: one sentence each, at once, and nothing is unpickled."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, ZipFile

import numpy as np
import pytest

from bnexp.data import archive
from bnexp.data.archive import read_arrays
from bnexp.data.download import DataError

X = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
MIB = 1 << 20


class Exploding:
    """Unpickling it ends the process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


def npy(array: np.ndarray[Any, Any], version: tuple[int, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version)
    return buffer.getvalue()


def header(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"shape": shape, "fortran_order": False, "descr": descr})
    return buffer.getvalue()


def zipped(path: Path, content: bytes = npy(X), name: str = "x.npy", compression: int = ZIP_DEFLATED) -> Path:
    with ZipFile(path, "w", compression) as file:
        file.writestr(name, content)
    return path


def patched(path: Path, offset: int, value: bytes, also_at: int | None = None) -> Path:
    """The first entry of the zip directory with other bytes, and the same ones in the file's own header."""
    content = bytearray(zipped(path).read_bytes())
    for start in [content.find(b"PK\x01\x02") + offset, *([] if also_at is None else [also_at])]:
        content[start : start + len(value)] = value
    path.write_bytes(content)
    return path


def error(path: Path) -> str:
    with pytest.raises(DataError) as raised:
        read_arrays(path, ["x"])
    return str(raised.value)


@pytest.mark.parametrize("compression", [ZIP_STORED, ZIP_DEFLATED, ZIP_BZIP2, ZIP_LZMA])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_plain_arrays_are_read_and_others_left(tmp_path: Path, compression: int, version: tuple[int, int]) -> None:
    path = zipped(tmp_path / "a.npz", npy(X, version), compression=compression)
    with ZipFile(path, "a") as file:
        file.writestr("other.npy", npy(np.array([Exploding()])))
        file.writestr("y", npy(np.asfortranarray(X[0])))
        file.writestr("y2.npy", "")
    arrays, names = read_arrays(path, ["x", "y", "z"])
    assert list(arrays) == ["x", "y"]
    np.testing.assert_array_equal(arrays["x"], X)
    np.testing.assert_array_equal(arrays["y"], X[0])
    assert names == ["x", "other", "y", "y2"]


CONTENTS = {
    "more than all memory": (header((10**15, 16)) + b"x" * 100, "x announces shape (1000000000000000, 16) of uint8, 16,0"),
    "more than 64 bits": (
        header((2**32, 2**32, 16)) + b"x" * 100,
        "announces shape (4294967296, 4294967296, 16) of uint8, 295,1",
    ),
    "too little": (npy(X)[:-1], "x announces shape (20, 8, 8) of uint8, 1,280 bytes, and has 1,279)"),
    "too much": (npy(X) + b"x", "x announces shape (20, 8, 8) of uint8, 1,280 bytes, and has 1,281)"),
    "negative": (header((-4, -16)) + bytes(64), "x announces shape (-4, -16) of uint8, 64 bytes, and has 64)"),
    "no bytes": (header((10**18,), "|V0"), "x announces shape (1000000000000000000,) of |V0, 0 bytes, and has 0)"),
    "objects": (npy(np.array([Exploding()])), "(x holds Python objects)"),
    "named columns": (npy(np.zeros(3, [("é", np.int8)]), (3, 0)), "(x has columns with names)"),
    "no header": (b"text", "(EOF: reading magic string, expected 8 bytes got 4)"),
    "nested": (b"PK\x03\x04 and so on", "(the magic string is not correct"),
    "code as a header": (header((1,)).replace(b"'|u1'", b"f(x)" + b" "), "(malformed node or string"),
    "nothing": (b"", "(EOF: reading magic string"),
}


@pytest.mark.filterwarnings("ignore:Stored array in format")
@pytest.mark.parametrize("case", CONTENTS)
def test_an_array_that_is_not_what_it_announces_is_refused(tmp_path: Path, case: str) -> None:
    content, reason = CONTENTS[case]
    path = zipped(tmp_path / "a.npz", content)
    assert error(path).startswith(f"{path} cannot be read as a .npz file of plain arrays (")
    assert reason in error(path)
    assert error(path).endswith("): write it with numpy.savez.")


def test_a_damaged_or_odd_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    assert "(File 'x.npy' is encrypted, password required for extraction)" in error(patched(path, 8, b"\x01", also_at=6))
    assert "(That compression method is not supported)" in error(patched(path, 10, b"\x4d", also_at=8))
    assert "(Bad CRC-32 for file 'x.npy')" in error(patched(path, 16, b"\0\0\0\0"))
    assert "(Bad CRC-32 for file 'x.npy')" in error(patched(path, 24, struct.pack("<I", 1000)))
    assert "x announces shape (20, 8, 8)" in error(patched(path, 24, struct.pack("<I", 10_000)))
    path = zipped(tmp_path / "b.npz")
    content = bytearray(path.read_bytes())
    content[100:120] = bytes(20)
    path.write_bytes(content)
    assert "cannot be read as a .npz file" in error(path)
    path = zipped(tmp_path / "c.npz")
    with ZipFile(path, "a") as file:
        file.writestr("x", npy(X))
    assert "(it holds x 2 times)" in error(path)
    path.write_bytes(b"")
    assert "(File is not a zip file)" in error(path)
    assert "Is a directory" in error(tmp_path)


def test_a_small_file_that_unpacks_to_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 64 * MIB - 128  # 128 for the header
    path = zipped(tmp_path / "a.npz", npy(np.zeros(free + 1, np.uint8)))
    assert error(path) == (
        f"{path} has {path.stat().st_size:,} bytes and unpacks to 67,108,865, more than 200 times as much, which images do "
        "not: if it is as meant, write it with numpy.savez, without compression."
    )
    assert "unpacks to 2,147,483,648" in error(patched(tmp_path / "lies.npz", 24, struct.pack("<I", 1 << 31)))
    assert read_arrays(zipped(path, npy(np.zeros(free, np.uint8))), ["x"])[0]["x"].shape == (free,)
    monkeypatch.setattr(archive, "FREE_BYTES", 0)
    path = zipped(tmp_path / "b.npz", npy(np.zeros((40, 1000), np.uint8)))
    assert 100 < 40128 / path.stat().st_size < 200
    assert read_arrays(path, ["x"])[0]["x"].shape == (40, 1000)
    assert read_arrays(path, [])[0] == {}


def test_what_does_not_fit_into_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np.lib.format, "read_array", full)
    path = zipped(tmp_path / "a.npz")
    assert error(path) == f"{path} does not fit into memory: write images as uint8, or fewer of them."
