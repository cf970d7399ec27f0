"""The tables that W&B holds of a run, as plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bnexp.metrics import Int64
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.records import RecordedRun, Summary
from bnexp.tracking.tables import class_accuracy, confusion_matrix, select_rows

if TYPE_CHECKING:
    import polars as pl

CONFUSION = "confusion_matrix"  # key of its chart; its table has ``_table`` behind it
MOST_CELLS = 10_000  # of a confusion matrix; of a larger one the empty cells are left out


@dataclass(frozen=True)
class Table:
    """A table of plain values.

    Args:
        columns: names of its columns.
        rows: one value for each column.
        pictured: whether the column ``image_id`` names test images, so that their pictures can be shown beside it.
        own_pictures: whether an offline run has them, as the run of a study does. The tables of offline runs have none: W&B
            uploads offline runs in any order, so that a table cannot refer to pictures of another run, and pictures of its own
            would be most of what a run costs. They join with the study's table ``images``.
    """

    columns: list[str]
    rows: list[list[Any]]
    pictured: bool = False
    own_pictures: bool = False

    @property
    def image_ids(self) -> Int64:
        """The test images that it shows, in order of its rows."""
        place = self.columns.index("image_id")
        return np.array([row[place] for row in self.rows], dtype=np.int64)


def tables_of_epochs(record: RecordedRun, summary: Summary, count: int) -> dict[int, Table]:
    """Epoch before the last one -> its table of predictions, if they were recorded; one that cannot be read is left out."""
    tables: dict[int, Table] = {}
    for epoch in record.predicted_epochs if count else ():
        with suppress(DamagedRecord):
            if (frame := record.outputs(epoch)) is not None:
                tables[epoch] = prediction_table(select_rows(frame, count, summary.data), summary.class_names)
    return tables


def predictions_of(record: RecordedRun, summary: Summary, count: int) -> tuple[dict[str, Table], dict[str, Any]]:
    """The tables of predictions, and the accuracy of each class; nothing if the run has no predictions that can be read."""
    try:
        frame = record.outputs()
    except DamagedRecord:
        return {}, {}
    if frame is None:
        return {}, {}
    num_classes = sum(name[0] == "p" and name[1:].isdecimal() for name in frame.columns)
    names = summary.class_names if len(summary.class_names) == num_classes else [str(k) for k in range(num_classes)]
    confusion = confusion_matrix(frame, num_classes)
    tables = {"confusion_matrix_table": _confusion_table(confusion, names)}
    if count:
        tables["predictions"] = prediction_table(select_rows(frame, count, summary.data), names)
    rates = zip((name.replace(".", "_") for name in names), class_accuracy(confusion).tolist(), strict=True)
    return tables, {"test/class_accuracy": {name: rate for name, rate in rates if not math.isnan(rate)}}


def prediction_table(shown: pl.DataFrame, class_names: Sequence[str]) -> Table:
    """One row per test image and one column per class probability.

    Args:
        shown: as ``tables.select_rows`` gives it.
        class_names: names of the K classes.
    """
    named = {"truth": "label", "prediction": "prediction"}
    rest = ["confidence", "loss", "correct", "shown"]
    own = {"image_id": shown["image_id"].to_list()}
    own |= {name: [class_names[k] for k in shown[column].to_list()] for name, column in named.items()}
    own |= {name: shown[name].to_list() for name in rest}
    own |= {f"p {name}": shown[f"p{k}"].round(6).to_list() for k, name in enumerate(class_names)}
    return Table(list(own), [list(row) for row in zip(*own.values(), strict=True)], pictured=True)


def disagreement_table(frame: pl.DataFrame, class_names: Sequence[str]) -> Table:
    """One row per test image, in which classes have their names.

    Args:
        frame: as ``tables.disagreements`` gives it.
        class_names: names of the K classes.
    """
    rest = [name for name in frame.columns if name not in ("image_id", "label")]
    rows = [
        [
            row["image_id"],
            class_names[row["label"]],
            *(class_names[row[name]] if name.startswith("prediction ") else row[name] for name in rest),
        ]
        for row in frame.iter_rows(named=True)
    ]
    return Table(["image_id", "truth", *rest], rows, pictured=True, own_pictures=True)


def _confusion_table(confusion: Int64, class_names: Sequence[str]) -> Table:
    cells = [
        [class_names[i], class_names[j], int(count)]
        for (i, j), count in np.ndenumerate(confusion)
        if count or confusion.size <= MOST_CELLS
    ]
    return Table(["Actual", "Predicted", "nPredictions"], cells)
