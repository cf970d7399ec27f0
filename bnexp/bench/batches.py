"""Three ways to the same batches: the tutorial's DataLoader (B0), a tuned one (B1), tensors in memory (B2 to B4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, TensorDataset

from bnexp.bench.plain import Batch
from bnexp.config.schema import TrainConfig
from bnexp.data.batches import epoch_order
from bnexp.data.resident import Resident, Split
from bnexp.run.local import num_cores

EVALUATED: tuple[Split, ...] = ("val", "test")
MAX_LOADERS = 4  # worker processes of a tuned DataLoader, which leaves one core to the training itself


class EpochOrder(Sampler[int]):
    """The order of bnexp's run with this seed in this epoch, instead of torch's own random order."""

    def __init__(self, num_images: int) -> None:
        self.num_images, self.seed, self.epoch = num_images, 0, 1

    def __iter__(self) -> Iterator[int]:
        return iter(epoch_order(self.seed, self.epoch, self.num_images).tolist())

    def __len__(self) -> int:
        return self.num_images


class Loaders:
    """Batches of DataLoaders that are made once for all runs.

    Args:
        train: loader of the training images.
        order: the sampler of ``train``, which is told the run and the epoch.
        evaluate: split -> loader of its images.
    """

    def __init__(self, train: DataLoader[Any], order: EpochOrder, evaluate: Mapping[Split, DataLoader[Any]]) -> None:
        self._train, self._order, self._evaluate = train, order, evaluate

    def train(self, seed: int, epoch: int) -> Iterator[Batch]:
        self._order.seed, self._order.epoch = seed, epoch
        return iter(self._train)

    def evaluate(self, split: Split) -> Iterator[Batch]:
        return iter(self._evaluate[split])


def tutorial_loaders(data: Resident, train: TrainConfig) -> Loaders:
    """B0: loaders over ``Pictures``, without worker processes."""
    from bnexp.bench.peers.pictures import Pictures  # torchvision takes a second, which other rungs do not need

    dataset = Pictures(*_images(data, "train"), data.mean, data.std)
    order = EpochOrder(len(dataset))
    evaluate = {
        split: DataLoader(Pictures(*_images(data, split), data.mean, data.std), train.eval_batch_size) for split in EVALUATED
    }
    return Loaders(DataLoader(dataset, train.batch_size, sampler=order), order, evaluate)


def tuned_loaders(data: Resident, train: TrainConfig, device: torch.device) -> Loaders:
    """B1: loaders over normalised tensors. Training batches come from worker processes that live as long as the rung."""
    dataset = TensorDataset(*_tensors(data, "train"))
    order = EpochOrder(len(dataset))
    pinned: dict[str, Any] = {"pin_memory": device.type == "cuda"}
    kept: dict[str, Any] = {"num_workers": max(1, min(MAX_LOADERS, num_cores() - 1)), "persistent_workers": True}
    evaluate = {
        split: DataLoader(TensorDataset(*_tensors(data, split)), train.eval_batch_size, **pinned) for split in EVALUATED
    }
    return Loaders(DataLoader(dataset, train.batch_size, sampler=order, **kept, **pinned), order, evaluate)


class ResidentTensors:
    """B2 to B4: the images of each split as one normalised tensor on the device; a batch is indexed out of it."""

    def __init__(self, data: Resident, train: TrainConfig, device: torch.device) -> None:
        self._train_config = train
        self._splits = {split: tuple(t.to(device) for t in _tensors(data, split)) for split in ("train", "val", "test")}
        self.images, self.labels = self._splits["train"]

    def train(self, seed: int, epoch: int) -> Iterator[Batch]:
        order = epoch_order(seed, epoch, len(self.labels)).to(self.labels.device)
        for chosen in torch.split(order, self._train_config.batch_size):
            yield self.images[chosen], self.labels[chosen]

    def evaluate(self, split: Split) -> Iterator[Batch]:
        images, labels = self._splits[split]
        size = self._train_config.eval_batch_size
        yield from zip(torch.split(images, size), torch.split(labels, size), strict=True)


def _images(data: Resident, split: Split) -> tuple[Any, Any]:
    """Bytes (N, C, S, S) and labels (N,) of a split."""
    if split == "test":
        return data.test_images, data.test_labels
    index = data.train_index if split == "train" else data.val_index
    return data.train_images[index], data.train_labels[index]


def _tensors(data: Resident, split: Split) -> tuple[Tensor, Tensor]:
    """Normalised float32 images (N, C, S, S) and labels (N,) of a split."""
    images, labels = _images(data, split)
    mean, std = (torch.as_tensor(values, dtype=torch.float32)[:, None, None] for values in (data.mean, data.std))
    return (torch.as_tensor(images) / 255).sub_(mean).div_(std), torch.as_tensor(labels)
