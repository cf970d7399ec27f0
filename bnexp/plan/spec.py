"""Run specs: frozen configurations with their run id and fuse key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from enum import StrEnum
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexp.config.factory import Named, function_name
from bnexp.config.keys import ARGS, STEP_PROBES, schema_keys
from bnexp.config.options import DataName, InitScheme, ModelName, NormKind, OptimName, Order, Placement, ResidualInit, Schedule
from bnexp.config.schema import RunConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Weights = Mapping[str, NDArray[np.generic]]  # parameter or buffer name -> array, as in a plain torch module

# The keys that may differ between the runs of a cohort: they become one value per run, and change neither graph nor shapes.
PER_RUN = frozenset(
    {
        "seed",
        "model.dropout",
        "model.init.scheme",
        "model.init.gain",
        "model.init.layers",
        "norm.eps",
        "norm.momentum",
        "optim.lr",
        "optim.momentum",
        "optim.weight_decay",
        "optim.beta1",
        "optim.beta2",
        "optim.eps",
        "optim.schedule",
        "optim.warmup",
        "optim.step_epochs",
        "optim.step_gamma",
        "train.init_from",
    }
)

# Presentation keys in which the runs of a cohort must agree.
IN_COMMON = (
    "norm.backward",
    "train.device",
    "train.eval_batch_size",
    "train.kernels",
    "train.log_every",
    "track.predictions_every",
)


def flatten(config: RunConfig | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration as ``{dotted key: value}``, in its own order.

    Args:
        config: a configuration, or a recorded one as nested plain values. The value of a schema key stays whole even if it is a
            mapping, except for ``args`` of the user's functions. Those, and keys of another version of bnexp, which the schema
            does not have, are divided down to their last level.
        prefix: what all keys begin with, with its dot.
    """
    nested = config if isinstance(config, Mapping) else vars(config)
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        key = f"{prefix}{name}"
        if key not in _leaves() and _is_divided(value):
            flat |= flatten(value, f"{key}.")
        elif key not in ARGS or value:
            flat[key] = value
    return flat


def _is_divided(value: Any) -> bool:
    return is_dataclass(value) or (isinstance(value, Mapping) and bool(value))


@cache
def _leaves() -> frozenset[str]:
    return frozenset(info.name for info in schema_keys()) - set(ARGS)


def identity(config: RunConfig) -> dict[str, Any]:
    """The keys that decide what a run learns, with their values. Presentation keys and keys without an effect are left out.

    The directory of a published data set is presentation. An image folder or an npz file has no other name than its path, so
    for these the absolute path belongs to the identity. A function of the user's is known by its name, its arguments and its
    source, wherever the file lies.
    """
    left_out = {info.name for info in schema_keys() if not info.metadata["identity"]} | _unused(config)
    kept = {name: value for name, value in flatten(config).items() if name not in left_out}
    for name in ("data.factory", "model.factory"):
        if kept.get(name):
            kept[name] = function_name(kept[name])
    if "model.conv_bias" in kept:
        kept["model.conv_bias"] = config.model.has_conv_bias(config.norm)
    if not config.model.name.pools and kept.get("norm.placement") is Placement.after_pool:
        kept["norm.placement"] = Placement.after_activation
    if config.norm.kind.has_running_statistics and not config.norm.track_running_stats:
        kept["train.eval_batch_size"] = config.train.eval_batch_size  # evaluation normalises by its own batches
    if kept.get("norm.noise"):
        kept["norm.noise_of"] = "each activation"  # earlier versions drew one for each channel
    if kept.get("data.root"):
        kept["data.root"] = str(Path(kept["data.root"]).expanduser().resolve())
    return kept


def _unused(config: RunConfig) -> set[str]:
    """Keys that have no effect in this configuration: two configurations that differ only in them are the same experiment."""
    data, model, norm, optim, probe = config.data, config.model, config.norm, config.optim, config.probe
    unused: set[str] = set()
    if not data.name.own_files:
        unused |= {"data.root"}
    if not data.name.is_own:
        unused |= {"data.test_fraction"}
    if data.name is not DataName.python:
        unused |= {"data.factory", "data.args", "data.fingerprint"}
    unused |= unused_of_network(model.name)
    if data.order is not Order.grouped or data.group_classes == 1:
        unused |= {"data.group_classes"}
    if config.train.steps_per_epoch is None:
        unused |= {"train.steps_per_epoch"}
    if model.name is ModelName.lenet:
        unused |= {"model.depth", "model.width"}
    else:
        unused |= {"norm.linear"}
    if model.name is ModelName.mlp:
        unused |= {"model.conv_bias"}
    if not (model.dropout and model.has_linear_norm(norm)):
        unused |= {"model.dropout_side"}
    if model.name is not ModelName.resnet:
        unused |= {"model.init.residual"}
    sets_linear = model.init.residual is ResidualInit.fixup  # to zero
    if (model.init.scheme is InitScheme.torch and model.init.gain == 1) or sets_linear:
        unused |= {"model.init.layers"}
    unused |= _unused_norm_keys(config)
    unused |= _of_others("optim", optim.name)
    if optim.schedule is not Schedule.step:
        unused |= {"optim.step_epochs", "optim.step_gamma"}
    if not any(value is True for value in vars(probe).values()):
        unused |= {f"probe.{name}" for name in vars(probe)}
    if not any(getattr(probe, name) for name in STEP_PROBES):
        unused |= {"probe.per_epoch"}
    if not probe.similar:
        unused |= {"probe.jitter"}
    return unused


