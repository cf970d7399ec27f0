"""Data sets made ready under the user's eyes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnexp.config.schema import DataConfig
from bnexp.terminal import SafeConsole

if TYPE_CHECKING:
    from bnexp.data.resident import Resident


def prepare_shown(config: DataConfig, console: SafeConsole) -> Resident:
    """The data set, downloaded, packed and verified where that has not been done, with a progress bar."""
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
