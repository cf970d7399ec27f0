"""The reason beside a verdict: the difference, then its size against the margin or what is lacking."""

from __future__ import annotations

import math

from bnexp.comparison.power import MAX_PAIRS
from bnexp.comparison.result import Comparison, Test, Verdict
from bnexp.comparison.stats import ALPHA, MIN_PAIRS, sign_flip_floor
from bnexp.comparison.text import OCTAVES, RATIO, effect, factor, interval, p_equals, quantity
from bnexp.config.options import Direction


def reason(c: Comparison, none_trained: str) -> str:
    """Why the verdict of a comparison is what it is.

    Args:
        c: the comparison.
        none_trained: what its analysis says if neither run of any pair trained (``Method.none_trained``).
    """
    if not c.n:
        return "an arm has no result" if c.unpaired else "no seed has a result in both arms"
    if not c.decides:
        return f"{effect(c.difference, c.unit)}, also measured"
    if not c.measured:
        return f"{none_trained.format(arms='either arm')}, so nothing was tested"
    needs = needed(c) if c.verdict in (Verdict.INCONCLUSIVE, Verdict.ESTIMATE) else ""
    doubt = f" ({p_equals(c.p_sign_flip_adjusted)})" if _unsure(c) else ""
    return "; ".join(part for part in (f"{effect(c.difference, c.unit)}, {why(c)}{doubt}", needs) if part)


def why(c: Comparison) -> str:
    """What the verdict rests on, or what is lacking: the reason without the difference."""
    if c.verdict is Verdict.ESTIMATE:
        allow = "allows" if c.counted == "1 pair" else "allow"
        return f"{c.counted} {allow} no verdict (at least {MIN_PAIRS}{' each' * bool(c.unpaired)})"
    if c.verdict is Verdict.INCONCLUSIVE:
        return _open(c)
    if c.shows_equivalence:
        where = "not below" if c.one_sided else "within"
        p = p_equals(c.p_equivalence_adjusted)
        return f"{where} the margin of {quantity(c.margin, c.unit)} ({c.equivalence_test} {p})"
    against = _size(c)
    if c.verdict is Verdict.REFUTED and c.direction != Direction.equivalent:
        against = f"against the expected direction; {against}"
    return against + ("; the sign-flip check disagrees" if _unsure(c) else "")


def _unsure(c: Comparison) -> bool:
    """Whether the sign-flip test, as a check, does not confirm a difference.

    Never if the verdict rests on that test itself. After several looks neither p is valid beside an anytime-valid test. A p as
    small as the number of pairs allows confirms it, even if a correction lifts it above .05: the notes tell that limit.
    """
    if not c.shows_difference or c.test is not Test.paired_t:
        return False
    return c.p_sign_flip_adjusted >= ALPHA and c.p_sign_flip > sign_flip_floor(c.measured)


def needed(c: Comparison) -> str:
    """How many pairs would settle the comparison; empty if that cannot be said."""
    if c.n >= MIN_PAIRS > c.measured:
        return ""
    if c.n_needed is not None and c.test in (Test.anytime_t, Test.anytime_sign):
        what = "equivalence" if c.tolerates else "a difference"
        return f"{what} would be shown at about {c.n_needed:,} seeds, at this estimate"
    if c.n_needed is not None:
        what = "runs per group" if c.unpaired else "pairs"
        return f"a new study would need about {c.n_needed:,} {what} for 80 % power at this estimate"
    if c.tolerates:
        off = -c.difference if c.one_sided else abs(c.difference)
        hopeless = off >= c.margin and not c.both_untrained
        return "at this estimate no number of pairs would show equivalence" if hopeless else ""
    if c.difference == 0 or not math.isfinite(c.effect):
        return ""
    power = "" if c.test in (Test.anytime_t, Test.anytime_sign) else " for 80 % power"
    return f"more than {MAX_PAIRS:,} {'runs per group' if c.unpaired else 'pairs'} would be needed{power} at this estimate"


def unclear(c: Comparison) -> str:
    """What is said of an open comparison of which a difference is claimed, and why equivalence is not looked at either."""
    why_not = _lost(c) or c.unresolved
    found = _not_below(c) if c.alpha <= c.p_adjusted < ALPHA else "no clear difference"
    return found + (f"; {why_not}, so equivalence is not tested" if why_not else "")


def _not_below(c: Comparison) -> str:
    level = f"{c.alpha:g}".removeprefix("0")
    return f"not below the level of {level} that this look needs"


def _lost(c: Comparison) -> str:
    if c.unpaired and c.both_untrained:
        return f"at least {c.both_untrained} runs of either group never trained"
    return f"neither run trained in {c.both_untrained} of {c.n} pairs" if c.both_untrained else ""


def _open(c: Comparison) -> str:
    """Why a comparison with enough pairs stays open."""
    lost = _lost(c)
    if c.measured < MIN_PAIRS:
        return f"{lost}, and a verdict needs {MIN_PAIRS} others"
    if not c.tolerates:
        return f"{p_equals(c.p_adjusted)}, {unclear(c)}"
    if not math.isfinite(c.margin):
        return "no margin is set, so equivalence cannot be tested"
    if c.unresolved:
        return f"{c.unresolved}, so equivalence is not tested"
    return f"{lost}, so equivalence is not tested" if lost else _within(c)


def _size(c: Comparison) -> str:
    """A significant difference against the margin."""
    ratio = c.unit in (OCTAVES, RATIO)
    margin = f"the margin of {f'a factor of {factor(c.margin)}' if ratio else quantity(c.margin, c.unit)}"
    if not math.isfinite(c.margin):
        return "significant, with no margin to judge its size by"
    if abs(c.difference) <= c.margin:
        return f"significant but no larger than {margin}"
    whole = not math.isfinite(c.low) or min(abs(c.low), abs(c.high)) > c.margin
    return f"larger than {margin}" + ("" if whole else ", though the interval reaches below it")


def _within(c: Comparison) -> str:
    """How the interval lies to the margin, if equivalence is claimed but not shown."""
    bounds = interval(c.low90, c.high90, c.unit)
    shown = f"the {c.narrow_level} % interval {bounds} is" if bounds else "every difference is"
    place = "above −{}" if c.one_sided else "inside ±{}"
    if c.p_equivalence < c.alpha:
        inside = f"{place}, but not after Holm's correction"
    else:
        inside = f"{place}, but p is {_not_below(c)}" if c.p_equivalence < ALPHA else f"not {place}"
    p = p_equals(c.p_equivalence_adjusted)
    return f"{c.equivalence_test} {p}, {shown} {inside.format(quantity(c.margin, c.unit))}"
