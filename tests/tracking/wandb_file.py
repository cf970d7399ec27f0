"""Read a ``.wandb`` file: records of W&B's protocol in a LevelDB log (32 KiB blocks, 7-byte chunk headers)."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wandb
from wandb.proto import wandb_internal_pb2

_BLOCK, _HEADER = 32768, 7
_FULL, _FIRST, _LAST = 1, 2, 4


@dataclass
class OfflineRun:
    """What one ``.wandb`` file says."""

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)
    versions: list[Any] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    exit_code: int | None = None
    runtime: int | None = None


def read(folder: Path) -> OfflineRun:
    """The only ``.wandb`` file in ``folder``, read whole."""
    (path,) = folder.glob("*.wandb")
    found = OfflineRun()
    for record in _records(path.read_bytes()):
        _take(found, record)
    return found


def read_all(home: Path) -> dict[str, OfflineRun]:
    """Every offline run under W&B's folder, by run id. W&B is torn down first: it closes its files only then for sure."""
    wandb.teardown()
    runs = [read(folder) for folder in sorted(home.glob("offline-run-*"))]
    return {run.run.run_id: run for run in runs}


def _records(data: bytes) -> Iterator[Any]:
    assert data[:4] == b":W&B"
    position, parts = _HEADER, b""
    while position + _HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + _HEADER])
        chunk = data[position + _HEADER : position + _HEADER + length]
        position += _HEADER + length
        parts = chunk if kind in (_FULL, _FIRST) else parts + chunk
        if kind in (_FULL, _LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record


def _take(found: OfflineRun, record: Any) -> None:
    match record.WhichOneof("record_type"):
        case "run":
            found.run = record.run
            found.tags = list(record.run.tags)
            found.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        case "config":
            found.config |= _nested(record.config.update)
        case "history":
            found.history.append(_nested(record.history.item))
        case "summary":
            for name, value in _nested(record.summary.update).items():
                found.summary[name] = value
        case "metric":
            found.metrics[record.metric.name or record.metric.glob_name] = record.metric
        case "artifact":
            found.artifacts.setdefault(record.artifact.name, record.artifact)  # written twice: see offline.py
            found.versions.append(record.artifact)
        case "files":
            found.files += [file.path for file in record.files.files]
        case "exit":
            found.exit_code, found.runtime = record.exit.exit_code, record.exit.runtime


def _nested(items: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in items:
        *path, last = item.nested_key or [item.key]
        inner = found
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = json.loads(item.value_json)
    return found
