"""From a study's record to its verdict and report on disk, and to W&B."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnexp.compare.record import StudyRecord
from bnexp.compare.result import StudyResult
from bnexp.compare.select import study_outcomes
from bnexp.compare.verdict import analyse
from bnexp.config import WandbConfig
from bnexp.data.resident import images_for_display, prepare
from bnexp.report import html, sections, wandb_run
from bnexp.tracking.store import Store, write_json


@dataclass(frozen=True)
class Publication:
    """A study's result, where its report lies, and what the user should know of W&B."""

    result: StudyResult
    path: Path
    messages: list[str]


def publish(record: StudyRecord, store: Store, wandb: WandbConfig | None = None) -> Publication:
    """Compare the recorded runs of a study, write ``verdict.json`` and ``report.html``, and log it where ``wandb`` is given."""
    resident = prepare(record.data)
    result = analyse(
        record.study,
        study_outcomes(record.runs, store, record.study.metric),
        study_id=record.study_id,
        margin=record.study.margin or record.data.margin,
        settings=record.settings | {"data.test_size": str(len(resident.test_labels))},
        chance=1 / resident.num_classes,
    )

    def images(ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        return images_for_display(resident, "test", ids)

    directory = record.path(store)
    write_json(directory / "verdict.json", result.to_dict())
    report = sections.build(result, store, class_names=resident.class_names, images=images, command=record.command)
    html.write(report, directory / "report.html")
    messages = wandb_run.log(report, store, images, wandb) if wandb is not None else []
    return Publication(result, directory / "report.html", messages)
