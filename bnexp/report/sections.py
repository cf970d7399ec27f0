"""What a report says, as plain data: every section is gathered here, before anything is drawn or written.

HTML, PNG and W&B draw from the same ``Report``. Nothing here knows of markup or charts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from bnexp.compare.analyses import ANALYSES
from bnexp.compare.pairing import Results
from bnexp.compare.result import ArmSummary, Comparison, Outcome, Status, StudyResult
from bnexp.compare.stats import differences, mean_interval
from bnexp.data.images import ImagesById
from bnexp.report.configuration import Configuration, environments, gather
from bnexp.report.predictions import PredictionSection, collect, load
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.records import DataFacts, RecordedRun
from bnexp.tracking.store import Store

CURVES = {"train/loss": "Training loss", "val/loss": "Validation loss"} | {
    "train/accuracy": "Training accuracy",
    "val/accuracy": "Validation accuracy",
}
MOST_CLASSES = 1000  # of a confusion matrix, which has a cell for each pair of them
LEFT_OUT = "What it holds is left out of the report."
Course = tuple[Outcome, list[dict[str, float]]]  # a run and its epochs

CURVE_SCHEMA = {"arm": pl.String, "level": pl.String, "seed": pl.Int64, "epoch": pl.Int64} | {
    "metric": pl.String,
    "value": pl.Float64,
}
DIFFERENCE_SCHEMA = {"arm": pl.String, "baseline": pl.String, "level": pl.String, "measure": pl.String} | {
    "seed": pl.Int64,
    "difference": pl.Float64,
}


@dataclass(frozen=True)
class VerdictRow:
    """One arm at one level, and how it compares with the study's baseline (None for the baseline or without one)."""

    summary: ArmSummary
    comparison: Comparison | None


@dataclass(frozen=True)
class Factor:
    """The study's metric over one factor.

    ``frame``: ``arm panel level x n mean low high diverged``, a row an arm and level; ``x`` is a number where ``numeric``,
    else text; ``panel`` names the levels of the remaining factors, empty where there are none. Units as in ``ArmSummary``.
    ``baseline``: the arm that the values are differences from; empty where they are the metric itself.
    """

    name: str
    numeric: bool
    log: bool
    frame: pl.DataFrame = field(repr=False)
    baseline: str = ""

    @property
    def panels(self) -> list[str]:
        return self.frame["panel"].unique(maintain_order=True).to_list()


@dataclass(frozen=True)
class Incident:
    """A planned run that failed, diverged, is missing or has a damaged record, and what is known of the reason."""

    arm: str
    level: str
    seed: int
    status: Status
    detail: str
    run_id: str


@dataclass(frozen=True)
class Report:
    """All sections of one study's report.

    ``focus``: the level with the best mean over arms, at which curves open and predictions are shown (empty without
    factors). ``curves``: ``arm level seed epoch metric value`` of the runs that did not diverge, in the metric's own unit.
    ``probes``: the same of what probes measured. ``differences``: of ``paired_differences``, in the unit of the measure.
    ``advantage``: of ``study_advantage``. ``notes``: those of the result, then damaged files.
    """

    title: str
    result: StudyResult
    class_names: list[str]
    arms: list[str]
    levels: list[str]
    focus: str
    verdicts: list[VerdictRow]
    curves: pl.DataFrame = field(repr=False)
    probes: pl.DataFrame = field(repr=False)
    differences: pl.DataFrame = field(repr=False)
    factor: Factor | None = field(repr=False)
    advantage: Factor | None = field(repr=False)
    predictions: PredictionSection | None = field(repr=False)
    incidents: list[Incident]
    notes: list[str]
    configuration: Configuration
    environment: dict[str, list[str]]
    command: str


