"""One recorded run for people: its result first, then its course, then the settings that are not the usual ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from bnexp.comparison.text import elapsed_text, level_unit, number
from bnexp.comparison.varying import setting_text
from bnexp.config.keys import PROBE_METRICS, metric_unit, schema_keys
from bnexp.config.schema import RunConfig
from bnexp.plan.spec import flatten, plain
from bnexp.tracking.records import Summary

MOST_EPOCHS = 20  # rows of the table of epochs


@dataclass(frozen=True)
class Course:
    """What a run recorded epoch by epoch.

    Args:
        rows: column with its unit -> text, one row per epoch; of many epochs some.
        title: what the curves show, with the unit.
        curves: metric -> points (epoch, value).
        num_epochs: of the whole training.
    """

    rows: list[dict[str, str]] = field(default_factory=list)
    title: str = ""
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    num_epochs: int = 0


def result_texts(summary: Summary) -> list[str]:
    """The result of a run, the most important first: ``test/accuracy 97.21 %``."""
    of_splits = [
        [name for name in (f"{split}/accuracy", f"{split}/loss") if name in summary.metrics] for split in ("test", "val")
    ]
    names = next(filter(None, of_splits), list(summary.metrics)[:3])
    found = [f"{name} {metric_value(name, summary.metric(name), own=summary.source is None)}" for name in names]
    return [*found, *([f"time {elapsed_text(summary.seconds)}"] if math.isfinite(summary.seconds) else [])]


def metric_value(name: str, value: float, *, own: bool = True) -> str:
    """A metric with its unit: ``97.21 %``. Imported runs do not tell units, so their values stay as they are."""
    unit = shown_unit(name) if own else ""
    if not math.isfinite(value):
        return "–"
    return f"{_cell(value, unit)} {unit}".rstrip()


def shown_unit(name: str) -> str:
    """The unit in which a metric of our own is shown; empty if it has none."""
    return _OF_TIME.get(name) or level_unit(name, metric_unit(name))


_OF_TIME = {"time/epoch_seconds": "s", "time/images_per_second": "images/s"}


def course(rows: Sequence[dict[str, float]], *, own: bool = True) -> Course:
    """The epochs of a run.

    Args:
        rows: ``RecordedRun.metrics()``.
        own: whether bnexp recorded it, so that the units of its metrics are known.
    """
    axis = "epoch" if any("epoch" in row for row in rows) else "step"
    epochs = [row for row in rows if axis in row]
    names = [name for name in dict.fromkeys(name for row in epochs for name in row) if name not in ("epoch", "step")]
    kept = _some(epochs, MOST_EPOCHS)
    units = {name: shown_unit(name) if own else "" for name in names}
    table = [
        {axis: f"{row[axis]:g}", **{_header(name, units[name]): _cell(row.get(name), units[name]) for name in names}}
        for row in kept
    ]
    drawn = next(
        (found for kind in ("accuracy", "acc", "loss") if (found := [name for name in names if kind in name.split("/")[-1]])),
        names[:2],
    )[:3]
    unit = units[drawn[0]] if drawn else ""
    scale = 100 if unit in ("%", "pp") else 1
    curves = {name: [(row[axis], scale * row[name]) for row in epochs if name in row] for name in drawn}
    title = f"{', '.join(drawn)}{f' ({unit})' if unit else ''} by {axis}" if drawn else ""
    return Course(table, title, curves, len(epochs))


def _some(rows: Sequence[dict[str, float]], most: int) -> list[dict[str, float]]:
    """At most so many rows, evenly spread, with the first and the last."""
    if len(rows) <= most:
        return list(rows)
    places = sorted({round(k * (len(rows) - 1) / (most - 1)) for k in range(most)})
    return [rows[place] for place in places]


def _header(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name


def _cell(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit == "images/s":
        return f"{value:,.0f}"
    return number(100 * value if unit in ("%", "pp") else value, unit)


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run that decide what it learns, without the options of a norm layer or of probes that it does not have.

    Args:
        settings: ``RecordedRun.settings``.
    """
    left_out = {info.name for info in schema_keys() if not info.metadata["identity"]}
    if settings.get("norm.kind") == "none":
        left_out |= {name for name in settings if name.startswith("norm.") and name != "norm.kind"}
    if not any(settings.get(f"probe.{probe}") for probe in PROBE_METRICS):
        left_out |= {name for name in settings if name.startswith("probe.")}
    return {
        name: value for name, value in settings.items() if name not in left_out and not name.startswith(("study.", "budget."))
    }


def unusual_settings(settings: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The settings that decide what a run learns and are not the defaults.

    Args:
        settings: ``RecordedRun.settings``.

    Returns:
        Key, value and default as a person types them; the default of a key that this version does not know is empty.
    """
    usual = default_settings()
    return [
        (name, setting_text(value), setting_text(usual[name]) if name in usual else "")
        for name, value in deciding(settings).items()
        if name not in usual or value != usual[name]
    ]


@cache
def default_settings() -> Mapping[str, Any]:
    """The default configuration as ``{dotted key: value}``."""
    return flatten(plain(asdict(RunConfig())))
