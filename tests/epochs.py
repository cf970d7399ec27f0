"""Epochs of training batches, for tests that look at them one after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor


def epoch_batches(data: Any, seeds: Sequence[int], epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of ``epoch`` that runs with these seeds see: x (N, R*C, S, S) and y (R, N), the last one smaller."""
    draws = data.epoch_draws(seeds, epoch)
    for start in range(0, data.num_train, batch_size):
        yield data.train_batch(draws[:, start : start + batch_size])
