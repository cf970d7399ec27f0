"""Recorded studies, found by what a user calls them, with their verdicts as they were concluded."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import polars as pl

from bnexp.comparison.conclude import conclude
from bnexp.comparison.record import MOST, STUDY, VERDICT, StudyRecord, load
from bnexp.comparison.result import ArmSummary, Comparison, StudyResult
from bnexp.config.keys import metric_unit
from bnexp.plan.study import levels_text
from bnexp.tracking.reading import DamagedRecord, as_type, read_json
from bnexp.tracking.store import Store

COMMON = {"pp": "accuracy", "nats": "loss"}  # what metrics of one unit are called together


def find_study(word: str, store: Store) -> StudyRecord | None:
    """The recorded study that a word names: by its name, its id, both, or the path of its folder; None if none is so called.

    Of several with one name it is the one that was concluded last, else the one that was recorded last.

    Args:
        word: what the user typed.
        store: where studies are recorded.

    Raises:
        DamagedRecord: the record of that study cannot be used.
    """
    path = Path(word).expanduser()
    if (path / STUDY).is_file():
        return load(path)
    found = [file.parent for file in store.root.glob(f"[!.]*/study-*/{STUDY}") if word in _names(file.parent)]
    return load(max(found, key=_age)) if found else None


def _names(folder: Path) -> tuple[str, str, str]:
    name, study_id = folder.parent.name, folder.name.removeprefix("study-")
    return name, study_id, f"{name}-{study_id}"


def _age(folder: Path) -> tuple[bool, float]:
    """Sorts folders of studies: those with a verdict after those without, later ones after earlier ones."""
    verdict = folder / VERDICT
    return verdict.exists(), (verdict if verdict.exists() else folder / STUDY).stat().st_mtime


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


def metric_of_study(record: StudyRecord) -> str:
    """What a study compares: its metric, or what the metrics of its arms have in common."""
    own = {record.study.metrics.get(arm, record.study.metric) for arm in record.study.arms}
    return own.pop() if len(own) == 1 else COMMON.get(metric_unit(next(iter(own))), "value")


def _own_metric(record: StudyRecord, runs: pl.DataFrame) -> pl.Series:
    """For each row, the value of the metric that its arm reads."""
    own = record.study.metrics
    return pl.Series(
        [row.get(own.get(row["arm"], record.study.metric)) for row in runs.iter_rows(named=True)], dtype=pl.Float64
    )
