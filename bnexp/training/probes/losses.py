"""How steadily the loss goes down, and how much better the network does on training images than on unseen ones.

Shape letters: R runs, S steps of an epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bnexp.config.options import Statistics
from bnexp.training.evaluate import Evaluation
from bnexp.training.probes.images import chosen, in_full_parts, score
from bnexp.training.probes.twin import State, Twin
from bnexp.training.statistics import precise_statistics, statistics_batches
from bnexp.training.step import EpochTotals

if TYPE_CHECKING:
    from bnexp.config.schema import RunConfig
    from bnexp.data.batches import DeviceData

Float64 = NDArray[np.float64]

WINDOW = 51  # steps of the moving average that is an epoch's trend
MOST_IMAGES = 10_000


def oscillation(losses: Float64) -> Float64:
    """Standard deviation of the step losses about their trend.

    The trend is the centred moving average over w = 51 steps, or over the largest odd number of steps that a shorter epoch has.
    Only steps with a whole window count. A step is itself part of its average; ``sqrt(mean(deviation^2) / (1 - 1/w))`` makes
    up for that, so that independent noise on a straight line gives its own standard deviation.

    Args:
        losses: (S, R), nats.

    Returns:
        (R,), nats; NaN with less than 3 steps.
    """
    num_steps, num_runs = losses.shape
    width = min(WINDOW, num_steps - 1 + num_steps % 2)
    if width < 3:
        return np.full(num_runs, np.nan)
    half = width // 2
    windows = np.lib.stride_tricks.sliding_window_view(losses, width, axis=0)
    deviation = losses[half : num_steps - half] - windows.mean(-1)
    spread: Float64 = np.sqrt((deviation**2).mean(0) / (1 - 1 / width))
    return spread


class EvaluationGap:
    """Loss and accuracy of the network on training images at the end of an epoch, in evaluation mode, and on validation images.

    ``train_eval/loss``      mean loss of up to 10,000 training images, without augmentation, nats
    ``train_eval/accuracy``  their accuracy, 0 to 1
    ``gap/loss``             validation loss minus ``train_eval/loss``
    ``gap/accuracy``         ``train_eval/accuracy`` minus validation accuracy; both gaps are missing without validation images
    ``gap/mode_accuracy``    ``train/accuracy`` minus ``train_eval/accuracy``: what evaluation mode costs on the same images
    ``train/loss`` and ``train/accuracy`` are measured in training mode and while the weights change. So their distance from
    validation is not a generalisation gap. Once an epoch changes little, their distance from ``train_eval`` is due to the mode.

    Args:
        twin: what the images are passed through.
        data: where the images are.
        config: of any run: ``norm.statistics`` and ``train.eval_batch_size``.
    """

    def __init__(self, twin: Twin, data: DeviceData, config: RunConfig) -> None:
        self.twin, self.data, self.size = twin, data, config.train.eval_batch_size
        self.precise = config.norm.statistics is Statistics.precise
        self.positions, self.counted = in_full_parts(chosen(data, "train", MOST_IMAGES), self.size)

    def __call__(self, state: State, totals: EpochTotals, validation: Evaluation | None) -> dict[str, Float64]:
        """The metrics at the end of an epoch.

        Args:
            state: the state of the network.
            totals: what the steps of the epoch gave.
            validation: the validation in this state; None: there are no validation images.

        Returns:
            Metric -> (R,).
        """
        network = self.twin.load(state)
        network.eval()
        if self.precise:
            precise_statistics(network, statistics_batches(self.data), self.twin.precision)
        found = score(network, self.data, "train", self.positions, self.counted, self.size, self.twin.precision)
        loss, accuracy = (value.numpy() for value in found)
        values = {"train_eval/loss": loss, "train_eval/accuracy": accuracy, "gap/mode_accuracy": totals.accuracy - accuracy}
        if validation is not None:
            values |= {"gap/loss": validation.loss - loss, "gap/accuracy": accuracy - validation.accuracy}
        return values
