"""The training engine: a cohort of runs goes in, records come out. It logs nothing and writes nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from bnexp.config.keys import of_split
from bnexp.config.options import Statistics
from bnexp.metrics import EpochMetrics, EpochPredictions, Predictions, Record, RunFinished, RunStarted, RunStopped, StepMetrics
from bnexp.model.network import Network
from bnexp.model.networks import build_network
from bnexp.plan.spec import RunSpec
from bnexp.training.capture import captured
from bnexp.training.evaluate import Evaluation, Split, SplitScores, evaluate
from bnexp.training.loop import EpochLoop
from bnexp.training.optim import build_optimiser, learning_rates
from bnexp.training.precision import autocast, compute_dtype, configure_precision, device_name
from bnexp.training.probes import Measured, build_probes
from bnexp.training.statistics import by_precise_statistics
from bnexp.training.step import EpochTotals, TrainStep
from bnexp.training.transfer import hold, prepare_start
from bnexp.training.trial import choose_convolutions

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData


# Is asked after each epoch but the last: ids of the runs in training, number of the epoch -> ids of those to stop.
Stops = Callable[[Sequence[str], int], Collection[str]]


def fit(specs: Sequence[RunSpec], data: DeviceData, stops: Stops | None = None) -> Iterator[Record]:
    """Train the runs of one cohort and yield their records as they come.

    Each run yields ``RunStarted``; in each epoch ``EpochMetrics``, and before it ``StepMetrics`` if ``train.log_every``,
    ``train.evals_per_epoch`` or a probe asks for them, and after it ``EpochPredictions`` if ``track.predictions_every`` asks;
    and ``RunFinished`` after the last epoch. ``train/*`` are running values over the epoch, in training mode. Test images are
    looked at once, at the end, but for such predictions, of which no metric is computed.

    A run whose loss is not finite finishes with that epoch, at chance accuracy, without losses (they are not numbers) and
    without predictions. The other runs are not touched. The cohort stops when no run is left.

    A run that ``stops`` names yields ``RunStopped`` and nothing more. It goes on being computed, unseen, as long as its cohort
    does, so the other runs have the same bits as without it.

    Args:
        specs: the runs; their fuse keys are equal.
        data: what they train on, on its device.
        stops: is asked which runs to stop, once the records of an epoch have been taken; None: no run is stopped.

    Raises:
        ConfigError: the network does not fit the images, or a batch leaves a norm one value per channel.
    """
    yield from _Cohort(specs, data, stops).records()


@dataclass
class _Epoch:
    """One epoch as it is reported.

    Args:
        number: counts from 1.
        step: number of updates so far.
        seconds: time of its training part.
        totals: what its steps gave.
        validations: step after which it was made -> validation; the last one is at the end of the epoch.
        test: the evaluation on test images, in the last epoch.
        shown: that of an earlier epoch whose predictions are wanted.
        probes: what the probes of each run measured; empty if none is on.
    """

    number: int
    step: int
    seconds: float
    totals: EpochTotals
    validations: dict[int, Evaluation]
    test: Evaluation | None
    shown: Evaluation | None
    probes: list[Measured]

    def diverged_at(self, run: int) -> int | None:
        """The first step of this epoch with a loss that is not finite; the step of an evaluation if only that shows it."""
        losses = self.totals.losses[:, run]
        if bad := np.flatnonzero(~np.isfinite(losses)).tolist():
            return self.step - len(losses) + int(bad[0]) + 1
        evaluations = [*self.validations.items(), *([(self.step, self.test)] if self.test else [])]
        return next((step for step, result in evaluations if not math.isfinite(result.loss[run])), None)


class _Cohort:
    """Runs in training together."""

    def __init__(self, specs: Sequence[RunSpec], data: DeviceData, stops: Stops | None = None) -> None:
        self.specs, self.data, self.stops = specs, data, stops
        self.configs = [spec.config for spec in specs]
        self.train = self.configs[0].train
        configure_precision(self.train.precision)
        dtype = compute_dtype(self.train.precision)
        self.steps_per_epoch = self.train.updates_per_epoch(data.num_train)
        images, num_steps = (data.in_channels, data.size, data.num_classes), self.train.epochs * self.steps_per_epoch
        self.network: Network = build_network(self.configs, *images, data.device, dtype, num_steps)
        self.initial = [self.network.initial(run) for run in range(len(specs))]
        prepare_start(self.network, specs, data)
        optims = [config.optim for config in self.configs]
        self.rates = [learning_rates(optim, self.train.epochs, self.steps_per_epoch) for optim in optims]
        optimiser = build_optimiser(optims, self.network.flat, self.train.epochs, self.steps_per_epoch)
        self.step = TrainStep(self.network, hold(optimiser, self.network, self.train), self.train.precision)
        with autocast(self.train.precision, data.device):
            self.kernels = self.network.compile_kernels(data.in_channels, data.size)
        self.loop = EpochLoop(self.step, data, [spec.seed for spec in specs], self.train)
        self._check_last_batches()
        self.validation = SplitScores(self.network, data, "val", self.train.eval_batch_size, self.train.precision)
        self.validate: Callable[[], None] = self.validation
        self.probes = build_probes(self.configs, self.network.train(), data)
        self.active = list(range(len(specs)))
        self.started = time.perf_counter()

    def _check_last_batches(self) -> None:
        """Refuse before training what a norm would refuse at the end of an epoch."""
        for size in set(self.loop.sizes):
            self.network.train().check_batch(size)
        if self.configs[0].norm.track_running_stats:
            return
        splits: list[Split] = ["val", "test"]
        for split in splits:
            num_images, batch_size = self.data.num_images(split), self.train.eval_batch_size
            if num_images:
                for size in {min(num_images, batch_size), num_images % batch_size or batch_size}:
                    self.network.eval().check_batch(size)

    def _capture(self) -> str:
        """Make CUDA graphs of a step and of a validation, if possible. Returns how they are executed."""
        if self.network.not_captured and self.data.device.type != "cpu":
            return f"eager: {self.network.not_captured}"
        tried = ""
        if self.data.device.type == "cuda":
            x, _ = self.loop.gather(self.loop.sizes[0])
            tried = "; " + choose_convolutions(self.network, x, self.train.precision)
        elif self.kernels:
            tried = f"; kernels for {', '.join(self.kernels)}"
        validations = [self.validation] if self.data.num_images("val") else []
        state = [*self.loop.state, *self.validation.state]
        replays, execution = captured([*self.loop.functions.values(), *validations], state, self.data.device)
        self.loop.functions = dict(zip(self.loop.functions, replays, strict=False))
        if validations:
            self.validate = replays[-1]
        return execution + tried

    def records(self) -> Iterator[Record]:
        num_steps = self.train.epochs * self.steps_per_epoch
        device, execution = device_name(self.data.device), self._capture()
        for spec, initial in zip(self.specs, self.initial, strict=True):
            yield RunStarted(spec.run_id, self.network.num_parameters, num_steps, device, execution, initial)
        number = 0
        while self.active:
            number += 1
            epoch = self._epoch(number)
            for run in list(self.active):
                yield from self._report(run, epoch)
            yield from self._stop(epoch)

    def _stop(self, epoch: _Epoch) -> Iterator[Record]:
        """Stop the runs that are not wanted any more."""
        if self.stops is None or not self.active:
            return
        named = self.stops([self.specs[run].run_id for run in self.active], epoch.number)
        for run in [run for run in self.active if self.specs[run].run_id in named]:
            self.active.remove(run)
            metrics, seconds = self._metrics(run, epoch, diverged=False), time.perf_counter() - self.started
            yield RunStopped(self.specs[run].run_id, epoch.number, metrics, seconds)

    def _epoch(self, number: int) -> _Epoch:
        validations: dict[int, Evaluation] = {}
        seconds, begin = 0.0, time.perf_counter()
        t = (number - 1) * self.steps_per_epoch
        due = {t + step for step in self.validation_steps}
        self.loop.begin(number)
        for size in self.loop.sizes:
            self._train_step(size, t)
            t += 1
            if t in due:
                self._wait()
                seconds += time.perf_counter() - begin
                validations[t] = self._evaluate("val")
                begin = time.perf_counter()
        if number < self.train.epochs:
            self.loop.draw(number + 1)  # while a GPU is still busy with this one
        totals = self.loop.read()
        seconds += time.perf_counter() - begin - (self.probes.seconds if self.probes else 0)
        if self.data.num_images("val"):
            validations[t] = self._evaluate("val")
        test = self._evaluate("test") if number == self.train.epochs else None
        every = self.configs[0].track.predictions_every
        shown = self._evaluate("test") if every and test is None and number % every == 0 else None
        probes = self.probes.read(totals, validations.get(t)) if self.probes else []
        return _Epoch(number, t, seconds, totals, validations, test, shown, probes)

    def _train_step(self, size: int, t: int) -> None:
        if self.probes is None or not self.probes.is_measured(t):
            self.loop.functions[size]()
            return
        with self.probes.around(*self.loop.gather(size), t):
            self.loop.functions[size]()

    def _wait(self) -> None:
        if self.data.device.type == "cuda":
            torch.cuda.synchronize(self.data.device)

    @property
    def validation_steps(self) -> set[int]:
        """Steps of an epoch, counted from 1, that are followed by a validation, without the one at the end of the epoch."""
        if not self.data.num_images("val"):
            return set()
        count = self.train.evals_per_epoch
        return {round(k * self.steps_per_epoch / count) for k in range(1, count)} - {0, self.steps_per_epoch}

    def _evaluate(self, split: Split) -> Evaluation:
        train = self.train
        precise = self.configs[0].norm.statistics is Statistics.precise
        with by_precise_statistics(self.network, self.data, train.precision) if precise else nullcontext():
            if split == "val":
                self.validate()
                return self.validation.read()
            return evaluate(self.network, self.data, split, train.eval_batch_size, train.precision)

    def _report(self, run: int, epoch: _Epoch) -> Iterator[Record]:
        run_id, diverged_at = self.specs[run].run_id, epoch.diverged_at(run)
        if values := self._step_metrics(run, epoch):
            yield StepMetrics(run_id, values)
        metrics = self._metrics(run, epoch, diverged_at is not None)
        yield EpochMetrics(run_id, epoch.number, epoch.step, metrics)
        if diverged_at is None and epoch.test is None:
            if epoch.shown is not None:
                yield EpochPredictions(run_id, epoch.number, epoch.step, _predictions(epoch.shown, run))
            return
        self.active.remove(run)
        predictions = None
        if diverged_at is not None:
            metrics = metrics | {"test/accuracy": self.chance}
        else:
            assert epoch.test is not None
            metrics = metrics | _named("test", epoch.test, run)
            predictions = _predictions(epoch.test, run)
            metrics |= self.probes.summary()[run] if self.probes else {}
        seconds = time.perf_counter() - self.started
        yield RunFinished(run_id, metrics, seconds, predictions, self.network.export(run), diverged_at)

    @property
    def chance(self) -> float:
        return 1 / self.data.num_classes

    def _step_metrics(self, run: int, epoch: _Epoch) -> dict[int, dict[str, float]]:
        """By step number from 1: what the epoch recorded at single steps, of those that are finite.

        These are the losses of every ``train.log_every``-th step, validations inside the epoch, and what probes measured.
        """
        every, losses = self.train.log_every, epoch.totals.losses[:, run]
        first = epoch.step - len(losses) + 1
        measured = epoch.probes[run].steps if epoch.probes and epoch.diverged_at(run) is None else {}
        values: dict[int, dict[str, float]] = {}
        for step, loss in enumerate(losses.tolist(), first):
            if every and step % every == 0 and math.isfinite(loss):
                values[step] = {"train/step_loss": loss}
            result = epoch.validations.get(step)
            if result is not None and step < epoch.step and math.isfinite(result.loss[run]):
                values[step] = values.get(step, {}) | _named("val", result, run)
            if step in measured:
                values[step] = values.get(step, {}) | measured[step]
        return values

    def _metrics(self, run: int, epoch: _Epoch, diverged: bool) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for name, result in (("train", epoch.totals), ("val", epoch.validations.get(epoch.step))):
            if result is not None and diverged:
                metrics[f"{name}/accuracy"] = self.chance
            elif result is not None:
                metrics |= _named(name, result, run)
        if epoch.probes and not diverged:
            metrics |= epoch.probes[run].epoch
        return metrics | {
            "learning_rate": float(self.rates[run][epoch.step - 1]),
            "time/epoch_seconds": epoch.seconds,
            "time/images_per_second": self.train.images_per_epoch(self.data.num_train) / epoch.seconds,
        }


def _named(split: str, result: Evaluation | EpochTotals, run: int) -> dict[str, float]:
    return {f"{split}/{name}": float(getattr(result, name)[run]) for name in of_split(split)}


def _predictions(test: Evaluation, run: int) -> Predictions:
    """The outputs of one run for all test images."""
    assert test.labels is not None
    assert test.probabilities is not None
    return Predictions(np.arange(len(test.labels), dtype=np.int64), test.labels, test.probabilities[run])
