"""What the book of claims sets beside the measured verdicts: errata of the sources, and numbers that others have found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bnexp.compare.result import ArmSummary, StudyResult

ERRATA = (
    "Batch norm normalises activations, not weights.",
    "Eps belongs into the formula, under the root beside the variance; it is no correction for the size of the sample.",
    "The blog puts batch norm after pooling, though its text says before the activation. Here the two are arms of their own.",
    "A forward pass that divides the variance by m − 1 scales the output by √((m − 1)/m) and is NaN at m = 1. The biased "
    "variance, divided by m, normalises; the unbiased one goes into the running statistics.",
    "Running buffers must be detached from the graph; else every step's graph is kept, and memory grows.",
    "A batch of one image works in convolutions, whose m = N H W is the number of pixels. It is a single value a channel that "
    "cannot be normalised.",
    "“14 times fewer steps” (Ioffe & Szegedy 2015) was a recipe - a higher rate, no dropout, less decay, better shuffling - "
    "and not batch norm alone, which took 2.3 times fewer.",
    "Freezing weights does not freeze running statistics: training mode moves them all the same. Evaluation mode freezes them.",
)

# Study -> what has been published on the same question, on other networks and data.
PUBLISHED: dict[str, str] = {
    "blog": "Santurkar et al. 2018: 83 % with and 80 % without batch norm (VGG on CIFAR-10).",
    "batch_size": "Wu & He 2018: error of batch norm 23.6 % at batches of 32 and 34.7 % at 2, of group norm 24.1 % (ResNet-50 "
    "on ImageNet).",
    "convergence": "Ioffe & Szegedy 2015, figure 3: batch norm alone takes 2.3 times fewer steps (Inception on ImageNet).",
    "placement": "Mishkin et al. 2017, CaffeNet: accuracy .471 without, .474 with batch norm before the activation, .499 after "
    "it; on GoogLeNet the order is the reverse.",
    "activation": "The same network on CIFAR-10 with sigmoids and without batch norm stays at chance for rates from .1 to 10.",
}


@dataclass(frozen=True)
class Reference:
    """A last-epoch test accuracy of the LeNet, per cent, by an independent program (three seeds), and where ours should lie."""

    accuracy: float
    low: float | None = None
    high: float | None = None


# 10 epochs, batch size 64, SGD at rate .01, three input channels. (data, momentum) -> arm -> value.
REFERENCES: dict[tuple[str, str], dict[str, Reference]] = {
    ("mnist", "0.9"): {
        "none": Reference(98.94, 98.5, 99.4),
        "after_pool": Reference(99.14, 98.5, 99.4),
        "before_activation": Reference(98.99, 98.5, 99.4),
    },
    ("cifar10", "0.9"): {
        "none": Reference(61.7, 59, 64),
        "after_pool": Reference(64.3, 62, 67),
        "before_activation": Reference(65.7, 62, 67),
    },
    ("cifar10", "0.0"): {
        "none": Reference(51.0),
        "after_pool": Reference(62.9),
        "before_activation": Reference(60.1),
    },
}
_REFERENCE_SETTINGS = {
    "model.name": "lenet",
    "optim.name": "sgd",
    "optim.lr": "0.01",
    "train.batch_size": "64",
    "train.epochs": "10",
}
_DIFFERENT = ("data.train_size", "data.augment", "model.activation", "model.dropout", "model.init.scheme", "model.init.gain")


def references(result: StudyResult) -> list[tuple[ArmSummary, Reference]]:
    """The arms of a study beside the reference values, where the settings are those of the reference."""
    settings: Mapping[str, str] = result.settings
    same = all(settings.get(key) == value for key, value in _REFERENCE_SETTINGS.items())
    if not same or result.metric != "test/accuracy" or any(key in settings for key in _DIFFERENT):
        return []
    known = REFERENCES.get((settings.get("data.name", ""), settings.get("optim.momentum", "")), {})
    return [(s, known[s.arm]) for s in result.arms if not s.level and s.arm in known]
