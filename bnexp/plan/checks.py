"""Finds what is wrong with a study before it trains."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from bnexp.config.keys import RECORDED_ONCE, did_you_mean, final_metrics, is_accuracy, matchable, metric_unit, schema_keys
from bnexp.config.options import Analysis, Direction
from bnexp.config.schema import ConfigError, RunConfig, StudyConfig
from bnexp.config.validate import MAX_RUNS, check_name, resolve_seeds
from bnexp.plan.deciding import check_decides
from bnexp.plan.shown import check_figures, check_shown
from bnexp.plan.spec import digest, identity
from bnexp.plan.study import BATCH_SIZE, levels_text, varied_keys


def check(study: StudyConfig, fixed: Sequence[str], swept: Sequence[str]) -> None:
    """Check everything about a study that can be known before its runs are composed.

    Args:
        study: with the swept keys among its factors.
        fixed: keys that the user set to one value.
        swept: keys that the user gave several values.

    Raises:
        ConfigError: the study cannot run.
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
    _check_number(study)
    _check_varied(study, fixed, swept)
    _check_analysis(study)
    check_decides(study)
    check_shown(study)
    if study.tune.grid:
        _check_tuning(study, fixed)
    if study.refine.ratio is not None:
        _check_refining(study)
    if study.pretrain and "train.init_from" in varied_keys(study) | set(fixed):
        raise ConfigError(f"train.init_from is set by study.pretrain of {where}; leave one of the two out.")


def _check_number(study: StudyConfig) -> None:
    """Refuse more than ``MAX_RUNS`` runs. To be called before the runs are listed, which would take minutes."""
    counts = {"arms": len(study.arms)} | {name: len(levels) for name, levels in study.factors.items()}
    counts["seeds"] = len(resolve_seeds(study.seeds))
    asked = [counts, counts | {"study.tune.grid": len(study.tune.grid), "seeds": len(study.tune.seeds)}]
    for factors in asked:
        if (number := math.prod(factors.values())) > MAX_RUNS:
            product = " x ".join(f"{count:,} {name}" for name, count in factors.items())
            raise ConfigError(
                f"study {study.name} asks for {number:,} runs ({product}): allowed are at most {MAX_RUNS:,}; leave some out."
            )


def _check_varied(study: StudyConfig, fixed: Sequence[str], swept: Sequence[str]) -> None:
    """Refuse overrides of keys that the study itself sets."""
    where = f"study {study.name}"
    for key in (*fixed, *swept):
        if key == "seed":
            raise ConfigError(f"seed has no effect in {where}, which runs several; set study.seeds=[...] instead.")
    for key in swept:
        if key.split(".")[0] in ("study", "track", "executor", "budget"):
            raise ConfigError(f"{key} cannot be a factor of {where}: run the study once for each of its values.")
    for key in fixed:
        if key in varied_keys(study):
            raise ConfigError(
                f"{key} is what {where} varies ({', '.join(study.arms)}); leave it out, or train alone: bnexp train {key}=..."
            )


def _check_analysis(study: StudyConfig) -> None:
    """Refuse an analysis that needs factors, levels, a baseline or a metric that the study does not have."""
    analysis, sizes = study.analysis, {name: len(levels) for name, levels in study.factors.items()}
    named = " and ".join(f"{name} with {size}" for name, size in sizes.items()) or "none"
    have = f"study.analysis={analysis} needs %s in study.factors of study {study.name}; there is {named}."
    least = ("no", "one", "two", "three", "four", "five")[analysis.least_levels]
    order = " in order" if analysis.needs_order else ""
    if analysis.needs_one_factor and (len(sizes) != 1 or min(sizes.values()) < analysis.least_levels):
        raise ConfigError(have % f"exactly one factor, of at least {least} levels{order},")
    if max(sizes.values(), default=0) < analysis.least_levels:
        raise ConfigError(have % f"a factor of at least {least} levels")
    if analysis.needs_baseline and study.baseline is None:
        raise ConfigError(
            f"study.analysis={analysis} needs an arm to compare with; set study.baseline to one of {', '.join(study.arms)}."
        )
    if analysis.needs_accuracy and not all(is_accuracy(metric) for metric in _metrics(study).values()):
        raise ConfigError(f"study.analysis={analysis} needs an accuracy as study.metric; set study.metric=test/accuracy.")


