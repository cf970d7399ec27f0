"""How the trainings of a study end: still improving, or restless. Both weaken what their last epoch says of the arms.

Looked at is validation accuracy, seed by seed, of the runs that trained. Without validation images it is training accuracy, of
which only improvement can be said: it is a mean over the epoch, so it is calm in any case.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bnexp.comparison.contrast import Records, is_finite
from bnexp.comparison.pairing import CELLS, Results, listed, place
from bnexp.comparison.result import Comparison
from bnexp.comparison.stats import MIN_PAIRS, Array
from bnexp.comparison.text import quantity
from bnexp.config.schema import StudyConfig

LAST = 5  # changes from epoch to epoch that are looked at: the end of a training, and enough for a standard deviation
VALIDATION, TRAINING = "val/accuracy", "train/accuracy"


@dataclass(frozen=True)
class Course:
    """One arm at one level by epoch.

    Args:
        name: arm and level.
        key: the accuracy that was recorded.
        accuracy: (n, E) per cent, of n seeds in E epochs.
    """

    name: str
    key: str
    accuracy: Array

    @property
    def epochs(self) -> int:
        return int(self.accuracy.shape[1])

    def gain(self) -> float:
        """What an epoch still adds at the end, pp: the last gain of the mean over seeds, or the mean of its last two gains.

        The smaller of them, so that one good epoch after a bad one is no gain. NaN with a single epoch.
        """
        gains = np.diff(self.accuracy.mean(0))[-2:]
        return float(min(gains[-1], gains.mean())) if gains.size else math.nan

    def epochs_needed(self, margin: float) -> int:
        """After how many epochs in all one more adds no more than the margin, at the present gain.

        The error is taken to fall as ``1 / t`` towards its limit, so the gain of epoch t falls as ``1 / t**2``: with a gain g
        after E epochs these are ``E sqrt(g / margin)``. A gain alone decides it; the rate of a geometric decay would have to
        be estimated from differences of gains, which are mostly noise.
        """
        return math.ceil(self.epochs * math.sqrt(self.gain() / margin))

    def restlessness(self) -> tuple[float, float]:
        """Standard deviations in pp: of the changes from epoch to epoch, and over seeds at the end.

        Changes are those of the last epochs, less their mean over seeds, which is the progress that all seeds make. If
        accuracies scatter around each seed's own level with standard deviation s, changes have one of ``sqrt(2) s``. So where
        both are equal, half of the variance over seeds comes from the epoch at which the training happened to end.
        """
        changes = np.diff(self.accuracy)[:, -LAST:]
        return math.sqrt(changes.var(0, ddof=1).mean()), float(self.accuracy[:, -1].std(ddof=1))


def ending_notes(
    study: StudyConfig,
    results: Results,
    comparisons: Sequence[Comparison],
    margin: float,
    settings: Mapping[str, str],
    records: Records,
) -> list[str]:
    """At most two sentences: on arms that still improve, and on arms whose accuracy is restless. Each has its remedy.

    - Still improving: an epoch at the end adds more than the margin.
    - Restless: validation accuracy changes from epoch to epoch by at least as much as it differs from seed to seed, and by more
      than the margin. Only where it no longer improves, from three epochs on, and from six seeds on: the standard deviation of
      fewer is too uncertain, and there is no verdict anyway.

    Args:
        study: the study.
        results: its runs.
        comparisons: what was found. If none is in pp, the margin is no accuracy and nothing is said.
        margin: half width of what counts as equivalent, in pp; NaN if none is set.
        settings: dotted key -> text, of what was held fixed.
        records: histories of the runs.
    """
    if not margin > 0 or all(c.unit.split("/")[0] != "pp" for c in comparisons):
        return []
    courses = _courses(results, records)
    improving = [course for course in courses if course.gain() > margin]
    if "train.epochs" in study.factors:  # where the length of the training is the question, a short one is no mistake
        improving = []
    calm = [course for course in courses if course.key == VALIDATION and not course.gain() > margin]
    restless = [(course, *sds) for course in calm if (sds := _restless(course, margin))]
    return [*_improving(improving, len(courses), margin), *_restless_note(restless, len(courses), settings)]


def _restless(course: Course, margin: float) -> tuple[float, float] | None:
    if len(course.accuracy) < MIN_PAIRS or course.epochs < 3:
        return None
    changes, seeds = course.restlessness()
    return (changes, seeds) if changes > margin and changes >= seeds else None


def _courses(results: Results, records: Records) -> list[Course]:
    """The arms at each level of which at least one run trained and has recorded its epochs."""
    found = []
    for level in results.levels:
        for arm in results.arms:
            untrained = set(results.untrained(arm, level))
            runs = [run_id for seed, run_id in results.run_ids(arm, level).items() if seed not in untrained]
            rows = [[row for row in records.history(run_id) if "epoch" in row] for run_id in runs]
            for key in (VALIDATION, TRAINING):
                values = [[row[key] for row in run if is_finite(row, key)] for run in rows]
                length = max(map(len, values), default=0)
                if length:
                    whole = np.array([run for run in values if len(run) == length], float)
                    found.append(Course(place(arm, level), key, 100 * whole))
                    break
    return found


def _improving(courses: Sequence[Course], num_all: int, margin: float) -> list[str]:
    if not courses:
        return []
    first, *rest = courses = sorted(courses, key=lambda course: -course.gain())
    kind = "validation" if first.key == VALIDATION else "training"
    epochs = max(course.epochs_needed(margin) for course in courses)
    gains = listed([f"{course.name} (+{quantity(course.gain(), 'pp')})" for course in courses], CELLS, num_all)
    return [
        f"Still improving: in the last epoch the {kind} accuracy of {gains} gains more than the margin of "
        f"{quantity(margin, 'pp')}. At the present gain {'up to' if rest else 'about'} {epochs} epochs would be needed; set "
        f"train.epochs={epochs}."
    ]


def _restless_note(found: Sequence[tuple[Course, float, float]], num_all: int, settings: Mapping[str, str]) -> list[str]:
    if not found:
        return []
    ordered = sorted(found, key=lambda each: -each[1])
    names = listed(
        [f"{c.name} ({quantity(changes, 'pp')} against {quantity(seeds, 'pp')})" for c, changes, seeds in ordered],
        CELLS,
        num_all,
    )
    remedy = (
        "" if "optim.schedule" in settings else " A learning rate that decays makes it steadier: set optim.schedule=cosine."
    )
    return [
        "Validation accuracy changes from epoch to epoch at least as much as it differs between seeds (standard deviations): "
        f"{names}. So the result depends on the epoch at which training ends.{remedy}"
    ]
