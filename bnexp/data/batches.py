"""Batches from resident images: order, gathering, augmentation, shift and normalisation on the training device.

Shapes: R runs, N batch, C channels, S side of the image, M gathered images (N*R).

The order and the augmentation of a run come from its own named random streams. Its batches are therefore the same, bit for
bit, whether it trains alone or in a cohort.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bnexp.config.options import Augment, Order
from bnexp.config.schema import DataConfig
from bnexp.data.resident import Float64, Resident, Split
from bnexp.torch_rng import torch_generator

GROUP = 64  # images of one class in a row with ``order=grouped``: a batch of the usual size
CROP_PADDING = 4  # pixels on each side, as in He et al. (2015), Deep Residual Learning, section 4.2


def epoch_order(seed: int, epoch: int, n: int) -> Tensor:
    """The order in which a run sees its training images in one epoch.

    Args:
        seed: seed of the run.
        epoch: number of the epoch, from 1.
        n: number of training images.

    Returns:
        A permutation (n,), int64.
    """
    return torch.randperm(n, generator=torch_generator(seed, f"order/{epoch}"))


def arranged(order: Tensor, labels: Tensor, config: DataConfig) -> Tensor:
    """The images of an epoch in the order in which a run sees them.

    Args:
        order: random permutation (n,) of the images.
        labels: classes (n,) of the images before the permutation.
        config: ``data.order`` and ``data.duplicates``.

            - ``order=sorted``: class by class; inside a class the images are in the order of ``order``.
            - ``order=grouped``: as sorted, then cut into groups of 64, which come in random order. Classes take turns, and
              a batch of 64 holds one class, or two if the border between them falls into it.
            - ``order=grouped``, ``group_classes=k``: the same with sets of k classes in place of classes. The order decides
              which classes make a set, so each pass has other ones; the last set is smaller if k does not divide their number.
            - ``duplicates=k``: only the first n/k images of ``order``, each k times in a row (the last one less often if k
              does not divide n). The number of steps per epoch stays the same. The other images come in other epochs.

    Returns:
        Positions (n,) of images, int64.
    """
    if config.duplicates > 1:
        order = order[: math.ceil(len(labels) / config.duplicates)]
    if config.order is not Order.shuffled:
        places = _sets_of_classes(labels[order], config.group_classes).argsort(stable=True)
        if config.order is Order.grouped:
            *full, last = torch.split(places, GROUP)
            places = torch.cat([*sorted(full, key=lambda group: int(group[0])), last])  # by a place in a random permutation
        order = order[places]
    return order if config.duplicates == 1 else order.repeat_interleave(config.duplicates)[: len(labels)]


def _sets_of_classes(labels: Tensor, size: int) -> Tensor:
    """For each image the smallest class in the set of its class: (n,) -> (n,).

    Classes make sets of ``size`` in the order in which they first appear. With ``size`` 1 these are the labels themselves.
    """
    first = {int(label): None for label in labels}
    sets = [list(first)[i : i + size] for i in range(0, len(first), size)]
    name = {label: min(classes) for classes in sets for label in classes}
    return torch.tensor([name[int(label)] for label in labels])


def input_scale(config: DataConfig, mean: Float64, std: Float64) -> tuple[Float64, Float64]:
    """What takes a stored pixel 0..255 to the input of the network: ``pixel * scale + shift``.

    With p = pixel / 255, contrast and brightness give ``p' = (p - 1/2) * contrast + 1/2 + brightness``, as a camera with other
    settings would. p' is not clipped to 0..1, so no information is lost. Then follows ``(p' - mean) / std``, unless
    ``normalize`` is false.

    Args:
        config: ``data.contrast``, ``data.brightness`` and ``data.normalize``.
        mean: mean of each channel, pixel values scaled to 0..1, without contrast and brightness: a network that was trained
            on unshifted images has these constants too.
        std: standard deviation of each channel, likewise.

    Returns:
        ``(scale, shift)`` of each channel, in the shape of ``mean``.
    """
    if not config.normalize:
        mean, std = np.zeros_like(mean), np.ones_like(std)
    return config.contrast / (255 * std), ((0.5 - 0.5 * config.contrast + config.brightness) - mean) / std


def network_input(images: Tensor, scale: Tensor, shift: Tensor, in_channels: int, dtype: torch.dtype) -> Tensor:
    """Images as the network takes them.

    Args:
        images: pixels 0..255, (M, C, S, S) uint8.
        scale: factor of each channel, (C, 1, 1), as ``input_scale`` gives it; in the number format of the computation.
        shift: what is added after that, likewise.
        in_channels: channels of the network's input; grey images are repeated.
        dtype: number format of the result.

    Returns:
        (M, in_channels, S, S), contiguous.
    """
    # Two plain operations: a fused one may round differently in the vectorised part and in the rest of a batch.
    x = images.to(scale.dtype).mul_(scale).add_(shift)
    return x.to(dtype).expand(-1, in_channels, -1, -1).contiguous()


def epoch_augmentation(seed: int, epoch: int, n: int, augment: Augment) -> Tensor:
    """Random changes of the images of an epoch.

    All of them are drawn, whichever ``augment`` uses. So ``flip`` and ``flip_crop`` mirror the same images.

    Args:
        seed: seed of the run.
        epoch: number of the epoch, from 1.
        n: number of images.
        augment: which changes are used.

    Returns:
        (n, 3) uint8, in the order in which the images are seen: first row and first column in the padded image, and 1 if the
        image is mirrored.
    """
    generator = torch_generator(seed, f"augment/{epoch}")
    corner = torch.randint(0, 2 * CROP_PADDING + 1, (n, 2), generator=generator)
    mirrored = torch.randint(0, 2, (n, 1), generator=generator)
    return torch.cat([corner * _crops(augment), mirrored * _flips(augment)], 1).to(torch.uint8)


def augmented(images: Tensor, changes: Tensor, augment: Augment) -> Tensor:
    """Images (M, C, S, S) changed as ``changes`` (M, 3) of ``epoch_augmentation`` says; margins are black (0)."""
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
        config: ``data.*``; None: the defaults. ``augment`` changes training images at random: ``flip`` mirrors half of them,
            ``crop`` shifts by up to 4 pixels. For ``order`` and ``duplicates`` see ``arranged``; for ``normalize``,
            ``contrast`` and ``brightness`` see ``input_scale``.

    Attributes:
        block: number of images in a row that belong together: duplicates of an image, or groups of a class.
        eval_order: split -> positions (N,) of its images in the order of evaluation. The order is random and the same for
            every run. Norms that normalise by the batch in evaluation so see a fair sample of the classes, however the files
            are sorted.
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
        self.block = self.config.duplicates * (GROUP if self.config.order is Order.grouped else 1)

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
        self._moments = resident.mean[:channels, None, None], resident.std[:channels, None, None]
        self._scale, self._shift = self._input_scale()
        self._train_labels = torch.from_numpy(resident.train_labels[resident.train_index])

    def shifted(self, contrast: float, brightness: float) -> DeviceData:
        """The same images in the same memory, with another contrast and brightness on top of those of the configuration.

        Args:
            contrast: factor on the distance of pixel values from mid-grey.
            brightness: added to pixel values (0 to 1) after that.
        """
        own = self.config
        other = copy.copy(self)
        other.config = replace(own, contrast=own.contrast * contrast, brightness=own.brightness * contrast + brightness)
        other._scale, other._shift = other._input_scale()
        return other

    def _input_scale(self) -> tuple[Tensor, Tensor]:
        """What ``input_scale`` gives, on the device. The number format comes first: mps has no float64."""
        scale, shift = (torch.from_numpy(part).to(self._work_dtype) for part in input_scale(self.config, *self._moments))
        return scale.to(self.device), shift.to(self.device)

    def num_images(self, split: Split) -> int:
        """The number of images in a split."""
        images, _, index = self._splits[split]
        return len(images if index is None else index)

    def epoch_draws(self, seeds: Sequence[int], epoch: int) -> Tensor:
        """Everything random about an epoch.

        Args:
            seeds: seeds of the R runs.
            epoch: number of the epoch, from 1.

        Returns:
            int64, on the device. Without augmentation (R, n, 1): the indices of the n training images in the order in which
            each run sees them. With augmentation (R, n, 4): behind the index the changes of ``epoch_augmentation``, which are
            the same for all duplicates of an image.
        """
        index = self._splits["train"][2]
        assert index is not None
        order = self._for_each(seeds, lambda seed: self._arranged(epoch_order(seed, epoch, self.num_train)))
        draws = index[order].unsqueeze(-1)
        if self.augment is Augment.none:
            return draws
        return torch.cat([draws, self._for_each(seeds, lambda seed: self._changes(seed, epoch)).long()], -1)

    def train_batch(self, draws: Tensor) -> tuple[Tensor, Tensor]:
        """One batch. Depends on nothing but tensors on the device, so that it can be captured.

        Args:
            draws: a slice (R, N, ...) of ``epoch_draws``.

        Returns:
            x (N, R*C, S, S), normalised, the channels of run r at ``[r*C, (r+1)*C)``; and y (R, N) int64.
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
        """(R, ...): what each seed draws. Runs that share a seed share one draw."""
        drawn = {seed: draw(seed) for seed in dict.fromkeys(seeds)}
        return torch.stack([drawn[seed] for seed in seeds]).to(self.device)

    def _normalised(self, images: Tensor) -> Tensor:
        """(M, C, S, S) uint8 -> (M, in_channels, S, S) of ``dtype``, contiguous, grey repeated."""
        return network_input(images, self._scale, self._shift, self.in_channels, self.dtype)
