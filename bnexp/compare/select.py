"""Recorded runs -> outcomes: the planned runs of a study, each found in the store, failed or missing."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexp.compare.result import Outcome, Status
from bnexp.config import ConfigError
from bnexp.schema import did_you_mean
from bnexp.tracking.store import RecordedRun, Store

log = logging.getLogger(__name__)


def value_text(value: Any) -> str:
    """A factor level as a configuration file writes it: ``0.01``, ``true``, ``null``."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def level_text(levels: Mapping[str, Any]) -> str:
    """Factor levels as one text, keys by their last component: ``lr=0.01, batch_size=64``; empty without factors."""
    return ", ".join(f"{key.rsplit('.', 1)[-1]}={value_text(value)}" for key, value in levels.items())


def study_outcomes(
    study_runs: Sequence[Mapping[str, Any]], store: Store, metric: str, metrics: Mapping[str, str] | None = None
) -> list[Outcome]:
    """What came of each planned run (``run_id arm levels seed``), whichever study trained it, in the order given.

    ``metrics``: arm -> metric, where an arm has one of its own. A run with a summary is finished or diverged; one with only
    ``failure.json`` failed; anything else is missing. Raises ConfigError where a finished run has not recorded its metric.
    """
    places = {run_id: [RecordedRun(path) for path in paths] for run_id, paths in _places(study_runs, store).items()}
    found: dict[tuple[str, str], tuple[Status, float | None]] = {}
    outcomes = []
    for run in study_runs:
        run_id, arm = str(run["run_id"]), str(run["arm"])
        key = (run_id, (metrics or {}).get(arm, metric))
        if key not in found:
            found[key] = _result(places.get(run_id, []), key[1])
        status, value = found[key]
        levels = dict(run["levels"])
        outcomes.append(Outcome(arm, level_text(levels), levels, int(run["seed"]), status, value, run_id))
    return outcomes


class StoreRecords:
    """What the planned runs of a study have recorded beside their last metrics (``contrast.Records``)."""

    def __init__(self, study_runs: Sequence[Mapping[str, Any]], store: Store) -> None:
        self._places = _places(study_runs, store)

    def history(self, run_id: str) -> list[dict[str, float]]:
        run = self._run(run_id)
        return run.metrics() if run else []

    def guesses(self, run_id: str) -> NDArray[Any] | None:
        import polars as pl

        run = self._run(run_id)
        try:
            frame = run.predictions() if run else None
            return None if frame is None else np.array(frame.sort("image_id").select("prediction", "label").to_numpy())
        except (pl.exceptions.PolarsError, OSError) as error:  # one damaged file must not cost the study
            log.warning("The predictions of run %s cannot be read (%s); they count as missing.", run_id, error)
            return None

    def _run(self, run_id: str) -> RecordedRun | None:
        runs = [RecordedRun(path) for path in self._places.get(run_id, [])]
        return next((run for run in runs if run.finished), None)


def _places(study_runs: Sequence[Mapping[str, Any]], store: Store) -> dict[str, list[Path]]:
    """Run id -> its directories. One listing a study: a glob a run would take seconds for a thousand runs."""
    run_ids = {str(run["run_id"]) for run in study_runs}
    places: dict[str, list[Path]] = {}
    for study in sorted(path for path in store.root.glob("[!.]*") if path.is_dir()):
        for name in run_ids.intersection(os.listdir(study)):
            places.setdefault(name, []).append(study / name)
    return places


def _result(runs: Sequence[RecordedRun], metric: str) -> tuple[Status, float | None]:
    for run in runs:
        if run.finished:
            return Status(run.summary["status"]), _metric(run, metric)
    return (Status.failed if any(run.failure for run in runs) else Status.missing), None


def _metric(run: RecordedRun, metric: str) -> float | None:
    metrics = run.summary["metrics"]
    if metric in metrics:
        return None if metrics[metric] is None else float(metrics[metric])
    if run.summary["status"] == Status.diverged:
        return None
    known = sorted(metrics)
    raise ConfigError(
        f"Run {run.run_id} has not recorded the metric {metric}; it has {', '.join(known)}.{did_you_mean(metric, known)}"
    )
