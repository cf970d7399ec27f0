"""Accuracy of the same weights by different batch norm statistics.

Shape letters: R runs, C channels, M values of a channel, P parts of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor

from bnexp.config.keys import PROBE_METRICS
from bnexp.config.schema import READING_SIZES, TrainConfig
from bnexp.model.norms import RunningNorm
from bnexp.model.norms.standardise import standardise
from bnexp.training.probes.images import chosen, in_full_parts, score
from bnexp.training.probes.steps import Values
from bnexp.training.probes.twin import State, Twin
from bnexp.training.statistics import precise_statistics, statistics_batches

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData

FORGOTTEN_SIZE = 64


class Readings:
    """Test accuracy of the same weights, 0 to 1, (R,), when the norms normalise by

    ``statistics/running``              running statistics, as training left them
    ``statistics/precise``              those of all training images, see ``precise_statistics``
    ``statistics/batch_N``              the test batch itself, of N images, or of all if there are fewer; dropout is off.
                                        Missing if a norm would have one value per channel
    ``statistics/training_mode``        whatever training does: the network is left in training mode, with 64 images per batch.
                                        Dropout, noise and ghost batches are on, and the running statistics move
    ``statistics/after_training_mode``  the running statistics that this leaves behind, back in evaluation mode

    The test images come in a random order, the same for every run, so that a batch is a fair sample of the classes. Without
    running statistics (``norm.track_running_stats=false``) the readings by them are missing. If no norm depends on the batch,
    all readings are the same accuracy.

    Args:
        twin: what the images are passed through.
        data: where the images are.
        train: of any run: ``eval_batch_size``.

    Sources: Ioffe & Szegedy 2015, arXiv:1502.03167, section 3.1; Wu &
    Johnson, "Rethinking 'Batch' in BatchNorm", 2021, arXiv:2105.07576, sections 3 and 4.
    """

    def __init__(self, twin: Twin, data: DeviceData, train: TrainConfig) -> None:
        self.twin, self.data, self.train = twin, data, train
        self.network = twin.network
        self.order = chosen(data, "test", data.num_images("test"))
        self.norms = [layer for layer in self.network.modules() if isinstance(layer, RunningNorm)]

    def __call__(self, state: State) -> Values:
        """The readings at ``state``."""
        self.twin.load(state)
        self.network.eval()
        if not self.norms:
            return dict.fromkeys(PROBE_METRICS["statistics"], self._accuracy())
        values: Values = {}
        for size in READING_SIZES:
            if all(min(size, len(self.order)) * norm.map_size > 1 for norm in self.norms):
                with normalising(self.norms, _by_parts(min(size, len(self.order)))):
                    values[f"statistics/batch_{size}"] = self._accuracy(size)
        tracking = all(norm.track_running_stats for norm in self.norms)
        if tracking:
            values["statistics/running"] = self._accuracy()
        self.network.train()
        values["statistics/training_mode"] = self._accuracy(FORGOTTEN_SIZE, FORGOTTEN_SIZE)
        if tracking:
            self.network.eval()
            values["statistics/after_training_mode"] = self._accuracy()
            precise_statistics(self.network, statistics_batches(self.data), self.twin.precision)
            values["statistics/precise"] = self._accuracy()
        return values

    def _accuracy(self, part: int = 1, batch_size: int | None = None) -> Tensor:
        """The accuracy over all test images.

        Args:
            part: the images are cut into full parts of this size.
            batch_size: images per batch; None: near ``train.eval_batch_size``, and a multiple of ``part``.
        """
        positions, counted = in_full_parts(self.order, part)
        size = batch_size or max(self.train.eval_batch_size // part, 1) * part
        return score(self.network, self.data, "test", positions, counted, size, self.twin.precision)[1]


Normalise = Callable[[RunningNorm, tuple[Tensor], Tensor], Tensor]


@contextmanager
def normalising(norms: list[RunningNorm], normalise: Normalise) -> Iterator[None]:
    """Inside, the output of each norm is what ``normalise`` makes of (norm, its input, its own output)."""
    handles = [norm.register_forward_hook(normalise) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _by_parts(size: int) -> Normalise:
    """Normalise consecutive parts of ``size`` images, each by its own mean and biased variance."""

    def normalise(norm: RunningNorm, inputs: tuple[Tensor], _: Tensor) -> Tensor:
        x = norm.values(inputs[0])
        x = x.view(-1, size, *x.shape[1:])
        weight, bias = norm.affine(1, *norm.shape, 1)
        y, _, _ = standardise(x, weight, bias, norm.eps[..., None], (-4, -1), norm.backward)
        return y.reshape(inputs[0].shape)

    return normalise
