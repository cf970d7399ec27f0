"""Checks of a resolved configuration: ranges and combinations, each with one clear sentence."""

from __future__ import annotations

import math
import re
from typing import Any

from bnexp.config import ConfigError, RunConfig
from bnexp.options import DataName, Device, ExecutorName, NormKind, OptimName, Precision
from bnexp.schema import KeyInfo, schema_keys


def resolve_seeds(seeds: Any) -> list[int]:
    """``study.seeds`` as a list: a count ``n`` means ``0 .. n-1``. Raises ConfigError on anything else."""
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
        if isinstance(value, int | float) and not isinstance(value, bool):
            _check_range(info, value)
    _check_combinations(config)


def _check_range(info: KeyInfo, value: float) -> None:
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
    for name, word in (("study.name", config.study.name), ("study.arm", config.study.arm)):
        if word:
            check_name(word, name)
    data, optim, train, norm = config.data, config.optim, config.train, config.norm
    if data.name in (DataName.image_folder, DataName.npz) and not data.root:
        what = "the folder with one folder a class" if data.name is DataName.image_folder else "the .npz file"
        raise ConfigError(f"data={data.name} needs data.root: {what}; add data.root=PATH.")
    if config.executor.address and config.executor.name is not ExecutorName.ray:
        raise ConfigError(
            f"executor.address={config.executor.address} has no effect with executor={config.executor.name}; add executor=ray."
        )
    if optim.name is OptimName.sgd and optim.nesterov and optim.momentum == 0:
        raise ConfigError("optim.nesterov=true needs optim.momentum above 0; set optim.momentum=0.9 or optim.nesterov=false.")
    if optim.warmup >= train.epochs and optim.warmup > 0:
        raise ConfigError(
            f"optim.warmup={optim.warmup:g} leaves no epoch to train: allowed is below train.epochs={train.epochs}; "
            "lower the one or raise the other."
        )
    if train.precision is Precision.tf32 and train.device in (Device.cpu, Device.mps):
        raise ConfigError(
            f"train.precision=tf32 needs a CUDA device, not train.device={train.device}; use train.precision=fp32."
        )
    if train.precision is Precision.fp64 and train.device is Device.mps:
        raise ConfigError("train.precision=fp64 does not exist on train.device=mps; use train.precision=fp32.")
    if norm.kind is NormKind.batch and train.batch_size == 1 and norm.linear:
        raise ConfigError(
            "norm.linear=true with train.batch_size=1 leaves one value a channel to normalise; "
            "raise train.batch_size to 2 or more, or set norm.linear=false."
        )
