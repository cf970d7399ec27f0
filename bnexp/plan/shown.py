"""Finds mistakes in what a study shows beside its answer (``study.show``) before the study trains."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bnexp.config.keys import ALWAYS_NAMED, NAMED_IF_CHANGED, did_you_mean, final_metrics
from bnexp.config.schema import ConfigError, Published, RunConfig, StudyConfig

# The entries of study.show.figures that are no metric: loss and accuracy by epoch, and accuracy over confidence.
CURVES, RELIABILITY = "curves", "reliability"
DRAWN = (CURVES, RELIABILITY)


def check_shown(study: StudyConfig) -> None:
    """Check everything about ``study.show`` that can be known before the runs are composed. Raises ConfigError."""
    for name, entry in study.show.published.items():
        _check_published(f"study.show.published.{name}", entry, study)


def check_figures(study: StudyConfig, configs: Sequence[RunConfig]) -> None:
    """Check that every run records the metrics that ``study.show.figures`` names. Raises ConfigError."""
    for figure in study.show.figures:
        for config in configs if figure not in DRAWN else ():
            if figure not in (known := final_metrics(config)):
                raise ConfigError(
                    f"study.show.figures names {figure}, which is not recorded: allowed are {', '.join([*DRAWN, *known])}."
                    f"{did_you_mean(figure, [*DRAWN, *known])} Without figures: add study.show.figures=[]."
                )


def _check_published(key: str, entry: Published, study: StudyConfig) -> None:
    if not entry.source:
        raise ConfigError(f"{key}.source is empty: say who found this, and where.")
    if not (entry.note or entry.values):
        raise ConfigError(f"{key} says nothing: give values of arms, or say in note what was found.")
    if entry.values and not set(entry.values) & set(study.arms):
        named, arms = list(entry.values), list(study.arms)
        raise ConfigError(
            f"{key}.values names {', '.join(named)}, and none is an arm of study {study.name}: allowed are {', '.join(arms)}."
            f"{did_you_mean(named[0], arms)}"
        )
    named_settings = (*ALWAYS_NAMED, *NAMED_IF_CHANGED)
    for setting in entry.at:
        if setting not in named_settings:
            raise ConfigError(
                f"{key}.at names {setting}, which reports do not compare: allowed are {', '.join(named_settings)}."
                f"{did_you_mean(setting, named_settings)}"
            )
    for arm, reference in entry.values.items():
        numbers = [number for number in (reference.low, reference.value, reference.high) if number is not None]
        if not all(map(math.isfinite, numbers)) or (reference.low is None) != (reference.high is None):
            raise ConfigError(f"{key}.values.{arm} is not possible: allowed is a number, with both low and high or neither.")
        if reference.low is not None and reference.high is not None and reference.low > reference.high:
            raise ConfigError(f"{key}.values.{arm} has low above high; exchange them.")
