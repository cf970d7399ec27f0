"""Loads all that workers need into the pool's fork server. Nothing else may import it, because importing has effects.

The server ends when the process that started it ends, even while it still imports torch. A worker whose start is cut off
prints no traceback.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from contextlib import suppress
from types import ModuleType, TracebackType

from bnexp.run.pool_server import PARENT, end_with_parent

KERNELS = tuple(f"bnexp.model.kernels.{name}" for name in ("loops", "norm_loops", "pool_loops"))
BLAS = "scipy.linalg.cython_blas"  # numba only asks if it can be imported, which takes .1 s; what needs it imports it later


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, EOFError):  # the process that asked for a worker has ended before it sent the work
        sys.__excepthook__(kind, error, trace)


end_with_parent()
if str(os.getppid()) != os.environ.pop(PARENT):  # it has ended before; the kernel tells nothing about that
    os._exit(0)
sys.excepthook = _report
gc.disable()  # looking for garbage took a fifth of the time, and what is imported stays
sys.modules[BLAS] = ModuleType(BLAS)
for module in (*KERNELS, "bnexp.data.batches", "bnexp.training.engine"):
    with suppress(Exception):  # a broken numba or torch would end the server; the runs that need it say so
        importlib.import_module(module)
del sys.modules[BLAS]
gc.freeze()  # so that the collections of workers pass over it
gc.enable()
