"""Ctrl-C: at any moment it ends the command with one sentence and exit code 130, never with a traceback.

Python raises KeyboardInterrupt wherever the program is. During an import this breaks the module, and libraries turn it into
other errors. In Python code that polars' native code calls, it makes polars panic. At the start and the end of the program
nothing catches it. So Ctrl-C ends the process at once, without an exception. That is safe because the files on disk are
complete at any moment. Only work that has to clean up asks for KeyboardInterrupt (``tidied``). It then comes when no import and
no polars code is running.

An agent of W&B stops a run of its sweep by SIGTERM. That ends the command in the same way, but with exit code 0: W&B wanted it,
and an agent gives up if its runs fail.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from subprocess import Popen

INTERRUPTED = 130  # the exit code
POLL_SECONDS = 0.02  # between two looks whether processes have ended
RETRY_SECONDS = 0.02  # between two checks whether an exception can be raised
FRAGILE = {"importlib", "polars"}  # packages through which no exception may pass


class _CtrlC:
    """The handler of SIGINT, with its state.

    Args:
        sentence: is printed when the process ends.
    """

    def __init__(self, sentence: str = "") -> None:
        self.sentence = sentence
        self.stopped = ""  # the sentence if SIGTERM came; empty if it has not
        self.tidied = self.shielded = 0  # number of such blocks that are open
        self.asked = False  # KeyboardInterrupt has been raised, or will be as soon as possible
        self.waiting = False  # Ctrl-C came in a shielded block
        self.again = False  # the next signal comes from retry(), not from the user
        self.report = sys.unraisablehook

    def handle(self, frame: FrameType | None) -> None:
        """React to one signal: wait for a shield to end, end the process, or raise KeyboardInterrupt."""
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

    def stop(self, frame: FrameType | None, sentence: str) -> None:
        """React to SIGTERM as to one Ctrl-C; more of them change nothing."""
        if not self.stopped:
            self.sentence = self.stopped = sentence
            self.handle(frame)

    def retry(self) -> None:
        """Send the signal again, a little later."""

        def later() -> None:
            time.sleep(RETRY_SECONDS)
            self.again = True
            signal.raise_signal(signal.SIGINT)

        threading.Thread(target=later, daemon=True).start()

    def leave(self) -> NoReturn:
        """End the process now. Buffered text is printed, but nothing else runs: no ``finally`` and no ``atexit`` function."""
        with suppress(Exception):  # the reader may have gone, or Ctrl-C may have come while something was printed
            sys.stdout.flush()
        sentence, self.sentence = self.sentence, ""  # another Ctrl-C may come before the end
        if sentence:
            start = "\x1b[?25h\n" if os.isatty(2) else ""  # shows the cursor, which a progress display hides
            with suppress(OSError):
                os.write(2, f"{start}{sentence}\n".encode())
        os._exit(0 if self.stopped else INTERRUPTED)

    def unraisable(self, event: Any) -> None:
        """Handle an exception where none can be raised, such as in ``__del__``: KeyboardInterrupt is raised again later."""
        if isinstance(event.exc_value, KeyboardInterrupt):
            self.retry()
        else:
            self.report(event)


_ctrl_c = _CtrlC()


def install(sentence: str) -> None:
    """From now on Ctrl-C ends this process in the way of this module, with ``sentence`` as the last line on stderr."""
    global _ctrl_c
    _ctrl_c = _CtrlC(sentence)
    signal.signal(signal.SIGINT, lambda _, frame: _ctrl_c.handle(frame))
    sys.unraisablehook = _ctrl_c.unraisable


def leave(sentence: str) -> NoReturn:
    """End the process as Ctrl-C does, with ``sentence`` as the last line, or without one if it is empty."""
    _ctrl_c.sentence = _ctrl_c.stopped or sentence
    _ctrl_c.leave()


def end_cleanly_on_sigterm(sentence: str) -> None:
    """From now on SIGTERM ends this process as Ctrl-C does, but with exit code 0 and ``sentence``."""
    signal.signal(signal.SIGTERM, lambda _, frame: _ctrl_c.stop(frame, sentence))


def was_stopped() -> bool:
    """Whether SIGTERM has come."""
    return bool(_ctrl_c.stopped)


@contextmanager
def tidied() -> Iterator[None]:
    """Inside, Ctrl-C raises KeyboardInterrupt, so that ``finally`` and ``with`` can clean up. A second one ends at once."""
    _ctrl_c.tidied += 1
    try:
        yield
    finally:
        _ctrl_c.tidied -= 1


@contextmanager
def shielded() -> Iterator[None]:
    """Inside, Ctrl-C waits until the end of the block. Processes started inside never receive the terminal's Ctrl-C."""
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


def wait_for(processes: Sequence[Popen[bytes]]) -> list[int]:
    """The exit codes of processes, once all have ended. Ctrl-C comes at once.

    Not ``wait()``: polars has a SIGINT handler of its own, under which Ctrl-C reaches Python only when a system call ends.
    """
    while any(process.poll() is None for process in processes):
        time.sleep(POLL_SECONDS)
    return [process.returncode for process in processes]


def _is_fragile(frame: FrameType | None) -> bool:
    """Whether the running code was called, directly or not, by a package through which no exception may pass."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in FRAGILE:
            return True
        frame = frame.f_back
    return False
