"""Levels of a numeric key beyond a grid and between two of its levels: for tuning, and for studies that refine."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from bnexp.config.keys import KeyInfo, schema_keys
from bnexp.config.schema import ConfigError, StudyConfig
from bnexp.config.validate import check_range


def next_level(before: float, last: float) -> float:
    """The value that continues the ratio of two values, to six digits."""
    return float(f"{last * last / before:.6g}")


def is_allowed(setting: str, value: float) -> bool:
    """Whether the key ``setting`` may have this value."""
    info = _info(setting)
    if info.is_integer and not float(value).is_integer():
        return False
    try:
        check_range(info, value)
    except ConfigError:
        return False
    return True


def middle(setting: str, low: float, high: float, ratio: float) -> float | None:
    """The geometric middle of two levels, rounded to three digits; for a key of integers to an integer.

    Args:
        setting: the key.
        low: the lower level.
        high: the higher one.
        ratio: levels at most this factor apart need no middle.

    Returns:
        None if they need no middle, or if there is no other value between them.
    """
    if high / low <= ratio:
        return None
    exact = (low * high) ** 0.5
    rounded = float(round(exact)) if _info(setting).is_integer else float(f"{exact:.3g}")
    return rounded if low < rounded < high else None


def as_level(value: float) -> float:
    """The value as a study file would write it: without a fraction if it has none, which a key of integers needs."""
    return int(value) if float(value).is_integer() else value


def continued(setting: str, grid: Sequence[float], extensions: int) -> list[float]:
    """The levels that continue a grid upwards by the ratio of its last two levels, as far as the key allows.

    Args:
        setting: the key.
        grid: its levels, ascending, at least two.
        extensions: how many levels at most.
    """
    levels = list(grid)
    for _ in range(extensions):
        following = next_level(levels[-2], levels[-1])
        if not is_allowed(setting, following):
            break
        levels.append(following)
    return levels[len(grid) :]


def most_added(study: StudyConfig, grid: Sequence[float]) -> tuple[int, int]:
    """How many levels a study may add to its grid.

    Args:
        study: the study; it refines.
        grid: its levels before any was added, ascending.

    Returns:
        The number if all seeds of an arm agree and the grid needs no extension, and the largest number.
    """
    (setting,), ratio = study.factors, study.refine.ratio
    assert ratio is not None
    further = continued(setting, grid, study.refine.extensions)
    inside = [_between(setting, low, high, ratio) for low, high in itertools.pairwise([*grid, *further])]
    return len(study.arms) * max(inside).bit_length(), len(further) + sum(inside)


def _between(setting: str, low: float, high: float, ratio: float) -> int:
    """How many levels bisecting can add between two levels."""
    level = middle(setting, low, high, ratio)
    return 0 if level is None else 1 + _between(setting, low, level, ratio) + _between(setting, level, high, ratio)


def _info(setting: str) -> KeyInfo:
    return next(info for info in schema_keys() if info.name == setting)
