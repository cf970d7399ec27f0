"""The analysis of a study: outcomes in, comparisons with verdicts and an answer out. The rules are those of ``rules``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bnexp.comparison import power, sequential, stats, unpaired
from bnexp.comparison.analyses import ANALYSES
from bnexp.comparison.answer import NO_RESULT, answer
from bnexp.comparison.contrast import Contrast, Inputs, Records
from bnexp.comparison.edge import shared_edge
from bnexp.comparison.endings import ending_notes
from bnexp.comparison.looks import FIRST, Look
from bnexp.comparison.notes import notes
from bnexp.comparison.pairing import Groups, Pairs, Results
from bnexp.comparison.prospects import is_open, within_plan
from bnexp.comparison.reason import reason
from bnexp.comparison.remedy import remedy
from bnexp.comparison.result import ArmSummary, Comparison, Outcome, Status, StudyResult, Test, Verdict
from bnexp.comparison.rules import comparison_verdict, finding, study_verdict
from bnexp.comparison.stats import MIN_PAIRS
from bnexp.config.keys import did_you_mean
from bnexp.config.options import Direction
from bnexp.config.schema import ConfigError, StudyConfig
from bnexp.plan.deciding import Compared, arm_pairs, claims_unlike, expected
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
    look: Look = FIRST,
    overrides: Sequence[str] | None = None,
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
        look: how often the question has been looked at, which chooses the tests.
        overrides: those that the study was run with, for the command that would settle it; None if it is no study file.

    Raises:
        ConfigError: the baseline is no arm, metrics have different units, or the analysis needs other levels or another metric.
    """
    _refuse_baseline(study)
    results = Results(outcomes, study.metric, chance, list(study.arms), metrics=study.metrics)
    if results.scale.unit != "pp":
        margin = math.nan if study.margin is None else study.margin
    pairs = arm_pairs(study, results.arms)
    method = ANALYSES[study.analysis]
    found = method.ask(Inputs(study, results, pairs, margin, chance, records))
    judged = judge([_assigned(contrast, study, results) for contrast in found.contrasts], look)
    comparisons = [replace(c, reason=reason(c, method.none_trained)) for c in judged]
    endings = ending_notes(study, results, comparisons, margin, settings, records) if records else []
    deciding = [c for c in comparisons if c.decides]
    verdict = study_verdict(deciding, one_is_enough=claims_unlike(vars(study)))
    whole = all(outcome.status in (Status.finished, Status.diverged) for outcome in outcomes)
    edge = shared_edge([c for c in deciding if is_open(c)], results, num_test)
    trained = any(outcome.status is Status.finished and not outcome.untrained for outcome in outcomes)
    return StudyResult(
        study=plain(asdict(study)),
        study_id=study_id,
        question=study.question,
        answer=answer(study, method, deciding, verdict, settings, look, results)
        if results.values or not deciding
        else NO_RESULT,
        verdict=verdict,
        metric=results.measure,
        unit=results.scale.unit,
        margin=margin,
        settings=dict(settings),
        arms=summaries(results),
        comparisons=comparisons,
        omnibus_p=_omnibus(results) if trained and method.compares_metric else None,
        outcomes=list(outcomes),
        unpaired=results.problems((*pair, level) for pair in pairs for level in results.levels) + found.unpaired,
        notes=notes(study, results, comparisons, num_test) + endings + found.notes,
        rule=look.rule.name if look.rule else "",
        remedy=remedy(study, deciding, verdict, look, settings, overrides, whole, edge) if results.values else None,
    )


def judge(contrasts: Sequence[Contrast], look: Look = FIRST) -> list[Comparison]:
    """Test the contrasts that decide as one family and give each its verdict; estimate the others.

    Returns:
        One comparison per contrast, without a reason. The same contrasts always give the same result.
    """
    deciding = [i for i, c in enumerate(contrasts) if c.direction is not None]
    found = [_estimate(c, look, len(deciding)) for c in contrasts]
    adjusted = stats.holm([found[i].p_test for i in deciding])
    flips = stats.holm([found[i].p_sign_flip for i in deciding])
    equivalence = stats.holm([found[i].p_equivalence for i in deciding])
    beyond = stats.holm([_beyond(contrasts[i], look) for i in deciding])
    for k, i in enumerate(deciding):
        tested = replace(found[i], p_adjusted=adjusted[k], p_sign_flip_adjusted=flips[k], p_equivalence_adjusted=equivalence[k])
        tested = replace(tested, p_beyond_adjusted=beyond[k], alpha=look.alpha)
        tested = replace(tested, finding=finding(tested, beyond[k], look.alpha))
        tested = replace(tested, verdict=comparison_verdict(tested))
        if tested.verdict is Verdict.INCONCLUSIVE and tested.n_needed is not None:
            tested = replace(tested, n_needed=max(tested.n_needed, tested.n + 1))
        found[i] = tested
    return found


def _omnibus(results: Results) -> float | None:
    """p of Friedman's test that all arms are alike; None with too few blocks, or if it is not known."""
    blocks = results.blocks()
    p = stats.friedman(blocks) if len(blocks) >= MIN_PAIRS else math.nan
    return None if math.isnan(p) else p


def _refuse_baseline(study: StudyConfig) -> None:
    if study.baseline is not None and study.baseline not in study.arms:
        hint, allowed = did_you_mean(study.baseline, list(study.arms)), ", ".join(study.arms)
        raise ConfigError(f"study.baseline={study.baseline} is no arm: allowed is {allowed} or null.{hint}")


