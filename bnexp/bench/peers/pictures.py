"""The data set of the scripts in this folder; rung B0 of ``bnexp.bench`` has it, too."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets give them: stored as bytes, made into a PIL image and transformed at each access.

    They already have the network's size, so there is no resizing as in the usual tutorial.

    Args:
        images: bytes (N, C, S, S), a numpy array.
        labels: (N,), a numpy array.
        mean: of each channel, for images between 0 and 1.
        std: the same.
    """

    def __init__(self, images: Any, labels: Any, mean: Any, std: Any) -> None:
        self.pictures = images.transpose(0, 2, 3, 1)
        self.labels = labels
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = self.pictures[index]
        image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
        return self.transform(image), int(self.labels[index])


def load(path: str) -> dict[str, Pictures]:
    """The splits ``train``, ``val`` and ``test`` of an npz file with ``x_train y_train x_val y_val x_test y_test mean std``."""
    with np.load(path) as file:
        return {
            split: Pictures(file[f"x_{split}"], file[f"y_{split}"], file["mean"], file["std"])
            for split in ("train", "val", "test")
        }
