"""Ctrl-C ends a command in one sentence and exit code 130, at whatever moment it comes, however often."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SENTENCE = "Interrupted. What was finished is recorded; the same command goes on from there."
STUDY = ("study", "batchnorm", "data=digits", "study.seeds=2", "train.epochs=50")
INLINE = ("train", "-m", "seed=0,1", "data=digits", "data.train_size=100", "train.epochs=1", "executor=inline")

# Sends SIGINT to its own process when a module is looked for, as often as it is told.
AT_IMPORT = """
import os, signal, sys
module, times = sys.argv[1], int(sys.argv[2])
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
sys.argv[:] = ["bnexp", *sys.argv[3:]]
sys.meta_path.insert(0, Finder())
from bnexp.cli.app import main
main()
"""

# Sends SIGINT to its own process when polars' native code asks numpy for its version, which it does once.
IN_NATIVE_CODE = f"""
import os, signal
import numpy, polars
from bnexp import interrupt
class Version(numpy.lib.NumpyVersion):
    def __init__(self, version):
        os.kill(os.getpid(), signal.SIGINT)
        super().__init__(version)
numpy.lib.NumpyVersion = Version
interrupt.install({SENTENCE!r})
try:
    with interrupt.tidied():
        polars.Series(numpy.arange(3))
        for _ in range(100_000_000):
            pass
except KeyboardInterrupt:
    interrupt.leave({SENTENCE!r})
"""

READY = """
import sys
sys.argv[0] = "bnexp"
from bnexp.cli.app import main
print("ready", flush=True)
main()
"""


def check(process: subprocess.Popen[str]) -> None:
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    assert "Error" not in err
    assert (process.returncode, err.count(SENTENCE)) == (130, 1)
    assert err.endswith(f"{SENTENCE}\n")


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.usefixtures("shared_cache")
@pytest.mark.parametrize(
    ("module", "times"),
    [
        ("bnexp.cli.commands", 1),
        ("bnexp.cli.commands", 2),
        ("typer", 1),
        ("hydra", 2),
        ("numpy", 1),
        ("torch", 1),
        ("torch", 2),
        ("torch.nn", 2),
        ("polars", 1),
    ],
)
def test_an_import_is_no_wrong_moment(module: str, times: int) -> None:
    with start(AT_IMPORT, module, str(times), *INLINE) as process:
        check(process)


def test_before_ctrl_c_is_handled_it_ends_the_process_without_a_word() -> None:
    with start(AT_IMPORT, "bnexp.interrupt", "1", "--version") as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (-signal.SIGINT, "", "")  # a shell calls it 130


def test_native_code_is_no_wrong_moment() -> None:
    with start(IN_NATIVE_CODE) as process:
        check(process)


@pytest.mark.usefixtures("shared_cache")
@pytest.mark.parametrize(("seconds", "times"), [(0.2, 1), (0.6, 2), (1.2, 1), (1.2, 2), (2.0, 2)])
def test_no_process_of_a_study_says_more(seconds: float, times: int) -> None:
    """The signal goes to all of them, as from a terminal. In the first seconds the fork server loads torch."""
    with start(READY, *STUDY) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for delay in (seconds, 0.05)[:times]:
            time.sleep(delay)
            os.killpg(process.pid, signal.SIGINT)
        check(process)


@pytest.mark.usefixtures("shared_cache")
def test_a_study_ends_with_the_verdict_so_far() -> None:
    """Some runs are recorded, the others are not made any more."""
    many = ("study", "batchnorm", "data=digits", "data.train_size=100", "train.epochs=2", "study.seeds=500", "executor=inline")
    with start(READY, *many) as process:
        runs = Path(os.environ["BNEXP_RUNS_DIR"])
        while process.poll() is None and len(list(runs.glob("batchnorm/*/summary.json"))) < 14:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err.count(SENTENCE)) == (130, 1)
    assert (
        "Not all planned runs are made yet, so a test that is valid however often one looks decides, at level .01."
        in " ".join(out.split())
    )
    assert "after_pool" in out
    assert "500" in out  # of so many some are missing, which are named
    assert "Traceback" not in err
