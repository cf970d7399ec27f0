"""How fast this machine trains each kind of network, compared with the machine that the constants of ``cost.py`` are of."""

from __future__ import annotations

import math
import platform
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from statistics import median
from typing import Any

from bnexp.config.options import ModelName
from bnexp.config.schema import RunConfig
from bnexp.run import timed
from bnexp.run.cost import (
    counted_time,
    epoch_images,
    epoch_seconds,
    has_known_length,
    is_counted,
    measured_time,
    run_seconds,
    with_kernels,
)
from bnexp.tracking.reading import DamagedRecord, as_type
from bnexp.tracking.records import CONFIG, RecordedRun, Summary
from bnexp.tracking.store import Store

LATEST = 200  # runs that tell
TOLD_BY = ("data", "model", "norm", "optim", "train", "probe")  # parts of the configuration that decide the time of a run

X86 = ("x86_64", "AMD64")  # machines that there are kernels for, unless they are older than AVX2
BY_KERNELS = "kernels for"  # in the words of a run's ``execution``

# How many of the latest runs tell: of all runs, then of the same network, of the same layers, of the same experiment. The
# fewer, the sooner a change of the machine's load is noticed.
MOST = (50, 10, 6, 6)
ALIKE = 2  # the first of these groups whose runs are all executed in one way, unless bnexp has learnt a better one

LONG = 0.5  # seconds of a run that tells about what is no training; on a busy machine much of a shorter one is waiting

WIDER = 2  # the pace of the wider group counts as much as so many runs of the narrower one


@dataclass(frozen=True)
class Told:
    """What one recorded run tells.

    Args:
        kinds: as the function ``kinds`` gives them.
        execution: how its steps were executed.
        seconds: how long it took.
        expected: how long it should have taken on the machine of the constants, seconds.
        value: the logarithm of its time divided by the expected time. If the layers of its network are not counted: seconds of
            training per image.
    """

    kinds: tuple[Hashable, ...]
    execution: str
    seconds: float
    expected: float
    value: float


def kinds(config: RunConfig) -> tuple[Hashable, ...]:
    """The groups that a run belongs to, from the widest: all runs, the same network, the same layers, the same experiment."""
    data, model, norm, train = config.data, config.model, config.norm, config.train
    shape: Hashable = () if model.name is ModelName.lenet else (model.depth, model.width)
    network = (model.name, shape if is_counted(config) else repr(vars(model)), data.size, data.channels)
    norms = (norm.kind, norm.placement, norm.linear, bool(norm.noise))
    layers = (network, norms, model.activation, config.optim.name, train.batch_size, train.precision, train.kernels)
    amount = (data.name, data.train_size, train.epochs, train.steps_per_epoch, train.evals_per_epoch, norm.statistics)
    return (), network, layers, (layers, amount, tuple(vars(config.probe).values()))


class Groups:
    """What the latest runs of each group tell.

    Runs that were executed in another way than the latest of their group, as by kernels that bnexp did not have yet, are left
    out of it.

    Args:
        told: of each run, the latest at the end.
    """

    def __init__(self, told: Iterable[Told]) -> None:
        self._runs: dict[tuple[int, Hashable], deque[Told]] = {}
        for run in told:
            for level, (kind, most) in enumerate(zip(run.kinds, MOST, strict=True)):
                runs = self._runs.setdefault((level, kind), deque(maxlen=most))
                if level >= ALIKE and runs and runs[-1].execution != run.execution:
                    runs.clear()
                runs.append(run)

    def __call__(self, config: RunConfig) -> list[deque[Told]]:
        """The groups of a run, from the widest. A group without recorded runs is left out."""
        found = (self._runs.get((level, kind)) for level, kind in enumerate(kinds(config)))
        return [runs for runs in found if runs]


