"""From a study's result to its report on disk, and to W&B."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bnexp.compare.record import StudyRecord
from bnexp.compare.result import StudyResult
from bnexp.config import WandbConfig
from bnexp.data.resident import images_for_display, prepare
from bnexp.report import html, sections, wandb_run
from bnexp.tracking.records import DataFacts
from bnexp.tracking.store import Store


def publish(record: StudyRecord, result: StudyResult, store: Store, wandb: WandbConfig | None = None) -> list[str]:
    """Write ``report.html``, and log the study where ``wandb`` is given; what the user should know of both."""
    resident = prepare(record.data)
    facts = DataFacts(list(resident.class_names), len(resident.test_labels), resident.fingerprint)

    def images(ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        return images_for_display(resident, "test", ids)

    report = sections.build(result, store, facts=facts, images=images, command=record.command)
    path = record.folder / "report.html"
    written = [f"\nReport: {path}"] if html.write(report, path) else []
    return [*(wandb_run.log(report, store, facts, images, wandb) if wandb is not None else []), *written]
