"""The study as one W&B run of its own: verdict table, figures, and the images on which arms disagree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnexp.comparison.tables import comparison_rows
from bnexp.data.images import ImagesById
from bnexp.plan.shown import RELIABILITY
from bnexp.report import charts, style
from bnexp.report.courses import CURVES, summarise
from bnexp.report.sections import Report
from bnexp.tracking.tables import disagreements
from bnexp.tracking.wandb.study import log_study

if TYPE_CHECKING:
    import polars as pl

    from bnexp.tracking.wandb.session import WandbSession

MAX_DISAGREEMENTS = 128


def log(report: Report, images: ImagesById | None, session: WandbSession) -> None:
    """Log the study of ``report`` to W&B.

    Args:
        report: what is logged.
        images: test image ids -> pixels, as for ``sections.build``; None leaves the table of disagreements without pictures.
        session: where to log; not a disabled one.
    """
    result = report.result
    log_study(
        session,
        study=report.title,
        study_id=result.study_id,
        config={"question": result.question, "verdict": result.verdict.value, **result.settings},
        answer=result.answer,
        verdict=comparison_rows(result),
        figures=_pictures(report),
        disagreements=disagreements(_predictions(report), MAX_DISAGREEMENTS),
        class_names=report.class_names,
        images=images,
    )


def _pictures(report: Report) -> dict[str, bytes]:
    """The report's charts as PNG: learning curves at the level in focus, the first paired differences, the factor, and
    reliability if the study asks for it.
    """
    result, arms = report.result, report.arms
    drawn = [
        *charts.curves(summarise(report.curves), CURVES, arms, report.focus),
        *charts.differences(result, arms)[:1],
        *charts.over_factor(result, report.factor, arms),
        *(charts.reliability(report.frames, arms, report.focus) if RELIABILITY in report.show.figures else []),
    ]
    return {figure.name: style.png(figure.chart) for figure in drawn}


def _predictions(report: Report) -> dict[str, pl.DataFrame]:
    """Arm -> predictions of the first seed that every arm has, at the level in focus; empty if there is none."""
    if set(report.frames) != set(report.arms):
        return {}
    shared = set.intersection(*(set(seeds) for seeds in report.frames.values()))
    return {arm: seeds[min(shared)] for arm, seeds in report.frames.items()} if shared else {}
