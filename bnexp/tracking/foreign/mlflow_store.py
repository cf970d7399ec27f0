"""MLflow's file store: ``<experiment>/<run>/`` with ``meta.yaml`` and one small file for each parameter, metric and tag."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bnexp.config.schema import ConfigError
from bnexp.tracking.foreign.run import ForeignRun, as_number
from bnexp.tracking.reading import MIB, DamagedRecord, read_text, read_yaml
from bnexp.tracking.records import MOST_TEXT

META = "meta.yaml"
MOST_METRIC = 64 * MIB
MOST_FILES = 20_000  # parameters, metrics or tags of a run
STATES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
CONSTANTS = {"True": True, "False": False, "None": None}


def read_mlflow(folder: Path) -> ForeignRun:
    """The run of a folder of MLflow's file store. A damaged file of a metric is named and left out.

    Raises:
        FileNotFoundError: the folder has no ``meta.yaml``.
        DamagedRecord: it cannot be used, or the run was deleted in MLflow.
    """
    meta = read_yaml(folder / META, MOST_TEXT)
    if meta.get("lifecycle_stage") == "deleted":
        raise DamagedRecord(folder, "the run was deleted in MLflow")
    tags = {name: read_text(path, MOST_TEXT) for name, path in _files(folder / "tags")}
    state = next((word for number, word in STATES.items() if meta.get("status") == number), str(meta.get("status", "")))
    start, end = (_seconds(meta.get(name)) for name in ("start_time", "end_time"))
    notes: list[str] = []
    rows = _history(folder / "metrics", notes)
    return ForeignRun(
        tool="mlflow",
        path=folder,
        id=str(meta.get("run_id") or meta.get("run_uuid") or folder.name),
        project=_experiment(folder.parent),
        unique=True,
        name=str(meta.get("run_name") or tags.get("mlflow.runName") or meta.get("name") or ""),
        tags=[f"{name}={value}" for name, value in tags.items() if not name.startswith("mlflow.")],
        state=state.lower(),
        status="finished" if state in ("FINISHED", "") else "failed",
        config={name: as_typed_text(read_text(path, MOST_TEXT)) for name, path in _files(folder / "params")},
        metrics={name: value for step in sorted(rows) for name, value in rows[step].items()},
        history=[{"step": float(step)} | rows[step] for step in sorted(rows)],
        seconds=end - start,
        finished=end if math.isfinite(end) else None,
        notes=notes,
    )


def as_typed_text(text: str) -> Any:
    """What a text stands for: MLflow keeps ``0.1``, ``True`` and ``None`` as text."""
    if text in CONSTANTS:
        return CONSTANTS[text]
    for kind in (int, float):
        try:
            return kind(text) if "_" not in text else text
        except ValueError:
            continue
    return text


def _experiment(folder: Path) -> str:
    """The name of an experiment, else that of its folder."""
    try:
        return str(read_yaml(folder / META, MOST_TEXT).get("name") or folder.name)
    except (FileNotFoundError, ConfigError):
        return folder.absolute().name


def _history(folder: Path, notes: list[str]) -> dict[int, dict[str, float]]:
    """Step -> metric -> value."""
    rows: dict[int, dict[str, float]] = {}
    for name, path in _files(folder):
        try:
            for step, value in _values(path):
                rows.setdefault(step, {})["metric.step" if name == "step" else name] = value
        except DamagedRecord as damage:
            notes.append(f"{damage} The metric is read up to there.")
    return rows


def _values(path: Path) -> Iterator[tuple[int, float]]:
    """Step and value of each line of a metric's file. Old versions of MLflow wrote no steps. Raises DamagedRecord."""
    for index, line in enumerate(read_text(path, MOST_METRIC).splitlines()):
        words = line.split()
        try:
            value, step = float(words[1]), int(words[2]) if len(words) > 2 else index
        except (ValueError, IndexError):
            raise DamagedRecord(path, f"line {index + 1} is no time, value and step") from None
        yield step, as_number(value) or 0.0


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of each file in a folder; a name with ``/`` is a path below it. Links to folders are not followed."""
    count = 0
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            count += 1
            if count > MOST_FILES:
                raise DamagedRecord(folder, f"it has more than {MOST_FILES:,} files")
            path = Path(parent, name)
            if not path.is_symlink():
                yield path.relative_to(folder).as_posix(), path


def _seconds(milliseconds: Any) -> float:
    """A time of MLflow in seconds since 1970; NaN for none."""
    number = as_number(milliseconds)
    return math.nan if number is None else number / 1000
