"""What metrics, factors and levels are called in a sentence."""

from __future__ import annotations

from collections.abc import Mapping

from bnexp.comparison.result import Comparison

MEASURES = {
    "train/loss": "training loss",
    "val/loss": "validation loss",
    "test/loss": "test loss",
    "train/accuracy": "training accuracy",
    "val/accuracy": "validation accuracy",
    "train_eval/loss": "training loss in evaluation mode",
    "train_eval/accuracy": "training accuracy in evaluation mode",
    "activations/dead": "share of dead units",
    "activations/drift": "drift of the pre-activations during training",
    "gradients/log_ratio": "decimal logarithm of the ratio of the first to the last layer's gradient norm",
    "initial_gradients/log_ratio": "decimal logarithm of the ratio of the first to the last layer's initial gradient norm",
    "covariate_shift/l2": "change of a layer's gradient when the layers before it are updated",
    "covariate_shift/relative_l2": "relative change of a layer's gradient when the layers before it are updated",
    "covariate_shift/cosine": "cosine of a layer's gradients before and after the layers before it are updated",
    "landscape/loss_range": "range of the loss along the gradient",
    "landscape/gradient_change": "change of the gradient along its own direction",
    "landscape/relative_gradient_change": "relative change of the gradient along its own direction",
    "landscape/beta": "effective smoothness constant",
    "oscillation/loss": "deviation of the step loss from its trend",
    "decoupling/gap": "gap between the joint and the summed loss changes of a step",
    "similar/output_deviation": "deviation of the output on nearly equal images",
    "similar/backward_gain": "gain of the backward pass on nearly equal images",
    "cost/step_ms": "time of a training step in ms",
    "cost/step_ratio": "time of a training step, relative to the network without norm,",
    "cost/activation_mib": "memory of the activations in MiB",
    "cost/parameters": "number of parameters",
    "val/ece": "expected calibration error on validation images",
    "test/ece": "expected calibration error",
    "gap/loss": "gap between validation and training loss",
    "gap/accuracy": "gap between training and validation accuracy",
}
FACTORS = {
    "optim.lr": "learning rate",
    "model.init.gain": "gain of the initial weights",
    "train.steps_per_epoch": "updates per epoch",
    "data.duplicates": "number of copies of each image",
    "data.group_classes": "number of classes per batch",
    "data.train_size": "number of training images",
    "data.normalize": "input normalisation",
}
_BY_TAIL = {key.rsplit(".", 1)[-1]: name for key, name in FACTORS.items()}
_COUNTED = {
    "train_size": "training images",
    "duplicates": "copies of each image",
    "group_classes": "classes per batch",
    "epochs": "epochs",
}
_ONE = {
    "training images": "training image",
    "copies of each image": "copy of each image",
    "classes per batch": "class per batch",
    "epochs": "epoch",
}
_WITH = {"true": "with", "false": "without"}


def measure_name(measure: str) -> str:
    """``effective smoothness constant``; a measure that has no name here stays as it is."""
    return MEASURES.get(measure, measure)


def factor_name(key: str) -> str:
    """``learning rate`` for ``optim.lr``; the last part of the key if it has no name here."""
    return FACTORS.get(key, key.rsplit(".", 1)[-1].replace("_", " "))


def level_name(level: str) -> str:
    """``learning rate 0.04`` for ``lr=0.04``; names stay as they are: ``activation=sigmoid``."""
    return ", ".join(_level(*part.partition("=")[::2]) for part in level.split(", "))


def _level(tail: str, value: str) -> str:
    if value == "null" and tail in _COUNTED:
        return f"all {_COUNTED[tail]}"
    if not _is_number(value):
        return f"{tail}={value}"
    return counted(value, _COUNTED[tail]) if tail in _COUNTED else f"{_name(tail)} {value}"


def _name(tail: str) -> str:
    return _BY_TAIL.get(tail, tail.replace("_", " "))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def counted(number: str, things: str) -> str:
    """``10 epochs``, ``1 epoch``; ``things`` in the plural."""
    return f"{number} {_ONE.get(things, things) if number == '1' else things}"


def at(level: str) -> str:
    """``at learning rate 0.01``; ``without input normalisation`` for ``normalize=false``."""
    tail, _, value = level.partition("=")
    if value in _WITH:
        return f"{_WITH[value]} {_name(tail)}"
    return f"at {level_name(level)}"


def at_level(c: Comparison) -> str:
    """`` at learning rate 0.01``; empty without a level."""
    return f" {at(c.level)}" if c.level else ""


def settings_text(settings: Mapping[str, str], labels: Mapping[str, str]) -> str:
    """``learning rate 0.01, momentum 0.9, batch size 64, 10 epochs``, as far as known."""
    known = [(label, settings[key]) for key, label in labels.items() if key in settings]
    counts = _COUNTED.values()
    return ", ".join(counted(value, label) if label in counts else f"{label} {value}" for label, value in known)
