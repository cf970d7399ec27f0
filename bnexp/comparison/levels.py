"""The study's metric at each factor level on its own."""

from __future__ import annotations

from bnexp.comparison.contrast import Contrast, Inputs, Questions
from bnexp.comparison.method import Method


class Levels(Method):
    """``analysis: levels``: one contrast per level and pair of arms, in the metric itself."""

    compares_metric = True

    def ask(self, asked: Inputs) -> Questions:
        results = asked.results
        return Questions(
            [
                Contrast(
                    arm=arm,
                    baseline=baseline,
                    level=level,
                    measure=results.measure,
                    unit=results.scale.unit,
                    margin=asked.margin,
                    pairs=results.pair(arm, baseline, level),
                )
                for level in results.levels
                for arm, baseline in asked.pairs
            ]
        )
