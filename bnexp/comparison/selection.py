"""Chooses recorded runs: what every command takes as SELECT, ``--where``, ``--status``, ``--sort-by`` and ``--last``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from bnexp.comparison.condition import matching
from bnexp.comparison.loading import CUT_SHORT, runs_frame
from bnexp.comparison.record import STUDY, StudyRecord, load
from bnexp.comparison.recorded import studies_named
from bnexp.comparison.varying import column_hint
from bnexp.config.keys import did_you_mean
from bnexp.config.schema import ConfigError
from bnexp.tracking.records import CONFIG, SUMMARY, RecordedRun
from bnexp.tracking.store import Store


def select_runs(
    select: Sequence[str] = (),
    *,
    where: str | None = None,
    last: int | None = None,
    status: str | None = None,
    sort_by: str | None = None,
    store: Store | None = None,
) -> pl.DataFrame:
    """Finished runs, one row each, with the columns of ``bnexp.load_runs``. A damaged record is named in the log and left out.

    Args:
        select: any mix of study names, study ids, ``name-id``, ``study-id``, run ids, unique beginnings of run ids, and paths
            of the directories of runs, of studies or of all records; empty for all recorded runs. A study means all runs that
            it compares, whichever study trained them.
        where: a condition on the columns, such as ``optim.lr > 0.1 and norm.kind = 'batch'``.
        last: keep this number of runs, those that finished last.
        status: keep runs of this status: ``finished``, ``diverged``, ``failed`` or ``stopped`` (early, by a sweep). Runs of our
            own that failed, and those that were stopped, are taken only if they are asked for so; they have no metrics.
        sort_by: a column; with a ``-`` before it the largest values come first. None: by the time at which runs finished.
        store: where runs are recorded; None for ``BNEXP_RUNS_DIR``, else ``./runs``.

    Returns:
        The table. Each run is in it once. It has no rows if nothing fits.

    Raises:
        ConfigError: a word of ``select`` names nothing, or an argument does not fit the columns.

    Example:
        >>> select_runs(["batchnorm"], where="optim.lr > 0.1", last=10)
    """
    store = store or Store()
    frame = runs_frame(chosen(select, store) if select else store.folders(), store, cut_short=status or "")
    if frame.is_empty():
        return frame
    if status is not None:
        frame = _of_status(frame, status)
    if where is not None:
        frame = matching(frame, where)
    frame = _by_time(frame)
    if last is not None:
        if last < 1:
            raise ConfigError(f"last={last} is out of range: allowed is an integer of at least 1.")
        frame = frame.tail(last)
    return frame if sort_by is None else _sorted(frame, sort_by)


def one_run(word: str | None, store: Store) -> RecordedRun:
    """The run of this id, beginning of an id or directory, finished or not; of None the one that finished last.

    Raises:
        ConfigError: there is none, or the word names several.
    """
    if word is None:
        if latest := store.latest(1):
            return latest[0]
        raise ConfigError(f"no finished runs are recorded in {store.root}; start with: bnexp study batchnorm data=digits.")
    found = list({record.run_id: record for record in chosen([word], store)}.values())
    if len(found) == 1:
        return found[0]
    some = ", ".join(record.run_id for record in found[:5]) + (", ..." if len(found) > 5 else "")
    raise ConfigError(f"{word} names {len(found)} runs, and one is needed: {some}; bnexp runs {word} lists them.")


def chosen(select: Sequence[str], store: Store) -> Iterator[RecordedRun]:
    """The records that the words of SELECT name, finished or not.

    Args:
        select: as for ``select_runs``, at least one.
        store: where runs are recorded.

    Raises:
        ConfigError: a word names nothing, or begins several ids.
    """
    for word in select:
        yield from _named(word, store)


def one_study(word: str, store: Store) -> StudyRecord | None:
    """The study of this name, id, name-id or directory; of several the one concluded last. None if the word names no study.

    Raises:
        DamagedRecord: its record cannot be used.
    """
    path = Path(word).expanduser()
    folders = [path] if is_path(word, store) and (path / STUDY).exists() else studies_named(word, store)
    return load(folders[-1]) if folders else None


def _named(word: str, store: Store) -> Iterable[RecordedRun]:
    if is_path(word, store):
        return _of_path(Path(word).expanduser())
    folders = studies_named(word, store)
    own = [run for run in store.folders() if run.path.parent.name == word]
    if own or folders:
        return [*own, *_compared(folders)]
    try:
        return [store.named(word)]
    except ConfigError as error:
        names = sorted({path.name for path in store.root.glob("[!.]*/")} - {word})  # the book has a folder, but no runs
        if hint := did_you_mean(word, names):
            raise ConfigError(f"{word!r} is neither a recorded study nor a run in {store.root}.{hint}") from error
        raise


def is_path(word: str, store: Store) -> bool:
    """Whether a word is meant as a directory: it has a slash, or there is such a directory and no study of that name."""
    if "/" in word or word in (".", "..", "~"):
        return True
    return Path(word).is_dir() and not (store.root / word).is_dir()


def _of_path(path: Path) -> list[RecordedRun]:
    """The runs in a directory of a run, of a recorded study, of a study's name, or of all records."""
    if not path.is_dir():
        raise ConfigError(f"{path} is no directory; give one of a run, of a study or of all records.")
    if (path / SUMMARY).exists() or (path / CONFIG).exists():
        return [RecordedRun(path)]
    if (path / STUDY).exists():
        return _compared([path])
    found = [RecordedRun(file.parent) for file in sorted([*path.glob(f"*/{CONFIG}"), *path.glob(f"*/*/{CONFIG}")])]
    if not found:
        raise ConfigError(f"{path} has no recorded runs in it.")
    return found


def _compared(folders: Iterable[Path]) -> list[RecordedRun]:
    """The runs that recorded studies compare, wherever beside them these are recorded."""
    found: list[RecordedRun] = []
    for folder in folders:
        run_ids = [run.run_id for run in load(folder).runs]
        found += Store(folder.parent.parent).records(run_ids).values()
    return found


def _of_status(frame: pl.DataFrame, status: str) -> pl.DataFrame:
    known = ("finished", "diverged", *CUT_SHORT)
    if status not in known:
        raise ConfigError(f"status={status} does not exist: allowed are {', '.join(known)}.{did_you_mean(status, known)}")
    return frame.filter(pl.col("status") == status)


def _by_time(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows, the run that finished last at the end."""
    times = pl.Series("time", [finishing_time(text) for text in frame["finished_at"]], dtype=pl.Float64)
    return frame[times.arg_sort(nulls_last=False)]


def finishing_time(text: str | None) -> float:
    """A recorded date and time as seconds since 1970; minus infinity if it cannot be read."""
    try:
        when = datetime.fromisoformat(text or "")
    except ValueError:
        return float("-inf")
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _sorted(frame: pl.DataFrame, sort_by: str) -> pl.DataFrame:
    name = sort_by.removeprefix("-")
    if name not in frame.columns:
        raise ConfigError(f"{name} is not a column of these runs, to sort them by.{column_hint(name, frame.columns)}")
    return frame.sort(name, descending=sort_by.startswith("-"), nulls_last=True, maintain_order=True)
