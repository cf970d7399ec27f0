"""Stratified splits: every class keeps its share, to the image."""

from __future__ import annotations

import numpy as np

from bnexp.config.schema import ConfigError, DataConfig
from bnexp.data.images import Int64
from bnexp.rng import numpy_generator


def stratified_choice(labels: Int64, count: int, generator: np.random.Generator) -> Int64:
    """Choose some images at random, each class in proportion to its size.

    The exact shares are rounded down; the rest goes to the classes with the largest remainders. So no class is off by a whole
    image.

    Args:
        labels: classes (N,) of the images.
        count: how many are chosen.
        generator: of the random choice.

    Returns:
        Positions (count,), ascending.
    """
    sizes = np.bincount(labels)
    quota, remainder = np.divmod(sizes * count, len(labels))
    most_cut = np.argsort(-remainder, kind="stable")
    quota[most_cut[: count - quota.sum()]] += 1
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    chosen = [generator.permutation(members)[:number] for members, number in zip(by_class, quota, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def part_sizes(count: int, fraction: float) -> tuple[int, int]:
    """The sizes ``(kept, taken)`` of the two parts that ``stratified_split`` makes of ``count`` labels."""
    taken = round(fraction * count)
    return count - taken, taken


def stratified_split(labels: Int64, fraction: float, generator: np.random.Generator) -> tuple[Int64, Int64]:
    """Part images in two at random, each class in proportion to its size.

    Args:
        labels: classes (N,) of the images.
        fraction: part of the images that is taken; their number is rounded.
        generator: of the random choice.

    Returns:
        Positions ``(kept, taken)``, ascending and disjoint.
    """
    taken = stratified_choice(labels, part_sizes(len(labels), fraction)[1], generator)
    kept = np.setdiff1d(np.arange(len(labels)), taken, assume_unique=True)
    return kept, taken


def split_off_test(config: DataConfig, labels: Int64) -> tuple[Int64, Int64]:
    """``(train, test)`` positions for a source without a test set. Raises ConfigError if either would be empty."""
    train, test = stratified_split(labels, config.test_fraction, numpy_generator(config.split_seed, "split/test"))
    if not len(train) or not len(test):
        part = "test" if len(train) else "training"
        raise ConfigError(
            f"data.test_fraction={config.test_fraction:g} of {len(labels)} images leaves no {part} images: "
            "change it, add images or give a test set."
        )
    return train, test
