"""Puts what W&B holds of a run (``content.py``) into an open W&B run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnexp.config.schema import TrackConfig
from bnexp.data.images import ImagesById
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.wandb.content import STATES, Member, RunContent, run_content
from bnexp.tracking.wandb.media import SharedImages, confusion_plot, wandb_table
from bnexp.tracking.wandb.tables import CONFUSION

if TYPE_CHECKING:
    import wandb


def replay(
    record: RecordedRun,
    run: wandb.Run,
    track: TrackConfig,
    *,
    member: Member | None = None,
    images: ImagesById | None = None,
) -> RunContent:
    """Put a recorded run into an open W&B run, as if it had trained into it. The run is not finished afterwards.

    Group, job type, name and id of the W&B run stay as they are: who opens it decides them.

    Args:
        record: the run, which has finished, has diverged or has failed.
        run: an open W&B run without history, such as one that a sweep's agent began.
        track: number of predictions, and whether the weights are wanted.
        member: the study that it is published for; None for the one that trained it.
        images: test images by their ids; None: the table of predictions has no pictures.

    Returns:
        What was put into it; its ``exit_code`` is for ``run.finish``.

    Raises:
        DamagedRecord: a file of the run cannot be used.
        FileNotFoundError: the run has no ending.
    """
    content = run_content(record, member or Member.of_record(record), track)
    send(content, run, SharedImages(images, name=str(content.config["data"]["name"])) if images else None)
    return content


def send(content: RunContent, run: wandb.Run, images: SharedImages | None) -> None:
    """Put everything into an open W&B run; it is not finished.

    Rows that the W&B run has already are left out: those of a run that was logged while it trained, or of one that was
    interrupted and is resumed.

    Args:
        content: what it holds.
        run: the W&B run.
        images: the pictures of test images; None: tables have none. An offline run gets none either.
    """
    import wandb

    run.config.update(content.config, allow_val_change=True)  # type: ignore[no-untyped-call]
    run.tags = tuple(dict.fromkeys([*(tag for tag in run.tags or () if tag not in STATES), *content.tags]))
    define_metrics(run)
    if not run.offline:
        for name in content.uses:
            run.use_artifact(f"{name}:latest")
    history = content.history or [(0, {})]
    pictures = None if run.offline else images
    for step, row in history[:-1]:
        if step >= run.step:
            table = content.earlier.get(step)
            run.log(row | ({"predictions": wandb_table(table, pictures, run)} if table else {}), step=step)
    step, last = history[-1]
    run.log({**last, **_media(content, run, pictures)}, step=max(step, run.step))
    held: Any = run.summary
    for name in {"error", "stopped_at"} - set(content.summary):  # of an earlier attempt
        if name in held.keys():  # noqa: SIM118  # a summary is no dict: it has no ``in``
            del held[name]
    held.update({name: value for name, value in content.final().items() if not name.startswith("_")})
    for file in content.artifacts:
        artifact = wandb.Artifact(file.name, type=file.type, metadata=content.made_by)
        artifact.add_file(str(file.path))  # copied
        run.log_artifact(artifact)


def define_metrics(run: wandb.Run) -> None:
    """Make ``epoch`` the x-axis of all charts."""
    run.define_metric("epoch")
    run.define_metric("*", step_metric="epoch")


def _media(content: RunContent, run: wandb.Run, images: SharedImages | None) -> dict[str, Any]:
    import wandb

    media: dict[str, Any] = {
        name: wandb.Html(page, inject=False, data_is_not_path=True) for name, page in content.pages.items()
    }
    for name, table in content.tables.items():
        made = wandb_table(table, images, run)
        media |= {CONFUSION: confusion_plot(made)} if name == f"{CONFUSION}_table" else {name: made}
    return media
