"""From a study's record to its verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bnexp.comparison.looks import look_at
from bnexp.comparison.record import StudyRecord, num_whole_seeds
from bnexp.comparison.refined import refining_notes
from bnexp.comparison.result import Status, StudyResult
from bnexp.comparison.select import StoreRecords, study_facts, study_outcomes
from bnexp.comparison.starts import start_notes
from bnexp.comparison.tuned import tuning_notes
from bnexp.comparison.verdict import analyse
from bnexp.config.keys import metric_unit
from bnexp.config.options import Analysis, Direction
from bnexp.config.schema import ConfigError, ShowConfig
from bnexp.data.overlap import overlap_warning
from bnexp.plan.shown import DRAWN
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.store import Store


def read_by(record: StudyRecord, metric: str) -> StudyRecord:
    """The study with its arms compared by another recorded metric, at each level. Nothing is expected of it beforehand.

    What the study was claimed to show is left out, and its margin if the metric has another unit. The record is for reading
    only: saved, it would be another study.

    Args:
        record: the recorded study.
        metric: name of the metric, at the last epoch.

    Raises:
        ConfigError: the metric is the planned one, or the arms read different metrics of the same runs.
    """
    study = record.study
    if metric == study.metric and not study.metrics:
        raise ConfigError(f"{metric} is the metric that study {study.name} was planned with: leave out --metric {metric}.")
    if len({run.run_id for run in record.runs}) < len(record.runs):
        raise ConfigError(
            f"study {study.name} compares different metrics of the same runs, so that by {metric} alone each run would be "
            "compared with itself: choose another study, or leave out --metric."
        )
    keeps_margin = study.analysis is Analysis.levels and metric_unit(metric) == metric_unit(study.metric)
    changed = replace(
        study,
        metric=metric,
        metrics={},
        analysis=Analysis.levels,
        direction=Direction.different,
        decides=[],
        margin=study.margin if keeps_margin else None,
        claim="",
        sources=[],
        show=ShowConfig(figures=[study.metric, *(name for name in study.show.figures if name in DRAWN)]),
    )
    return replace(record, study=changed, question_id="", earlier=[])


def conclude_by(record: StudyRecord, metric: str, store: Store) -> StudyResult:
    """:func:`conclude` by another metric, marked as exploratory. Arguments and errors as of :func:`read_by`."""
    result = conclude(read_by(record, metric), store)
    note = f"{metric} was chosen after the fact; the study was planned with {record.study.metric}: read this as exploratory."
    return replace(result, answer=f"Exploratory, by {metric}: {result.answer}", notes=[note, *result.notes], remedy=None)


def conclude(record: StudyRecord, store: Store) -> StudyResult:
    """Compare what is recorded of a study's runs. Needs no data set."""
    record = record.up_to_date()
    facts = study_facts(record.runs, store)
    records = store.records([run.run_id for run in record.runs])
    outcomes = study_outcomes(record.runs, store, record.study.metric, record.study.metrics, records)
    unfinished = any(outcome.status is Status.missing for outcome in outcomes)
    before = record.concluded_with() if unfinished else None
    whole = before if before and before.num_seeds > num_whole_seeds(outcomes) else None
    result = analyse(
        record.study,
        outcomes,
        study_id=record.study_id,
        margin=record.study.margin or record.data.margin,
        settings=record.settings,
        chance=facts.chance if facts else None,
        num_test=facts.num_test if facts else None,
        records=StoreRecords(records, store),
        look=look_at(record.earlier, record.study.max_seeds, unfinished=unfinished, whole=whole),
        overrides=record.overrides,
    )
    told = [*tuning_notes(record.tuning, record.study.tune), *refining_notes(record.study, record.added)]
    told += start_notes(record.runs, records) + _overlap_notes(records.values(), record.data.margin)
    return replace(result, notes=[*result.notes, *told])


def _overlap_notes(runs: Iterable[RecordedRun], margin: float) -> list[str]:
    """What is said of test images that are also training images, by the run that has most of them."""
    known = [(run.summary.num_test_trained or 0, run.summary.num_test or 0) for run in runs if run.finished]
    warning = overlap_warning({"test": max(known)}, margin) if known else ""
    return [warning] if warning else []
