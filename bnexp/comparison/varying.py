"""Which columns of a table of runs differ, and which ones a person asks for."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import polars as pl

from bnexp.comparison.columns import metric_columns, setting_columns
from bnexp.config.keys import ALWAYS_NAMED, NAMED_IF_CHANGED, did_you_mean, in_args, schema_keys
from bnexp.config.schema import ConfigError, RunConfig
from bnexp.plan.spec import flatten
from bnexp.terminal import visible_line

LEVELS = "study.levels"
MOST_VALUES, LONGEST_VALUE = 6, 40  # values of a column that are named, and their characters
# Which settings are shown first: what most comparisons are about.
FIRST = ("data.name", "model.name", "norm.kind", "norm.placement", "optim.name", "optim.lr", *ALWAYS_NAMED, *NAMED_IF_CHANGED)
SAID_OTHERWISE = {"time": "seconds", "age": "finished_at", "accuracy": "test/accuracy", "acc": "test/accuracy", "id": "run"}
SAID_OTHERWISE |= {"loss": "test/loss", "levels": LEVELS, "norm": "norm.kind", "data": "data.name", "model": "model.name"}


def deciding_settings(runs: pl.DataFrame) -> list[str]:
    """The columns that hold settings that decide what a run learns, those first that most comparisons are about.

    The seed is not among them, nor are keys such as where a run is logged.
    """
    harmless = {info.name for info in schema_keys() if not info.metadata["identity"]}
    found = [name for name in setting_columns(runs) if name not in {*harmless, LEVELS} and not name.startswith("budget.")]
    rank = {name: place for place, name in enumerate(dict.fromkeys((*FIRST, *found)))}
    return sorted(found, key=lambda name: rank[name])


def differing(runs: pl.DataFrame, names: Sequence[str]) -> list[str]:
    """Those columns in which not all runs agree; a value that a run lacks counts as one."""
    if runs.is_empty() or not names:
        return []
    counts = runs.select(pl.col(names).n_unique()).row(0)
    return [name for name, count in zip(names, counts, strict=True) if count > 1]


def with_effect(runs: pl.DataFrame) -> pl.DataFrame:
    """The runs, with the options of a norm layer left empty if a run has none."""
    if "norm.kind" not in runs.columns:
        return runs
    options = [name for name in runs.columns if name.startswith("norm.") and name != "norm.kind"]
    return runs.with_columns(pl.when(pl.col("norm.kind") != "none").then(pl.col(name)).alias(name) for name in options)


def differing_settings(runs: pl.DataFrame) -> list[str]:
    """The settings in which runs differ, those first that most comparisons are about.

    The options of a norm layer count only among the runs that have one.
    """
    found = differing(runs, deciding_settings(runs))
    if "norm.kind" not in runs.columns:
        return found
    normed = set(differing(runs.filter(pl.col("norm.kind") != "none"), found))
    return [name for name in found if not name.startswith("norm.") or name == "norm.kind" or name in normed]


def shared_settings(runs: pl.DataFrame) -> dict[str, str]:
    """What all runs have in common and a reader wants to know: the most important settings, and those that are not usual."""
    usual = flatten(RunConfig())
    settings = deciding_settings(runs)
    rest = set(differing(runs, settings))
    values = runs.row(0, named=True) if len(runs) else {}
    found = {name: values[name] for name in settings if name not in rest and values[name] is not None}
    return {
        name: setting_text(value)
        for name, value in found.items()
        if name in ALWAYS_NAMED
        or in_args(name)
        or (name in (*NAMED_IF_CHANGED, "norm.kind") and value != usual.get(name, value))
    }


def default_metric(runs: pl.DataFrame) -> str | None:
    """The metric that is shown unless another is asked for: test accuracy, else the accuracy or loss that most runs have."""
    known = metric_columns(runs)

    def worth(name: str) -> tuple[bool, int, int]:
        kind = 2 if "acc" in name.lower() else int("loss" in name.lower())
        return name == "test/accuracy", kind, runs[name].count()

    return max(known, key=worth, default=None)


def pick_metric(runs: pl.DataFrame, name: str | None) -> str | None:
    """The metric of this name; None takes ``default_metric``. Raises ConfigError if it is not a column of numbers."""
    if name is None:
        return default_metric(runs)
    if name not in runs.columns:
        raise unknown_column(name, metric_columns(runs))
    if not runs[name].dtype.is_numeric():
        raise ConfigError(f"{name} is no metric: its values are not numbers; allowed are {', '.join(metric_columns(runs))}.")
    return name


def pick_columns(runs: pl.DataFrame, text: str) -> list[str]:
    """The columns that a person asks for.

    Args:
        runs: the table.
        text: names with commas between them; one with ``*`` takes all that fit, such as ``optim.*``.

    Raises:
        ConfigError: a name is no column, or nothing fits.
    """
    found: dict[str, None] = {}
    for name in (part.strip() for part in text.split(",")):
        fitting = [name] if name in runs.columns else fnmatch.filter(runs.columns, name)
        if not fitting:
            raise unknown_column(name, runs.columns)
        found |= dict.fromkeys(fitting)
    return list(found)


def unknown_column(name: str, known: Sequence[str]) -> ConfigError:
    """The error about a name that no column has, with the one that was probably meant."""
    hint = column_hint(name, known)
    return ConfigError(f"{name!r} is not a column of these runs.{hint} bnexp runs --columns '*' --csv has all of them.")


def column_hint(name: str, known: Sequence[str]) -> str:
    """`` Did you mean X?``: the column that people mean by this name, else the one that is spelt alike; or an empty string.

    Args:
        name: what was typed.
        known: the columns that it may be.
    """
    meant = SAID_OTHERWISE.get(name)
    return f" Did you mean {meant}?" if meant in known else did_you_mean(name, known)


def setting_text(value: object) -> str:
    """A value of a configuration as a person types it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(setting_text(item) for item in value) + "]"
    return str(value)


def values_text(column: pl.Series) -> str:
    """The different values of a column: ``batch, none``, ``0.01 to 3.2``, or the first ones and how many more there are."""
    values = column.drop_nulls().unique().sort().to_list()
    if len(values) > MOST_VALUES and column.dtype.is_numeric():
        texts = [f"{setting_text(values[0])} to {setting_text(values[-1])}"]
    else:
        texts = [visible_line(setting_text(value))[:LONGEST_VALUE] for value in values[:MOST_VALUES]]
        texts += [f"{len(values) - MOST_VALUES} more"] if len(values) > MOST_VALUES else []
    return ", ".join([*texts, *(["null"] if column.null_count() else [])])
