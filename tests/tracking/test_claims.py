"""Claims: no run is trained by two processes at once, none stays claimed by a dead one, and none costs an open file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bnexp.tracking.claims import Claims
from bnexp.tracking.store import Store

HOLD = """
import sys
from pathlib import Path
from bnexp.tracking.claims import Claims
from bnexp.tracking.store import Store
with Claims(Store(Path(sys.argv[1]))).claim(sys.argv[2:]) as claimed:
    print(*sorted(claimed), flush=True)
    sys.stdin.read()
"""

WITH_CHILD = """
import multiprocessing, sys, time
from pathlib import Path
from bnexp.tracking.claims import Claims
from bnexp.tracking.store import Store
if __name__ == "__main__":
    with Claims(Store(Path(sys.argv[1]))).claim(["a"]) as claimed:
        child = multiprocessing.get_context(sys.argv[2]).Process(target=time.sleep, args=(60,))
        child.start()
        print(child.pid, flush=True)
        sys.stdin.read()
"""

MANY = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
from bnexp.config.schema import RunConfig
from bnexp.plan.spec import RunSpec
from bnexp.run.runner import unfinished
from bnexp.tracking.claims import Claims
from bnexp.tracking.store import Store
store = Store(Path(sys.argv[1]))
todo = unfinished([RunSpec(RunConfig(seed=seed)) for seed in range(10_000)], store)
with Claims(store).claim([spec.run_id for spec in todo]) as claimed:
    print(len(claimed))
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


Hold = Callable[..., tuple[subprocess.Popen[str], list[str]]]


@pytest.fixture
def hold(store: Store) -> Iterator[Hold]:
    """``hold("a", "b")``: a process that claims these runs until its standard input ends, and those that it got."""
    started: list[subprocess.Popen[str]] = []

    def start(*run_ids: str) -> tuple[subprocess.Popen[str], list[str]]:
        command = [sys.executable, "-c", HOLD, str(store.root), *run_ids]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().split()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_two_processes_side_by_side_never_hold_the_same_run(store: Store, hold: Hold) -> None:
    one, first = hold("a", "b")
    _, second = hold("b", "c")
    assert (first, second) == (["a", "b"], ["c"])
    with Claims(store).claim(["a", "b", "c", "d"]) as claimed:
        assert claimed == {"d"}
    one.communicate("")
    with Claims(store).claim(["a", "b", "c", "d"]) as claimed:
        assert claimed == {"a", "b", "d"}


def test_a_killed_process_holds_nothing_and_leaves_nothing(store: Store, hold: Hold) -> None:
    process, _ = hold("a")
    process.kill()
    process.wait()
    claims = Claims(store)
    claims.wait_for("a")
    with claims.claim(["a"]) as claimed:
        assert claimed == {"a"}
    assert sorted(path.name for path in (store.root / ".locks").iterdir()) == ["claims.json", "registry"]


@pytest.mark.skipif(sys.platform == "win32", reason="a child is killed by a signal")
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_child_that_outlives_a_killed_process_holds_nothing(store: Store, tmp_path: Path, method: str) -> None:
    (tmp_path / "holder.py").write_text(WITH_CHILD)  # a file, because a spawned child reads it again
    command = [sys.executable, str(tmp_path / "holder.py"), str(store.root), method]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        with Claims(store).claim(["a"]) as claimed:
            assert claimed == {"a"}
        os.kill(child, signal.SIGKILL)


def test_waiting_ends_when_the_holder_lets_go(store: Store, hold: Hold) -> None:
    process, _ = hold("a", "b")
    claims = Claims(store)
    claims.wait_for("c")
    waiting = threading.Thread(target=claims.wait_for, args=("b",))
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    process.communicate("")
    waiting.join()


def test_claims_of_one_process_exclude_each_other_too(store: Store) -> None:
    with Claims(store).claim(["a"]) as outer, Claims(store).claim(["a", "b"]) as inner:
        assert (outer, inner) == ({"a"}, {"b"})


DEEP = "[" * 100_000


@pytest.mark.parametrize("content", ["", '{"half": ["a"', "5", "null", "[1]", '{"a": 1}', DEEP, "\udcff"], ids=range(8))
def test_what_lies_about_does_not_disturb(store: Store, content: str) -> None:
    """A lock file for each run, as earlier versions left them, and a damaged list."""
    (store.root / ".locks").mkdir(parents=True)
    (store.root / ".locks" / "0123456789ab").touch()
    (store.root / ".locks" / "claims.json").write_text(content, errors="surrogateescape")
    for _ in range(2):
        with Claims(store).claim(["0123456789ab"]) as claimed:
            assert claimed == {"0123456789ab"}


def test_a_list_from_a_stranger_touches_no_other_files(store: Store, tmp_path: Path) -> None:
    precious = tmp_path / "precious.lock"
    precious.touch()
    (store.root / ".locks").mkdir(parents=True)
    names = ["../../precious", "../precious", str(tmp_path / "precious")]
    (store.root / ".locks" / "claims.json").write_text(json.dumps({name: ["a"] for name in names}))
    with Claims(store).claim(["a"]) as claimed:
        assert claimed == {"a"}
    assert precious.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of open files")
def test_ten_thousand_runs_are_claimed_with_few_open_files(store: Store) -> None:
    done = subprocess.run([sys.executable, "-c", MANY, str(store.root)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("10000\n", "")
