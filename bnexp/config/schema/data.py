"""``data.*``: which images a run trains on, and how they are made ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bnexp.config.options import Augment, DataName, Order
from bnexp.config.schema.field import key


@dataclass
class DataConfig:
    name: DataName = key(DataName.mnist, "data set")
    root: str | None = key(None, "directory of the raw files; for image_folder and npz the folder or file itself")
    factory: str | None = key(
        None, "python: your function that returns the images, FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION"
    )
    args: dict[str, Any] = key(factory=dict, help="python: arguments of your function, by name")
    fingerprint: str = key("", "python: hash of your function's source; set by bnexp")
    size: int = key(32, "side of the square input image, pixels", low=16, high=256)
    channels: int | None = key(
        None, "channels of the input; null: those of the images; 3 repeats the channel of grey images", choices=(1, 3)
    )
    train_size: int | None = key(
        None,
        "number of training images, stratified, at most as many as there are (but see budget.train_size); null: all",
        low=10,
    )
    val_fraction: float = key(0.05, "part of the training images kept for validation, stratified", low=0.0, below=0.9)
    test_fraction: float = key(0.2, "part used as test set if the source has none", above=0.0, below=0.9)
    split_seed: int = key(0, "seed of the train/validation split, the same for every run", low=0)
    augment: Augment = key(Augment.none, "random changes of training images")
    normalize: bool = key(True, "subtract the training images' mean and divide by their standard deviation")
    order: Order = key(Order.shuffled, "order of the training images; sorted: class by class; grouped: 64 of a class in a row")
    group_classes: int = key(
        1, "order=grouped: number of classes in each 64 images, mixed at random; other classes in each pass", low=1
    )
    duplicates: int = key(1, "copies of each image per training batch; the number of steps per epoch stays the same", low=1)
    contrast: float = key(
        1.0, "factor on the distance of pixel values from mid-grey, before normalisation; -1 inverts", low=-1.0, high=2.0
    )
    brightness: float = key(0.0, "added to pixel values (0 to 1), before normalisation", low=-1.0, high=1.0)
    margin: float = key(1.0, "smallest accuracy difference of practical interest, percentage points", above=0.0, identity=False)
    effort: int = key(
        1,
        "how many times the updates of MNIST a network needs to learn the training images; short budgets multiply by it",
        low=1,
        identity=False,
    )
