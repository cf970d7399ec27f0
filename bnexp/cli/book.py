"""``bnexp study --all``: every study in turn, then the book of claims; ``bnexp report --book`` writes it again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from bnexp.cli.output import Format, Row, message, print_rows
from bnexp.cli.report import first_readable
from bnexp.cli.study import SOME_FAILED, run_study, went_wrong
from bnexp.config.schema import ConfigError

if TYPE_CHECKING:
    from bnexp.compare.record import StudyRecord
    from bnexp.compare.result import StudyResult
    from bnexp.report.book import Book
    from bnexp.tracking.store import Store


def run_all(overrides: list[str], dry_run: bool, format: Format) -> None:
    """Run every study with these overrides and write the book; one that cannot run is named there and stops no other.

    The studies' own reports, which take some seconds each, are drawn only for W&B; ``bnexp report NAME`` writes one later.
    """
    from bnexp.config.overrides import check_overrides
    from bnexp.data.download import DataError
    from bnexp.plan.compose import groups
    from bnexp.report.book import planned
    from bnexp.tracking.store import Store

    check_overrides(overrides, groups())
    store, names = Store(), groups().get("study", [])
    if dry_run:
        _list_runs(names, overrides, store, format)
        return
    book = planned(overrides, store)
    concluded: list[tuple[StudyRecord, StudyResult]] = []
    for number, name in enumerate(names, 1):
        message(f"\n[{number}/{len(names)}] {name}")
        try:
            record, result = _run_one(name, overrides, store)
        except DataError:
            raise  # the others need the same data
        except Exception as error:
            message(f"study {name} is left out: {error or type(error).__name__}")
            book = replace(book, missing=book.missing | {name: str(error) or type(error).__name__})
        else:
            message(result.answer)
            concluded.append((record, result))
            book = replace(book, studies=[*book.studies, f"{name}-{record.study_id}"])
        book.save()  # so that an interrupted book can be written from what there is
    _write(book, concluded, store, format)
    if book.missing or any(went_wrong(result) for _, result in concluded):
        raise typer.Exit(SOME_FAILED)


def _run_one(name: str, overrides: list[str], store: Store) -> tuple[StudyRecord, StudyResult]:
    from bnexp.compare.conclude import conclude
    from bnexp.report.publish import publish
    from bnexp.tracking.wandb_session import WandbSession

    record, wandb = run_study(name, overrides, store, Format.json)
    result = conclude(record, store)
    if wandb is not None:
        session = WandbSession(wandb)
        for line in session.messages if session.disabled else publish(record, result, store, wandb):
            message(line)
    return record, result


def rebuild(name: str | None, format: Format) -> None:
    """Compare the studies of a recorded book again, the latest or the one of this id, and write it; trains nothing.

    A study whose record cannot be used is named there, like one that could not run.
    """
    from bnexp.compare.conclude import conclude
    from bnexp.compare.record import load as load_record
    from bnexp.report.book import load
    from bnexp.tracking.store import Store

    store = Store()
    found = sorted(store.root.glob("book/book-*/book.json"), key=lambda path: path.stat().st_mtime)
    ids = {path.parent.name.removeprefix("book-"): path.parent for path in found}
    if not ids:
        raise ConfigError(f"no book is recorded in {store.root}; make one first: bnexp study --all --budget smoke.")
    if name is not None and name not in ids:
        raise ConfigError(f"{name} is not a recorded book: allowed are {', '.join(ids)}.")
    book = first_readable(load, [ids[name]] if name else [*reversed(ids.values())], "bnexp study --all")
    concluded = []
    for study in book.studies:
        try:
            record = load_record(store.study_path(*study.rsplit("-", 1)))
            concluded.append((record, conclude(record, store)))
        except ConfigError as error:
            message(f"study {study} is left out: {error}")
            book = replace(book, missing=book.missing | {study: str(error)})
    if book.studies and not concluded:
        raise ConfigError(
            f"no study of the book {book.folder} can be shown; run bnexp study --all again: finished runs are kept."
        )
    _write(book, concluded, store, format)


def _write(book: Book, studies: list[tuple[StudyRecord, StudyResult]], store: Store, format: Format) -> None:
    from bnexp.report.book import write

    rows: list[Row] = [
        {"study": record.study.name, "verdict": result.verdict.value, "answer": result.answer} for record, result in studies
    ]
    print_rows(rows, format)
    path = write(book, studies, store)
    if path is not None:
        message(f"\nThe book of claims: {path}")


def _list_runs(names: list[str], overrides: list[str], store: Store, format: Format) -> None:
    """What each study would train; a run that two studies share counts where it comes first."""
    from bnexp.cli.planned import planned_runs
    from bnexp.plan.compose import expand_study
    from bnexp.plan.spec import RunSpec
    from bnexp.run.forecast import duration_text, estimate_seconds

    rows: list[Row] = []
    todo: dict[str, RunSpec] = {}
    notes: dict[str, None] = {}
    for number, name in enumerate(names, 1):
        message(f"[{number}/{len(names)}] {name}")
        try:
            plan = expand_study([f"study={name}", *overrides])
            specs = planned_runs(plan)
        except ConfigError as error:
            message(f"study {name} cannot run: {error}")
            continue
        notes |= {plan.note: None} if plan.note else {}
        finished = store.finished([spec.run_id for spec in specs])
        new = {s.run_id: s for s in specs if s.run_id not in todo and s.run_id not in finished}
        todo |= new
        seconds = estimate_seconds(list(new.values()), store)
        time = "unknown" if seconds is None else duration_text(seconds) if new else "-"
        rows.append({"study": name, "runs": len(specs), "to_train": len(new), "estimated_time": time})
    if not rows:
        raise ConfigError("no study can run with these overrides, for the reasons above.")
    print_rows(rows, format, right=("runs", "to_train", "estimated_time"))
    for note in notes:
        message(note)
    seconds = estimate_seconds(list(todo.values()), store)
    message(f"{len(todo)} runs to train" + (f", about {duration_text(seconds)}" if seconds is not None else ""))
