"""The arithmetic limit of the bench, counted by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bnexp.bench.limit import limit_seconds, operations
from bnexp.bench.work import Work
from bnexp.config.options import DataName, Device

CONV1 = 2 * 28 * 28 * 6 * (5 * 5 * 1)
CONV2 = 2 * 10 * 10 * 16 * (5 * 5 * 6)
LINEAR = 2 * (400 * 120 + 120 * 84 + 84 * 10)
FORWARD = CONV1 + CONV2 + LINEAR
# Images need no gradient, so the first convolution has one of two; behind pooling a quarter of the places count.
TRAINING = FORWARD + 2 * LINEAR + (CONV1 + 2 * CONV2) / 4


def test_operations_are_those_of_lenet() -> None:
    assert operations(1, 32, 10) == (TRAINING, FORWARD)


def test_every_run_trains_validates_and_is_tested() -> None:
    data: Any = SimpleNamespace(
        in_channels=1, size=32, num_classes=10, train_index=range(100), val_index=range(30), test_labels=range(7)
    )
    work = Work(DataName.digits, 100, 3, 4, Device.cpu)
    once = 3 * 100 * TRAINING + (3 * 30 + 7) * FORWARD
    assert limit_seconds(work, data, 1e6) == pytest.approx(work.num_runs * once / 1e6)
