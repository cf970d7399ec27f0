"""Numbers of training images that are asked for, against those that there are."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bnexp.config.options import DataName
from bnexp.config.schema import BudgetConfig, ConfigError, DataConfig, RunConfig
from bnexp.data import resident as resident_module
from bnexp.data.amount import budget_note, fit_train_size, split_sizes
from bnexp.data.download import DataError
from bnexp.data.resident import prepare
from bnexp.data.shown import Prepared
from tests.data.made_files import images_and_labels


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """300 images of one's own, 15 of them for validation."""
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


@pytest.mark.parametrize("name", [DataName.npz, DataName.image_folder])
@pytest.mark.parametrize("has_test_set", [True, False])
@pytest.mark.parametrize("fraction", [0.05, 0.31])
def test_own_images_are_counted_without_packing_as_many_as_are_then_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: DataName, has_test_set: bool, fraction: float
) -> None:
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(tmp_path / "cache"))
    images, labels = images_and_labels(63, 16, 16, num_classes=3)
    root = tmp_path / "mine"
    if name is DataName.npz:
        root = tmp_path / "mine.npz"
        test = {"x_test": images[:20], "y_test": labels[:20]} if has_test_set else {}
        np.savez(root, x_train=images, y_train=labels, **test)
    for i, (image, label) in enumerate(zip(images, labels, strict=True) if name is DataName.image_folder else ()):
        for part in ("train", "test") if has_test_set else ("",):
            (root / part / str(label)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(root / part / str(label) / f"{i}.png")
    config = DataConfig(name=name, root=str(root), size=16, val_fraction=fraction, test_fraction=fraction)
    sizes = split_sizes(config)
    assert not (tmp_path / "cache").exists()
    resident = prepare(config)
    assert sizes == (len(resident.train_index), len(resident.val_index))


@pytest.mark.parametrize("shape", [(), (0, 16, 16), (60, 16)])
def test_what_are_no_images_is_not_counted(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.savez(tmp_path / "mine.npz", x_train=np.zeros(shape, np.uint8), y_train=np.arange(60) % 3)
    with pytest.raises(DataError, match=rf"mine.npz: x_train has shape {re.escape(str(shape))}"):
        split_sizes(DataConfig(name=DataName.npz, root=str(tmp_path / "mine.npz")))


def test_a_command_prepares_each_of_its_data_sets_once(small: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[DataConfig] = []
    monkeypatch.setattr(resident_module, "prepare", lambda config, _: asked.append(config) or prepare(config))
    prepared = Prepared()
    other = replace(small, train_size=100)
    first, second = prepared(small), prepared(other)
    assert (len(first.train_index), len(second.train_index)) == (285, 100)
    assert prepared(replace(small)) is first
    assert prepared(other) is second
    assert asked == [small, other]


def test_progress_goes_to_standard_error_one_line_for_each_thing(small: DataConfig, capsys: pytest.CaptureFixture[str]) -> None:
    Prepared()(small)
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", "resizing images ...\npacking npz ...\n")


def test_nothing_is_said_of_a_budget_that_is_not_cut_short(small: DataConfig) -> None:
    for budget in (None, 285, 100):
        assert budget_note(RunConfig(data=small, budget=BudgetConfig(train_size=budget))) == ""


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
