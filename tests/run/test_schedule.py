"""Which study gets the next seeds when the time for all of them is limited."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bnexp.comparison.looks import look_at
from bnexp.comparison.record import StudyRecord
from bnexp.comparison.result import Outcome, PlannedRun, Status
from bnexp.comparison.verdict import analyse
from bnexp.config.options import Direction
from bnexp.config.schema import DataConfig, StudyConfig
from bnexp.run.schedule import Candidate, next_candidate


def candidate(name: str, effect: float, seconds: float = 10.0, num_seeds: int = 6, most: int = 40) -> Candidate:
    """A study whose differences have the given mean, in their standard deviations."""
    study = StudyConfig(
        name=name,
        question="Does it help?",
        arms={"none": [], "bn": []},
        baseline="none",
        direction=Direction.greater,
        seeds=most,
        max_seeds=most,
    )
    spread = np.linspace(-1, 1, num_seeds)
    gains = effect + spread / spread.std(ddof=1)
    outcomes = [
        Outcome(arm, "", {}, seed, Status.finished, (90 + 0.01 * seed + gain * (arm == "bn")) / 100, f"{arm}{seed}")
        for seed, gain in enumerate(gains)
        for arm in study.arms
    ]
    look = look_at([], most, unfinished=False)
    result = analyse(study, outcomes, study_id="1", margin=0.01, settings={}, chance=0.1, look=look)
    runs = [PlannedRun(outcome.run_id, outcome.arm, {}, outcome.seed) for outcome in outcomes]
    record = StudyRecord(folder=Path(name), study=study, study_id="1", overrides=[], data=DataConfig(), settings={}, runs=runs)
    return Candidate(name, record, result, seconds)


def test_the_study_that_is_settled_soonest_goes_first() -> None:
    strong, weak, settled = candidate("strong", 1.0), candidate("weak", 0.7), candidate("settled", 5.0)
    assert not settled.goes_on
    assert strong.expected_seconds < weak.expected_seconds
    assert next_candidate([weak, settled, strong], 1e9) is strong
    slow = replace(strong, seconds_per_seed=1000.0)
    assert next_candidate([weak, slow], 1e9) is weak


def test_a_step_that_does_not_fit_is_not_begun() -> None:
    one = candidate("one", 1.0, seconds=10.0)
    assert one.next_number == 7
    assert next_candidate([one], 10.0) is one
    assert next_candidate([one], 9.0) is None
    assert next_candidate([], 9.0) is None


@pytest.mark.parametrize(("effect", "num_seeds", "most"), [(0.0, 30, 40), (1.0, 12, 12), (5.0, 6, 40)])
def test_what_is_settled_or_hopeless_or_at_its_limit_gets_no_seeds(effect: float, num_seeds: int, most: int) -> None:
    assert next_candidate([candidate("done", effect, num_seeds=num_seeds, most=most)], 1e9) is None
