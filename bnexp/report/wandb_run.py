"""The study as one W&B run of its own: verdict in numbers, figures, report, and the images on which arms disagree."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexp.comparison.record import VERDICT, StudyRecord
from bnexp.comparison.result import Comparison, StudyResult
from bnexp.plan.spec import plain
from bnexp.report.sections import Report
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.tables import disagreements
from bnexp.tracking.wandb.content import RunContent
from bnexp.tracking.wandb.holding import Item
from bnexp.tracking.wandb.publishing import Publisher
from bnexp.tracking.wandb.study import study_content
from bnexp.tracking.wandb.tables import Table, disagreement_table

if TYPE_CHECKING:
    import polars as pl

MAX_DISAGREEMENTS = 128


def content_of(
    record: StudyRecord, report: Report, page: str, file: Path, items: Sequence[Item], publisher: Publisher
) -> RunContent:
    """What W&B holds of a study.

    Args:
        record: the recorded study.
        report: what its report shows.
        page: the report as HTML.
        file: its ``report.html``, which need not be there.
        items: its runs.
        publisher: what publishes them.
    """
    result = report.result
    tables = {"comparisons": verdict_table(result.comparisons)} if result.comparisons else {}
    differing = disagreements(_predictions(report), MAX_DISAGREEMENTS)
    if len(differing):
        tables["disagreements"] = disagreement_table(differing, report.class_names)
    if not publisher.session.online and (shown := publisher.shown_images(items)):
        tables["images"] = shown
    study = {name: value for name, value in plain(asdict(record.study)).items() if value not in (None, [], {}, "")}
    return study_content(
        record.study.name,
        record.study_id,
        publisher.session.config,
        config={**_shared(items), "study": record.study.name, "study_ids": [record.study_id], "definition": study}
        | {"question": result.question, "origin": {"command": record.command}, "held": result.settings},
        summary=verdict_numbers(result),
        tables=tables,
        page=page,
        report=file if file.is_file() else None,
        runs=[item.id for item in items],
        concluded=(record.folder / VERDICT).stat().st_mtime if record.concluded else time.time(),
    )


def verdict_numbers(result: StudyResult) -> dict[str, Any]:
    """The verdict as scalars: of the comparison that the answer tells first, and of each that decides below its name."""
    found: dict[str, Any] = {"verdict": result.verdict.value, "answer": result.answer, "metric": result.metric}
    if result.lead is not None:
        found |= _numbers(result.lead)
    for comparison in result.deciding:
        name = " ".join(part for part in (f"{comparison.arm} vs {comparison.baseline}", comparison.level) if part)
        found |= {f"{name.replace('.', '_')}/{key}": value for key, value in _numbers(comparison).items()}
    statuses = [outcome.status.value for outcome in result.outcomes]
    return found | {f"runs/{status}": statuses.count(status) for status in dict.fromkeys(statuses)}


def _numbers(comparison: Comparison) -> dict[str, Any]:
    """Effect in ``unit``, 95 % interval, adjusted p, number of pairs; a number that was not computed is left out."""
    numbers = {
        "effect": comparison.difference,
        "low": comparison.low,
        "high": comparison.high,
        "p": comparison.p_verdict,
        "n": comparison.n,
    }
    return {name: value for name, value in numbers.items() if value is not None and math.isfinite(value)}


def verdict_table(comparisons: Iterable[Comparison]) -> Table:
    """One row per comparison, with numbers as numbers; null for a number that was not computed."""
    texts = ("arm", "baseline", "level", "measure", "unit")
    numbers = ("n", "difference", "low", "high", "p_verdict", "p_sign_flip_adjusted", "p_equivalence_adjusted", "effect")
    names = {
        "p_verdict": "p",
        "p_sign_flip_adjusted": "p sign flip",
        "p_equivalence_adjusted": "p equivalence",
        "effect": "d_z",
    }
    rows = [
        [
            *(getattr(c, name) for name in texts),
            *(_finite(getattr(c, name)) for name in numbers),
            c.verdict.value if c.verdict else "",
            c.reason,
        ]
        for c in comparisons
    ]
    return Table([*texts, *(names.get(name, name) for name in numbers), "verdict", "reason"], rows)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _shared(items: Sequence[Item]) -> dict[str, Any]:
    """The configuration that all finished runs of a study share, nested."""
    shared: dict[str, Any] | None = None
    for run in (item.record for item in items if item.record.finished):
        try:
            settings = run.settings
        except (DamagedRecord, FileNotFoundError):
            continue
        own = {name: value for name, value in settings.items() if name.partition(".")[0] not in ("study", "track", "executor")}
        shared = own if shared is None else {name: value for name, value in shared.items() if own.get(name, shared) == value}
    return _nested(shared or {})


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        inner = nested
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return nested


def _predictions(report: Report) -> dict[str, pl.DataFrame]:
    """Arm -> predictions of the first seed that every arm has, at the level in focus; empty if there is none."""
    if set(report.frames) != set(report.arms):
        return {}
    shared = set.intersection(*(set(seeds) for seeds in report.frames.values()))
    return {arm: seeds[min(shared)] for arm, seeds in report.frames.items()} if shared else {}
