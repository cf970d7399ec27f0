"""The paired differences as the seeds came: running means with confidence sequences, which hold at every number of seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from bnexp.comparison.looks import rule_of
from bnexp.comparison.result import Comparison, StudyResult
from bnexp.comparison.sequential import Rule
from bnexp.comparison.text import axis_title, interval, quantity
from bnexp.report import style

MOST = 6  # charts; a study that is decided at more levels shows the first ones
LEVEL = 0.95


def watched(result: StudyResult) -> list[Comparison]:
    """The deciding comparisons with differences, of which each has a chart of its own; the first ``MOST``."""
    return [c for c in result.deciding if c.measured and c.n > 1][:MOST]


def sequence_plot(result: StudyResult, comparison: Comparison, arms: Sequence[str]) -> alt.LayerChart:
    """The running mean of a comparison, its 95 % confidence sequence from six seeds on, zero and the margin.

    Args:
        result: the study.
        comparison: one of ``watched``.
        arms: all arms of the study, in the order of their colours.
    """
    c, most = comparison, comparison.n
    rows = _rows(c, rule_of(result))
    band = [{"low": -c.margin, "high": c.margin, "seeds": 1, "last": most}] if np.isfinite(c.margin) else []
    ticks = alt.Axis(format="d", grid=False, values=[n for n in range(1, most + 1) if most <= 12 or n % (most // 12 + 1) == 0])
    x = alt.X("seeds:Q", title="seeds", axis=ticks, scale=alt.Scale(domain=[1, most], nice=False))
    title, y_axis = axis_title(c.unit), alt.Axis(tickCount=5)
    scale = alt.Scale(zero=True)
    bounded = [row for row in rows if np.isfinite(row["low"])]

    def chart(shown: list[dict[str, Any]]) -> alt.Chart:
        base = alt.Chart(style.data(shown)).encode(x)
        return base.transform_filter("indexof(hidden_arms, datum.arm) < 0")

    low, high = alt.Y("low:Q", title=title, scale=scale), alt.Y2("high:Q")
    y = alt.Y("mean:Q", title=title, scale=scale, axis=y_axis)
    tooltip = [
        alt.Tooltip("pair:N"),
        alt.Tooltip("seeds:Q"),
        alt.Tooltip("text:N", title="mean difference"),
        alt.Tooltip("interval:N", title="95 % confidence sequence"),
    ]
    shaded = alt.Chart(style.data(band)).mark_rect(color=style.QUIET, opacity=0.12)
    layers = alt.layer(
        *([shaded.encode(x, alt.X2("last:Q"), low, high)] if band else []),
        alt.Chart(style.data([{"zero": 0}])).mark_rule(color=style.QUIET).encode(alt.Y("zero:Q", title=title, scale=scale)),
        *([chart(bounded).mark_area(opacity=0.16).encode(low, high, style.fill(arms))] if bounded else []),
        *([chart(bounded).mark_rule(strokeWidth=1.5).encode(low, high, style.stroke(arms))] if bounded else []),
        chart(rows).mark_line(strokeWidth=2).encode(y, style.stroke(arms), style.dash(arms)),
        chart(rows).mark_point(filled=True, size=36, opacity=1).encode(y, style.fill(arms), style.shape(arms), tooltip=tooltip),
        params=style.arm_params(),
    )
    measure = [c.measure] if len({other.measure for other in watched(result)}) > 1 else []
    return style.finish(layers, ", ".join([f"{c.arm} − {c.baseline}", *measure, *([c.level] if c.level else [])]), 200)


def last_bounds(result: StudyResult, comparison: Comparison) -> tuple[float, float]:
    """The confidence sequence at the last seed."""
    row = _rows(comparison, rule_of(result))[-1]
    return row["low"], row["high"]


def _rows(c: Comparison, rule: Rule) -> list[dict[str, Any]]:
    """One row per number of seeds: the mean difference so far with its confidence sequence."""
    rows = []
    for n, (mean, low, high) in enumerate(rule.course(c.differences, LEVEL), 1):
        text, bounds = quantity(mean, c.unit, sign=True), interval(low, high, c.unit) or "–"
        known = {"pair": f"{c.arm} − {c.baseline}", "arm": c.arm, "seeds": n, "mean": mean, "low": low, "high": high}
        rows.append(known | {"text": text, "interval": bounds})
    return rows
