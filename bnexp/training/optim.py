"""Optimisers over a flat ``(R, P)`` tensor of parameters, and learning rate schedules.

Each row is one run. Hyperparameters are columns ``(R, 1)``, so that each run has its own. One step is a few elementwise
operations, whatever the number of layers and runs. A new optimiser is a class here, a line in ``OPTIMISERS``, a member of
``OptimName`` with its keys, and a file ``configs/optim/NAME.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnexp.config.options import OptimName, Schedule
from bnexp.config.schema import OptimConfig

Float64 = NDArray[np.float64]


class Optimiser(Protocol):
    """Updates the parameters that it was built with, in place. ``state`` is all that it remembers from step to step."""

    state: tuple[Tensor, ...]

    def step(self, gradient: Tensor, t: Tensor) -> None:
        """Update the parameters once.

        Args:
            gradient: (R, P); it may be overwritten.
            t: (1,) int64 on the device, the number of updates so far.
        """


class SGD:
    """Stochastic gradient descent with momentum: exactly ``torch.optim.SGD`` without dampening, for each run.

    ``g += weight_decay * p;  v = momentum * v + g;  p -= lr * v`` (Nesterov: ``p -= lr * (g + momentum * v)``).

    Args:
        parameters: (R, P), changed in place.
        lr: learning rates, (T, R) for all T steps.
        momentum: of each run, (R,).
        weight_decay: factor of the L2 penalty of each run, (R,).
        nesterov: whether the momentum is Nesterov's.

    Reference: Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013.
    """

    def __init__(self, parameters: Tensor, lr: Float64, momentum: Float64, weight_decay: Float64, nesterov: bool) -> None:
        self.parameters = parameters
        self.minus_lr = _columns(-lr, parameters)
        self.momentum = _columns(momentum, parameters)
        self.weight_decay = _columns(weight_decay, parameters) if weight_decay.any() else None
        self.nesterov = nesterov
        self.velocity = torch.zeros_like(parameters)
        self.state: tuple[Tensor, ...] = (self.velocity,)

    def step(self, gradient: Tensor, t: Tensor) -> None:
        if self.weight_decay is not None:
            gradient.addcmul_(self.parameters, self.weight_decay)
        self.velocity.mul_(self.momentum).add_(gradient)
        direction = gradient.addcmul_(self.velocity, self.momentum) if self.nesterov else self.velocity
        self.parameters.addcmul_(direction, _at(self.minus_lr, t))


class Adam:
    """Adam with bias correction: exactly ``torch.optim.Adam`` (weight decay as an L2 penalty), for each run.

    ``m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  p -= lr / (1-b1^t) * m / (sqrt(v / (1-b2^t)) + eps)``, t from 1.

    Args:
        parameters: (R, P), changed in place.
        lr: learning rates, (T, R) for all T steps.
        beta1: b1, decay of the first moment of each run, (R,).
        beta2: b2, decay of the second moment of each run, (R,).
        eps: of each run, (R,).
        weight_decay: factor of the L2 penalty of each run, (R,).

    Reference: Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    """

    def __init__(
        self, parameters: Tensor, lr: Float64, beta1: Float64, beta2: Float64, eps: Float64, weight_decay: Float64
    ) -> None:
        self.parameters = parameters
        t = np.arange(1, len(lr) + 1)[:, None]
        self.minus_step_size = _columns(-lr / (1 - beta1**t), parameters)
        self.root_correction2 = _columns(np.sqrt(1 - beta2**t), parameters)
        self.rest1, self.rest2 = _columns(1 - beta1, parameters), _columns(1 - beta2, parameters)
        self.beta2, self.eps = _columns(beta2, parameters), _columns(eps, parameters)
        self.weight_decay = _columns(weight_decay, parameters) if weight_decay.any() else None
        self.mean, self.square = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self.state: tuple[Tensor, ...] = (self.mean, self.square)

    def step(self, gradient: Tensor, t: Tensor) -> None:
        if self.weight_decay is not None:
            gradient.addcmul_(self.parameters, self.weight_decay)
        self.mean.lerp_(gradient, self.rest1.expand_as(gradient))
        self.square.mul_(self.beta2).addcmul_(gradient * gradient, self.rest2)
        denominator = (self.square.sqrt() / _at(self.root_correction2, t)).add_(self.eps)
        self.parameters.addcmul_(self.mean / denominator, _at(self.minus_step_size, t))


def _columns(values: Float64, like: Tensor) -> Tensor:
    """``values`` (..., R) as (..., R, 1) with the device and number format of ``like``."""
    return torch.as_tensor(values, dtype=like.dtype).to(like.device).unsqueeze(-1)


def _at(table: Tensor, t: Tensor) -> Tensor:
    """Row ``t`` (1,) of ``table`` (T, R, 1), looked up on the device, so that each replay of a captured graph finds its own."""
    return table.index_select(0, t).squeeze(0)


def _sgd(configs: Sequence[OptimConfig], parameters: Tensor, lr: Float64) -> SGD:
    momentum = np.array([config.momentum for config in configs])
    return SGD(parameters, lr, momentum, _weight_decay(configs), configs[0].nesterov)


def _adam(configs: Sequence[OptimConfig], parameters: Tensor, lr: Float64) -> Adam:
    beta1, beta2, eps = np.array([(config.beta1, config.beta2, config.eps) for config in configs]).T
    return Adam(parameters, lr, beta1, beta2, eps, _weight_decay(configs))


def _weight_decay(configs: Sequence[OptimConfig]) -> Float64:
    return np.array([config.weight_decay for config in configs])


# Name -> what makes it from one configuration per run, the parameters (R, P) and the learning rates (T, R).
OPTIMISERS: dict[OptimName, Callable[[Sequence[OptimConfig], Tensor, Float64], Optimiser]] = {
    OptimName.sgd: _sgd,
    OptimName.adam: _adam,
}


def build_optimiser(configs: Sequence[OptimConfig], parameters: Tensor, epochs: int, steps_per_epoch: int) -> Optimiser:
    """The optimiser of a cohort.

    Args:
        configs: one configuration per run, all with the same ``name``.
        parameters: (R, P), one row per run; the optimiser changes them in place.
        epochs: length of the training, which the schedule is scaled to.
        steps_per_epoch: number of updates per epoch.
    """
    lr = np.stack([learning_rates(config, epochs, steps_per_epoch) for config in configs], axis=1)
    return OPTIMISERS[configs[0].name](configs, parameters, lr)


def learning_rates(config: OptimConfig, epochs: int, steps_per_epoch: int) -> Float64:
    """The learning rate of every step of a run.

    ``constant``   lr
    ``cosine``     lr/2 (1 + cos(pi s/S)), s = 0..S-1 counting the steps after warm-up (Loshchilov & Hutter, ICLR 2017)
    ``step``       lr * step_gamma^k after k * step_epochs epochs, counted from the start
    ``one_cycle``  as ``torch.optim.lr_scheduler.OneCycleLR``: cosine from lr/25 up to lr over 0.3 of the steps, then down
                   to lr/250,000 (Smith & Topin, 2018); momentum is not cycled
    A warm-up of W steps multiplies the first W rates by 1/W, 2/W, ..., 1. ``one_cycle`` has its own: if ``warmup`` is not 0, it
    replaces the 0.3.

    Args:
        config: schedule and peak rate.
        epochs: length of the training.
        steps_per_epoch: number of updates per epoch.

    Returns:
        (epochs * steps_per_epoch,), all at most ``config.lr``.
    """
    num_steps, num_warmup = epochs * steps_per_epoch, round(config.warmup * steps_per_epoch)
    t = np.arange(num_steps, dtype=np.float64)
    if config.schedule is Schedule.one_cycle:
        return config.lr * _one_cycle(t, config.warmup / epochs if config.warmup else 0.3)
    factor = np.ones(num_steps)
    if config.schedule is Schedule.cosine:
        factor = (1 + np.cos(np.pi * np.maximum(t - num_warmup, 0) / max(num_steps - num_warmup, 1))) / 2
    elif config.schedule is Schedule.step:
        factor = config.step_gamma ** np.floor(t / (config.step_epochs * steps_per_epoch))
    warmup = np.minimum((t + 1) / num_warmup, 1) if num_warmup else 1.0
    return config.lr * factor * warmup


def _one_cycle(t: Float64, rising: float, start: float = 1 / 25, end: float = 1 / 25e4) -> Float64:
    """Factors of the peak rate: half a cosine from ``start`` to 1 over a part ``rising`` of the steps, another to ``end``."""
    last = len(t) - 1
    peak = min(max(rising * len(t) - 1, 0.0), last)
    up = t / peak if peak else np.ones_like(t)
    down = (t - peak) / (last - peak) if last > peak else np.zeros_like(t)
    return np.where(t <= peak, _anneal(start, 1, up), _anneal(1, end, down))


def _anneal(first: float, last: float, part: Float64) -> Float64:
    """Half a cosine from ``first`` at ``part`` 0 to ``last`` at ``part`` 1."""
    return last + (first - last) / 2 * (1 + np.cos(np.pi * part))
