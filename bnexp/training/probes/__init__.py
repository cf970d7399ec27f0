"""Probes: what happens inside a network while it trains, measured on a copy of it, so that training is not disturbed.

``Probes.around`` copies the state of the network before and after a step. Everything else happens in ``Twin``, which shares
nothing with the network and draws no random number. A new probe has a key in ``ProbeConfig``, which names what it records; a
function or class here; and a line in ``AT_START``, ``AT_STEPS``, ``AT_EPOCHS`` or ``AT_END`` below. Formulas, units and
sources are in:

``activations``                                                  ``activations.py``
``gradients`` ``covariate_shift`` ``landscape`` ``decoupling``   ``steps.py``
``initial_gradients``                                            ``steps.py``
``similar``                                                      ``similar.py``
``oscillation`` ``gap``                                          ``losses.py``
``statistics``                                                   ``readings.py``
``cost``                                                         ``cost.py``
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnexp.config.keys import PROBE_METRICS
from bnexp.config.schema import ConfigError, ProbeConfig, RunConfig
from bnexp.model.network import Network
from bnexp.training.evaluate import Evaluation
from bnexp.training.optim import learning_rates
from bnexp.training.precision import synchronise
from bnexp.training.probes.activations import ACTIVATIONS, NO_ACTIVATIONS, Activations
from bnexp.training.probes.cost import measure_cost
from bnexp.training.probes.images import chosen
from bnexp.training.probes.losses import EvaluationGap, oscillation
from bnexp.training.probes.readings import Readings
from bnexp.training.probes.similar import SimilarImages
from bnexp.training.probes.steps import (
    Step,
    Values,
    covariate_shift,
    decoupling,
    gradients,
    initial_gradients,
    landscape,
)
from bnexp.training.probes.twin import State, Twin
from bnexp.training.step import EpochTotals

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData

Float64 = NDArray[np.float64]


def build_probes(configs: Sequence[RunConfig], network: Network, data: DeviceData) -> Probes | None:
    """The probes that ``probe.*`` switches on for a cohort, or None if none is on.

    Args:
        configs: one configuration per run; they agree in ``probe``.
        network: the network as training starts from it.
        data: what the cohort trains on.
    """
    return Probes(configs, network, data) if any(getattr(configs[0].probe, name) for name in PROBE_METRICS) else None


def refuse_unfit(probe: ProbeConfig, network: Network) -> None:
    """Raise ConfigError if a network of the user's own does not have what a probe looks at.

    Args:
        probe: which probes are on.
        network: what they are to measure.
    """
    if probe.activations and not any(isinstance(layer, ACTIVATIONS) for layer in network.modules()):
        raise ConfigError(NO_ACTIVATIONS)
    by_layer = [name for name in ("gradients", "initial_gradients", "covariate_shift", "decoupling") if getattr(probe, name)]
    if by_layer and len(network.weight_layers()) < 2:
        raise ConfigError(
            f"probe.{by_layer[0]} compares layers, and the network has fewer than two with a trained weight (convolutions, "
            "linear layers); leave the probe out."
        )


@dataclass(frozen=True)
class Measured:
    """What the probes of one run measured in an epoch.

    Args:
        epoch: metric -> value of the epoch: the mean over its measured steps, or what is measured at its end.
        steps: step number, counted from 1 over the whole training -> metric -> value at that measured step. ``train/loss`` is
            the mean loss of the steps since the measured step before, or since the epoch began: the loss of a single batch is
            too noisy to match anything by.
    """

    epoch: dict[str, float]
    steps: dict[int, dict[str, float]]


class Probes:
    """The measurements of a cohort: at the first step, at single steps, at the end of each epoch, at the end of training.

    ``probe.per_epoch`` steps with a full batch are measured in an epoch, evenly spaced, the last of them included. If there are
    fewer, each is measured. So the measured steps are the same in each epoch, and there is at least one. ``seconds`` is the
    time that measuring steps of the current epoch has taken. Arguments as for ``build_probes``.
    """

    def __init__(self, configs: Sequence[RunConfig], network: Network, data: DeviceData) -> None:
        refuse_unfit(configs[0].probe, network)
        self.configs, self.network, self.data = configs, network, data
        self.probe, self.train = configs[0].probe, configs[0].train
        self.steps_per_epoch = self.train.updates_per_epoch(data.num_train)
        self.num_full = max(self.train.images_per_epoch(data.num_train) // self.train.batch_size, 1)
        rates = [learning_rates(c.optim, self.train.epochs, self.steps_per_epoch) for c in configs]
        self.rates = torch.as_tensor(np.stack(rates, axis=1), dtype=network.flat.dtype).to(data.device)
        self.twin: Twin = Twin(network, self.train.precision)
        count = self.probe.per_epoch
        self.positions = sorted({max(1, round(k * self.num_full / count)) for k in range(1, count + 1)})  # in an epoch, from 1
        self.at_start = [measure for name, measure in AT_START.items() if getattr(self.probe, name)]
        self.at_steps = [build(self) for name, build in AT_STEPS.items() if getattr(self.probe, name)]
        self.at_epochs = [build(self) for name, build in AT_EPOCHS.items() if getattr(self.probe, name)]
        self.at_end = [build(self) for name, build in AT_END.items() if getattr(self.probe, name)]
        self.seconds = 0.0
        self.found: dict[int, Values] = {}  # by step, counted from 0
        self.initial: Values = {}
        self.epochs: list[dict[str, Float64]] = []

    @cached_property
    def images(self) -> Tensor:
        """The fixed batch of training images (N, C, S, S) that probes of activations look at."""
        return self.data.images("train", chosen(self.data, "train", self.probe.images))[0]

    def is_measured(self, t: int) -> bool:
        """Whether step ``t``, counted from 0 over the whole training, is measured."""
        return bool(self.at_start and t == 0) or self._is_due(t)

    def _is_due(self, t: int) -> bool:
        return bool(self.at_steps) and t % self.steps_per_epoch + 1 in self.positions

    @contextmanager
    def around(self, x: Tensor, labels: Tensor, t: int) -> Iterator[None]:
        """Measure the step that is made inside the context.

        Args:
            x: images of the step, (N, R*C, S, S).
            labels: (R, N).
            t: number of the step, counted from 0 over the whole training.
        """
        before = State.of(self.network)
        yield
        synchronise(self.data.device)
        begin = time.perf_counter()
        step = Step(self.twin, before, State.of(self.network), x, labels, self.rates[t])
        for measure in self.at_start if t == 0 else ():
            self.initial |= measure(step)
        if self._is_due(t):
            self.found[t] = {name: value for measure in self.at_steps for name, value in measure(step).items()}
        synchronise(self.data.device)
        self.seconds += time.perf_counter() - begin

    def read(self, totals: EpochTotals, validation: Evaluation | None) -> list[Measured]:
        """What was measured in the epoch that has ended, for each run.

        Values that are not finite, such as those of a run that has diverged, are left out.

        Args:
            totals: what the steps of the epoch gave.
            validation: the validation at its end; None: there are no validation images.
        """
        found = {t: _arrays(values) for t, values in self.found.items()}
        names = dict.fromkeys(name for values in found.values() for name in values)
        epoch = {name: finite_mean(np.stack([values[name] for values in found.values()])) for name in names}
        epoch |= _arrays(self.initial)
        steps = self._steps(found, totals)
        self.found, self.initial, self.seconds = {}, {}, 0.0
        state = State.of(self.network)
        for measure in self.at_epochs:
            epoch |= measure(state, totals, validation)
        self.epochs.append(epoch)
        if len(self.epochs) == self.train.epochs:  # test images are looked at only now
            for reading in self.at_end:
                epoch |= reading(state)
        by_step = {step: self._by_run(values) for step, values in steps.items()}
        return [
            Measured(metrics, {step: values[run] for step, values in by_step.items()})
            for run, metrics in enumerate(self._by_run(epoch))
        ]

    def _steps(self, found: dict[int, dict[str, Float64]], totals: EpochTotals) -> dict[int, dict[str, Float64]]:
        """Step number from 1 -> metric -> (R,), of the measured steps; none if no probe measures inside an epoch."""
        rows: dict[int, dict[str, Float64]] = {}
        if not (self.at_steps or self.probe.oscillation):
            return rows
        start = len(self.epochs) * self.steps_per_epoch
        for begin, end in pairwise([0, *self.positions]):
            since = totals.losses[begin:end]
            rows[start + end] = {"train/loss": since.mean(0)} | found.get(start + end - 1, {})
            if self.probe.oscillation:
                rows[start + end] |= {"oscillation/loss": oscillation(since)}
        return rows

    def summary(self) -> list[dict[str, float]]:
        """For each run the mean over its epochs of each metric of ``PROBE_METRICS``, without those of ``gap``."""
        probes = [name for name in PROBE_METRICS if name != "gap"]
        courses = {
            metric: [epoch[metric] for epoch in self.epochs if metric in epoch]
            for probe in probes
            for metric in PROBE_METRICS[probe]
        }
        return self._by_run({metric: finite_mean(np.stack(course)) for metric, course in courses.items() if course})

    def _by_run(self, values: dict[str, Float64]) -> list[dict[str, float]]:
        return [{n: float(v[run]) for n, v in values.items() if np.isfinite(v[run])} for run in range(len(self.configs))]


def _arrays(values: Values) -> dict[str, Float64]:
    return {name: value.cpu().double().numpy() for name, value in values.items()}


def finite_mean(values: Float64) -> Float64:
    """Mean of the finite values over the first axis, NaN if there is none: (M, R) -> (R,)."""
    finite = np.isfinite(values)
    count = finite.sum(0)
    with np.errstate(invalid="ignore"):
        mean: Float64 = np.where(finite, values, 0).sum(0) / count
    return mean


AtEpoch = Callable[[State, EpochTotals, Evaluation | None], dict[str, Float64]]
AtEnd = Callable[[State], dict[str, Float64]]


def _oscillation(probes: Probes) -> AtEpoch:
    return lambda _, totals, __: {"oscillation/loss": oscillation(totals.losses[: probes.num_full])}


def _statistics(probes: Probes) -> AtEnd:
    readings = Readings(probes.twin, probes.data, probes.train)
    return lambda state: {name: value.numpy() for name, value in readings(state).items()}


def _cost(probes: Probes) -> AtEnd:
    num_runs = len(probes.configs)
    return lambda _: {n: np.full(num_runs, value) for n, value in measure_cost(probes.configs[0], probes.data).items()}


# Probe -> what measures it, in the order in which it is measured. ``AT_START`` are called at the first step. The others are
# built from the ``Probes`` that will call them, when training is about to start: ``AT_STEPS`` are called at single steps,
# ``AT_EPOCHS`` at the end of each epoch, ``AT_END`` once.
AT_START: dict[str, Callable[[Step], Values]] = {"initial_gradients": initial_gradients}
AT_STEPS: dict[str, Callable[[Probes], Callable[[Step], Values]]] = {
    "gradients": lambda _: gradients,
    "covariate_shift": lambda _: covariate_shift,
    "landscape": lambda _: landscape,
    "decoupling": lambda _: decoupling,
    "activations": lambda probes: Activations(probes.twin, probes.images, State.of(probes.network)),
    "similar": lambda probes: SimilarImages(probes.twin, probes.images[0], probes.probe.images, probes.probe.jitter),
}
AT_EPOCHS: dict[str, Callable[[Probes], AtEpoch]] = {
    "oscillation": _oscillation,
    "gap": lambda probes: EvaluationGap(probes.twin, probes.data, probes.configs[0]),
}
AT_END: dict[str, Callable[[Probes], AtEnd]] = {
    "statistics": _statistics,
    "cost": _cost,
}
