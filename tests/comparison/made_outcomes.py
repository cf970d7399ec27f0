"""Outcomes and studies made by hand, for the tests of the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexp.comparison.result import Comparison, Outcome, Status, StudyResult
from bnexp.comparison.verdict import analyse
from bnexp.config.options import Direction
from bnexp.config.schema import StudyConfig
from bnexp.plan.study import levels_text

SETTINGS = {"data.name": "mnist", "optim.lr": "0.01", "train.epochs": "10", "model.name": "lenet"}

# Accuracies of ten seeds in percent, a clear gain and none, in percentage points.
BASE = [98.90, 98.95, 98.85, 99.00, 98.92, 98.88, 98.97, 98.91, 98.93, 98.89]
GAIN = [0.35, 0.25, 0.30, 0.40, 0.28, 0.33, 0.31, 0.27, 0.36, 0.25]  # mean 0.31
NOISE = [0.02, -0.03, 0.01, 0.00, -0.02, 0.03, -0.01, 0.02, -0.02, 0.01]


def outcome(arm: str, seed: int, value: float | None, status: Status = Status.finished, **levels: Any) -> Outcome:
    named = {key.replace("__", "."): level for key, level in levels.items()}
    text = levels_text(named)
    return Outcome(arm, text, named, seed, status, value, f"{arm}-{text}-{seed}")


def from_values(values: Mapping[str, Sequence[float]], **levels: Any) -> list[Outcome]:
    """Accuracies in percent, arm -> one a seed."""
    return [outcome(arm, seed, value / 100, **levels) for arm, row in values.items() for seed, value in enumerate(row)]


def study(*arms: str, question: str = "Does it help?", direction: str = "different", **keys: Any) -> StudyConfig:
    keys.setdefault("baseline", arms[0])
    return StudyConfig(name="made", question=question, arms={arm: [] for arm in arms}, direction=Direction(direction), **keys)


def result(made: StudyConfig, outcomes: Sequence[Outcome], margin: float = 0.2, **keys: Any) -> StudyResult:
    keys.setdefault("settings", SETTINGS)
    return analyse(made, outcomes, study_id="0123", margin=margin, chance=0.1, **keys)


@dataclass
class MadeRecords:
    """Histories and predictions by run id, as a store would give them."""

    histories: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    predicted: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def history(self, run_id: str) -> list[dict[str, float]]:
        return self.histories.get(run_id, [])

    def guesses(self, run_id: str) -> NDArray[np.int64] | None:
        return self.predicted.get(run_id)


def with_histories(histories: dict[str, list[list[dict[str, float]]]]) -> tuple[list[Outcome], MadeRecords]:
    """Runs of arm -> the history of each seed."""
    outcomes = [outcome(arm, seed, 0.9) for arm, rows in histories.items() for seed in range(len(rows))]
    known = {o.run_id: histories[o.arm][o.seed] for o in outcomes}
    return outcomes, MadeRecords(histories=known)


def pair(gain: list[float]) -> list[Outcome]:
    base = BASE[: len(gain)]
    return from_values({"none": base, "after_pool": [b + g for b, g in zip(base, gain, strict=True)]})


def only(found: StudyResult) -> Comparison:
    assert len(found.comparisons) == 1
    return found.comparisons[0]
