"""What came of the points of a sweep, read from the records of their runs."""

from __future__ import annotations

from collections.abc import Mapping

from bnexp.comparison.sweep.record import State, Trial
from bnexp.plan.sweep.points import PlannedPoint
from bnexp.run.runner import RunError
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.store import Store

_WORST_FIRST: tuple[State, ...] = ("missing", "failed", "stopped", "diverged", "finished")


def trial_of(
    planned: PlannedPoint,
    metric: str,
    store: Store,
    sweep_id: str,
    errors: Mapping[str, RunError | RecordedRun],
) -> Trial:
    """What came of a point.

    Args:
        planned: the point with its runs.
        metric: what is optimised.
        store: where the runs are recorded.
        sweep_id: a run that was stopped early counts only if this sweep stopped it.
        errors: run id -> the error that it ended in, of those that the sweep has just tried.
    """
    number, point, specs = planned.number, planned.point, planned.specs
    if planned.problem:
        return Trial(number, dict(point), [], "failed", error=planned.problem)
    records = store.records([spec.run_id for spec in specs])
    states: list[State] = []
    values: list[float | None] = []
    epochs, ended_early, seconds, error = list[int](), list[str](), 0.0, ""
    for spec in specs:
        record, failed = records.get(spec.run_id), errors.get(spec.run_id)
        value, epoch = None, 0
        if record is not None and record.finished:
            state: State = "diverged" if record.summary.status == "diverged" else "finished"
            value, epoch = record.summary.metrics.get(metric), spec.config.train.epochs
            seconds += record.summary.seconds
        elif record is not None and (stopped := record.stopped) is not None and stopped.by == sweep_id:
            state, value, epoch = "stopped", stopped.metrics.get(metric), stopped.epoch
            seconds += stopped.seconds
            ended_early.append(spec.run_id)
        elif isinstance(failed, RunError):
            state, error = "failed", str(failed)
        else:
            state = "missing"
        states.append(state)
        values.append(value)
        epochs.append(epoch)
    worst = min(states, key=_WORST_FIRST.index)
    return Trial(number, dict(point), [spec.run_id for spec in specs], worst, values, epochs, ended_early, seconds, error)
