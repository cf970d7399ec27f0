"""``bnexp report``: writes the report of a study or sweep, or the book of claims, again from the records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from bnexp.cli import complete
from bnexp.cli.output import CsvFlag, Format, JsonFlag, LatexFlag, MdFlag, message, pick_format, print_json
from bnexp.cli.result import print_result
from bnexp.config.schema import ConfigError
from bnexp.tracking.reading import DamagedRecord

if TYPE_CHECKING:
    from bnexp.comparison.record import StudyRecord
    from bnexp.report.book import Book
    from bnexp.report.export import Pictures
    from bnexp.tracking.store import Store

T = TypeVar("T")


def report(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STUDY",
            show_default=False,
            autocompletion=complete.studies,
            help="Name, name-id, id, a beginning of one of them, or the path of a study's folder; default: the study concluded "
            "last. Several studies are compared on one page.",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="Read the study by another recorded metric, such as test/loss. The result is exploratory and goes to a report "
            "of its own.",
        ),
    ] = None,
    png: Annotated[Path | None, typer.Option("--png", metavar="DIR", help="Also write each figure as a PNG file.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="DIR", help="Also write each figure as an SVG file.")] = None,
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
    wandb: Annotated[
        bool,
        typer.Option(
            "--wandb",
            help="Also make a report and a workspace by arm on Weights & Biases, and send the runs that it lacks. Made again, "
            "they are replaced. Needs a login and pip install 'bnexp\\[reports]'.",
        ),
    ] = False,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
    latex: LatexFlag = False,
) -> None:
    """Compare a recorded study again and write its report, or one page for several studies. Nothing is trained.

    A recorded sweep gets its report too.
    """
    from bnexp.report.export import Pictures
    from bnexp.tracking.store import Store

    format, pictures, store, names = pick_format(json, csv, md, latex), Pictures(png, svg), Store(), studies or []
    if wandb and (book or metric is not None):
        raise ConfigError("--wandb takes neither --book nor --metric: a W&B report shows studies as they were planned.")
    if book:
        _write_book(names, store, format, reports=reports, others=metric is not None or pictures.wanted)
    elif reports:
        raise ConfigError("--reports goes with --book; bnexp report STUDY writes the report of one study.")
    elif len(names) > 1:
        from bnexp.cli.side_by_side import report_together

        report_together([_recorded_study(name, store) for name in names], store, format, metric, pictures, wandb=wandb)
    elif len(names) == 1 and _report_sweep(names[0], store, format, metric, pictures, wandb=wandb):
        return
    else:
        _report_one(_recorded_study(names[0] if names else None, store), store, format, metric, pictures, wandb=wandb)


def _report_sweep(name: str, store: Store, format: Format, metric: str | None, pictures: Pictures, *, wandb: bool) -> bool:
    """Write the report of a recorded sweep again; False if the name is that of a study, or of nothing."""
    from bnexp.comparison.recorded import studies_named
    from bnexp.comparison.sweep.record import find_sweep, load

    folder = None if studies_named(name, store) else find_sweep(name, store)
    if folder is None:
        return False
    if metric is not None:
        raise ConfigError(f"{name} is a sweep, whose points were chosen by its own metric; leave out --metric.")
    if wandb:
        raise ConfigError(f"{name} is a sweep, and --wandb reports studies; bnexp sweep FILE --wandb has W&B show the sweep.")
    from bnexp.cli.swept import print_sweep
    from bnexp.comparison.sweep.result import conclude
    from bnexp.report.sweep.page import write
    from bnexp.tracking.store import Store

    result = conclude(load(folder), Store(folder.parents[1]))
    print_sweep(result, format)
    for line in write(result, pictures):
        message(line)
    return True


def _report_one(
    record: StudyRecord, store: Store, format: Format, metric: str | None, pictures: Pictures, *, wandb: bool
) -> None:
    from bnexp.cli.wandb_report import Dashboards
    from bnexp.comparison.conclude import conclude, conclude_by, read_by
    from bnexp.comparison.recorded import store_of

    place = store_of(record.folder, store)
    dashboards = Dashboards([(record, place)]) if wandb else None
    if metric is None:
        result = conclude(record, place)
        record.save_verdict(result, again=True)
        planned = ""
    else:
        result = conclude_by(record, metric, place)
        record, planned = read_by(record, metric), record.study.metric
    if dashboards is None or format is not Format.json:
        print_result(result, format)
    from bnexp.report.publish import publish

    for line in publish(record, result, place, planned=planned, pictures=pictures):
        message(line)
    if dashboards is not None:
        links = dashboards.make([result])
        if format is Format.json:
            print_json(result.to_dict() | {"wandb": links[0]})


def _write_book(names: Sequence[str], store: Store, format: Format, *, reports: bool, others: bool) -> None:
    """``others``: whether options were given that a book does not take."""
    if others or len(names) > 1:
        raise ConfigError("--book takes at most one id, and neither --metric nor --png or --svg; its figures lie beside it.")
    from bnexp.cli.book import rebuild
    from bnexp.run.book import gather

    rebuild(_recorded_book(names[0], store) if names else gather(store), store, format, reports=reports)


def _recorded_study(name: str | None, store: Store) -> StudyRecord:
    """The recorded study that is meant; the one concluded last if it is None. Raises ConfigError."""
    from bnexp.comparison.record import load
    from bnexp.comparison.recorded import find_study

    return _first_readable(load, find_study(name, store), "the command that made it")


def _recorded_book(book_id: str, store: Store) -> Book:
    """The book of the ``bnexp study --all`` with this id. Raises ConfigError."""
    from bnexp.report.book import find_book, load

    return _first_readable(load, [find_book(book_id, store)], "bnexp study --all")


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
