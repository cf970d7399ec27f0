"""Comparisons of any recorded runs: what ``bnexp.compare`` does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bnexp.comparison.result import Outcome, Status, StudyResult
from bnexp.comparison.verdict import analyse
from bnexp.config.keys import ALWAYS_NAMED, did_you_mean, schema_keys
from bnexp.config.options import Direction
from bnexp.config.schema import ConfigError, StudyConfig, refuse_text
from bnexp.plan.study import levels_text

if TYPE_CHECKING:
    import polars as pl

EXPLORATORY = "These runs were chosen for comparison after they had trained: read the verdicts as exploratory."


def compare(
    runs: pl.DataFrame,
    *,
    arm: str = "arm",
    baseline: str | None = None,
    metric: str = "test/accuracy",
    by: Sequence[str] = (),
    margin: float | None = None,
) -> StudyResult:
    """Compare recorded runs, arm against arm, with the statistics of a study; runs are paired by their seed.

    Args:
        runs: rows of :func:`bnexp.load_runs`, filtered as wanted.
        arm: the column in which arms differ, such as ``norm.kind``.
        baseline: the arm that the others are compared with; None compares each with each.
        metric: the column that is compared. A run that diverged counts at chance accuracy.
        by: columns whose values are kept apart: arms are compared at each combination.
        margin: largest difference that counts as none, above 0, in pp for an accuracy, else in the metric's unit; None for the
            margin that the runs' data set has.

    Returns:
        The comparisons, with Holm's correction over all of them, marked as exploratory in ``notes``, which also name the
        settings besides ``arm`` in which paired runs differ.

    Raises:
        ConfigError: an argument does not fit, there is a single arm, or two runs have arm, ``by`` and seed in common.

    Example:
        >>> runs = bnexp.load_runs().filter(pl.col("data.name") == "mnist")
        >>> bnexp.compare(runs, arm="norm.kind", baseline="none", by=["optim.lr"]).answer
    """
    _refuse_columns(runs, arm, metric, by)
    if margin is not None and not margin > 0:
        raise ConfigError(f"margin={margin} is out of range: allowed is a number above 0.")
    rows = runs.to_dicts()
    arms = list(dict.fromkeys(str(row[arm]) for row in rows))
    if len(arms) < 2:
        raise ConfigError(f"the runs have {len(arms)} value of {arm}, and comparing takes two; choose other runs or columns.")
    if baseline is not None and baseline not in arms:
        raise ConfigError(f"{baseline} is not a value of {arm}: allowed are {', '.join(arms)}.{did_you_mean(baseline, arms)}")
    outcomes = [_outcome(row, arm, metric, by) for row in rows]
    _refuse_repeats(outcomes, rows, by)
    study = StudyConfig(
        name="comparison",
        question=f"Do runs that differ in {arm} differ in {metric}?",
        arms={name: [] for name in arms},
        factors={name: list(dict.fromkeys(row[name] for row in rows)) for name in by},
        seeds=sorted({row["seed"] for row in rows}),
        metric=metric,
        baseline=baseline,
        direction=Direction.different,
        margin=margin,
    )
    wanted = [name for name in (*ALWAYS_NAMED, "data.margin", "num_classes", "num_test") if name in runs.columns]
    shared = {name: values[0] for name in wanted if len(values := runs[name].unique().to_list()) == 1}
    result = analyse(
        study,
        outcomes,
        study_id="",
        margin=margin if margin is not None else shared.get("data.margin") or math.nan,
        settings={name: str(shared[name]) for name in ALWAYS_NAMED if shared.get(name) is not None},
        chance=1 / shared["num_classes"] if shared.get("num_classes") else None,
        num_test=shared.get("num_test"),
    )
    return replace(result, notes=[EXPLORATORY, *_other_differences(outcomes, rows, (arm, *by)), *result.notes])


def _refuse_columns(runs: pl.DataFrame, arm: str, metric: str, by: Sequence[str]) -> None:
    """Raise ConfigError if the runs cannot be compared by these columns."""
    refuse_text("by", by, str(by))
    for name in (arm, metric, *by):
        if name not in runs.columns:
            raise ConfigError(f"{name} is not a column of these runs.{did_you_mean(name, runs.columns)}")
    for name in ("run", "seed", "status"):
        if name not in runs.columns:
            raise ConfigError(f"{name} is not a column of these runs; give whole rows of load_runs.")
    if runs.is_empty():
        raise ConfigError("there are no runs to compare; filter less of load_runs, or train some.")
    if not runs[metric].dtype.is_numeric():
        raise ConfigError(f"{metric} is no metric: its values are not numbers; give a column like test/accuracy.")


def _outcome(row: dict[str, Any], arm: str, metric: str, by: Sequence[str]) -> Outcome:
    levels = {name: row[name] for name in by}
    return Outcome(str(row[arm]), levels_text(levels), levels, row["seed"], Status(row["status"]), row[metric], row["run"])


def _other_differences(outcomes: Sequence[Outcome], rows: Sequence[dict[str, Any]], chosen: Sequence[str]) -> list[str]:
    """A sentence on the settings besides the chosen columns in which runs of one level and seed differ, if there are any.

    Those that decide no outcome, such as where a run is logged, are left out.
    """
    harmless = {*(info.name for info in schema_keys() if not info.metadata["identity"]), *chosen}
    first: dict[tuple[str, int], dict[str, Any]] = {}
    found: dict[str, None] = {}
    for outcome, row in zip(outcomes, rows, strict=True):
        other = first.setdefault((outcome.level, outcome.seed), row)
        found |= dict.fromkeys(name for name in _differ(row, other) if name not in harmless)
    return [f"Runs that are paired differ in {', '.join(found)}: that may be what made the difference."] if found else []


def _differ(row: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The settings in which two runs differ."""
    return [name for name, value in row.items() if "." in name and "/" not in name and value != other[name]]


def _refuse_repeats(outcomes: Sequence[Outcome], rows: Sequence[dict[str, Any]], by: Sequence[str]) -> None:
    """Raise ConfigError if two runs would be the same arm, level and seed, and say in which columns they differ."""
    seen: dict[tuple[str, str, int], dict[str, Any]] = {}
    for outcome, row in zip(outcomes, rows, strict=True):
        other = seen.setdefault((outcome.arm, outcome.level, outcome.seed), row)
        if other is not row:
            named = ", ".join(_differ(row, other)) or "no setting"
            raise ConfigError(
                f"the runs {other['run']} and {row['run']} have arm, seed and {', '.join(by) or 'level'} in common, and "
                f"differ in {named}: filter the runs, or give by=[...]."
            )
