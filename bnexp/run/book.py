"""Runs every study in turn and makes the book of claims: ``bnexp study --all`` and ``bnexp report --book`` without printing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bnexp.comparison.conclude import conclude
from bnexp.comparison.record import StudyRecord
from bnexp.comparison.record import load as load_record
from bnexp.comparison.result import StudyResult
from bnexp.config.schema import ConfigError
from bnexp.data.download import DataError
from bnexp.plan.session import session
from bnexp.report.book import Book, planned
from bnexp.run.study import Listener, run_recorded
from bnexp.tracking.store import Store


class BookListener(Listener):
    """Is told how the studies go, one after another."""

    def begins(self, name: str, number: int, count: int) -> None:
        """Study ``name`` begins; it is number ``number`` of ``count``, from 1."""

    def left_out(self, name: str, reason: str) -> None:
        """Study ``name`` is not in the book, for this reason."""


@dataclass
class Concluded:
    """A book with the records and results of the studies in it."""

    book: Book
    studies: list[tuple[StudyRecord, StudyResult]] = field(default_factory=list)

    def leave_out(self, name: str, reason: str) -> None:
        """Note in the book that a study is missing, and why."""
        self.book = replace(self.book, missing=self.book.missing | {name: reason})


def run_book(overrides: Sequence[str], store: Store, listener: BookListener) -> Concluded:
    """Run every study with these overrides. A study that cannot run is named in the book; the others go on.

    The report of a single study takes some seconds, so it is drawn only for W&B. ``bnexp report NAME`` writes it later.

    Args:
        overrides: Hydra overrides for every study.
        store: where runs, studies and the book are recorded.
        listener: is told how the studies go.

    Raises:
        ConfigError: an override cannot be read.
        DataError: the data set is out of reach, for all studies.
    """
    with session(overrides) as hydra:  # refuses at once what no study can run with
        names = hydra.groups.get("study", [])
    found = Concluded(planned(list(overrides), store))
    for number, name in enumerate(names, 1):
        listener.begins(name, number, len(names))
        try:
            record, result = run_recorded(name, overrides, store, listener, report=False)
        except DataError:
            raise  # the others need the same data
        except Exception as error:
            reason = str(error) or type(error).__name__
            found.leave_out(name, reason)
            listener.left_out(name, reason)
        else:
            found.studies.append((record, result))
            found.book = replace(found.book, studies=[*found.book.studies, f"{name}-{record.study_id}"])
        found.book.save()  # after each study, so that an interrupted book can be written with the studies it has
    return found


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
            record.save_verdict(result)
            found.studies.append((record, result))
        except ConfigError as error:
            found.leave_out(study, str(error))
            listener.left_out(study, str(error))
    if book.studies and not found.studies:
        raise ConfigError(
            f"no study of the book {book.folder} can be shown; run bnexp study --all again: finished runs are kept."
        )
    return found
