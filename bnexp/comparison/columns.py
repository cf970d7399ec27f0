"""What the columns of a table of recorded runs are: facts, settings or metrics, and in which unit a metric is."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence, Set
from typing import Any

import polars as pl

from bnexp.config.keys import OF_TRAINING, metric_unit
from bnexp.tracking.records import Summary

FACTS = ("run", "study", "arm", "seed", "status", "finished_at", "seconds", "num_classes", "num_test", "path", "source")
SHARES = {"acc", "accuracy", "auc", "auroc", "f1", "iou", "precision", "recall", "top1", "top5"}  # parts of metrics' names
OWN = "bnexp"  # the source of runs that were not imported

# More facts about an imported run, null in others: what it is called in the tool that recorded it, its group, kind of work and
# tags there, how it ended in the words of the tool, its id, the file or folder that it was read from, and its metrics. Tags and
# metrics are JSON text.
SOURCE_FACTS = tuple(f"source.{name}" for name in ("name", "group", "job_type", "tags", "state", "id", "path", "metrics"))


def source_columns(summary: Summary) -> dict[str, Any]:
    """``SOURCE_FACTS`` of a run; empty for a run of our own."""
    source = summary.source
    if source is None:
        return {}
    tags = json.dumps(source.tags) if source.tags else None
    texts = (source.name, source.group, source.job_type, tags, source.state, source.id, source.path)
    values = (*(text or None for text in texts), json.dumps(list(summary.metrics)))
    return dict(zip(SOURCE_FACTS, values, strict=True))


def metric_columns(runs: pl.DataFrame) -> list[str]:
    """The columns that are metrics, in their order.

    Args:
        runs: rows of ``load_runs``.
    """
    listed = runs["source.metrics"].drop_nulls().unique().to_list() if "source.metrics" in runs.columns else []
    imported = {name for names in listed for name in json.loads(names)}
    own = not runs.is_empty() and ("source" not in runs.columns or bool((runs["source"] == OWN).any()))
    return [name for name in runs.columns if name in imported or (own and _is_own_metric(name))]


def setting_columns(runs: pl.DataFrame) -> list[str]:
    """The columns that are configuration keys, in their order; with ``study.levels``.

    Args:
        runs: rows of ``load_runs``.
    """
    others = {*FACTS, *SOURCE_FACTS, *metric_columns(runs)}
    return [name for name in runs.columns if name not in others]


def apart(settings: Sequence[dict[str, Any]], metrics: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The settings of some runs, with ``config.`` before those that other runs have a metric of the same name as.

    Only imported runs have such names: ``loss`` may be a setting in one project, and a metric in another.

    Args:
        settings: key -> value, for each run.
        metrics: name -> value, for each run.
    """
    names = set().union(*metrics)
    if names.isdisjoint(set().union(*settings)):
        return list(settings)
    return [{_free(name, names | row.keys()) if name in names else name: row[name] for name in row} for row in settings]


def _free(name: str, taken: Set[str]) -> str:
    while name in taken:
        name = f"config.{name}"
    return name


def _is_own_metric(name: str) -> bool:
    return name not in FACTS and ("/" in name or name in OF_TRAINING)


def unit_of(runs: pl.DataFrame, metric: str) -> str:
    """The unit of a metric of these runs, as ``metric_unit`` names it; empty if it is not known.

    Imported runs do not tell units. Their accuracies count as fractions if none of these runs has one above 1. Their losses
    have no known unit.

    Args:
        runs: rows of ``load_runs``.
        metric: one of ``metric_columns``.
    """
    unit = metric_unit(metric)
    if "source" not in runs.columns or bool((runs["source"] == OWN).all()):
        return unit
    beyond_one = runs[metric].cast(pl.Float64).drop_nans().abs() > 1
    return unit if unit == "pp" and not beyond_one.any() else ""


def _is_share(metric: str) -> bool:
    """Whether the values of a metric lie between 0 and 1, or 0 and 100 %, going by its name."""
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+\d*|[A-Z]+\d*", metric)}
    return metric_unit(metric) == "pp" or bool(words & SHARES)


def unlike_units(runs: pl.DataFrame, metric: str) -> str:
    """A warning if some runs seem to have a share, such as an accuracy, as a fraction and others in per cent; empty if not.

    Runs come from one place if they have the same study and source. Those of a place with no value above 1 count as fractions.

    Args:
        runs: rows of ``load_runs``.
        metric: one of ``metric_columns``.
    """
    if not _is_share(metric) or unit_of(runs, metric) == "pp" or not {"study", "source"} <= set(runs.columns):
        return ""
    values = pl.col(metric).cast(pl.Float64).fill_nan(None)
    largest = runs.group_by("study", "source").agg(values.abs().max()).filter(pl.col(metric) > 0).sort("study", "source")
    fractions, others = largest.filter(pl.col(metric) <= 1), largest.filter(pl.col(metric) > 1)
    if fractions.is_empty() or others.is_empty():
        return ""
    return (
        f"{metric} seems to be a fraction in {fractions['study'][0]} and in per cent in {others['study'][0]}: if so, these "
        "runs cannot be compared. Bring them to one unit and import them again."
    )
