"""One rung of the ladder as a process: ``python -m bnexp.bench.rung B2 WORK FOLDER``.

WORK is ``Work.to_json()``. The process writes the weights and metrics of every run, and ``result.json``, to FOLDER. Rung B5 is
not here: it is the ``bnexp`` command itself.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexp.bench.work import ARMS, RungResult, RunResult, Work
from bnexp.config.schema import RunConfig
from bnexp.data.resident import Resident, prepare
from bnexp.run.local import num_cores
from bnexp.run.pool_server import single_threaded

if TYPE_CHECKING:
    import torch


def climb(rung: str, work: Work, folder: Path) -> RungResult:
    """Do the work as ``rung`` does it, and write the results to ``folder``."""
    configs = work.configs()
    data = prepare(configs[0].data)
    result = _processes(configs, data, folder) if rung == "B3" else _one_process(rung, configs, data, folder)
    (folder / "result.json").write_text(result.to_json())
    return result


def _one_process(rung: str, configs: Sequence[RunConfig], data: Resident, folder: Path) -> RungResult:
    """B0, B1, B2: one run after another; B4: one ensemble after another. Torch chooses the number of threads."""
    import torch

    from bnexp.bench.ensemble import train_ensemble
    from bnexp.bench.plain import train_run

    device = _configured(configs[0])
    batches = _batches(rung, configs[0], data, device)
    if rung == "B4":  # one ensemble per arm, because the graphs of arms differ
        arms = [[config for config in configs if config.study.arm == arm] for arm in ARMS]
        trained = [run for arm in arms if arm for run in train_ensemble(arm, data, batches, device)]
    else:
        trained = [train_run(config, data, batches, device) for config in configs]
    for run in trained:
        run.save(folder)
    images, seconds = sum(run.images for run in trained), sum(run.train_seconds for run in trained)
    return RungResult([run.result for run in trained], images, seconds, torch.get_num_threads(), 1)


def _processes(configs: Sequence[RunConfig], data: Resident, folder: Path) -> RungResult:
    """B3: the runs of B2 in a pool of single-threaded processes, one per core. This process does not import torch."""
    workers = min(num_cores(), len(configs))
    context = multiprocessing.get_context("spawn")
    with single_threaded(), ProcessPoolExecutor(workers, context, _start_worker, (configs[0], data, folder)) as pool:
        runs, images, seconds = zip(*pool.map(_train_in_worker, configs), strict=True)
    return RungResult(list(runs), sum(images), sum(seconds) / workers, 1, workers)


_worker: dict[str, Any] = {}


def _start_worker(config: RunConfig, data: Resident, folder: Path) -> None:
    device = _configured(config)
    _worker.update(data=data, device=device, batches=_batches("B3", config, data, device), folder=folder)


def _train_in_worker(config: RunConfig) -> tuple[RunResult, int, float]:
    from bnexp.bench.plain import train_run

    trained = train_run(config, _worker["data"], _worker["batches"], _worker["device"])
    trained.save(_worker["folder"])
    return trained.result, trained.images, trained.train_seconds


def _configured(config: RunConfig) -> torch.device:
    """The device, after setting the number format as bnexp does."""
    from bnexp.training.precision import configure_precision, resolve_device

    configure_precision(config.train.precision)
    return resolve_device(config.train)


def _batches(rung: str, config: RunConfig, data: Resident, device: torch.device) -> Any:
    from bnexp.bench.batches import ResidentTensors, tuned_loaders, tutorial_loaders

    if rung == "B0":
        return tutorial_loaders(data, config.train)
    return (tuned_loaders if rung == "B1" else ResidentTensors)(data, config.train, device)


if __name__ == "__main__":
    climb(sys.argv[1], Work.from_json(sys.argv[2]), Path(sys.argv[3]))
