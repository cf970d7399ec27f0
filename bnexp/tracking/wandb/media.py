"""Prediction tables, confusion matrices and figures as Weights & Biases objects."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bnexp.data.images import ImagesById
from bnexp.metrics import Int64

if TYPE_CHECKING:
    import polars as pl
    import wandb


class ImageCache:
    """``wandb.Image`` by image id. Runs show many of the same images, and encoding them is most of a table's cost.

    Args:
        images: test images by their ids, (N,) -> uint8 pixels (N, H, W, C).
    """

    def __init__(self, images: ImagesById) -> None:
        self._pixels = images
        self._made: dict[int, wandb.Image] = {}

    def __call__(self, ids: Int64) -> list[wandb.Image]:
        """The images of ``ids``, in order."""
        import wandb
        from PIL import Image

        missing = np.array([i for i in dict.fromkeys(ids.tolist()) if i not in self._made], dtype=np.int64)
        if len(missing):
            for image_id, pixels in zip(missing.tolist(), self._pixels(missing), strict=True):
                self._made[image_id] = wandb.Image(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
        return [self._made[image_id] for image_id in ids.tolist()]


def prediction_table(shown: pl.DataFrame, class_names: Sequence[str], images: ImageCache) -> wandb.Table:
    """A W&B table with one row per test image and one column per class probability.

    Args:
        shown: as ``tables.select_rows`` gives it.
        class_names: names of the K classes.
        images: the pictures.
    """
    import wandb

    first = ["image_id", "image", "truth", "prediction", "confidence", "loss", "correct", "shown"]
    columns: list[str | int] = [*first, *(f"p {name}" for name in class_names)]
    table = wandb.Table(columns=columns, optional=False)
    for image, row in zip(images(shown["image_id"].to_numpy()), shown.iter_rows(named=True), strict=True):
        names = [class_names[row["label"]], class_names[row["prediction"]]]
        probabilities = [row[f"p{k}"] for k in range(len(class_names))]
        table.add_data(row["image_id"], image, *names, *(row[name] for name in first[4:]), *probabilities)
    return table


def disagreement_table(frame: pl.DataFrame, class_names: Sequence[str], images: ImageCache | None) -> wandb.Table:
    """A W&B table with one row per test image, in which classes have their names.

    Args:
        frame: as ``tables.disagreements`` gives it.
        class_names: names of the K classes.
        images: the pictures; None: there is no column of pictures.
    """
    import wandb

    rest = [name for name in frame.columns if name not in ("image_id", "label")]
    columns: list[str | int] = ["image_id", *(["image"] if images else []), "truth", *rest]
    table = wandb.Table(columns=columns, optional=False)
    pictures = [[image] for image in images(frame["image_id"].to_numpy())] if images else [[]] * len(frame)
    for picture, row in zip(pictures, frame.iter_rows(named=True), strict=True):
        values = [class_names[row[name]] if name.startswith("prediction ") else row[name] for name in rest]
        table.add_data(row["image_id"], *picture, class_names[row["label"]], *values)
    return table


def confusion_plot(confusion: Int64, class_names: Sequence[str]) -> Any:
    """W&B's chart of a confusion matrix.

    Args:
        confusion: (K, K) counts, as ``tables.confusion_matrix`` gives them.
        class_names: names of the K classes.
    """
    import wandb

    names = ["Actual", "Predicted", "nPredictions"]
    columns: list[str | int] = [*names]
    table = wandb.Table(columns=columns, optional=False)
    for (i, j), count in np.ndenumerate(confusion):
        table.add_data(class_names[i], class_names[j], int(count))
    fields = {name: name for name in names}
    return wandb.plot_table("wandb/confusion_matrix/v1", table, fields, {"title": "Confusion matrix"})


def figure(content: str | bytes) -> Any:
    """A W&B object for a figure; ``content`` is HTML text or the bytes of a PNG."""
    import wandb
    from PIL import Image

    if isinstance(content, str):
        return wandb.Html(content, inject=False, data_is_not_path=True)
    return wandb.Image(Image.open(io.BytesIO(content)))
