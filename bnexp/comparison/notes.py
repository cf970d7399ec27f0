"""What a reader must know to judge the numbers of a study."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from bnexp.comparison import stats
from bnexp.comparison.edge import edge_notes
from bnexp.comparison.pairing import CELLS, Results, listed, place, seed_text
from bnexp.comparison.result import Comparison, Test
from bnexp.comparison.stats import ALPHA, MIN_PAIRS
from bnexp.comparison.text import ACCURACY, TEST_NAMES, effect, margin_kind, p_text, quantity
from bnexp.config.schema import StudyConfig
from bnexp.plan.deciding import claims_unlike
from bnexp.rng import numpy_generator


def notes(study: StudyConfig, results: Results, comparisons: Sequence[Comparison], num_test: int | None) -> list[str]:
    """Sentences on untrained runs, limits of the tests, what was not tested, and the test set's own error.

    That error is left out if accuracies are too high or too low to tell the arms apart: then it is not what is lacking.

    What holds for several arms or levels is said in one sentence. Tests are those of the comparisons that decide.

    Args:
        study: the study.
        results: its runs.
        comparisons: what was found.
        num_test: number of test images; None if it is not known.
    """
    found = _runs(results, results.at_chance, "diverged; kept, at chance.")
    found += _runs(results, partial(_at_recorded_value, results), "diverged; kept, at the recorded value.")
    found += _runs(results, results.stuck, "never trained: training accuracy stays at what guessing gives; kept.")
    deciding = [c for c in comparisons if c.decides]
    found += _best(study, results, deciding) + _floors(deciding)
    if any(0 < len(values) < stats.MIN_VALUES for values in results.values.values()):
        found.append(
            f"Intervals are shown from {stats.MIN_VALUES} seeds on; with fewer they would be too wide to tell anything."
        )
    found += _cut(results) + _ties(comparisons) + _neither_trained(comparisons)
    if unset := [c for c in deciding if math.isnan(c.margin)]:  # no analysis has measures of two units without a margin
        kind = margin_kind(unset[0].unit)
        hint = f"study.margin ({kind})" if kind else "study.margin"
        measures = " and ".join(dict.fromkeys(c.measure for c in unset))
        found.append(f"No margin is set for {measures}, so equivalence is not tested; set {hint}.")
    found += edge_notes(deciding, results, num_test) or _test_set_error(results, num_test)
    return found + (_noise_floor(study, results) if study.noise_floor else [])


def _at_recorded_value(results: Results, arm: str, level: str) -> list[int]:
    return [seed for seed in results.diverged(arm, level) if seed not in results.at_chance(arm, level)]


def _runs(results: Results, seeds_of: Callable[[str, str], list[int]], what: str) -> list[str]:
    """Which runs have a mishap in common, in one sentence: by seed for up to three arms and levels, else counted."""
    cells = [(arm, level) for level in results.levels for arm in results.arms if seeds_of(arm, level)]
    if len(cells) <= 3:
        named = [f"{place(*cell)}: {seed_text(seeds_of(*cell))}" for cell in cells]
        return [f"{'; '.join(named)} {what}"] if named else []
    counts = [len(seeds_of(*cell)) for cell in cells]
    each = ", ".join(f"{count} of {place(*cell)}" for cell, count in zip(cells, counts, strict=True))
    return [f"{sum(counts)} runs {what.removesuffix('.')}: {each}."]


def _cut(results: Results) -> list[str]:
    """Whose interval of a mean accuracy is shown only up to 0 or 100 %."""
    cells = [(arm, level) for level in results.levels for arm in results.arms]
    beyond = [place(*cell) for cell in cells if _is_cut(results, *cell)]
    return [f"The 95 % interval of {listed(beyond, CELLS)} is cut at 0 or 100 %: no accuracy lies beyond."] if beyond else []


def _is_cut(results: Results, arm: str, level: str) -> bool:
    shown, whole = results.interval(arm, level), stats.mean_interval(results.cell(arm, level))
    return shown.low > whole.low or shown.high < whole.high


def _about(c: Comparison) -> str:
    return place(f"{c.arm} against {c.baseline}", c.level)


def _ties(comparisons: Sequence[Comparison]) -> list[str]:
    """Comparisons whose differences are all the same: they have no t test and no interval."""
    tied = [c for c in comparisons if stats.is_constant(c.differences) and c.test is not Test.page and c.measured]
    found = []
    for n, measure, zero in dict.fromkeys((c.n, c.measure, c.difference == 0) for c in tied):
        same = [c for c in tied if (c.n, c.measure, c.difference == 0) == (n, measure, zero)]
        decides = n >= MIN_PAIRS and not zero and any(c.decides and not c.tolerates for c in same)
        names, value = listed([_about(c) for c in same], "comparisons"), "0" if zero else "the same"
        sign_flip = "; the exact sign-flip test decides" if decides else ""
        found.append(
            f"{names}: all {n} differences in {measure} are {value}, so there is no t test and no interval{sign_flip}."
        )
    return found


def _neither_trained(comparisons: Sequence[Comparison]) -> list[str]:
    """Comparisons some of whose pairs hold no run that trained."""
    some = [c for c in comparisons if 0 < c.both_untrained < c.n]
    if not some:
        return []
    pairs = listed([f"{c.both_untrained} of {c.n} pairs of {_about(c)}" for c in some], "comparisons")
    return [f"Neither run trained in {pairs}: such a pair is no evidence of equivalence."]


def _best(study: StudyConfig, results: Results, deciding: Sequence[Comparison]) -> list[str]:
    """Which of three or more arms that are all tested against each other is the most accurate, and which may be as good."""
    cells = {arm: results.cell(arm, "") for arm in results.arms}
    tested = claims_unlike(vars(study)) and results.measure in ACCURACY
    if not tested or len(cells) < 3 or not all(map(len, cells.values())):
        return []
    best = max(cells, key=lambda arm: float(np.mean(cells[arm])))
    apart = {arm for c in deciding if c.shows_difference for arm in (c.arm, c.baseline) if best in (c.arm, c.baseline)}
    near = [arm for arm in cells if arm not in {best, *apart}]
    told = f"Not told apart from it: {listed(near, CELLS)}." if near else "It differs from every other arm."
    return [f"{best} has the highest mean accuracy. {told}"]


def _floors(comparisons: Sequence[Comparison]) -> list[str]:
    """How small the p of the sign-flip test can become at all, if there are few pairs or that is not below .05."""
    sizes = sorted({c.n for c in comparisons if math.isfinite(c.p_sign_flip)})
    tests = sum(math.isfinite(c.p_sign_flip) for c in comparisons)
    found = []
    for n in sizes:
        # Holm multiplies the smallest p by the number of tests; with pairs of different number that bound is not sharp.
        corrected = tests > 1 and len(sizes) == 1
        floor = min(1.0, stats.sign_flip_floor(n) * (tests if corrected else 1))
        if n > 7 and floor < ALPHA:
            continue
        family = f" and {tests} comparisons the exact sign-flip test, corrected," if corrected else " the exact sign-flip test"
        before = " before correction" if tests > 1 and not corrected else ""
        needs = f"; a verdict needs {MIN_PAIRS} pairs" if n < MIN_PAIRS else _only_a_check(comparisons, n)
        found.append(f"With n = {n}{family} cannot go below p = {p_text(floor)}{before}{needs}.")
    return found


def _only_a_check(comparisons: Sequence[Comparison], n: int) -> str:
    """That another test decides than that of the signs, with which one; empty if that test decides any of the comparisons."""
    tests = [c.test for c in comparisons if c.n == n and math.isfinite(c.p_sign_flip)]
    if Test.sign_flip in tests or Test.anytime_sign in tests:
        return ""
    return f". It is only a check: the verdict rests on the {TEST_NAMES[tests[0]]}"


def _test_set_error(results: Results, num_test: int | None) -> list[str]:
    """The binomial standard error of one accuracy, ``sqrt(p (1 - p) / N)``; nothing if N is not known."""
    values = [value for cell in results.values.values() for value in cell.values()]
    if results.measure != "test/accuracy" or not num_test or not values:
        return []
    part = float(np.median(values)) / 100  # the median, so that diverged runs do not inflate it
    error = 100 * math.sqrt(part * (1 - part) / num_test)
    return [
        f"The {num_test:,} test images alone give one accuracy a standard error of {quantity(error, 'pp')}. All runs share "
        "them, so the intervals speak of other seeds, not of other test images."
    ]


def _noise_floor(study: StudyConfig, results: Results) -> list[str]:
    """An A/A comparison at each level: the baseline's seeds, split at random into two halves, as if these were two arms.

    Its pairs share no seed. So it shows what the seeds alone do, before pairing takes away what arms have in common.
    """
    arm, found = study.baseline or results.arms[0], []
    for level in results.levels:
        values = numpy_generator(0, "compare/noise_floor").permutation(results.cell(arm, level))
        half = values.size // 2
        if half < 2:
            continue
        mean = stats.mean_interval(stats.differences(values[:half], values[half : 2 * half]))
        unit = results.scale.unit
        found.append(
            f"{place(f'Noise floor of {arm}', level)}: {half} of its seeds against {half} others differ by "
            f"{effect(mean.estimate, unit, mean.low, mean.high)}; two seeds by "
            f"{quantity(math.sqrt(2) * float(values.std(ddof=1)), unit)} (standard deviation)."
        )
    return found
