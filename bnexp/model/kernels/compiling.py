"""Compiling kernels with numba: once for each type of CPU, if the disk can keep them, and not without a word."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core import event
from numba.core.registry import cpu_target

log = logging.getLogger(__name__)

Kernel = Callable[..., None]


class _Compiler(event.Listener):
    """Makes kernels of functions, and logs once per process that kernels are being compiled."""

    def __init__(self) -> None:
        self.kept, self.said = True, False
        event.register("numba:compile", self)

    def __call__(self, function: Kernel) -> Kernel:
        """The function, compiled at its first call for the types of its arguments, or read from numba's cache on the disk."""
        try:
            kernel: Kernel = njit(function, cache=True)
        except RuntimeError:  # numba finds no directory for the cache that it can write
            self.kept, kernel = False, njit(function)
        return kernel

    def on_start(self, event: Any) -> None:
        """A function of anyone is going to be compiled: it was not in the cache."""
        if self.said or not event.data["dispatcher"].py_func.__module__.startswith("bnexp."):
            return
        self.said = True
        how_often = "once" if self.kept else "at every start, because numba's cache cannot be written (NUMBA_CACHE_DIR)"
        log.warning("Compiling kernels for this CPU, %s: about 5 s.", how_often)

    def on_end(self, event: Any) -> None:
        pass


compiled = _Compiler()
# numba does this before it compiles or reads its first kernel. Processes that are forked after this import need not do it.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()


def features() -> set[str]:
    """What numba compiles for: ``+avx2``, ``-avx512f`` and so on. NUMBA_CPU_NAME and NUMBA_CPU_FEATURES name another CPU."""
    return set(cpu_target.target_context.codegen().magic_tuple()[2].split(","))
