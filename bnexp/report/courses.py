"""What runs recorded epoch by epoch: losses and accuracies, and what probes measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from bnexp.comparison.result import Outcome
from bnexp.config.keys import SPLITS, metric_unit
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.records import RecordedRun

CURVES = {
    "train/loss": "Training loss",
    "val/loss": "Validation loss",
    "train/accuracy": "Training accuracy",
    "val/accuracy": "Validation accuracy",
}
CURVE_SCHEMA = {
    "arm": pl.String,
    "level": pl.String,
    "seed": pl.Int64,
    "epoch": pl.Int64,
    "metric": pl.String,
    "value": pl.Float64,
}
Course = tuple[Outcome, list[dict[str, float]]]  # a run and its epochs


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
    """What probes recorded by epoch, as ``run_curves``: every metric but those of each run, and epochs and steps."""
    known = {"epoch", "step", "learning_rate"}
    return _by_epoch(courses, lambda metric: metric not in known and metric.split("/")[0] not in (*SPLITS, "time"))


def _by_epoch(courses: Sequence[Course], wanted: Callable[[str], bool]) -> pl.DataFrame:
    rows = [
        (outcome.arm, outcome.level, outcome.seed, int(line["epoch"]), metric, float(value))
        for outcome, lines in courses
        for line in lines
        for metric, value in line.items()
        if wanted(metric)
    ]
    return pl.DataFrame(rows, schema=CURVE_SCHEMA, orient="row").filter(pl.col("value").is_finite())


def summarise(curves: pl.DataFrame) -> pl.DataFrame:
    """Summarise curves over seeds: ``arm level metric epoch n mean low high``, from the lowest to the highest seed.

    Accuracies become per cent. Everything else stays as recorded.
    """
    accuracies = [metric for metric in curves["metric"].unique() if metric_unit(metric) == "pp"]
    scale = pl.when(pl.col("metric").is_in(accuracies)).then(100.0).otherwise(1.0)
    value = pl.col("value")
    return (
        curves.with_columns(value=value * scale)
        .group_by("arm", "level", "metric", "epoch", maintain_order=True)
        .agg(n=value.len(), mean=value.mean(), low=value.min(), high=value.max())
        .sort("epoch", maintain_order=True)
    )
