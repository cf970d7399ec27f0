"""Images through the network of a recorded run, prepared as the run's own images were.

Shapes: N images, C channels of the data set's images (1 or 3), S the side of the input image, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bnexp.config.options import Statistics
from bnexp.config.schema import ConfigError, RunConfig
from bnexp.data.download import DataError
from bnexp.data.images import UInt8
from bnexp.data.packed import Packed, find_packed
from bnexp.data.pictures import as_input, find_pictures, read_pictures
from bnexp.metrics import Float32, Int64
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.records import SUMMARY, WEIGHTS, RecordedRun

if TYPE_CHECKING:
    from torch import nn

MOST_AT_ONCE = 256  # images per forward pass
Images = str | Path | Sequence[str | Path] | NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a network says of images.

    Args:
        images: the file of each image as text; of an array the positions ``0``, ``1``, ...
        class_names: the K classes.
        probabilities: softmax outputs, (N, K).
        labels: the true class of each image by the folder that it lies in, (N,); -1 if it is not known.
    """

    images: list[str]
    class_names: list[str]
    probabilities: Float32
    labels: Int64

    @property
    def classes(self) -> Int64:
        """The predicted class of each image, (N,): an index into ``class_names``."""
        classes: Int64 = self.probabilities.argmax(1)
        return classes

    @property
    def names(self) -> list[str]:
        """The name of the predicted class of each image."""
        return [self.class_names[k] for k in self.classes]

    @property
    def accuracy(self) -> float:
        """Fraction of right predictions among the images whose class is known; NaN if none is."""
        known = self.labels >= 0
        return float((self.classes == self.labels)[known].mean()) if known.any() else math.nan


class Predictor:
    """The network of a recorded run in evaluation mode, with the run's normalisation.

    Args:
        run: the record.
        module: its network, as ``TrainedRun.model`` gives it.
        config: its configuration.
        notes: what else is to be said of its predictions, one sentence each.

    Attributes:
        mean: of each channel of the training images, pixel values scaled to 0..1, (C,).
        class_names: the K classes.
        notes: what makes its predictions differ from those that the run recorded, one sentence each.

    Raises:
        ConfigError: the run has diverged, or neither its record nor this machine knows how its images were normalised.
        DamagedRecord: what it recorded about that cannot be used.
    """

    def __init__(self, run: RecordedRun, module: nn.Module, config: RunConfig, notes: Sequence[str] = ()) -> None:
        import torch

        from bnexp.data.batches import input_scale

        self.run, self.module, self.data, self.precision = run, module, config.data, config.train.precision
        if run.summary.status == "diverged":
            raise ConfigError(f"the run {run.run_id} has diverged (step {run.summary.diverged_at}): its weights say nothing.")
        self.mean, std = _normalisation(run, config)
        self.dtype = next(module.parameters()).dtype
        work = torch.promote_types(self.dtype, torch.float32)
        moments = self.mean[:, None, None], std[:, None, None]
        self._scale, self._shift = (torch.from_numpy(part).to(work) for part in input_scale(config.data, *moments))
        facts = run.facts
        self.class_names = facts.class_names if facts else []
        self.notes = [*notes, *_notes(run, config)]

    @property
    def channels(self) -> int:
        """Channels of the images that it takes; grey ones are repeated if the network has three."""
        return len(self.mean)

    def __call__(self, images: UInt8) -> Float32:
        """Probabilities (N, K) of images (N, C, S, S), pixels 0..255. Raises ConfigError if the network cannot take them."""
        import torch

        from bnexp.data.batches import network_input
        from bnexp.training.precision import autocast

        parts = []
        for part in np.array_split(images, max(1, math.ceil(len(images) / MOST_AT_ONCE))):
            pixels = torch.from_numpy(np.ascontiguousarray(part))
            x = network_input(pixels, self._scale, self._shift, self.data.channels or self.channels, self.dtype)
            try:
                with torch.no_grad(), autocast(self.precision, x.device):
                    parts.append(self.module(x).float().softmax(-1).numpy())
            except ValueError as error:  # torch's batch norm, about a single value per channel
                raise ConfigError(
                    f"the run {self.run.run_id} normalises by the batch in evaluation too (norm.track_running_stats=false), so "
                    "it cannot classify a single image: give more images."
                ) from error
        found: Float32 = np.concatenate(parts)
        if not self.class_names:
            self.class_names = [str(k) for k in range(found.shape[1])]
        if len(self.class_names) != found.shape[1]:
            raise DamagedRecord(
                self.run.path / SUMMARY, f"it names {len(self.class_names)} classes, and the network has {found.shape[1]}"
            )
        return found