def _assigned(contrast: Contrast, study: StudyConfig, results: Results) -> Contrast:
    """The contrast with its test, and with what the claim predicts of it; None if it does not decide."""
    key, levels = contrast.key or study.analysis.measures[0], results.factors.get(contrast.level, {})
    test = Test.sign_flip if key in study.analysis.tested_by_signs else contrast.test
    return replace(contrast, test=test, direction=expected(study, Compared(key, contrast.arm, contrast.baseline, levels)))


def _tested(pairs: Pairs) -> stats.Array:
    """The differences that tests are made of: all of them, or none if neither run of any pair trained."""
    d = stats.differences(pairs.arm, pairs.baseline)
    return d[:0] if pairs.both_untrained == d.size else d


def _estimate(contrast: Contrast, look: Look, family: int) -> Comparison:
    """The comparison with everything but what depends on the rest of its family: adjusted p values, finding and verdict.

    Args:
        contrast: what is compared.
        look: how often one has looked; it counts for contrasts that decide.
        family: number of contrasts that decide.
    """
    if isinstance(contrast.pairs, Groups):
        return unpaired.estimate(contrast, contrast.pairs, family)
    pairs, rule = contrast.pairs, None if contrast.direction is None else look.rule
    d = _tested(pairs)
    wide, narrow = stats.mean_interval(d), stats.mean_interval(d, 0.90)
    if rule is not None:
        wide = narrow = rule.interval(d, 0.95)
    effect, wins = stats.hedges_dz(d), stats.superiority(d)
    shown = stats.differences(pairs.arm, pairs.baseline)
    bootstrap = stats.bca_interval(d, _draws(max(d.size, 1)))
    p_t, p_sign_flip = stats.paired_t(d), stats.sign_flip(d, numpy_generator(0, "compare/sign_flip"))
    test, p_test = _decisive(contrast, d, rule, p_t, p_sign_flip)
    unresolved = contrast.unresolved or ("all differences are the same" if d.size > 1 and stats.is_constant(d) else "")
    untestable = bool(pairs.both_untrained or unresolved)  # whether there can be no test of equivalence
    return Comparison(
        **contrast.asked(),
        n=pairs.arm.size,
        difference=stats.mean_interval(shown).estimate,
        low=wide.low,
        high=wide.high,
        low90=narrow.low,
        high90=narrow.high,
        p_t=p_t,
        p_sign_flip=p_sign_flip,
        p_adjusted=math.nan,
        p_equivalence=math.nan if untestable else _equivalence(contrast, d, rule),
        effect=effect,
        superiority=wins.estimate,
        superiority_low=wins.low,
        superiority_high=wins.high,
        n_needed=_pairs_needed(contrast, d, look, family, test, untestable) if contrast.direction is not None else None,
        both_untrained=pairs.both_untrained,
        unresolved=unresolved,
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


def _decisive(
    contrast: Contrast, d: stats.Array, rule: sequential.Rule | None, p_t: float, p_sign_flip: float
) -> tuple[Test, float]:
    """The test that the verdict rests on, and its p. Without a t test (equal differences) the signs decide."""
    by_sign = contrast.test is Test.sign_flip or math.isnan(p_t)
    if rule is not None:
        return Test.anytime_sign if by_sign else Test.anytime_t, rule.p(d, signs=by_sign)
    if contrast.test is Test.page:
        return Test.page, contrast.p_page
    return (Test.sign_flip, p_sign_flip) if by_sign else (Test.paired_t, p_t)


def _equivalence(contrast: Contrast, d: stats.Array, rule: sequential.Rule | None) -> float:
    """p that the mean difference lies within the margin, or at least not below it if only that is claimed."""
    if contrast.direction is Direction.at_least:
        return stats.not_below(d, contrast.margin) if rule is None else rule.p_not_below(d, contrast.margin)
    return stats.equivalence(d, contrast.margin) if rule is None else rule.p_equivalence(d, contrast.margin)


def _beyond(contrast: Contrast, look: Look) -> float:
    """p that the mean difference lies outside the margin."""
    if isinstance(contrast.pairs, Groups):
        return unpaired.beyond(contrast, contrast.pairs)
    d = _tested(contrast.pairs)
    if look.rule is None:
        return stats.beyond_margin(d, contrast.margin)
    return look.rule.p_beyond(d, contrast.margin)


def _pairs_needed(contrast: Contrast, d: stats.Array, look: Look, family: int, test: Test, untestable: bool) -> int | None:
    """Pairs that the test which decides the claim needs, at least the six of any verdict."""
    claimed, one_sided = contrast.direction is Direction.equivalent, contrast.direction is Direction.at_least
    if (claimed or one_sided) and (d.size < 2 or untestable):
        return None
    if one_sided:  # a two-sided test at twice the level against the margin
        d = d + contrast.margin

    def watched(rule: sequential.Rule) -> int | None:
        if test is Test.anytime_sign and not claimed:
            return sequential.signs_needed(d, rule.alpha / family)
        return sequential.seeds_needed(d, rule, contrast.margin if claimed else None, rule.alpha / family)

    alpha = look.alpha / family * (2 if one_sided and look.rule is None else 1)
    if look.rule is not None:
        needed = within_plan(look.rule, watched)
    elif claimed:
        needed = power.pairs_needed_equivalence(float(d.mean()), float(d.std(ddof=1)), contrast.margin, alpha=alpha)
    else:
        needed = power.pairs_needed(stats.hedges_dz(d), alpha=alpha)
    least = math.floor(2 - math.log2(alpha)) if contrast.test is Test.sign_flip else MIN_PAIRS  # its floor is 2 / 2**n
    return None if needed is None else max(needed, least, MIN_PAIRS)


def summaries(results: Results) -> list[ArmSummary]:
    """Every arm at every level at which it was planned, level by level."""
    found = []
    for level in results.levels:
        for arm in results.arms:
            values = results.cell(arm, level)
            mean = results.interval(arm, level)
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
