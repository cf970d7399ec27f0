"""Checks of a resolved configuration: ranges and combinations, each with one clear sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from bnexp.config.keys import KeyInfo, alternatives, did_you_mean, final_metrics, schema_keys
from bnexp.config.options import (
    DataName,
    Device,
    ExecutorName,
    InitLayers,
    ModelName,
    NormKind,
    NormStatistics,
    Order,
    Precision,
    ResidualInit,
    Statistics,
    Trainable,
)
from bnexp.config.schema import ConfigError, RunConfig, TrainConfig

MAX_RUNS = 100_000  # of one command; more are a typing mistake, and would take minutes to plan


def resolve_seeds(seeds: Any) -> list[int]:
    """``study.seeds`` as a list: a count ``n`` means ``0 .. n-1``. Raises ConfigError on anything else."""
    if isinstance(seeds, int) and seeds > MAX_RUNS:
        raise ConfigError(f"study.seeds={seeds} is too many: allowed are at most {MAX_RUNS:,} runs.")
    if isinstance(seeds, int) and not isinstance(seeds, bool) and seeds > 0:
        return list(range(seeds))
    listed = isinstance(seeds, list) and all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in seeds)
    if listed and 0 < len(seeds) == len(set(seeds)):
        return list(seeds)
    raise ConfigError(
        f"study.seeds={seeds} is not possible: allowed is a count above 0 or a list of different integers of at least 0; "
        "try study.seeds=6 or study.seeds=[0,1,2]."
    )


def validate(config: RunConfig) -> None:
    """Check ranges and combinations of one resolved configuration. Raises ConfigError with the first problem."""
    for info in schema_keys():
        value: Any = config
        for part in info.name.split("."):
            value = getattr(value, part)
        if info.metadata["choices"] and value is not None and value not in info.metadata["choices"]:
            raise ConfigError(f"{info.name}={value} is not possible: allowed is {info.allowed()} ({info.help}).")
        if isinstance(value, int | float):
            check_range(info, value)
    _check_combinations(config)


def check_range(info: KeyInfo, value: float) -> None:
    """Raise ConfigError unless ``value`` is in the range of its key."""
    m = info.metadata
    inside = (
        math.isfinite(value)
        and (m["low"] is None or value >= m["low"])
        and (m["above"] is None or value > m["above"])
        and (m["high"] is None or value <= m["high"])
        and (m["below"] is None or value < m["below"])
    )
    if not inside:
        raise ConfigError(f"{info.name}={value:g} is out of range: allowed is {info.allowed()} ({info.help}).")


def check_name(word: str, what: str) -> None:
    """Raise ConfigError unless ``word`` can be the name of a study, an arm or a factor, and so of a directory."""
    if not re.fullmatch(r"[\w-][\w.-]*", word):
        raise ConfigError(f"{what} {word!r} is not possible: use letters, digits, '_', '-' and, not first, '.'.")


def _check_combinations(config: RunConfig) -> None:
    """Raise ConfigError if keys that are possible on their own do not go together."""
    for name, word in (("study.name", config.study.name), ("study.arm", config.study.arm)):
        if word:
            check_name(word, name)
    if config.executor.address and config.executor.name is not ExecutorName.ray:
        raise ConfigError(
            f"executor.address={config.executor.address} has no effect with executor={config.executor.name}; add executor=ray."
        )
    if config.optimized_metric is not None and config.optimized_metric not in (known := final_metrics(config)):
        hint = did_you_mean(config.optimized_metric, known, "optimized_metric")
        allowed = alternatives(hint, "are " + ", ".join(known))
        raise ConfigError(f"optimized_metric={config.optimized_metric} is not recorded by these runs{allowed}")
    _check_data(config)
    _check_model(config)
    _check_norm(config)
    _check_optim(config)
    _check_precision(config.train)
    _check_transfer(config)


def _check_data(config: RunConfig) -> None:
    data, batch_size = config.data, config.train.batch_size
    if data.name.own_files and not data.root:
        raise ConfigError(f"data={data.name} needs data.root: {data.name.own_files}; add data.root=PATH.")
    _check_code("data", data.name is DataName.python, data.factory, data.args)
    if data.group_classes > 1 and data.order is not Order.grouped:
        raise ConfigError(
            f"data.group_classes={data.group_classes} has no effect with data.order={data.order}; set data.order=grouped, or "
            "leave it out."
        )
    if batch_size % data.duplicates:
        raise ConfigError(
            f"data.duplicates={data.duplicates} does not divide train.batch_size={batch_size}, so a batch cannot hold each "
            "image so many times; choose a divisor."
        )


def _check_code(section: str, is_python: bool, factory: str | None, args: dict[str, Any]) -> None:
    """Raise ConfigError unless a function is named where one is used, and nowhere else."""
    if is_python and not factory:
        raise ConfigError(
            f"{section}=python needs {section}.factory: a function of yours; add {section}.factory=FILE.py:FUNCTION or "
            f"{section}.factory=PACKAGE.MODULE:FUNCTION."
        )
    if not is_python and (factory or args):
        given = f"{section}.factory={factory}" if factory else f"{section}.args"
        raise ConfigError(f"{given} is used with {section}=python only; add {section}=python, or leave it out.")
    _check_plain(f"{section}.args", args)


def _check_plain(name: str, value: Any) -> None:
    """Raise ConfigError unless a value can be written in a record and read back: its hash is part of the run's id."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ConfigError(f"{name} has the key {key!r}: allowed are texts; put it in quotes.")
            _check_plain(f"{name}.{key}", item)
    elif isinstance(value, list):
        for item in value:
            _check_plain(name, item)
    elif not isinstance(value, str | int | float | None):
        kind = type(value).__name__
        raise ConfigError(f"{name} is of type {kind}: allowed are texts, numbers, true, false, null, lists and mappings.")


