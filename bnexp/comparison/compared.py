"""What a comparison of recorded runs gives to other programs and to papers: rows with stable columns."""

from __future__ import annotations

import math
from typing import Any

from bnexp.comparison.frame import RunComparison
from bnexp.comparison.result import Comparison
from bnexp.comparison.text import SETTINGS, TEST_NAMES, interval, level_unit, number, p_text, quantity
from bnexp.comparison.words import settings_text

# The columns of the groups in --json: mean and bounds in ``unit`` (per cent for accuracies), null where there is none.
GROUP_COLUMNS = ("arm", "level", "metric", "unit", "n", "mean", "low", "high", "sd", "diverged", "stuck", "missing")
# The columns of the comparisons in --json and --csv. Differences, bounds and margin are in ``unit`` (pp for accuracies), arm
# minus baseline; p values have Holm's correction over all comparisons, except ``p``.
PAIR_COLUMNS = (
    "arm",
    "baseline",
    "level",
    "metric",
    "unit",
    "n_arm",
    "n_baseline",
    "paired",
    "why_unpaired",
    "difference",
    "low",
    "high",
    "low90",
    "high90",
    "test",
    "p",
    "p_adjusted",
    "p_equivalence_adjusted",
    "margin",
    "effect_size",
    "superiority",
    "n_needed",
    "verdict",
    "reason",
)


def group_rows(result: RunComparison) -> list[dict[str, Any]]:
    """One row per arm and level, with ``GROUP_COLUMNS``."""
    unit = level_unit(result.metric, result.unit)
    found = []
    for s in result.arms:
        numbers = map(_finite, (s.mean, s.low, s.high, s.sd))
        values = (s.arm, s.level, result.metric, unit, s.n, *numbers, s.diverged, s.stuck, s.missing)
        found.append(dict(zip(GROUP_COLUMNS, values, strict=True)))
    return found


def pair_rows(result: RunComparison) -> list[dict[str, Any]]:
    """One row per comparison, with ``PAIR_COLUMNS``."""
    return [dict(zip(PAIR_COLUMNS, _pair(c), strict=True)) for c in result.comparisons]


def _pair(c: Comparison) -> tuple[Any, ...]:
    numbers = (c.difference, c.low, c.high, c.low90, c.high90)
    return (
        c.arm,
        c.baseline,
        c.level,
        c.measure,
        c.unit,
        *(c.sizes or (c.n, c.n)),
        not c.unpaired,
        c.unpaired,
        *map(_finite, numbers),
        c.test.value,
        *map(_finite, (c.p_test, c.p_adjusted, c.p_equivalence_adjusted, c.margin, c.effect, c.superiority)),
        c.n_needed,
        c.verdict.value if c.verdict else None,
        c.reason,
    )


def as_json(result: RunComparison, num_damaged: int = 0) -> dict[str, Any]:
    """What ``bnexp compare --json`` prints.

    Args:
        result: the comparison.
        num_damaged: number of damaged records that were met on the way to it, and left out.
    """
    return {
        "question": result.question,
        "answer": result.answer,
        "verdict": result.verdict.value,
        "exploratory": True,
        "metric": result.metric,
        "unit": result.unit,
        "better": result.better or None,
        "margin": _finite(result.margin),
        "grouped_by": list(result.columns),
        "kept_apart": list(result.by),
        "paired": all(not c.unpaired for c in result.comparisons),
        "settings": result.settings,
        "groups": group_rows(result),
        "comparisons": pair_rows(result),
        "notes": [*result.unpaired, *result.notes],
        "damaged": num_damaged,
    }


def paper_rows(result: RunComparison) -> list[dict[str, str]]:
    """A table for a paper: both means with their number of runs, the difference with its interval, p and verdict.

    If nothing was tested, the arms with their means.
    """
    unit = level_unit(result.metric, result.unit)
    shown = f"mean ({unit})" if unit else "mean"
    leveled = any(summary.level for summary in result.arms)
    summaries = {(s.arm, s.level): s for s in result.arms}
    if not result.comparisons:
        return [
            {"arm": s.arm, **({"level": s.level} if leveled else {}), "n": str(s.n), shown: number(s.mean, result.unit)}
            | {"95 % interval": interval(s.low, s.high, result.unit) or "–"}
            for s in result.arms
        ]
    return [
        {
            **({"level": c.level} if leveled else {}),
            "arm": c.arm,
            shown: number(summaries[c.arm, c.level].mean, result.unit),
            "baseline": c.baseline,
            f"{shown} ": number(summaries[c.baseline, c.level].mean, result.unit),
            "n": "/".join(map(str, c.sizes)) if c.unpaired else str(c.n),
            f"difference ({result.unit})" if result.unit else "difference": number(c.difference, c.unit),
            "95 % interval": interval(c.low, c.high, c.unit) or "–",
            "p": p_text(c.p_verdict),
            "verdict": c.verdict.value.lower() if c.verdict else "–",
        }
        for c in result.comparisons
    ]


def caption(result: RunComparison) -> str:
    """What the table for a paper says above it: what was compared, under which settings, and what was tested how."""
    held = settings_text(result.settings, SETTINGS)
    where = f" on {result.settings['data.name']}" if "data.name" in result.settings else ""
    parts = [f"{result.metric} of recorded runs{where}{f' with {held}' if held else ''}."]
    tests = " and ".join(dict.fromkeys(TEST_NAMES[c.test] for c in result.comparisons))
    if tests:
        count = len(result.comparisons)
        paired = [c for c in result.comparisons if not c.unpaired]
        why = "; ".join(dict.fromkeys(c.unpaired for c in result.comparisons if c.unpaired))
        unpaired = f"of unpaired runs ({why})"
        over = "over paired seeds" if len(paired) == count else f"over paired seeds, or {unpaired}" if paired else unpaired
        family = f"Holm's correction over {count} comparisons" if count > 1 else "no correction, a single comparison"
        margin = f" Equivalent: within ±{quantity(result.margin, result.unit)} by TOST." if math.isfinite(result.margin) else ""
        parts.append(
            f"Differences are arm minus baseline {over}, with 95 % intervals; n counts "
            f"{'pairs' if paired else 'runs per group'}. p: {tests} with {family}.{margin} Exploratory: the "
            "runs were chosen after they had trained."
        )
    return " ".join(parts)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