class DevicePace:
    """Real time divided by expected time on a kind of device: 2 is a machine of half the speed.

    Each group of runs has a pace: the median of its latest runs, drawn towards the pace of the wider group. This is a mean of
    logarithms in which the wider group counts as much as two runs. A run that is shorter than the one in question counts by the
    part of its time: much of a short run is waiting and first steps, of which a long run has no more.

    Args:
        prior: the pace if no run is recorded; None: not known.
        ratios: what recorded runs of counted networks tell.
        images: what those of other networks tell.
        kernels: whether there are kernels for the device.
    """

    def __init__(
        self, prior: float | None, ratios: Iterable[Told] = (), images: Iterable[Told] = (), *, kernels: bool = False
    ) -> None:
        told = list(ratios)
        self.is_told, self._kernels, self._prior = bool(told), kernels, prior
        self._ratios, self._images = Groups(told), Groups(images)
        self._long = deque((run for run in told if run.seconds >= LONG), MOST[0])

    @property
    def common(self) -> float | None:
        """The pace of whatever the device does; None if it is not known."""
        return self._drawn([self._long] if self._long else [], LONG)

    def of(self, config: RunConfig) -> float | None:
        """The pace of a run of a counted network; None if it is not known."""
        return self._drawn(self._ratios(config), self._expected(config))

    def _expected(self, config: RunConfig) -> float:
        return run_seconds(with_kernels(config, self._kernels))

    def _drawn(self, groups: Iterable[Sequence[Told]], expected: float) -> float | None:
        """The pace that groups tell for a run of so many expected seconds."""
        pace = None if self._prior is None else math.log(self._prior)
        for runs in groups:
            weights = [min(1.0, run.expected / expected) for run in runs]
            own, weight = _median([run.value for run in runs], weights), sum(weights)
            pace = own if pace is None else pace + weight / (weight + WIDER) * (own - pace)
        return None if pace is None else math.exp(pace)

    def seconds(self, config: RunConfig) -> float | None:
        """The time of a run, as its record will count it. None if it is not known, or the number of its images is not."""
        if not has_known_length(config):
            return None
        if is_counted(config):
            pace = self.of(config)
            return None if pace is None else pace * self._expected(config)
        seconds = self._step_seconds(config)
        return None if seconds is None else run_seconds(config, measured_time(config, seconds))

    def _step_seconds(self, config: RunConfig) -> float | None:
        """Seconds of a training step of a network that is not counted: recorded, or else timed; None if neither is."""
        if found := self._images(config)[1:]:  # the widest group has other networks
            return config.train.batch_size * median(run.value for run in found[-1])
        return None if self._prior is None else timed.known(config)


def _median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The value with half of the weights below it, or the mean of two if half lies between them."""
    pairs = sorted(zip(values, weights, strict=True))
    sums = list(accumulate(weight for _, weight in pairs))
    half = sums[-1] / 2
    return (pairs[bisect_left(sums, half)][0] + pairs[bisect_right(sums, half)][0]) / 2


@dataclass(frozen=True)
class Pace:
    """How fast this machine trains.

    Args:
        cpu: a single core.
        accelerator: a GPU. Without recorded runs nothing tells its pace.
    """

    cpu: DevicePace
    accelerator: DevicePace

    @property
    def machine(self) -> float:
        """That of what is no training, such as loading and drawing."""
        pace = self.cpu.common
        assert pace is not None  # a CPU has a prior
        return pace

    def on(self, accelerated: bool) -> DevicePace:
        """That of the GPU or of the CPU."""
        return self.accelerator if accelerated else self.cpu


def recorded_pace(store: Store) -> Pace:
    """What the latest runs tell. Without any it is the pace of a step that has been timed on this machine, or else 1."""
    told: dict[tuple[bool, bool], list[Told]] = {}
    for run in store.latest(LATEST):
        if found := _told(run):
            told.setdefault((run.summary.device == "cpu", found[0]), []).append(found[1])
    prior, kernels = timed.machine_pace() or 1.0, platform.machine() in X86
    cpu = DevicePace(prior, told.get((True, True), ()), told.get((True, False), ()), kernels=kernels)
    return Pace(cpu, DevicePace(None, told.get((False, True), ()), told.get((False, False), ())))


@lru_cache(4 * LATEST)
def _told(run: RecordedRun) -> tuple[bool, Told] | None:
    """Whether the network of a run is counted, and what the run tells; None if its record does not tell.

    A record that is finished no longer changes, and a book of many studies asks for the same ones before each of them.
    """
    summary = run.summary
    speed = summary.metric("time/images_per_second")
    if not 0 < speed < math.inf:
        return None
    try:
        config = _config(run)
    except (DamagedRecord, FileNotFoundError, KeyError):
        return None
    counted = is_counted(config)
    execution = summary.execution or ""
    executed = with_kernels(config, BY_KERNELS in execution)
    value = math.log(_ratio(executed, summary, speed)) if counted else 1 / speed
    expected = run_seconds(executed) if counted else summary.seconds
    return counted, Told(kinds(config), execution, summary.seconds, expected, value)


def _ratio(config: RunConfig, summary: Summary, speed: float) -> float:
    """Recorded time divided by expected time.

    It is that of the whole run if the run trained to its end, the number of its images is known, and no graph had to be
    captured. Else it is that of its last epoch. So a run that diverged early does not count as a fast one.
    """
    whole = summary.status == "finished" and summary.device == "cpu" and has_known_length(config)
    if whole and summary.seconds > 0:
        return summary.seconds / run_seconds(config)
    return epoch_images(config) / speed / epoch_seconds(config, counted_time(config))


def _config(run: RecordedRun) -> RunConfig:
    """The parts of a run's configuration that decide its time."""
    parts: dict[str, Any] = {}
    for name, value in run.settings.items():
        *above, last = name.split(".")
        if above and above[0] in TOLD_BY:
            inner = parts
            for group in above:
                inner = inner.setdefault(group, {})
            inner[last] = value
    config: RunConfig = as_type(RunConfig, {name: parts[name] for name in TOLD_BY}, run.path / CONFIG)
    return config
