"""Whether a plan can reach a verdict, and what effect it can see, said before anything trains."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from bnexp.comparison.power import largest_sd, smallest_effect
from bnexp.comparison.result import Comparison
from bnexp.comparison.stats import ALPHA, MIN_PAIRS, MIN_VALUES, sign_flip_floor
from bnexp.comparison.text import p_text, quantity
from bnexp.config.options import Direction
from bnexp.config.schema import StudyConfig
from bnexp.plan.deciding import Compared, deciding, expected


def out_of_reach(study: StudyConfig, num_seeds: int) -> str:
    """Why a study with so many seeds cannot reach a verdict, and how many could; empty if it can.

    A t test reaches any p from six seeds on. A test of signs has a smallest p, which Holm's correction multiplies by the number
    of deciding comparisons by signs: those by a t test can come before them.

    Args:
        study: the study.
        num_seeds: how many seeds it has at most.
    """
    if num_seeds < MIN_PAIRS:
        few = "1 seed allows" if num_seeds == 1 else f"{num_seeds} seeds allow"
        return f"{few} an estimate but no verdict, which needs {MIN_PAIRS}: study.seeds={MIN_PAIRS}."
    family = sum(what.measure in study.analysis.tested_by_signs for what in deciding(study))
    best = family * _smallest_p(num_seeds, study)
    if best < ALPHA:
        return ""
    enough = num_seeds
    while family * _smallest_p(enough, study) >= ALPHA:
        enough += 1
    key = "study.seeds" if study.max_seeds is None else "study.max_seeds"
    several = f"{family} deciding comparisons" if family > 1 else "a deciding comparison"
    return (
        f"With {num_seeds} seeds {several} by the signs of the differences cannot go below p = {p_text(best)}, so there can be "
        f"no verdict; {enough} seeds can: {key}={enough}."
    )


def visible_effect(study: StudyConfig, num_seeds: int) -> float | None:
    """The smallest difference that a t test of the study finds in 80 %, in standard deviations over the seeds.

    Every deciding comparison is taken at the level of the strictest step of Holm's correction.

    Args:
        study: the study; seeds must not be added to it one after the other.
        num_seeds: how many seeds it has.

    Returns:
        None if there are too few seeds for a verdict, or if no deciding comparison is tested for a difference by a t test.
    """
    family = deciding(study)
    by_t = [w for w in family if w.measure not in study.analysis.tested_by_signs and not _tolerant(study, w)]
    return smallest_effect(num_seeds, alpha=ALPHA / len(family)) if num_seeds >= MIN_PAIRS and by_t else None


def what_it_sees(
    study: StudyConfig, num_seeds: int, margin: float, unit: str, recorded: Sequence[Comparison] = ()
) -> list[str]:
    """Sentences on the power of a plan: the difference that it finds, and when it shows equivalence, each in 80 %.

    Args:
        study: the study; seeds must not be added to it one after the other.
        num_seeds: how many seeds it has.
        margin: half width of what counts as equivalent; NaN if none is set.
        unit: of the margin.
        recorded: what the runs that are there already say, from which the spread over seeds is taken.
    """
    said, spreads = [], sorted(_sd(c) for c in recorded if c.decides and c.n >= MIN_VALUES and c.unit == unit)
    family = deciding(study)
    if (effect := visible_effect(study, num_seeds)) is not None:
        known = ""
        if spreads:
            least, most = (quantity(effect * sd, unit) for sd in (spreads[0], spreads[-1]))
            known = f": {least}{'' if least == most else f' to {most}'}, by the seeds recorded so far"
        several = f" in any of {len(family)} deciding comparisons" if len(family) > 1 else ""
        said.append(
            f"With {num_seeds} seeds a difference of {effect:.2f} standard deviations over the seeds{several} is found in 80 % "
            f"of such studies{known}."
        )
    if num_seeds >= MIN_PAIRS and math.isfinite(margin) and any(_tolerant(study, what) for what in family):
        sd = largest_sd(num_seeds, margin, alpha=ALPHA / len(family))
        known = f"; so far they vary by up to {quantity(spreads[-1], unit)}" if spreads else ""
        said.append(
            f"Equivalence within {quantity(margin, unit)} is shown in 80 % if the differences vary over the seeds by at most "
            f"{quantity(sd, unit)}{known}."
        )
    return said


def _tolerant(study: StudyConfig, what: Compared) -> bool:
    return expected(study, what) in (Direction.equivalent, Direction.at_least)


def _sd(c: Comparison) -> float:
    return statistics.stdev(c.differences)


def _smallest_p(num_seeds: int, study: StudyConfig) -> float:
    """The p if all differences have the same sign: of the exact test, or of ``sequential.sign_process`` if seeds are added."""
    return sign_flip_floor(num_seeds) if study.max_seeds is None else (num_seeds + 1) / 2**num_seeds
