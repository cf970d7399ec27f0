"""Recorded runs as a table: what ``bnexp.load_runs`` does."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexp.comparison.columns import FACTS, OWN, SOURCE_FACTS, apart, source_columns
from bnexp.config.keys import schema_keys
from bnexp.plan.study import levels_text
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.records import CONFIG, RecordedRun, Summary
from bnexp.tracking.store import Store

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)

FAILED, STOPPED = "failed", "stopped"
# Status of a run that ended without a result, in an error or by a sweep -> what its record says of that.
CUT_SHORT = {FAILED: "how a run failed", STOPPED: "after which epoch a run was stopped"}
MOST_NAMED = 5  # damaged records that are named one by one


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
    store = Store(Path(runs_dir) if runs_dir is not None else None)
    return runs_frame(store.folders(), store)


def runs_frame(records: Iterable[RecordedRun], store: Store, *, cut_short: str = "") -> pl.DataFrame:
    """The table of ``load_runs``, of those of these runs that have finished.

    Args:
        records: recorded runs; of several with the same id the first whole one counts.
        store: it names damaged records in the log.
        cut_short: which runs without a result are wanted as well, one of ``CUT_SHORT``; they have no metrics. Empty: none.
    """
    import polars as pl

    facts: list[dict[str, Any]] = []
    settings: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    seen: set[str] = set()
    damages: list[DamagedRecord] = []
    for run in records:
        if run.run_id in seen:
            continue
        try:
            if (summary := _ending(run, cut_short)) is None:
                continue
            own = _settings(run, summary)
        except DamagedRecord as damage:
            damages.append(damage)
            continue
        seen.add(run.run_id)
        facts.append(_facts(run, summary, summary.status if run.finished else cut_short))
        settings.append(own)
        metrics.append(dict(summary.metrics))
    _report(damages, store)
    known = [rows for rows in (facts, apart(settings, metrics), metrics) if any(rows)]
    parts = [pl.DataFrame(rows, infer_schema_length=None, strict=False) for rows in known]
    return pl.concat(parts, how="horizontal") if facts else pl.DataFrame(schema=dict.fromkeys(FACTS, pl.String))


def _report(damages: Sequence[DamagedRecord], store: Store) -> None:
    """Name the first damaged records in the log, and count the rest."""
    for number, damage in enumerate(damages):
        store.report_damage(damage, "Its run is left out.", named=number < MOST_NAMED)
    if len(damages) > MOST_NAMED:
        log.warning("%d more records are damaged; their runs are left out.", len(damages) - MOST_NAMED)


def _ending(run: RecordedRun, cut_short: str) -> Summary | None:
    """How a run ended; None if it has not, or without a result that nobody asked for."""
    if run.damage or run.finished:
        return run.summary
    stopped = run.stopped if cut_short == STOPPED else None
    if stopped is None and not (cut_short == FAILED and run.failure is not None):
        return None
    with suppress(FileNotFoundError):
        settings = run.settings
        levels, seed = settings.get("study.levels"), settings.get("seed")
        return Summary(
            run_id=run.run_id,
            study=run.path.parent.name,
            data="",
            arm=str(settings.get("study.arm") or settings.get("norm.kind")),
            levels=levels if isinstance(levels, dict) else {},
            seed=seed if isinstance(seed, int) else None,
            status="failed",
            metrics={},
            seconds=stopped.seconds if stopped else math.nan,
            finished_at="",
        )
    return None


def _facts(run: RecordedRun, summary: Summary, status: str) -> dict[str, Any]:
    known = run.facts if run.finished else None
    values = (
        run.run_id,
        summary.study,
        summary.arm,
        summary.seed,
        status,
        summary.finished_at or None,
        summary.seconds if math.isfinite(summary.seconds) else None,
        len(known.class_names) if known else None,
        known.num_test if known else None,
        str(run.path),
        summary.source.tool if summary.source else OWN,
    )
    return dict(zip(FACTS, values, strict=True)) | source_columns(summary)


def _settings(run: RecordedRun, summary: Summary) -> dict[str, Any]:
    metrics = summary.metrics.keys()
    try:
        settings = run.settings
    except FileNotFoundError as error:
        raise DamagedRecord(run.path / CONFIG, "it is not there") from error
    own = {
        name: json.dumps(value) if isinstance(value, list | dict) else value
        for name, value in settings.items()
        if name != "seed" and not name.startswith("study.")
    }
    if twice := [*own.keys() & {*FACTS, *SOURCE_FACTS}, *metrics & own.keys(), *metrics & _reserved()]:
        raise DamagedRecord(run.path, f"{min(twice)} stands for two things in it")
    return own | {"study.levels": levels_text(summary.levels)}


@cache
def _reserved() -> frozenset[str]:
    """The names that no metric may have."""
    return frozenset({*FACTS, *SOURCE_FACTS, *(info.name for info in schema_keys())})
