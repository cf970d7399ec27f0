"""What interaction and trend share: both ask how the difference between two arms depends on the factors.

Both work on each seed's own differences, arm minus baseline. If neither run of a pair trained at a level, the
difference there is about 0 only because both are at chance. Such a 0 can look like an interaction or a trend as well as like
their absence. So a seed with one at any level that its contrast uses is not compared; if every seed has one, nothing is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnexp.comparison import stats
from bnexp.comparison.method import Method
from bnexp.comparison.pairing import Results, place, seed_text
from bnexp.comparison.result import Comparison
from bnexp.comparison.stats import Array
from bnexp.comparison.text import quantity


class Factorial(Method):
    """An analysis of how the difference between two arms changes over the levels."""

    follows_factor = True
    none_trained = "neither run trained at some level with every seed"


@dataclass(frozen=True)
class Courses:
    """The differences of two arms over several levels, for the seeds that have a pair at each of them.

    Args:
        seeds: the seeds, n of them.
        differences: (n, L) arm minus baseline at each level.
        num_lost: seeds of which neither run trained at some level: 0, or all n. Only if all are lost are they kept.
        incomplete: seeds with a pair at some level, but not at every one.
    """

    seeds: tuple[int, ...]
    differences: Array
    num_lost: int
    incomplete: list[int]

    @classmethod
    def of(cls, results: Results, arm: str, baseline: str, levels: Sequence[str]) -> Courses:
        """Read the differences of ``arm`` from ``baseline`` at ``levels``."""
        found = [by_seed(results, arm, baseline, level) for level in levels]
        lost = set().union(*(results.both_untrained(arm, baseline, level) for level in levels))
        complete = set(found[0]).intersection(*found[1:])
        seeds = tuple(sorted(complete - lost or complete))
        rows = np.array([[course[seed] for course in found] for seed in seeds], float).reshape(len(seeds), len(levels))
        incomplete = set().union(*found) - complete - lost
        return cls(seeds, rows, len(lost.intersection(seeds)), sorted(incomplete))


def gain(c: Comparison) -> str:
    """What such an analysis speaks of: ``the gain in accuracy of batch over none``."""
    if c.unit.split("/")[0] == "pp":
        return f"the gain in accuracy of {c.arm} over {c.baseline}"
    return f"the difference {c.arm} − {c.baseline}"


def by_seed(results: Results, arm: str, baseline: str, level: str) -> dict[int, float]:
    """Seed -> arm minus baseline at one level."""
    pairs = results.pair(arm, baseline, level)
    return dict(zip(pairs.seeds, map(float, stats.differences(pairs.arm, pairs.baseline)), strict=True))


def lost_seeds(results: Results, arm: str, baseline: str) -> list[str]:
    """A sentence for each level at which neither run of a pair trained."""
    return [
        f"{place(f'{arm} minus {baseline}', level)}: neither run trained with {seed_text(sorted(lost))}, so there is no "
        "difference to measure; these seeds are not compared there."
        for level in results.levels
        if (lost := results.both_untrained(arm, baseline, level))
    ]


def means_note(arm: str, baseline: str, means: Sequence[tuple[str, float]], unit: str) -> str:
    """A sentence with the mean difference at each level; ``means``: (level, mean) in ``unit``."""
    listed = ", ".join(f"{quantity(mean, unit, sign=True)} at {level}" for level, mean in means)
    return f"{arm} minus {baseline}, means over seeds: {listed}."
