"""Data sets made ready while the user watches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnexp.config.schema import DataConfig
from bnexp.terminal import SafeConsole

if TYPE_CHECKING:
    from bnexp.data.resident import Resident


class Prepared:
    """The data sets of one command, each made ready once.

    It is made for a command and handed on, because the user's own files may change before the next command.

    Args:
        console: where progress is shown; None: standard error.
    """

    def __init__(self, console: SafeConsole | None = None) -> None:
        self._console = console or SafeConsole(stderr=True)
        self._ready: dict[str, Resident] = {}
        self._warned: set[str] = set()

    def __call__(self, config: DataConfig) -> Resident:
        """The data set of ``config``; see ``prepare_shown``."""
        key = repr(config)
        if key not in self._ready:
            self._ready[key] = prepare_shown(config, self._console)
        return self._ready[key]

    def overlap_warning(self, config: DataConfig) -> str:
        """``Resident.overlap_warning``; empty if the user has been warned of the same images before."""
        resident = self(config)
        warning = "" if resident.fingerprint in self._warned else resident.overlap_warning(config.margin)
        if warning:
            self._warned.add(resident.fingerprint)
        return warning


def prepare_shown(config: DataConfig, console: SafeConsole) -> Resident:
    """Make a data set ready with a progress bar on ``console``; see ``resident.prepare``."""
    from rich.progress import Progress

    from bnexp.data.resident import prepare

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total or None)
                if not console.is_terminal:
                    console.print(f"{what} ...", markup=False)
            bar.update(tasks[what], completed=done, total=total or None)

        return prepare(config, show)
