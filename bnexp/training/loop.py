"""The steps of an epoch as a function of device state alone: gather, normalise, forward, backward, update, remember.

Shape letters: R runs, G orders of the training images, N batch, S steps of an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bnexp.config.schema import TrainConfig
from bnexp.training.step import EpochTotals, TrainStep

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData


def shared_orders(seeds: Sequence[int]) -> list[int]:
    """The seeds whose batches a cohort gathers: one for each block of runs that share a data order.

    If the seeds come in blocks of equal length, each distinct seed is gathered once: ``[3, 3, 5, 5]`` needs the batches of
    ``[3, 5]``. The first convolution then reads G instead of R images per position and is R/G times denser. Any other sequence
    is gathered run by run.

    Args:
        seeds: of each run, (R,).
    """
    distinct = list(dict.fromkeys(seeds))
    length = len(seeds) // len(distinct)
    return distinct if list(seeds) == [seed for seed in distinct for _ in range(length)] else list(seeds)


def filled_length(num_images: int, block: int) -> int:
    """The number of images of a pass whose last block is full."""
    return math.ceil(num_images / block) * block


def filled(draws: Tensor, block: int) -> Tensor:
    """The draws of a pass (G, n, ...), those of the last block repeated in order until it is full."""
    n = draws.shape[1]
    columns = torch.arange(filled_length(n, block), device=draws.device)
    begin = (n - 1) // block * block
    return draws.index_select(1, torch.where(columns < n, columns, begin + (columns - begin) % (n - begin)))


class EpochLoop:
    """The steps of an epoch, one after another, on state that never leaves its place in memory.

    Without ``steps_per_epoch`` an epoch is one pass through the training images, and its last step takes those that are left.
    With it every step has a full batch, and the passes follow each other without a gap: a batch may end one pass and begin the
    next. Images that belong together (``data.block``) stay in one batch, if the batch size is a multiple of their number:
    the last of a pass are repeated until they are that many. Pass p has the same order as epoch p without
    ``steps_per_epoch``, so both train the same bits if an epoch is a whole number of batches and of such blocks.

    ``begin`` puts the draws of an epoch into a fixed tensor. Each step reads its place there from a counter on the device, and
    writes loss and number correct into a row of its own. So one captured graph per batch size serves every step. ``read`` is
    the only point that waits for the device.

    Args:
        step: what is done with a batch.
        data: where the images are.
        seeds: of each run, (R,). Runs share batches if equal seeds come in blocks, see ``shared_orders``.
        train: ``batch_size`` and ``steps_per_epoch``.
    """

    def __init__(self, step: TrainStep, data: DeviceData, seeds: Sequence[int], train: TrainConfig) -> None:
        self.step, self.data, self.train = step, data, train
        self.batch_size = train.batch_size
        self.orders = shared_orders(seeds)
        self.runs_per_order = len(seeds) // len(self.orders)
        full, rest = divmod(train.images_per_epoch(data.num_train), self.batch_size)
        self.sizes = [self.batch_size] * full + [rest] * (rest > 0)
        flat = step.network.flat
        counts: dict[str, Any] = {"dtype": torch.int64, "device": flat.device}
        self.index = torch.zeros(1, **counts)  # of the next step in its epoch
        self.offsets = torch.arange(self.batch_size, **counts)
        self.losses = torch.zeros(len(self.sizes), len(seeds), dtype=flat.dtype, device=flat.device)
        self.correct = torch.zeros(len(self.sizes), len(seeds), **counts)
        self.draw(1)
        self.draws = self.upcoming[1].clone()
        self.functions: dict[int, Callable[[], None]] = {size: partial(self.run, size) for size in set(self.sizes)}

    @property
    def state(self) -> list[Tensor]:
        """Every tensor that a step changes."""
        return [*self.step.state, self.index, self.losses, self.correct]

    def draw(self, epoch: int) -> None:
        """Draw the random numbers of ``epoch``, counted from 1, ahead of time."""
        self.upcoming = epoch, self._draws(epoch)

    def _draws(self, epoch: int) -> Tensor:
        """The draws (G, n, ...) of the n images that the epoch shows."""
        if self.train.steps_per_epoch is None:
            return self.data.epoch_draws(self.orders, epoch)
        count, length = sum(self.sizes), filled_length(self.data.num_train, self.data.block)
        number, skipped = divmod((epoch - 1) * count, length)
        passes = [
            filled(self.data.epoch_draws(self.orders, number + k), self.data.block)
            for k in range(1, math.ceil((skipped + count) / length) + 1)
        ]
        return torch.cat(passes, 1)[:, skipped : skipped + count]

    def begin(self, epoch: int) -> None:
        """Make ready for the first step of ``epoch``."""
        if self.upcoming[0] != epoch:
            self.draw(epoch)
        self.draws.copy_(self.upcoming[1])
        self.index.zero_()

    def gather(self, size: int) -> tuple[Tensor, Tensor]:
        """The next batch, of ``size`` images: x (N, G*C, S, S) and y (R, N)."""
        columns = self.index * self.batch_size + self.offsets[:size]
        x, y = self.data.train_batch(self.draws.index_select(1, columns))
        return x, y.unsqueeze(1).expand(-1, self.runs_per_order, -1).flatten(0, 1)

    def run(self, size: int) -> None:
        """The next step, on a batch of ``size`` images."""
        losses, correct = self.step(*self.gather(size))
        self.losses.index_copy_(0, self.index, losses.to(self.losses.dtype).unsqueeze(0))
        self.correct.index_copy_(0, self.index, correct.unsqueeze(0))
        self.index += 1

    def read(self) -> EpochTotals:
        """The totals of the epoch. The loss is weighted by batch size, so that every image counts once."""
        losses = self.losses.cpu().double().numpy()
        correct = self.correct.sum(0).cpu().double().numpy()
        sizes = np.array(self.sizes)
        with np.errstate(invalid="ignore", over="ignore"):
            loss = sizes @ losses / sizes.sum()
        return EpochTotals(losses, loss, correct / sizes.sum())
