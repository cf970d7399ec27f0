"""Tables and pictures as Weights & Biases objects."""

from __future__ import annotations

import hashlib
import io
import tempfile
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnexp.data.images import ImagesById
from bnexp.metrics import Int64
from bnexp.tracking.wandb.tables import CONFUSION, Table

if TYPE_CHECKING:
    import wandb

WAIT_SECONDS = 60  # for the server to have an artifact


class SharedImages:
    """Pictures of test images, each sent to W&B once, as part of an artifact ``images-<data set>``; tables refer to them.

    Args:
        images: test images by their ids, (N,) -> uint8 pixels (N, H, W, C).
        name: name of the data set.
    """

    def __init__(self, images: ImagesById, name: str) -> None:
        self._pixels = images
        self._name = f"images-{name}"
        self._made: dict[int, wandb.Image] = {}
        self._lock = threading.Lock()

    @cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="bnexp-images-", ignore_cleanup_errors=True)

    def of(self, ids: Int64, run: wandb.Run) -> list[wandb.Image]:
        """The pictures of ``ids``, in order. Those that W&B does not have yet become a version of the artifact, logged by
        ``run``, and the call returns when the server has it.
        """
        with self._lock:
            missing = np.array([i for i in dict.fromkeys(ids.tolist()) if i not in self._made], dtype=np.int64)
            if len(missing):
                self._made |= self._sent(missing, run)
        return [self._made[image_id] for image_id in ids.tolist()]

    def _sent(self, ids: Int64, run: wandb.Run) -> dict[int, wandb.Image]:
        import wandb

        artifact = wandb.Artifact(self._name, type="dataset", description="Test images that tables of predictions show.")
        made: dict[int, wandb.Image] = {}
        for image_id, pixels in zip(ids.tolist(), self._pixels(ids), strict=True):
            path = Path(self._folder.name, f"{image_id}.png")
            path.write_bytes(png(pixels))
            made[image_id] = wandb.Image(str(path))
            # A table looks for the picture under this name in the artifact that the picture comes from.
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            artifact.add_file(str(path), name=f"media/images/{sha256[:20]}/{path.name}")
        run.log_artifact(artifact).wait(WAIT_SECONDS)
        for image in made.values():
            image._set_artifact_source(artifact)
        return made


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """Pixels (H, W, C) as the content of a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def wandb_table(table: Table, images: SharedImages | None, run: wandb.Run) -> wandb.Table:
    """A table as W&B's; with a column of pictures after ``image_id`` if there are images of it.

    Args:
        table: the table.
        images: the pictures; None: there is no column of them.
        run: the run that it is logged to.
    """
    import wandb

    columns: list[str | int] = [*table.columns]
    rows = table.rows
    if table.pictured and images is not None and rows:
        place = table.columns.index("image_id") + 1
        columns.insert(place, "image")
        pictures = images.of(table.image_ids, run)
        rows = [[*row[:place], picture, *row[place:]] for row, picture in zip(rows, pictures, strict=True)]
    lacking = [any(row[place] is None for row in rows) for place in range(len(columns))]
    return wandb.Table(columns=columns, data=rows, optional=lacking)


def confusion_plot(table: wandb.Table) -> Any:
    """W&B's chart of a confusion matrix."""
    import wandb

    fields = {str(name): str(name) for name in table.columns}
    return wandb.plot_table("wandb/confusion_matrix/v1", table, fields, {"title": "Confusion matrix"})


def confusion_panel() -> dict[str, Any]:
    """W&B's chart of a confusion matrix, as ``wandb.plot_table`` describes it."""
    names = ["Actual", "Predicted", "nPredictions"]
    leaves: list[dict[str, Any]] = [{"name": name, "fields": []} for name in ("id", "name", "_defaultColorIndex")]
    table = {"name": "summaryTable", "args": [{"name": "tableKey", "value": f"{CONFUSION}_table"}], "fields": []}
    query = {"name": "runSets", "args": [{"name": "runSets", "value": "${runSets}"}], "fields": [*leaves, table]}
    return {
        "panel_type": "Vega2",
        "panel_config": {
            "panelDefId": "wandb/confusion_matrix/v1",
            "fieldSettings": {name: name for name in names},
            "stringSettings": {"title": "Confusion matrix"},
            "transform": {"name": "tableWithLeafColNames"},
            "userQuery": {"queryFields": [query]},
        },
    }
