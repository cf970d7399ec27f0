"""The study as one W&B run of its own: verdict table, figures, and the images on which arms disagree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnexp.compare.tables import comparison_rows
from bnexp.config.schema import WandbConfig
from bnexp.data.images import ImagesById
from bnexp.report import figures
from bnexp.report.predictions import load
from bnexp.report.sections import Report
from bnexp.tracking.records import DataFacts
from bnexp.tracking.store import Store
from bnexp.tracking.tables import disagreements
from bnexp.tracking.wandb_session import WandbSession
from bnexp.tracking.wandb_study import log_study

if TYPE_CHECKING:
    import polars as pl

MAX_DISAGREEMENTS = 128


def log(report: Report, store: Store, facts: DataFacts | None, images: ImagesById | None, config: WandbConfig) -> list[str]:
    """Log the study of ``report`` to W&B; what the user should know of it. Does nothing where W&B is disabled."""
    result = report.result
    session = WandbSession(config)
    if session.disabled:
        return session.messages
    log_study(
        session,
        study=report.title,
        study_id=result.study_id,
        config={"question": result.question, "verdict": result.verdict.value, **result.settings},
        answer=result.answer,
        verdict=comparison_rows(result),
        figures=_figures(report),
        disagreements=disagreements(_predictions(report, store, facts), MAX_DISAGREEMENTS),
        class_names=report.class_names,
        images=images,
    )
    return session.messages


def _figures(report: Report) -> dict[str, bytes]:
    """The report's charts as PNG: learning curves at the level in focus, paired differences, and the factor."""
    result = report.result
    charts = {}
    if len(report.curves):
        summary = figures.summarise(report.curves)
        for metric in report.curves["metric"].unique(maintain_order=True):
            charts[metric.replace("/", "_")] = figures.learning_curve(summary, metric, report.arms, report.focus)
    first = [c for c in result.comparisons if c.measure == result.comparisons[0].measure]
    if len(report.differences) and first:
        charts["paired_differences"] = figures.difference_plot(report.differences, first, report.arms)
    if report.factor is not None:
        for panel in report.factor.panels:
            name = " ".join(["factor", panel]).strip()
            charts[name] = figures.factor_plot(report.factor, panel, report.arms, result.metric, result.unit)
    return {name: figures.png(chart) for name, chart in charts.items()}


def _predictions(report: Report, store: Store, facts: DataFacts | None) -> dict[str, pl.DataFrame]:
    """Arm -> predictions of the first seed that every arm has, at the level in focus."""
    runs = [(o, run) for o in report.result.outcomes if o.level == report.focus and (run := store.find(o.run_id)) is not None]
    frames, _ = load(runs, report.arms, facts)
    if set(frames) != set(report.arms):
        return {}
    shared = set.intersection(*(set(seeds) for seeds in frames.values()))
    return {arm: seeds[min(shared)] for arm, seeds in frames.items()} if shared else {}
