"""Runs every study in turn and makes the book of claims: ``bnexp study --all`` and ``bnexp report --book`` without printing.

``bnexp report --book`` has no list of studies: it takes the latest concluded study of each name that is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic

from bnexp.comparison.conclude import conclude
from bnexp.comparison.record import STUDY, VERDICT, StudyRecord
from bnexp.comparison.record import load as load_record
from bnexp.comparison.recorded import label
from bnexp.comparison.result import StudyResult
from bnexp.comparison.stats import MIN_PAIRS
from bnexp.config.schema import ConfigError
from bnexp.data.download import DataError
from bnexp.plan.session import session
from bnexp.plan.study import reason_of
from bnexp.report.book import Book, planned, recorded
from bnexp.run.schedule import Candidate, next_candidate
from bnexp.run.seeds import Clock
from bnexp.run.study import Listener, run_recorded
from bnexp.tracking.store import Store


class BookListener(Listener):
    """Is told how the studies go, one after another."""

    def begins(self, name: str, number: int, count: int) -> None:
        """Study ``name`` begins; it is number ``number`` of ``count``, from 1."""

    def goes_on(self, name: str, num_seeds: int, seconds: float) -> None:
        """Study ``name`` gets seeds up to ``num_seeds``; it is expected to be settled in so many seconds."""

    def too_late(self, names: Sequence[str]) -> None:
        """The time was over before these studies began; they are not in the book."""

    def left_out(self, name: str, reason: str) -> None:
        """Study ``name`` is not in the book, for this reason."""


@dataclass
class Concluded:
    """A book with the records and results of the studies in it."""

    book: Book
    _studies: dict[str, tuple[StudyRecord, StudyResult]] = field(default_factory=dict)

    @property
    def studies(self) -> list[tuple[StudyRecord, StudyResult]]:
        return list(self._studies.values())

    def add(self, record: StudyRecord, result: StudyResult) -> None:
        """Take a study into the book; a result with fewer seeds is replaced."""
        study = f"{record.study.name}-{record.study_id}"
        self._studies[study] = record, result
        self.book = replace(self.book, studies=list(dict.fromkeys([*self.book.studies, study])))

    def leave_out(self, name: str, reason: str) -> None:
        """Note in the book that a study is missing, and why."""
        self.book = replace(self.book, missing=self.book.missing | {name: reason})


def run_book(overrides: Sequence[str], store: Store, listener: BookListener, clock: Clock | None = None) -> Concluded:
    """Run every study with these overrides. A study that cannot run is named in the book; the others go on.

    The report of a single study takes some seconds, so it is drawn only for W&B. ``bnexp report NAME`` writes it later.

    Args:
        overrides: Hydra overrides for every study.
        store: where runs, studies and the book are recorded.
        listener: is told how the studies go.
        clock: how much time there is; None: as much as they take. With a limit each study first gets the six seeds of a
            verdict, and then that one goes on which is expected to be settled soonest (``schedule``).

    Raises:
        ConfigError: an override cannot be read.
        DataError: the data set is out of reach, for all studies.
    """
    with session(overrides) as hydra:  # refuses at once what no study can run with
        names = hydra.groups.get("study", [])
    found, candidates = Concluded(planned(list(overrides), store)), list[Candidate]()
    at_most = MIN_PAIRS if clock and clock.limit is not None else None
    for number, name in enumerate(names, 1):
        if clock and clock.left <= 0:
            late = names[number - 1 :]
            listener.too_late(late)
            for other in late:
                found.leave_out(other, "the time was over before it began; the same command goes on from there")
            found.book.save()
            break
        listener.begins(name, number, len(names))
        if candidate := _advance(found, name, overrides, store, listener, at_most):
            candidates.append(candidate)
    while clock and clock.limit is not None and (best := next_candidate(candidates, clock.left)):
        candidates.remove(best)
        listener.goes_on(best.name, best.next_number, best.expected_seconds)
        if further := _advance(found, best.name, overrides, store, listener, best.next_number, best.num_seeds):
            candidates.append(further)
    return found


def _advance(
    found: Concluded,
    name: str,
    overrides: Sequence[str],
    store: Store,
    listener: BookListener,
    at_most: int | None,
    before: int = 0,
) -> Candidate | None:
    """Run a study, or go on with it, and take it into the book; None if it cannot run.

    Args:
        found: the book.
        name: of the study.
        overrides: Hydra overrides for every study.
        store: where runs and studies are recorded.
        listener: is told how it goes.
        at_most: the number of seeds that it may have for now; None: all that it asks for.
        before: the number of seeds that it has.
    """
    start = monotonic()
    try:
        record, result = run_recorded(name, overrides, store, listener, report=False, at_most=at_most)
    except DataError:
        raise  # the others need the same data
    except Exception as error:
        reason = reason_of(name, error)
        found.leave_out(name, reason)
        found.book.save()
        listener.left_out(name, reason)
        return None
    found.add(record, result)
    found.book.save()  # after each study, so that an interrupted book can be written with the studies it has
    num_seeds = len({run.seed for run in record.runs})
    return Candidate(name, record, result, (monotonic() - start) / max(1, num_seeds - before))


def gather(store: Store) -> Book:
    """The book of everything recorded: of each name the concluded study that was run last, by the time of its command.

    All others are named in the book with the reason.

    Raises:
        ConfigError: no study is concluded.
    """
    folders = [path.parent for path in store.root.glob(f"[!.]*/study-*/{STUDY}")]
    latest: dict[str, Path] = {}
    left: dict[str, str] = {}
    for folder in sorted(folders, key=lambda folder: (folder / STUDY).stat().st_mtime):
        if problem := _problem(folder):
            left[label(folder)] = problem
            continue
        if older := latest.get(folder.parent.name):
            left[label(older)] = f"{label(folder)} was run later."
        latest[folder.parent.name] = folder
    if not latest and left:
        reasons = " ".join(f"{study}: {why}" for study, why in left.items())
        raise ConfigError(f"no study in {store.root} can be in a book. {reasons}")
    if not latest:
        raise ConfigError(
            f"no study is concluded in {store.root}; run one first, as with bnexp study batchnorm data=digits, "
            "or all of them: bnexp study --all --budget smoke."
        )
    return recorded([label(latest[name]) for name in sorted(latest)], dict(sorted(left.items())), store)


def _problem(folder: Path) -> str:
    """Why the study in a folder cannot be in a book; empty if it can."""
    if not (folder / VERDICT).exists():
        return "it has no verdict yet; finish it with its bnexp study command: finished runs are kept."
    try:
        load_record(folder)
    except ConfigError as error:
        return str(error)
    return ""


def compare_again(book: Book, store: Store, listener: BookListener) -> Concluded:
    """Compare the studies of a recorded book again, without any training.

    A study whose record cannot be used is named in the book, like one that could not run.

    Args:
        book: the recorded book.
        store: where its studies are recorded.
        listener: is told which studies are left out.

    Raises:
        ConfigError: the record of no study can be used.
    """
    found = Concluded(book)
    for study in book.studies:
        try:
            record = load_record(store.study_path(*study.rsplit("-", 1)))
            result = conclude(record, store)
            record.save_verdict(result, again=True)
            found.add(record, result)
        except ConfigError as error:
            found.leave_out(study, str(error))
            listener.left_out(study, str(error))
    if book.studies and not found.studies:
        raise ConfigError(
            f"no study of the book {book.folder} can be shown; run bnexp study --all again: finished runs are kept."
        )
    return found
