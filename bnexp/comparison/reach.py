"""Whether a plan can reach a verdict at all, said before anything trains."""

from __future__ import annotations

from bnexp.comparison.stats import ALPHA, MIN_PAIRS, sign_flip_floor
from bnexp.comparison.text import p_text
from bnexp.config.schema import StudyConfig
from bnexp.plan.deciding import deciding


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


def _smallest_p(num_seeds: int, study: StudyConfig) -> float:
    """The p if all differences have the same sign: of the exact test, or of ``sequential.sign_process`` if seeds are added."""
    return sign_flip_floor(num_seeds) if study.max_seeds is None else (num_seeds + 1) / 2**num_seeds
