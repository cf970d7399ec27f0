"""What a report says, as plain data: every section is gathered here, before anything is drawn or written.

HTML, PNG and W&B draw from the same ``Report``. Nothing here knows of markup or charts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import polars as pl

from bnexp.comparison.record import StudyRecord
from bnexp.comparison.result import ArmSummary, Comparison, Outcome, Status, StudyResult
from bnexp.config.schema import ShowConfig
from bnexp.data.images import ImagesById
from bnexp.report.beside import other_metrics
from bnexp.report.configuration import Configuration, environments, gather
from bnexp.report.courses import histories, run_curves, run_probes
from bnexp.report.factor import Factor, study_advantage, study_factor
from bnexp.report.predictions import Frames, PredictionSection, collect, load
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.records import DataFacts, RecordedRun
from bnexp.tracking.store import Store

MOST_CLASSES = 1000  # of a confusion matrix, which has a cell for each pair of them
LEFT_OUT = "What it holds is left out of the report."
DIFFERENCE_SCHEMA = {
    "arm": pl.String,
    "baseline": pl.String,
    "level": pl.String,
    "measure": pl.String,
    "seed": pl.Int64,
    "difference": pl.Float64,
}


@dataclass(frozen=True)
class VerdictRow:
    """One arm at one level, and how it compares with the baseline; None for the baseline itself, or without a baseline."""

    summary: ArmSummary
    comparison: Comparison | None


@dataclass(frozen=True)
class Incident:
    """A planned run that failed, did not train, is missing or has a damaged record, with the known reason."""

    arm: str
    level: str
    seed: int | None
    status: str
    detail: str
    run_id: str


@dataclass(frozen=True)
class Report:
    """All sections of one study's report.

    Args:
        title: name of the study.
        result: what the comparison found.
        show: what the study shows beside its answer.
        class_names: of the data set; empty if they are not known.
        arms: all arms, in the order of their colours.
        levels: all combinations of factor levels as text; one empty text without factors.
        focus: the level with the best mean over arms, at which curves open and predictions are shown.
        verdicts: one row per arm and level.
        curves: ``arm level seed epoch metric value`` of the runs that did not diverge, in the metric's own unit.
        probes: the same of what probes measured.
        factor: the metric over the factor with the most levels; None without factors.
        advantage: the difference from the baseline over that factor, if the analysis asks how it changes.
        beside: the study in each other metric that it shows.
        frames: arm -> seed -> predictions at ``focus``.
        predictions: what they say of single images; None without predictions.
        incidents: one row per planned run that did not finish well.
        notes: those of the result, then figures that are missing and damaged files.
        configuration: how the arms differ.
        environment: where the runs trained.
        trained: the day on which the runs finished, or the first and the last day; empty if none did.
        num_test: number of test images; None if it is not known.
        planned: the metric that the study was planned with, if it is read by another one; else empty.
        command: the command that runs exactly this study again.
    """

    title: str
    result: StudyResult
    show: ShowConfig
    class_names: list[str]
    arms: list[str]
    levels: list[str]
    focus: str
    verdicts: list[VerdictRow]
    curves: pl.DataFrame = field(repr=False)
    probes: pl.DataFrame = field(repr=False)
    factor: Factor | None = field(repr=False)
    advantage: Factor | None = field(repr=False)
    beside: list[StudyResult] = field(repr=False)
    frames: Frames = field(repr=False)
    predictions: PredictionSection | None = field(repr=False)
    incidents: list[Incident]
    notes: list[str]
    configuration: Configuration
    environment: dict[str, list[str]]
    trained: str
    num_test: int | None
    planned: str
    command: str


def build(
    record: StudyRecord,
    result: StudyResult,
    store: Store,
    *,
    facts: DataFacts | None,
    images: ImagesById | None,
    planned: str = "",
) -> Report:
    """Gather every section of the report from the records in ``store``.

    A damaged file costs its part of one run. It is named in the log and in the notes.

    Args:
        record: the recorded study.
        result: what its comparison found.
        store: where the runs are recorded.
        facts: what the runs were tested on; None leaves the predictions out.
        images: test image ids (N,) -> pixels (N, H, W, C) as uint8 with C 1 or 3; None leaves the gallery without pictures.
        planned: the metric that the study was planned with, if ``record`` reads it by another one.
    """
    runs = store.records([outcome.run_id for outcome in result.outcomes])
    finished = _finished(result, runs)
    arms = list(dict.fromkeys(outcome.arm for outcome in result.outcomes))
    focus = focus_level(result)
    courses, unread = histories(finished)
    class_names = facts.class_names if facts else []
    too_many = len(class_names) > MOST_CLASSES
    at_focus = [pair for pair in finished if pair[0].level == focus]
    frames, unpredicted = load(at_focus, arms, None if too_many else facts)
    configuration, unknown = gather(result.study, result.outcomes, runs, arms)
    beside, notes = other_metrics(record, result, store)
    notes += _left_out([*unread, *unpredicted, *unknown], store)
    if too_many:
        notes.append(f"Predictions are drawn for at most {MOST_CLASSES:,} classes; here are {len(class_names):,}.")
    return Report(
        title=record.study.name or "study",
        result=result,
        show=record.study.show,
        class_names=class_names,
        arms=arms,
        levels=_levels(result),
        focus=focus,
        verdicts=_verdicts(result),
        curves=run_curves(courses),
        probes=run_probes(courses),
        factor=study_factor(result),
        advantage=study_advantage(result, facts.chance if facts else None),
        beside=beside,
        frames=frames,
        predictions=collect(frames, at_focus[0][1].summary.data, len(class_names), images) if frames else None,
        incidents=[_incident(o, runs.get(o.run_id)) for o in result.outcomes if o.ending != Status.finished],
        notes=[*result.notes, *notes],
        configuration=configuration,
        environment=environments([run for run in runs.values() if run.finished]),
        trained=days([run.summary.finished_at for run in runs.values() if run.finished]),
        num_test=facts.num_test if facts else None,
        planned=planned,
        command=record.command,
    )


def _finished(result: StudyResult, runs: Mapping[str, RecordedRun]) -> list[tuple[Outcome, RecordedRun]]:
    """The finished runs of a study that still have their record; the verdict may be older than a copy of the records."""
    known = [(outcome, runs.get(outcome.run_id)) for outcome in result.outcomes if outcome.status is Status.finished]
    return [(outcome, run) for outcome, run in known if run is not None and run.finished]


def _left_out(problems: Sequence[DamagedRecord], store: Store) -> list[str]:
    """Name damaged files in the log; the notes of the report on them."""
    for damage in problems:
        store.report_damage(damage, LEFT_OUT)
    return [f"{damage} {LEFT_OUT}" for damage in problems]


def days(times: Iterable[str | None]) -> str:
    """``21 November 2026``, or the first and the last day; empty without a time that can be read.

    Args:
        times: ISO 8601, as runs record them.
    """
    found = set()
    for time in times:
        with suppress(ValueError, TypeError):
            found.add(datetime.fromisoformat(time or "").date())
    return " to ".join(f"{day.day} {day:%B %Y}" for day in sorted({min(found), max(found)})) if found else ""


def _levels(result: StudyResult) -> list[str]:
    return list(dict.fromkeys(outcome.level for outcome in result.outcomes))


def focus_level(result: StudyResult) -> str:
    """The level with the best mean over arms; the first one if no run finished, and empty without factors."""
    levels = _levels(result)
    means = {level: [s.mean for s in result.arms if s.level == level and np.isfinite(s.mean)] for level in levels}
    known = {level: float(np.mean(values)) for level, values in means.items() if values}
    return max(known, key=known.__getitem__) if known else (levels[0] if levels else "")


def _verdicts(result: StudyResult) -> list[VerdictRow]:
    about = [c for c in result.comparisons if c.measure == result.metric]
    one_baseline = len({c.baseline for c in about}) == 1
    found = {(c.arm, c.level): c for c in about} if one_baseline else {}
    return [VerdictRow(summary, found.get((summary.arm, summary.level))) for summary in result.arms]


def paired_differences(result: StudyResult) -> pl.DataFrame:
    """``arm - baseline`` for each comparison and each seed of both: ``arm baseline level measure seed difference``."""
    rows = [
        (c.arm, c.baseline, c.level, c.measure, seed, difference)
        for c in result.comparisons
        for seed, difference in zip(c.seeds, c.differences, strict=True)
    ]
    return pl.DataFrame(rows, schema=DIFFERENCE_SCHEMA, orient="row")


def _incident(outcome: Outcome, run: RecordedRun | None) -> Incident:
    if outcome.stuck:
        detail = outcome.stuck
    elif run is None or outcome.status is Status.missing:
        detail = "planned, but no record was found"
    elif outcome.status is Status.diverged:
        step = run.summary.diverged_at if run.finished else None
        detail = f"loss not finite from step {step}; counted at chance accuracy" if step else "counted at chance accuracy"
    elif outcome.status is Status.failed:
        detail = run.failure or "no reason was recorded"
    else:
        detail = str(run.damage) if run.damage else "its record lacks the metric that is compared"
    return Incident(outcome.arm, outcome.level, outcome.seed, outcome.ending, detail, outcome.run_id)
