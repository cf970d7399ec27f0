"""The local store: plain files are the record, everything else is a copy.

``<runs>/<study>/<run id>/`` holds ``config.yaml``, ``metrics.jsonl`` (one line per epoch, appended and flushed),
``predictions.parquet``, ``model.safetensors`` and ``summary.json``. The summary is written last and atomically; it is the only
sign of completion. ``track.predictions_every`` adds ``predictions-<epoch>.parquet``. If a run has failed, ``failure.json``
tells why; if a sweep has stopped it early, ``stopped.json`` tells when. ``records.py`` reads these files.
``<runs>/<study>/study-<study id>/`` holds ``study.json`` (the question, written before the first run trains),
``verdict.json`` and ``report.html``. Nothing is pickled; reading needs neither torch nor wandb.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bnexp
from bnexp.config.keys import did_you_mean
from bnexp.config.schema import ConfigError
from bnexp.metrics import (
    EpochMetrics,
    EpochPredictions,
    Predictions,
    Record,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
    StepMetrics,
)
from bnexp.plan.spec import RunSpec
from bnexp.tracking.checkout import checkout
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.records import (
    CONFIG,
    FAILURE,
    METRICS,
    PREDICTIONS,
    STOPPED,
    SUMMARY,
    WEIGHTS,
    DataFacts,
    RecordedRun,
    Stopped,
    Summary,
    epoch_predictions,
)
from bnexp.tracking.sink import Sink

log = logging.getLogger(__name__)


def runs_dir() -> Path:
    """The directory in which runs are recorded: ``BNEXP_RUNS_DIR``, else ``./runs``."""
    return Path(os.environ.get("BNEXP_RUNS_DIR") or "runs")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: a temporary file beside it is written, then renamed.

    Args:
        path: the file; its directory is made if it is missing.
        content: text is written as UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # never write through a link that lies there
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def json_text(value: Any) -> str:
    """A JSON file's text: indented, with a newline at the end."""
    return json.dumps(value, indent=2, allow_nan=True) + "\n"


def write_json(path: Path, value: Any) -> None:
    """As ``write_atomic``, for a value as JSON."""
    write_atomic(path, json_text(value))


def write_if_allowed(path: Path, content: str) -> bool:
    """As ``write_atomic``. If files may only be read there, as in an archive of runs, the log says so.

    Returns:
        Whether the file was written.
    """
    try:
        write_atomic(path, content)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR):
            raise
        log.warning("%s may not be written (%s), so the result is only shown.", path, error.strerror)
        return False
    return True