def _check_built_in(config: RunConfig) -> None:
    """Raise ConfigError if a key that only bnexp's own networks use is set for a network of the user's."""
    usual = RunConfig().model
    for info in schema_keys():
        section, _, name = info.name.partition(".")
        if section == "model" and info.metadata["built_in"]:
            value, default = (attrgetter(name)(model) for model in (config.model, usual))
            if value != default:
                raise no_effect(info.name, value)


def no_effect(name: str, value: Any) -> ConfigError:
    """The error for a key that only bnexp's own networks use, where the network is the user's."""
    if name.startswith("norm."):
        why = "where your function calls norm() there is one; leave it out"
    else:
        last = name.rpartition(".")[2]
        why = f"your function makes the network; leave it out, or give it to the function: model.args.{last}={value}"
    return ConfigError(f"{name}={value} has no effect with model=python: {why}.")


def _check_model(config: RunConfig) -> None:
    model = config.model
    _check_code("model", model.name is ModelName.python, model.factory, model.args)
    if model.name is ModelName.python:
        _check_built_in(config)
        return
    if model.dropout and not model.name.has_hidden_units:
        raise ConfigError(
            f"model.dropout={model.dropout:g} has no effect with model.name={model.name}, which has no hidden linear layer; "
            "set model.dropout=0 or use model=lenet or model=mlp."
        )
    if model.init.layers is InitLayers.conv and model.name is ModelName.mlp:
        raise ConfigError(
            "model.init.layers=conv names no layer of model.name=mlp, which has no convolution; set model.init.layers=all."
        )
    _check_residual(config)


def _check_residual(config: RunConfig) -> None:
    model, residual, kind = config.model, config.model.init.residual, config.norm.kind
    if model.name is not ModelName.resnet:
        if residual is not ResidualInit.none:
            raise ConfigError(
                f"model.init.residual={residual} has no effect with model.name={model.name}, which has no residual branch; set "
                "model.init.residual=none or use model=resnet."
            )
        return
    if model.depth % 6 != 2 or model.depth < 8:
        raise ConfigError(
            f"model.depth={model.depth} is no depth of model.name=resnet: allowed are 6n+2 layers, so 8, 14, 20, 26, ..., 50; "
            "try model.depth=8."
        )
    if residual is ResidualInit.fixup and kind is not NormKind.none:
        raise ConfigError(
            f"model.init.residual=fixup is made for networks without norm, not for norm.kind={kind}; set norm=none, or "
            "model.init.residual=zero."
        )


def _check_groups(groups: int, widths: Sequence[int]) -> None:
    """Raise ConfigError unless the groups divide every width. Whether a group has two values is checked by the layers."""
    common = math.gcd(*widths)
    if common % groups:
        allowed = ", ".join(str(g) for g in range(1, common + 1) if common % g == 0)
        layers = ", ".join(map(str, widths))
        raise ConfigError(
            f"norm.groups={groups} does not divide the channels of every normalised layer ({layers}): allowed is {allowed}."
        )


