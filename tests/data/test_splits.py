"""Stratified splits: the shares, the members, and what is told where a part is empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnexp.config.schema import ConfigError, DataConfig
from bnexp.data.splits import split_off_test, stratified_choice, stratified_split
from bnexp.rng import numpy_generator

LABELS = np.arange(20) * 7 % 3


def shares(sizes: list[int], count: int) -> list[int]:
    """The number of members of each class in a choice of ``count``."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    chosen = stratified_choice(labels, count, np.random.default_rng(0))
    return np.bincount(labels[chosen], minlength=len(sizes)).tolist()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.floats(0, 1, allow_subnormal=False), st.integers(0, 3))
def test_a_stratified_choice_has_the_count_and_every_class_its_share(sizes: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    count = round(fraction * len(labels))
    chosen = stratified_choice(labels, count, np.random.default_rng(seed))
    assert len(chosen) == count
    assert (np.diff(chosen) > 0).all()
    counts = np.bincount(labels[chosen], minlength=len(sizes))
    assert (abs(counts - np.array(sizes) * count / len(labels)) < 1).all()


def test_what_rounding_leaves_goes_to_the_classes_that_lost_most_by_it() -> None:
    assert shares([1, 2, 4], 3) == [0, 1, 2]  # of 0.43, 0.86 and 1.71
    assert shares([4, 2, 1], 3) == [2, 1, 0]
    assert shares([3, 6, 11], 5) == [1, 1, 3]  # of 0.75, 1.5 and 2.75
    assert shares([1, 2] * 20, 30) == [1, 1] * 10 + [0, 1] * 10  # the first where all lost alike


def test_the_members_are_those_of_earlier_versions() -> None:
    # Records were made with these splits: they are comparable only as long as the splits stay.
    assert stratified_choice(LABELS, 7, numpy_generator(0, "x")).tolist() == [6, 7, 8, 14, 15, 16, 18]
    kept, taken = stratified_split(LABELS, 0.3, numpy_generator(1, "x"))
    assert kept.tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 16, 17, 19]
    assert taken.tolist() == [1, 9, 11, 13, 14, 18]
    train, test = split_off_test(DataConfig(split_seed=2, test_fraction=0.25), LABELS)
    assert train.tolist() == [2, 3, 4, 5, 6, 7, 11, 12, 13, 14, 15, 16, 17, 18, 19]
    assert test.tolist() == [0, 1, 8, 9, 10]


@pytest.mark.parametrize(("fraction", "part"), [(0.02, "test"), (0.98, "training")])
def test_an_empty_part_is_explained(fraction: float, part: str) -> None:
    with pytest.raises(ConfigError) as raised:
        split_off_test(DataConfig(test_fraction=fraction), LABELS)
    assert str(raised.value) == (
        f"data.test_fraction={fraction} of 20 images leaves no {part} images: change it, add images or give a test set."
    )
