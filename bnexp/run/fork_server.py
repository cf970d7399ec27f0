"""What the fork server of the pool imports before anything else; to be imported by nothing but it.

The server ends with the process that started it, also while it imports torch. A worker whose start is cut off says nothing.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from types import TracebackType

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Have the system kill this process when its parent process ends. Linux only."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, EOFError):  # the process that asked for a worker ended before it had said what for
        sys.__excepthook__(kind, error, trace)


end_with_parent()
sys.excepthook = _report
