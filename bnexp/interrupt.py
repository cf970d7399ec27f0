"""Ctrl-C: one sentence and exit code 130 at whatever moment it comes, never a traceback.

Python raises KeyboardInterrupt wherever the program is. In the middle of an import that breaks the module, and other libraries
make another error of it. In Python code that polars' native code calls, it makes that panic. At the start and at the end of the
program nobody catches it. So the command ends at once, without an exception, as it may: what is on disk is whole at any moment.
Only work that has more to tidy up asks for KeyboardInterrupt (``tidied``), and gets it when neither is under way.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

INTERRUPTED = 130  # the exit code
RETRY_SECONDS = 0.02  # between two looks whether an exception can be raised
FRAGILE = {"importlib", "polars"}  # packages through which no exception may pass


class _CtrlC:
    """The handler of SIGINT; ``sentence`` is the last word."""

    def __init__(self, sentence: str = "") -> None:
        self.sentence = sentence
        self.tidied = self.shielded = 0  # how many such blocks are open
        self.asked = False  # KeyboardInterrupt has been raised, or will be when it can be
        self.waiting = False  # Ctrl-C came in a shielded block
        self.again = False  # the next signal is a retry, not the user's
        self.report = sys.unraisablehook

    def handle(self, frame: FrameType | None) -> None:
        again, self.again = self.again, False
        if self.shielded:
            self.waiting = True
        elif not self.tidied or (self.asked and not again):
            self.leave()
        else:
            self.asked = True
            if _is_fragile(frame):
                self.retry()
            else:
                raise KeyboardInterrupt

    def retry(self) -> None:
        def later() -> None:
            time.sleep(RETRY_SECONDS)
            self.again = True
            signal.raise_signal(signal.SIGINT)

        threading.Thread(target=later, daemon=True).start()

    def leave(self) -> NoReturn:
        """End the process now. Text that is still to be printed is, but nothing else is run, such as ``atexit`` functions."""
        with suppress(Exception):  # the reader may have gone, or this may have come in the middle of printing
            sys.stdout.flush()
        sentence, self.sentence = self.sentence, ""  # another Ctrl-C may come before the end
        if sentence:
            start = "\x1b[?25h\n" if os.isatty(2) else ""  # after a progress display, which hides the cursor
            with suppress(OSError):
                os.write(2, f"{start}{sentence}\n".encode())
        os._exit(INTERRUPTED)

    def unraisable(self, event: Any) -> None:
        """KeyboardInterrupt in a place that may raise nothing, such as ``__del__``: raise it again elsewhere."""
        if isinstance(event.exc_value, KeyboardInterrupt):
            self.retry()
        else:
            self.report(event)


_ctrl_c = _CtrlC()


def install(sentence: str) -> None:
    """From here on Ctrl-C ends this process as this module says, with ``sentence`` as the last line on stderr."""
    global _ctrl_c
    _ctrl_c = _CtrlC(sentence)
    signal.signal(signal.SIGINT, lambda _, frame: _ctrl_c.handle(frame))
    sys.unraisablehook = _ctrl_c.unraisable


def leave(sentence: str) -> NoReturn:
    """End the process as Ctrl-C does, with this last word, or, if it is empty, without one."""
    _ctrl_c.sentence = sentence
    _ctrl_c.leave()


@contextmanager
def tidied() -> Iterator[None]:
    """Inside, Ctrl-C raises KeyboardInterrupt, so that ``finally`` and ``with`` do their part. A second one ends at once."""
    _ctrl_c.tidied += 1
    try:
        yield
    finally:
        _ctrl_c.tidied -= 1


@contextmanager
def shielded() -> Iterator[None]:
    """Inside, Ctrl-C waits until the end. Processes that are started inside never see the one of the terminal."""
    _ctrl_c.shielded += 1
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _ctrl_c.shielded -= 1
        if _ctrl_c.waiting and not _ctrl_c.shielded:
            _ctrl_c.waiting = False
            _ctrl_c.handle(sys._getframe())


def _is_fragile(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in FRAGILE:
            return True
        frame = frame.f_back
    return False
