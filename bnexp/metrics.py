"""The records that a run yields, from the engine to every sink, and the names and units of its metrics.

All are plain picklable dataclasses of numbers and NumPy arrays, so that they cross process borders and need no torch.

Metric names (``schema.final_metrics``; last path component: unit):

``train/loss`` ``val/loss`` ``test/loss``              mean cross entropy, nats
``train/accuracy`` ``val/accuracy`` ``test/accuracy``  fraction of images, 0 to 1
``learning_rate``                                      rate of the epoch's last step
``time/epoch_seconds``                                 training part of the epoch, seconds
``time/images_per_second``                             training images of this run a second

and those of the probes that are on, see ``train/probes``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class RunStarted:
    """A run begins to train (its cohort has been built).

    ``execution``: ``cuda graph``, or ``eager: <reason>`` where the steps are not replayed from one.
    """

    run_id: str
    num_parameters: int
    num_steps: int
    device: str
    execution: str


@dataclass(frozen=True)
class StepMetrics:
    """What is known of single steps inside an epoch: step number (from 1) -> metric -> value.

    ``train/step_loss`` where ``train.log_every`` asks for it; ``val/*`` of the validations that ``train.evals_per_epoch`` puts
    before the end of the epoch.
    """

    run_id: str
    values: dict[int, dict[str, float]]


@dataclass(frozen=True)
class EpochMetrics:
    """The metrics of one epoch. ``epoch`` counts from 1; ``step`` is the number of updates so far."""

    run_id: str
    epoch: int
    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Predictions:
    """What the trained network says of every test image.

    ``image_ids``: (N,) index of the image in the source's test set; ``labels``: (N,) true class;
    ``probabilities``: (N, K) softmax outputs.
    """

    image_ids: Int64
    labels: Int64
    probabilities: Float32


@dataclass(frozen=True)
class RunFinished:
    """A run is complete. ``metrics``: the last epoch's metrics and ``test/*``.

    ``diverged_at`` is the first step (from 1) with a loss that is not finite; such a run counts at chance accuracy and
    has no predictions. ``weights``: parameter and buffer name -> array, as a plain torch module would name them.
    """

    run_id: str
    metrics: dict[str, float]
    seconds: float
    predictions: Predictions | None
    weights: dict[str, NDArray[np.generic]] = field(repr=False)
    diverged_at: int | None = None


@dataclass(frozen=True)
class RunFailed:
    """A run ended in an error: one sentence for the user, and the traceback for ``--debug``."""

    run_id: str
    error: str
    traceback: str = ""


Record = RunStarted | StepMetrics | EpochMetrics | RunFinished | RunFailed