def build(
    result: StudyResult,
    store: Store,
    *,
    facts: DataFacts | None,
    images: ImagesById | None,
    command: str,
) -> Report:
    """Gather every section of the report on ``result`` from the records in ``store``.

    Args:
        result: what the comparison found.
        store: where the runs are recorded. A damaged file costs its part of one run, is named in the log and in the notes.
        facts: what the runs were tested on; None leaves the predictions out.
        images: test image ids (N,) -> pixels (N, H, W, C) as uint8 with C 1 or 3; None leaves the gallery without pictures.
        command: what to type to get this study again.
    """
    runs = store.records([outcome.run_id for outcome in result.outcomes])
    finished = [(outcome, runs[outcome.run_id]) for outcome in result.outcomes if outcome.status is Status.finished]
    arms = list(dict.fromkeys(outcome.arm for outcome in result.outcomes))
    levels = list(dict.fromkeys(outcome.level for outcome in result.outcomes))
    focus = _focus(result.arms, levels)
    courses, unread = histories(finished)
    class_names = facts.class_names if facts else []
    too_many = len(class_names) > MOST_CLASSES
    at_focus = [pair for pair in finished if pair[0].level == focus]
    frames, unpredicted = load(at_focus, arms, None if too_many else facts)
    configuration, unknown = gather(result.study, result.outcomes, runs, arms)
    problems = [*unread, *unpredicted, *unknown]
    for damage in problems:
        store.report_damage(damage, LEFT_OUT)
    notes = [f"{damage} {LEFT_OUT}" for damage in problems]
    if too_many:
        notes.append(f"Predictions are drawn for at most {MOST_CLASSES:,} classes; here are {len(class_names):,}.")
    return Report(
        title=str(result.study.get("name") or "study"),
        result=result,
        class_names=class_names,
        arms=arms,
        levels=levels,
        focus=focus,
        verdicts=_verdicts(result),
        curves=run_curves(courses),
        probes=run_probes(courses),
        differences=paired_differences(result),
        factor=study_factor(result),
        advantage=study_advantage(result, facts.chance if facts else None),
        predictions=collect(frames, at_focus[0][1].summary.data, len(class_names), images) if frames else None,
        incidents=[_incident(o, runs.get(o.run_id)) for o in result.outcomes if o.status is not Status.finished],
        notes=[*result.notes, *notes],
        configuration=configuration,
        environment=environments([run for run in runs.values() if run.finished]),
        command=command,
    )


def _focus(summaries: Sequence[ArmSummary], levels: Sequence[str]) -> str:
    means = {level: [s.mean for s in summaries if s.level == level and np.isfinite(s.mean)] for level in levels}
    known = {level: float(np.mean(values)) for level, values in means.items() if values}
    return max(known, key=known.__getitem__) if known else (levels[0] if levels else "")


def _verdicts(result: StudyResult) -> list[VerdictRow]:
    about = [c for c in result.comparisons if c.measure == result.metric]
    one_baseline = len({c.baseline for c in about}) == 1
    found = {(c.arm, c.level): c for c in about} if one_baseline else {}
    return [VerdictRow(summary, found.get((summary.arm, summary.level))) for summary in result.arms]


def histories(finished: Sequence[tuple[Outcome, RecordedRun]]) -> tuple[list[Course], list[DamagedRecord]]:
    """The lines of each run's ``metrics.jsonl`` that end an epoch, and what is wrong with the files that cannot be read."""
    found, problems = [], []
    for outcome, run in finished:
        try:
            found.append((outcome, [line for line in run.metrics() if "epoch" in line]))
        except DamagedRecord as damage:
            problems.append(damage)
    return found, problems


def run_curves(courses: Sequence[Course]) -> pl.DataFrame:
    """Losses and accuracies of the runs by epoch: ``arm level seed epoch metric value``."""
    return _by_epoch(courses, lambda metric: metric in CURVES)


def run_probes(courses: Sequence[Course]) -> pl.DataFrame:
    """What probes recorded of the runs by epoch, as ``run_curves``: every other metric but rates, times and steps."""
    known = {*CURVES, "epoch", "step", "learning_rate"}
    return _by_epoch(courses, lambda metric: metric not in known and not metric.startswith("time/"))


