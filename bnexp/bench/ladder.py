"""The plan of a bench: what is measured how often, how long that should take, and doing it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bnexp.bench.environment import Environment
from bnexp.bench.measure import Measurement, measure
from bnexp.bench.work import RUNGS, BenchError, Work, settling
from bnexp.config.options import Device
from bnexp.data.catalogue import CATALOGUE
from bnexp.run.forecast import duration_text


@dataclass(frozen=True)
class Pace:
    """Rough speed of a rung on a CPU with two cores, for estimates.

    Args:
        start: seconds that it takes without any run.
        trained: images per second of training, of all runs together.
        evaluated: the same for evaluation.
        run: further seconds per run.
    """

    start: float
    trained: float
    evaluated: float
    run: float = 0.0


PACES = {
    "B0": Pace(5.0, 3_700, 8_000),
    "B1": Pace(5.0, 6_300, 30_000),
    "B2": Pace(4.0, 8_500, 30_000),
    "B3": Pace(6.0, 17_000, 50_000),
    "B4": Pace(4.0, 5_500, 20_000),
    "B5-torch": Pace(8.0, 22_000, 60_000),
    "B5-local": Pace(6.0, 30_000, 90_000),
    "B5": Pace(7.0, 30_000, 90_000),
    "P1": Pace(14.0, 5_500, 9_000, run=0.5),
    "P2": Pace(4.0, 5_500, 9_000, run=5.0),
    "S0": Pace(5.0, 30_000, 60_000, run=0.1),
    "S1": Pace(5.0, 50_000, 100_000, run=0.1),  # it usually needs fewer seeds
}


def nominal_seconds(rung: str, work: Work) -> float:
    """Roughly how long one measurement takes on a CPU with two cores."""
    pace, data = PACES[rung], CATALOGUE[work.data]
    trained = (work.train_size or 0.95 * data.num_train) * work.epochs
    evaluated = 0.05 * data.num_train * work.epochs + data.num_test
    return pace.start + work.num_runs * (pace.run + trained / pace.trained + evaluated / pace.evaluated)


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Args:
        rungs: names of the rungs.
        num_runs: numbers of runs, each measured for itself.
        repeats: how often each rung is measured at each number of runs.
        work: the work; its own number of runs is not used.
        limit: seconds; a measurement that is expected to take longer is left out.
        once: rungs that are measured in the first repeat only.
    """

    rungs: Sequence[str]
    num_runs: Sequence[int]
    repeats: int
    work: Work
    limit: float
    once: Sequence[str] = ()

    def tasks(self) -> list[tuple[str, Work]]:
        """Each rung with each work that it does, in the order in which they are measured."""
        ladder = [rung for rung in self.rungs if not RUNGS[rung].is_settling]
        tasks = [(rung, replace(self.work, num_runs=n)) for n in self.num_runs for rung in ladder]
        return tasks + [(rung, settling(self.work.device)) for rung in self.rungs if RUNGS[rung].is_settling]

    def times(self, rung: str) -> int:
        """How often a rung is measured at each number of runs."""
        return 1 if rung in self.once else self.repeats

    def estimate(self, measured: Sequence[Measurement] = ()) -> dict[tuple[str, int], float | None]:
        """Expected seconds of one measurement of each rung at each number of runs; None if nothing is known.

        A number of runs that was measured takes the median of its measurements. Otherwise the largest number that was
        measured grows in proportion. Without any measurement, a CPU takes the nominal time.
        """
        return {(rung, work.num_runs): self._expected(rung, work, measured) for rung, work in self.tasks()}

    def _expected(self, rung: str, work: Work, measured: Sequence[Measurement]) -> float | None:
        mine = [m for m in measured if m.rung == rung and m.num_runs <= work.num_runs]
        if mine:
            largest = max(m.num_runs for m in mine)
            seconds = statistics.median(m.seconds for m in mine if m.num_runs == largest)
            start = min(PACES[rung].start, seconds / 2)  # paid once, however many runs there are
            return start + (seconds - start) * work.num_runs / largest
        return nominal_seconds(rung, work) if self.work.device is Device.cpu else None


@dataclass(frozen=True)
class LeftOut:
    """A rung that was not measured. ``why``: it would have taken longer than the limit, or cannot run here."""

    rung: str
    num_runs: int
    why: str


def climb(
    plan: Plan, folder: Path, left_out: Callable[[LeftOut], None], environment: Environment | None = None
) -> Iterator[Measurement]:
    """Measure everything, yielding each measurement as it comes.

    The rungs take turns within each repeat, so that a machine that gets slower or busier affects all of them alike.

    Args:
        plan: what to measure.
        folder: for the results of each rung, which are removed after it.
        left_out: called for each rung that would take too long, and for each peer that fails.
        environment: of the peers; None if there are none among the rungs.

    Raises:
        BenchError: a rung failed that is none of the peers.
    """
    measured: list[Measurement] = []
    for work in dict.fromkeys(work for _, work in plan.tasks()):
        expected = plan.estimate(measured)
        rungs = []
        for rung in [rung for rung, its_work in plan.tasks() if its_work == work]:
            seconds = expected[rung, work.num_runs]
            if seconds is not None and seconds > plan.limit:
                left_out(LeftOut(rung, work.num_runs, f"it would take about {duration_text(seconds)} each time"))
            else:
                rungs.append(rung)
        for repeat in range(1, plan.repeats + 1):
            for rung in [rung for rung in rungs if repeat <= plan.times(rung)]:
                try:
                    measured.append(measure(rung, work, repeat, folder, environment))
                except BenchError as error:
                    if not RUNGS[rung].is_peer:
                        raise
                    rungs.remove(rung)
                    left_out(LeftOut(rung, work.num_runs, str(error)))
                else:
                    yield measured[-1]
