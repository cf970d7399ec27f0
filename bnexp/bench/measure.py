"""One measurement: a rung as a process of its own, timed from its start until its results are on disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import DEVNULL
from typing import IO

from bnexp.bench.environment import Environment
from bnexp.bench.peer import peer_commands, peer_result
from bnexp.bench.work import RUNGS, BenchError, RungResult, RunResult, Work
from bnexp.config.options import Device
from bnexp.interrupt import wait_for
from bnexp.run.local import num_cores
from bnexp.tracking.store import Store

STOP_SECONDS = 5.0  # that a rung has to end after Ctrl-C, before it is killed


@dataclass(frozen=True)
class Answer:
    """What a study concluded.

    Args:
        verdict: the verdict.
        num_seeds: with how many seeds.
        effect: d_z of the comparison that decides: mean of the paired differences over their standard deviation.
        accuracies: arm -> mean test accuracy, per cent.
    """

    verdict: str
    num_seeds: int
    effect: float
    accuracies: dict[str, float]

    def sentence(self) -> str:
        arms = ", ".join(f"{arm} {mean:.2f} %" for arm, mean in self.accuracies.items())
        return f"{self.verdict} with {self.num_seeds} seeds, d_z {self.effect:.2f} ({arms})"


@dataclass(frozen=True)
class Measurement:
    """One rung, measured once.

    Args:
        rung: its name.
        num_runs: how many runs it was to train.
        repeat: which repeat this is, from 1.
        seconds: wall time of the whole process.
        result: what the process reported.
        answer: what its study concluded; None if the rung is not about the answer.
    """

    rung: str
    num_runs: int
    repeat: int
    seconds: float
    result: RungResult
    answer: Answer | None = None

    @property
    def images_per_second(self) -> float:
        """Training images per second in steady state, of all runs together."""
        return self.result.images / self.result.train_seconds


def measure(rung: str, work: Work, repeat: int, folder: Path, environment: Environment | None = None) -> Measurement:
    """Run one rung and time all of it.

    Args:
        rung: its name.
        work: what it is to do.
        repeat: which repeat this is.
        folder: for its results, which are removed again.
        environment: of the peers; None if the rung is none of them.

    Raises:
        BenchError: it fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.resolve(), prefix=f".{rung}-") as name:
        own = Path(name)
        with _prepared(rung, work, own, environment) as (commands, variables), (own / "stderr.txt").open("w+") as errors:
            seconds, code = _timed(commands, variables, errors)
            errors.seek(0)
            lines = errors.read().strip().splitlines() or [f"exit code {code}"]
        if code != 0:
            raise BenchError(f"rung {rung} with {work.num_runs} runs failed: {lines[-1]}")
        result = _result(rung, work, own)
        if RUNGS[rung].is_peer and len(result.runs) != work.num_runs:  # launchers and agents end well if their runs do not
            raise BenchError(f"rung {rung} finished {len(result.runs)} of {work.num_runs} runs: {lines[-1]}")
        answer = concluded(own) if RUNGS[rung].is_settling else None
    runs = sorted(result.runs, key=lambda run: (run.seed, run.arm))
    return Measurement(rung, work.num_runs, repeat, seconds, replace(result, runs=runs), answer)


def _timed(commands: Sequence[Sequence[str]], variables: Mapping[str, str], errors: IO[str]) -> tuple[float, int]:
    """Seconds until all commands have ended, and the first exit code that is not 0.

    Their errors go to a file, because a pipe would be held open by processes that outlive a command.
    """
    begin = time.perf_counter()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            started = subprocess.Popen(command, env=variables, stdin=DEVNULL, stdout=DEVNULL, stderr=errors, process_group=0)
            processes.append(started)
        codes = wait_for(processes)
    except BaseException:
        _end(processes)
        raise
    return time.perf_counter() - begin, next((code for code in codes if code), 0)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End commands with all that they started.

    Ctrl-C of the terminal does not reach them, because each is a process group of its own. An agent of W&B waits for its run
    after the first SIGINT, and ends the run after the second.
    """
    for seconds in (STOP_SECONDS / 5, STOP_SECONDS):
        for process in processes:
            process.send_signal(signal.SIGINT)
        latest = time.monotonic() + seconds
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, latest - time.monotonic()))
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def _prepared(
    rung: str, work: Work, folder: Path, environment: Environment | None
) -> Iterator[tuple[Sequence[Sequence[str]], Mapping[str, str]]]:
    """The commands of a rung, which run side by side, and their environment variables."""
    if RUNGS[rung].is_peer:
        if environment is None:
            raise BenchError(f"rung {rung} needs an environment of its own.")
        with peer_commands(rung, work, folder, environment) as found:
            yield found
    elif RUNGS[rung].is_bnexp:
        command = shutil.which("bnexp", path=str(Path(sys.executable).parent))
        if command is None:
            raise BenchError(f"rung {rung} is the bnexp command, which is not beside {sys.executable}: install bnexp there.")
        # Records of its own, so that nothing counts as finished before; W&B on, but without its server.
        own = {"BNEXP_RUNS_DIR": str(folder), "WANDB_DIR": str(folder), "WANDB_MODE": "offline"}
        variables = {name: value for name, value in os.environ.items() if name != "BNEXP_CONFIG_PATH"} | own
        yield [[command, *work.command(rung)]], variables
    else:
        yield [[sys.executable, "-m", "bnexp.bench.rung", rung, work.to_json(), str(folder)]], os.environ


def _result(rung: str, work: Work, folder: Path) -> RungResult:
    """What a rung left in ``folder``."""
    if RUNGS[rung].is_peer:
        return peer_result(work, folder)
    if RUNGS[rung].is_bnexp:
        return recorded(work, folder)
    return RungResult.from_json((folder / "result.json").read_text())


def recorded(work: Work, folder: Path) -> RungResult:
    """What the ``bnexp`` command recorded in ``folder``."""
    records = list(Store(folder).runs())
    ends = [record.summary for record in records]
    runs = [RunResult(end.arm, end.seed, end.metric("test/accuracy")) for end in ends if end.seed is not None]
    # The runs of a cohort share their epochs, and so the exact times: each counts once.
    epochs = {tuple(line["time/epoch_seconds"] for line in record.metrics()) for record in records}
    images = sum(line["time/images_per_second"] * line["time/epoch_seconds"] for r in records for line in r.metrics())
    pooled = work.device is Device.cpu and work.num_runs > 1
    processes = min(num_cores(), len(records)) if pooled else 1
    seconds = sum(sum(times) for times in epochs) / processes
    if work.num_runs == 1:
        runs = [replace(run, arm="after_pool") for run in runs]  # on its own a run is named after its norm
    return RungResult(runs, round(images), seconds, 1, processes)


def concluded(folder: Path) -> Answer:
    """What the study in ``folder`` concluded."""
    (path,) = folder.glob("*/study-*/verdict.json")
    verdict = json.loads(path.read_text())
    decides = next(comparison for comparison in verdict["comparisons"] if comparison["decides"])
    accuracies = {arm["arm"]: arm["mean"] for arm in verdict["arms"]}
    return Answer(verdict["verdict"], decides["n"], decides["effect"], accuracies)
