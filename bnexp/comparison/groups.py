"""Groups of runs: how many there are, and the mean of a metric with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from bnexp.comparison.columns import unit_of
from bnexp.comparison.listing import Listing, header, shown_unit, shown_value
from bnexp.comparison.stats import mean_interval
from bnexp.comparison.text import interval
from bnexp.comparison.varying import differing_settings, pick_metric, setting_text, with_effect
from bnexp.config.keys import did_you_mean, is_accuracy
from bnexp.config.schema import ConfigError

MOST_MIXED = 5  # settings that a note names


def group_rows(
    runs: pl.DataFrame, by: Sequence[str], metric: str | None = None, sort_by: str | None = None
) -> list[dict[str, Any]]:
    """One row for each combination of values of some columns.

    Args:
        runs: rows of ``select_runs``.
        by: the columns.
        metric: the metric whose mean is taken; None: test accuracy if there is one. A diverged run counts at chance accuracy,
            and not at all for a metric that is no accuracy.
        sort_by: a column of ``by``, or ``n``, ``mean``, ``sd``...; with a ``-`` before it the largest comes first. None: by the
            columns of ``by``, in their order.

    Returns:
        The columns of ``by``, ``metric``, ``n`` (runs with a value), ``diverged``, ``mean``, ``low`` and ``high`` (bounds of
        the 95 % interval, Student's t), ``sd``; null where fewer than three runs, or equal ones, tell nothing. Accuracies are
        fractions.

    Raises:
        ConfigError: the metric or ``sort_by`` is not a column.
    """
    name = pick_metric(runs, metric)
    if name is None:
        raise ConfigError("these runs have no metric, so groups of them have no mean.")
    value = pl.when(pl.col("status") == "diverged").then(_when_diverged(name)).otherwise(pl.col(name).cast(pl.Float64))
    table = runs.with_columns(value.alias("value of group")).sort(list(by), nulls_last=True, maintain_order=True)
    rows = []
    for key, group in table.group_by(list(by), maintain_order=True):
        values = [item for item in group["value of group"] if item is not None and math.isfinite(item)]
        lost = int((group["status"] == "diverged").sum())
        rows.append(dict(zip(by, key, strict=True)) | {"metric": name, "n": len(values), "diverged": lost} | _mean(values))
    return rows if sort_by is None else _sorted(rows, sort_by)


def list_groups(runs: pl.DataFrame, by: Sequence[str], metric: str | None = None, sort_by: str | None = None) -> Listing:
    """As ``group_rows``, as a table for people: accuracies in per cent, their standard deviation in pp."""
    rows = group_rows(runs, by, metric, sort_by)
    name = rows[0]["metric"]
    unit, spread = shown_unit(runs, name), unit_of(runs, name)
    scale = 100 if spread == "pp" else 1
    shown = [
        {
            **{column: setting_text(row[column]) for column in by},
            "n": str(row["n"]),
            "diverged": str(row["diverged"]),
            header(runs, name): shown_value(row["mean"], unit),
            "95 % interval": "–" if row["low"] is None else interval(scale * row["low"], scale * row["high"], unit),
            f"sd ({spread})" if spread == "pp" else "sd": shown_value(row["sd"], spread),
        }
        for row in rows
    ]
    lost = sum(row["diverged"] for row in rows)
    if not lost:
        shown = [{column: text for column, text in row.items() if column != "diverged"} for row in shown]
    counted = "count at chance accuracy" if is_accuracy(name) else "have no value"
    notes = [f"Runs that diverged {counted}: {lost}."] if lost else []
    if mixed := _mixed(runs, by):
        more = f" and {len(mixed) - MOST_MIXED} more" if len(mixed) > MOST_MIXED else ""
        notes.append(f"Runs of one group also differ in {', '.join(mixed[:MOST_MIXED])}{more}: a mean over them mixes these.")
    left = [column for column in by if not runs[column].dtype.is_numeric()]
    caption = f"{name} by {', '.join(by)}: mean over n runs with Student's 95 % t interval, and standard deviation."
    return Listing(shown, [column for column in shown[0] if column not in left], notes, " ".join([caption, *notes]))


def _mixed(runs: pl.DataFrame, by: Sequence[str]) -> list[str]:
    """The settings in which runs of one group differ."""
    names = [name for name in differing_settings(runs) if name not in by]
    within = with_effect(runs).group_by(list(by)).agg(pl.col(names).n_unique()) if names else runs
    return [name for name in names if (within[name] > 1).any()]


def _when_diverged(metric: str) -> pl.Expr:
    """What counts for a run that diverged: guessing, or nothing."""
    return 1 / pl.col("num_classes") if is_accuracy(metric) and not metric.startswith("gap/") else pl.lit(None)


def _mean(values: list[float]) -> dict[str, float | None]:
    estimate = mean_interval(values)
    mean = estimate.estimate
    sd = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1)) if len(values) > 1 else math.nan
    found = {"mean": mean, "low": estimate.low, "high": estimate.high, "sd": sd}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _sorted(rows: list[dict[str, Any]], sort_by: str) -> list[dict[str, Any]]:
    name, descending = sort_by.removeprefix("-"), sort_by.startswith("-")
    if name not in rows[0]:
        known = [column for column in rows[0] if column != "metric"]
        raise ConfigError(f"groups cannot be sorted by {name!r}: allowed are {', '.join(known)}.{did_you_mean(name, known)}")
    known_rows = [row for row in rows if row[name] is not None]
    return sorted(known_rows, key=lambda row: row[name], reverse=descending) + [row for row in rows if row[name] is None]
