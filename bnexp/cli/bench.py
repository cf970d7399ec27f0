"""``bnexp bench``: the speed ladder on this machine."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnexp.cli.output import CsvFlag, Format, JsonFlag, MdFlag, message, pick_format, print_json, print_rows, stderr, stdout
from bnexp.config.options import DataName, Device
from bnexp.config.schema import ConfigError
from bnexp.interrupt import INTERRUPTED, tidied

if TYPE_CHECKING:
    from bnexp.bench.environment import Environment
    from bnexp.bench.ladder import LeftOut, Plan
    from bnexp.bench.measure import Measurement
    from bnexp.bench.result import Ladder
    from bnexp.bench.work import Work
    from bnexp.data.resident import Resident

NUMBERS = ("runs", "seconds", "range", "over B0", "over B2", "x limit", "images/s", "accuracy %", "processes x threads")


def bench(
    rungs: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Which rungs, separated by commas, or all; they are listed above.",
            show_default="B0 to B5 and B5-torch",
        ),
    ] = None,
    num_runs: Annotated[
        str | None,
        typer.Option(
            "--runs",
            metavar="N,M",
            help="Numbers of runs, each 1 or even (two arms per seed).",
            show_default="1,6; on a GPU 1,10,100",
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many times each rung is measured; the rungs take turns.")
    ] = 3,
    once: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Rungs that are measured in the first repeat only, such as a slow B0.", show_default="none"
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="NAME", help="Data set.", show_default="mnist if its files are here, else digits")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, metavar="N", help="Epochs of each run.")] = 1,
    train_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of training images; 0: all.", show_default="2000 of mnist, all of digits"),
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="Device that every rung uses: auto, cpu, cuda or mps.")] = "auto",
    limit: Annotated[
        float,
        typer.Option(
            min=0.0, metavar="MINUTES", help="Leave out a rung if one measurement should take more minutes than this."
        ),
    ] = 30.0,
    peers: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Virtual environment of P1 and P2. If there is no such folder, pip makes it there, without a second torch.",
            show_default="one in the user's cache",
        ),
    ] = None,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
) -> None:
    """Time the speed ladder: the same runs, trained in several ways, from the tutorial's loop to bnexp.

    B0: the tutorial's loop with a DataLoader
    B1: tuned DataLoader
    B2: images in memory
    B3: B2 with runs side by side in processes
    B4: B2 as a torch.func ensemble
    B5: bnexp itself, with records, W&B files and report
    B5-torch: B5 without its own kernels
    B5-local: B5 without W&B
    P1: Lightning, Hydra and joblib (script in bnexp/bench/peers)
    P2: agents of W&B on a sweep (script in bnexp/bench/peers)
    S0, S1: time to an answer on digits: 10 seeds, --until-settled
    limit: what the arithmetic alone takes

    Each rung is a process of its own, timed from start to results on disk.
    With one process it has torch's own number of threads (or OMP_NUM_THREADS).
    B3, P1, P2 and, on a CPU, B5 use one process per core, with one thread each.
    The command first says about how long it will take.
    Ctrl-C keeps what was measured.

    Example: bnexp bench --rungs B0,B2,B5,P1,P2 --runs 6
    """
    format = pick_format(json, csv, md)
    from bnexp.bench.page import render
    from bnexp.data.shown import prepare_shown
    from bnexp.tracking.store import runs_dir, write_atomic

    plan = _plan(rungs, num_runs, repeats, _work(data, train_size, epochs, device), 60 * limit, once)
    resident = prepare_shown(plan.work.configs()[0].data, stderr())
    facts = _facts()
    plan, environment, left_out = _with_environment(plan, peers, facts)
    limits = _limits(plan, resident, facts)
    _announce(plan, len(resident.train_index))
    stem = runs_dir() / "bench" / time.strftime("%Y-%m-%d-%H%M%S")
    describe = partial(_describe, plan.work, len(resident.test_labels), facts, left_out, limits)
    ladder, interrupted = _climb(plan, stem, environment, left_out, describe)
    if ladder is not None:
        write_atomic(stem.with_suffix(".html"), render(ladder))
        message(f"\nMeasurements: {stem}.json\nPage: {stem}.html")
        _print(ladder, format)
    if interrupted:
        count = len(ladder.measurements) if ladder is not None else 0
        message(
            f"Interrupted after {count} measurement{'' if count == 1 else 's'}; the same command measures all of them anew."
        )
        raise typer.Exit(INTERRUPTED)
    if ladder is None:
        reasons = "; ".join(dict.fromkeys(f"{item.rung}: {item.why.rstrip('.')}" for item in left_out))
        raise ConfigError(f"nothing was measured ({reasons}). Raise --limit, lower --runs, or choose other --rungs.")


def _plan(rungs: str | None, num_runs: str | None, repeats: int, work: Work, limit: float, once: str | None) -> Plan:
    """What is going to be measured; ``limit`` in seconds."""
    from bnexp.bench.ladder import Plan
    from bnexp.bench.work import RUNGS, pick_rungs, pick_runs, usual_rungs

    chosen = usual_rungs(work.device) if rungs is None else pick_rungs(rungs)
    usual = [1, 6] if work.device is Device.cpu else [1, 10, 100]
    fewer = [] if once is None else pick_rungs(once, "--once")
    if len(fewer) < len(RUNGS) and (others := [rung for rung in fewer if rung not in chosen]):
        raise ConfigError(f"--once names {', '.join(others)}, which is not measured: allowed are {', '.join(chosen)}.")
    return Plan(chosen, usual if num_runs is None else pick_runs(num_runs), repeats, work, limit, fewer)


def _with_environment(plan: Plan, folder: Path | None, facts: dict[str, str]) -> tuple[Plan, Environment | None, list[LeftOut]]:
    """Prepare the environment of the peers, if there are any among the rungs.

    Returns:
        The plan, without the peers if there is no environment; the environment; what is left out and why.
    """
    from bnexp.bench.environment import default_folder, prepare_environment
    from bnexp.bench.ladder import LeftOut
    from bnexp.bench.work import RUNGS, BenchError

    peers = [rung for rung in plan.rungs if RUNGS[rung].is_peer]
    if not peers:
        return plan, None, []
    try:
        environment = prepare_environment((folder or default_folder()).resolve(), message)
    except BenchError as error:
        message(f"{' and '.join(peers)} left out, because their environment is not there: {error}")
        left_out = [LeftOut(rung, n, str(error)) for n in plan.num_runs for rung in peers]
        return replace(plan, rungs=[rung for rung in plan.rungs if rung not in peers]), None, left_out
    facts["environment of P1 and P2"] = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    return plan, environment, []


def _limits(plan: Plan, data: Resident, facts: dict[str, str]) -> dict[int, float]:
    """Number of runs -> seconds that the arithmetic takes at least."""
    from bnexp.bench.limit import limit_seconds, matrix_rate
    from bnexp.training.precision import configure_precision, resolve_device

    train = plan.work.configs()[0].train
    configure_precision(train.precision)
    rate = matrix_rate(resolve_device(train))
    facts["matrix products"] = f"{rate / 1e9:,.0f} GFLOP/s"
    return {n: limit_seconds(replace(plan.work, num_runs=n), data, rate) for n in plan.num_runs}


def _describe(
    work: Work,
    num_test: int,
    facts: dict[str, str],
    left_out: list[LeftOut],
    limits: dict[int, float],
    measurements: list[Measurement],
) -> Ladder:
    from bnexp.bench.result import build

    return build(work, measurements, num_test, facts, left_out, limits)


def _climb(
    plan: Plan,
    stem: Path,
    environment: Environment | None,
    left_out: list[LeftOut],
    describe: Callable[[list[Measurement]], Ladder],
) -> tuple[Ladder | None, bool]:
    """Measure the ladder, and write ``stem``.json after each measurement.

    Args:
        plan: what to measure.
        stem: path of the results, without suffix.
        environment: of the peers.
        left_out: gets what is not measured.
        describe: makes the ladder of what has been measured.

    Returns:
        The ladder, None if nothing was measured, and whether Ctrl-C ended it.
    """
    from bnexp.bench.ladder import climb
    from bnexp.tracking.store import write_json

    def leave_out(item: LeftOut) -> None:
        message(f"runs: {item.num_runs}: {item.rung} left out: {item.why}")
        left_out.append(item)

    measurements: list[Measurement] = []
    interrupted = False
    try:
        with tidied(), _ended_as_by_ctrl_c():
            for measurement in climb(plan, stem.parent, leave_out, environment):
                measurements.append(measurement)
                write_json(stem.with_suffix(".json"), describe(measurements).to_dict())
                _progress(plan, measurements, left_out)
    except KeyboardInterrupt:
        interrupted = True
    if not measurements:
        return None, interrupted
    ladder = describe(measurements)  # with what was left out after the last measurement
    write_json(stem.with_suffix(".json"), ladder.to_dict())
    return ladder, interrupted


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP end the rungs as Ctrl-C does: an agent of W&B would ask forever for a server that is gone."""
    numbers = [signal.SIGTERM, signal.SIGHUP]
    before = [signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _work(data: str | None, train_size: int | None, epochs: int, device: str) -> Work:
    """The work of one run, checked like any other configuration."""
    from bnexp.bench.work import Work, default_data
    from bnexp.plan.compose import compose
    from bnexp.training.precision import resolve_device

    name = data or default_data()
    size = {"mnist": 2000}.get(name) if train_size is None else train_size or None
    if name in [own for own in DataName if own.is_own]:
        raise ConfigError(f"--data {name} is not possible: the ladder needs a published data set, like mnist or digits.")
    config = compose([f"data={name}", f"data.train_size={'null' if size is None else size}", f"train.device={device}"])
    return Work(config.data.name, size, epochs, 1, Device(resolve_device(config.train).type))


def _facts() -> dict[str, str]:
    """Facts about the machine before the first measurement. Its load tells how far the times can be trusted."""
    from bnexp.run.local import num_cores
    from bnexp.tracking.store import environment

    load = {"load before": f"{os.getloadavg()[0]:.2f}"} if hasattr(os, "getloadavg") else {}
    cores = num_cores()
    if load and float(load["load before"]) > cores / 2:
        message(f"This machine is busy (load {load['load before']} on {cores} cores): the times will say little.")
    return {**environment(), "usable cores": str(cores), **load, "started": time.strftime("%Y-%m-%d %H:%M:%S")}


def _announce(plan: Plan, num_train: int) -> None:
    """Print what will be measured, and how long that should take."""
    from bnexp.bench.work import RUNGS
    from bnexp.run.forecast import duration_text

    work = plan.work
    expected = {key: s for key, s in plan.estimate().items() if s is None or s <= plan.limit}
    known = [seconds * plan.times(rung) for (rung, _), seconds in expected.items() if seconds is not None]
    about = f", about {duration_text(sum(known))}" if len(known) == len(expected) else ""
    climbing = [rung for rung in plan.rungs if not RUNGS[rung].is_settling]
    numbers = " and ".join(map(str, plan.num_runs))
    facts = f"training images of {work.data}: {num_train:,}, epochs: {work.epochs}"
    what = [f"{', '.join(climbing)} with {numbers} runs ({facts})"] if climbing else []
    what += [f"{rung} with {asked.num_runs} runs ({asked.data})" for rung, asked in plan.tasks() if RUNGS[rung].is_settling]
    if not what:
        return
    message(f"{'; '.join(what)}; repeats: {plan.repeats}{about}; device: {work.device}")


def _progress(plan: Plan, measurements: list[Measurement], left_out: list[LeftOut]) -> None:
    """Print one line on the latest measurement, with the time that the rest should take."""
    from bnexp.bench.rows import mean_accuracy
    from bnexp.run.forecast import duration_text

    latest = measurements[-1]
    skipped = {(item.rung, item.num_runs) for item in left_out}
    done = Counter((m.rung, m.num_runs) for m in measurements)
    expected = {key: seconds for key, seconds in plan.estimate(measurements).items() if key not in skipped}
    rest = [(seconds, plan.times(key[0]) - done[key]) for key, seconds in expected.items() if done[key] < plan.times(key[0])]
    known = [seconds * times for seconds, times in rest if seconds is not None and seconds <= plan.limit]
    left = f", about {duration_text(sum(known))} left" if known else ""
    message(
        f"runs: {latest.num_runs}, repeat {latest.repeat}/{plan.times(latest.rung)}: {latest.rung} {latest.seconds:.1f} s, "
        f"accuracy {100 * mean_accuracy(latest.result.runs):.2f} %{left}"
    )


def _print(ladder: Ladder, format: Format) -> None:
    """Print the ladder on stdout."""
    from bnexp.bench.result import legend, table

    if format is Format.json:
        print_json(ladder.to_dict())
        return
    rows = table(ladder)
    if format is not Format.table:
        print_rows(rows, format, right=NUMBERS)
        return
    print_rows([{name: cell for name, cell in row.items() if name != "adds"} for row in rows], format, right=NUMBERS)
    out = stdout()
    out.print()
    for line in legend(ladder):
        out.print(line, markup=False)
    out.print()
    for bar in [bar for bar in ladder.bars if bar.measured]:
        out.print(f"Bar: {bar.sentence()}", markup=False)
    for step in ladder.steps:
        out.print(f"Step: {step.sentence()}", markup=False)
    for note in ladder.notes:
        out.print(f"- {note}", style="dim", markup=False)
