"""Reads the files of a record as if a stranger had written them: people send each other run directories.

Every file has a largest size that is read, and every value is checked before it is used. If a file cannot be used,
``DamagedRecord`` is raised, which names the file and says what is wrong. If it is not there, ``FileNotFoundError`` is raised.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from bnexp.config.schema import ConfigError
from bnexp.terminal import visible_line

MIB = 2**20
LARGEST_NUMBER = 1e100  # its squares and cubes are finite; nothing that a run measures comes near it
DEEPEST = 20  # most levels of nesting; a configuration has four
LONGEST = 300  # most characters of a reason


T = TypeVar("T")


class DamagedRecord(ConfigError):
    """A file of a record that cannot be used.

    Args:
        path: the file.
        reason: what is wrong with it, as a clause that begins with "it": ``it is empty``.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(visible_line(f"{path} is damaged: {reason[:LONGEST]}."))
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[DamagedRecord], tuple[Path, str]]:
        """So that it can come home from another process."""
        return DamagedRecord, (self.path, self.reason)


class _WrongValue(Exception):
    """What is wrong with a value; the message names its key."""


def read_bytes(path: Path, most: int) -> bytes:
    """The content of an ordinary file.

    Args:
        path: the file.
        most: the largest size that is read, bytes.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedRecord: it is no ordinary file, it is larger, or it cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DamagedRecord(path, f"it is {'a directory' if stat.S_ISDIR(status.st_mode) else 'no ordinary file'}")
        with path.open("rb") as file:
            content = file.read(most + 1) if status.st_size <= most else b""
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise DamagedRecord(path, f"it cannot be read ({error.strerror})") from error
    if status.st_size > most or len(content) > most:
        raise DamagedRecord(
            path, f"it has {status.st_size / MIB:,.0f} MiB, and {most / MIB:,.0f} MiB are the most that is read"
        )
    return content


def read_text(path: Path, most: int) -> str:
    """The text of a UTF-8 file. Arguments and errors as for ``read_bytes``."""
    try:
        return read_bytes(path, most).decode()
    except UnicodeDecodeError as error:
        raise DamagedRecord(path, "it is no UTF-8 text") from error


def read_json(path: Path, most: int) -> Any:
    """The value of a JSON file. Arguments and errors as for ``read_bytes``; see ``parse_json`` for what else is damage."""
    return parse_json(path, read_text(path, most), "it is")


def parse_json(path: Path, text: str, what: str) -> Any:
    """The value of JSON text.

    Args:
        path: the file that the text is from.
        text: at least one value; nested at most ``DEEPEST`` levels, with texts that are all valid Unicode.
        what: how the sentence about wrong text begins: ``line 3 is``.

    Raises:
        DamagedRecord: the text is anything else.
    """
    if not text.strip():
        raise DamagedRecord(path, f"{what} empty")
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise DamagedRecord(path, f"{what} nested too deeply") from error
    except ValueError as error:  # no JSON, or a number of thousands of digits
        raise DamagedRecord(path, f"{what} no JSON that can be read") from error
    if why := _unusual(value):
        raise DamagedRecord(path, f"{what} {why}")
    return value


def read_yaml(path: Path, most: int) -> dict[str, Any]:
    """The mapping in a YAML file of plain values. Arguments and errors as for ``read_bytes``.

    A file with aliases is damaged: they could expand to any size.
    """
    import yaml

    text = read_text(path, most)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where PyYAML has it, is seven times faster
    try:
        depth = 0
        for event in yaml.parse(text, Loader=loader):  # first: the recursion of the loader may end the process
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise DamagedRecord(path, "it is nested too deeply")
            if isinstance(event, yaml.AliasEvent):
                raise DamagedRecord(path, "it has aliases, which no configuration of a run has")
        value = yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError) as error:  # of the values' constructors
        raise DamagedRecord(path, "it is no YAML of plain values") from error
    if not isinstance(value, dict):
        raise DamagedRecord(path, f"it is {'empty' if value is None else _kind(value)}, not a mapping")
    return value


def read_as(cls: type[T], path: Path, most: int) -> T:
    """A JSON file as a dataclass, in which every value has the type of its annotation.

    Keys that the class does not know are left out: a later version wrote them. A missing key takes the default of its field.

    Args:
        cls: the dataclass.
        path: the file.
        most: the largest size that is read, bytes.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedRecord: a value has another type, or a key without a default is missing.
    """
    found: T = as_type(cls, read_json(path, most), path)
    return found


def read_whole(cls: type[T], path: Path, most: int, check: Callable[[T], None]) -> T:
    """The same as ``read_as``, for a file that has to be there and whose parts have to fit together.

    Args:
        cls: the dataclass.
        path: the file.
        most: the largest size that is read, bytes.
        check: raises ConfigError if the parts do not fit together.

    Raises:
        DamagedRecord: it is not there, or cannot be used.
    """
    try:
        content = read_as(cls, path, most)
        check(content)
    except FileNotFoundError:
        raise DamagedRecord(path, "it is not there") from None
    except DamagedRecord:
        raise
    except ConfigError as error:
        raise DamagedRecord(path, str(error).removesuffix(".")) from error
    return content


def as_type(hint: Any, value: Any, path: Path, name: str = "") -> Any:
    """Check a value against a type annotation.

    Args:
        hint: the annotation: plain types, enums, unions, lists, mappings and dataclasses.
        value: a JSON value.
        path: the file that it is from.
        name: its dotted key; empty: the whole file.

    Returns:
        The value as that type.

    Raises:
        DamagedRecord: the value has another type.
    """
    try:
        return _typed(hint, value, name)
    except _WrongValue as error:
        raise DamagedRecord(path, str(error)) from None


def _typed(hint: Any, value: Any, name: str) -> Any:
    """As ``as_type``; raises _WrongValue."""
    origin, args = _parts(hint)
    if origin in (Union, UnionType):
        for choice in args:
            if _is_plain(choice, value):
                return float(value) if choice is float else value
            if choice not in _PLAIN:
                with suppress(_WrongValue):
                    return _typed(choice, value, name)
    elif origin is list and isinstance(value, list):
        return [_typed(args[0], item, f"{name}[{number}]") for number, item in enumerate(value)]
    elif origin is dict and isinstance(value, dict):
        return {str(key): _typed(args[1], item, _dotted(name, str(key))) for key, item in value.items()}
    elif origin is dict and args[0] is float and isinstance(value, list):  # JSON has no numbers as keys: pairs instead
        pairs = [_typed(list[float], pair, f"{name}[{number}]") for number, pair in enumerate(value)]
        found = {pair[0]: _typed(args[1], pair[1], name) for pair in pairs if len(pair) == 2}
        if len(found) == len(pairs):
            return found
        raise _WrongValue(f"{name} are no pairs of different numbers and their values")
    elif is_dataclass(hint) and isinstance(value, dict):
        return _built(hint, value, name)
    elif isinstance(hint, type) and issubclass(hint, StrEnum) and value in list(hint):
        return hint(value)
    elif hint is Any or (origin is Literal and value in args) or _is_plain(hint, value):
        return float(value) if hint is float else value
    raise _WrongValue(f"{name or 'it'} is {_kind(value)}, not {_expected(hint)}")


def is_number(value: Any) -> bool:
    """Whether a value is a number of at most ``LARGEST_NUMBER``, NaN or infinite."""
    if type(value) is float and not math.isfinite(value):
        return True
    return type(value) in (int, float) and abs(value) <= LARGEST_NUMBER


_PLAIN = (float, int, str, bool, NoneType)


@cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """``dict`` and ``(str, float)`` for ``dict[str, float]``; kept, because it is asked for every value of a record."""
    return get_origin(hint), get_args(hint)


def _is_plain(hint: Any, value: Any) -> bool:
    if hint is float:
        return is_number(value)
    if hint is int:
        return type(value) is int and abs(value) < 2**63
    return hint in (str, bool, NoneType) and type(value) is hint


def _built(cls: Any, values: Mapping[str, Any], name: str) -> Any:
    hints, found = _hints(cls), {}
    for item in fields(cls):
        key = _dotted(name, item.name)
        if item.name in values:
            found[item.name] = _typed(hints[item.name], values[item.name], key)
        elif item.default is MISSING and item.default_factory is MISSING:
            raise _WrongValue(f"{key} is missing")
    return cls(**found)


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _dotted(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _kind(value: Any) -> str:
    """What a value is, in a few words: numbers and texts as they are, others by their kind."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _expected(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_expected(choice) for choice in args)
    if origin is Literal or (isinstance(hint, type) and issubclass(hint, StrEnum)):
        return "one of " + ", ".join(map(str, args or hint))
    names = {str: "text", bool: "true or false", int: "a whole number", float: "a number", NoneType: "null", list: "a list"}
    return names.get(origin or hint, "a mapping")


def _unusual(value: Any) -> str:
    """Why a JSON value cannot be used, as words that follow "it is"; empty if it can be used."""
    todo = [(value, 1)]
    while todo:
        item, depth = todo.pop()
        if depth > DEEPEST:
            return "nested too deeply"
        if isinstance(item, str) and not _is_unicode(item):
            return "not all Unicode"
        if isinstance(item, dict):
            todo += [(part, depth) for part in item]
            todo += [(part, depth + 1) for part in item.values()]
        elif isinstance(item, list):
            todo += [(part, depth + 1) for part in item]
    return ""


def _is_unicode(text: str) -> bool:
    """Whether ``text`` can be written as UTF-8; a lone surrogate, which JSON can spell, cannot."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
