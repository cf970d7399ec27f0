"""The configurations of a study's runs: how they differ and what was held fixed; and the machines that they ran on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnexp.comparison.result import Outcome
from bnexp.comparison.varying import setting_text
from bnexp.config.keys import in_args, schema_keys
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.records import RecordedRun


@dataclass(frozen=True)
class ArmFacts:
    """One arm.

    Args:
        arm: its name.
        overrides: the overrides that define it.
        num_parameters: the different numbers of trainable parameters of its runs.
        seconds: median of its runs; None if none finished.
    """

    arm: str
    overrides: list[str]
    num_parameters: list[int]
    seconds: float | None


@dataclass(frozen=True)
class Configuration:
    """How the configurations of a study's runs relate.

    Args:
        arms: one entry per arm.
        differing: key -> arm -> values, of the keys in which arms differ at the same level.
        varied: key -> values, of the keys that vary alike in all arms (factors, seed).
        fixed: key -> value, of the keys with one value in all runs.
    """

    arms: list[ArmFacts]
    differing: dict[str, dict[str, str]]
    varied: dict[str, str]
    fixed: dict[str, str]


def gather(
    study: Mapping[str, Any], outcomes: Sequence[Outcome], runs: Mapping[str, RecordedRun], arms: Sequence[str]
) -> tuple[Configuration, list[DamagedRecord]]:
    """Compare the recorded configurations of runs. Presentation keys are left out.

    Args:
        study: the study's definition, for the overrides of each arm.
        outcomes: the planned runs.
        runs: run id -> records.
        arms: all arms, in the order of what is returned.

    Returns:
        How the configurations relate, and what is wrong with those that cannot be read.
    """
    overrides = study.get("arms") or {}
    shown = {info.name for info in schema_keys() if info.metadata["identity"]}
    known, problems = _settings(outcomes, runs)
    differing, varied, fixed = {}, {}, {}
    for key in dict.fromkeys(key for _, config in known for key in config if key in shown or in_args(key)):
        values = {setting_text(config.get(key)): None for _, config in known}
        if len(values) == 1:
            fixed[key] = next(iter(values))
        elif key != "seed" and _arms_differ(key, known):
            own = {arm: [setting_text(config.get(key)) for outcome, config in known if outcome.arm == arm] for arm in arms}
            differing[key] = {arm: ", ".join(dict.fromkeys(values)) for arm, values in own.items()}
        else:
            varied[key] = ", ".join(values)
    facts = [
        _facts(arm, overrides.get(arm, []), [runs[o.run_id] for o in outcomes if o.arm == arm and o.run_id in runs])
        for arm in arms
    ]
    return Configuration(facts, differing, varied, fixed), problems


def _settings(
    outcomes: Sequence[Outcome], runs: Mapping[str, RecordedRun]
) -> tuple[list[tuple[Outcome, dict[str, Any]]], list[DamagedRecord]]:
    known, problems = [], []
    for outcome in outcomes:
        try:
            if run := runs.get(outcome.run_id):
                known.append((outcome, run.settings))
        except DamagedRecord as damage:
            problems.append(damage)
        except FileNotFoundError:
            continue
    return known, problems


def _arms_differ(key: str, known: Sequence[tuple[Outcome, dict[str, Any]]]) -> bool:
    """Whether two arms have different values of ``key`` at the same level."""
    values: dict[str, dict[str, set[str]]] = {}
    for outcome, config in known:
        values.setdefault(outcome.level, {}).setdefault(outcome.arm, set()).add(setting_text(config.get(key)))
    return any(len({frozenset(found) for found in by_arm.values()}) > 1 for by_arm in values.values())


def _facts(arm: str, overrides: list[str], runs: Sequence[RecordedRun]) -> ArmFacts:
    summaries = [run.summary for run in runs if run.finished]
    sizes = sorted({summary.num_parameters for summary in summaries if summary.num_parameters is not None})
    seconds = [summary.seconds for summary in summaries]
    return ArmFacts(arm, overrides, sizes, float(np.median(seconds)) if seconds else None)


def environments(runs: Sequence[RecordedRun]) -> dict[str, list[str]]:
    """Device, versions and machine of all runs: name -> its different values."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for name, value in {"device": run.summary.device, **run.summary.environment}.items():
            if value is not None:
                found.setdefault(name, {})[value] = None
    return {name: list(values) for name, values in found.items()}
