"""The analysis of a study: outcomes in, comparisons with verdicts and an answer out.

Rules, fixed before any run (``StudyConfig``), so that no result can choose them:

- Pairs: each other arm against ``study.baseline``; without one, every pair, the later arm minus the earlier. There is one
  comparison per pair and factor level, or whatever ``study.analysis`` derives from the runs instead (``ANALYSES``).
- Direction: ``study.expect`` by the level's value, else ``study.direction``; ``greater`` and ``less`` speak of what is
  compared: of the metric; of the difference at a level against that at the first one (interaction); of its slope over the
  levels (trend); of the time until the target (faster is ``less``); of the gap; of the flips beyond churn.
- Tests: the paired t test; for a trend Page's test in the direction of the mean slope, doubled; for times the sign-flip test.
- Families: Holm over all of a study's difference tests, and over all of its equivalence tests.
- A comparison: a significant difference is SUPPORTED or, with the wrong sign, REFUTED. Shown equivalence is EQUIVALENT, or
  REFUTED if ``greater`` or ``less`` was claimed. If equivalence is claimed it is looked at first, and only a difference
  shown to lie beyond the margin is REFUTED. Everything else is INCONCLUSIVE. Under six pairs: ESTIMATE.
- Untrained runs: a diverged run stays in, at chance, and a stuck one with what it measured. If neither run of a pair trained,
  they differ by about 0 only because both are at chance. That may never look like equivalence: with any such pair equivalence
  is not tested, and a verdict needs six other pairs. If all pairs are such, nothing is tested. In the difference tests the 0
  stays, because it can only weaken a difference. In an interaction or a trend it could make one, so there the seed is left out
  and listed.
- The study: the verdict that its comparisons share. If they differ: SUPPORTED if each shows its own claim, REFUTED if some
  are refuted and none shows its claim, else INCONCLUSIVE. Without a baseline and with direction ``different`` the claim is
  that the arms are not all alike, so one SUPPORTED pair is enough if none is refuted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bnexp.comparison import power, stats
from bnexp.comparison.analyses import ANALYSES
from bnexp.comparison.answer import NO_RESULT, answer
from bnexp.comparison.contrast import Contrast, Inputs, Records
from bnexp.comparison.notes import notes
from bnexp.comparison.pairing import Pairs, Results
from bnexp.comparison.reason import reason
from bnexp.comparison.result import ArmSummary, Comparison, Outcome, Status, StudyResult, Test, Verdict
from bnexp.comparison.stats import ALPHA, MIN_PAIRS
from bnexp.config.keys import did_you_mean
from bnexp.config.options import Direction
from bnexp.config.schema import ConfigError, StudyConfig
from bnexp.plan.spec import plain
from bnexp.rng import numpy_generator


def analyse(
    study: StudyConfig,
    outcomes: Sequence[Outcome],
    *,
    study_id: str,
    margin: float,
    settings: Mapping[str, str],
    chance: float | None = None,
    num_test: int | None = None,
    records: Records | None = None,
) -> StudyResult:
    """Compare the arms of a study and answer its question.

    Args:
        study: the study.
        outcomes: what came of each planned run.
        study_id: hash of what decides the study's results.
        margin: half width of what counts as equivalent, in pp: ``study.margin``, else ``data.margin``. For a metric that is no
            accuracy only ``study.margin`` counts, in the metric's unit.
        settings: dotted key -> text, of what was held fixed.
        chance: accuracy of guessing, a fraction; None if it is not known.
        num_test: number of test images, with which the notes name the test set's own error; None if it is not known.
        records: histories and predictions of the runs, for the analyses that read them.

    Raises:
        ConfigError: the baseline is no arm, metrics have different units, or the analysis needs other levels or another metric.
    """
    results = Results(outcomes, study.metric, chance, list(study.arms), study.metrics)
    if results.scale.unit != "pp":
        margin = math.nan if study.margin is None else study.margin
    pairs = _arm_pairs(study, results.arms)
    method = ANALYSES[study.analysis]
    found = method.ask(Inputs(study, results, pairs, margin, chance, records))
    comparisons = [replace(c, reason=reason(c, method.none_trained)) for c in judge(found.contrasts)]
    verdict = study_verdict(study, comparisons)
    trained = any(outcome.status is Status.finished and not outcome.untrained for outcome in outcomes)
    tested = trained and method.compares_metric and len(blocks := results.blocks()) >= MIN_PAIRS
    omnibus = stats.friedman(blocks) if tested else math.nan
    return StudyResult(
        study=plain(asdict(study)),
        study_id=study_id,
        question=study.question,
        answer=answer(study, method, comparisons, verdict, settings) if results.values or not comparisons else NO_RESULT,
        verdict=verdict,
        metric=results.measure,
        unit=results.scale.unit,
        margin=margin,
        settings=dict(settings),
        arms=_summaries(results),
        comparisons=comparisons,
        omnibus_p=None if math.isnan(omnibus) else omnibus,
        outcomes=list(outcomes),
        unpaired=results.problems(pairs) + found.unpaired,
        notes=notes(study, results, comparisons, num_test) + found.notes,
    )


def judge(contrasts: Sequence[Contrast]) -> list[Comparison]:
    """Test every contrast of one family and give each its verdict.

    Returns:
        One comparison per contrast, without a reason. The same contrasts always give the same result.
    """
    differences = [_tested(c.pairs) for c in contrasts]
    found = [_estimate(c, d, len(contrasts)) for c, d in zip(contrasts, differences, strict=True)]
    adjusted = stats.holm([c.p_test for c in found])
    flips = stats.holm([c.p_sign_flip for c in found])
    equivalence = stats.holm([c.p_equivalence for c in found])
    beyond = stats.holm([stats.beyond_margin(d, c.margin) for c, d in zip(contrasts, differences, strict=True)])
    for i, comparison in enumerate(found):
        tested = replace(
            comparison, p_adjusted=adjusted[i], p_sign_flip_adjusted=flips[i], p_equivalence_adjusted=equivalence[i]
        )
        tested = replace(tested, verdict=decide(tested, beyond[i]))
        if tested.verdict is Verdict.INCONCLUSIVE and tested.n_needed is not None:
            tested = replace(tested, n_needed=max(tested.n_needed, tested.n + 1))
        found[i] = tested
    return found


def decide(c: Comparison, p_beyond: float) -> Verdict:
    """The verdict of one comparison, by the rules above.

    Args:
        c: the comparison, with its adjusted p values.
        p_beyond: adjusted p of a difference beyond the margin.
    """
    if c.n < MIN_PAIRS:
        return Verdict.ESTIMATE
    if c.measured < MIN_PAIRS:
        return Verdict.INCONCLUSIVE
    if c.shows_equivalence:
        return Verdict.REFUTED if c.direction in (Direction.greater, Direction.less) else Verdict.EQUIVALENT
    if c.direction == Direction.equivalent:
        return Verdict.REFUTED if p_beyond < ALPHA else Verdict.INCONCLUSIVE
    if not c.p_adjusted < ALPHA:
        return Verdict.INCONCLUSIVE
    wrong = (c.direction == Direction.greater and c.difference < 0) or (c.direction == Direction.less and c.difference > 0)
    return Verdict.REFUTED if wrong else Verdict.SUPPORTED


def study_verdict(study: StudyConfig, comparisons: Sequence[Comparison]) -> Verdict:
    """The verdict of the study as a whole, by the rules above."""
    verdicts = {c.verdict for c in comparisons}
    if len(verdicts) <= 1:
        return verdicts.pop() if verdicts else Verdict.ESTIMATE
    shown = [c.shows_claim for c in comparisons]
    if all(shown):
        return Verdict.SUPPORTED
    if Verdict.REFUTED in verdicts:
        return Verdict.INCONCLUSIVE if any(shown) else Verdict.REFUTED
    unlike = study.baseline is None and study.direction is Direction.different
    return Verdict.SUPPORTED if unlike and any(shown) else Verdict.INCONCLUSIVE


def _arm_pairs(study: StudyConfig, arms: Sequence[str]) -> list[tuple[str, str]]:
    """(arm, baseline) of every comparison."""
    if study.baseline is None:
        return [(later, earlier) for earlier, later in combinations(arms, 2)]
    if study.baseline not in arms:
        hint = did_you_mean(study.baseline, arms)
        raise ConfigError(f"study.baseline={study.baseline} is no arm: allowed is {', '.join(arms)} or null.{hint}")
    return [(arm, study.baseline) for arm in arms if arm != study.baseline]


def _tested(pairs: Pairs) -> stats.Array:
    """The differences that tests are made of: all of them, or none if neither run of any pair trained."""
    d = stats.differences(pairs.arm, pairs.baseline)
    return d[:0] if pairs.both_untrained == d.size else d


def _estimate(contrast: Contrast, d: stats.Array, family: int) -> Comparison:
    """The comparison with everything but what depends on the rest of its family: adjusted p values and verdict."""
    pairs = contrast.pairs
    wide, narrow = stats.mean_interval(d), stats.mean_interval(d, 0.90)
    effect, wins = stats.hedges_dz(d), stats.superiority(d)
    shown = stats.differences(pairs.arm, pairs.baseline)
    bootstrap = stats.bca_interval(d, _draws(max(d.size, 1)))
    p_t, p_sign_flip = stats.paired_t(d), stats.sign_flip(d, numpy_generator(0, "compare/sign_flip"))
    test, p_test = _decisive(contrast, p_t, p_sign_flip)
    return Comparison(
        arm=contrast.arm,
        baseline=contrast.baseline,
        level=contrast.level,
        measure=contrast.measure,
        unit=contrast.unit,
        direction=contrast.direction.value,
        margin=contrast.margin,
        n=pairs.arm.size,
        difference=stats.mean_interval(shown).estimate,
        low=wide.low,
        high=wide.high,
        low90=narrow.low,
        high90=narrow.high,
        p_t=p_t,
        p_sign_flip=p_sign_flip,
        p_adjusted=math.nan,
        p_equivalence=math.nan if pairs.both_untrained else stats.equivalence(d, contrast.margin),
        effect=effect,
        superiority=wins.estimate,
        superiority_low=wins.low,
        superiority_high=wins.high,
        n_needed=_pairs_needed(contrast, d, ALPHA / family),
        verdict=Verdict.ESTIMATE,
        reason="",
        both_untrained=pairs.both_untrained,
        reference=contrast.reference,
        test=test,
        p_test=p_test,
        low_bca=bootstrap.low,
        high_bca=bootstrap.high,
        seeds=list(pairs.seeds),
        differences=[float(value) for value in shown],
    )


@cache
def _draws(n: int) -> NDArray[np.intp]:
    return stats.bootstrap_draws(n, numpy_generator(0, "compare/bootstrap"))


def _decisive(contrast: Contrast, p_t: float, p_sign_flip: float) -> tuple[Test, float]:
    """The test that the verdict rests on, and its p. Without a t test (equal differences) the sign-flip test decides."""
    if contrast.test is Test.page:
        return Test.page, contrast.p_page
    if contrast.test is Test.sign_flip or math.isnan(p_t):
        return Test.sign_flip, p_sign_flip
    return Test.paired_t, p_t


def _pairs_needed(contrast: Contrast, d: stats.Array, alpha: float) -> int | None:
    """Pairs that the test which decides the claim needs for 80 % power, at least the six of any verdict."""
    if contrast.direction is Direction.equivalent:
        if d.size < 2 or contrast.pairs.both_untrained:
            return None
        needed = power.pairs_needed_equivalence(float(d.mean()), float(d.std(ddof=1)), contrast.margin, alpha=alpha)
    else:
        needed = power.pairs_needed(stats.hedges_dz(d), alpha=alpha)
    least = math.floor(2 - math.log2(alpha)) if contrast.test is Test.sign_flip else MIN_PAIRS  # its floor is 2 / 2**n
    return None if needed is None else max(needed, least, MIN_PAIRS)


def _summaries(results: Results) -> list[ArmSummary]:
    """Every arm at every level at which it was planned, level by level."""
    found = []
    for level in results.levels:
        for arm in results.arms:
            values = results.cell(arm, level)
            mean = stats.mean_interval(values)
            summary = ArmSummary(
                arm=arm,
                level=level,
                n=values.size,
                mean=mean.estimate,
                low=mean.low,
                high=mean.high,
                sd=float(values.std(ddof=1)) if values.size > 1 else math.nan,
                diverged=len(results.diverged(arm, level)),
                stuck=len(results.stuck(arm, level)),
                missing=results.missing(arm, level),
            )
            if summary.n or summary.missing:
                found.append(summary)
    return found
