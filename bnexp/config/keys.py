"""What is known about the configuration keys: names, types, allowed values, and the metrics that runs record."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from bnexp.config.schema import ProbeConfig, RunConfig
from bnexp.config.synonyms import meant_key, meant_value

# The size of an effect depends on these settings. So a verdict names them if all runs of the study agree in them.
ALWAYS_NAMED = ("data.name", "model.name", "optim.name", "optim.lr", "optim.momentum", "train.batch_size", "train.epochs")
# The same, but named only if they are not at their default.
NAMED_IF_CHANGED = (
    "data.factory",
    "model.factory",
    "data.train_size",
    "train.steps_per_epoch",
    "data.augment",
    "data.channels",
    "model.activation",
    "model.dropout",
    "model.init.scheme",
    "model.init.gain",
    "norm.eps",
    "norm.momentum",
    "optim.nesterov",
    "optim.weight_decay",
    "optim.schedule",
    "optim.warmup",
    "train.precision",
)

# Probe -> the metrics that it adds to a finished run, see ``ProbeConfig``.
PROBE_METRICS: dict[str, tuple[str, ...]] = {
    item.name: item.metadata["records"] for item in fields(ProbeConfig) if item.metadata["records"]
}

# Probes that measure inside epochs, ``probe.per_epoch`` times in each, and record every measurement with its step.
STEP_PROBES = ("activations", "gradients", "covariate_shift", "landscape", "oscillation", "decoupling", "similar")

# Splits and probes whose metrics a run records once, at its beginning or end.
RECORDED_ONCE = ("test", "statistics", "cost", "initial_gradients")

# Positive quantities without a natural scale: a difference between them depends on the network, a ratio says more.
COMPARED_BY_RATIO = (
    "activations/drift",
    "covariate_shift/l2",
    "covariate_shift/relative_l2",
    "landscape/loss_range",
    "landscape/gradient_change",
    "landscape/relative_gradient_change",
    "landscape/beta",
    "oscillation/loss",
    "similar/output_deviation",
    "similar/backward_gain",
)

# What every run records for each part of the data, and whether larger or smaller values are better.
SPLITS = ("train", "val", "test")
OF_SPLIT = {"loss": "min", "accuracy": "max"}
OF_EVALUATION = {"ece": "min"}  # not of train/*, which are running values over weights that change
OF_TRAINING = ("learning_rate", "time/epoch_seconds", "time/images_per_second")


def of_split(split: str) -> dict[str, str]:
    """What every run records of one of ``SPLITS``, and whether smaller (``min``) or larger (``max``) values are better."""
    return OF_SPLIT if split == "train" else OF_SPLIT | OF_EVALUATION


def final_metrics(config: RunConfig) -> list[str]:
    """The metrics that a finished run of ``config`` has recorded. A study can compare any of them."""
    splits = [split for split in SPLITS if split != "val" or config.data.val_fraction > 0]
    probed = [metric for probe, metrics in PROBE_METRICS.items() if getattr(config.probe, probe) for metric in metrics]
    missing = _undefined(config)
    return [
        *(f"{split}/{name}" for split in splits for name in of_split(split)),
        *OF_TRAINING,
        *(metric for metric in probed if metric not in missing),
    ]


def _undefined(config: RunConfig) -> set[str]:
    """Probe metrics that make no sense under ``config``."""
    undefined = set() if config.data.val_fraction > 0 else {"gap/loss", "gap/accuracy"}
    if config.norm.kind.has_running_statistics:
        if config.model.has_linear_norm(config.norm):
            undefined |= {
                "statistics/batch_1",
                "statistics/shifted/batch_1",
            }  # a batch of one image gives one value per unit, which has no variance
        if not config.norm.track_running_stats:
            undefined |= {f"statistics/{name}" for name in ("running", "precise", "after_training_mode", "shifted/running")}
    return undefined


def is_accuracy(metric: str) -> bool:
    """Whether a metric is an accuracy or a difference of two, recorded as a fraction."""
    return "accuracy" in metric or metric.startswith("statistics/")


def matchable(config: RunConfig) -> list[str]:
    """The metrics that tell how far a training of ``config`` is, so that others can be compared at the same value of them."""
    splits = ["train", *(["val"] if config.data.val_fraction > 0 else []), *(["train_eval"] if config.probe.gap else [])]
    return [f"{split}/{name}" for split in splits for name in ("loss", "accuracy")]


def grows_in_training(metric: str) -> bool:
    """Whether larger values of a metric of ``matchable`` mean that a training is further: of accuracies, not of losses."""
    return metric.endswith("/accuracy")


def larger_is_better(metric: str) -> bool:
    """Whether a search for the best value of a metric looks for the largest: of accuracies and throughput, not of losses."""
    return is_accuracy(metric) or metric == "time/images_per_second"


def metric_unit(metric: str) -> str:
    """The unit a metric is shown in: ``pp`` for accuracies and calibration errors, which are differences of accuracies from
    confidences; ``nats`` for losses; empty if it is shown as recorded.
    """
    if is_accuracy(metric) or metric.endswith("/ece"):
        return "pp"
    return "nats" if "loss" in metric else ""


@dataclass(frozen=True)
class KeyInfo:
    """One configuration key.

    Args:
        name: dotted, such as ``optim.lr``.
        type: its type annotation in the schema.
        help: its meaning.
        metadata: the other arguments of ``schema.key``: bounds, choices and so on.
    """

    name: str
    type: Any
    help: str
    metadata: dict[str, Any]

    @property
    def choices(self) -> list[str]:
        """The values of an enumerated key as text; empty if the key is not enumerated."""
        enum = next((t for t in self._types if isinstance(t, type) and issubclass(t, StrEnum)), ())
        switch = ("true", "false") if bool in self._types else ()
        return [str(choice) for choice in (*self.metadata["choices"], *enum, *switch)]

    @property
    def _types(self) -> tuple[Any, ...]:
        return get_args(self.type) if isinstance(self.type, UnionType) else (self.type,)

    @property
    def optional(self) -> bool:
        """Whether null is allowed."""
        return type(None) in self._types

    @property
    def is_number(self) -> bool:
        """Whether values are numbers, integers included."""
        return self.is_integer or float in self._types

    @property
    def is_integer(self) -> bool:
        """Whether values are integers."""
        return int in self._types

    @property
    def is_mapping(self) -> bool:
        """Whether values are mappings."""
        return get_origin(self.type) is dict

    def allowed(self) -> str:
        """The allowed values, as a phrase: ``none, batch`` or ``a number above 0``."""
        if self.choices:
            return ", ".join(self.choices) + (" or null" if self.optional else "")
        if not self.is_number:
            return "a mapping" if self.is_mapping else "a list" if get_origin(self.type) is list else "text"
        words = {"low": "at least", "above": "above", "high": "at most", "below": "below"}
        bounds = [f"{word} {self.metadata[bound]:g}" for bound, word in words.items() if self.metadata[bound] is not None]
        noun = "an integer" if self.is_integer else "a number"
        return noun + (" " + " and ".join(bounds) if bounds else "") + (" or null" if self.optional else "")


@cache
def schema_keys(cls: type = RunConfig, prefix: str = "") -> tuple[KeyInfo, ...]:
    """Every leaf key of the schema, in declaration order.

    Args:
        cls: a dataclass of the schema.
        prefix: what the dotted names begin with, with its dot.
    """
    hints = get_type_hints(cls)
    keys: list[KeyInfo] = []
    for item in fields(cls):
        hint = hints[item.name]
        if is_dataclass(hint):
            assert isinstance(hint, type)
            keys += schema_keys(hint, f"{prefix}{item.name}.")
        else:
            metadata = dict(item.metadata)
            keys.append(KeyInfo(prefix + item.name, hint, metadata["help"], metadata))
    return tuple(keys)


# Arguments of the user's functions, by name: mappings in which any key may stand, each a key of its own.
ARGS = ("data.args", "model.args")


def in_args(name: str) -> bool:
    """Whether a dotted name is one of ``ARGS`` or of a value in it, such as ``model.args.width``."""
    return f"{name}.".startswith(tuple(f"{args}." for args in ARGS))


def with_plus(override: str) -> str:
    """``KEY=VALUE`` as Hydra wants it: an argument may be new, so ``++`` stands before it, whatever the user wrote."""
    bare = override.lstrip("+")
    return f"++{bare}" if in_args(bare.partition("=")[0]) else override


def did_you_mean(word: str, known: Sequence[str], key: str = "") -> str:
    """`` Did you mean X?``, or an empty string: the known word of that meaning, else the one that is spelt alike.

    Args:
        word: what was typed.
        known: what it may be.
        key: the key or config group that ``word`` is a value of; empty if it is itself the name of something.
    """
    meant = meant_value(key, word, known) if key else meant_key(word, known)
    close = [meant] if meant else difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not close:
        tails = {name.rsplit(".", 1)[-1]: name for name in reversed(known)}
        close = [tails[tail] for tail in difflib.get_close_matches(word.rsplit(".", 1)[-1], list(tails), n=1, cutoff=0.75)]
    return f" Did you mean {close[0]}?" if close else ""


def alternatives(hint: str, allowed: str) -> str:
    """The end of a sentence on a wrong value: what was meant, if that is known, before all that is allowed.

    Args:
        hint: as ``did_you_mean`` returns it.
        allowed: like ``are none, batch``.
    """
    return f".{hint} Allowed {allowed}." if hint else f": allowed {allowed}."