def unused_of_network(name: ModelName) -> set[str]:
    """The keys that have no effect because the network is, or is not, the user's own."""
    if name is ModelName.python:
        return {info.name for info in schema_keys() if info.metadata["built_in"]}
    return {"model.factory", "model.args", "model.fingerprint"}


def _unused_norm_keys(config: RunConfig) -> set[str]:
    norm = config.norm
    if norm.kind is NormKind.none:
        return {info.name for info in schema_keys() if info.name.startswith("norm.")} - {"norm.kind"} | {
            "train.norm_statistics"
        }
    unused = _of_others("norm", norm.kind)
    if not norm.kind.has_running_statistics:
        unused |= {"train.norm_statistics"}
    if not norm.track_running_stats:
        unused |= {"norm.momentum", "norm.statistics"}
    return unused


def _of_others(section: str, choice: NormKind | OptimName) -> set[str]:
    """The keys of ``section`` that other choices use but this one does not."""
    return {f"{section}.{key}" for other in type(choice) for key in other.own_keys - choice.own_keys}


def plain(value: Any) -> Any:
    """``value`` with enums, and names of code, as text at every depth, so that JSON and YAML can write it."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, StrEnum | Named) else value


def digest(value: Any, length: int = 12) -> str:
    """A short hexadecimal hash of a JSON-like value, the same on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True)
class RunSpec:
    """One planned training.

    Args:
        config: its validated configuration; treat it as read-only.
        initial: the weights that training starts from, which the runner reads from the store; None for newly drawn weights.
    """

    config: RunConfig
    initial: Weights | None = field(default=None, repr=False, compare=False)

    @cached_property
    def run_id(self) -> str:
        """Hash of the configuration without presentation keys: the same experiment has the same id everywhere."""
        return digest(identity(self.config))

    @cached_property
    def fuse_key(self) -> str:
        """Runs with equal fuse keys can train in one cohort."""
        kept = {name: value for name, value in identity(self.config).items() if name not in PER_RUN}
        flat = flatten(self.config)
        kept |= {name: flat[name] for name in IN_COMMON}
        if self.initial:  # weights that do not fit their network must fail their own run only
            kept["initial"] = {name: array.shape for name, array in self.initial.items()}
        return digest(kept)

    @property
    def study(self) -> str:
        """Name of the study that asked for this run; ``train`` for a run on its own."""
        return self.config.study.name or "train"

    @property
    def group(self) -> str:
        """Name of the study and its id: what the runs of one study share."""
        return f"{self.study}-{self.config.study.id}" if self.config.study.id else self.study

    @property
    def arm(self) -> str:
        """Name of the run's arm; the kind of its norm for a run on its own."""
        return self.config.study.arm or self.config.norm.kind

    @property
    def levels(self) -> dict[str, Any]:
        """Factor -> level; empty for a run on its own."""
        return self.config.study.levels

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.config.seed

    @property
    def label(self) -> str:
        """Name for people: arm, factor levels and seed."""
        return run_label(self.arm, self.levels, self.seed)

    def to_dict(self) -> dict[str, Any]:
        """The resolved configuration as nested plain values, without ``study.show``: that belongs to the study, not the run."""
        values = dict(plain(asdict(self.config)))
        del values["study"]["show"]
        return values


def run_label(arm: str, levels: Mapping[str, Any], seed: int | None) -> str:
    """Name of a run for people: arm, factor levels and seed."""
    shown = [f"{name.rsplit('.', 1)[-1]}={level}" for name, level in levels.items()]
    return " ".join([arm, *shown, f"seed={seed}"])


def unique(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """The specs without repeated run ids; the first occurrence is kept."""
    kept: dict[str, RunSpec] = {}
    for spec in specs:
        kept.setdefault(spec.run_id, spec)
    return list(kept.values())