def _by_epoch(courses: Sequence[Course], wanted: Callable[[str], bool]) -> pl.DataFrame:
    rows = [
        (outcome.arm, outcome.level, outcome.seed, int(line["epoch"]), metric, float(value))
        for outcome, lines in courses
        for line in lines
        for metric, value in line.items()
        if wanted(metric)
    ]
    return pl.DataFrame(rows, schema=CURVE_SCHEMA, orient="row").filter(pl.col("value").is_finite())


def paired_differences(result: StudyResult) -> pl.DataFrame:
    """``arm - baseline`` for each comparison and each seed of both: ``arm baseline level measure seed difference``."""
    rows = [
        (c.arm, c.baseline, c.level, c.measure, seed, difference)
        for c in result.comparisons
        for seed, difference in zip(c.seeds, c.differences, strict=True)
    ]
    return pl.DataFrame(rows, schema=DIFFERENCE_SCHEMA, orient="row")


def study_advantage(result: StudyResult, chance: float | None) -> Factor | None:
    """The paired difference of each arm from the baseline over the factor; only where the analysis asks how it changes.

    Without a baseline two arms are compared all the same, the second with the first; of more arms there is no one difference.
    """
    arms = list(dict.fromkeys(outcome.arm for outcome in result.outcomes))
    baseline, factor = result.study.get("baseline") or (arms[0] if len(arms) == 2 else None), study_factor(result)
    if not ANALYSES[result.study["analysis"]].follows_factor or factor is None or baseline is None:
        return None
    results = Results(result.outcomes, str(result.study["metric"]), chance, metrics=result.study.get("metrics") or {})
    rows = []
    for row in factor.frame.filter(pl.col("arm") != baseline).to_dicts():
        pairs = results.pair(row["arm"], baseline, row["level"])
        mean = mean_interval(differences(pairs.arm, pairs.baseline))
        if pairs.seeds:
            shown = {"n": len(pairs.seeds), "mean": mean.estimate, "low": mean.low, "high": mean.high}
            rows.append(row | shown | {"diverged": pairs.both_diverged})
    return replace(factor, frame=pl.DataFrame(rows), baseline=baseline) if rows else None


def study_factor(result: StudyResult) -> Factor | None:
    """The study's metric over the factor with the most levels, a numeric one first; None below two levels."""
    levels = {outcome.level: outcome.levels for outcome in result.outcomes if outcome.levels}
    if len(levels) < 2:
        return None
    names = list(dict.fromkeys(name for values in levels.values() for name in values))
    choices: dict[str, list[Any]] = {
        name: list(dict.fromkeys(values.get(name) for values in levels.values())) for name in names
    }
    name = max(names, key=lambda n: (_is_numeric(choices[n]), len(choices[n])))
    numeric = _is_numeric(choices[name])
    numbers = [float(x) for x in choices[name]] if numeric else []
    rows = [
        {
            "arm": s.arm,
            "panel": ", ".join(f"{other}={value}" for other, value in levels[s.level].items() if other != name),
            "level": s.level,
            "x": float(levels[s.level][name]) if numeric else str(levels[s.level][name]),
            **{key: getattr(s, key) for key in ("n", "mean", "low", "high", "diverged")},
        }
        for s in result.arms
        if s.level in levels and np.isfinite(s.mean)
    ]
    log = numeric and min(numbers) > 0 and max(numbers) >= 8 * min(numbers)
    return Factor(name, numeric, log, pl.DataFrame(rows)) if rows else None


def _is_numeric(values: Sequence[Any]) -> bool:
    return len(values) > 1 and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _incident(outcome: Outcome, run: RecordedRun | None) -> Incident:
    if run is None or outcome.status is Status.missing:
        detail = "planned, but no record was found"
    elif outcome.status is Status.diverged:
        step = run.summary.diverged_at if run.finished else None
        detail = f"loss not finite from step {step}; counted at chance accuracy" if step else "counted at chance accuracy"
    elif outcome.status is Status.failed:
        detail = run.failure or "no reason was recorded"
    else:
        detail = str(run.damage) if run.damage else "its record lacks the metric that is compared"
    return Incident(outcome.arm, outcome.level, outcome.seed, outcome.status, detail, outcome.run_id)
