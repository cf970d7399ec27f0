"""Worker processes are forked from a server that loads torch while the command is still being read."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bnexp.cli.app import will_train
from bnexp.run.pool_server import single_threaded, start_pool_server, without_main


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
        ("study", False),
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


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no fork server")
def test_a_worker_has_all_libraries_and_does_not_look_for_garbage_in_them() -> None:
    context = start_pool_server()
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send_state, args=(there,), daemon=True)  # type: ignore[attr-defined]
    with single_threaded(), without_main():
        process.start()
    there.close()
    missing, frozen, looks = here.recv()
    process.join()
    assert (missing, frozen > 100_000, looks) == ([], True, True)


def _send_state(connection: object) -> None:
    needed = ("torch", "numba", "bnexp.training.engine", "bnexp.model.kernels.loops")
    state = [name for name in needed if name not in sys.modules], gc.get_freeze_count(), gc.isenabled()
    connection.send(state)  # type: ignore[attr-defined]
