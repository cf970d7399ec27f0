"""``bnexp report``: write a study's report again, from the records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from bnexp.cli.output import CsvFlag, JsonFlag, MdFlag, message, pick_format
from bnexp.config.keys import did_you_mean
from bnexp.config.schema import ConfigError
from bnexp.tracking.reading import DamagedRecord

T = TypeVar("T")


def report(
    study: Annotated[str | None, typer.Argument(metavar="STUDY", help="Study name or name-id; without it the latest.")] = None,
    book: Annotated[
        bool, typer.Option("--book", help="Write the book of claims of bnexp study --all again; STUDY is then a book's id.")
    ] = False,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
) -> None:
    """Compare a recorded study again and write its report; trains nothing."""
    from bnexp.cli.study import show_verdict_and_report
    from bnexp.compare.record import load
    from bnexp.tracking.store import Store

    format = pick_format(json, csv, md)
    if book:
        from bnexp.cli.book import rebuild

        rebuild(study, format)
        return
    store = Store()
    studies = sorted(store.root.glob("[!.]*/study-*/study.json"), key=_age)
    names = {f"{path.parent.parent.name}-{path.parent.name.removeprefix('study-')}": path.parent for path in studies}
    if not names:
        raise ConfigError(f"no study is recorded in {store.root}; run one first: bnexp study batchnorm data=digits.")
    fitting = [name for name in names if study is None or name == study or name.rsplit("-", 1)[0] == study]
    if not fitting:
        hint = did_you_mean(study or "", list(names))
        raise ConfigError(f"{study} is not a recorded study: allowed are {', '.join(names)}.{hint}")
    folders = [names[name] for name in reversed(fitting)]
    show_verdict_and_report(first_readable(load, folders, "the command that made it"), store, format)


def first_readable(load: Callable[[Path], T], folders: Sequence[Path], remedy: str) -> T:
    """The first record that can be used; damaged ones before it are named. Raises ConfigError if none can."""
    damaged: DamagedRecord | None = None
    for folder in folders:
        if damaged:
            message(f"{damaged} The one recorded before it is shown.")
        try:
            return load(folder)
        except DamagedRecord as damage:
            damaged = damage
    raise ConfigError(f"{damaged} Run {remedy} again: finished runs are kept.")


def _age(study: Path) -> tuple[bool, float]:
    """Sorts the study that reached a verdict last behind all others."""
    verdict = study.with_name("verdict.json")
    return verdict.exists(), (verdict if verdict.exists() else study).stat().st_mtime
