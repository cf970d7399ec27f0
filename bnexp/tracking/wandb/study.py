"""The study itself as one Weights & Biases run: verdict, figures, report, and the images on which arms disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bnexp.config.schema import WandbConfig
from bnexp.tracking.wandb.content import FileArtifact, RunContent, model_name, tags
from bnexp.tracking.wandb.tables import Table

JOB_TYPE = "study"


def study_id_on_wandb(study_id: str) -> str:
    """Id of the W&B run of a study."""
    return f"study-{study_id}"


def study_content(
    name: str,
    study_id: str,
    wandb: WandbConfig,
    *,
    config: Mapping[str, Any],
    summary: Mapping[str, Any],
    tables: Mapping[str, Table],
    page: str,
    report: Path | None,
    runs: Sequence[str],
    concluded: float,
) -> RunContent:
    """What W&B holds of a study.

    Args:
        name: name of the study.
        study_id: its id.
        wandb: group, tags and notes that the user wants.
        config: nested, as that of runs: what all runs share, and the study's definition.
        summary: the verdict in numbers and words.
        tables: key -> table.
        page: its report as HTML, with all figures. W&B shows it on the page of the run.
        report: the file of its report, to be downloaded; None if there is none.
        runs: ids of its W&B runs.
        concluded: when it was concluded, seconds since 1970.
    """
    return RunContent(
        id=study_id_on_wandb(study_id),
        name=name,
        group=wandb.group or name,
        job_type=JOB_TYPE,
        tags=tags([name, study_id, *wandb.tags]),
        notes=wandb.notes,
        config=dict(config),
        started=concluded,
        seconds=0.0,
        history=[],
        summary=dict(summary),
        tables=dict(tables),
        pages={"report": page},
        artifacts=(FileArtifact(f"report-{study_id}", "report", report),) if report is not None else (),
        uses=tuple(model_name(run_id) for run_id in runs) if wandb.artifacts else (),
    )