def _check_tuning(study: StudyConfig, fixed: Sequence[str]) -> None:
    """Refuse a tuning whose key, grid or seeds cannot be used."""
    where, tune = f"study {study.name}", study.tune
    known = [info.name for info in schema_keys() if info.is_number]
    if tune.setting not in known:
        hint = did_you_mean(tune.setting, known)
        raise ConfigError(f"study.tune.setting={tune.setting} is not a key whose value is a number, like optim.lr.{hint}")
    if tune.setting in varied_keys(study) | set(fixed):
        raise ConfigError(
            f"{tune.setting} is tuned in {where}, so it can be neither set nor varied; leave it out, or add study.tune.grid=[]."
        )
    if len(tune.grid) < 2 or len(set(tune.grid)) < len(tune.grid) or min(tune.grid) <= 0:
        raise ConfigError(f"study.tune.grid={tune.grid} is not possible: allowed are two or more different numbers above 0.")
    _check_linear_rule(study)
    if not tune.seeds or len(set(tune.seeds)) < len(tune.seeds) or min(tune.seeds) < 0:
        raise ConfigError(f"study.tune.seeds={tune.seeds} is not possible: allowed are different integers of at least 0.")
    if both := sorted(set(tune.seeds) & set(resolve_seeds(study.seeds))):
        raise ConfigError(
            f"study.tune.seeds and study.seeds of {where} share {', '.join(map(str, both))}: runs that choose a value must not "
            "judge it too; change study.tune.seeds."
        )


def _check_linear_rule(study: StudyConfig) -> None:
    """Refuse a linear rule that has no arm, or no batch size, to take a value from."""
    rule, key = study.tune.linear, f"study.tune.linear of study {study.name}"
    if not rule.arm:
        return
    for name, arm in (("arm", rule.arm), ("of", rule.of)):
        if arm not in study.arms or (name == "of" and arm == rule.arm):
            others = [other for other in study.arms if name == "arm" or other != rule.arm]
            raise ConfigError(f"{key} has {name}={arm}: allowed is one of {', '.join(others)}.{did_you_mean(arm, others)}")
    sizes = study.factors.get(BATCH_SIZE, [])
    if not isinstance(sizes, list) or rule.batch_size not in sizes:
        there = ", ".join(map(str, sizes)) or "none"
        raise ConfigError(f"{key} has batch_size={rule.batch_size}: it must be a level of {BATCH_SIZE}; there is {there}.")


def _check_refining(study: StudyConfig) -> None:
    """Refuse to refine levels between which there is no middle, or of which no largest one is looked for."""
    where = f"study.refine.ratio={study.refine.ratio:g} of study {study.name}"
    if study.analysis is not Analysis.sensitivity:
        raise ConfigError(f"{where} goes with study.analysis=sensitivity, not {study.analysis}; set study.refine.ratio=null.")
    ((name, levels),) = study.factors.items()
    if not isinstance(levels, list) or name not in [info.name for info in schema_keys() if info.is_number]:
        raise ConfigError(
            f"{where} needs a list of levels of a key whose value is a number, like optim.lr, and not of {name}; set "
            "study.refine.ratio=null."
        )
    if low := [level for level in levels if not _is_positive(level)]:
        raise ConfigError(
            f"{where} needs levels above 0, and not {name}={low[0]}; leave it out, or set study.refine.ratio=null."
        )


def _is_positive(level: Any) -> bool:
    """Whether a level is a number above 0, or its text."""
    try:
        return 0 < float(level) < math.inf
    except (TypeError, ValueError):
        return False


