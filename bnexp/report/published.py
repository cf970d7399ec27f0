"""What others found on a study's question, beside what its runs found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bnexp.comparison.analyses import ANALYSES
from bnexp.comparison.result import ArmSummary, StudyResult
from bnexp.config.keys import NAMED_IF_CHANGED
from bnexp.config.options import Analysis
from bnexp.config.schema import Published, Reference, RunConfig, ShowConfig
from bnexp.plan.spec import flatten


@dataclass(frozen=True)
class ReferenceRow:
    """One arm of the study, and the value that others found for it.

    Args:
        arm: the arm with what the study found.
        reference: what others found.
        comparable: whether the settings are the same, so that the study's value is expected in the reference's range.
    """

    arm: ArmSummary
    reference: Reference
    comparable: bool

    @property
    def expected(self) -> str:
        """The range in which the study's value is expected to lie: ``59 to 64``; a dash if there is none."""
        low, high = self.reference.low, self.reference.high
        return f"{low:g} to {high:g}" if self.comparable and low is not None and high is not None else "–"

    @property
    def outside(self) -> bool:
        """Whether the study's value lies outside the expected range."""
        low, high = self.reference.low, self.reference.high
        return self.comparable and low is not None and high is not None and not low <= self.arm.mean <= high


@dataclass(frozen=True)
class ReferenceTable:
    """Values of one source for the data set of the study.

    Args:
        source: who found them.
        rows: one per arm.
        differs: the settings that differ from the study's, as text; empty if none does.
    """

    source: str
    rows: list[ReferenceRow]
    differs: str


@dataclass(frozen=True)
class Told:
    """What others found, told in words, beside what the study found.

    Args:
        source: who found it, and where.
        found: what was found there.
        here: the strongest deciding effect of the study, in words; empty without one.
        differs: what differs in the setting; empty if nothing is said of it.
    """

    source: str
    found: str
    here: str
    differs: str


def told(result: StudyResult, show: ShowConfig) -> list[Told]:
    """Each published finding that is told in words, beside the study's strongest deciding effect."""
    here = "" if result.lead is None else ANALYSES[Analysis(result.study["analysis"])].statement(result.lead)
    return [Told(entry.source, entry.note, here, entry.differs) for entry in show.published.values() if entry.note]


def references(result: StudyResult, show: ShowConfig) -> list[ReferenceTable]:
    """Published values of the study's arms, for its data set and metric.

    Of the entries of one source only those are taken that differ least in their settings. Studies with factors have none: their
    arms have a value at each level.
    """
    tables: dict[str, list[tuple[int, ReferenceTable]]] = {}
    for entry in show.published.values():
        arms = [s for s in result.arms if not s.level and s.arm in entry.values]
        if not arms or entry.metric != result.metric or not _same(entry, "data.name", result.settings):
            continue
        differing = [key for key in entry.at if not _same(entry, key, result.settings)]
        said = ", ".join(f"{key} {_text(entry.at[key])} (here {_here(key, result.settings)})" for key in differing)
        rows = [ReferenceRow(s, entry.values[s.arm], not differing) for s in arms]
        tables.setdefault(entry.source, []).append((len(differing), ReferenceTable(entry.source, rows, said)))
    return [table for found in tables.values() for n, table in found if n == min(number for number, _ in found)]


def _same(entry: Published, key: str, settings: Mapping[str, str]) -> bool:
    """Whether a study has a setting of ``entry.at``; ``settings`` are those that its record names."""
    return key in entry.at and _equal(entry.at[key], _here(key, settings))


def _here(key: str, settings: Mapping[str, str]) -> str:
    """The setting of a study as text. What its record does not name is at its default, or varies."""
    return settings.get(key) or (_text(flatten(RunConfig())[key]) if key in NAMED_IF_CHANGED else "varied")


def _text(value: Any) -> str:
    return "all" if value is None else str(value)


def _equal(wanted: Any, found: str) -> bool:
    """Whether a value of a study file equals a recorded one; numbers are compared as numbers, so that 1 is 1.0."""
    try:
        return float(wanted) == float(found)
    except (TypeError, ValueError):
        return _text(wanted) == found
