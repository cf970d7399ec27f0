"""How much an arm depends on one numeric factor: the measures of ``course``, compared between arms."""

from __future__ import annotations

from bnexp.comparison.contrast import Contrast, Inputs, Questions
from bnexp.comparison.course import Courses
from bnexp.comparison.method import Method
from bnexp.comparison.result import Comparison
from bnexp.comparison.text import OCTAVES, effect, factor, magnitude, margin, times


class Sensitivity(Method):
    """``analysis: sensitivity``: one contrast per measure and pair of arms.

    The largest stable level takes only the values of the grid, so its differences are tested by their signs. Both arms have
    the same levels, so a sign is never a matter of the grid. Equivalence of the largest stable level is not tested if a step
    next to one is wider than the margin, that of the width if any step is; neither is, if a course ends at an end of the grid
    before the measure does.
    """

    compares_metric = True
    expects_divergence = True

    def ask(self, asked: Inputs) -> Questions:
        courses = Courses(asked.results, asked.margin, asked.chance, asked.study.refine)
        contrasts = [
            Contrast(
                arm=arm,
                baseline=baseline,
                level="",
                measure=measure.name,
                unit=measure.unit,
                margin=measure.margin,
                pairs=courses.pair(arm, baseline, index),
                key=measure.key,
                unresolved=courses.unresolved(arm, baseline, measure),
                resolved_by=courses.finer(measure),
                bound=courses.bound(arm, baseline, measure),
            )
            for index, measure in enumerate(courses.measures)
            for arm, baseline in asked.pairs
        ]
        return Questions(contrasts, courses.notes(), courses.incomplete())

    def equivalent(self, c: Comparison) -> str:
        within = f"within a factor of {factor(c.margin)}" if c.unit == OCTAVES else f"within {margin(c)}"
        return f"{_subject(c)} is the same as for {c.baseline}, {within} ({_size(c, c.low90, c.high90)})"

    def different(self, c: Comparison) -> str:
        if c.unit == OCTAVES:
            size = f"{c.bound} {_size(c, c.low, c.high)}".lstrip()
            return f"{_subject(c)} is {size} that of {c.baseline}"
        where = c.measure.removeprefix("mean accuracy ")
        more = "more" if c.difference > 0 else "less"
        return f"{where} {c.arm} is {magnitude(c)} {more} accurate than {c.baseline} on average"


def _subject(c: Comparison) -> str:
    """What is compared, of the arm: ``the largest optim.lr at which after_pool trains``."""
    return c.measure.replace("an arm", c.arm)


def _size(c: Comparison, low: float, high: float) -> str:
    """How many times as large: ``4.00 times [2.00, 8.00]``, from octaves; other units as they are."""
    if c.unit != OCTAVES:
        return effect(c.difference, c.unit, low, high)
    return times(c, low, high)
