"""From a study's result to its report on disk, and to W&B."""

from __future__ import annotations

from dataclasses import replace

from bnexp.compare.record import StudyRecord
from bnexp.compare.result import StudyResult
from bnexp.compare.select import study_facts
from bnexp.config.schema import WandbConfig
from bnexp.data.images import ImagesById, images_by_id
from bnexp.data.packed import find_packed
from bnexp.interrupt import tidied
from bnexp.report import html, sections, wandb_run
from bnexp.tracking.records import DataFacts
from bnexp.tracking.store import Store


def publish(record: StudyRecord, result: StudyResult, store: Store, wandb: WandbConfig | None = None) -> list[str]:
    """Write ``report.html``, and log the study where ``wandb`` is given; what the user should know of both.

    Everything but the pictures of test images comes from the records. The pictures come from the packed data in the cache,
    if it has those that the runs were tested on; nothing is downloaded or packed for them.
    """
    facts = study_facts(record.runs, store)
    images = _pictures(facts)
    report = sections.build(result, store, facts=facts, images=images, command=record.command)
    told = []
    if images is None and report.predictions is not None:
        told = [
            "The gallery has no pictures, because the test images of these runs are not in the cache of this machine. To have "
            f"them, run bnexp data {record.data.name} with the overrides of the study, then bnexp report."
        ]
        report = replace(report, notes=[*report.notes, *told])
    path = record.folder / "report.html"
    written = [f"\nReport: {path}"] if html.write(report, path) else []
    with tidied():
        return [*told, *(wandb_run.log(report, store, facts, images, wandb) if wandb is not None else []), *written]


def _pictures(facts: DataFacts | None) -> ImagesById | None:
    """The test images that the runs saw, by id; None if the cache has no packed data of that content."""
    packed = find_packed(facts.fingerprint) if facts else None
    if facts is None or packed is None:
        return None
    pixels = packed.array("test_images")
    return images_by_id(pixels) if len(pixels) == facts.num_test else None
