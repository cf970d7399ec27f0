"""Images that are in more than one part of a data set, or under two labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_files import images_and_labels, load
from PIL import Image

from bnexp.config.options import DataName
from bnexp.config.schema import DataConfig
from bnexp.data.overlap import Overlap, overlap_warning
from bnexp.data.resident import Resident, prepare


def by_hand(resident: Resident) -> tuple[int, int]:
    """Test and validation images that are also trained on, each image compared with each."""
    trained = resident.train_images[resident.train_index]
    asked = resident.test_images, resident.train_images[resident.val_index]
    test, val = (sum(bool((trained == image).all((1, 2, 3)).any()) for image in images) for images in asked)
    return test, val


def test_test_images_that_are_also_training_images_are_counted(npz: Path) -> None:
    assert load(npz, val_fraction=0.0).overlap == Overlap(test=20, val=0, two_labels=0)


def test_only_images_that_a_run_trains_on_count(npz: Path) -> None:
    part = load(npz, val_fraction=0.2, train_size=40)
    assert 0 < part.overlap.test < 20
    assert (part.overlap.test, part.overlap.val) == by_hand(part)


def test_copies_in_a_folder_fall_on_both_sides_of_the_splits_that_we_make(tmp_path: Path) -> None:
    images, labels = images_and_labels(60, 16, 16, num_classes=2)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (tmp_path / str(label)).mkdir(exist_ok=True)
        for copy in "ab":
            Image.fromarray(image).save(tmp_path / str(label) / f"{number}{copy}.png")
    folder = prepare(DataConfig(name=DataName.image_folder, root=str(tmp_path), size=16, val_fraction=0.2))
    assert min(by_hand(folder)) > 0
    assert (folder.overlap.test, folder.overlap.val) == by_hand(folder)


def test_images_under_two_labels_are_counted_in_all_parts(tmp_path: Path) -> None:
    images, labels = images_and_labels(40, 16, 16, num_classes=4)
    images[[1, 2]] = images[0]  # labels 0, 1 and 2
    images[8] = images[4]  # both 0
    test = np.stack([images[3], images[5]])
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=test, y_test=[3, 2])  # image 5 has label 1
    assert load(tmp_path / "data.npz", val_fraction=0.0).overlap == Overlap(test=2, val=0, two_labels=5)


def test_published_data_has_no_test_image_among_its_training_images(real_data_dir: Path) -> None:
    for name in (DataName.digits, DataName.mnist):
        assert prepare(DataConfig(name=name)).overlap == Overlap(0, 0, 0)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"test": (20, 10_000)}, ""),  # moves no accuracy by more than the margin
        ({"test": (1, 100), "validation": (0, 0)}, ""),
        ({"test": (1_021, 10_000)}, "The training images also contain 1,021 of the 10,000 test images. "),
        ({"test": (2, 100), "validation": (0, 50)}, "The training images also contain 2 of the 100 test images. "),
        (
            {"test": (2, 100), "validation": (4, 50)},
            "The training images also contain 2 of the 100 test images and 4 of the 50 validation images. ",
        ),
    ],
)
def test_a_warning_comes_if_copies_can_move_an_accuracy_by_more_than_the_margin(
    seen: dict[str, tuple[int, int]], said: str
) -> None:
    why = (
        "A network can know these by heart, so accuracy says too much about new images. Remove the copies, or keep all copies "
        "of an image in one part of the data."
    )
    assert overlap_warning(seen, margin=1.0) == (said + why if said else "")
