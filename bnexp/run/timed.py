"""Times a training step on random images. Where no run is recorded, only this tells how fast a machine is.

A step is timed only if torch is loaded anyway. The result is remembered in the cache, because it takes half a second.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter

import bnexp
from bnexp.config.options import Kernels, NormKind
from bnexp.config.schema import NormConfig, RunConfig, TrainConfig
from bnexp.data.download import cache_dir
from bnexp.plan.spec import digest
from bnexp.run.cost import counted_time, image_channels, num_classes
from bnexp.run.local import keep_freed_memory
from bnexp.run.pool_server import single_threaded, start_pool_server, without_main
from bnexp.tracking.store import write_atomic

# Its step tells the pace of the machine.
REFERENCE = RunConfig(norm=NormConfig(kind=NormKind.batch), train=TrainConfig(kernels=Kernels.torch))

SECONDS, MOST_STEPS = 0.4, 50  # of timing; both end it, but at least the first two steps are done
PATIENCE = 30.0  # seconds to wait for another process that loads torch and times a step
POSSIBLE = (1e-3, 1e3)  # paces
BESIDE = 1.2  # time of a step while runs train on all cores, divided by that of a step alone

_found: dict[str, float] = {}  # what this process has timed: "" for the pace of the machine, or a network -> seconds of a step


def machine_pace() -> float | None:
    """The time of a step here while all cores train, divided by the expected time; None if no step has been timed."""
    if "" not in _found:
        with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):  # the file may hold anything
            pace = float(json.loads(_place().read_text())["pace"])
            if POSSIBLE[0] < pace < POSSIBLE[1]:
                _found[""] = pace
    return _found.get("")


def known(config: RunConfig) -> float | None:
    """Seconds of a training step of a run while all cores train; None if this process has not timed it."""
    return _found.get(_network(config))


def time_machine() -> None:
    """Time a step in this process, which has loaded torch, unless this machine's pace is known."""
    if machine_pace() is None:
        _remember(time_step(REFERENCE))


def time_network(config: RunConfig) -> None:
    """Time a step of a run with a network of the user's own, in this process, which has loaded torch and the user's code."""
    if known(config) is None:
        _found[_network(config)] = BESIDE * time_step(config)


def time_machine_in_pool() -> None:
    """As ``time_machine``, in a process of the pool's server, which loads torch for the runs that are about to train.

    Other systems than Linux have no such server, so nothing is timed there.
    """
    if machine_pace() is not None or sys.platform != "linux":
        return
    context = start_pool_server()
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send_step, args=(there,), daemon=True)  # type: ignore[attr-defined]
    with single_threaded(), without_main():
        process.start()
    there.close()
    try:
        if here.poll(PATIENCE):
            _remember(here.recv())
    except EOFError:  # the process has died; the runs will say why
        pass
    finally:
        process.terminate()
        process.join()
        here.close()


def time_step(config: RunConfig) -> float:
    """Seconds of one training step of a run on random images, on one core: the median of several after the first."""
    import torch

    from bnexp.model.networks import build_network
    from bnexp.training.optim import build_optimiser
    from bnexp.training.precision import compute_dtype
    from bnexp.training.step import TrainStep

    batch_size, precision = config.train.batch_size, config.train.precision
    images = image_channels(config.data), config.data.size, num_classes(config.data)
    threads, rng = torch.get_num_threads(), torch.Generator().manual_seed(0)
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        network = build_network([config], *images, torch.device("cpu"), compute_dtype(precision)).train()
        step = TrainStep(network, build_optimiser([config.optim], network.flat, 1, MOST_STEPS), precision)
        x = torch.randn(batch_size, images[0], images[1], images[1], generator=rng, dtype=network.flat.dtype)
        labels = torch.randint(images[2], (1, batch_size), generator=rng)
        times: list[float] = []
        while len(times) < 2 or (sum(times) < SECONDS and len(times) < MOST_STEPS):
            begin = perf_counter()
            step(x, labels)
            times.append(perf_counter() - begin)
        return median(times[1:])
    finally:
        torch.set_num_threads(threads)


def _send_step(connection: Connection) -> None:
    connection.send(time_step(REFERENCE))


def _remember(seconds: float) -> None:
    """Keep the pace of the machine for this process, and for later ones if the cache may be written."""
    _found[""] = BESIDE * seconds / counted_time(REFERENCE)(REFERENCE.train.batch_size)
    with suppress(OSError):
        write_atomic(_place(), json.dumps({"pace": _found[""]}))


def _network(config: RunConfig) -> str:
    norm, train = config.norm, config.train
    return repr((vars(config.model), vars(norm), config.data.size, config.data.channels, train.batch_size, train.precision))


def _place() -> Path:
    """The file that remembers the pace of this machine, with these versions."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = ""
    machine = [platform.node(), platform.machine(), os.cpu_count(), torch, bnexp.__version__]
    return cache_dir() / "pace" / f"{digest(machine)}.json"
