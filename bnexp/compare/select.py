"""Recorded runs -> outcomes: the planned runs of a study, each found in the store, failed or missing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bnexp.compare.result import Outcome, Status
from bnexp.config import ConfigError
from bnexp.schema import did_you_mean
from bnexp.tracking.store import RecordedRun, Store


def value_text(value: Any) -> str:
    """A factor level as a configuration file writes it: ``0.01``, ``true``, ``null``."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def level_text(levels: Mapping[str, Any]) -> str:
    """Factor levels as one text, keys by their last component: ``lr=0.01, batch_size=64``; empty without factors."""
    return ", ".join(f"{key.rsplit('.', 1)[-1]}={value_text(value)}" for key, value in levels.items())


def study_outcomes(study_runs: Sequence[Mapping[str, Any]], store: Store, metric: str) -> list[Outcome]:
    """What came of each planned run (``run_id arm levels seed``), whichever study trained it, in the order given.

    A run with a summary is finished or diverged; one with only ``failure.json`` failed; anything else is missing. Raises
    ConfigError where a finished run has not recorded ``metric``.
    """
    places = _places(store.root, {str(run["run_id"]) for run in study_runs})
    found: dict[str, tuple[Status, float | None]] = {}
    for run_id, paths in places.items():
        found[run_id] = _result([RecordedRun(path) for path in paths], metric)
    return [
        Outcome(
            arm=str(run["arm"]),
            level=level_text(run["levels"]),
            levels=dict(run["levels"]),
            seed=int(run["seed"]),
            status=found.get(run["run_id"], (Status.missing, None))[0],
            value=found.get(run["run_id"], (Status.missing, None))[1],
            run_id=str(run["run_id"]),
        )
        for run in study_runs
    ]


def _places(root: Path, run_ids: set[str]) -> dict[str, list[Path]]:
    """Run id -> its directories. One listing a study: a glob a run would take seconds for a thousand runs."""
    places: dict[str, list[Path]] = {}
    for study in sorted(path for path in root.glob("[!.]*") if path.is_dir()):
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
