"""Completion in real shells: what is on the line after the Tab key."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bnexp.cli import complete
from bnexp.tracking.records import SUMMARY

SECONDS = 60.0  # a Tab starts Python, and the machine may be busy
BIN = Path(sys.executable).parent


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home without anybody's settings, and one recorded run of one study."""
    for path in ("runs/batchnorm/study-0a1b2c3d/study.json", f"runs/batchnorm/5e6f7a8b9c0d/{SUMMARY}"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("{}")
    own = {"HOME": str(tmp_path), "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "xterm", "PS1": "> ", "LC_ALL": "C.UTF-8"}
    return {**own, "BNEXP_RUNS_DIR": str(tmp_path / "runs"), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}


def script(shell: str, environment: dict[str, str]) -> str:
    """What ``bnexp --show-completion`` prints in that shell."""
    asked = [shell, "-c", "bnexp --show-completion; true"]
    shown = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=SECONDS, check=True)
    return shown.stdout


class Terminal:
    """A shell at a terminal."""

    def __init__(self, master: int) -> None:
        self._master = master
        self.shown = ""

    def type(self, text: str, until: str) -> None:
        """Type ``text`` and wait until the pattern is shown after it."""
        begin = len(self.shown)
        os.write(self._master, text.encode())
        end = time.monotonic() + SECONDS
        while not re.search(until, self.shown[begin:]):
            left = end - time.monotonic()
            assert left > 0, f"{until!r} is not shown: {self.shown!r}"
            if select.select([self._master], [], [], left)[0]:
                self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x07|\x08.?", "", os.read(self._master, 4096).decode())


@contextmanager
def terminal(command: list[str], environment: dict[str, str]) -> Iterator[Terminal]:
    """A shell at a terminal of its own, which ends with the context."""
    master, slave = pty.openpty()
    shell = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True)
    os.close(slave)
    try:
        yield Terminal(master)
    finally:
        shell.kill()
        shell.wait()
        os.close(master)


LINES = [
    ("train data=dig", "data=digits"),  # a value
    ("train norm.placement=aft", "norm.placement=after_"),  # a value of a key, as far as it is clear
    ("train norm=none,batch_", "norm=none,batch_renorm"),  # one of several values
    ("train optim.weight", "optim.weight_decay="),  # a key
    ("study batchn", "batchnorm"),
    ("show 5e6", "5e6f7a8b9c0d"),
    ("report batch", "batchnorm"),
]


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_completes_values_keys_studies_and_runs(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(script("bash", environment))
    with terminal(["bash", "--norc", "--noprofile", "-i"], environment) as bash:
        bash.type(f"source {tmp_path / 'completion'}; echo rea'dy'\n", "ready")
        for typed, completed in LINES:
            bash.type(f"bnexp {typed}\t", re.escape(completed))
            bash.type("\x15echo rea'dy'\n", "ready")


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_completes_values_keys_studies_and_runs(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(script("zsh", environment))
    with terminal(["zsh", "-f", "-i"], environment) as zsh:
        zsh.type("unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -u; echo rea'dy'\n", "ready")
        zsh.type(f"source {tmp_path / 'completion'}; echo rea'dy'\n", "ready")
        for typed, completed in LINES:
            zsh.type(f"bnexp {typed}\t", re.escape(completed))
            zsh.type("\x15echo rea'dy'\n", "ready")


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
@pytest.mark.parametrize(("typed", "completed"), LINES)
def test_fish_completes_values_keys_studies_and_runs(
    environment: dict[str, str], tmp_path: Path, typed: str, completed: str
) -> None:
    (tmp_path / "completion").write_text(script("fish", environment))
    asked = f'source {tmp_path / "completion"}; complete -C "bnexp {typed}"'
    found = subprocess.run(
        ["fish", "--no-config", "-c", asked], env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert any(line.split("\t")[0].startswith(completed) for line in found.stdout.splitlines()), found


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("data=dig", ["data=digits"]),
        ("norm=none,batch_", ["norm=none,batch_renorm"]),
        ("optim.l", ["optim.lr=", "optim.lr=0.01"]),
        ("executor.na", ["executor.name=auto", "executor.name=local", "executor.name=inline", "executor.name=ray"]),
        ("nothing", []),
        ("nothing=x", []),
    ],
)
def test_an_override_is_offered_as_it_can_go_on(typed: str, offered: list[str]) -> None:
    assert [offer for offer, _ in complete.overrides(typed)] == offered


def test_functions_of_the_users_files_are_offered_and_nothing_in_them_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code").mkdir()
    (tmp_path / "nets.py").write_text(
        "1 / 0\ndef build(norm, channels, classes, size): ...\ndef load(): ...\ndef _no(*a): ...\n"
    )
    (tmp_path / "code/any.py").write_text("def build(*args): ...\n")
    (tmp_path / "wrong.py").write_text("def build(\n")

    def offered(typed: str) -> list[str]:
        return [offer for offer, _ in complete.overrides(typed)]

    assert offered("model.factory=") == ["model.factory=code/", "model.factory=nets.py:build"]
    assert offered("model.factory=code/") == ["model.factory=code/any.py:build"]
    assert offered("data.factory=nets.py:l") == ["data.factory=nets.py:load"]
    assert offered("model.args") == ["model.args=", "model.args={}"]
