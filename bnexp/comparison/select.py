"""Recorded runs -> outcomes: the planned runs of a study, each found in the store, failed, damaged or missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexp.comparison.result import Outcome, PlannedRun, Status
from bnexp.comparison.untrained import data_of, guessing_accuracy, why_stuck
from bnexp.config.keys import did_you_mean
from bnexp.config.schema import ConfigError
from bnexp.plan.study import levels_text
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.records import SUMMARY, DataFacts, RecordedRun
from bnexp.tracking.store import Store


def study_outcomes(
    study_runs: Sequence[PlannedRun],
    store: Store,
    metric: str,
    metrics: Mapping[str, str] | None = None,
    records: Mapping[str, RecordedRun] | None = None,
) -> list[Outcome]:
    """What came of each planned run, whichever study trained it.

    A run with a summary is finished or diverged. One without is damaged if its summary cannot be used, failed if there is a
    ``failure.json``, else missing. A finished run without its metric is damaged. A finished run whose training accuracy never
    left what guessing gives is stuck.

    Args:
        study_runs: the planned runs.
        store: where runs are recorded.
        metric: the study's metric.
        metrics: arm -> metric, for arms that have one of their own.
        records: run id -> its record, if they have been looked up in ``store`` before.

    Returns:
        The outcomes, in the order of ``study_runs``.

    Raises:
        ConfigError: there are finished runs, but none has recorded the metric.
    """
    records = store.records([run.run_id for run in study_runs]) if records is None else records
    keys = [(run.run_id, (metrics or {}).get(run.arm, metric)) for run in study_runs]
    for name in dict.fromkeys(name for _, name in keys):
        _require_metric(name, [records[run_id] for run_id, other in keys if other == name and run_id in records])
    stuck = _stuck(records)
    found = {key: _result(records.get(key[0]), key[1], store) for key in dict.fromkeys(keys)}
    return [
        Outcome(
            run.arm, levels_text(run.levels), dict(run.levels), run.seed, *found[key], run.run_id, stuck.get(run.run_id, "")
        )
        for run, key in zip(study_runs, keys, strict=True)
    ]


def study_facts(study_runs: Sequence[PlannedRun], store: Store) -> DataFacts | None:
    """What the runs of a study were tested on, by the first that tells."""
    records = store.records([run.run_id for run in study_runs])
    known = (records[run.run_id] for run in study_runs if run.run_id in records)
    return next((run.facts for run in known if run.finished and run.facts), None)


class StoreRecords:
    """What the planned runs of a study have recorded besides their last metrics (``contrast.Records``), each history read once.

    A damaged file is named in the log and counts as one that is not there, so that it cannot cost the study.

    Args:
        records: run id -> its record.
        store: where they are; it names the damaged ones.
    """

    def __init__(self, records: Mapping[str, RecordedRun], store: Store) -> None:
        self._store = store
        self._finished = {run_id: record for run_id, record in records.items() if record.finished}
        self._histories: dict[str, list[dict[str, float]]] = {}

    def history(self, run_id: str) -> list[dict[str, float]]:
        if run_id not in self._histories:
            self._histories[run_id] = self._read(run_id)
        return self._histories[run_id]

    def _read(self, run_id: str) -> list[dict[str, float]]:
        try:
            return self._finished[run_id].metrics(step_losses=False) if run_id in self._finished else []
        except DamagedRecord as damage:
            self._store.report_damage(damage, "The course of that training counts as not recorded.")
            return []

    def guesses(self, run_id: str) -> NDArray[Any] | None:
        try:
            frame = self._finished[run_id].predictions() if run_id in self._finished else None
        except DamagedRecord as damage:
            self._store.report_damage(damage, "These predictions count as not recorded.")
            return None
        return None if frame is None else np.array(frame.select("prediction", "label").to_numpy())


def _require_metric(metric: str, runs: Sequence[RecordedRun]) -> None:
    """Raise ConfigError if there are finished runs and none of them has recorded ``metric``."""
    finished = [run for run in runs if run.finished and run.summary.status == "finished"]
    if finished and not any(metric in run.summary.metrics for run in finished):
        known = sorted(finished[0].summary.metrics)
        raise ConfigError(
            f"Run {finished[0].run_id} has not recorded the metric {metric}; it has {', '.join(known)}."
            f"{did_you_mean(metric, known)}"
        )


def _stuck(records: Mapping[str, RecordedRun]) -> dict[str, str]:
    """Run id -> why it is stuck, for the runs that are."""
    finished = {run_id: run for run_id, run in records.items() if run.finished and run.summary.status == "finished"}
    chances = guessing_accuracy(finished.values())
    return {i: why for i, run in finished.items() if (why := why_stuck(run, chances.get(data_of(run), math.nan)))}


def _result(run: RecordedRun | None, metric: str, store: Store) -> tuple[Status, float | None]:
    """The status of a run, and the value of its metric; None without a record."""
    if run is None:
        return Status.missing, None
    if not run.finished:
        if run.damage:
            store.report_damage(run.damage, "Its run is left out.")
            return Status.damaged, None
        return (Status.missing if run.failure is None else Status.failed), None
    if metric not in run.summary.metrics and run.summary.status == "finished":
        store.report_damage(DamagedRecord(run.path / SUMMARY, f"it lacks the metric {metric}"), "Its run is left out.")
        return Status.damaged, None
    return Status(run.summary.status), run.summary.metrics.get(metric)
