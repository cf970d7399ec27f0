"""A user whose test images are also training images is told so: before training, of the data set, and beside the answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Cli

STUDY = ("study.seeds=2", "train.epochs=1", "train.batch_size=30", "executor=inline", "track.wandb.mode=disabled")


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Overrides for images of which 10 of 30 test images are also training images."""
    images, labels = np.random.default_rng(0).integers(0, 255, (110, 16, 16), np.uint8), np.arange(110) % 2
    test = slice(80, 110)  # the first 10 of these are also among the first 90
    np.savez(tmp_path / "mine.npz", x_train=images[:90], y_train=labels[:90], x_test=images[test], y_test=labels[test])
    monkeypatch.chdir(tmp_path)
    return "data=npz", "data.root=mine.npz", "data.size=16", "data.val_fraction=0"


TOLD = "The training images also contain 10 of the 30 test images."


def test_a_study_says_it_once_before_training_and_in_its_report(cli: Cli, asked: tuple[str, ...]) -> None:
    first = cli("study", "batchnorm", *asked, *STUDY, "data.contrast=1.0,0.5")  # two ways to prepare the same images
    assert " ".join(first.err.split()).count(TOLD) == 1
    Path("mine.npz").unlink()
    assert cli("report", "batchnorm").code == 0
    assert TOLD in next(Path("runs").glob("batchnorm/study-*/report.html")).read_text()


def test_data_describes_it(cli: Cli, asked: tuple[str, ...]) -> None:
    _, *keys = asked
    found = cli("data", "npz", *keys, "--json")
    facts = {row["fact"]: row["value"] for row in json.loads(found.out)}
    assert (facts["test_images_trained_on"], facts["validation_images_trained_on"], facts["images_with_two_labels"]) == (
        10,
        0,
        0,
    )
    assert TOLD in " ".join(found.err.split())
    clean = cli("data", "digits")
    assert "test images that are also training images" in clean.out
    assert "by heart" not in clean.err
