"""Runs of other tools into the local store: what ``bnexp import`` and ``bnexp.import_runs`` do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bnexp.config.schema import ConfigError
from bnexp.config.validate import check_name
from bnexp.terminal import visible_line
from bnexp.tracking.foreign.csv_table import Columns, read_csv
from bnexp.tracking.foreign.event_file import read_events
from bnexp.tracking.foreign.finding import Place, find_places
from bnexp.tracking.foreign.mlflow_store import read_mlflow
from bnexp.tracking.foreign.recording import Action, Imported, Recorder
from bnexp.tracking.foreign.run import ForeignRun
from bnexp.tracking.foreign.wandb_file import read_wandb
from bnexp.tracking.store import Store


@dataclass(frozen=True)
class Import:
    """What an import did.

    Args:
        runs: every run that was found, in the order of the paths.
        problems: one sentence on each run or file that could not be imported, or not whole.
        lost: number of runs or files that could not be imported at all.
    """

    runs: list[Imported]
    problems: list[str]
    lost: int

    def count(self, action: Action) -> int:
        """Number of runs with which this was done."""
        return sum(run.action is action for run in self.runs)


def import_runs(
    paths: Sequence[str | Path],
    *,
    study: str | None = None,
    metrics: Sequence[str] = (),
    seed: str | None = None,
    run: str | None = None,
    dry_run: bool = False,
    runs_dir: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Import:
    """Take runs that W&B, MLflow, TensorBoard or a CSV file hold into the local store.

    A run that was imported before is brought up to date; one that has not changed is left alone. What cannot be read is named
    in ``problems``, and the rest is imported.

    Args:
        paths: files, and folders that hold such files: ``*.wandb``, ``*.csv``, ``events.out.tfevents.*``, runs of MLflow's file
            store.
        study: the study that all these runs get; None: what the tool calls their project, or the file's or folder's name.
        metrics: columns of CSV files that are metrics; empty: by their names.
        seed: the key or column that is the seed; None: one that is called ``seed``, ``random_state`` or alike.
        run: column of CSV files that names the run; None: by its name.
        dry_run: whether to write nothing, and only tell what would be done.
        runs_dir: the directory of the records; None for ``BNEXP_RUNS_DIR``, else ``./runs``.
        progress: called after each file or folder of a run, with the number of those that are done and of all; None: nothing.

    Raises:
        ConfigError: a path holds no runs, or a column is not there.

    Example:
        >>> bnexp.import_runs(["wandb/", "results.csv"], study="baseline")
    """
    if study is not None:
        check_name(study, "--study")
        if re.match("study-|book-|sweep-", study):
            raise ConfigError(f"--study {study} is not possible: names that begin so are folders of bnexp's own.")
    places = list(_unique(place for path in map(Path, paths) for place in find_places(path)))
    if (metrics or run) and not any(place.tool == "csv" for place in places):
        raise ConfigError("--metrics and --run tell the columns of a CSV file, and none is among the paths.")
    taking = _Taking(Recorder(Store(Path(runs_dir) if runs_dir is not None else None), study, dry_run), seed)
    columns = Columns(tuple(metrics), seed, run)
    for number, place in enumerate(places, 1):
        try:
            found = _read(place, columns)
        except (ConfigError, OSError) as error:
            if len(places) == 1:
                raise
            taking.lose(str(error) if isinstance(error, ConfigError) else visible_line(f"{place.path}: {error}."))
            continue
        for foreign in found:
            taking.take(foreign)
        if progress:
            progress(number, len(places))
    return Import(taking.done, taking.problems, taking.lost)


@dataclass
class _Taking:
    """Takes runs, one after the other, and keeps what was done.

    Args:
        recorder: records them.
        seed: as in ``import_runs``.
        done: every run that was taken.
        problems: sentences on what could not be imported, or not whole.
        lost: number of runs or files that could not be imported at all.
    """

    recorder: Recorder
    seed: str | None
    done: list[Imported] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lost: int = 0

    def take(self, foreign: ForeignRun) -> None:
        """Record a run."""
        try:
            self.done.append(self.recorder.record(foreign if self.seed is None else replace(foreign, seed_key=self.seed)))
            self.problems += map(visible_line, self.done[-1].notes)
        except ConfigError as error:
            self.problems += map(visible_line, foreign.notes)
            self.lose(str(error))

    def lose(self, problem: str) -> None:
        """Note a run or file that cannot be imported."""
        self.problems.append(problem)
        self.lost += 1


def _unique(places: Iterable[Place]) -> Iterator[Place]:
    """The places without those that two paths lead to, such as ``latest-run``."""
    seen = set()
    for place in places:
        real = place.path.resolve()
        if real not in seen:
            seen.add(real)
            yield place


def _read(place: Place, columns: Columns) -> list[ForeignRun]:
    match place.tool:
        case "wandb":
            return [read_wandb(place.path)]
        case "csv":
            return read_csv(place.path, columns)
        case "mlflow":
            return [read_mlflow(place.path)]
        case "tensorboard":
            return [read_events(place.path, place.files, place.root)]
