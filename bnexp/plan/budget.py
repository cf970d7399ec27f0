"""Which levels of a study's factors its budget allows and its data can give."""

from __future__ import annotations

from typing import Any

from bnexp.config.schema import ConfigError, DataConfig, StudyConfig
from bnexp.data.amount import num_available

TRAIN_SIZE = "data.train_size"


def budgeted(study: StudyConfig, available: int | None = None) -> dict[str, Any]:
    """The study's factors with the levels that its budget allows and its data can give.

    A level above ``study.limits`` is left out. So is, of ``data.train_size``, one above ``available``, the number of training
    images; null stands for all of them. Of more than ``study.max_levels`` so many are kept, evenly spaced, the first and the
    last among them.
    """
    factors = dict(study.factors)
    for name, levels in study.factors.items():
        if isinstance(levels, list | dict) and levels:
            there = available if name == TRAIN_SIZE else None
            within = [level for level in levels if _within(level, study.limits.get(name), there)]
            kept = _spread([level for level in within if not _beyond(level, there)], study.max_levels)
            factors[name] = kept if isinstance(levels, list) else {level: levels[level] for level in kept}
    return factors


def fitting(study: StudyConfig, data: DataConfig) -> tuple[dict[str, Any], str]:
    """``budgeted`` for these data, and a note on the levels left out because there are not so many images.

    Raises ConfigError where none is left.
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
    """Whether a budget allows a level; null, which stands for all there is, only where that is known not to be too many."""
    number = available if level is None else level
    return limit is None or (number is not None and not (isinstance(number, int | float) and number > limit))


def _beyond(level: Any, available: int | None) -> bool:
    """Whether a number of training images is more than there are."""
    return available is not None and isinstance(level, int) and level > available


def _spread(levels: list[Any], count: int | None) -> list[Any]:
    if count is None or len(levels) <= count:
        return levels
    return [levels[round(i * (len(levels) - 1) / (count - 1))] for i in range(count)]
