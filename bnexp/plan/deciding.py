"""Which of a study's comparisons decide it (``study.decides``), and what its claim predicts of each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bnexp.config.keys import did_you_mean
from bnexp.config.options import Analysis, Direction
from bnexp.config.schema import ConfigError, Decides, StudyConfig
from bnexp.plan.study import levels_text, value_text


@dataclass(frozen=True)
class Compared:
    """What one comparison of a study is about.

    Args:
        measure: short name of what is compared, one of ``Analysis.measures``.
        arm: the arm.
        baseline: what it is compared with.
        levels: factor -> level; empty if the measure is over all levels.
    """

    measure: str
    arm: str
    baseline: str
    levels: Mapping[str, Any]


def expected(study: StudyConfig, what: Compared) -> Direction | None:
    """What the claim predicts of a comparison; None if the comparison does not decide the study."""
    part = next((part for part in _parts(study) if _covers(part, what)), None)
    return None if part is None else part.expect or study.direction


def deciding(study: StudyConfig) -> list[Compared]:
    """The comparisons that decide a study."""
    return [what for what in _compared(study) if expected(study, what) is not None]


def arm_pairs(study: StudyConfig, arms: Sequence[str]) -> list[tuple[str, str]]:
    """(arm, baseline) of every comparison: each other arm against the baseline; without one, later against earlier."""
    if study.baseline is None:
        return [(later, earlier) for earlier, later in itertools.combinations(arms, 2)]
    return [(arm, study.baseline) for arm in arms if arm != study.baseline]


def claims_unlike(study: Mapping[str, Any]) -> bool:
    """Whether the claim is that not all arms are alike, whichever differ: no baseline, no direction and no deciding set.

    Args:
        study: the definition of a study, as results keep it.
    """
    return study["baseline"] is None and study["direction"] == Direction.different and not study["decides"]


def check_decides(study: StudyConfig) -> None:
    """Refuse a part of ``study.decides`` that covers no comparison of the study. Raises ConfigError."""
    if not study.decides:
        return
    known = list(_compared(study))
    for number, part in enumerate(_parts(study)):
        if not any(_covers(part, what) for what in known):
            raise ConfigError(f"study.decides[{number}] of study {study.name} {_why(study, part, known)}")


def levels_that_decide(study: StudyConfig, factor: str) -> set[str]:
    """The texts of those levels of a factor at which the study is decided."""
    return {value_text(part.at[factor]) for part in study.decides if factor in part.at}


def _parts(study: StudyConfig) -> list[Decides]:
    """The parts of the claim, each with its measure."""
    first = study.analysis.measures[0]
    return [
        Decides(part.arm, part.baseline, part.at, part.measure or first, part.expect) for part in study.decides or [Decides()]
    ]


def _covers(part: Decides, what: Compared) -> bool:
    named = (part.arm, what.arm), (part.baseline, what.baseline), (part.measure, what.measure)
    levels = {factor: value_text(level) for factor, level in what.levels.items()}
    return all(wanted is None or wanted == found for wanted, found in named) and all(
        levels.get(factor) == value_text(level) for factor, level in part.at.items()
    )


def _compared(study: StudyConfig) -> Iterator[Compared]:
    """Everything that the study compares."""
    for measure, (arm, baseline), levels in itertools.product(
        study.analysis.measures, arm_pairs(study, list(study.arms)), _levels(study)
    ):
        yield Compared(measure, arm, baseline, levels)


def _levels(study: StudyConfig) -> list[dict[str, Any]]:
    """The combinations of levels at which arms are compared."""
    if study.analysis.needs_one_factor:  # such an analysis measures over all levels
        return [{}]
    found = [dict(zip(study.factors, levels, strict=True)) for levels in itertools.product(*study.factors.values())]
    return found[1:] if study.analysis is Analysis.interaction else found  # which starts from the first


def _why(study: StudyConfig, part: Decides, known: Sequence[Compared]) -> str:
    """What is wrong with a part that covers nothing, as the rest of a sentence."""
    if part.measure not in study.analysis.measures:
        hint = did_you_mean(str(part.measure), study.analysis.measures)
        return f"has measure={part.measure}: study.analysis={study.analysis} allows {', '.join(study.analysis.measures)}.{hint}"
    pairs = {(what.arm, what.baseline) for what in known}
    if not any(part.arm in (None, arm) and part.baseline in (None, baseline) for arm, baseline in pairs):
        listed = ", ".join(f"{arm} against {baseline}" for arm, baseline in arm_pairs(study, list(study.arms)))
        return f"names {part.arm or 'an arm'} against {part.baseline or 'its baseline'}: compared are {listed}."
    listed = "; ".join(dict.fromkeys(levels_text(what.levels) for what in known))
    there = f"there is {listed}" if listed else f"study.analysis={study.analysis} compares all levels together"
    return (
        f"names {levels_text(part.at)}, where nothing is compared: {there}. To let every comparison decide, add "
        "study.decides=[]."
    )
