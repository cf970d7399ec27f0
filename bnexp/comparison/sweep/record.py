"""A sweep as it is recorded: ``<runs>/<name>/sweep-<id>/sweep.json``, written before runs train and after each round."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from bnexp.config.schema import ConfigError
from bnexp.config.validate import check_name
from bnexp.plan.study import Level
from bnexp.plan.sweep.metric import GOALS, Metric
from bnexp.tracking.reading import MIB, read_whole
from bnexp.tracking.store import Store, write_json

SWEEP = "sweep.json"
PREFIX = "sweep-"  # of the folder
MOST = 16 * MIB  # some ten thousand points

State = Literal["finished", "diverged", "stopped", "failed", "missing"]


@dataclass(frozen=True)
class Trial:
    """What came of a point.

    Args:
        number: of the point, from 1, in the order in which points were chosen.
        params: parameter -> its value.
        run_ids: its runs, one per seed; empty if its values are not possible, so that nothing can train.
        state: the worst that came of its runs: ``missing`` (not trained), ``failed`` (an error), ``stopped`` (early, by the
            sweep), ``diverged`` (counted at chance accuracy), ``finished``.
        values: the metric of each run at its last epoch, null if there is none.
        epochs: the last epoch of each run.
        stopped: those of its runs that the sweep stopped early.
        seconds: training time of its runs.
        error: why it failed; empty if it did not.
    """

    number: int
    params: dict[str, Level]
    run_ids: list[str]
    state: State = "missing"
    values: list[float | None] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""

    @property
    def norm(self) -> Level:
        """The norm among its values; None if the sweep does not vary it."""
        return self.params.get("norm", self.params.get("norm.kind"))

    @property
    def value(self) -> float:
        """The mean of the metric over its runs; NaN if one of them has none."""
        known = [math.nan if value is None else value for value in self.values]
        return sum(known) / len(known) if known else math.nan

    @property
    def whole(self) -> bool:
        """Whether its runs trained to their end, so that its value can be compared with that of other points."""
        return self.state in ("finished", "diverged")


@dataclass(frozen=True)
class Axis:
    """A parameter of a sweep that has more than one value, as figures need it.

    Args:
        name: the key or config group.
        is_log: whether its values are spread evenly over their logarithms.
        values: what it was given as a list; empty for a range.
    """

    name: str
    is_log: bool
    values: list[Level] = field(default_factory=list)


@dataclass(frozen=True)
class Confirmed:
    """The best points, trained again.

    Args:
        numbers: of the points, the best of the sweep first.
        seeds: with which they were trained again, none of which the sweep had used.
        run_ids: number of the point -> its runs, in the order of the seeds.
    """

    numbers: list[int]
    seeds: list[int]
    run_ids: dict[str, list[str]]


@dataclass(frozen=True, kw_only=True)
class Content:
    """What ``sweep.json`` holds.

    Args:
        name: of the sweep file.
        sweep_id: hash of what decides which points there are and what they train.
        description: one sentence about the sweep; empty for none.
        method: how points are chosen.
        metric: what is optimised.
        goal: ``minimize`` or ``maximize``.
        axes: what is searched; a parameter with one value is among the overrides.
        stopping: how runs are stopped early, in words; empty: they are not.
        overrides: the overrides that all runs share.
        seeds: with which each point trains.
        search_seed: of the draws of ``random`` and ``bayes``.
        at_once: how many points ``bayes`` chooses before it looks at results again.
        command: the command line that runs it again.
        trials: its points so far.
        confirmed: the best points, trained again; None if they have not been.
    """

    name: str
    sweep_id: str
    description: str
    method: str
    metric: str
    goal: str
    axes: list[Axis]
    stopping: str
    overrides: list[str]
    seeds: list[int]
    search_seed: int
    at_once: int
    command: str
    trials: list[Trial] = field(default_factory=list)
    confirmed: Confirmed | None = None


@dataclass(frozen=True, kw_only=True)
class SweepRecord(Content):
    """``sweep.json`` of a folder.

    Args:
        folder: where it was read, or is to be written. What a record says of its own name decides no path.
    """

    folder: Path

    @property
    def objective(self) -> Metric:
        """What is optimised."""
        return Metric(self.metric, self.goal)

    def ranked(self) -> list[Trial]:
        """The points whose runs trained to their end, the best first; points that are the same experiment once."""
        found = [trial for trial in self.trials if trial.whole and math.isfinite(trial.value)]
        kept: dict[tuple[str, ...], Trial] = {}
        for trial in sorted(found, key=lambda trial: (self.objective.cost(trial.value), trial.number)):
            kept.setdefault(tuple(trial.run_ids), trial)
        return list(kept.values())

    def trial(self, number: int) -> Trial:
        """The point of this number."""
        return next(trial for trial in self.trials if trial.number == number)

    def forget(self) -> None:
        """Remove ``sweep.json``, and its folder unless there is more in it: the sweep could not begin to train."""
        (self.folder / SWEEP).unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent):
            with suppress(OSError):  # of a folder that is not empty
                folder.rmdir()

    def save(self) -> None:
        """Write ``sweep.json``."""
        write_json(self.folder / SWEEP, {name: value for name, value in asdict(self).items() if name != "folder"})


def sweep_folder(store: Store, name: str, sweep_id: str) -> Path:
    """The folder of a sweep's record."""
    return store.root / name / f"{PREFIX}{sweep_id}"


