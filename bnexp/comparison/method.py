"""What all analyses have in common: each asks something of the runs, and says in its own words what was found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from bnexp.comparison.contrast import Inputs, Questions
from bnexp.comparison.result import Comparison
from bnexp.comparison.text import ACCURACY, difference, magnitude, margin, quantity
from bnexp.comparison.words import at_level, measure_name


class Method(ABC):
    """One way to compare the arms of a study (``study.analysis``): what it asks, and its sentences.

    The sentences here are those of a difference in a metric; an analysis of something else has its own. To add an analysis,
    name it in ``config.options.Analysis``, write a file with its ``Method``, and list that in ``comparison.analyses``.

    Attributes:
        compares_metric: whether arms are compared in the study's metric itself, so that Friedman's test over all arms says
            something about them.
        follows_factor: whether it asks how the difference between arms changes over a factor.
        follows_training: whether what it compares shows best in the curves of the training.
        expects_divergence: whether it looks for settings at which runs do not train. Then an untrained run is no mishap.
        none_trained: what it means that neither run of any pair trained; ``{arms}`` stands for both.
    """

    compares_metric: ClassVar[bool] = False
    follows_factor: ClassVar[bool] = False
    follows_training: ClassVar[bool] = False
    expects_divergence: ClassVar[bool] = False
    none_trained: ClassVar[str] = "no run of {arms} trained"

    @abstractmethod
    def ask(self, asked: Inputs) -> Questions:
        """The contrasts of the study.

        Raises:
            ConfigError: the study has no levels, or no metric, that the analysis can work with.
        """

    def statement(self, c: Comparison) -> str:
        """Who differs from whom, by how much, with the interval: the heart of the answer, without its first word."""
        if not c.n:
            if c.unpaired:
                return f"{c.arm} or {c.baseline}{at_level(c)} has no result"
            return f"{c.arm} and {c.baseline}{at_level(c)} share no seed with a result"
        if not c.measured:
            return f"{self.none_trained.format(arms=f'{c.arm} or {c.baseline}{at_level(c)}')}, so nothing was tested,"
        if c.shows_equivalence:
            return self.no_less(c) if c.one_sided else self.equivalent(c)
        return self.different(c)

    def no_less(self, c: Comparison) -> str:
        """The statement if it is shown that an arm has no less than its baseline, up to the margin."""
        most = f"at most {quantity(c.margin, c.unit)}"
        if c.measure in ACCURACY:
            return f"{c.arm} is {most} less accurate than {c.baseline}{at_level(c)} (difference {difference(c)})"
        name = measure_name(c.measure)
        return f"the {name} is {most} lower with {c.arm} than with {c.baseline}{at_level(c)} (difference {difference(c)})"

    def equivalent(self, c: Comparison) -> str:
        """The statement if equivalence is shown."""
        within = f"within {margin(c)}{at_level(c)} (difference {difference(c)})"
        if c.measure in ACCURACY:
            return f"{c.arm} and {c.baseline} are equally accurate {within}"
        return f"the {measure_name(c.measure)} is the same with {c.arm} as with {c.baseline} {within}"

    def different(self, c: Comparison) -> str:
        """The statement if a difference is shown, and the estimate if nothing is: what stands beside it tells which."""
        more = c.difference > 0
        if c.measure in ACCURACY:
            if c.difference == 0:  # of few test images, or where every run reaches 100 %
                return f"{c.arm} is on average as accurate as {c.baseline}{at_level(c)} (difference {magnitude(c)})"
            return f"{c.arm} is {magnitude(c)} {'more' if more else 'less'} accurate than {c.baseline}{at_level(c)}"
        if c.difference == 0:
            return f"the {measure_name(c.measure)} is on average the same with {c.arm} as with {c.baseline}{at_level(c)}"
        level = "higher" if more else "lower"
        return f"the {measure_name(c.measure)} is {magnitude(c)} {level} with {c.arm} than with {c.baseline}{at_level(c)}"
