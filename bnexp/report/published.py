"""What others found on a study's question, beside what its runs found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bnexp.comparison.result import ArmSummary, StudyResult
from bnexp.config.keys import NAMED_IF_CHANGED
from bnexp.config.schema import Published, Reference, RunConfig, ShowConfig
from bnexp.plan.spec import flatten


@dataclass(frozen=True)
class ReferenceRow:
    """One arm of the study, and the value that others found for it."""

    arm: ArmSummary
    reference: Reference

    @property
    def expected(self) -> str:
        """The range in which the study's value is expected to lie: ``59 to 64``; a dash if there is none."""
        low, high = self.reference.low, self.reference.high
        return "–" if low is None or high is None else f"{low:g} to {high:g}"

    @property
    def outside(self) -> bool:
        """Whether the study's value lies outside the expected range."""
        low, high = self.reference.low, self.reference.high
        return low is not None and high is not None and not low <= self.arm.mean <= high


@dataclass(frozen=True)
class ReferenceTable:
    """Values of one source at the settings of the study."""

    source: str
    rows: list[ReferenceRow]


def sentences(show: ShowConfig) -> list[str]:
    """``source: note`` for each published finding that is told in words."""
    return [f"{entry.source}: {entry.note}" for entry in show.published.values() if entry.note]


def references(result: StudyResult, show: ShowConfig) -> list[ReferenceTable]:
    """Published values of the study's arms, from each source that has the metric and all settings of the study.

    Studies with factors have none: their arms have a value at each level.
    """
    tables = []
    for entry in show.published.values():
        rows = [ReferenceRow(s, entry.values[s.arm]) for s in result.arms if not s.level and s.arm in entry.values]
        if rows and entry.metric == result.metric and _at_settings(entry, result.settings):
            tables.append(ReferenceTable(entry.source, rows))
    return tables


def _at_settings(entry: Published, settings: Mapping[str, str]) -> bool:
    """Whether a study has the settings of ``entry.at``; ``settings`` are those that its record names."""
    default = flatten(RunConfig())
    named = {key: str(default[key]) for key in NAMED_IF_CHANGED} | dict(settings)
    return all(key in named and _equal(value, named[key]) for key, value in entry.at.items())


def _equal(wanted: Any, found: str) -> bool:
    """Whether a value of a study file equals a recorded one; numbers are compared as numbers, so that 1 is 1.0."""
    try:
        return float(wanted) == float(found)
    except (TypeError, ValueError):
        return str(wanted) == found
