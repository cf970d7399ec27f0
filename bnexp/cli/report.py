"""``bnexp report``: writes a study's report, or the book of claims, again from the records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from bnexp.cli import complete
from bnexp.cli.output import CsvFlag, JsonFlag, MdFlag, message, pick_format
from bnexp.cli.result import print_result
from bnexp.config.keys import did_you_mean
from bnexp.config.schema import ConfigError
from bnexp.tracking.reading import DamagedRecord

if TYPE_CHECKING:
    from bnexp.comparison.record import StudyRecord
    from bnexp.report.book import Book
    from bnexp.tracking.store import Store

T = TypeVar("T")


def report(
    study: Annotated[
        str | None,
        typer.Argument(metavar="STUDY", help="Study name or name-id; default: the latest.", autocompletion=complete.studies),
    ] = None,
    book: Annotated[
        bool,
        typer.Option(
            "--book",
            help="Write the book of claims: the latest concluded study of each name, or the book of bnexp study --all whose id "
            "is STUDY.",
        ),
    ] = False,
    reports: Annotated[
        bool, typer.Option("--reports", help="With --book: also write the report of each study in it, some seconds each.")
    ] = False,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
) -> None:
    """Compare a recorded study again and write its report. Nothing is trained."""
    from bnexp.comparison.conclude import conclude
    from bnexp.tracking.store import Store

    format = pick_format(json, csv, md)
    store = Store()
    if book:
        from bnexp.cli.book import rebuild
        from bnexp.run.book import gather

        rebuild(_recorded_book(study, store) if study else gather(store), store, format, reports=reports)
        return
    if reports:
        raise ConfigError("--reports goes with --book; bnexp report STUDY writes the report of one study.")
    record = _recorded_study(study, store)
    result = conclude(record, store)
    record.save_verdict(result)
    print_result(result, format)
    from bnexp.report.publish import publish

    for line in publish(record, result, store):
        message(line)


def _recorded_study(name: str | None, store: Store) -> StudyRecord:
    """The latest recorded study with this name, or name and id; the latest of all if it is None. Raises ConfigError."""
    from bnexp.comparison.record import load

    studies = sorted(store.root.glob("[!.]*/study-*/study.json"), key=_age)
    names = {f"{path.parent.parent.name}-{path.parent.name.removeprefix('study-')}": path.parent for path in studies}
    if not names:
        raise ConfigError(f"no study is recorded in {store.root}; run one first: bnexp study batchnorm data=digits.")
    fitting = [known for known in names if name is None or name in (known, known.rsplit("-", 1)[0])]
    if not fitting:
        hint = did_you_mean(name or "", list(names))
        raise ConfigError(f"{name} is not a recorded study: allowed are {', '.join(names)}.{hint}")
    return _first_readable(load, [names[known] for known in reversed(fitting)], "the command that made it")


def _recorded_book(book_id: str, store: Store) -> Book:
    """The book of the ``bnexp study --all`` with this id. Raises ConfigError."""
    from bnexp.report.book import load

    found = sorted(store.root.glob("book/book-*/book.json"), key=lambda path: path.stat().st_mtime)
    ids = {path.parent.name.removeprefix("book-"): path.parent for path in found}
    if not ids:
        raise ConfigError(f"no book of bnexp study --all is recorded in {store.root}; leave out {book_id} for all studies.")
    if book_id not in ids:
        raise ConfigError(f"{book_id} is not a recorded book: allowed are {', '.join(ids)}; without one all studies are taken.")
    return _first_readable(load, [ids[book_id]], "bnexp study --all")


def _first_readable(load: Callable[[Path], T], folders: Sequence[Path], remedy: str) -> T:
    """Load the first record that can be used, and print which damaged ones came before it.

    Args:
        load: reads the record in a folder; it raises DamagedRecord.
        folders: of the records, the latest first.
        remedy: what to run again if none can be used.

    Raises:
        ConfigError: no record can be used.
    """
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
    """Sort key: studies with a verdict come after those without, and a later one after an earlier one."""
    verdict = study.with_name("verdict.json")
    return verdict.exists(), (verdict if verdict.exists() else study).stat().st_mtime
