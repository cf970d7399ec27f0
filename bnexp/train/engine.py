"""The training engine: a cohort of runs goes in, records come out. It logs nothing and writes nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnexp.metrics import EpochMetrics, Predictions, Record, RunFinished, RunStarted, StepMetrics
from bnexp.model.networks import Network, build_network
from bnexp.plan import RunSpec
from bnexp.train.evaluate import Evaluation, Split, evaluate
from bnexp.train.optim import build_optimiser, learning_rates
from bnexp.train.precision import compute_dtype, configure_precision, device_name
from bnexp.train.step import EpochMeter, EpochTotals, TrainStep

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData


def fit(specs: Sequence[RunSpec], data: DeviceData) -> Iterator[Record]:
    """Train the runs of one cohort (equal fuse keys) on ``data`` and yield their records as they come.

    For each run: ``RunStarted``; each epoch ``StepMetrics`` (with ``train.log_every``) and ``EpochMetrics``; ``RunFinished``
    after the last epoch. ``train/*`` are running values over the epoch, in training mode. Test images are looked at once, at
    the end. A run whose loss is not finite finishes with that epoch, at chance accuracy, without losses (they are no
    numbers) and without predictions; the other runs are not touched, and the cohort stops when none is left.

    Raises ConfigError where the network does not fit the images, or a batch leaves a norm one value a channel.
    """
    yield from _Cohort(specs, data).records()


@dataclass
class _Epoch:
    """One epoch as it is reported: ``number`` from 1, ``step`` updates so far, ``seconds`` of training."""

    number: int
    step: int
    seconds: float
    totals: EpochTotals
    validation: Evaluation | None
    test: Evaluation | None

    def diverged_at(self, run: int) -> int | None:
        """The first step of this epoch with a loss that is not finite, or its last step where only evaluation shows it."""
        losses = self.totals.losses[:, run]
        if bad := np.flatnonzero(~np.isfinite(losses)).tolist():
            return self.step - len(losses) + int(bad[0]) + 1
        evaluations = [e for e in (self.validation, self.test) if e is not None]
        return None if all(math.isfinite(e.loss[run]) for e in evaluations) else self.step


class _Cohort:
    """Runs in training together."""

    def __init__(self, specs: Sequence[RunSpec], data: DeviceData) -> None:
        self.specs, self.data = specs, data
        self.configs = [spec.config for spec in specs]
        self.train = self.configs[0].train
        configure_precision(self.train.precision)
        dtype = compute_dtype(self.train.precision)
        self.network: Network = build_network(self.configs, data.in_channels, data.size, data.num_classes, data.device, dtype)
        self._check_last_batches()
        self.steps_per_epoch = math.ceil(data.num_train / self.train.batch_size)
        optims = [config.optim for config in self.configs]
        self.rates = [learning_rates(optim, self.train.epochs, self.steps_per_epoch) for optim in optims]
        optimiser = build_optimiser(optims, self.network.flat, self.train.epochs, self.steps_per_epoch)
        self.step = TrainStep(self.network, optimiser, self.train.precision)
        self.active = list(range(len(specs)))
        self.started = time.perf_counter()

    def _check_last_batches(self) -> None:
        """Refuse before training what a norm would refuse at the end of an epoch."""
        splits: list[tuple[Split, int]] = [("train", self.train.batch_size)]
        if not self.configs[0].norm.track_running_stats:
            splits += [("val", self.train.eval_batch_size), ("test", self.train.eval_batch_size)]
        for split, batch_size in splits:
            if num_images := self.data.num_images(split):
                self.network.check_batch(num_images % batch_size or batch_size)

    def records(self) -> Iterator[Record]:
        num_steps = self.train.epochs * self.steps_per_epoch
        for spec in self.specs:
            yield RunStarted(spec.run_id, self.network.num_parameters, num_steps, device_name(self.data.device))
        for number in range(1, self.train.epochs + 1):
            epoch = self._epoch(number)
            for run in list(self.active):
                yield from self._report(run, epoch)
            if not self.active:
                return

    def _epoch(self, number: int) -> _Epoch:
        begin = time.perf_counter()
        self.network.train()
        meter = EpochMeter()
        t = (number - 1) * self.steps_per_epoch
        seeds = [spec.seed for spec in self.specs]
        for x, y in self.data.train_batches(seeds, number, self.train.batch_size):
            meter.add(*self.step(x, y, t), len(x))
            t += 1
        totals = meter.read()
        seconds = time.perf_counter() - begin
        validation = self._evaluate("val") if self.data.num_images("val") else None
        test = self._evaluate("test") if number == self.train.epochs else None
        return _Epoch(number, t, seconds, totals, validation, test)

    def _evaluate(self, split: Split) -> Evaluation:
        keep = split == "test"
        return evaluate(self.network, self.data, split, self.train.eval_batch_size, self.train.precision, keep)

    def _report(self, run: int, epoch: _Epoch) -> Iterator[Record]:
        run_id, diverged_at = self.specs[run].run_id, epoch.diverged_at(run)
        if losses := self._step_losses(run, epoch):
            yield StepMetrics(run_id, losses)
        metrics = self._metrics(run, epoch, diverged_at is not None)
        yield EpochMetrics(run_id, epoch.number, epoch.step, metrics)
        if diverged_at is None and epoch.test is None:
            return
        self.active.remove(run)
        predictions = None
        if diverged_at is not None:
            metrics = metrics | {"test/accuracy": self.chance}
        elif epoch.test is not None and epoch.test.probabilities is not None:
            metrics = metrics | {"test/loss": float(epoch.test.loss[run]), "test/accuracy": float(epoch.test.accuracy[run])}
            ids = np.arange(len(epoch.test.labels), dtype=np.int64)
            predictions = Predictions(ids, epoch.test.labels, epoch.test.probabilities[run])
        seconds = time.perf_counter() - self.started
        yield RunFinished(run_id, metrics, seconds, predictions, self.network.export(run), diverged_at)

    @property
    def chance(self) -> float:
        return 1 / self.data.num_classes

    def _step_losses(self, run: int, epoch: _Epoch) -> dict[int, float]:
        """The finite losses of every ``train.log_every``-th step, by step number from 1."""
        every, losses = self.train.log_every, epoch.totals.losses[:, run]
        first = epoch.step - len(losses) + 1
        numbered = {first + i: float(loss) for i, loss in enumerate(losses) if every and (first + i) % every == 0}
        return {step: loss for step, loss in numbered.items() if math.isfinite(loss)}

    def _metrics(self, run: int, epoch: _Epoch, diverged: bool) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for name, result in (("train", epoch.totals), ("val", epoch.validation)):
            if result is not None and diverged:
                metrics[f"{name}/accuracy"] = self.chance
            elif result is not None:
                metrics |= {f"{name}/loss": float(result.loss[run]), f"{name}/accuracy": float(result.accuracy[run])}
        return metrics | {
            "learning_rate": float(self.rates[run][epoch.step - 1]),
            "time/epoch_seconds": epoch.seconds,
            "time/images_per_second": self.data.num_train / epoch.seconds,
        }