def _check_norm(config: RunConfig) -> None:
    norm, batch_size = config.norm, config.train.batch_size
    if norm.kind.needs_maps and config.model.has_linear_norm(norm):
        raise ConfigError(
            f"norm.kind={norm.kind} cannot normalise linear layers, where each image has a single value per channel; "
            f"{_without_linear_norm(config)}."
        )
    if "groups" in norm.kind.own_keys:
        _check_groups(norm.groups, config.model.normalised_widths(norm))
    if not norm.kind.has_running_statistics:
        return
    ghost_size = norm.ghost_size if "ghost_size" in norm.kind.own_keys else None
    if ghost_size is not None and ghost_size > batch_size:
        raise ConfigError(
            f"norm.ghost_size={ghost_size} is more than train.batch_size={batch_size}: allowed is at most {batch_size} or "
            "null (the whole batch)."
        )
    if norm.kind is NormKind.batch_renorm and not norm.track_running_stats:
        raise ConfigError(
            "norm=batch_renorm corrects by running statistics, which norm.track_running_stats=false leaves out; "
            "set norm.track_running_stats=true or norm=batch."
        )
    if norm.statistics is Statistics.precise and not norm.track_running_stats:
        raise ConfigError(
            "norm.statistics=precise has no effect with norm.track_running_stats=false: evaluation then normalises by its own "
            "batches; set one of them to its default."
        )
    by_batch = config.train.norm_statistics is NormStatistics.live
    if by_batch and (ghost_size or batch_size) <= config.data.duplicates and config.model.has_linear_norm(norm):
        shown = "null" if norm.ghost_size is None else norm.ghost_size
        raise ConfigError(
            f"norm.kind={norm.kind} needs two different images to normalise linear layers, and train.batch_size={batch_size}, "
            f"norm.ghost_size={shown} and data.duplicates={config.data.duplicates} leave one; raise the sizes, lower "
            f"the duplicates, or {_without_linear_norm(config)}."
        )


def _without_linear_norm(config: RunConfig) -> str:
    """How to fix a norm that cannot normalise the hidden linear layers."""
    if config.model.name is ModelName.lenet:
        return "set norm.linear=false"
    return "choose norm=layer or norm=group"


def _check_optim(config: RunConfig) -> None:
    optim, epochs = config.optim, config.train.epochs
    if "nesterov" in optim.name.own_keys and optim.nesterov and optim.momentum == 0:
        raise ConfigError("optim.nesterov=true needs optim.momentum above 0; set optim.momentum=0.9 or optim.nesterov=false.")
    if optim.warmup >= epochs:
        raise ConfigError(
            f"optim.warmup={optim.warmup:g} leaves no epoch to train: allowed is below train.epochs={epochs}; "
            "lower optim.warmup or raise train.epochs."
        )


def _check_precision(train: TrainConfig) -> None:
    if train.precision is Precision.tf32 and train.device in (Device.cpu, Device.mps):
        raise ConfigError(
            f"train.precision=tf32 needs a CUDA device, not train.device={train.device}; use train.precision=fp32."
        )
    if train.precision is Precision.fp64 and train.device is Device.mps:
        raise ConfigError("train.precision=fp64 does not exist on train.device=mps; use train.precision=fp32.")


def _check_transfer(config: RunConfig) -> None:
    train, norm = config.train, config.norm
    if train.trainable in (Trainable.norm, Trainable.norm_head) and (norm.kind is NormKind.none or not norm.affine):
        lacking = "norm.kind=none" if norm.kind is NormKind.none else "norm.affine=false"
        raise ConfigError(
            f"train.trainable={train.trainable} finds no scale and shift of norms to train with {lacking}; "
            "use norm=batch with norm.affine=true, or train.trainable=head."
        )
    if train.norm_statistics is NormStatistics.live or not norm.kind.has_running_statistics:
        return
    if not norm.track_running_stats:
        raise ConfigError(
            f"train.norm_statistics={train.norm_statistics} needs running statistics; set norm.track_running_stats=true or "
            "train.norm_statistics=live."
        )
    if train.norm_statistics is NormStatistics.frozen and not (train.init_from or config.study.pretrain):
        raise ConfigError(
            "train.norm_statistics=frozen needs a trained run whose running statistics it keeps; add train.init_from=RUN, or "
            "set train.norm_statistics=recomputed or live."
        )
