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


def groups(result: StudyResult) -> list[list[Comparison]]:
    """The deciding comparisons with differences, those of one measure and level together; the first ``MOST`` groups."""
    found: dict[tuple[str, str], list[Comparison]] = {}
    for c in result.deciding:
        if c.measured and c.n > 1:
            found.setdefault((c.measure, c.level), []).append(c)
    return list(found.values())[:MOST]


def sequence_plot(result: StudyResult, comparisons: Sequence[Comparison], arms: Sequence[str]) -> alt.LayerChart:
    """The running mean of each comparison, its 95 % confidence sequence from six seeds on, zero and the margin.

    Args:
        result: the study.
        comparisons: one of ``groups``.
        arms: all arms of the study, in the order of their colours.
    """
    first, rule = comparisons[0], rule_of(result)
    rows = [row for c in comparisons for row in _rows(c, rule)]
    most = max(c.n for c in comparisons)
    band = [{"low": -first.margin, "high": first.margin, "seeds": 1, "last": most}] if np.isfinite(first.margin) else []
    ticks = alt.Axis(format="d", grid=False, values=[n for n in range(1, most + 1) if most <= 12 or n % (most // 12 + 1) == 0])
    x = alt.X("seeds:Q", title="seeds", axis=ticks, scale=alt.Scale(domain=[1, most], nice=False))
    title, y_axis = axis_title(first.unit), alt.Axis(tickCount=5)
    scale = alt.Scale(zero=True)
    watched = [row for row in rows if np.isfinite(row["low"])]

    def chart(shown: list[dict[str, Any]]) -> alt.Chart:
        base = alt.Chart(style.data(shown)).encode(x, alt.Detail("pair:N"))
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
        *([chart(watched).mark_area(opacity=0.16).encode(low, high, style.fill(arms))] if watched else []),
        *([chart(watched).mark_rule(strokeWidth=1.5).encode(low, high, style.stroke(arms))] if watched else []),
        chart(rows).mark_line(strokeWidth=2).encode(y, style.stroke(arms), style.dash(arms)),
        chart(rows).mark_point(filled=True, size=36, opacity=1).encode(y, style.fill(arms), style.shape(arms), tooltip=tooltip),
    ).add_params(*style.arm_params())
    where = f" at {first.level}" if first.level else ""
    return style.finish(layers, f"{first.measure}{where} as the seeds came", 240, symbol="stroke")


def last_bounds(result: StudyResult, comparisons: Sequence[Comparison]) -> dict[str, tuple[float, float]]:
    """Pair -> the confidence sequence at its last seed."""
    rule = rule_of(result)
    rows = [_rows(c, rule)[-1] for c in comparisons]
    return {row["pair"]: (row["low"], row["high"]) for row in rows}


def _rows(c: Comparison, rule: Rule) -> list[dict[str, Any]]:
    """One row per number of seeds: the mean difference so far with its confidence sequence."""
    rows = []
    for n, (mean, low, high) in enumerate(rule.course(c.differences, LEVEL), 1):
        text, bounds = quantity(mean, c.unit, sign=True), interval(low, high, c.unit) or "–"
        known = {"pair": f"{c.arm} − {c.baseline}", "arm": c.arm, "seeds": n, "mean": mean, "low": low, "high": high}
        rows.append(known | {"text": text, "interval": bounds})
    return rows
