"""Worker processes are forked from a server that loads torch while the command is still being read."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bnexp.cli.app import will_train
from bnexp.run.pool_server import single_threaded, start_pool_server, without_main

# Trains one run in a worker that sends nothing for hours, and prints the id of that process.
ENDLESS_EPOCH = """
from bnexp.data.resident import prepare
from bnexp.plan.compose import compose
from bnexp.plan.spec import RunSpec
from bnexp.run.local import Pool
spec = RunSpec(compose(["data=digits", "train.device=cpu", "train.epochs=1", "train.steps_per_epoch=1000000"]))
pool = Pool(prepare(spec.config.data), num_workers=1)
for _ in pool.run([(spec,)]):
    print(pool._workers[0].process.pid, flush=True)
"""


def test_the_server_is_started_before_anything_heavy_is_imported() -> None:
    heavy = "{'numpy', 'typer', 'rich', 'yaml', 'torch'}"
    code = f"import sys, bnexp.cli.app, bnexp.run.pool_server; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("study batchnorm data=digits", True),
        ("study --all", True),
        ("sweep lr_norm", True),
        ("train -m seed=0,1", True),
        ("train --multirun seed=0,1 executor=inline", False),
        ("train -m seed=0,1 hydra/launcher=joblib", False),
        ("study --json batchnorm", True),
        ("study", False),
        ("study --json", False),
        ("sweep --md", False),
        ("study batchnorm --dry-run", False),
        ("sweep lr_norm --help", False),
        ("sweep lr_norm --wandb", False),
        ("sweep agent me/there/abc", False),
        ("train data=digits", False),
        ("compare batchnorm", False),
        ("", False),
    ],
)
def test_torch_is_loaded_only_for_commands_that_train_several_runs(line: str, expected: bool) -> None:
    assert will_train(line.split()) is expected


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no fork server")
def test_the_server_loads_nothing_if_its_command_has_ended_already(tmp_path: Path) -> None:
    """It has the command's output, too: who reads from ``bnexp study ... | tee`` would wait for torch after Ctrl-C."""
    (tmp_path / "numba.py").write_text("import pathlib; pathlib.Path(__file__).with_name('loaded').touch()")
    code = "import os; from bnexp.run.pool_server import start_pool_server; start_pool_server(); os._exit(0)"
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True, check=True)
    assert not (tmp_path / "loaded").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="on other systems it is found out with the next record")
@pytest.mark.usefixtures("shared_cache")
def test_a_worker_ends_with_its_command_even_if_that_is_killed() -> None:
    """The command, its server and the worker share one stdout, which ends only when all of them have."""
    with subprocess.Popen([sys.executable, "-c", ENDLESS_EPOCH], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        process.kill()
        try:
            process.communicate(timeout=30)
        finally:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no fork server")
def test_a_worker_has_all_libraries_and_does_not_look_for_garbage_in_them() -> None:
    missing, frozen, looks = _in_a_worker(_send_state)
    assert (missing, frozen > 100_000, looks) == ([], True, True)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no fork server")
def test_numba_in_a_worker_multiplies_matrices() -> None:
    """A user's network may do that. The server has numba, but not the part of scipy that this takes."""
    assert _in_a_worker(_send_product) == (False, 2.0)


def _in_a_worker(task: Callable[[Any], None]) -> Any:
    """What the task sends from a worker."""
    context: Any = start_pool_server()
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=task, args=(there,), daemon=True)
    with single_threaded(), without_main():
        process.start()
    there.close()
    answer = here.recv()
    process.join()
    return answer


def _send_state(connection: Any) -> None:
    needed = ("torch", "numba", "bnexp.training.engine", "bnexp.model.kernels.loops")
    connection.send(([name for name in needed if name not in sys.modules], gc.get_freeze_count(), gc.isenabled()))


def _send_product(connection: Any) -> None:
    import numba
    import numpy as np

    loaded = "scipy.linalg" in sys.modules
    connection.send((loaded, float(numba.njit(lambda a: a @ a)(np.full((1, 1), 2**0.5)).round(6)[0, 0])))
