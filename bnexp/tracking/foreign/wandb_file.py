"""Offline runs of W&B: ``.wandb`` files, which are logs of records of W&B's protocol.

The log has the format of LevelDB: blocks of 32 KiB with chunks, each with a checksum, its length and its kind. The first seven
bytes are W&B's own. wandb 0.31 has no reader of it in Python; its protocol is read with its own classes.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

from bnexp.tracking.foreign.run import ForeignRun, as_number
from bnexp.tracking.reading import MIB, DamagedRecord

BLOCK, HEADER = 32768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
MOST_RECORD = 64 * MIB  # the largest record that is read, bytes; larger ones are tables of W&B, not metrics
MOST_VALUES = 5_000_000  # of a run's history

_CRCS = {kind: zlib.crc32(bytes([kind])) for kind in (FULL, FIRST, MIDDLE, LAST)}


class _CutOff(Exception):
    """The log ends, or cannot be read further; the message says why."""


def read_wandb(path: Path) -> ForeignRun:
    """The run of a ``.wandb`` file. Of a file that was cut off, what is whole.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedRecord: it holds no run.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    log = _Log(path)
    try:
        with path.open("rb") as file:
            for data in log_records(file):
                record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]  # it comes by a star import
                record.ParseFromString(data)
                log.take(record)
    except _CutOff as cut:
        log.problem = str(cut)
    except DecodeError:
        log.problem = "a record in it is none of W&B's"
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedRecord(path, f"it cannot be read ({error.strerror})") from error
    return log.run()


def run_of(path: Path) -> Any:
    """What a ``.wandb`` file says of its run: the first ``RunRecord`` of W&B's protocol. Nothing after it is read.

    Raises:
        OSError: the file cannot be read.
        DamagedRecord: it has none.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    with path.open("rb") as file, suppress(_CutOff, DecodeError):
        for data in log_records(file):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]  # it comes by a star import
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "run":
                return record.run
    raise DamagedRecord(path, "it names no run")


def log_records(file: BinaryIO) -> Iterator[bytes]:
    """The records of a log, each once it is whole and its checksums fit. Raises _CutOff if the log is damaged."""
    start = file.read(HEADER)
    if start[:4] != b":W&B":
        raise _CutOff("it does not begin like a file of W&B")
    parts: list[bytes] = []
    size = 0
    for kind, chunk in _chunks(file, HEADER):
        if kind in (FULL, FIRST):
            parts, size = [], 0
        size += len(chunk)
        if size <= MOST_RECORD:
            parts.append(chunk)
        if kind in (FULL, LAST) and size <= MOST_RECORD:
            yield b"".join(parts)
    if parts and kind not in (FULL, LAST):
        raise _CutOff("its last record is cut off")


def _chunks(file: BinaryIO, position: int) -> Iterator[tuple[int, bytes]]:
    """The chunks of a log: kind, content."""
    while True:
        left = BLOCK - position % BLOCK
        if left < HEADER:
            file.read(left)
            position += left
        header = file.read(HEADER)
        if not header:
            return
        checksum, length, kind = struct.unpack("<IHB", header) if len(header) == HEADER else (0, 0, 0)
        if kind not in _CRCS:
            raise _CutOff("its last record is cut off" if len(header) < HEADER or not any(header) else "a record is damaged")
        chunk = file.read(length)
        if len(chunk) < length:
            raise _CutOff("its last record is cut off")
        if zlib.crc32(chunk, _CRCS[kind]) != checksum:
            raise _CutOff("the checksum of a record is wrong")
        position += HEADER + length
        yield kind, chunk


class _Log:
    """What the records of one file say.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        self._about: Any = None
        self._config: dict[str, Any] = {}
        self._summary: dict[tuple[str, ...], Any] = {}
        self._history: list[dict[str, float]] = []
        self._num_values = 0
        self._exit: int | None = None
        self._runtime = self._ended = math.nan

    def take(self, record: Any) -> None:
        """One record of W&B's protocol."""
        match record.WhichOneof("record_type"):
            case "run":
                self._about = record.run
                _update(self._config, record.run.config)
                self._take_summary(record.run.summary)
            case "config":
                _update(self._config, record.config)
            case "summary":
                self._take_summary(record.summary)
            case "history":
                self._take_history(record.history)
            case "exit":
                self._exit = record.exit.exit_code

    def run(self) -> ForeignRun:
        """The run. Raises DamagedRecord if no record tells which run it is."""
        about = self._about
        if about is None or not about.run_id:
            raise DamagedRecord(self.path, self.problem or "it names no run")
        self._config.pop("_wandb", None)  # what W&B notes of itself
        state = {None: "crashed", 0: "finished"}.get(self._exit, "failed")
        status: Literal["finished", "diverged", "failed"] = "finished" if state == "finished" else "failed"
        project, group = about.project or "uncategorized", about.run_group
        own_id = self._config.get("run_id")
        if own_id and str(about.run_id).partition("-")[0] == own_id:  # bnexp recorded it, see ``tracking.wandb.content``
            own = [self._config.pop(name, "") for name in ("run_id", "study_ids", "study", "arm")]
            project, group = str(own[2]) or project, str(own[3]) or group
            if _parsed(self._summary.get(("status",), "")) == "diverged":
                status = "diverged"
        started = about.start_time.seconds + about.start_time.nanos / 1e9
        return ForeignRun(
            tool="wandb",
            path=self.path,
            id=about.run_id,
            project=project,
            unique=_is_random(about.run_id),
            name=about.display_name,
            group=group,
            job_type=about.job_type,
            tags=list(about.tags),
            state=state,
            status=status,
            config=self._config,
            metrics=self._last_values(),
            history=self._history,
            seconds=self._runtime,
            finished=next((at for at in (self._ended, started + self._runtime) if math.isfinite(at)), None),
            notes=[f"{self.path}: {self.problem}; what is before it was read."] if self.problem else [],
        )

    def _take_history(self, history: Any) -> None:
        values = dict(_items(history.item))
        step = _parsed(values.get(("_step",), "null"))
        row = {"step": float(history.step.num if step is None else as_number(step) or 0)}
        self._history.append(row | _numbers(values))
        self._num_values += len(self._history[-1])
        if self._num_values > MOST_VALUES:
            raise _CutOff(f"it has more than {MOST_VALUES:,} values")
        self._runtime = _later(values.get(("_runtime",)), self._runtime)
        self._ended = _later(values.get(("_timestamp",)), self._ended)

    def _take_summary(self, summary: Any) -> None:
        for path, text in _items(summary.update):
            self._summary[path] = text
            self._runtime = _later(text, self._runtime) if path in (("_runtime",), ("_wandb", "runtime")) else self._runtime
        for item in summary.remove:
            self._summary.pop(tuple(item.nested_key) or (item.key,), None)

    def _last_values(self) -> dict[str, float]:
        """The last value of each metric of the history, then what the summary says instead, or besides."""
        last: dict[str, float] = {}
        for row in self._history:
            last |= row
        last.pop("step", None)
        last |= _numbers(self._summary)
        repeated = [name for name in last if name.endswith(".last") and last[name] == last.get(name.removesuffix(".last"))]
        return {name: last[name] for name in sorted(last) if name not in repeated}  # W&B writes them in any order


