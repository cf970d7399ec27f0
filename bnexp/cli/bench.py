"""``bnexp bench``: the speed ladder on this machine."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from bnexp.cli.output import CsvFlag, Format, JsonFlag, MdFlag, message, pick_format, print_json, print_rows, stderr, stdout
from bnexp.config.options import DataName, Device
from bnexp.config.schema import ConfigError
from bnexp.interrupt import INTERRUPTED, tidied

if TYPE_CHECKING:
    from pathlib import Path

    from bnexp.bench.ladder import LeftOut, Measurement, Plan
    from bnexp.bench.result import Ladder
    from bnexp.bench.work import Work

NUMBERS = ("runs", "seconds", "range", "over B0", "over B2", "images/s", "accuracy %", "processes x threads")


def bench(
    rungs: Annotated[
        str,
        typer.Option(
            help="Which rungs. B0: tutorial loop with a DataLoader; B1: tuned DataLoader; B2: images in memory; B3: B2 in "
            "processes; B4: torch.func ensemble; B5: bnexp itself, which on a GPU trains cohorts in its own process."
        ),
    ] = "B0,B1,B2,B3,B4,B5",
    num_runs: Annotated[
        str | None,
        typer.Option(
            "--runs", help="Numbers of runs, each 1 or even (two arms per seed).", show_default="1,6; on a GPU 1,10,100"
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How many times each rung is measured; the rungs take turns.")] = 3,
    data: Annotated[str | None, typer.Option(help="Data set.", show_default="mnist if its files are here, else digits")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each run.")] = 1,
    train_size: Annotated[
        int | None, typer.Option(help="Number of training images; 0: all.", show_default="2000 of mnist, all of digits")
    ] = None,
    device: Annotated[Device, typer.Option(help="Device that every rung uses.")] = Device.auto,
    limit: Annotated[
        float, typer.Option(min=0.0, help="Leave out a rung if one measurement should take more minutes than this.")
    ] = 30.0,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
) -> None:
    """Time the speed ladder: the same runs, trained in six ways, from the tutorial's loop to bnexp.

    Each rung is a process of its own, timed from its start until its results are on disk. Rungs with one process use torch's
    own number of threads (set OMP_NUM_THREADS to change it). B3 and, on a CPU, B5 use one process per core with one thread
    each.

    Example: bnexp bench --rungs B0,B2,B5 --runs 6
    """
    format = pick_format(json, csv, md)
    from bnexp.bench.page import render
    from bnexp.data.shown import prepare_shown
    from bnexp.tracking.store import runs_dir, write_atomic

    plan = _plan(rungs, num_runs, repeats, _work(data, train_size, epochs, device), 60 * limit)
    resident = prepare_shown(plan.work.configs()[0].data, stderr())
    facts = _facts()
    _announce(plan, len(resident.train_index))
    stem = runs_dir() / "bench" / time.strftime("%Y-%m-%d-%H%M%S")
    ladder, interrupted = _climb(plan, stem, len(resident.test_labels), facts)
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
        raise ConfigError(f"every rung is expected to take longer than --limit {limit:g} minutes: raise it or lower --runs.")


def _plan(rungs: str, num_runs: str | None, repeats: int, work: Work, limit: float) -> Plan:
    """What is going to be measured; ``limit`` in seconds."""
    from bnexp.bench.ladder import Plan
    from bnexp.bench.work import pick_rungs, pick_runs

    usual = [1, 6] if work.device is Device.cpu else [1, 10, 100]
    return Plan(pick_rungs(rungs), usual if num_runs is None else pick_runs(num_runs), repeats, work, limit)


def _climb(plan: Plan, stem: Path, num_test: int, facts: dict[str, str]) -> tuple[Ladder | None, bool]:
    """Measure the ladder, and write ``stem``.json after each measurement.

    Returns:
        The ladder, None if nothing was measured, and whether Ctrl-C ended it.
    """
    from bnexp.bench.ladder import climb
    from bnexp.bench.result import build
    from bnexp.tracking.store import write_json

    ladder: Ladder | None = None
    measurements: list[Measurement] = []
    left_out: list[LeftOut] = []
    try:
        with tidied():
            for measurement in climb(plan, stem.parent, left_out.append):
                measurements.append(measurement)
                ladder = build(plan.work, measurements, num_test, facts, left_out)
                write_json(stem.with_suffix(".json"), ladder.to_dict())
                _progress(plan, measurements, left_out)
    except KeyboardInterrupt:
        return ladder, True
    return ladder, False


def _work(data: str | None, train_size: int | None, epochs: int, device: Device) -> Work:
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
    from bnexp.run.forecast import duration_text

    work = plan.work
    expected = [seconds for seconds in plan.estimate().values() if seconds is None or seconds <= plan.limit]
    known = [seconds for seconds in expected if seconds is not None]
    about = f", about {duration_text(plan.repeats * sum(known))}" if len(known) == len(expected) else ""
    message(
        f"{', '.join(plan.rungs)} with {' and '.join(map(str, plan.num_runs))} runs, repeats: {plan.repeats}{about}; "
        f"training images of {work.data}: {num_train:,}, epochs: {work.epochs}, device: {work.device}"
    )


def _progress(plan: Plan, measurements: list[Measurement], left_out: list[LeftOut]) -> None:
    """Print one line on the latest measurement, with the time that the rest should take."""
    from bnexp.bench.result import mean_accuracy
    from bnexp.run.forecast import duration_text

    latest = measurements[-1]
    skipped = {(item.rung, item.num_runs) for item in left_out}
    done = Counter((m.rung, m.num_runs) for m in measurements)
    expected = {key: seconds for key, seconds in plan.estimate(measurements).items() if key not in skipped}
    rest = [(seconds, plan.repeats - done[key]) for key, seconds in expected.items() if done[key] < plan.repeats]
    known = [seconds * times for seconds, times in rest if seconds is not None and seconds <= plan.limit]
    left = f", about {duration_text(sum(known))} left" if known else ""
    message(
        f"runs: {latest.num_runs}, repeat {latest.repeat}/{plan.repeats}: {latest.rung} {latest.seconds:.1f} s, "
        f"accuracy {100 * mean_accuracy(latest.result.runs):.2f} %{left}"
    )


def _print(ladder: Ladder, format: Format) -> None:
    """Print the ladder on stdout."""
    from bnexp.bench.result import table

    if format is Format.json:
        print_json(ladder.to_dict())
        return
    print_rows(table(ladder), format, right=NUMBERS)
    if format is Format.table:
        out = stdout()
        out.print()
        for bar in ladder.bars:
            out.print(f"Bar: {bar.sentence()}", markup=False)
        for note in ladder.notes:
            out.print(f"- {note}", style="dim", markup=False)
