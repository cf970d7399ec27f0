"""Random images in memory with the interface of ``bnexp.data.batches.DeviceData``, and short configurations for them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bnexp.config.options import Device, NormKind, Placement, Precision
from bnexp.config.schema import NormConfig, RunConfig, TrainConfig
from bnexp.plan.spec import RunSpec
from bnexp.torch_rng import torch_generator


class FakeData:
    """Images of 20 x 20 pixels, noise around one pattern a class, so that there is something to learn."""

    in_channels, size, num_classes, block = 1, 20, 4, 1

    def __init__(self, num_train: int = 44, num_val: int = 10, num_test: int = 15, dtype: torch.dtype = torch.float64) -> None:
        self.num_train, self.dtype, self.device = num_train, dtype, torch.device("cpu")
        g = torch.Generator().manual_seed(1)
        patterns = torch.randn(self.num_classes, 1, self.size, self.size, generator=g, dtype=torch.float64)
        self.splits = {}
        for split, n in (("train", num_train), ("val", num_val), ("test", num_test)):
            y = torch.randint(self.num_classes, (n,), generator=g)
            noise = torch.randn(n, 1, self.size, self.size, generator=g, dtype=torch.float64)
            self.splits[split] = ((patterns[y] + noise).to(dtype), y)
        self.eval_order = {split: torch.randperm(len(y), generator=g) for split, (_, y) in self.splits.items()}

    def shifted(self, contrast: float, brightness: float) -> FakeData:
        """A shift of all images, which are as random as before: any will do."""
        other = copy.copy(self)
        other.splits = {split: (contrast * x + brightness, y) for split, (x, y) in self.splits.items()}
        return other

    def num_images(self, split: str) -> int:
        return len(self.splits[split][1])

    def epoch_draws(self, seeds: Sequence[int], epoch: int) -> Tensor:
        generators = [torch_generator(seed, f"order/{epoch}") for seed in seeds]
        return torch.stack([torch.randperm(self.num_train, generator=g) for g in generators]).unsqueeze(-1)

    def train_batch(self, draws: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.splits["train"]
        return torch.cat([x[rows] for rows in draws[..., 0]], dim=1), y[draws[..., 0]]

    def eval_batches(self, split: str, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.eval_order[split]
        for start in range(0, len(order), batch_size):
            yield self.images(split, order[start : start + batch_size])

    def images(self, split: str, positions: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.splits[split]
        return x[positions], y[positions]


def make_config(seed: int = 0, norm: dict[str, Any] | None = None, **sections: dict[str, Any]) -> RunConfig:
    """A small float64 configuration on the CPU; ``norm`` means batch norm, sections are keys of ``RunConfig``."""
    placement = Placement((norm or {}).get("placement", Placement.after_pool))
    config = RunConfig(
        seed=seed,
        train=TrainConfig(epochs=2, batch_size=12, eval_batch_size=7, device=Device.cpu, precision=Precision.fp64),
        norm=NormConfig() if norm is None else NormConfig(**(norm | {"kind": NormKind.batch, "placement": placement})),
    )
    return replace(config, **{name: replace(getattr(config, name), **keys) for name, keys in sections.items()})


def make_spec(seed: int = 0, norm: dict[str, Any] | None = None, **sections: dict[str, Any]) -> RunSpec:
    return RunSpec(make_config(seed, norm, **sections))
