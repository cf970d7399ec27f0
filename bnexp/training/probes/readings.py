"""Accuracy of the same weights by different batch norm statistics.

Shape letters: R runs, C channels, M values of a channel, P parts of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor

from bnexp.config.keys import PROBE_METRICS
from bnexp.config.schema import READING_SHIFT, READING_SIZES, TrainConfig
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
    ``statistics/shifted/running``      as ``running``, on test images of half the contrast that are brighter by .25
    ``statistics/shifted/batch_N``      as ``batch_N``, on the same images, which the weights were not trained for

    The test images come in a random order, the same for every run, so that a batch is a fair sample of the classes. Without
    running statistics (``norm.track_running_stats=false``) the readings by them are missing. If no norm depends on the batch,
    all readings of the same images are the same accuracy.

    The shift maps pixel values p to (p - .5) / 2 + .75. It is the same for every pixel, so a norm right after the first
    convolution takes it away with the statistics of the batch, but for padding and ``norm.eps``. With those of the training
    images it does not.

    Args:
        twin: what the images are passed through.
        data: where the images are.
        train: of any run: ``eval_batch_size``.

    Sources: Ioffe & Szegedy 2015, arXiv:1502.03167, section 3.1; Wu & Johnson, "Rethinking 'Batch' in BatchNorm", 2021,
    arXiv:2105.07576, sections 3 and 4. Under shift: Schneider et al. 2020, arXiv:2006.16971; Nado et al. 2020,
    arXiv:2006.10963.
    """

    def __init__(self, twin: Twin, data: DeviceData, train: TrainConfig) -> None:
        self.twin, self.data, self.train = twin, data, train
        self.shifted = data.shifted(*READING_SHIFT)
        self.network = twin.network
        self.order = chosen(data, "test", data.num_images("test"))
        self.norms = [layer for layer in self.network.modules() if isinstance(layer, RunningNorm)]
        self.tracking = all(norm.track_running_stats for norm in self.norms)

    def __call__(self, state: State) -> Values:
        """The readings at ``state``."""
        self.twin.load(state)
        self.network.eval()
        if not self.norms:
            plain, shifted = self._accuracy(self.data), self._accuracy(self.shifted)
            return {name: shifted if "/shifted/" in name else plain for name in PROBE_METRICS["statistics"]}
        values = self._in_evaluation_mode(self.data, "statistics")
        values |= self._in_evaluation_mode(self.shifted, "statistics/shifted")
        self.network.train()
        values["statistics/training_mode"] = self._accuracy(self.data, FORGOTTEN_SIZE, FORGOTTEN_SIZE)
        if self.tracking:
            self.network.eval()
            values["statistics/after_training_mode"] = self._accuracy(self.data)
            precise_statistics(self.network, statistics_batches(self.data), self.twin.precision)
            values["statistics/precise"] = self._accuracy(self.data)
        return values

    def _in_evaluation_mode(self, data: DeviceData, name: str) -> Values:
        """``name/batch_N``, and ``name/running`` if there are running statistics, over the test images of ``data``."""
        values: Values = {}
        for size in READING_SIZES:
            if all(min(size, len(self.order)) * norm.map_size > 1 for norm in self.norms):
                with normalising(self.norms, _by_parts(min(size, len(self.order)))):
                    values[f"{name}/batch_{size}"] = self._accuracy(data, size)
        if self.tracking:
            values[f"{name}/running"] = self._accuracy(data)
        return values

    def _accuracy(self, data: DeviceData, part: int = 1, batch_size: int | None = None) -> Tensor:
        """The accuracy over all test images.

        Args:
            data: where the images are.
            part: the images are cut into full parts of this size.
            batch_size: images per batch; None: near ``train.eval_batch_size``, and a multiple of ``part``.
        """
        positions, counted = in_full_parts(self.order, part)
        size = batch_size or max(self.train.eval_batch_size // part, 1) * part
        return score(self.network, data, "test", positions, counted, size, self.twin.precision)[1]


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
