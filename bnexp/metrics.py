"""The records that a run yields, from the engine to every sink, and the names and units of its metrics.

All are plain picklable dataclasses of numbers and NumPy arrays, so that they cross process borders and need no torch.

Names of metrics and their units (``config/keys.py`` lists the names):

``train/loss`` ``val/loss`` ``test/loss``              mean cross entropy, nats
``train/accuracy`` ``val/accuracy`` ``test/accuracy``  fraction of images, 0 to 1
``val/ece`` ``test/ece``                               expected calibration error over 15 bins of confidence, 0 to 1
``learning_rate``                                      rate of the epoch's last step
``time/epoch_seconds``                                 time of the training part of the epoch, seconds
``time/images_per_second``                             training images of this run per second

Mean cross entropy is also the negative log-likelihood per image: ``test/loss`` is the NLL of papers on calibration.

The probes that are on add theirs, see ``training/probes``. A new metric is named in ``config/keys.py`` and computed in
``training/engine.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

# Edges of the 15 bins of confidence, each open below and closed above. They are in the precision of recorded probabilities, so
# that a confidence on an edge falls into the same bin wherever it is counted.
CONFIDENCE_EDGES: Float32 = np.arange(16, dtype=np.float32) / np.float32(15)


@dataclass(frozen=True)
class RunStarted:
    """A run begins to train; its cohort has been built.

    Args:
        run_id: the run.
        num_parameters: number of trainable parameters.
        num_steps: number of updates of the whole training.
        device: where it trains, for people.
        execution: ``cuda graph``, or ``eager: <reason>`` if the steps are not replayed from one.
        initial: as ``Network.initial`` gives it.
    """

    run_id: str
    num_parameters: int
    num_steps: int
    device: str
    execution: str
    initial: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StepMetrics:
    """Metrics of single steps inside an epoch.

    Args:
        run_id: the run.
        values: step number, counted from 1 -> metric -> value. The metrics are ``train/step_loss`` if ``train.log_every`` asks
            for it, ``val/*`` of the validations that ``train.evals_per_epoch`` puts before the end of the epoch, and at the
            steps that probes measure their values, with ``train/loss`` as the mean loss of the steps since the one before.
    """

    run_id: str
    values: dict[int, dict[str, float]]


@dataclass(frozen=True)
class EpochMetrics:
    """The metrics of one epoch.

    Args:
        run_id: the run.
        epoch: counts from 1.
        step: number of updates so far.
        metrics: metric -> value.
    """

    run_id: str
    epoch: int
    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Predictions:
    """The outputs of the trained network for every test image.

    Args:
        image_ids: index of each image in the source's test set, (N,).
        labels: its true class, (N,).
        probabilities: softmax outputs, (N, K).
    """

    image_ids: Int64
    labels: Int64
    probabilities: Float32


@dataclass(frozen=True)
class EpochPredictions:
    """The outputs after an epoch that is not the last one, if ``track.predictions_every`` asks for them.

    Args:
        run_id: the run.
        epoch: counts from 1.
        step: number of updates so far.
        predictions: the outputs.
    """

    run_id: str
    epoch: int
    step: int
    predictions: Predictions


@dataclass(frozen=True)
class RunFinished:
    """A run is complete.

    Args:
        run_id: the run.
        metrics: the last epoch's metrics, and ``test/*``.
        seconds: time since its cohort was built.
        predictions: None if the run has diverged.
        weights: parameter and buffer name -> array, named as in a plain torch module.
        diverged_at: the first step, counted from 1, with a loss that is not finite; None if all are. A diverged run counts at
            chance accuracy.
    """

    run_id: str
    metrics: dict[str, float]
    seconds: float
    predictions: Predictions | None
    weights: dict[str, NDArray[np.generic]] = field(repr=False)
    diverged_at: int | None = None


@dataclass(frozen=True)
class RunStopped:
    """A run was stopped before its last epoch, because somebody asked for it. It has no result.

    Args:
        run_id: the run.
        epoch: the last one that it trained.
        metrics: those of that epoch.
        seconds: time since its cohort was built.
    """

    run_id: str
    epoch: int
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class RunFailed:
    """A run ended in an error.

    Args:
        run_id: the run.
        error: one sentence for the user.
        traceback: for ``--debug``.
    """

    run_id: str
    error: str
    traceback: str = ""


Record = RunStarted | StepMetrics | EpochMetrics | EpochPredictions | RunFinished | RunStopped | RunFailed
