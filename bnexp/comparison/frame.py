"""Recorded runs as a table, and comparisons of any of them: what ``bnexp.load_runs`` and ``bnexp.compare`` do."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexp.comparison.columns import FACTS, OWN, SOURCE_FACTS, apart, source_columns
from bnexp.comparison.result import Outcome, Status, StudyResult
from bnexp.comparison.verdict import analyse
from bnexp.config.keys import ALWAYS_NAMED, did_you_mean, schema_keys
from bnexp.config.options import Direction
from bnexp.config.schema import ConfigError, StudyConfig, refuse_text
from bnexp.plan.study import levels_text
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.records import CONFIG, RecordedRun
from bnexp.tracking.store import Store

if TYPE_CHECKING:
    import polars as pl

EXPLORATORY = "These runs were chosen for comparison after they had trained: read the verdicts as exploratory."


def load_runs(runs_dir: str | Path | None = None) -> pl.DataFrame:
    """All finished runs, one row each, in the order of their folders. A damaged record is named in the log and left out.

    Columns, in this order:

    - facts: ``run`` (id), ``study``, ``arm``, ``seed``, ``status`` (``finished``, ``diverged`` or, only of imported runs,
      ``failed``), ``finished_at``, ``seconds`` (wall time), ``num_classes``, ``num_test`` (test images), ``path`` (the run's
      folder), ``source`` (``bnexp``, or the tool that an imported run comes from);
    - if runs were imported, more facts about them, such as ``source.name``: see ``columns.SOURCE_FACTS``;
    - one for each configuration key, such as ``optim.lr``; lists are JSON text; keys of the study are left out, but
      ``study.levels``;
    - one for each metric, such as ``test/accuracy``: value of the last epoch; accuracies are fractions. Metrics of
      imported runs are as they were recorded.

    Args:
        runs_dir: the directory of the records; None for ``BNEXP_RUNS_DIR``, else ``./runs``.

    Returns:
        The table; null in a column that a run does not have.

    Example:
        >>> runs = bnexp.load_runs()
        >>> runs.group_by("norm.kind").agg(pl.col("test/accuracy").mean())
    """
    import polars as pl

    store = Store(Path(runs_dir) if runs_dir is not None else None)
    facts: list[dict[str, Any]] = []
    settings: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    for run in store.runs():
        try:
            own = _settings(run)
        except DamagedRecord as damage:
            store.report_damage(damage, "Its run is left out.")
            continue
        facts.append(_facts(run))
        settings.append(own)
        metrics.append(dict(run.summary.metrics))
    parts = [pl.DataFrame(rows, infer_schema_length=None, strict=False) for rows in (facts, apart(settings, metrics), metrics)]
    return pl.concat(parts, how="horizontal") if facts else pl.DataFrame(schema=dict.fromkeys(FACTS, pl.String))


def _facts(run: RecordedRun) -> dict[str, Any]:
    summary = run.summary
    known = run.facts
    values = (
        run.run_id,
        summary.study,
        summary.arm,
        summary.seed,
        summary.status,
        summary.finished_at or None,
        summary.seconds if math.isfinite(summary.seconds) else None,
        len(known.class_names) if known else None,
        known.num_test if known else None,
        str(run.path),
        summary.source.tool if summary.source else OWN,
    )
    return dict(zip(FACTS, values, strict=True)) | source_columns(summary)


def _settings(run: RecordedRun) -> dict[str, Any]:
    try:
        settings = run.settings
    except FileNotFoundError as error:
        raise DamagedRecord(run.path / CONFIG, "it is not there") from error
    own = {name: value for name, value in settings.items() if name != "seed" and not name.startswith("study.")}
    facts = {*FACTS, *SOURCE_FACTS}
    taken = {*facts, *own, *(info.name for info in schema_keys())}
    if twice := [*(name for name in own if name in facts), *(name for name in run.summary.metrics if name in taken)]:
        raise DamagedRecord(run.path, f"{twice[0]} stands for two things in it")
    plain = {name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in own.items()}
    return plain | {"study.levels": levels_text(run.summary.levels)}


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
        runs: rows of :func:`load_runs`, filtered as wanted.
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
