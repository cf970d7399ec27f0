"""TensorBoard's event files: scalars and hyperparameters of one folder of them, which TensorBoard shows as one run.

A file is a sequence of TFRecords: the length and its checksum, the content and its checksum. Each content is an ``Event`` of
TensorFlow's protocol, of which the fields that are needed are declared here, so that neither package has to be installed.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bnexp.config.schema import ConfigError
from bnexp.tracking.foreign.run import ForeignRun, as_number
from bnexp.tracking.reading import MIB, DamagedRecord, read_yaml
from bnexp.tracking.records import MOST_TEXT

MOST_CHECKED = 64 * 1024  # larger records hold images or graphs, which are passed over; a scalar takes some 50 bytes
MOST_RECORD = 1024 * MIB
MOST_VALUES = 5_000_000  # scalars of a run

# TensorFlow's protocol: message -> field -> (number, type); a type in brackets is repeated, another message is named.
PROTOCOL: dict[str, dict[str, tuple[int, str]]] = {
    "Event": {"wall_time": (1, "double"), "step": (2, "int64"), "summary": (5, "Summary")},
    "Summary": {"value": (1, "[Value]")},
    "Value": {"tag": (1, "string"), "simple_value": (2, "float"), "tensor": (8, "Tensor"), "metadata": (9, "Metadata")},
    "Metadata": {"plugin_data": (1, "PluginData")},
    "PluginData": {"plugin_name": (1, "string"), "content": (2, "bytes")},
    "Tensor": {
        "dtype": (1, "int32"),
        "shape": (2, "Shape"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "[float]"),
        "double_val": (6, "[double]"),
        "int_val": (7, "[int32]"),
        "int64_val": (10, "[int64]"),
    },
    "Shape": {"dim": (2, "[Dim]")},
    "Dim": {"size": (1, "int64")},
    "HParams": {"start": (3, "SessionStart"), "end": (4, "SessionEnd")},
    "SessionStart": {"hparams": (1, "[Entry]"), "group_name": (4, "string"), "start_time_secs": (5, "double")},
    "SessionEnd": {"status": (1, "int32"), "end_time_secs": (2, "double")},
    "Entry": {"key": (1, "string"), "value": (2, "Scalar")},
    "Scalar": {"number_value": (2, "double"), "string_value": (3, "string"), "bool_value": (4, "bool")},
}
PLUGIN = "hparams"
STATES = {1: "success", 2: "failure", 3: "running"}
HASH = re.compile("[0-9a-f]{64}")
FORMATS = {1: "f", 2: "d", 3: "i", 9: "q"}  # of tensors: TensorFlow's number of a type -> struct's letter


def read_events(folder: Path, files: Sequence[Path], root: Path) -> ForeignRun:
    """The run of a folder with event files.

    Args:
        folder: the folder.
        files: its event files, and those of the subfolders in which torch's ``add_hparams`` writes.
        root: the folder that all runs are in, as an absolute path; the run's name is the path of its folder in it.

    Raises:
        DamagedRecord: no file has a scalar or hyperparameter.
    """
    run = _Events()
    problems = []
    for path in sorted(files, key=lambda path: (path.parent != folder, path.name)):
        try:
            with path.open("rb") as file:
                for content in tf_records(file):
                    run.take(content)
        except _Damage as damage:
            problems.append(f"{path}: {damage}; what is before it was read.")
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}.")
    config = run.config | _lightning(folder, problems)
    if not run.rows and not config:
        raise DamagedRecord(folder, problems[0] if problems else "its event files have neither scalars nor hyperparameters")
    first = min((path for path in files if path.parent == folder), default=files[0], key=lambda path: path.name)
    history = [{"step": float(step)} | run.rows[step] for step in sorted(run.rows)]
    whole = folder.absolute()
    name = whole.relative_to(root).as_posix() if whole != root else whole.name
    return ForeignRun(
        tool="tensorboard",
        path=folder,
        id=f"{whole.name}/{first.name}",
        project=root.name or "tensorboard",
        name=name,
        group=run.group,
        state=run.state,
        status="failed" if run.state in ("failure", "running") else "finished",
        config=config,
        metrics={name: value for row in history for name, value in row.items() if name != "step"},
        history=history,
        seconds=run.last - run.first,
        finished=run.last if math.isfinite(run.last) else None,
        notes=problems,
    )


def _lightning(folder: Path, problems: list[str]) -> dict[str, Any]:
    """The hyperparameters that Lightning's logger writes beside its event files."""
    try:
        return read_yaml(folder / "hparams.yaml", MOST_TEXT)
    except FileNotFoundError:
        return {}
    except ConfigError as damage:
        if (folder / "hparams.yaml").stat().st_size > len("{}\n"):
            problems.append(str(damage))
        return {}


class _Damage(Exception):
    """A file ends in the middle, or cannot be read further; the message says why."""


