"""Batches from resident images: order, gathering, augmentation, shift and normalisation on the training device.

Shapes: R runs, N batch, C channels, S side of the image, M gathered images (N*R). A run's order and augmentation come from
its own named streams, so its batches are bit for bit the same alone and in any cohort.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bnexp.config.options import Augment, Order
from bnexp.config.schema import DataConfig
from bnexp.data.resident import Float64, Resident, Split
from bnexp.rng import torch_generator

GROUP = 64  # images of a class in a row with ``order=grouped``, a batch of the usual size
CROP_PADDING = 4  # pixels on each side, as He et al. (2015), Deep Residual Learning, section 4.2


def epoch_order(seed: int, epoch: int, n: int) -> Tensor:
    """The order in which the run of ``seed`` sees its ``n`` training images in ``epoch``: an int64 permutation (n,)."""
    return torch.randperm(n, generator=torch_generator(seed, f"order/{epoch}"))


def arranged(order: Tensor, labels: Tensor, config: DataConfig) -> Tensor:
    """The images (n,) of an epoch where ``order`` (n,) is its permutation of them, as ``config`` arranges it.

    ``order=sorted``: class by class in the order of the classes, the images of a class as in ``order``; ``labels`` (n,) are
    those of the images before the permutation. ``order=grouped``: the same cut into groups of 64, which come in random
    order, so that classes take turns and a batch of 64 is of one class, or of two where they meet. ``duplicates=k``: an
    epoch still has n images, and so its number of steps, but only the first n/k of ``order``, each k times in a row (the
    last one less often where k does not divide n); the others have their turn in other epochs.
    """
    if config.duplicates > 1:
        order = order[: math.ceil(len(labels) / config.duplicates)]
    if config.order is not Order.shuffled:
        places = labels[order].argsort(stable=True)
        if config.order is Order.grouped:
            *full, last = torch.split(places, GROUP)
            places = torch.cat([*sorted(full, key=lambda group: int(group[0])), last])  # by a place in a random permutation
        order = order[places]
    return order if config.duplicates == 1 else order.repeat_interleave(config.duplicates)[: len(labels)]


def input_scale(config: DataConfig, mean: Float64, std: Float64) -> tuple[Float64, Float64]:
    """``(scale, shift)`` a channel that take a stored pixel 0..255 to the input of the network, ``pixel * scale + shift``.

    With p = pixel / 255: ``p' = (p - 1/2) * contrast + 1/2 + brightness``, the shift of a camera with other settings. It is not
    clipped to 0..1, so that it loses nothing: what it does to a network is the shift alone. Then ``(p' - mean) / std`` with the
    constants of the images without shift, as a network meets them that was trained on those; without ``normalize``, p'.
    """
    if not config.normalize:
        mean, std = np.zeros_like(mean), np.ones_like(std)
    return config.contrast / (255 * std), ((0.5 - 0.5 * config.contrast + config.brightness) - mean) / std


def epoch_augmentation(seed: int, epoch: int, n: int, augment: Augment) -> Tensor:
    """Random changes of the ``n`` images of an epoch, in the order seen: (n, 3) uint8 of first row, first column, mirrored.

    Row and column are those of the padded image. All three are drawn whatever ``augment`` uses, so that ``flip`` and
    ``flip_crop`` mirror the same images.
    """
    generator = torch_generator(seed, f"augment/{epoch}")
    corner = torch.randint(0, 2 * CROP_PADDING + 1, (n, 2), generator=generator)
    mirrored = torch.randint(0, 2, (n, 1), generator=generator)
    return torch.cat([corner * _crops(augment), mirrored * _flips(augment)], 1).to(torch.uint8)


def augmented(images: Tensor, changes: Tensor, augment: Augment) -> Tensor:
    """Images (M, C, S, S) changed as ``changes`` (M, 3) says (see ``epoch_augmentation``); margins are 0, black."""
    padding = CROP_PADDING if _crops(augment) else 0
    size = images.shape[-1]
    row, column, mirrored = changes.long().unsqueeze(-1).unbind(1)
    forward = torch.arange(size, device=images.device)
    rows = row + forward
    columns = column + torch.where(mirrored.bool(), forward.flip(0), forward)
    pixels = (rows[:, :, None] * (size + 2 * padding) + columns[:, None, :]).flatten(1)
    padded = F.pad(images, (padding,) * 4).flatten(2)
    return padded.gather(2, pixels[:, None].expand(-1, images.shape[1], -1)).view_as(images)


def _crops(augment: Augment) -> bool:
    return augment in (Augment.crop, Augment.flip_crop)


def _flips(augment: Augment) -> bool:
    return augment in (Augment.flip, Augment.flip_crop)


class DeviceData:
    """The images of a ``Resident`` on a device, and the batches drawn from them.

    Args:
        resident: the data set. On the CPU its memory-mapped images are used in place; elsewhere they are copied once.
        device: where batches are made.
        dtype: floating type of the batches.
        config: ``data.*``. ``augment`` changes training images at random: ``flip`` mirrors half of them, ``crop`` shifts by up
            to 4 pixels. For ``order`` and ``duplicates`` see ``arranged``, for the rest ``input_scale``.

    ``eval_order``: split -> positions (N,) of its images in the order of evaluation. It is random, the same for every run:
    norms that normalise by the batch in evaluation are to see a fair sample of the classes, however the files are sorted.
    """

    def __init__(self, resident: Resident, device: torch.device, dtype: torch.dtype, config: DataConfig | None = None) -> None:
        self.config = config or DataConfig()
        self.num_classes = resident.num_classes
        self.in_channels = resident.in_channels
        self.size = resident.size
        self.num_train = len(resident.train_index)
        self.device = device
        self.dtype = dtype
        self.augment = self.config.augment

        def on_device(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(array).to(device)

        train = on_device(resident.train_images), on_device(resident.train_labels)
        test = on_device(resident.test_images), on_device(resident.test_labels)
        self._splits: dict[Split, tuple[Tensor, Tensor, Tensor | None]] = {
            "train": (*train, on_device(resident.train_index)),
            "val": (*train, on_device(resident.val_index)),
            "test": (*test, None),
        }
        self.eval_order = {split: self._eval_order(split).to(device) for split in self._splits}
        # Half precision is too coarse for the normalisation itself.
        self._work_dtype = torch.promote_types(dtype, torch.float32)
        channels = resident.train_images.shape[1]
        scale, shift = input_scale(self.config, resident.mean[:channels, None, None], resident.std[:channels, None, None])
        # The number format first: mps has no float64.
        self._scale = torch.from_numpy(scale).to(self._work_dtype).to(device)
        self._shift = torch.from_numpy(shift).to(self._work_dtype).to(device)
        self._train_labels = torch.from_numpy(resident.train_labels[resident.train_index])

    def num_images(self, split: Split) -> int:
        images, _, index = self._splits[split]
        return len(images if index is None else index)

    def epoch_draws(self, seeds: Sequence[int], epoch: int) -> Tensor:
        """What chance decides of an epoch, on the device: for each seed and training image in the order seen its index, and
        with augmentation its changes (see ``epoch_augmentation``), the same for all duplicates of an image: int64 (R, n, 1) or
        (R, n, 4)."""
        index = self._splits["train"][2]
        assert index is not None
        order = self._for_each(seeds, lambda seed: self._arranged(epoch_order(seed, epoch, self.num_train)))
        draws = index[order].unsqueeze(-1)
        if self.augment is Augment.none:
            return draws
        return torch.cat([draws, self._for_each(seeds, lambda seed: self._changes(seed, epoch)).long()], -1)

    def train_batch(self, draws: Tensor) -> tuple[Tensor, Tensor]:
        """The batch of a slice (R, N, ...) of ``epoch_draws``, as a function of tensors on the device alone.

        x (N, R*C, S, S), normalised, run r's channels at ``[r*C, (r+1)*C)``, and y (R, N) int64.
        """
        images, labels, _ = self._splits["train"]
        chosen = draws[..., 0]
        # Image-major, run-minor: then (N*R, C) views as (N, R*C) without moving a pixel.
        x = images.index_select(0, chosen.t().flatten())
        if self.augment is not Augment.none:
            x = augmented(x, draws[..., 1:].transpose(0, 1).flatten(0, 1), self.augment)
        return self._normalised(x).view(chosen.shape[1], -1, self.size, self.size), labels[chosen]

    def eval_batches(self, split: Split, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images of a split in ``eval_order``, unchanged: x (N, C, S, S), normalised, and y (N,) int64."""
        order = self.eval_order[split]
        for start in range(0, len(order), batch_size):
            yield self.images(split, order[start : start + batch_size])

    def images(self, split: Split, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The images at ``positions`` (M,) of a split, unchanged: x (M, C, S, S), normalised, and y (M,) int64."""
        images, labels, index = self._splits[split]
        chosen = positions.to(self.device) if index is None else index[positions.to(self.device)]
        return self._normalised(images[chosen]), labels[chosen]

    def _eval_order(self, split: Split) -> Tensor:
        return torch.randperm(self.num_images(split), generator=torch_generator(0, f"evaluation/{split}"))

    def _arranged(self, order: Tensor) -> Tensor:
        return arranged(order, self._train_labels, self.config)

    def _changes(self, seed: int, epoch: int) -> Tensor:
        changes = epoch_augmentation(seed, epoch, self.num_train, self.augment)
        return changes[torch.arange(self.num_train) // self.config.duplicates]

    def _for_each(self, seeds: Sequence[int], draw: Callable[[int], Tensor]) -> Tensor:
        """(R, ...): what each seed draws, drawn once where runs share a seed."""
        drawn = {seed: draw(seed) for seed in dict.fromkeys(seeds)}
        return torch.stack([drawn[seed] for seed in seeds]).to(self.device)

    def _normalised(self, images: Tensor) -> Tensor:
        """(M, C, S, S) uint8 -> (M, in_channels, S, S) of ``dtype``, contiguous, grey repeated."""
        # Two plain operations: a fused one may round differently in the vectorised part and in the rest of a batch.
        x = images.to(self._work_dtype).mul_(self._scale).add_(self._shift)
        return x.to(self.dtype).expand(-1, self.in_channels, -1, -1).contiguous()
