"""wandb-core, the process of W&B that writes and sends runs: started quietly, replaced when it has died, ended without a trace.

Whatever happens to it, the screen stays the user's: no log line of Go, no traceback of asyncio.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import wandb

Result = TypeVar("Result")

_ENDED = ("AlreadyJoinedError", "HandleAbandonedError", "MailboxClosedError")  # of modules that move between versions
_PASSES = (408, 425, 429)  # statuses below 500 that wandb-core tries again
SECONDS_TO_END = 10

_restarting = threading.Lock()
_defaults: dict[str, str] = {}
_started: list[subprocess.Popen[bytes]] = []


def prepare(folder: Path) -> None:
    """Say where wandb keeps what it stages, and keep its troubles off the screen. To be called before wandb starts its process.

    Images and tables are staged beside the runs, so that they move together, unless WANDB_DATA_DIR says otherwise. Without a
    usable home the cache goes there too.

    Args:
        folder: W&B's folder ``wandb``.
    """
    _default("WANDB_DATA_DIR", folder.absolute())
    if not _usable(Path(os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME") or "")):
        _default("WANDB_CACHE_DIR", folder.absolute() / "cache")
    logging.raiseExceptions = False  # else each log line of wandb that a full disk refuses prints a traceback
    _silence_core()
    _silence_threads()


def settings(wanted: Mapping[str, Any]) -> wandb.Settings:
    """W&B's settings after a look at its variables and settings files.

    wandb-core is not started, if this version of wandb can look without it: offline runs are written without it.

    Args:
        wanted: what wins over variables and files.
    """
    import wandb

    given = wandb.Settings(**wanted)
    with suppress(ImportError, TypeError):
        from wandb.sdk.wandb_setup import _setup

        return _setup(settings=given, start_service=False).settings
    return wandb.setup(given).settings


def _default(variable: str, place: Path) -> None:
    """Set a variable that the user has not set; one that was set here before changes with the folder."""
    if os.environ.get(variable) in (None, _defaults.get(variable)):
        os.environ[variable] = _defaults[variable] = str(place)


def _usable(home: Path) -> bool:
    return home.is_absolute() and home.is_dir() and os.access(home, os.W_OK)


def _silence_core() -> None:
    """Send what wandb-core writes to its standard error nowhere. wandb has no setting for it, so its module is given another
    ``Popen``; a version that is built otherwise stays as it is.
    """
    with suppress(ImportError):
        names = vars(import_module("wandb.sdk.lib.service.service_process"))
        if names.get("subprocess") is subprocess:
            names["subprocess"] = _Quiet()


def _silence_threads() -> None:
    """Let no thread of wandb print a traceback because wandb-core has died."""
    hook = threading.excepthook
    if getattr(hook, "quiet_about_wandb", False):
        return

    def quiet(caught: threading.ExceptHookArgs) -> None:
        frames = traceback.walk_tb(caught.exc_traceback)
        in_wandb = any(str(frame.f_globals.get("__name__")).startswith("wandb.") for frame, _ in frames)
        if not (in_wandb and has_ended(caught.exc_value)):
            hook(caught)

    quiet.quiet_about_wandb = True  # type: ignore[attr-defined]
    threading.excepthook = quiet


class _Quiet:
    """The module ``subprocess`` with another ``Popen``."""

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    def Popen(self, *args: Any, **more: Any) -> subprocess.Popen[bytes]:
        _started.append(_Core(*args, **more | {"stderr": subprocess.DEVNULL}))
        return _started[-1]


class _Core(subprocess.Popen[bytes]):
    """wandb-core. One that does not end soon after it was told to is killed: it asks a server that is away for minutes.

    Whatever it had to send has been waited for when its runs were finished.
    """

    def wait(self, timeout: float | None = None) -> int:
        if timeout is not None:
            return super().wait(timeout)
        with suppress(subprocess.TimeoutExpired):
            return super().wait(SECONDS_TO_END)
        self.kill()
        super().wait()
        return 0  # wandb ends the program with any other


def with_core(call: Callable[[], Result]) -> Result:
    """What ``call`` gives. If wandb-core has died, a new one is started and ``call`` is called again.

    Args:
        call: uses wandb.
    """
    try:
        return call()
    except Exception as error:
        if not has_ended(error):
            raise
    with _restarting:
        try:
            return call()  # another thread may have started a new one
        except Exception as error:
            if not has_ended(error):
                raise
        end()
        return call()


def end_first() -> None:
    """See to it that wandb-core is ended by ``end`` when the program ends, before wandb's own hook, which would complain.

    The hook that is registered last is called first, so this is to be called after wandb has started a process.
    """
    atexit.unregister(end)
    atexit.register(end)


def end() -> None:
    """End wandb-core without an error, also if it has died."""
    import wandb

    with suppress(Exception):
        wandb.teardown()
    while _started:
        _started.pop().wait()


def has_ended(error: BaseException | None) -> bool:
    """Whether an error says that wandb-core is no longer there."""
    while error is not None:
        if isinstance(error, ConnectionError) or type(error).__name__ in _ENDED:
            return True
        error = error.__cause__ or error.__context__
    return False


def gave_up(folder: Path) -> bool:
    """Whether wandb-core could not send something of a run and does not try again: it says so in its log and nowhere else.

    Args:
        folder: the run's folder.
    """
    path = folder / "logs" / "debug-internal.log"
    with suppress(OSError), path.open(encoding="utf-8", errors="replace") as log:
        return any(_is_loss(entry) for entry in _entries(log))
    return False


def _entries(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if '"ERROR"' in line:
            with suppress(ValueError):
                yield json.loads(line)


def _is_loss(entry: Mapping[str, Any]) -> bool:
    if entry.get("msg") == "api: HTTP error":
        status = int(entry.get("status", 0))
        return 400 <= status < 500 and status not in _PASSES
    return str(entry.get("msg", "")).startswith("sender: failed to log artifact")
