"""What a sweep optimises."""

from __future__ import annotations

import math
from dataclasses import dataclass

GOALS = ("minimize", "maximize")


@dataclass(frozen=True)
class Metric:
    """What a sweep optimises.

    Args:
        name: as runs record it.
        goal: ``minimize`` or ``maximize``.
        target: no new point is tried once a run reaches it; None: all are.
    """

    name: str = "val/accuracy"
    goal: str = "maximize"
    target: float | None = None

    def is_better(self, value: float, other: float) -> bool:
        """Whether a value is better than another one. NaN is worse than any number."""
        if math.isnan(value) or math.isnan(other):
            return math.isnan(other) and not math.isnan(value)
        return value > other if self.goal == "maximize" else value < other

    def cost(self, value: float) -> float:
        """A number that is smaller the better the value is, so that sorting by it puts the best first."""
        return -value if self.goal == "maximize" else value

    def reached(self, value: float) -> bool:
        """Whether a value reaches the target."""
        return self.target is not None and not self.is_better(self.target, value)
