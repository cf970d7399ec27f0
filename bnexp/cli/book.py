"""``bnexp study --all`` and ``bnexp report --book``: all studies, and the book of claims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from bnexp.cli.output import SOME_FAILED, Format, Row, message, print_rows, sentence
from bnexp.cli.printed import Printed, what_is_added
from bnexp.cli.result import went_wrong
from bnexp.config.schema import ConfigError
from bnexp.plan.study import reason_of
from bnexp.run.book import BookListener, compare_again, run_book
from bnexp.run.forecast import duration_text
from bnexp.run.seeds import Clock, parse_time

if TYPE_CHECKING:
    from bnexp.comparison.result import StudyResult
    from bnexp.plan.spec import RunSpec
    from bnexp.report.book import Book
    from bnexp.run.book import Concluded
    from bnexp.tracking.store import Store


def run_all(overrides: list[str], format: Format, time: str | None = None) -> None:
    """Run every study with these overrides, in the given time if there is one, and write the book."""
    from bnexp.tracking.store import Store

    store = Store()
    clock = Clock(None if time is None else parse_time(time))
    found = run_book(overrides, store, PrintedBook(Format.json), clock)
    _write(found, store, format)
    if found.book.missing or any(went_wrong(result) for _, result in found.studies):
        raise typer.Exit(SOME_FAILED)


def rebuild(book: Book, store: Store, format: Format, *, reports: bool) -> None:
    """Compare the studies of a book again and write it. Nothing is trained.

    Args:
        book: which studies.
        store: where they are recorded.
        format: of the printed rows.
        reports: whether to write the report of each study first, to which the book then links.
    """
    for name, why in book.missing.items():
        sentence(f"{name} is not in the book: {why}")
    found = compare_again(book, store, PrintedBook(format))
    if reports:
        from bnexp.report.publish import publish

        for record, result in found.studies:
            for line in publish(record, result, store):
                message(line.strip())
    _write(found, store, format)


class PrintedBook(BookListener, Printed):
    """Prints how the studies go, with only the answer of each."""

    def begins(self, name: str, number: int, count: int) -> None:
        message(f"\n[{number}/{count}] {name}")
        self._told_plan = False

    def goes_on(self, name: str, num_seeds: int, seconds: float) -> None:
        message(f"\n{name} goes on to {num_seeds} seeds; expected to be settled in about {duration_text(seconds)}")

    def too_late(self, names: Sequence[str]) -> None:
        sentence(
            f"\nThe time was over before {len(names)} studies began: {', '.join(names)}. The same command goes on from there."
        )

    def left_out(self, name: str, reason: str) -> None:
        message(f"study {name} is left out: {reason}")

    def concluded(self, result: StudyResult) -> None:
        sentence(result.answer)


def _write(found: Concluded, store: Store, format: Format) -> None:
    from bnexp.comparison.discovery import discoveries
    from bnexp.comparison.text import p_text
    from bnexp.report.book import write

    corrected = discoveries([result for _, result in found.studies])
    rows: list[Row] = [
        {
            "study": record.study.name,
            "id": record.study_id,
            "verdict": result.verdict.value,
            "q": q if format is Format.json else None if q is None else p_text(q),
            "answer": result.answer,
        }
        for (record, result), q in zip(found.studies, corrected.q, strict=True)
    ]
    print_rows(rows, format)
    path = write(found.book, found.studies, store)
    if path is not None:
        message(f"\nThe book of claims: {path}")


def print_plans(overrides: list[str], format: Format) -> None:
    """Print what each study would train. A run that several studies share counts for the first of them."""
    from bnexp.cli.planned import planned_runs
    from bnexp.comparison.reach import visible_effect
    from bnexp.plan.expand import expand_study
    from bnexp.plan.session import session
    from bnexp.run.forecast import duration_text, estimate_seconds, estimate_text, with_added
    from bnexp.run.pace import recorded_pace
    from bnexp.tracking.store import Store

    with session(overrides) as hydra:  # refuses at once what no study can run with
        names = hydra.groups.get("study", [])
    store = Store()
    pace = recorded_pace(store)
    sees = "sees_sd" if format in (Format.json, Format.csv) else "sees (sd)"
    rows: list[Row] = []
    todo: dict[str, RunSpec] = {}
    coming: list[RunSpec] = []
    planned: set[str] = set()
    notes: dict[str, None] = {}
    for number, name in enumerate(names, 1):
        message(f"[{number}/{len(names)}] {name}")
        try:
            plan = expand_study([f"study={name}", *overrides])
            specs = planned_runs(plan)
        except ConfigError as error:
            message(f"study {name} cannot run: {reason_of(name, error)}")
            continue
        notes |= dict.fromkeys(note for note in (plan.note, what_is_added(plan)) if note)
        finished = store.finished([spec.run_id for spec in specs])
        new = {s.run_id: s for s in specs if s.run_id not in todo and s.run_id not in finished}
        todo |= new
        expected = with_added(list(new.values()), plan.study, plan.added)
        coming += expected
        seconds = estimate_seconds(expected, pace)
        time = "unknown" if seconds is None else duration_text(seconds) if new else "-"
        planned |= {spec.run_id for spec in specs}
        row = {"study": name, "runs": len(specs), "to_train": len(new), "estimated_time": time}
        effect = None if plan.study.max_seeds is not None else visible_effect(plan.study, len(plan.seeds))
        rows.append(row | {sees: effect if format is Format.json or effect is None else f"{effect:.2f}"})
    if not rows:
        raise ConfigError("no study can run with these overrides, for the reasons above.")
    print_rows(rows, format, right=("runs", "to_train", "estimated_time", sees))
    for note in notes:
        message(note)
    if any(row[sees] for row in rows):
        sentence(f"{sees}: the difference, in standard deviations over the seeds, that a study finds with 80 % power.")
    message(f"{sum(row['runs'] for row in rows):,} planned runs, of which {len(planned):,} are different")
    message(f"{len(todo)} runs to train{estimate_text(coming, store, len(rows))}")
