"""Kernels are compiled once, whichever process needs them first, and they work without numba's cache."""

from __future__ import annotations

import errno
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from filelock import FileLock

from bnexp.model.kernels.compiling import LOCK, compiled


def doubled(value: float, out: object) -> None:
    out[0] = 2 * value  # type: ignore[index]


def test_a_kernel_waits_for_another_process_that_compiles_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    first, second = compiled(doubled), compiled(doubled)
    out = np.zeros(1)
    waiting = Thread(target=second, args=(2.0, out))
    with FileLock(Path(second._code.stats.cache_path) / LOCK):  # type: ignore[attr-defined]
        waiting.start()
        first._code(1.0, np.zeros(1))  # type: ignore[attr-defined]
        waiting.join(0.05)
        assert waiting.is_alive()
    waiting.join(30)
    assert out.tolist() == [4.0]
    assert not second._code.stats.cache_misses  # type: ignore[attr-defined]


def test_a_kernel_that_is_ready_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    kernel, out = compiled(doubled), np.zeros(1)
    kernel(1.0, out)
    monkeypatch.setattr(FileLock, "acquire", lambda *_, **__: pytest.fail("it waits for a lock"))
    kernel(2.0, out)
    assert out.tolist() == [4.0]


@pytest.mark.parametrize("action", ["load", "save"])
def test_a_cache_that_turns_out_to_be_unusable_stops_no_training(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, or the files in the cache belong to another user."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(f"numba.core.caching.IndexDataCacheFile.{action}", fail)
    kernel, out = compiled(doubled), np.zeros(1)
    for value in (1.0, 2.0):
        kernel(value, out)
        assert out.tolist() == [2 * value]
    compiled_again = kernel._code.stats.cache_path is None  # type: ignore[attr-defined]
    assert compiled_again == (action == "load")  # what was compiled but could not be kept is used


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_damaged_cache_stops_no_training(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power failure leaves files empty that were just written."""
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    compiled(doubled)(1.0, np.zeros(1))
    for path in tmp_path.rglob(f"*.{suffix}"):
        path.write_bytes(b"")
    out = np.zeros(1)
    compiled(doubled)(3.0, out)
    assert out.tolist() == [6.0]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EACCES])
def test_the_cache_is_used_also_where_no_lock_can_be_had(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems have no locks, and in a shared cache the lock may belong to another user."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "no lock")

    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(FileLock, "acquire", fail)
    first, second = compiled(doubled), compiled(doubled)
    for kernel in (first, second):
        kernel(1.0, np.zeros(1))
    assert second._code.stats.cache_hits  # type: ignore[attr-defined]


def test_a_kernel_waits_not_for_ever_for_a_process_that_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-Z while it compiles leaves it with the lock."""
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("bnexp.model.kernels.compiling.LONGEST_WAIT", 0.05)
    kernel, out = compiled(doubled), np.zeros(1)
    with FileLock(Path(kernel._code.stats.cache_path) / LOCK):  # type: ignore[attr-defined]
        waiting = Thread(target=kernel, args=(2.0, out), daemon=True)
        waiting.start()
        waiting.join(30)
        assert out.tolist() == [4.0]
