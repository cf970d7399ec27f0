"""Times the rungs, each as a process of its own, from its start until its results are on disk."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bnexp.bench.work import RungResult, RunResult, Work
from bnexp.config.options import Device
from bnexp.data.catalogue import CATALOGUE
from bnexp.run.local import num_cores
from bnexp.tracking.store import Store


class BenchError(Exception):
    """A rung failed. The message says which and why."""


@dataclass(frozen=True)
class Measurement:
    """One rung, measured once.

    Args:
        rung: its name.
        num_runs: how many runs it trained.
        repeat: which repeat this is, from 1.
        seconds: wall time of the whole process.
        result: what the process reported.
    """

    rung: str
    num_runs: int
    repeat: int
    seconds: float
    result: RungResult

    @property
    def images_per_second(self) -> float:
        """Training images per second in steady state, of all runs together."""
        return self.result.images / self.result.train_seconds


# Rough speed of a CPU with two cores, for estimates: seconds to start, images trained and images evaluated per second.
NOMINAL = {
    "B0": (5.0, 3_000.0, 5_000.0),
    "B1": (5.0, 4_500.0, 30_000.0),
    "B2": (4.0, 8_500.0, 30_000.0),
    "B3": (6.0, 13_000.0, 50_000.0),
    "B4": (4.0, 5_000.0, 20_000.0),
    "B5": (9.0, 20_000.0, 60_000.0),
}


def nominal_seconds(rung: str, work: Work) -> float:
    """Roughly how long one measurement takes on a CPU with two cores."""
    start, train_speed, evaluation_speed = NOMINAL[rung]
    data = CATALOGUE[work.data]
    trained = (work.train_size or 0.95 * data.num_train) * work.epochs
    evaluated = 0.05 * data.num_train * work.epochs + data.num_test
    return start + work.num_runs * (trained / train_speed + evaluated / evaluation_speed)


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Args:
        rungs: names of the rungs.
        num_runs: numbers of runs, each measured for itself.
        repeats: how often each rung is measured at each number of runs.
        work: the work; its own number of runs is not used.
        limit: seconds; a measurement that is expected to take longer is left out.
    """

    rungs: Sequence[str]
    num_runs: Sequence[int]
    repeats: int
    work: Work
    limit: float

    def works(self) -> list[Work]:
        return [replace(self.work, num_runs=n) for n in self.num_runs]

    def estimate(self, measured: Sequence[Measurement] = ()) -> dict[tuple[str, int], float | None]:
        """Expected seconds of one measurement of each rung at each number of runs; None if nothing is known.

        A number of runs that was measured takes the median of its measurements. Otherwise the largest number that was
        measured grows in proportion. Without any measurement, a CPU takes the nominal time.
        """
        return {(rung, work.num_runs): self._expected(rung, work, measured) for work in self.works() for rung in self.rungs}

    def _expected(self, rung: str, work: Work, measured: Sequence[Measurement]) -> float | None:
        mine = [m for m in measured if m.rung == rung and m.num_runs <= work.num_runs]
        if mine:
            largest = max(m.num_runs for m in mine)
            seconds = statistics.median(m.seconds for m in mine if m.num_runs == largest)
            start = min(NOMINAL[rung][0], seconds / 2)  # paid once, however many runs there are
            return start + (seconds - start) * work.num_runs / largest
        return nominal_seconds(rung, work) if self.work.device is Device.cpu else None


@dataclass(frozen=True)
class LeftOut:
    """A rung that was not measured, because it would have taken about ``seconds``, more than the limit."""

    rung: str
    num_runs: int
    seconds: float


def climb(plan: Plan, folder: Path, left_out: Callable[[LeftOut], None]) -> Iterator[Measurement]:
    """Measure everything, yielding each measurement as it comes.

    The rungs take turns within each repeat, so that a machine that gets slower or busier affects all of them alike.

    Args:
        plan: what to measure.
        folder: for the results of each rung, which are removed after it.
        left_out: called for each rung that would take too long.

    Raises:
        BenchError: a rung failed.
    """
    measured: list[Measurement] = []
    for work in plan.works():
        expected = plan.estimate(measured)
        rungs = []
        for rung in plan.rungs:
            seconds = expected[rung, work.num_runs]
            if seconds is not None and seconds > plan.limit:
                left_out(LeftOut(rung, work.num_runs, seconds))
            else:
                rungs.append(rung)
        for repeat in range(1, plan.repeats + 1):
            for rung in rungs:
                measured.append(measure(rung, work, repeat, folder))
                yield measured[-1]


def measure(rung: str, work: Work, repeat: int, folder: Path) -> Measurement:
    """Run one rung as a process and time all of it. Raises BenchError if it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{rung}-") as name:
        own = Path(name)
        command, environment = _command(rung, work, own)
        with (own / "stderr.txt").open("w+") as errors:  # a pipe would be held open by processes that outlive the command
            begin = time.perf_counter()
            done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
            seconds = time.perf_counter() - begin
            errors.seek(0)
            lines = errors.read().strip().splitlines() or [f"exit code {done.returncode}"]
        if done.returncode != 0:
            raise BenchError(f"rung {rung} with {work.num_runs} runs failed: {lines[-1]}")
        result = RungResult.from_json((own / "result.json").read_text()) if rung != "B5" else recorded(work, own)
    runs = sorted(result.runs, key=lambda run: (run.seed, run.arm))
    return Measurement(rung, work.num_runs, repeat, seconds, replace(result, runs=runs))


def _command(rung: str, work: Work, folder: Path) -> tuple[list[str], dict[str, str]]:
    if rung != "B5":
        return [sys.executable, "-m", "bnexp.bench.rung", rung, work.to_json(), str(folder)], dict(os.environ)
    command = shutil.which("bnexp", path=str(Path(sys.executable).parent))
    if command is None:
        raise BenchError(f"rung B5 is the bnexp command, which is not beside {sys.executable}: install bnexp there.")
    # Records of its own, so that nothing counts as finished before; W&B on, but without its server.
    own = {"BNEXP_RUNS_DIR": str(folder), "WANDB_DIR": str(folder), "WANDB_MODE": "offline"}
    environment = {name: value for name, value in os.environ.items() if name != "BNEXP_CONFIG_PATH"} | own
    return [command, *work.command()], environment


def recorded(work: Work, folder: Path) -> RungResult:
    """What the ``bnexp`` command recorded in ``folder``."""
    records = list(Store(folder).runs())
    ends = [record.summary for record in records]
    runs = [RunResult(end.arm, end.seed, end.metric("test/accuracy")) for end in ends if end.seed is not None]
    # The runs of a cohort share their epochs, and so the exact times: each counts once.
    epochs = {tuple(line["time/epoch_seconds"] for line in record.metrics()) for record in records}
    images = sum(line["time/images_per_second"] * line["time/epoch_seconds"] for r in records for line in r.metrics())
    pooled = work.device is Device.cpu and work.num_runs > 1
    processes = min(num_cores(), len(records)) if pooled else 1
    seconds = sum(sum(times) for times in epochs) / processes
    if work.num_runs == 1:
        runs = [replace(run, arm="after_pool") for run in runs]  # on its own a run is named after its norm
    return RungResult(runs, round(images), seconds, 1, processes)
