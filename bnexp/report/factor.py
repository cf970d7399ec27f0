"""The study's metric over one of its factors, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from bnexp.comparison.analyses import ANALYSES
from bnexp.comparison.pairing import Results
from bnexp.comparison.result import StudyResult
from bnexp.comparison.stats import differences, mean_interval

LOG_SPAN = 8  # from this ratio of its largest to its smallest level on, a numeric factor is drawn on a logarithmic axis


@dataclass(frozen=True)
class Factor:
    """The study's metric, or the advantage over a baseline, over one factor.

    Args:
        name: the factor.
        numeric: whether its levels are numbers.
        log: whether they are drawn on a logarithmic axis.
        frame: ``arm panel level x n mean low high untrained``, one row per arm and level. ``x`` is a number if ``numeric``,
            else text. ``panel`` names the levels of the other factors; empty without other factors. Units as in ``ArmSummary``.
        baseline: the arm that the values are differences from; empty if they are the metric itself.
    """

    name: str
    numeric: bool
    log: bool
    frame: pl.DataFrame = field(repr=False)
    baseline: str = ""

    @property
    def panels(self) -> list[str]:
        return self.frame["panel"].unique(maintain_order=True).to_list()


def study_factor(result: StudyResult) -> Factor | None:
    """The study's metric over the factor with the most levels, a numeric one first; None if there are fewer than two levels."""
    levels = {outcome.level: outcome.levels for outcome in result.outcomes if outcome.levels}
    if len(levels) < 2:
        return None
    names = list(dict.fromkeys(name for values in levels.values() for name in values))
    choices: dict[str, list[Any]] = {n: list(dict.fromkeys(values.get(n) for values in levels.values())) for n in names}
    name = max(names, key=lambda n: (_is_numeric(choices[n]), len(choices[n])))
    numeric = _is_numeric(choices[name])
    rows = [
        {
            "arm": s.arm,
            "panel": ", ".join(f"{other}={value}" for other, value in levels[s.level].items() if other != name),
            "level": s.level,
            "x": float(levels[s.level][name]) if numeric else str(levels[s.level][name]),
            **{key: getattr(s, key) for key in ("n", "mean", "low", "high")},
            "untrained": s.diverged + s.stuck,
        }
        for s in result.arms
        if s.level in levels and np.isfinite(s.mean)
    ]
    log = numeric and min(choices[name]) > 0 and max(choices[name]) >= LOG_SPAN * min(choices[name])
    return Factor(name, numeric, log, pl.DataFrame(rows)) if rows else None


def study_advantage(result: StudyResult, chance: float | None) -> Factor | None:
    """The paired difference of each arm from the baseline over the factor, if the analysis asks how it changes; else None.

    Two arms without a baseline are compared all the same, the second with the first. With more arms there is no one difference.

    Args:
        result: what the comparison found.
        chance: accuracy of guessing, which a diverged run counts at; None if it is not known.
    """
    arms = list(dict.fromkeys(outcome.arm for outcome in result.outcomes))
    baseline, factor = result.study.get("baseline") or (arms[0] if len(arms) == 2 else None), study_factor(result)
    if not ANALYSES[result.study["analysis"]].follows_factor or factor is None or baseline is None:
        return None
    results = Results(result.outcomes, str(result.study["metric"]), chance, metrics=result.study.get("metrics") or {})
    rows = []
    for row in factor.frame.filter(pl.col("arm") != baseline).to_dicts():
        pairs = results.pair(row["arm"], baseline, row["level"])
        mean = mean_interval(differences(pairs.arm, pairs.baseline))
        if pairs.seeds:
            shown = {"n": len(pairs.seeds), "mean": mean.estimate, "low": mean.low, "high": mean.high}
            rows.append(row | shown | {"untrained": pairs.both_untrained})
    return replace(factor, frame=pl.DataFrame(rows), baseline=baseline) if rows else None


def _is_numeric(values: Sequence[Any]) -> bool:
    return len(values) > 1 and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
