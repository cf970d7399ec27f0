"""The local store: plain files are the record, everything else is a copy.

``<runs>/<study>/<run id>/`` holds ``config.yaml``, ``metrics.jsonl`` (a line an epoch, appended and flushed),
``predictions.parquet``, ``model.safetensors`` and ``summary.json``, which is written last, atomically, and is the only sign
of completion; ``failure.json`` tells why a run has none. ``<runs>/<study>/study-<study id>/`` holds ``study.json`` (the
question, written before the first run trains), ``verdict.json`` and ``report.html``. Nothing is pickled; reading needs
neither torch nor wandb.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

import bnexp
from bnexp.metrics import EpochMetrics, Predictions, Record, RunFailed, RunFinished, RunStarted, StepMetrics
from bnexp.plan import RunSpec
from bnexp.tracking.sink import Sink

if TYPE_CHECKING:
    import polars as pl


def runs_dir() -> Path:
    """Where runs are recorded: ``BNEXP_RUNS_DIR``, else ``./runs``."""
    return Path(os.environ.get("BNEXP_RUNS_DIR") or "runs")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: to a temporary neighbour first, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)


def json_text(value: Any) -> str:
    return json.dumps(value, indent=2, allow_nan=True) + "\n"


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json_text(value))


log = logging.getLogger(__name__)


def write_if_allowed(path: Path, content: str) -> bool:
    """``write_atomic``; where files may only be read, as in an archive of runs, a line in the log instead, and False."""
    try:
        write_atomic(path, content)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        log.warning("%s may not be written (%s), so the result is only shown.", path, error.strerror)
        return False
    return True


SUMMARY_KEYS = frozenset({"run_id", "study", "data", "arm", "levels", "seed", "status", "metrics", "seconds", "finished_at"})


@dataclass(frozen=True)
class RecordedRun:
    """A run on disk."""

    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    @cached_property
    def finished(self) -> bool:
        """Whether there is a whole ``summary.json``. A damaged one is named in the log, and counts as none."""
        try:
            whole = self.summary.keys() >= SUMMARY_KEYS
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            whole = False
        if not whole:
            log.warning("%s is damaged: its run counts as not finished.", self.path / "summary.json")
        return whole

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The keys of ``SUMMARY_KEYS`` and more; ``status`` is ``finished`` or ``diverged``. Only of a finished run."""
        return dict(json.loads((self.path / "summary.json").read_text()))

    @cached_property
    def config(self) -> dict[str, Any]:
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where PyYAML has it, is seven times faster
        return dict(yaml.load((self.path / "config.yaml").read_text(), Loader=loader))

    @property
    def failure(self) -> str | None:
        """Why the run failed, where it did."""
        path = self.path / "failure.json"
        return json.loads(path.read_text())["error"] if path.exists() else None

    def metrics(self) -> list[dict[str, float]]:
        """The lines of ``metrics.jsonl``: ``epoch``, ``step`` and metric values; a torn last line is left out."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        rows = []
        for line in lines:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

    def predictions(self) -> pl.DataFrame | None:
        """A row a test image: ``image_id label prediction confidence loss correct p0 .. p<K-1>``."""
        import polars as pl

        path = self.path / "predictions.parquet"
        return pl.read_parquet(path) if path.exists() else None


class Store:
    """The directory of all records."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or runs_dir()

    def find(self, run_id: str) -> RecordedRun | None:
        """The finished run of this id, whichever study trained it."""
        return next(self._finished(f"*/{run_id}/summary.json"), None)

    def runs(self) -> Iterator[RecordedRun]:
        """All finished runs."""
        return self._finished("*/*/summary.json")

    def latest(self, count: int) -> list[RecordedRun]:
        """The runs that finished last, at most ``count``."""
        paths = sorted(self.root.glob("*/*/summary.json"), key=lambda path: path.stat().st_mtime)[-count:]
        return [run for path in paths if (run := RecordedRun(path.parent)).finished]

    def _finished(self, pattern: str) -> Iterator[RecordedRun]:
        runs = (RecordedRun(path.parent) for path in sorted(self.root.glob(pattern)))
        return (run for run in runs if run.finished)

    def run_path(self, spec: RunSpec) -> Path:
        return self.root / spec.study / spec.run_id

    @contextmanager
    def claim(self, run_ids: Sequence[str]) -> Iterator[set[str]]:
        """Reserve runs for this process; inside, the ids that no other process on this machine holds."""
        with ExitStack() as held:
            claimed = set()
            for run_id in run_ids:
                try:
                    held.enter_context(self._lock(run_id).acquire(blocking=False))
                    claimed.add(run_id)
                except Timeout:
                    continue
            yield claimed

    def wait_for(self, run_id: str) -> None:
        """Return when no process holds the run any more."""
        with self._lock(run_id):
            pass

    def _lock(self, run_id: str) -> FileLock:
        path = self.root / ".locks" / run_id
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)

    def study_path(self, name: str, study_id: str) -> Path:
        return self.root / name / f"study-{study_id}"


