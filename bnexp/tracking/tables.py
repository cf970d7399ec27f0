"""Prediction tables: from probabilities to rows, confusion matrices and the images worth looking at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnexp.metrics import Predictions

if TYPE_CHECKING:
    import polars as pl


def prediction_frame(predictions: Predictions) -> pl.DataFrame:
    """A row a test image: ``image_id label prediction confidence loss correct p0 .. p<K-1>``; loss in nats."""
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
