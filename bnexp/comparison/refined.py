"""Which levels a study adds to those of its one factor, to find the largest at which each arm trains (``study.refine``).

The rule is fixed before any run, and every level is added for all arms and seeds. First the grid grows upwards by its own ratio
while some run trains at its largest level. Then levels are added at the geometric middle between the largest level that trains
and the next one, for each arm and seed, until both are at most ``study.refine.ratio`` apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bnexp.comparison.course import Courses
from bnexp.comparison.pairing import Results
from bnexp.comparison.result import Outcome
from bnexp.comparison.words import factor_name
from bnexp.config.schema import StudyConfig
from bnexp.plan.grid import continued, middle


def further_levels(
    study: StudyConfig, outcomes: Sequence[Outcome], chance: float | None, added: Sequence[float]
) -> list[float]:
    """The levels to add next, in order of size.

    Args:
        study: the study, with the levels that were added so far.
        outcomes: what came of its runs. A seed that lacks a level in an arm is left out there.
        chance: accuracy of guessing, a fraction; None if it is not known.
        added: the levels that were added so far.

    Returns:
        Empty if the study adds none, or if each largest level that trains is resolved as far as its key and
        ``study.refine.extensions`` allow.
    """
    if (ratio := study.refine.ratio) is None:
        return []
    results = Results(outcomes, study.metric, chance, list(study.arms), metrics=study.metrics)
    courses = Courses(results, math.nan, chance, study.refine)
    places = {place for arm in results.arms for place in courses.boundaries(arm).values()}
    levels, key = courses.numbers, courses.factor
    if len(levels) - 1 in places:
        grid = [level for level in levels if level not in added]
        beyond = [level for level in continued(key, grid, study.refine.extensions) if level not in levels]
        if beyond:
            return beyond[:1]
    steps = [(levels[place], levels[place + 1]) for place in sorted(places) if 0 <= place < len(levels) - 1]
    return [level for low, high in steps if (level := middle(key, low, high, ratio)) is not None]


def refining_notes(study: StudyConfig, added: Sequence[float]) -> list[str]:
    """A sentence on the levels that were added; none if there are none."""
    if not added:
        return []
    (key,) = study.factors
    named = ", ".join(f"{level:g}" for level in added)
    return [
        f"{len(added)} level{'s' * (len(added) > 1)} of the {factor_name(key)} {'were' if len(added) > 1 else 'was'} added for "
        f"all arms and seeds, by a rule that was fixed before the first run, to find the largest that trains: {named}."
    ]
