"""``train.*`` and ``optim.*``: how a run trains."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bnexp.config.options import Device, Kernels, NormStatistics, OptimName, Precision, Schedule, Trainable
from bnexp.config.schema.field import key


@dataclass
class OptimConfig:
    name: OptimName = key(OptimName.sgd, "optimiser")
    lr: float = key(0.01, "learning rate (peak)", above=0.0)
    momentum: float = key(0.9, "SGD momentum", low=0.0, below=1.0)
    nesterov: bool = key(False, "Nesterov momentum (SGD)")
    weight_decay: float = key(0.0, "L2 penalty on all parameters", low=0.0)
    beta1: float = key(0.9, "Adam: decay of the first moment", low=0.0, below=1.0)
    beta2: float = key(0.999, "Adam: decay of the second moment", low=0.0, below=1.0)
    eps: float = key(1e-8, "Adam: added to the denominator", above=0.0)
    schedule: Schedule = key(Schedule.constant, "course of the learning rate")
    warmup: float = key(0.0, "epochs of linear warm-up", low=0.0)
    step_epochs: float = key(5.0, "step schedule: epochs between two drops", above=0.0)
    step_gamma: float = key(0.1, "step schedule: factor of a drop", above=0.0, high=1.0)


@dataclass
class TrainConfig:
    epochs: int = key(10, "length of the training; an epoch is one pass through the training images, or steps_per_epoch", low=1)
    steps_per_epoch: int | None = key(
        None,
        "updates per epoch, each on a full batch; passes through the images go on from one epoch to the next; null: one pass, "
        "whose last batch takes what is left",
        low=1,
        high=1_000_000,
    )
    batch_size: int = key(64, "training images per step", low=1)
    eval_batch_size: int = key(500, "images per step in evaluation", low=1, identity=False)
    device: Device = key(
        Device.auto, "device that trains; auto: a GPU if there is one, else the CPU; on Ray the CPU", identity=False
    )
    precision: Precision = key(Precision.fp32, "number format, the same for every arm")
    kernels: Kernels = key(
        Kernels.auto,
        "what computes max pooling, the convolution before it and batch norm in training, on a CPU; auto: bnexp's compiled "
        "kernels, where there are some; torch: PyTorch; the same up to rounding",
        identity=False,
    )
    evals_per_epoch: int = key(1, "validations per epoch, evenly spaced", low=1)
    init_from: str | None = key(None, "run whose weights training starts from; null: newly drawn weights")
    trainable: Trainable = key(Trainable.all, "parameters that are trained; head: the output layer")
    norm_statistics: NormStatistics = key(
        NormStatistics.live,
        "running statistics in training: live: updated by each batch; frozen: used as they are; recomputed: computed over "
        "the training images first, then frozen",
    )
    log_every: int = key(
        0, "number of steps between two records of the training loss; 0: only once per epoch", low=0, identity=False
    )

    def images_per_epoch(self, num_train: int) -> int:
        """How many images an epoch shows, each counted as often as it is seen, if there are ``num_train`` training images."""
        return num_train if self.steps_per_epoch is None else self.steps_per_epoch * self.batch_size

    def updates_per_epoch(self, num_train: int) -> int:
        """How many updates make an epoch, if there are ``num_train`` training images."""
        return math.ceil(self.images_per_epoch(num_train) / self.batch_size)
