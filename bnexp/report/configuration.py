"""What the runs of a study were: how their configurations differ, what was held fixed, and where they ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnexp.compare.result import Outcome
from bnexp.schema import schema_keys
from bnexp.tracking.store import RecordedRun


@dataclass(frozen=True)
class ArmFacts:
    """One arm: the overrides that define it, its number of trainable parameters, and the median seconds of a run."""

    arm: str
    overrides: list[str]
    num_parameters: list[int]
    seconds: float | None


@dataclass(frozen=True)
class Configuration:
    """``differing``: key -> arm -> values, where arms differ at the same level; ``varied``: keys that the study varies alike
    in all arms (factors, seed) -> values; ``fixed``: keys with one value in every run -> value."""

    arms: list[ArmFacts]
    differing: dict[str, dict[str, str]]
    varied: dict[str, str]
    fixed: dict[str, str]


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration as ``{dotted key: value}``; lists stay values."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def gather(
    study: Mapping[str, Any], outcomes: Sequence[Outcome], runs: Mapping[str, RecordedRun], arms: Sequence[str]
) -> Configuration:
    """Compare the recorded configurations of all runs that have one; keys of presentation are left out.

    ``study``: the study's definition, for the overrides of each arm; ``runs``: run id -> records.
    """
    overrides = study.get("arms") or {}
    shown = {info.name for info in schema_keys() if info.metadata["identity"]}
    known = [(o, flatten(runs[o.run_id].config)) for o in outcomes if (runs[o.run_id].path / "config.yaml").exists()]
    differing, varied, fixed = {}, {}, {}
    for key in dict.fromkeys(key for _, config in known for key in config if key in shown):
        values = {text(config.get(key)): None for _, config in known}
        if len(values) == 1:
            fixed[key] = next(iter(values))
        elif key != "seed" and _arms_differ(key, known):
            differing[key] = {arm: ", ".join(dict.fromkeys(text(c.get(key)) for o, c in known if o.arm == arm)) for arm in arms}
        else:
            varied[key] = ", ".join(values)
    facts = [
        _facts(arm, [str(o) for o in overrides.get(arm, [])], [runs[o.run_id] for o in outcomes if o.arm == arm])
        for arm in arms
    ]
    return Configuration(facts, differing, varied, fixed)


def _arms_differ(key: str, known: Sequence[tuple[Outcome, dict[str, Any]]]) -> bool:
    """Whether two arms have other values of ``key`` at the same level."""
    values: dict[str, dict[str, set[str]]] = {}
    for outcome, config in known:
        values.setdefault(outcome.level, {}).setdefault(outcome.arm, set()).add(text(config.get(key)))
    return any(len({frozenset(found) for found in by_arm.values()}) > 1 for by_arm in values.values())


def _facts(arm: str, overrides: list[str], runs: Sequence[RecordedRun]) -> ArmFacts:
    summaries = [run.summary for run in runs if run.finished]
    sizes = sorted({int(s["num_parameters"]) for s in summaries if s.get("num_parameters") is not None})
    seconds = [float(s["seconds"]) for s in summaries if s.get("seconds") is not None]
    return ArmFacts(arm, overrides, sizes, float(np.median(seconds)) if seconds else None)


def environments(runs: Sequence[RecordedRun]) -> dict[str, list[str]]:
    """Device, versions and machine of all runs: name -> the different values found."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for name, value in {"device": run.summary.get("device"), **(run.summary.get("environment") or {})}.items():
            if value is not None:
                found.setdefault(str(name), {})[str(value)] = None
    return {name: list(values) for name, values in found.items()}


def text(value: Any) -> str:
    """A configuration value as a person would type it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(text(item) for item in value) + "]"
    return str(value)
