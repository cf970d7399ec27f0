"""Recorded studies with their verdicts as they were concluded, and their runs as they planned them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_type_hints

from bnexp.comparison.conclude import conclude
from bnexp.comparison.record import MOST, VERDICT, StudyRecord
from bnexp.comparison.result import ArmSummary, Comparison, StudyResult
from bnexp.config.keys import metric_unit
from bnexp.config.options import Analysis
from bnexp.plan.study import levels_text
from bnexp.tracking.reading import DamagedRecord, as_type, read_json
from bnexp.tracking.store import Store

if TYPE_CHECKING:
    import polars as pl

    from bnexp.comparison.frame import RunComparison

COMMON = {"pp": "accuracy", "nats": "loss"}  # what metrics of one unit are called together


def recorded_verdict(record: StudyRecord, store: Store) -> StudyResult:
    """The verdict of a study as it was concluded.

    If none is recorded, or another version of bnexp wrote it, the records are read again. That is no further look at the
    question: nothing is written.

    Args:
        record: the study.
        store: where its runs are recorded.
    """
    path = record.folder / VERDICT
    try:
        found: StudyResult = as_type(StudyResult, _with_nan(read_json(path, MOST)), path)
    except (FileNotFoundError, DamagedRecord):
        return conclude(record, store)
    return found


def _with_nan(value: Any) -> Any:
    """The JSON of a verdict with NaN for null where the result has a number that may be missing."""
    if not isinstance(value, dict):
        return value
    filled = _filled(StudyResult, value)
    for name, cls in (("arms", ArmSummary), ("comparisons", Comparison)):
        if isinstance(value.get(name), list):
            filled[name] = [_filled(cls, item) if isinstance(item, dict) else item for item in value[name]]
    return filled


def _filled(cls: type[Any], value: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    numbers = {item.name for item in fields(cls) if hints[item.name] is float}
    return {name: math.nan if item is None and name in numbers else item for name, item in value.items()}


def runs_of_study(record: StudyRecord, runs: pl.DataFrame) -> pl.DataFrame:
    """The rows of the runs that a study compares, with its own arms and levels, in its own order.

    Runs that it only tuned or pretrained with are left out. A run that several arms read in different metrics has a row for
    each of them; the column ``accuracy``, ``loss`` or ``value`` then has the metric of the arm.

    Args:
        record: the study.
        runs: rows of ``load_runs``.
    """
    import polars as pl

    planned = pl.DataFrame(
        [(run.run_id, run.arm, levels_text(run.levels), record.study.name) for run in record.runs],
        schema={"run": pl.String, "arm": pl.String, "study.levels": pl.String, "study": pl.String},
        orient="row",
    )
    names = [name for name in runs.columns if name not in planned.columns or name == "run"]
    joined = planned.join(runs.select(names).unique("run"), on="run", how="inner", maintain_order="left")
    if record.study.metrics and not joined.is_empty():
        joined = joined.with_columns(_own_metric(record, joined).alias(metric_of_study(record)))
    return joined


def compare_as_study(
    record: StudyRecord,
    own: pl.DataFrame,
    *,
    arm: Sequence[str] | None = None,
    by: Sequence[str] = (),
    baseline: str | None = None,
    metric: str | None = None,
    margin: float | None = None,
) -> RunComparison:
    """Compare the runs of a study once more, with its metric, baseline and margin unless others are given.

    Args:
        record: the study.
        own: rows of ``runs_of_study``.
        arm: the columns whose values make the arms; None: the arms of the study.
        by: the columns whose values are kept apart.
        baseline: the arm that the others are compared with; None: that of the study, if its arms are compared.
        metric: what is compared; None: what the study compares.
        margin: the largest difference that counts as none; None: that of the study, if its metric is compared level by level.

    Raises:
        ConfigError: as ``bnexp.compare``.
    """
    from bnexp.comparison.frame import compare

    study, planned = record.study, metric_of_study(record)
    if baseline is None and not arm and study.baseline in list(own["arm"]):
        baseline = study.baseline
    if margin is None and study.analysis is Analysis.levels and metric in (None, planned):
        margin = study.margin
    return compare(own, arm=arm, by=by, baseline=baseline, metric=metric or planned, margin=margin)


def metric_of_study(record: StudyRecord) -> str:
    """What a study compares: its metric, or what the metrics of its arms have in common."""
    own = {record.study.metrics.get(arm, record.study.metric) for arm in record.study.arms}
    return own.pop() if len(own) == 1 else COMMON.get(metric_unit(next(iter(own))), "value")


def _own_metric(record: StudyRecord, runs: pl.DataFrame) -> pl.Series:
    """For each row, the value of the metric that its arm reads."""
    import polars as pl

    own = record.study.metrics
    return pl.Series(
        [row.get(own.get(row["arm"], record.study.metric)) for row in runs.iter_rows(named=True)], dtype=pl.Float64
    )
