"""Other metrics of a study's runs, which reports show beside the one that is compared."""

from __future__ import annotations

import math
from dataclasses import replace

from bnexp.comparison.record import StudyRecord
from bnexp.comparison.result import Status, StudyResult
from bnexp.comparison.select import study_outcomes
from bnexp.comparison.verdict import analyse
from bnexp.config.options import Analysis
from bnexp.config.schema import ConfigError
from bnexp.plan.shown import DRAWN
from bnexp.tracking.store import Store


def other_metrics(record: StudyRecord, result: StudyResult, store: Store) -> tuple[list[StudyResult], list[str]]:
    """The study in each other metric that ``study.show.figures`` names, and a note on each that cannot be shown.

    Args:
        record: the recorded study.
        result: what its comparison found. A study without a finished run has nothing to show.
        store: where the runs are recorded.
    """
    if not any(outcome.status is Status.finished for outcome in result.outcomes):
        return [], []
    found, notes = [], []
    for metric in record.study.show.figures:
        if metric in DRAWN:
            continue
        study = replace(record.study, metric=metric, metrics={}, analysis=Analysis.levels, margin=None)
        try:
            outcomes = study_outcomes(record.runs, store, metric)
        except ConfigError as error:
            notes.append(f"There is no figure of {metric}: {error}")
            continue
        found.append(analyse(study, outcomes, study_id=record.study_id, margin=math.nan, settings=record.settings))
    return found, notes