def load(folder: Path) -> SweepRecord:
    """Read the ``sweep.json`` of a folder.

    Raises:
        DamagedRecord: it is not there, or cannot be used.
    """
    return SweepRecord(**vars(read_whole(Content, folder / SWEEP, MOST, _check)), folder=folder)


def _check(content: Content) -> None:
    """Raise ConfigError if parts of a record do not fit together, or if an id is no name of a folder."""
    confirmed = content.confirmed or Confirmed([], [], {})
    check_name(content.name, "name")
    for run_id in (run_id for own in (*(t.run_ids for t in content.trials), *confirmed.run_ids.values()) for run_id in own):
        check_name(run_id, "the run id")
    if content.goal not in GOALS:
        raise ConfigError(f"goal is {content.goal!r}, not one of {', '.join(GOALS)}")
    if not content.seeds:
        raise ConfigError("it has no seeds")
    for trial in content.trials:
        for axis in content.axes:
            if axis.name not in trial.params:
                raise ConfigError(f"point {trial.number} has no value of {axis.name}")
            if axis.values and trial.params[axis.name] not in axis.values:
                raise ConfigError(f"{axis.name} of point {trial.number} is none of its values")
    if not {trial.number for trial in content.trials}.issuperset(confirmed.numbers):
        raise ConfigError("confirmed.numbers names points that it does not have")
    if missing := [number for number in confirmed.numbers if str(number) not in confirmed.run_ids]:
        raise ConfigError(f"confirmed.run_ids has no runs of point {missing[0]}")


def recorded_sweeps(store: Store) -> list[Path]:
    """The folders of all recorded sweeps, the one written last at the end."""
    found = store.root.glob(f"[!.]*/{PREFIX}*/{SWEEP}")
    return [path.parent for path in sorted(found, key=lambda path: path.stat().st_mtime)]


def find_sweep(text: str, store: Store) -> Path | None:
    """The folder of the recorded sweep of this name, id, ``name-id`` or path, of several the one written last; else None."""
    place = Path(text).expanduser()
    if (place / SWEEP).is_file():
        return place.absolute()
    found = [folder for folder in recorded_sweeps(store) if text in _names(folder)]
    return found[-1] if found else None


def _names(folder: Path) -> tuple[str, str, str]:
    name, sweep_id = folder.parent.name, folder.name.removeprefix(PREFIX)
    return name, sweep_id, f"{name}-{sweep_id}"


def state_counts(record: SweepRecord) -> Mapping[str, int]:
    """State -> number of points in it, for states that occur."""
    return Counter(trial.state for trial in record.trials)


def as_rows(record: SweepRecord) -> list[dict[str, Any]]:
    """One row per point, the best first, then those without a comparable value. The same experiment has the same rank."""
    placed = {tuple(trial.run_ids): place for place, trial in enumerate(record.ranked(), 1)}
    ranks = {trial.number: placed.get(tuple(trial.run_ids)) for trial in record.trials}
    order = sorted(record.trials, key=lambda trial: (ranks[trial.number] or math.inf, trial.number))
    return [
        {
            "rank": ranks[trial.number],
            "point": trial.number,
            **{axis.name: trial.params[axis.name] for axis in record.axes},
            record.metric: trial.value,
            "state": trial.state,
            "epochs": max(trial.epochs, default=0),
            "seconds": round(trial.seconds, 3),
            "runs": trial.run_ids,
            "error": trial.error,
        }
        for trial in order
    ]
