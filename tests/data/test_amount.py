"""Numbers of training images that are asked for, against those that there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnexp.config.options import DataName
from bnexp.config.schema import BudgetConfig, ConfigError, DataConfig, RunConfig
from bnexp.data.amount import budget_note, fit_train_size, split_sizes
from bnexp.data.resident import prepare
from tests.data.made_files import images_and_labels


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """300 images of one's own, 15 of them for validation."""
    import numpy as np

    monkeypatch.setenv("BNEXP_CACHE_DIR", str(tmp_path / "cache"))
    images, labels = images_and_labels(300, 16, 16)
    np.savez(tmp_path / "small.npz", x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
    return DataConfig(name=DataName.npz, root=str(tmp_path / "small.npz"))


@pytest.mark.parametrize("val_fraction", [0.0, 0.02, 0.05, 0.37])
def test_what_is_known_of_a_data_set_is_what_its_files_hold(val_fraction: float, shared_cache: Path) -> None:
    config = DataConfig(name=DataName.digits, val_fraction=val_fraction)
    resident = prepare(config)
    assert split_sizes(config) == (len(resident.train_index), len(resident.val_index))


def test_images_of_ones_own_are_counted(small: DataConfig) -> None:
    assert split_sizes(small) == (285, 15)


@pytest.mark.parametrize(
    ("asked", "budget", "used"),
    [
        (None, 2000, None),
        (100, 2000, 100),
        (285, 285, 285),
        (2000, 2000, None),
        (286, None, "allowed is at most 285 or null"),
        (5000, 2000, "data.train_size=5000 is more than there is: npz has 285 training images besides the 15 for validation"),
    ],
)
def test_a_budget_takes_all_of_smaller_data_and_a_number_of_ones_own_must_fit(
    small: DataConfig, asked: int | None, budget: int | None, used: int | str | None
) -> None:
    small.train_size = asked
    config = RunConfig(data=small, budget=BudgetConfig(train_size=budget))
    if isinstance(used, str):
        with pytest.raises(ConfigError, match=used):
            fit_train_size(config)
        return
    fit_train_size(config)
    assert config.data.train_size == used
    told = "npz has 285 training images, fewer than the 2,000 of the budget: all of them are used."
    assert budget_note(config) == (told if used is None else "")
