"""The study itself as one Weights & Biases run: verdict, figures, and the images on which arms disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bnexp.data.images import ImagesById
from bnexp.tracking.wandb.media import ImageCache, disagreement_table, figure
from bnexp.tracking.wandb.server import meaning
from bnexp.tracking.wandb.session import WandbSession, tags

if TYPE_CHECKING:
    import polars as pl


def log_study(
    session: WandbSession,
    *,
    study: str,
    study_id: str,
    config: Mapping[str, Any],
    answer: str,
    verdict: Sequence[Mapping[str, str]],
    figures: Mapping[str, str | bytes],
    disagreements: pl.DataFrame,
    class_names: Sequence[str],
    images: ImagesById | None,
) -> None:
    """Log a study as one W&B run of job type ``study``. It never raises an error.

    Args:
        session: the connection, which is not ``disabled``; what the user should know is added to its ``messages``.
        study: name of the study.
        study_id: id of the study.
        config: what W&B shows as the configuration of the run.
        answer: the answer of the study in words.
        verdict: the rows of the verdict table, all with the same keys.
        figures: name -> HTML text or the bytes of a PNG.
        disagreements: as ``tables.disagreements`` gives it; no table if it has no rows.
        class_names: names of the K classes.
        images: test images by their ids; None: the table has no pictures.
    """
    try:
        import wandb

        arguments = {
            "id": f"study-{study_id}",
            "name": study,
            "group": f"{study}-{study_id}",
            "job_type": "study",
            "tags": tags([study, *session.config.tags]),
            "config": {**config, "study": study, "study_id": study_id},
        }
        run = session.open(arguments, alone=False)
        row: dict[str, Any] = {f"figures/{name}": figure(content) for name, content in figures.items()}
        if verdict:
            row["verdict"] = wandb.Table(columns=list(verdict[0]), data=[list(line.values()) for line in verdict])
        if len(disagreements):
            row["disagreements"] = disagreement_table(disagreements, class_names, ImageCache(images) if images else None)
        run.log(row)
        run.summary.update({"answer": answer})
        session.finish(run, 0)
    except Exception as error:
        session.messages.append(f"W&B: the study {study} was not logged ({meaning(error)}).")
    session.report()
