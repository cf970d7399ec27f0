"""From a study's result to its report on disk, and to W&B."""

from __future__ import annotations

from dataclasses import replace

from bnexp.comparison.record import StudyRecord
from bnexp.comparison.result import StudyResult
from bnexp.comparison.select import study_facts
from bnexp.config.schema import WandbConfig
from bnexp.data.images import ImagesById, images_by_id
from bnexp.data.packed import find_packed
from bnexp.interrupt import tidied
from bnexp.report import charts, html, sections, wandb_run
from bnexp.report.courses import summarise
from bnexp.report.export import NO_PICTURES, Pictures, slug
from bnexp.report.sections import Report
from bnexp.tracking.records import DataFacts
from bnexp.tracking.store import Store
from bnexp.tracking.wandb.session import WandbSession


def publish(
    record: StudyRecord,
    result: StudyResult,
    store: Store,
    wandb: WandbConfig | None = None,
    *,
    planned: str = "",
    pictures: Pictures = NO_PICTURES,
) -> list[str]:
    """Write ``report.html`` beside the study's record, then log the study to W&B.

    Everything but the pictures of test images comes from the records. The pictures come from the packed data in the cache,
    if it has those that the runs were tested on; nothing is downloaded or packed for them.

    Args:
        record: the recorded study.
        result: what its comparison found.
        store: where its runs are recorded.
        wandb: how to log it; None does not.
        planned: the metric that the study was planned with, if ``record`` reads it by another one. The report then has the
            name ``report-<metric>.html``, beside the study's own.
        pictures: where the figures are written as files of their own.

    Returns:
        What the user should know: pictures that are missing, where W&B has the study, and where the report lies.
    """
    facts = study_facts(record.runs, store)
    images = _test_images(facts)
    report = sections.build(record, result, store, facts=facts, images=images, planned=planned)
    told = []
    if images is None and report.predictions is not None:
        told = [
            "The gallery has no pictures, because the test images of these runs are not in the cache of this machine. To have "
            f"them, run bnexp data {record.data.name} with the overrides of the study, then bnexp report."
        ]
        report = replace(report, notes=[*report.notes, *told])
    path = record.folder / (f"report-{slug(result.metric)}.html" if planned else "report.html")
    written = [f"\nReport: {path}"] if html.write(report, path) else []
    prefix = f"{report.title} {result.metric}" if planned else report.title
    figures = [figure for group in charts.sections(report, summarise(report.curves)).values() for figure in group]
    written += pictures.write(figures, prefix) if pictures.wanted else []
    with tidied():
        return [*told, *_logged(report, images, wandb), *written]


def _logged(report: Report, images: ImagesById | None, wandb: WandbConfig | None) -> list[str]:
    """Log the report unless W&B is disabled; what the user should know of that."""
    if wandb is None:
        return []
    session = WandbSession(wandb)
    if not session.disabled:
        wandb_run.log(report, images, session)
    return session.messages


def _test_images(facts: DataFacts | None) -> ImagesById | None:
    """The test images that the runs saw, by id; None if the cache has no packed data of that content."""
    packed = find_packed(facts.fingerprint) if facts else None
    if facts is None or packed is None:
        return None
    pixels = packed.array("test_images")
    return images_by_id(pixels) if len(pixels) == facts.num_test else None
