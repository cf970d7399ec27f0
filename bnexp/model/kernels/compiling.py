"""Compiling kernels with numba: once for each type of CPU, if the disk can keep them, and not without a word."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from numba import njit, typeof
from numba.core import event
from numba.core.registry import cpu_target

log = logging.getLogger(__name__)

Kernel = Callable[..., None]
LOCK = "bnexp-kernels.lock"  # beside numba's files of the kernels
LONGEST_WAIT = 60.0  # seconds; who compiles for so long was stopped, for example by Ctrl-Z
POLL_SECONDS = 0.005  # between two looks whether it is free; to read a kernel takes about as long

OPTIONS = {"error_model": "numpy"}  # what is divided by zero is infinite or NaN, as in torch


class _Compiler(event.Listener):
    """Makes kernels of functions, and logs once per process that kernels are being compiled."""

    def __init__(self) -> None:
        self.kept, self.said = True, False
        event.register("numba:compile", self)

    def __call__(self, function: Kernel) -> Kernel:
        """The function, compiled at its first call for the types of its arguments, or read from numba's cache on the disk."""
        return _Kernel(function, self)

    def on_start(self, event: Any) -> None:
        """A function of anyone is going to be compiled: it was not in the cache."""
        if self.said or not event.data["dispatcher"].py_func.__module__.startswith("bnexp."):
            return
        self.said = True
        how_often = "once" if self.kept else "at every start, because numba's cache cannot be used (NUMBA_CACHE_DIR)"
        log.warning("Compiling kernels for this CPU, %s: about 8 s.", how_often)

    def on_end(self, event: Any) -> None:
        pass


class _Kernel:
    """A function that is compiled, or read from numba's cache, at its first call.

    Processes do so one after another, so that all but the first find it in the cache. Besides, numba gives the same file to two
    kernels if two processes keep them at the same time.

    Args:
        function: what is compiled.
        compiler: is told that the cache cannot be used.
    """

    def __init__(self, function: Kernel, compiler: _Compiler) -> None:
        self._function, self._compiler, self._is_first = function, compiler, True
        try:
            self._code: Any = njit(function, cache=True, **OPTIONS)
        except RuntimeError:  # numba finds no directory for the cache that it can write
            self._code = self._unkept()

    def __call__(self, *args: Any) -> None:
        if self._is_first:
            self._prepare(tuple(map(typeof, args)))
            self._is_first = False
        self._code(*args)

    def _prepare(self, types: tuple[Any, ...]) -> None:
        place = self._code.stats.cache_path
        try:
            with _alone(place):
                self._code.compile(types)
        except Exception:  # the disk is full, or the files are damaged or belong to another user; what else it is comes again
            if not self._code.signatures:
                self._code = self._unkept()

    def _unkept(self) -> Any:
        self._compiler.kept = False
        return njit(self._function, **OPTIONS)


@contextmanager
def _alone(place: str | None) -> Iterator[None]:
    """One process at a time, if the file system has locks. ``place``: the folder of numba's cache; None if there is none."""
    with ExitStack() as stack:
        if place is not None:
            with suppress(OSError, NotImplementedError):  # no locks there, or another user's, or it took too long
                stack.enter_context(FileLock(Path(place) / LOCK).acquire(LONGEST_WAIT, POLL_SECONDS))
        yield


compiled = _Compiler()
# numba does this before it compiles or reads its first kernel. Processes that are forked after this import need not do it.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()


def features() -> set[str]:
    """What numba compiles for: ``+avx2``, ``-avx512f`` and so on. NUMBA_CPU_NAME and NUMBA_CPU_FEATURES name another CPU."""
    return set(cpu_target.target_context.codegen().magic_tuple()[2].split(","))
