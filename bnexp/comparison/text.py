"""Numbers and differences in words: units, p values, and the difference that a comparison found."""

from __future__ import annotations

import math

from bnexp.comparison.result import Comparison, Test

OCTAVES = "octaves"  # base-2 logarithm of the ratio of two levels
RATIO = "log2 ratio"  # of the arm's value to the baseline's; shown as the ratio itself
ACCURACY = ("test/accuracy", "accuracy")  # measures that "more accurate" speaks of
# Named with every result, because the size of an effect depends on them most.
SETTINGS = {
    "data.train_size": "training images",
    "optim.lr": "learning rate",
    "optim.momentum": "momentum",
    "train.batch_size": "batch size",
    "train.epochs": "epochs",
    "train.steps_per_epoch": "updates per epoch",
}
LABELS = {  # of reports
    "data.name": "data",
    "data.factory": "images made by",
    "model.name": "network",
    "model.factory": "network made by",
    "optim.name": "optimiser",
    **SETTINGS,
}
TEST_NAMES = {
    Test.paired_t: "paired t test",
    Test.page: "Page's test",
    Test.sign_flip: "sign-flip test",
    Test.anytime_t: "anytime-valid t test",
    Test.anytime_sign: "anytime-valid sign test",
    Test.welch: "Welch's t test",
}
_DECIMALS = {"pp": 2, "%": 2, "nats": 4, OCTAVES: 2}
LARGE = 1e6


def number(value: float, unit: str) -> str:
    """``0.31``, with the decimals that suit the unit. An en dash if the value is not finite. A log ratio as the ratio.

    A value of more than six digits before the point, such as the loss of a run that nearly diverged, has a power of ten.
    """
    if not math.isfinite(value):
        return "–"
    if unit == RATIO:
        return f"{2**value:.2f}"
    unit = unit.split("/")[0]
    text = f"{value:.{_DECIMALS[unit]}f}" if unit in _DECIMALS and abs(value) < LARGE else f"{value:.4g}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def signed(value: float, unit: str) -> str:
    """``+0.31`` or ``−0.31``; a ratio has no sign."""
    text = number(value, unit)
    if unit == RATIO:
        return text
    return f"+{text}" if value > 0 and math.isfinite(value) and float(text) != 0 else text


def label(key: str) -> str:
    """What reports call a setting: ``learning rate``; the key itself if it has no other name."""
    return LABELS.get(key, key)


def quantity(value: float, unit: str, sign: bool = False) -> str:
    """A number with its unit: ``0.31 pp``, ``0.43×``. A number that is missing has no unit: an en dash."""
    if math.isnan(value):
        return number(value, unit)
    if unit == RATIO:
        return f"{number(value, unit)}×"
    named = f"per {unit[1:]}" if unit.startswith("/") else unit  # of a metric without a unit
    return f"{(signed if sign else number)(value, unit)} {named}".rstrip()


def interval(low: float, high: float, unit: str) -> str:
    """``[0.12, 0.28]``; empty if a bound is not finite."""
    return f"[{number(low, unit)}, {number(high, unit)}]" if math.isfinite(low) and math.isfinite(high) else ""


def effect(value: float, unit: str, low: float = math.nan, high: float = math.nan) -> str:
    """A difference, with its interval if there is one: ``+0.31 pp [0.27, 0.35]``, ``2.30× [1.90, 2.81] less``.

    Args:
        value: the difference; the base-2 logarithm of a ratio is shown as how many times less or more.
        unit: its unit.
        low: lower bound of the interval.
        high: upper bound. A bound of a ratio that is below 1 lies on the other side.
    """
    if unit != RATIO:
        return f"{quantity(value, unit, sign=True)} {interval(low, high, unit)}".rstrip()
    sign = -1 if value < 0 else 1
    least, most = sorted((sign * low, sign * high))
    bounds = interval(least, most, unit)
    return " ".join(part for part in (quantity(sign * value, unit), bounds, "less" if value < 0 else "more") if part)


def p_text(p: float) -> str:
    """``< .001``, ``.003``, ``.25``; an en dash without a test."""
    if not math.isfinite(p):
        return "–"
    if p < 0.001:
        return "< .001"
    if 0.0495 <= p < 0.05:
        return "< .05"  # three decimals would look like no evidence
    return f"{p:.3f}".removeprefix("0") if p < 0.1 else f"{p:.2f}".removeprefix("0")


def p_equivalence(c: Comparison) -> str:
    """The adjusted p of equivalence, ``.003``; an en dash if there is no 90 % interval that it could be read from."""
    return p_text(c.p_equivalence_adjusted if math.isfinite(c.low90) else math.nan)


def p_equals(p: float) -> str:
    """``p = .003`` or ``p < .001``."""
    text = p_text(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def level_unit(measure: str, unit: str) -> str:
    """The unit in which levels of a measure are shown: per cent for an accuracy.

    Differences keep ``unit``, and so does a gap, which is itself a difference of two accuracies.
    """
    return "%" if unit == "pp" and not measure.startswith("gap/") else unit


def axis_title(unit: str) -> str:
    """What an axis of differences in ``unit`` shows."""
    if unit == RATIO:
        return "arm over baseline, log2: −1 is half, +1 is twice"
    return f"difference ({unit})" if unit else "difference"


def margin_kind(unit: str) -> str:
    """What ``study.margin`` has to be for differences in ``unit``; empty if it has no name."""
    return "a ratio above 1" if unit == RATIO else unit.split("/")[0]


def factor(octaves: float) -> str:
    """``2``, ``1.25``, ``0.0625``: how many times as large, from base-2 logarithms."""
    return f"{2**octaves:.3g}" if math.isfinite(octaves) else "–"


def times(c: Comparison, low: float, high: float) -> str:
    """``4 times``, ``0.50 times [0.48, 0.52]``: a difference of base-2 logarithms as a multiple of the baseline."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{factor(c.difference)} times"
    value, least, most = (
        f"{2**octaves:.2f}" if -3 < c.difference < 6 else factor(octaves) for octaves in (c.difference, low, high)
    )
    return f"{value} times [{least}, {most}]"


def margin(c: Comparison) -> str:
    """``±0.20 pp``"""
    return f"±{quantity(c.margin, c.unit)}"


def difference(c: Comparison) -> str:
    """``+0.31 pp [0.27, 0.35]``. Shown equivalence has the interval that it rests on, with its level."""
    if not c.shows_equivalence:
        return effect(c.difference, c.unit, c.low, c.high)
    size, narrow = quantity(c.difference, c.unit, sign=True), interval(c.low90, c.high90, c.unit)
    return f"{size}, {c.narrow_level} % interval {narrow}"


def magnitude(c: Comparison) -> str:
    """``0.31 pp [0.27, 0.35]``: the difference without its sign, which a word then says."""
    low, high = sorted((c.low, c.high)) if c.difference > 0 else sorted((-c.low, -c.high))
    return f"{quantity(abs(c.difference), c.unit)} {interval(low, high, c.unit)}".rstrip()


def elapsed_text(seconds: float, longest: float | None = None) -> str:
    """How long something took: ``0.15 s``, ``42.1 s``, ``12 min 5 s``, ``3 h 20 min``.

    Args:
        seconds: how long.
        longest: the longest time in the same column, whose decimals all of them have; None: this one.
    """
    if not math.isfinite(seconds):
        return "–"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if max(seconds, longest or 0) < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def age_text(seconds: float) -> str:
    """How long ago something was: ``40 s``, ``12 min``, ``3 h``, ``5 d``."""
    if not math.isfinite(seconds):
        return "–"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"
