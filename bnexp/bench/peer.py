"""P1 and P2 as processes: their data, commands and results. The scripts themselves are in ``peers``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bnexp.bench.environment import Environment
from bnexp.bench.work import RungResult, RunResult, Work
from bnexp.config.schema import RunConfig
from bnexp.data.resident import Resident, prepare
from bnexp.run.local import num_cores

SCRIPTS = Path(__file__).parent / "peers"
IMAGES = "images.npz"
ARM = {"none": "none", "batch": "after_pool"}  # norm layer of a script -> our arm


@contextmanager
def peer_commands(
    rung: str, work: Work, folder: Path, environment: Environment
) -> Iterator[tuple[list[list[str]], dict[str, str]]]:
    """Commands that do the work together, with their environment variables. Writes the images, which takes no measured time."""
    _save_images(prepare(work.configs()[0].data), folder / IMAGES)
    variables = _variables(folder, environment.python)
    if rung == "P1":
        yield [_lightning(work, folder, environment.python)], variables
        return
    from bnexp.bench.sweep_server import sweep_server

    with sweep_server(str(SCRIPTS / "wandb_sweep.py"), _sweep(work, folder), _points(work.configs())) as url:
        agent = [str(environment.python), "-m", "wandb", "agent", "bench/bench/sweep"]
        yield [agent] * _num_processes(work), variables | {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40}


def peer_result(work: Work, folder: Path) -> RungResult:
    """What the scripts wrote to ``folder``."""
    found: list[dict[str, Any]] = [json.loads(path.read_text()) for path in folder.rglob("metrics.json")]
    runs = [RunResult(ARM[run["norm"]], run["seed"], run["test_accuracy"]) for run in found]
    processes = _num_processes(work)
    seconds = sum(run["train_seconds"] for run in found) / processes
    return RungResult(runs, sum(run["images"] for run in found), seconds, 1, processes)


def _num_processes(work: Work) -> int:
    return min(num_cores(), work.num_runs)


def _save_images(data: Resident, path: Path) -> None:
    """Write the images of each split for the scripts, in the network's size."""
    arrays: dict[str, Any] = {"mean": data.mean, "std": data.std, "x_test": data.test_images, "y_test": data.test_labels}
    for split, index in (("train", data.train_index), ("val", data.val_index)):
        arrays |= {f"x_{split}": data.train_images[index], f"y_{split}": data.train_labels[index]}
    np.savez(path, **arrays)


def _variables(folder: Path, python: Path) -> dict[str, str]:
    """One thread for each process, W&B offline, and nothing of the user's own settings of W&B and Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "PYTHON"))}
    path = os.pathsep.join([str(python.parent), kept.get("PATH", "")])  # where an agent finds its python
    own = {f"WANDB_{name}": str(folder) for name in ("DIR", "CONFIG_DIR", "CACHE_DIR", "DATA_DIR")}
    return kept | own | {"PATH": path, "OMP_NUM_THREADS": "1", "WANDB_ERROR_REPORTING": "false"}


def _lightning(work: Work, folder: Path, python: Path) -> list[str]:
    points = _points(work.configs())
    return [
        *(str(python), str(SCRIPTS / "lightning_hydra.py"), "--multirun"),
        *(f"{name}={','.join(dict.fromkeys(str(point[name]) for point in points))}" for name in ("norm", "seed")),
        *(f"data={folder / IMAGES}", f"epochs={work.epochs}", f"accelerator={work.device}", f"hydra.sweep.dir={folder}"),
        *("hydra/launcher=joblib", f"hydra.launcher.n_jobs={_num_processes(work)}"),
    ]


def _sweep(work: Work, folder: Path) -> str:
    """The sweep file of P2 with what this work asks for."""
    sweep = yaml.safe_load((SCRIPTS / "wandb_sweep.yaml").read_text())
    places = {"--data=images.npz": f"--data={folder / IMAGES}", "${args}": f"--epochs={work.epochs}"}
    command = [places.get(part, part) for part in sweep["command"]]
    return yaml.safe_dump(sweep | {"command": [*command, f"--device={work.device}", f"--out={folder}", "${args}"]})


def _points(configs: Sequence[RunConfig]) -> list[dict[str, Any]]:
    return [{"norm": config.norm.kind.value, "seed": config.seed} for config in configs]