class Store:
    """The directory of all records.

    Args:
        root: the directory; None: ``runs_dir()``.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or runs_dir()
        self._damaged: set[str] = set()

    def named(self, beginning: str) -> RecordedRun:
        """The run whose id begins so, finished or not.

        Raises:
            ConfigError: there is none, or more than one.
        """
        known = list(dict.fromkeys(record.run_id for record in self.folders()))
        found = [run_id for run_id in known if run_id.startswith(beginning)]
        if len(found) != 1:
            some = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
            problem = f"fits several recorded runs: {some}" if found else f"is not a recorded run in {self.root}"
            raise ConfigError(f"{beginning!r} {problem}.{did_you_mean(beginning, known)} See them with bnexp runs.")
        return self.records(found)[found[0]]

    def records(self, run_ids: Collection[str]) -> dict[str, RecordedRun]:
        """The record of each run, whichever study trained it; a run without a directory is left out.

        This is the one place that decides which record counts if several studies have a directory of the same run: a finished
        one counts before a damaged one, that before a failed one, and that before one without an ending. Among equals the
        first study in alphabetical order counts.

        Args:
            run_ids: ids of any number of runs. Ask for all of them in one call: each call lists every study's directory once.

        Returns:
            Run id -> its record.
        """
        places = self.locate(run_ids)
        return {run_id: found[0] if len(found) == 1 else max(found, key=_told) for run_id, found in places.items()}

    def finished(self, run_ids: Collection[str]) -> dict[str, RecordedRun]:
        """As ``records``, but only the runs that have finished. A damaged one is named in the log and left out."""
        return {record.run_id: record for record in self._finished(self.records(run_ids).values())}

    def find(self, run_id: str) -> RecordedRun | None:
        """The finished run of this id, whichever study trained it; None if there is none. For many ids use ``finished``."""
        return self.finished([run_id]).get(run_id)

    def runs(self) -> Iterator[RecordedRun]:
        """All finished runs, in alphabetical order of their places. A damaged one is named in the log and left out."""
        return self._finished(RecordedRun(path.parent) for path in sorted(self.root.glob(f"*/*/{SUMMARY}")))

    def latest(self, count: int) -> list[RecordedRun]:
        """The runs that finished last, at most ``count``, the newest at the end."""
        summaries = sorted(self.root.glob(f"*/*/{SUMMARY}"), key=lambda path: path.stat().st_mtime)
        return list(self._finished(RecordedRun(path.parent) for path in summaries[-count:]))

    def folders(self) -> Iterator[RecordedRun]:
        """Every directory of a run, finished or not."""
        for path in sorted(self.root.glob("[!.]*/*")):
            if not path.name.startswith(("study-", "book-", "sweep-")) and path.is_dir():
                yield RecordedRun(path)

    def locate(self, run_ids: Collection[str]) -> dict[str, list[RecordedRun]]:
        """Run id -> all its directories; ``records`` says which of them counts.

        Each study is listed once: one glob per run would take seconds for a thousand runs.
        """
        wanted = set(run_ids)
        places: dict[str, list[RecordedRun]] = {}
        for study in sorted(self.root.glob("[!.]*/")):
            with suppress(OSError):  # of a folder that may not be listed
                for name in sorted(wanted.intersection(os.listdir(study))):
                    places.setdefault(name, []).append(RecordedRun(study / name))
        return places

    def report_damage(self, damage: DamagedRecord, consequence: str, *, named: bool = True) -> None:
        """Name a damaged record in the log, once.

        Args:
            damage: what is wrong.
            consequence: one sentence on what is done without the record.
            named: False: only count it in ``num_damaged``, because the log counts it together with others.
        """
        if str(damage) not in self._damaged:
            self._damaged.add(str(damage))
            if named:
                log.warning("%s %s", damage, consequence)

    @property
    def num_damaged(self) -> int:
        """Number of damaged files of records that have been met so far."""
        return len(self._damaged)

    def _finished(self, records: Iterable[RecordedRun]) -> Iterator[RecordedRun]:
        for run in records:
            if run.damage:
                self.report_damage(run.damage, "Its run counts as not finished.")
            elif run.finished:
                yield run

    def run_path(self, spec: RunSpec) -> Path:
        """The directory that a run gets when it trains."""
        return self.root / spec.study / spec.run_id

    def study_path(self, name: str, study_id: str) -> Path:
        """The directory of a study's record."""
        return self.root / name / f"study-{study_id}"


def _told(record: RecordedRun) -> int:
    """How much a record tells of its run's ending: finished, damaged, failed, nothing."""
    if record.finished:
        return 3
    return 2 if record.damage else int(record.failure is not None or record.stopped is not None)


