"""A result as rows of text: the same columns in the terminal, CSV, Markdown and HTML."""

from __future__ import annotations

import math

from bnexp.comparison.result import StudyResult, Test
from bnexp.comparison.text import interval, level_unit, number, p_equivalence, p_text, quantity, signed

Row = dict[str, str]


def arm_rows(result: StudyResult) -> list[Row]:
    """One row per arm and level: mean, 95 % interval and standard deviation over the seeds, and the runs that went wrong.

    Accuracies are in per cent; their standard deviation is a difference, so it is in pp.

    Fewer than three seeds, or seeds that all agree, have no interval: an en dash.
    """
    unit = f" ({shown})" if (shown := level_unit(result.metric, result.unit)) else ""
    leveled = any(summary.level for summary in result.arms)
    return [
        {
            "arm": s.arm,
            **({"level": s.level} if leveled else {}),
            "n": str(s.n),
            result.metric + unit: number(s.mean, result.unit),
            "95 % interval": interval(s.low, s.high, result.unit) or "–",
            "sd": number(s.sd, result.unit),
            "diverged": str(s.diverged),
            "stuck": str(s.stuck),
            "missing": str(s.missing),
        }
        for s in result.arms
    ]


def without_zeros(rows: list[Row]) -> list[Row]:
    """The rows of a table of arms, without a count of runs that went wrong if there is no such run."""
    empty = {name for name in ("diverged", "stuck", "missing") if all(row[name] == "0" for row in rows)}
    return [{name: text for name, text in row.items() if name not in empty} for row in rows]


def comparison_rows(result: StudyResult) -> list[Row]:
    """One row per comparison, in their order: difference with intervals, p values, effect size, superiority, verdict, reason.

    What is only measured besides has neither p nor verdict: an en dash. If there is such a row, ``decides`` tells them apart.

    A time is a ratio: 0.43× means that the arm needs 0.43 times what the baseline needs. The bootstrap interval is for display
    only. Runs that are not paired have the size of either group as n, and as d_z Hedges' g; there are no signs to flip.
    Differences that are all the same have no interval, and then no p of equivalence is shown. Every p has Holm's
    correction over the study, so each can be read against .05.
    """
    leveled = any(c.level for c in result.comparisons)
    measured = any(c.measure != result.metric for c in result.comparisons)
    tested = any(c.test is not Test.paired_t for c in result.comparisons)
    mixed = any(not c.decides for c in result.comparisons)
    return [
        {
            "arm": c.arm,
            "baseline": c.baseline,
            **({"level": c.level} if leveled else {}),
            **({"measure": c.measure} if measured else {}),
            "n": "/".join(map(str, c.sizes)) if c.unpaired else str(c.n),
            "difference": quantity(c.difference, c.unit, sign=True),
            "95 % interval": interval(c.low, c.high, c.unit) or "–",
            "95 % BCa": interval(c.low_bca, c.high_bca, c.unit) or "–",
            **({"test": f"{c.test}, unpaired" if c.unpaired else c.test} if tested else {}),
            "p adjusted": p_text(c.p_verdict),
            "p sign flip": p_text(c.p_sign_flip_adjusted),
            "p equivalence": p_equivalence(c),
            "d_z": signed(c.effect, "pp"),
            "wins": f"{number(100 * c.superiority, '')} %" if math.isfinite(c.superiority) else "–",
            "n needed": f"{c.n_needed:,}" if c.decides and c.n_needed is not None else "–",
            **({"decides": "yes" if c.decides else "no"} if mixed else {}),
            "verdict": c.verdict.value if c.verdict else "–",
            "reason": c.reason,
        }
        for c in result.comparisons
    ]


def decided_and_measured(result: StudyResult) -> tuple[list[Row], list[Row]]:
    """The rows of the comparisons that decide, and of those that are only measured besides."""
    rows = list(zip(result.comparisons, comparison_rows(result), strict=True))
    return [row for c, row in rows if c.decides], [row for c, row in rows if not c.decides]
