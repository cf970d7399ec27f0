"""How the difference between two arms changes from the first factor level to each other one."""

from __future__ import annotations

from bnexp.comparison import stats
from bnexp.comparison.contrast import Contrast, Inputs, Questions
from bnexp.comparison.factorial import Courses, Factorial, by_seed, gain, lost_seeds, means_note
from bnexp.comparison.pairing import Pairs, Results, factor_names
from bnexp.comparison.result import Comparison
from bnexp.comparison.text import difference, magnitude, margin
from bnexp.comparison.words import at, factor_name
from bnexp.config.schema import ConfigError


class Interaction(Factorial):
    """``analysis: interaction``: (arm - baseline) at a level minus (arm - baseline) at the first level, seed by seed.

    With several factors every combination of levels is measured from the first one.
    """

    def ask(self, asked: Inputs) -> Questions:
        results = asked.results
        reference, *others = results.levels
        if not others:
            raise ConfigError("study.analysis=interaction needs a factor with at least two levels; add it to study.factors.")
        contrasts = [
            Contrast(
                arm=arm,
                baseline=baseline,
                level=level,
                measure=f"interaction with {' and '.join(map(factor_name, factor_names(results)))}, from {reference}",
                unit=results.scale.unit,
                margin=asked.margin,
                pairs=_from_reference(results, arm, baseline, level, reference),
                reference=reference,
            )
            for level in others
            for arm, baseline in asked.pairs
        ]
        notes = [_means(results, arm, baseline) for arm, baseline in asked.pairs]
        unpaired = [line for arm, baseline in asked.pairs for line in lost_seeds(results, arm, baseline)]
        return Questions(contrasts, notes, unpaired)

    def equivalent(self, c: Comparison) -> str:
        same = f"is the same {at(c.level)} as {at(c.reference)}"
        return f"{gain(c)} {same}, within {margin(c)} (difference {difference(c)})"

    def different(self, c: Comparison) -> str:
        larger = f"{magnitude(c)} {'larger' if c.difference > 0 else 'smaller'}"
        return f"{gain(c)} is {larger} {at(c.level)} than {at(c.reference)}"


def _from_reference(results: Results, arm: str, baseline: str, level: str, reference: str) -> Pairs:
    """The differences at ``level`` (as ``arm``) and at ``reference`` (as ``baseline``)."""
    found = Courses.of(results, arm, baseline, (level, reference))
    return Pairs(found.seeds, found.differences[:, 0], found.differences[:, 1], found.num_lost)


def _means(results: Results, arm: str, baseline: str) -> str:
    known = [(level, list(by_seed(results, arm, baseline, level).values())) for level in results.levels]
    means = [(level, stats.mean_interval(values).estimate) for level, values in known]
    return means_note(arm, baseline, means, results.scale.unit)