def tf_records(file: BinaryIO) -> Iterator[bytes]:
    """The contents of a file's records, without those that are too large for scalars. Raises _Damage."""
    while header := file.read(12):
        if len(header) < 12:
            raise _Damage("its last record is cut off")
        length, checksum = struct.unpack("<QI", header)
        if masked_crc32c(header[:8]) != checksum or length > MOST_RECORD:
            raise _Damage("the checksum of a record's length is wrong")
        content = file.read(length)
        end = file.read(4)
        if len(content) < length or len(end) < 4:
            raise _Damage("its last record is cut off")
        if length > MOST_CHECKED:
            continue
        if masked_crc32c(content) != struct.unpack("<I", end)[0]:
            raise _Damage("the checksum of a record is wrong")
        yield content


def masked_crc32c(data: bytes) -> int:
    """TFRecord's checksum: CRC-32C (Castagnoli), rotated and shifted."""
    table = _crc_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


class _Events:
    """What the events of a run say."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, float]] = {}
        self.config: dict[str, Any] = {}
        self.group = self.state = ""
        self.first, self.last = math.inf, -math.inf
        self._event, self._hparams = _messages("Event", "HParams")
        self._num_values = 0

    def take(self, content: bytes) -> None:
        """One event."""
        event = self._parse(self._event, content)
        if event.wall_time > 0 and math.isfinite(event.wall_time) and event.HasField("summary"):
            self.first, self.last = min(self.first, event.wall_time), max(self.last, event.wall_time)
        for value in event.summary.value:
            tag = _text(value.tag)
            if value.metadata.plugin_data.plugin_name == PLUGIN:
                self._take_hparams(value.metadata.plugin_data.content)
            elif (found := _scalar(value)) is not None:
                self._num_values += 1
                if self._num_values > MOST_VALUES:
                    raise _Damage(f"it has more than {MOST_VALUES:,} values")
                self.rows.setdefault(event.step, {})["metric.step" if tag == "step" else tag] = found

    def _take_hparams(self, content: bytes) -> None:
        data = self._parse(self._hparams, content)
        for entry in data.start.hparams:
            kind = next((field.name for field, _ in entry.value.ListFields()), None)
            number = entry.value.number_value
            whole = kind == "number_value" and abs(number) < 2**53 and number.is_integer()  # the protocol has no integers
            value: Any = None if kind is None else int(number) if whole else getattr(entry.value, kind)
            self.config[_text(entry.key)] = _text(value) if kind == "string_value" else value
        if not HASH.fullmatch(group := _text(data.start.group_name)):  # by default it is one of all hyperparameters
            self.group = group or self.group
        self.state = STATES.get(data.end.status, self.state)

    @staticmethod
    def _parse(message: Any, content: bytes) -> Any:
        from google.protobuf.message import DecodeError

        try:
            return message.FromString(content)
        except DecodeError as error:
            raise _Damage("a record in it is no event") from error


def _text(value: str | bytes) -> str:
    """Text of the protocol, which gives bytes if it is not Unicode."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _scalar(value: Any) -> float | None:
    """The number of a summary's value; None if it is none."""
    if value.HasField("simple_value"):
        return _shortest(value.simple_value)
    tensor = value.tensor
    if math.prod(dim.size for dim in tensor.shape.dim) != 1 or tensor.dtype not in FORMATS:
        return None
    listed = [*tensor.float_val, *tensor.double_val, *tensor.int_val, *tensor.int64_val]
    form = f"<{FORMATS[tensor.dtype]}"
    if not listed and len(tensor.tensor_content) == struct.calcsize(form):
        listed = list(struct.unpack(form, tensor.tensor_content))
    if len(listed) != 1:
        return None
    return _shortest(listed[0]) if form == "<f" else as_number(listed[0])


def _shortest(value: float) -> float | None:
    """A number of single precision with as few digits as tell it: 0.8, not 0.800000011920929."""
    return as_number(float(str(np.float32(value))))


@cache
def _messages(*names: str) -> tuple[Any, ...]:
    """Classes for messages of ``PROTOCOL``."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="bnexp/events.proto", package="bnexp.events", syntax="proto2")
    for message, fields in PROTOCOL.items():
        described = file.message_type.add(name=message)
        for field, (number, written) in fields.items():
            kind = written.strip("[]")
            label = kinds.LABEL_REPEATED if written.startswith("[") else kinds.LABEL_OPTIONAL
            facts = {"name": field, "number": number, "label": label}
            if kind in PROTOCOL:
                described.field.add(**facts, type=kinds.TYPE_MESSAGE, type_name=f".bnexp.events.{kind}")
            else:
                described.field.add(**facts, type=getattr(kinds, f"TYPE_{kind.upper()}"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return tuple(message_factory.GetMessageClass(pool.FindMessageTypeByName(f"bnexp.events.{name}")) for name in names)
