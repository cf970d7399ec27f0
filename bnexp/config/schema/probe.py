"""``probe.*``: what is measured besides while a run trains."""

from __future__ import annotations

from dataclasses import dataclass

from bnexp.config.schema.field import key

READING_SIZES = (1, 2, 8, 64, 1000)  # images per batch of the ``statistics`` probe

READING_SHIFT = (0.5, 0.25)  # ``data.contrast`` and ``data.brightness`` of its shifted test images


@dataclass
class ProbeConfig:
    """Measurements of a training that do not disturb it: the weights are the same with and without them, bit for bit.

    ``records`` names the metrics that a probe adds to a finished run: means over its epochs, or for ``gap`` the values of the
    last epoch. Values of single layers are recorded as well, but not named here. ``training/probes`` defines all of them.
    """

    activations: bool = key(
        False, "percentiles of pre-activations; fraction of dead units", records=("activations/dead", "activations/drift")
    )
    gradients: bool = key(False, "norm of each layer's gradient", records=("gradients/log_ratio",))
    initial_gradients: bool = key(
        False, "norm of each layer's gradient before the first update", records=("initial_gradients/log_ratio",)
    )
    covariate_shift: bool = key(
        False,
        "change of a layer's gradient after the update of the layers before it",
        records=("covariate_shift/l2", "covariate_shift/relative_l2", "covariate_shift/cosine"),
    )
    landscape: bool = key(
        False,
        "loss range, gradient change and smoothness along the gradient",
        records=(
            "landscape/loss_range",
            "landscape/gradient_change",
            "landscape/relative_gradient_change",
            "landscape/beta",
        ),
    )
    oscillation: bool = key(False, "deviation of the step losses from their trend", records=("oscillation/loss",))
    decoupling: bool = key(
        False, "loss change of a step compared with the sum of its layers' loss changes", records=("decoupling/gap",)
    )
    statistics: bool = key(
        False,
        "accuracy of the same weights with other batch norm statistics",
        records=(
            "statistics/running",
            "statistics/precise",
            *(f"statistics/batch_{n}" for n in READING_SIZES),
            "statistics/training_mode",
            "statistics/after_training_mode",
            "statistics/shifted/running",
            *(f"statistics/shifted/batch_{n}" for n in READING_SIZES),
        ),
    )
    similar: bool = key(
        False,
        "output and gradient of norms on a batch of nearly equal images",
        records=("similar/output_deviation", "similar/backward_gain"),
    )
    cost: bool = key(
        False,
        "time of a step compared with the network without norm; memory; number of parameters",
        records=("cost/step_ms", "cost/step_ratio", "cost/activation_mib", "cost/parameters"),
    )
    gap: bool = key(
        False,
        "loss and accuracy on training images in evaluation mode",
        records=("train_eval/loss", "train_eval/accuracy", "gap/loss", "gap/accuracy", "gap/mode_accuracy"),
    )
    per_epoch: int = key(1, "measurements at single steps per epoch, evenly spaced; each is recorded with its step", low=1)
    images: int = key(256, "number of images in the fixed batch that measurements use", low=2)
    jitter: float = key(0.01, "similar: standard deviation of the difference between images", low=0.0)
