"""What a study is made of: the overrides of its runs, and what is wrong with one before it trains."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from bnexp.config import ConfigError, RunConfig, StudyConfig
from bnexp.options import Direction
from bnexp.plan import digest, identity
from bnexp.schema import did_you_mean, final_metrics
from bnexp.validate import check_name, resolve_seeds


def jobs(study: StudyConfig) -> Iterator[list[str]]:
    """The overrides that make each run of a study: level by level, seed by seed, arms side by side."""
    choices = []
    for name, levels in study.factors.items():
        named = levels.items() if isinstance(levels, dict) else [(level, [f"{name}={_literal(level)}"]) for level in levels]
        choices.append([(name, level, list(changes)) for level, changes in named])
    for combination in itertools.product(*choices):
        levels = ",".join(f"{name}:{_literal(level)}" for name, level, _ in combination)
        changes = [change for _, _, level_changes in combination for change in level_changes]
        for seed in resolve_seeds(study.seeds):
            for arm, arm_changes in study.arms.items():
                yield [*arm_changes, *changes, f"seed={seed}", f"study.arm='{arm}'", f"+study.levels={{{levels}}}"]


def _literal(value: Any) -> str:
    """A value as Hydra's override grammar reads it back."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = str(value)
    return text if re.fullmatch(r"[\w.+-]+", text, re.ASCII) else "'" + text.replace("'", "\\'") + "'"


def merge(first: Sequence[str], then: Sequence[str]) -> list[str]:
    """Both override lists, without the entries of the first whose key the second sets again."""
    taken = {item.split("=", 1)[0] for item in then}
    return [item for item in first if item.split("=", 1)[0] not in taken] + list(then)


def check(study: StudyConfig, base: RunConfig, fixed: Sequence[str], swept: Sequence[str]) -> None:
    """Everything about a study that can be known before its runs are composed.

    ``base``: the configuration without arms; ``fixed`` and ``swept``: keys that the user set to one value, and to several.
    """
    where = f"study {study.name}"
    if len(study.arms) < 2:
        found = ", ".join(study.arms) or "none"
        raise ConfigError(f"{where} needs at least two arms to compare, and has {found}; add them under study.arms.")
    for word in (*study.arms, *study.factors):
        check_name(str(word), f"{where}: the name")
    if study.baseline is not None and study.baseline not in study.arms:
        hint = did_you_mean(study.baseline, list(study.arms))
        raise ConfigError(
            f"study.baseline={study.baseline} is not an arm of {where}: allowed are {', '.join(study.arms)}.{hint}"
        )
    for name, levels in study.factors.items():
        if not isinstance(levels, list | dict) or not levels:
            raise ConfigError(f"study.factors.{name} must be a list of levels, or a mapping of level names to overrides.")
    resolve_seeds(study.seeds)
    _check_metric(study, base)
    _check_varied(study, fixed, swept)


def _check_metric(study: StudyConfig, base: RunConfig) -> None:
    known = final_metrics(base)
    if study.metric not in known:
        hint = did_you_mean(study.metric, known)
        raise ConfigError(f"study.metric={study.metric} is not recorded: allowed are {', '.join(known)}.{hint}")
    if study.metric.endswith("/loss") and Direction.greater in (study.direction, *study.expect.values()):
        raise ConfigError(
            f"study.metric={study.metric} is better when it is lower, but the study expects it to be greater; "
            "add study.direction=less."
        )


def _check_varied(study: StudyConfig, fixed: Sequence[str], swept: Sequence[str]) -> None:
    """Refuse overrides of what the study itself sets."""
    where = f"study {study.name}"
    varied = {change.split("=", 1)[0] for changes in study.arms.values() for change in changes} | set(study.factors)
    for key in (*fixed, *swept):
        if key == "seed":
            raise ConfigError(f"seed has no effect in {where}, which runs several; set study.seeds=[...] instead.")
    for key in swept:
        if key.split(".")[0] in ("study", "track", "executor", "budget"):
            raise ConfigError(f"{key} cannot be a factor of {where}: run the study once for each of its values.")
    for key in fixed:
        if key in varied:
            raise ConfigError(
                f"{key} is what {where} varies ({', '.join(study.arms)}); leave it out, or train alone: bnexp train {key}=..."
            )


def check_runs(study: StudyConfig, configs: Sequence[RunConfig]) -> None:
    """Refuse runs that would be counted twice as evidence: arms, or levels, that are the same experiment."""
    where = f"study {study.name}"
    if len({(config.data.name, config.data.root) for config in configs}) > 1:
        raise ConfigError(f"{where} varies the data set, but chance and margin go with one; run it once for each: data=NAME.")
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for config in configs:
        level = _levels_text(config)
        cell = cells.setdefault((level, str(config.seed)), {})
        if config.study.arm in cell:
            raise ConfigError(f"{where}: the level {level} is there twice; leave one of them out.")
        cell[config.study.arm] = digest(identity(config))
    for arms in cells.values():
        for (one, first), (other, second) in itertools.combinations(arms.items(), 2):
            if first == second:
                raise ConfigError(f"{where}: the arms {one} and {other} are the same experiment; change one of them.")
    seen: dict[tuple[str, ...], str] = {}
    for (level, _), arms in cells.items():
        before = seen.setdefault(tuple(arms.values()), level)
        if before != level:
            raise ConfigError(f"{where}: the levels {before} and {level} are the same experiment; leave one of them out.")


def _levels_text(config: RunConfig) -> str:
    return " ".join(f"{name}={value}" for name, value in config.study.levels.items())
