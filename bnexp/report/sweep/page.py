"""The report of a sweep as one HTML file that opens from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bnexp.comparison.differing import short_names
from bnexp.comparison.sweep.importance import importances
from bnexp.comparison.sweep.record import SweepRecord, as_rows, state_counts
from bnexp.comparison.sweep.result import TEST, SweepResult, shown, shown_interval
from bnexp.comparison.text import effect
from bnexp.report.export import NO_PICTURES, Pictures
from bnexp.report.html import embedded, page
from bnexp.report.sweep.figures import figures
from bnexp.tracking.store import write_if_allowed

TEMPLATE = Path(__file__).parent / "sweep.html.jinja"


def write(result: SweepResult, pictures: Pictures = NO_PICTURES) -> list[str]:
    """Write ``report.html`` beside the record of a sweep.

    Args:
        result: what it found.
        pictures: where its figures are written as files of their own.

    Returns:
        Where everything lies, as sentences.
    """
    record, path = result.record, result.record.folder / "report.html"
    told = [f"\nReport: {path}"] if write_if_allowed(path, render(result)) else []
    drawn = figures(record, importances(record))
    return told + (pictures.write([f for own in drawn.values() for f in own], record.name) if pictures.wanted else [])


def render(result: SweepResult) -> str:
    """The report as the text of one HTML document."""
    record = result.record
    found = importances(record)
    drawn = figures(record, found)
    return page(
        TEMPLATE,
        s=result,
        r=record,
        importances=found,
        drawn={name: [embedded(figure, record.name) for figure in own] for name, own in drawn.items()},
        counts=state_counts(record),
        fresh=_fresh_rows(result),
        points=_point_rows(record),
    )


def _fresh_rows(result: SweepResult) -> list[dict[str, Any]]:
    """The points that were trained again, as text."""
    metric = result.record.metric
    names = short_names([axis.name for axis in result.record.axes])
    rows = []
    for item in result.fresh:
        c = result.against_best.get(item.trial.number)
        rows.append(
            {
                "number": item.trial.number,
                "params": {names.get(name, name): "null" if v is None else v for name, v in item.trial.params.items()},
                "n": item.n,
                "diverged": item.diverged,
                "before": shown(item.trial.value, metric),
                "mean": _halves(shown_interval(item.metric, metric)),
                "difference": _halves(effect(c.difference, c.unit, c.low, c.high)) if c else None,
                "standing": result.standing(c) if c else None,
                "test": _halves(shown_interval(item.test, TEST)),
            }
        )
    return rows


def _halves(text: str) -> tuple[str, str]:
    """An estimate and its interval, for two lines of a cell."""
    estimate, _, interval = text.partition(" [")
    return estimate, interval.rstrip("]").replace(", ", " to ")


def _point_rows(record: SweepRecord) -> list[dict[str, Any]]:
    """All points, as text."""
    return [
        row
        | {
            "params": ["null" if row[axis.name] is None else row[axis.name] for axis in record.axes],
            "value": shown(row[record.metric], record.metric),
            "runs": " ".join(row["runs"]),
        }
        for row in as_rows(record)
    ]