def _items(items: Iterable[Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The path of keys and the JSON text of each item."""
    for item in items:
        yield tuple(item.nested_key) or (item.key,), item.value_json


def _update(config: dict[str, Any], record: Any) -> None:
    """Bring a configuration up to date."""
    for path, text in _items(record.update):
        inner = config
        for part in path[:-1]:
            following = inner.setdefault(part, {})
            inner = following if isinstance(following, dict) else inner
        inner[path[-1]] = _parsed(text)
    for item in record.remove:
        config.pop(next(iter(item.nested_key), item.key), None)


def _numbers(values: dict[tuple[str, ...], str]) -> dict[str, float]:
    """The numbers among values, by dotted name. Those of W&B itself and parts of media, such as histograms, are left out."""
    media = {path[:-1] for path in values if path[-1] == "_type"}
    found: dict[str, float] = {}
    for path, text in values.items():
        if path[0].startswith("_") or (media and any(path[:depth] in media for depth in range(1, len(path)))):
            continue
        _collect(found, ".".join(path), _parsed(text))
    if "step" in found:  # a metric of the user's; the step of W&B has another name
        found["metric.step"] = found.pop("step")
    return found


def _collect(found: dict[str, float], name: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items() if "_type" not in value else ():
            _collect(found, f"{name}.{key}", item)
    elif (as_float := as_number(value)) is not None:
        found[name] = as_float


def _later(text: str | None, than: float) -> float:
    """The time in a JSON text if it is a later one, else ``than``; NaN: not known."""
    value = as_number(_parsed(text or "null"))
    return than if value is None or not math.isfinite(value) or value < than else value


def _parsed(text: str) -> Any:
    """A JSON value; None for text that is none."""
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return None


def _is_random(run_id: str) -> bool:
    """Whether an id looks like those that W&B draws: eight lower-case letters and digits."""
    return len(run_id) == 8 and run_id.isalnum() and run_id == run_id.lower()