class StoreSink(Sink):
    """Writes the records of runs to the store as they come."""

    def __init__(self, store: Store, command: str = "", data_fingerprint: str = "") -> None:
        self.store = store
        self.command = command
        self.data_fingerprint = data_fingerprint
        self._logs: dict[str, IO[str]] = {}
        self._started: dict[str, RunStarted] = {}

    def record(self, spec: RunSpec, record: Record) -> None:
        path = self.store.run_path(spec)
        match record:
            case RunStarted():
                self._start(path, spec, record)
            case EpochMetrics(epoch=epoch, step=step, metrics=metrics):
                self._log(path, {"epoch": epoch, "step": step, **metrics})
            case StepMetrics(values=values):
                for step, metrics in values.items():
                    self._log(path, {"step": step, **metrics})
            case RunFinished():
                self._finish(path, spec, record)
            case RunFailed():
                self._close_log(spec.run_id)
                write_json(path / "failure.json", {"error": record.error, "traceback": record.traceback})

    def close(self) -> None:
        for run_id in list(self._logs):
            self._close_log(run_id)

    def _start(self, path: Path, spec: RunSpec, record: RunStarted) -> None:
        import yaml

        self._close_log(spec.run_id)  # of an attempt whose worker process died, or whose cohort was too large for the memory
        for old in self.store.root.glob(f"*/{spec.run_id}"):  # an interrupted attempt, or one on other contents of the data
            shutil.rmtree(old, ignore_errors=True)
        write_atomic(
            path / "config.yaml",
            yaml.dump(spec.to_dict(), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False),
        )
        self._logs[spec.run_id] = (path / "metrics.jsonl").open("a")
        self._started[spec.run_id] = record

    def _log(self, path: Path, row: dict[str, float]) -> None:
        log = self._logs[path.name]
        log.write(json.dumps(row) + "\n")
        log.flush()

    def _close_log(self, run_id: str) -> None:
        if run_id in self._logs:
            self._logs.pop(run_id).close()

    def _finish(self, path: Path, spec: RunSpec, record: RunFinished) -> None:
        self._close_log(spec.run_id)
        started = self._started.pop(spec.run_id)
        if record.predictions is not None:
            _write_predictions(path / "predictions.parquet", record.predictions)
        write_atomic(path / "model.safetensors", pack_weights(record.weights))
        summary = {
            "run_id": spec.run_id,
            "study": spec.study,
            "data": spec.config.data.name.value,
            "model": spec.config.model.name.value,
            "batch_size": spec.config.train.batch_size,
            "data_fingerprint": self.data_fingerprint,
            "arm": spec.arm,
            "levels": spec.levels,
            "seed": spec.seed,
            "status": "finished" if record.diverged_at is None else "diverged",
            "diverged_at": record.diverged_at,
            "metrics": record.metrics,
            "seconds": record.seconds,
            "num_parameters": started.num_parameters,
            "num_steps": started.num_steps,
            "device": started.device,
            "execution": started.execution,
            "environment": environment(),
            "command": self.command,
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        write_json(path / "summary.json", summary)


def pack_weights(weights: Mapping[str, NDArray[np.generic]]) -> bytes:
    """The content of a safetensors file."""
    from safetensors.numpy import save

    return save({name: np.asarray(array, order="C") for name, array in weights.items()})  # it would mix up other orders


def environment() -> dict[str, str]:
    """Versions and machine, as recorded with each run."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"bnexp": bnexp.__version__, "python": platform.python_version(), "system": platform.platform()}
    for name in ("torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["cpus"] = str(os.cpu_count())
    return found


def _write_predictions(path: Path, predictions: Predictions) -> None:
    from bnexp.tracking.tables import prediction_frame

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    prediction_frame(predictions).write_parquet(temporary)
    os.replace(temporary, path)
