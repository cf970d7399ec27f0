"""Fits a study to its budget and its data: which levels, how many seeds, what is tuned."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from bnexp.config.schema import ConfigError, DataConfig, RunConfig, StudyConfig
from bnexp.data.amount import budget_note, num_available
from bnexp.plan.deciding import levels_that_decide
from bnexp.plan.study import value_text, varied_keys

TRAIN_SIZE = "data.train_size"
LEARNING_RATE = "optim.lr"
NOTHING: Mapping[str, Sequence[str]] = MappingProxyType({})


def fitted(
    base: RunConfig, swept: Mapping[str, Sequence[str]] = NOTHING, fixed: Collection[str] = ()
) -> tuple[StudyConfig, str]:
    """The study of a configuration, fitted to its budget and data: levels, number of seeds, what is tuned.

    Args:
        base: the configuration, composed from the study's file and the overrides.
        swept: keys to which the user gave several values, with these: they become factors.
        fixed: keys to which the user gave one value: a grid or a number of seeds among them stays as it is.

    Returns:
        The study, and a note on what the budget left out or could not do; empty if there is nothing to say.

    Raises:
        ConfigError: no level is left, or seeds are both listed and added one after the other.
    """
    study = deepcopy(base.study)
    if study.least_seeds is not None and isinstance(study.seeds, int) and "study.seeds" not in fixed:
        study.seeds = max(study.seeds, study.least_seeds)
    if study.max_seeds is not None:
        if not isinstance(study.seeds, int):
            raise ConfigError(
                f"study.seeds={study.seeds} does not go with study.max_seeds={study.max_seeds}, which adds the seeds 0, 1, 2 "
                "and so on; leave one of the two out."
            )
        study.seeds = study.max_seeds
    factors, note = (budgeted(study), "") if TRAIN_SIZE in swept else _fitting(study, base.data)
    study.factors = factors | {key: list(values) for key, values in swept.items()}
    if "study.tune.grid" not in fixed:
        study.tune.grid = spread(study.tune.grid, study.tune.max_values)
    note = note if TRAIN_SIZE in study.factors else budget_note(base)
    return study, f"{note} {_tuned_by_budget(study, base.budget.tune_lr)}".strip()


def _tuned_by_budget(study: StudyConfig, grid: list[float]) -> str:
    """Tune the learning rate of a study as its budget asks, unless the study has its own way with it; then a note says so."""
    if not grid:
        return ""
    if study.tune.grid:
        return "The study tunes by itself, so the budget tunes nothing."
    if LEARNING_RATE in varied_keys(study):
        return f"{LEARNING_RATE} is what the study varies, so the budget tunes nothing."
    study.tune = replace(study.tune, setting=LEARNING_RATE, grid=list(grid))
    return ""


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


def _fitting(study: StudyConfig, data: DataConfig) -> tuple[dict[str, Any], str]:
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
