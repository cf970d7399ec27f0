"""Which levels of a study's factors its budget allows and its data have enough images for."""

from __future__ import annotations

from typing import Any

from bnexp.config.schema import ConfigError, DataConfig, StudyConfig
from bnexp.data.amount import num_available
from bnexp.plan.deciding import levels_that_decide
from bnexp.plan.study import value_text

TRAIN_SIZE = "data.train_size"


def budgeted(study: StudyConfig, available: int | None = None) -> dict[str, Any]:
    """The study's factors with the levels that its budget allows and its data have enough images for.

    A level above its limit in ``study.limits`` is left out, and a level of ``data.train_size`` above ``available``. If more
    than ``study.max_levels`` levels are left, that many are kept: evenly spaced, with the first and the last. A level at which
    the study is decided is kept as well.

    Args:
        study: its factors, limits and largest number of levels.
        available: number of training images, which is also what the level null of ``data.train_size`` stands for; None if it
            is not known.

    Returns:
        Factor -> levels, in the form that ``study.factors`` has.
    """
    factors = dict(study.factors)
    for name, levels in study.factors.items():
        if isinstance(levels, list | dict) and levels:
            there = available if name == TRAIN_SIZE else None
            within = [level for level in levels if _within(level, study.limits.get(name), there)]
            there_are = [level for level in within if not _beyond(level, there)]
            thinned, deciding = spread(there_are, study.max_levels), levels_that_decide(study, name)
            kept = [level for level in there_are if level in thinned or value_text(level) in deciding]
            factors[name] = kept if isinstance(levels, list) else {level: levels[level] for level in kept}
    return factors


def fitting(study: StudyConfig, data: DataConfig) -> tuple[dict[str, Any], str]:
    """``budgeted`` for a data set.

    Returns:
        The factors, and a note on the levels that were left out because there are too few images; empty if none was.

    Raises:
        ConfigError: no level is left.
    """
    if TRAIN_SIZE not in study.factors:
        return budgeted(study), ""
    available = num_available(data)
    factors, limit = budgeted(study, available), study.limits.get(TRAIN_SIZE)
    allowed = [level for level in study.factors[TRAIN_SIZE] if _within(level, limit, available)]
    left_out = ", ".join(str(level) for level in allowed if _beyond(level, available))
    there = f"{data.name} has {available:,} training images"
    if left_out and not factors[TRAIN_SIZE]:
        raise ConfigError(
            f"study {study.name} varies {TRAIN_SIZE} over {left_out}, but {there}; give its levels, like "
            f"{TRAIN_SIZE}={max(10, available // 2)},{available}."
        )
    return factors, f"{there}, so that {TRAIN_SIZE}={left_out} is left out." if left_out else ""


def _within(level: Any, limit: float | None, available: int | None) -> bool:
    """Whether a budget allows a level. Null means all images, so with a limit their number must be known."""
    number = available if level is None else level
    return limit is None or (number is not None and not (isinstance(number, int | float) and number > limit))


def _beyond(level: Any, available: int | None) -> bool:
    """Whether a number of training images is more than there are."""
    return available is not None and isinstance(level, int) and level > available


def spread(levels: list[Any], count: int | None) -> list[Any]:
    """At most ``count`` of the levels, evenly spaced, with the first and the last; all if ``count`` is None."""
    if count is None or len(levels) <= count:
        return levels
    return [levels[round(i * (len(levels) - 1) / (count - 1))] for i in range(count)]
