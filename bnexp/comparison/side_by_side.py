"""Several studies side by side: what each of them asked, what it concluded, and the arms that they have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnexp.comparison.record import StudyRecord
from bnexp.comparison.recorded_studies import recorded_verdict
from bnexp.comparison.result import ArmSummary, StudyResult
from bnexp.comparison.selection import one_study
from bnexp.config.keys import did_you_mean
from bnexp.config.schema import ConfigError, refuse_text
from bnexp.tracking.store import Store

# The columns of ``StudiesBeside.rows``, of --json and --csv. Differences are in ``unit``; null where there is none.
STUDY_COLUMNS = (
    "study",
    "study_id",
    "question",
    "verdict",
    "answer",
    "arm",
    "baseline",
    "level",
    "measure",
    "unit",
    "n",
    "difference",
    "low",
    "high",
    "p",
    "deciding",
    "data",
    "settings",
    "concluded",
)
ARM_COLUMNS = ("arm", "level", "metric", "unit", "study", "study_id", "n", "mean", "low", "high", "sd", "shared_runs")


@dataclass(frozen=True)
class StudyBeside:
    """A study among others.

    Args:
        record: its record.
        result: what it concluded.
    """

    record: StudyRecord
    result: StudyResult

    @property
    def name(self) -> str:
        return self.record.study.name


@dataclass(frozen=True)
class StudiesBeside:
    """Recorded studies side by side.

    Args:
        studies: in the order in which they were named.
    """

    studies: list[StudyBeside]

    @property
    def differing(self) -> list[str]:
        """The settings in which the studies differ."""
        names = dict.fromkeys(name for study in self.studies for name in study.result.settings)
        return [name for name in names if len({study.result.settings.get(name) for study in self.studies}) > 1]

    def rows(self) -> list[dict[str, Any]]:
        """One row per study, with ``STUDY_COLUMNS``.

        The arm, the baseline and what follows up to p are those of the comparison that the answer tells first: the strongest
        of the ``deciding`` ones. p is corrected by Holm over these. ``settings``: what the study held fixed, as one text, of
        the settings in which the studies differ.
        """
        return [self._row(study) for study in self.studies]

    def _row(self, study: StudyBeside) -> dict[str, Any]:
        result, lead = study.result, study.result.lead
        own = [f"{name}={result.settings[name]}" for name in self.differing if name in result.settings and name != "data.name"]
        values = (
            study.name,
            result.study_id,
            result.question,
            result.verdict.value,
            result.answer,
            *((lead.arm, lead.baseline, lead.level, lead.measure, lead.unit, lead.n) if lead else (None,) * 6),
            *(
                (_finite(lead.difference), _finite(lead.low), _finite(lead.high), _finite(lead.p_verdict))
                if lead
                else (None,) * 4
            ),
            len(result.deciding),
            result.settings.get("data.name", study.record.data.name.value),
            " ".join(own),
            study.record.concluded,
        )
        return dict(zip(STUDY_COLUMNS, values, strict=True))

    def common_arms(self) -> list[dict[str, Any]]:
        """One row per study for each arm and level that several studies have in the same metric, with ``ARM_COLUMNS``.

        ``shared_runs``: how many of its runs another of these studies has as well. Then the same numbers stand twice.
        """
        found: dict[tuple[str, str, str], list[tuple[StudyBeside, ArmSummary]]] = {}
        for study in self.studies:
            for summary in study.result.arms:
                if summary.n:
                    found.setdefault((summary.arm, summary.level, study.result.metric), []).append((study, summary))
        return [self._arm(study, summary) for cells in found.values() if len(cells) > 1 for study, summary in cells]

    def _arm(self, study: StudyBeside, summary: ArmSummary) -> dict[str, Any]:
        others = {o.run_id for other in self.studies if other is not study for o in other.result.outcomes}
        own = {o.run_id for o in study.result.outcomes if (o.arm, o.level) == (summary.arm, summary.level)}
        result = study.result
        values = (
            summary.arm,
            summary.level,
            result.metric,
            result.unit,
            study.name,
            result.study_id,
            summary.n,
            *map(_finite, (summary.mean, summary.low, summary.high, summary.sd)),
            len(own & others),
        )
        return dict(zip(ARM_COLUMNS, values, strict=True))

    def notes(self) -> list[str]:
        """Sentences on what a reader must know."""
        found = [
            "Each verdict is that of the study, by its own deciding comparisons. They are not corrected for each other; "
            "bnexp report --book corrects over claims."
        ]
        if self.differing:
            found.append(
                f"The studies differ in {', '.join(self.differing)}: their effects were not measured under equal settings."
            )
        if unread := [study.name for study in self.studies if not study.record.concluded]:
            found.append(f"{', '.join(unread)}: not concluded yet; shown is what the records say so far.")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for strict JSON: ``studies``, ``common_arms`` and ``notes``."""
        return {"studies": self.rows(), "common_arms": self.common_arms(), "notes": self.notes()}


def compare_studies(names: Sequence[str], runs_dir: str | Path | None = None) -> StudiesBeside:
    """Put recorded studies side by side: each with the answer that it concluded, and the arms that they have in common.

    Args:
        names: names of studies, their ids, or the paths of their folders; of a name the study that was recorded last.
        runs_dir: the directory of the records; None for ``BNEXP_RUNS_DIR``, else ``./runs``.

    Raises:
        ConfigError: a study is not recorded.

    Example:
        >>> bnexp.compare_studies(["batchnorm", "placement"]).rows()
    """
    refuse_text("names", names, str(names))
    store = Store(Path(runs_dir) if runs_dir is not None else None)
    found = []
    for name in names:
        record = one_study(name, store)
        if record is None:
            known = sorted({path.parent.parent.name for path in store.root.glob("[!.]*/study-*/study.json")})
            raise ConfigError(
                f"{name} is not a recorded study in {store.root}: there are {', '.join(known) or 'none'}."
                f"{did_you_mean(name, known)}"
            )
        found.append(record)
    return beside(found, store)


def beside(records: Sequence[StudyRecord], store: Store) -> StudiesBeside:
    """As ``compare_studies``, of studies that have been read."""
    different = {record.folder.resolve(): record for record in records}
    return StudiesBeside([StudyBeside(record, recorded_verdict(record, store)) for record in different.values()])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