def check_runs(study: StudyConfig, configs: Sequence[RunConfig]) -> None:
    """Check the composed runs of a study.

    Args:
        study: its definition.
        configs: of all its runs, in any order.

    Raises:
        ConfigError: a run does not record what is compared, or two arms or levels are the same experiment, so that their
            evidence would be counted twice.
    """
    where = f"study {study.name}"
    if len({(config.data.name, config.data.root) for config in configs}) > 1:
        raise ConfigError(f"{where} varies the data set, but chance and margin go with one; run it once for each: data=NAME.")
    _check_metrics(study, configs)
    if study.analysis is Analysis.matched:
        _check_match(study, configs)
    _check_validation(study, configs)
    check_figures(study, configs)
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for config in configs:
        level = levels_text(config.study.levels)
        cell = cells.setdefault((level, str(config.seed)), {})
        if config.study.arm in cell:
            raise ConfigError(f"{where}: the level {level} is there twice; leave one of them out.")
        cell[config.study.arm] = digest(identity(config))
    metrics = _metrics(study)
    for arms in cells.values():
        for (one, first), (other, second) in itertools.combinations(arms.items(), 2):
            by_rule = study.tune.grid and study.tune.linear.arm in (one, other)  # their values differ once they are tuned
            if (first, metrics[one]) == (second, metrics[other]) and not by_rule:
                raise ConfigError(f"{where}: the arms {one} and {other} are the same experiment; change one of them.")
    seen: dict[tuple[str, ...], str] = {}
    for (level, _), arms in cells.items():
        before = seen.setdefault(tuple(arms.values()), level)
        if before != level:
            raise ConfigError(f"{where}: the levels {before} and {level} are the same experiment; leave one of them out.")


def _metrics(study: StudyConfig) -> dict[str, str]:
    """Arm -> the metric that is read from its runs."""
    return {arm: study.metrics.get(arm, study.metric) for arm in study.arms}


def _check_metrics(study: StudyConfig, configs: Sequence[RunConfig]) -> None:
    """Refuse metrics that a run does not record, that have different units, or that improve against the expected direction."""
    if unknown := [arm for arm in study.metrics if arm not in study.arms]:
        hint = did_you_mean(unknown[0], list(study.arms))
        raise ConfigError(f"study.metrics names {unknown[0]}, which is not an arm: allowed are {', '.join(study.arms)}.{hint}")
    metrics = _metrics(study)
    for config in configs:
        arm, known = config.study.arm, final_metrics(config)
        if metrics[arm] not in known:
            key = f"study.metrics.{arm}" if arm in study.metrics else "study.metric"
            hint = did_you_mean(metrics[arm], known)
            raise ConfigError(f"{key}={metrics[arm]} is not recorded: allowed are {', '.join(known)}.{hint}")
    units = {metric_unit(metric) for metric in metrics.values()}
    if len(units) > 1:
        named = ", ".join(dict.fromkeys(metrics.values()))
        raise ConfigError(f"study.metrics compares what has different units: {named}; name metrics of one kind.")
    expected = (study.direction, *(part.expect for part in study.decides))
    for metric in metrics.values():
        if metric.endswith("/loss") and Direction.greater in expected and study.analysis.judges_metric:
            raise ConfigError(
                f"study.metric={metric} is better when it is lower, but the study expects it to be greater; "
                "add study.direction=less."
            )


def _check_match(study: StudyConfig, configs: Sequence[RunConfig]) -> None:
    """Refuse to compare at equal values of what a run does not record, or what it records only once, at the end."""
    if study.metrics:
        raise ConfigError("study.analysis=matched compares one metric; leave out study.metrics.")
    for config in configs:
        known = matchable(config)
        if study.match not in known:
            hint = did_you_mean(study.match, known)
            raise ConfigError(f"study.match={study.match} is not recorded in training: allowed are {', '.join(known)}.{hint}")
    if study.metric.split("/")[0] in RECORDED_ONCE:
        raise ConfigError(
            f"study.metric={study.metric} is recorded once, so it has no value at another {study.match}; choose a metric of "
            "every epoch, or study.analysis=levels."
        )


def _check_validation(study: StudyConfig, configs: Sequence[RunConfig]) -> None:
    """Refuse an analysis or a tuning that needs validation images if a run keeps none."""
    needs = [f"study.analysis={study.analysis}"] if study.analysis.needs_validation else []
    needs += ["study.tune.grid"] if study.tune.grid else []
    if needs and any(config.data.val_fraction == 0 for config in configs):
        raise ConfigError(f"{needs[0]} of study {study.name} needs validation images; set data.val_fraction above 0.")


def check_pretraining(study: StudyConfig, config: RunConfig, pretraining: RunConfig) -> None:
    """Refuse a pretraining with another norm than the run that starts from it. Raises ConfigError."""
    if config.norm.kind is not pretraining.norm.kind:
        raise ConfigError(
            f"study.pretrain of study {study.name} gives norm.kind={pretraining.norm.kind}, but a run of the arm "
            f"{config.study.arm} has norm.kind={config.norm.kind}; leave norm out of study.pretrain."
        )
