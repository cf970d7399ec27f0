"""How much each parameter of a sweep matters, by itself, and how much of that chance alone would show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bnexp.comparison.sweep.record import Axis, SweepRecord

LEAST_POINTS = 8  # with fewer hardly anything stands out from chance
MOST_PARTS = 4  # that a range of numbers is divided into
SHUFFLES = 1_000


@dataclass(frozen=True)
class Importance:
    """The importance of a parameter.

    Args:
        name: the parameter.
        share: of the differences in rank between points, the part that goes along with this parameter alone, 0 to 1.
        chance: what 95 % of shuffles of the points stay below.
        p: share of the shuffles that reach ``share``.
        best: the value, or the part of its range, whose points are best on average.
    """

    name: str
    share: float
    chance: float
    p: float
    best: str


def importances(record: SweepRecord) -> list[Importance]:
    """The importance of each parameter, the largest first; none if there are too few points.

    Points are ranked by the metric. A parameter's share is epsilon squared of the Kruskal-Wallis test (Tomczak & Tomczak 2014,
    "The need to report effect size estimates revisited") over its values. A range of numbers is divided into up to four parts
    with equally many points, so an optimum in the middle counts too. What only shows in combination with other parameters does
    not count. Points that were stopped early count with their last value. Points that are the same experiment, because a
    parameter has no effect in it, are shuffled as one: they are no independent results.
    """
    known = [trial for trial in record.trials if math.isfinite(trial.value)]
    experiments = {tuple(trial.run_ids): number for number, trial in enumerate(known)}
    if len(experiments) < LEAST_POINTS:
        return []
    firsts, places = np.unique([experiments[tuple(trial.run_ids)] for trial in known], return_inverse=True)
    ranks = stats.rankdata([record.objective.cost(trial.value) for trial in known])
    generator = np.random.default_rng(0)
    found = []
    for axis in record.axes:
        groups, names = _parts(axis, [trial.params[axis.name] for trial in known])
        if len(names) > 1:
            shuffled = [share_explained(generator.permutation(ranks[firsts])[places], groups) for _ in range(SHUFFLES)]
            share = share_explained(ranks, groups)
            p = (1 + sum(other >= share for other in shuffled)) / (1 + SHUFFLES)
            best = names[int(np.argmin([ranks[groups == k].mean() for k in range(len(names))]))]
            found.append(Importance(axis.name, share, float(np.quantile(shuffled, 0.95)), p, best))
    return sorted(found, key=lambda item: -item.share)


def share_explained(ranks: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """Epsilon squared: ``(H - k + 1) / (n - k)`` with H of the Kruskal-Wallis test of k groups and n values; at least 0.

    Args:
        ranks: of the values, (n,).
        groups: number of the group of each value, (n,).
    """
    n, k = ranks.size, int(groups.max()) + 1
    total = float(((ranks - ranks.mean()) ** 2).sum())
    if n <= k or total == 0:
        return 0.0
    sizes = np.bincount(groups, minlength=k)
    means = np.bincount(groups, ranks, minlength=k) / np.maximum(sizes, 1)
    h = (n - 1) * float((sizes * (means - ranks.mean()) ** 2).sum()) / total
    return max(0.0, (h - k + 1) / (n - k))


def _parts(axis: Axis, values: Sequence[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """The group of each value, and the names of the groups."""
    if axis.values or not all(isinstance(value, int | float) for value in values):
        names = list(dict.fromkeys(map(_text, axis.values or values)))
        used = [name for name in names if name in set(map(_text, values))]
        return np.array([used.index(_text(value)) for value in values]), used
    numbers = np.array(values, dtype=float)
    distinct = np.unique(numbers)
    if distinct.size <= MOST_PARTS:
        return np.searchsorted(distinct, numbers), [f"{value:g}" for value in distinct]
    bounds = np.unique(np.quantile(numbers, np.linspace(0, 1, MOST_PARTS + 1)[1:-1]))
    groups = np.searchsorted(bounds, numbers, side="left")
    inside = [numbers[groups == k] for k in range(bounds.size + 1)]
    return groups, [f"{part.min():.3g} to {part.max():.3g}" for part in inside]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "null" if value is None else str(value)