class StoreSink(Sink):
    """Writes the records of runs to the store as they come.

    Args:
        store: where they are written.
        command: the command line, which the summary of each run names.
        facts: the data that the runs are tested on; None: not known.
        stopped_by: id of the sweep that may stop them; empty if none may.
    """

    def __init__(self, store: Store, command: str = "", facts: DataFacts | None = None, stopped_by: str = "") -> None:
        self.store = store
        self.command = command
        self.stopped_by = stopped_by
        self.facts = facts or DataFacts([], 0)
        self._started: dict[str, RunStarted] = {}
        self._parts: dict[tuple[str, str], str] = {}  # a key of configurations and its value -> as YAML

    def record(self, spec: RunSpec, record: Record) -> None:
        path = self.store.run_path(spec)
        match record:
            case RunStarted():
                self._start(path, spec, record)
            case EpochMetrics(epoch=epoch, step=step, metrics=metrics):
                _append(path / METRICS, [{"epoch": epoch, "step": step, **metrics}])
            case EpochPredictions(epoch=epoch, predictions=predictions):
                _write_predictions(path / epoch_predictions(epoch), predictions)
            case StepMetrics(values=values):
                _append(path / METRICS, [{"step": step, **metrics} for step, metrics in values.items()])
            case RunFinished():
                self._finish(path, spec, record)
            case RunStopped(epoch=epoch, metrics=metrics, seconds=seconds):
                write_json(path / STOPPED, asdict(Stopped(self.stopped_by, epoch, dict(metrics), seconds)))
            case RunFailed():
                if not (path / CONFIG).exists():  # it failed before it began
                    self._write_config(path, spec)
                write_json(path / FAILURE, {"error": record.error, "traceback": record.traceback})

    def _start(self, path: Path, spec: RunSpec, record: RunStarted) -> None:
        for old in self.store.root.glob(f"*/{spec.run_id}"):  # an interrupted attempt, or a run on earlier contents of the data
            shutil.rmtree(old, ignore_errors=True)
        self._write_config(path, spec)
        self._started[spec.run_id] = record

    def _write_config(self, path: Path, spec: RunSpec) -> None:
        parts = spec.to_dict().items()
        write_atomic(path / CONFIG, "".join(self._yaml(key, value) for key, value in parts))

    def _yaml(self, key: str, value: Any) -> str:
        """A part of a configuration. Runs of a study share most parts, and PyYAML takes 4 ms for all parts of a run."""
        import yaml

        known = (key, repr(value))
        if known not in self._parts:
            dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
            self._parts[known] = yaml.dump({key: value}, Dumper=dumper, sort_keys=False)
        return self._parts[known]

    def _finish(self, path: Path, spec: RunSpec, record: RunFinished) -> None:
        started = self._started.pop(spec.run_id)
        if record.predictions is not None:
            _write_predictions(path / PREDICTIONS, record.predictions)
        write_atomic(path / WEIGHTS, pack_weights(record.weights))
        named = (PREDICTIONS, WEIGHTS, *(epoch_predictions(epoch) for epoch in RecordedRun(path).predicted_epochs))
        binary = [path / name for name in named if (path / name).exists()]
        summary = Summary(
            run_id=spec.run_id,
            study=spec.study,
            data=spec.config.data.name.value,
            model=spec.config.model.name.value,
            batch_size=spec.config.train.batch_size,
            data_fingerprint=self.facts.fingerprint,
            class_names=self.facts.class_names,
            num_test=self.facts.num_test,
            num_test_trained=self.facts.num_test_trained,
            pixel_mean=self.facts.pixel_mean,
            pixel_std=self.facts.pixel_std,
            arm=spec.arm,
            levels=spec.levels,
            seed=spec.seed,
            status="finished" if record.diverged_at is None else "diverged",
            diverged_at=record.diverged_at,
            metrics=dict(record.metrics),
            seconds=record.seconds,
            num_parameters=started.num_parameters,
            num_steps=started.num_steps,
            device=started.device,
            execution=started.execution,
            initial=started.initial,
            environment=environment(),
            command=self.command,
            finished_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            sha256={file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in binary},
        )
        write_json(path / SUMMARY, asdict(summary))


def _append(path: Path, rows: Iterable[dict[str, float]]) -> None:
    """Add one line per row. The file is closed again: a cohort may have more runs than a process may have open files."""
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def pack_weights(weights: Mapping[str, NDArray[np.generic]]) -> bytes:
    """The content of a safetensors file."""
    from safetensors.numpy import save

    return save({name: np.asarray(array, order="C") for name, array in weights.items()})  # it misreads other orders


def environment() -> dict[str, str]:
    """Versions, machine and commit, as each run records them: name -> value."""
    return _software() | checkout()


@cache
def _software() -> dict[str, str]:
    """Versions and machine; looking up the versions takes a quarter of the time of recording a run."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"bnexp": bnexp.__version__, "python": platform.python_version(), "system": platform.platform()}
    for name in ("torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"cpus": str(os.cpu_count())}


def _write_predictions(path: Path, predictions: Predictions) -> None:
    from bnexp.tracking.tables import prediction_frame

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    prediction_frame(predictions).write_parquet(temporary)
    os.replace(temporary, path)
