"""What figures show, in words with the numbers: the alternative texts of reports, of the book and of exported pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bnexp.comparison.result import Comparison
from bnexp.comparison.text import interval, level_unit, number, quantity
from bnexp.config.keys import metric_unit
from bnexp.report.factor import Factor

FEW = 4  # levels of a factor up to which each is named; of more the first, the best and the last


def courses(summary: pl.DataFrame, metric: str, name: str, arms: Sequence[str]) -> dict[str, str]:
    """Level -> how a metric went by epoch: of each arm the first and the last epoch, and which arm ends highest.

    Args:
        summary: of ``courses.summarise``.
        metric: one of those in ``summary``.
        name: what the metric is called.
        arms: the arms, in the order of the sentence.
    """
    unit = level_unit(metric, metric_unit(metric))
    own = summary.filter(pl.col("metric") == metric)
    return {level: _course(part, name, unit, level, arms) for (level,), part in own.group_by("level", maintain_order=True)}


def _course(own: pl.DataFrame, name: str, unit: str, level: str, arms: Sequence[str]) -> str:
    rows = {arm: own.filter(pl.col("arm") == arm).sort("epoch").to_dicts() for arm in arms}
    known = {arm: (found[0], found[-1]) for arm, found in rows.items() if found}
    epochs = [row["epoch"] for found in rows.values() for row in found]
    parts = []
    for arm, (first, last) in known.items():
        spread = f" (seeds {_range(last['low'], last['high'], unit)})" if last["n"] > 1 else ""
        went = f"{number(first['mean'], unit)} to {quantity(last['mean'], unit)}"
        parts.append(f"{arm} {went if last is not first else quantity(last['mean'], unit)}{spread}")
    ends = {arm: last["mean"] for arm, (_, last) in known.items()}
    trend = f" {max(ends, key=ends.__getitem__)} ends highest." if len(set(ends.values())) > 1 else ""
    span = f"from epoch {min(epochs)} to {max(epochs)}" if min(epochs) < max(epochs) else f"after epoch {max(epochs)}"
    return f"{name} {span}{f', at {level}' if level else ''}, mean over seeds: {'; '.join(parts)}.{trend}"


def differences(comparisons: Sequence[Comparison]) -> str:
    """The mean paired differences of one measure with their intervals."""
    parts = [f"{_pair(c)} {_estimate(c.difference, c.low, c.high, c.unit, sign=True)}, {c.n} seeds" for c in comparisons]
    margins = {c.margin for c in comparisons if np.isfinite(c.margin)}
    margin = f" Up to ±{quantity(max(margins), comparisons[0].unit)} counts as no difference." if len(margins) == 1 else ""
    return f"Paired differences in {comparisons[0].measure}: {'; '.join(parts)}.{margin}"


def sequence(comparison: Comparison, last: tuple[float, float]) -> str:
    """A running mean difference. ``last``: the confidence sequence at the last seed."""
    c = comparison
    start, end = quantity(c.differences[0], c.unit, sign=True), _estimate(c.difference, *last, c.unit, True)
    about = f"{c.measure} {c.level}".rstrip()
    return (
        f"Mean difference in {about} over the number of seeds, with 95 % confidence sequence: {c.arm} minus {c.baseline} from "
        f"{start} to {end}, {c.n} seeds."
    )


def over_factor(factor: Factor, panel: str, metric: str, unit: str) -> str:
    """The metric over a factor: of each arm its levels, or of many the first, the best and the last."""
    shown = unit if factor.baseline else level_unit(metric, unit)
    frame = factor.frame.filter(pl.col("panel") == panel)
    parts = []
    for arm in frame["arm"].unique(maintain_order=True):
        rows = frame.filter(pl.col("arm") == arm).to_dicts()
        parts.append(f"{arm} {', '.join(_at(row, factor, shown) for row in _telling(rows, factor.numeric))}")
    what = f"{metric}, difference from {factor.baseline}," if factor.baseline else metric
    return f"{what} over {factor.name}{f', {panel}' if panel else ''}, mean over seeds: {'; '.join(parts)}."


def _telling(rows: list[dict[str, Any]], ordered: bool) -> list[dict[str, Any]]:
    """The rows that tell the course; all of them if they are few."""
    if len(rows) <= FEW or not ordered:
        return rows
    means = [row["mean"] for row in rows]
    kept = sorted({0, int(np.argmin(means)), int(np.argmax(means)), len(rows) - 1})
    return [rows[k] for k in kept]


def _at(row: Mapping[str, Any], factor: Factor, unit: str) -> str:
    level = f"{row['x']:g}" if factor.numeric else row["x"]
    return f"{_estimate(row['mean'], row['low'], row['high'], unit, bool(factor.baseline))} at {level}"


def confusion(matrix: NDArray[np.floating[Any]], class_names: Sequence[str], arm: str) -> str:
    """A confusion matrix: how many images are right, and the three most frequent mistakes."""
    total, right = float(matrix.sum()), float(np.trace(matrix))
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(wrong, axis=None)[::-1][:3]
    found = [(int(k) // len(wrong), int(k) % len(wrong)) for k in order if wrong.flat[k] > 0]
    said = ", ".join(f"{class_names[i]} as {class_names[j]} ({wrong[i, j]:.4g})" for i, j in found)
    mistakes = f" Most frequent mistakes: {said}." if said else " There is no mistake."
    share = f" ({100 * right / total:.1f} %)" if total else ""
    return f"Confusion matrix of {arm}, mean counts over seeds: {right:,.0f} of {total:,.0f} images right{share}.{mistakes}"


def reliability(errors: Mapping[str, float], gaps: Mapping[str, float], level: str) -> str:
    """Accuracy over confidence. ``errors``: arm -> expected calibration error; ``gaps``: mean confidence minus accuracy."""
    parts = []
    for arm, error in errors.items():
        sure = "more" if gaps[arm] > 0 else "less"
        parts.append(f"{arm} {100 * error:.2f} %, {abs(100 * gaps[arm]):.2f} pp {sure} sure than right")
    about = "Accuracy over confidence in 15 bins, with the diagonal of a network that is as right as it is sure"
    return f"{about}{f', at {level}' if level else ''}. Expected calibration error: {'; '.join(parts)}."


def _pair(c: Comparison) -> str:
    return " ".join([f"{c.arm} minus {c.baseline}", *([f"at {c.level}"] if c.level else [])])


def _estimate(value: float, low: float, high: float, unit: str, sign: bool) -> str:
    return f"{quantity(value, unit, sign)} {interval(low, high, unit)}".rstrip()


def _range(low: float, high: float, unit: str) -> str:
    return f"{number(low, unit)} to {number(high, unit)}"
