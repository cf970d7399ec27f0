"""Probes: what happens inside a network while it trains, measured on a copy of it, so that training is not disturbed.

``Probes.around`` copies the state of the network before and after a step; all else happens in ``Twin``, which shares nothing
with the network and draws no random number. Each quantity has its formula, unit and source where it is computed:

``activations``                                                  ``activations.py``
``gradients`` ``covariate_shift`` ``landscape`` ``decoupling``   ``steps.py``
``similar``                                                      ``similar.py``
``oscillation`` ``gap``                                          ``losses.py``
``statistics``                                                   ``readings.py``
``cost``                                                         ``cost.py``
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnexp.config.keys import PROBE_METRICS
from bnexp.config.schema import RunConfig
from bnexp.model.networks import Network
from bnexp.train.evaluate import Evaluation
from bnexp.train.optim import learning_rates
from bnexp.train.precision import synchronise
from bnexp.train.probes.activations import Activations
from bnexp.train.probes.cost import measure_cost
from bnexp.train.probes.images import chosen
from bnexp.train.probes.losses import EvaluationGap, oscillation
from bnexp.train.probes.readings import Readings
from bnexp.train.probes.similar import SimilarImages
from bnexp.train.probes.steps import Step, Values, covariate_shift, decoupling, gradients, landscape
from bnexp.train.probes.twin import State, Twin
from bnexp.train.step import EpochTotals

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData

Float64 = NDArray[np.float64]


def build_probes(configs: Sequence[RunConfig], network: Network, data: DeviceData) -> Probes | None:
    """The probes that ``probe.*`` switches on for a cohort; None where none is.

    To be called when the network is as training starts from it. ``configs`` has one entry a run, which agree in ``probe``.
    """
    return Probes(configs, network, data) if any(getattr(configs[0].probe, name) for name in PROBE_METRICS) else None


class Probes:
    """The measurements of a cohort: at single steps, at the end of each epoch, at the end of training.

    A step is measured every ``probe.every`` steps of an epoch, or, with 0 or in shorter epochs, once, at its last full batch:
    at the same places in each epoch, at least once. ``seconds`` is the time that measuring steps of this epoch has taken.
    """

    def __init__(self, configs: Sequence[RunConfig], network: Network, data: DeviceData) -> None:
        self.configs, self.network, self.data = configs, network, data
        self.probe, self.train = configs[0].probe, configs[0].train
        self.steps_per_epoch = -(-data.num_train // self.train.batch_size)
        self.num_full = max(data.num_train // self.train.batch_size, 1)
        rates = [learning_rates(c.optim, self.train.epochs, self.steps_per_epoch) for c in configs]
        self.rates = torch.as_tensor(np.stack(rates, axis=1), dtype=network.flat.dtype).to(data.device)
        self.twin = Twin(network, self.train.precision)
        self.measures = self._measures()
        self.gap = EvaluationGap(self.twin, data, configs[0]) if self.probe.gap else None
        self.seconds = 0.0
        self.found: dict[str, list[Tensor]] = {}
        self.epochs: list[dict[str, Float64]] = []

    def _measures(self) -> list[Callable[[Step], Values]]:
        """What is measured of a step."""
        functions = {
            "gradients": gradients,
            "covariate_shift": covariate_shift,
            "landscape": landscape,
            "decoupling": decoupling,
        }
        measures: list[Callable[[Step], Values]] = [f for name, f in functions.items() if getattr(self.probe, name)]
        if not (self.probe.activations or self.probe.similar):
            return measures
        images, _ = self.data.images("train", chosen(self.data, "train", self.probe.images))
        if self.probe.activations:
            measures.append(Activations(self.twin, images, State.of(self.network)))
        if self.probe.similar:
            measures.append(SimilarImages(self.twin, images[0], self.probe.images, self.probe.jitter))
        return measures

    def is_measured(self, t: int) -> bool:
        """Whether step ``t``, counted from 0 over the whole training, is measured."""
        position, every = t % self.steps_per_epoch + 1, min(self.probe.every or self.num_full, self.num_full)
        return bool(self.measures) and position <= self.num_full and position % every == 0

    @contextmanager
    def around(self, x: Tensor, labels: Tensor, t: int) -> Iterator[None]:
        """Measure step ``t``, which is made inside the context, on images ``x`` (N, R*C, S, S) and ``labels`` (R, N)."""
        before = State.of(self.network)
        yield
        synchronise(self.data.device)
        begin = time.perf_counter()
        step = Step(self.twin, before, State.of(self.network), x, labels, self.rates[t])
        for measure in self.measures:
            for name, value in measure(step).items():
                self.found.setdefault(name, []).append(value)
        synchronise(self.data.device)
        self.seconds += time.perf_counter() - begin

    def read(self, totals: EpochTotals, validation: Evaluation | None) -> list[dict[str, float]]:
        """The metrics of the epoch that has ended with ``validation``, for each run: means over its measured steps. Values that
        are not finite, as those of a run that has diverged, are left out."""
        epoch = {name: finite_mean(torch.stack(values).cpu().double().numpy()) for name, values in self.found.items()}
        self.found, self.seconds = {}, 0.0
        if self.probe.oscillation:
            epoch["oscillation/loss"] = oscillation(totals.losses[: self.num_full])
        if self.gap:
            epoch |= self.gap(State.of(self.network), totals, validation)
        self.epochs.append(epoch)
        if len(self.epochs) == self.train.epochs:
            epoch |= self._of_training()
        return self._by_run(epoch)

    def _of_training(self) -> dict[str, Float64]:
        """What is measured once, at the end; test images are looked at only then."""
        values: dict[str, Float64] = {}
        if self.probe.statistics:
            readings = Readings(self.twin, self.data, self.train)(State.of(self.network))
            values |= {name: value.numpy() for name, value in readings.items()}
        if self.probe.cost:
            costs = measure_cost(self.configs[0], self.data)
            values |= {name: np.full(len(self.configs), value) for name, value in costs.items()}
        return values

    def summary(self) -> list[dict[str, float]]:
        """For each run the mean over its epochs of each metric of ``PROBE_METRICS``, but for ``gap``: there the end counts."""
        probes = [name for name in PROBE_METRICS if name != "gap"]
        courses = {
            metric: [epoch[metric] for epoch in self.epochs if metric in epoch]
            for probe in probes
            for metric in PROBE_METRICS[probe]
        }
        return self._by_run({metric: finite_mean(np.stack(course)) for metric, course in courses.items() if course})

    def _by_run(self, values: dict[str, Float64]) -> list[dict[str, float]]:
        return [{n: float(v[run]) for n, v in values.items() if np.isfinite(v[run])} for run in range(len(self.configs))]


def finite_mean(values: Float64) -> Float64:
    """Mean of the finite values over the first axis; NaN where there is none: (M, R) -> (R,)."""
    finite = np.isfinite(values)
    count = finite.sum(0)
    with np.errstate(invalid="ignore"):
        mean: Float64 = np.where(finite, values, 0).sum(0) / count
    return mean