def predict(predictor: Predictor, images: Images) -> Predicted:
    """What the network of a run says of images; see ``TrainedRun.predict``."""
    if isinstance(images, np.ndarray):
        probabilities = predictor(_from_array(images, predictor))
        names = [str(i) for i in range(len(images))]
        return Predicted(names, predictor.class_names, probabilities, np.full(len(images), -1))
    pictures = find_pictures([images] if isinstance(images, str | Path) else images)
    if not pictures:
        raise ConfigError("there are no images: give image files, folders, or an array.")
    parts = []
    for start in range(0, len(pictures), MOST_AT_ONCE):
        paths = [picture.path for picture in pictures[start : start + MOST_AT_ONCE]]
        parts.append(predictor(np.stack(list(_pixels(predictor, paths)))))
    labels = [picture.label(predictor.class_names) for picture in pictures]
    known = np.array([-1 if label is None else label for label in labels], np.int64)
    return Predicted([picture.name for picture in pictures], predictor.class_names, np.concatenate(parts), known)


def _pixels(predictor: Predictor, paths: Sequence[Path]) -> Iterator[UInt8]:
    for found in read_pictures(paths, predictor.data, predictor.channels):
        if isinstance(found, DataError):
            raise found
        yield found[0]


def _from_array(images: NDArray[Any], predictor: Predictor) -> UInt8:
    """(N, H, W), (N, H, W, 1) or (N, H, W, 3) uint8 -> (N, C, S, S)."""
    from PIL import Image

    shape = images.shape[:3] if images.ndim == 4 and images.shape[3] == 1 else images.shape
    if images.dtype != np.uint8 or not images.size or not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)):
        raise ConfigError(
            f"the array has shape {images.shape} and type {images.dtype}: allowed are uint8 pixels of shape (N, H, W) for grey "
            "images and (N, H, W, 3) for colour."
        )
    pictures = (Image.fromarray(np.ascontiguousarray(image)) for image in images.reshape(shape))
    return np.stack([as_input(picture, predictor.data, predictor.channels) for picture in pictures])


def _normalisation(run: RecordedRun, config: RunConfig) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (C,) of the run's training images: from its record, else from the data on this machine."""
    summary = run.summary
    if summary.pixel_mean:
        mean, std = np.array(summary.pixel_mean), np.array(summary.pixel_std)
        if len(mean) not in (1, 3) or mean.shape != std.shape or not (np.isfinite(mean).all() and (std > 0).all()):
            raise DamagedRecord(run.path / SUMMARY, "pixel_mean and pixel_std are no mean and deviation of 1 or 3 channels")
        return mean, std
    from bnexp.data.resident import training_normalisation

    return training_normalisation(_packed(run, config), config.data)


def _packed(run: RecordedRun, config: RunConfig) -> Packed:
    """The packed data of a run that was recorded by an earlier version, without the mean and deviation of its images."""
    from bnexp.data.cache import open_packed
    from bnexp.data.presence import Presence, presence

    fingerprint = run.summary.data_fingerprint
    if packed := find_packed(fingerprint):
        return packed
    name = config.data.name
    why = f"The run {run.run_id} was recorded without the mean and deviation of its training images"
    if name.is_own:
        raise ConfigError(f"{why}, and the images themselves are not in the cache of this machine: train it again.")
    if presence(config.data) is Presence.absent:
        raise ConfigError(f"{why}: get the data set first, with bnexp data {name} data.size={config.data.size}.")
    packed = open_packed(config.data, lambda *_: None)
    if fingerprint and packed.fingerprint != fingerprint:
        raise ConfigError(f"{why}, and {name} on this machine has other images: train it again.")
    return packed


def _notes(run: RecordedRun, config: RunConfig) -> list[str]:
    if not config.norm.kind.has_running_statistics:
        return []
    if not config.norm.track_running_stats:
        return [
            f"The run {run.run_id} normalises by the batch in evaluation too (norm.track_running_stats=false): what it says of "
            "an image depends on the images beside it."
        ]
    if config.norm.statistics is Statistics.precise:
        return [
            f"The run {run.run_id} was evaluated by precise statistics, which its {WEIGHTS} does not hold: these are "
            "predictions by the running ones."
        ]
    return []
