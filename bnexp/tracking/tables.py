"""Prediction tables: from probabilities to rows, confusion matrices and the images worth looking at."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bnexp.metrics import Int64, Predictions
from bnexp.rng import numpy_generator
from bnexp.tracking.reading import DamagedRecord

if TYPE_CHECKING:
    import polars as pl

MOST_IMAGES = 10_000_000  # most rows that are read; a small file can claim any number


def prediction_columns() -> pl.Schema:
    """The columns of predictions that are read back; the file also has the probabilities ``p0 .. p<K-1>``."""
    import polars as pl

    whole, real = ("image_id", "label", "prediction"), ("confidence", "loss")
    return pl.Schema(dict.fromkeys(whole, pl.Int64) | dict.fromkeys(real, pl.Float64) | {"correct": pl.Boolean})


def prediction_frame(predictions: Predictions) -> pl.DataFrame:
    """One row per test image: ``image_id label prediction confidence loss correct p0 .. p<K-1>``; loss in nats."""
    import polars as pl

    probabilities = predictions.probabilities
    guess = probabilities.argmax(1)
    rows = np.arange(len(guess))
    tiny = np.finfo(np.float32).tiny
    columns = {
        "image_id": predictions.image_ids,
        "label": predictions.labels,
        "prediction": guess,
        "confidence": probabilities[rows, guess],
        "loss": -np.log(np.maximum(probabilities[rows, predictions.labels], tiny)),
        "correct": guess == predictions.labels,
    }
    return pl.DataFrame(columns | {f"p{k}": probabilities[:, k] for k in range(probabilities.shape[1])})


def parse_predictions(path: Path, content: bytes, *, probabilities: bool = False) -> tuple[pl.DataFrame, int]:
    """Read the content of a prediction file.

    Args:
        path: the file, for error messages.
        content: its bytes.
        probabilities: whether ``p0 .. p<K-1>`` are wanted as well.

    Returns:
        The columns ``prediction_columns`` in order of ``image_id``, and the number of classes K.

    Raises:
        DamagedRecord: there is not exactly one row for each of the images 0 .. N-1, with classes 0 .. K-1.
    """
    import polars as pl

    columns = prediction_columns()
    try:
        num_images = pl.scan_parquet(io.BytesIO(content)).select(pl.len()).collect().item()
        if not 0 < num_images <= MOST_IMAGES:
            raise DamagedRecord(path, f"it has {num_images:,} rows")
        names = list(pl.read_parquet_schema(io.BytesIO(content)))
        if missing := [name for name in columns if name not in names]:
            raise DamagedRecord(path, f"it has no column {missing[0]}")
        num_classes = sum(name[:1] == "p" and name[1:].isdecimal() for name in names)
        wanted = pl.Schema([*columns.items(), *((f"p{k}", pl.Float64()) for k in range(num_classes if probabilities else 0))])
        frame = pl.read_parquet(io.BytesIO(content), columns=list(wanted)).select(list(wanted)).cast(wanted)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise DamagedRecord(path, "it is no table of predictions") from error
    frame = frame.sort("image_id")
    if any(frame.null_count().row(0)) or not np.array_equal(frame["image_id"].to_numpy(), np.arange(num_images)):
        raise DamagedRecord(path, f"it does not have the images 0 to {num_images - 1}, once each")
    for name in ("label", "prediction"):
        outside = frame[name].filter(~frame[name].is_between(0, num_classes - 1))
        if len(outside):
            raise DamagedRecord(path, f"it has the {name} {outside[0]}, and there are {num_classes} classes")
    return frame, num_classes


def sample_images(image_ids: Int64, count: int, data_name: str) -> Int64:
    """A random sample of images, which is the same for every run on a data set.

    Args:
        image_ids: the images to choose from, (N,).
        count: size of the sample; all images if there are fewer.
        data_name: name of the data set.

    Returns:
        Sorted ids.
    """
    ids = np.unique(image_ids)
    chosen = numpy_generator(0, f"predictions/{data_name}").permutation(ids)[:count]
    return np.sort(chosen)


def select_rows(frame: pl.DataFrame, limit: int, data_name: str) -> pl.DataFrame:
    """The rows of a prediction frame that are worth looking at.

    The worst mistakes come first, those with the largest loss; they are at most half of the rows. Then comes the fixed sample
    of ``sample_images``. Every run's table has the whole sample, so that runs can be joined on ``image_id``. A sampled image
    that is also among the worst mistakes is listed once.

    Args:
        frame: as ``prediction_frame`` gives it.
        limit: largest number of rows.
        data_name: name of the data set, which decides the sample.

    Returns:
        The rows with one more column ``shown``: ``mistake`` or ``sample``.
    """
    import polars as pl

    sample = sample_images(frame["image_id"].to_numpy(), limit - limit // 2, data_name)
    worst = frame.filter(~pl.col("correct")).sort(["loss", "image_id"], descending=[True, False]).head(limit // 2)
    rest = frame.filter(pl.col("image_id").is_in(sample.tolist()) & ~pl.col("image_id").is_in(worst["image_id"].to_list()))
    parts = [worst.with_columns(shown=pl.lit("mistake")), rest.sort("image_id").with_columns(shown=pl.lit("sample"))]
    return pl.concat(parts)


def confusion_matrix(frame: pl.DataFrame, num_classes: int) -> Int64:
    """(K, K) counts of test images: the row is the true class, the column the predicted one."""
    cells = frame["label"].to_numpy() * num_classes + frame["prediction"].to_numpy()
    return np.bincount(cells, minlength=num_classes**2).astype(np.int64).reshape(num_classes, num_classes)


def class_accuracy(confusion: Int64) -> NDArray[np.float64]:
    """(K,) fraction of the images of each class that are classified correctly; NaN for a class without images."""
    totals = confusion.sum(1)
    return np.where(totals > 0, np.diag(confusion) / np.maximum(totals, 1), np.nan)


def disagreements(frames: Mapping[str, pl.DataFrame], limit: int) -> pl.DataFrame:
    """Test images on which prediction frames do not all predict the same class.

    The images with the widest gap in loss between the frames come first: there one frame is surely right and another surely
    wrong. Images that some frame lacks are left out.

    Args:
        frames: name of an arm or run -> its predictions, as ``prediction_frame`` gives them.
        limit: largest number of rows.

    Returns:
        ``image_id label``, then for each name ``prediction <name>`` and ``confidence <name>``. No rows if there are fewer than
        two frames, or if all agree.
    """
    import polars as pl

    columns = {"image_id": pl.Int64, "label": pl.Int64}
    if len(frames) < 2:
        return pl.DataFrame(schema=columns)
    joined: pl.DataFrame | None = None
    for name, frame in frames.items():
        own = frame.select(
            "image_id",
            *([] if joined is not None else ["label"]),
            *(pl.col(column).alias(f"{column} {name}") for column in ("prediction", "confidence", "loss")),
        )
        joined = own if joined is None else joined.join(own, on="image_id", how="inner")
    assert joined is not None
    predictions = [f"prediction {name}" for name in frames]
    losses = [f"loss {name}" for name in frames]
    gap = pl.max_horizontal(losses) - pl.min_horizontal(losses)
    return (
        joined.filter(pl.min_horizontal(predictions) != pl.max_horizontal(predictions))
        .sort([gap, pl.col("image_id")], descending=[True, False])
        .head(limit)
        .drop(losses)
    )
