"""Recorded runs -> outcomes: the planned runs of a study, each found in the store, failed, damaged or missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexp.compare.result import Outcome, PlannedRun, Status
from bnexp.config.keys import did_you_mean
from bnexp.config.schema import ConfigError
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.records import SUMMARY, DataFacts, RecordedRun
from bnexp.tracking.store import Store


def value_text(value: Any) -> str:
    """A factor level as a configuration file writes it: ``0.01``, ``true``, ``null``."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def level_text(levels: Mapping[str, Any]) -> str:
    """Factor levels as one text, keys by their last component: ``lr=0.01, batch_size=64``; empty without factors."""
    return ", ".join(f"{key.rsplit('.', 1)[-1]}={value_text(value)}" for key, value in levels.items())


def study_outcomes(
    study_runs: Sequence[PlannedRun], store: Store, metric: str, metrics: Mapping[str, str] | None = None
) -> list[Outcome]:
    """What came of each planned run, whichever study trained it, in the order given.

    ``metrics``: arm -> metric, where an arm has one of its own. A run with a summary is finished or diverged. One without is
    damaged if its summary cannot be used, failed if there is a ``failure.json``, else missing. A finished run that lacks its
    metric is damaged too, but if no run has recorded that metric, ConfigError is raised.
    """
    places = store.locate([run.run_id for run in study_runs])
    keys = [(run.run_id, (metrics or {}).get(run.arm, metric)) for run in study_runs]
    for name in dict.fromkeys(name for _, name in keys):
        _require_metric(name, [run for run_id, other in keys if other == name for run in places.get(run_id, [])])
    found = {key: _result(places.get(key[0], []), key[1], store) for key in dict.fromkeys(keys)}
    return [
        Outcome(run.arm, level_text(run.levels), dict(run.levels), run.seed, *found[key], run.run_id)
        for run, key in zip(study_runs, keys, strict=True)
    ]


def study_facts(study_runs: Sequence[PlannedRun], store: Store) -> DataFacts | None:
    """What the runs of a study were tested on, by the first that tells."""
    places = store.locate([run.run_id for run in study_runs])
    runs = (run for planned in study_runs for run in places.get(planned.run_id, []))
    return next((run.facts for run in runs if run.finished and run.facts), None)


class StoreRecords:
    """What the planned runs of a study have recorded beside their last metrics (``contrast.Records``).

    A damaged file is named in the log and counts as one that is not there, so that it cannot cost the study.
    """

    def __init__(self, study_runs: Sequence[PlannedRun], store: Store) -> None:
        self._store = store
        self._places = store.locate([run.run_id for run in study_runs])

    def history(self, run_id: str) -> list[dict[str, float]]:
        run = _finished(self._places.get(run_id, []))
        try:
            return run.metrics() if run else []
        except DamagedRecord as damage:
            self._store.report_damage(damage, "The course of that training counts as not recorded.")
            return []

    def guesses(self, run_id: str) -> NDArray[Any] | None:
        run = _finished(self._places.get(run_id, []))
        try:
            frame = run.predictions() if run else None
        except DamagedRecord as damage:
            self._store.report_damage(damage, "These predictions count as not recorded.")
            return None
        return None if frame is None else np.array(frame.select("prediction", "label").to_numpy())


def _finished(runs: Sequence[RecordedRun]) -> RecordedRun | None:
    return next((run for run in runs if run.finished), None)


def _require_metric(metric: str, runs: Sequence[RecordedRun]) -> None:
    """Raise ConfigError if there are finished runs and none of them has recorded ``metric``."""
    finished = [run for run in runs if run.finished and run.summary.status == "finished"]
    if finished and not any(metric in run.summary.metrics for run in finished):
        known = sorted(finished[0].summary.metrics)
        raise ConfigError(
            f"Run {finished[0].run_id} has not recorded the metric {metric}; it has {', '.join(known)}."
            f"{did_you_mean(metric, known)}"
        )


def _result(runs: Sequence[RecordedRun], metric: str, store: Store) -> tuple[Status, float | None]:
    run = _finished(runs)
    if run is None:
        damages = [run.damage for run in runs if run.damage]
        for damage in damages:
            store.report_damage(damage, "Its run is left out.")
        if damages:
            return Status.damaged, None
        return (Status.failed if any(run.failure is not None for run in runs) else Status.missing), None
    if metric not in run.summary.metrics and run.summary.status == "finished":
        store.report_damage(DamagedRecord(run.path / SUMMARY, f"it lacks the metric {metric}"), "Its run is left out.")
        return Status.damaged, None
    return Status(run.summary.status), run.summary.metrics.get(metric)
