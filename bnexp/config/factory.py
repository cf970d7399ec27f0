"""Code of the user, named by text: ``nets.py:build`` or ``my_package.nets:build``.

Code that the user names runs: on the command line, in a configuration or sweep file of theirs, as an argument of the Python
API. Code that a record names never does, because people send each other records. The type tells the two apart: a ``Named`` is
made where a configuration is composed from the user's own overrides, and only a ``Named`` is loaded.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from bnexp.config.keys import did_you_mean
from bnexp.config.schema import ConfigError
from bnexp.config.source import Source, find_module, is_installed, read_source

FORMS = "FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, like nets.py:build"


class Named(str):
    """Code that the user named: the text as typed, which is all that a record holds of it, and what loads it anywhere.

    Args:
        text: ``nets.py:build`` or ``my_package.nets:build``.
        directory: relative paths begin here, and modules are looked for here first.
        fingerprint: of the source, when the user named it.
    """

    directory: Path
    fingerprint: str

    def __new__(cls, text: str, directory: Path, fingerprint: str) -> Named:
        named = super().__new__(cls, text)
        named.directory, named.fingerprint = directory, fingerprint
        return named

    def __getnewargs__(self) -> tuple[str, Path, str]:  # type: ignore[override]
        return str(self), self.directory, self.fingerprint

    @property
    def function(self) -> str:
        """The name behind the colon."""
        return function_name(self)


def function_name(text: str) -> str:
    """What a text names in its file or module: the part behind the last colon."""
    return text.rpartition(":")[2]


def name_code(text: str, key: str, directory: Path | None = None) -> Named:
    """Take a text of the user as the name of code that may run. Reads its source, and runs nothing.

    Args:
        text: ``nets.py:build`` or ``my_package.nets:build``. Never one from a record.
        key: what it is the value of, for messages: ``model.factory`` or ``--factory``.
        directory: where a relative path begins; None: the current directory.

    Raises:
        ConfigError: the text has another form, or its file or module is not there.
    """
    directory = (directory or Path.cwd()).resolve()
    return Named(text, directory, _place(text, key, directory).source.fingerprint)


def source_fingerprint(text: str, key: str = "model.factory") -> str:
    """The identity of code: a hash of its source, wherever the file lies. ``config/source.py`` says what it covers.

    Args:
        text: ``nets.py:build`` or ``my_package.nets:build``, from the current directory.
        key: what it is the value of, for messages.

    Raises:
        ConfigError: as ``name_code``.
    """
    return name_code(text, key).fingerprint


def load_factory(text: str, key: str) -> Callable[..., Any]:
    """The function that the user named. Imports its file, once per process as long as its source stays the same.

    It works in every process that can read the file: a ``Named`` knows the directory that it was named in.

    Args:
        text: a ``Named``, as composed configurations have it; ``name_code`` makes one.
        key: the configuration key that it is the value of, for messages.

    Raises:
        ConfigError: the text is from a record; the source has changed since it was named; it cannot be imported; or it has no
            such function.
    """
    named = _named(text, key)
    place = _place(named, key, named.directory)
    module, fingerprint = _import(place, f"{key}={text}")
    if named.fingerprint not in (place.source.fingerprint, fingerprint):
        raise ConfigError(f"{key}={text}: the source has changed since this command began; run the command again.")
    found: Any = module
    for depth, name in enumerate(named.function.split(".")):
        if not hasattr(found, name):
            owner = ".".join([text.rpartition(":")[0], *named.function.split(".")[:depth]])
            known = [
                other
                for other, value in getattr(found, "__dict__", {}).items()
                if callable(value) and not other.startswith("_")
            ]
            raise ConfigError(f"{key}={text}: there is no {name} in {owner}.{did_you_mean(name, known)}")
        found = getattr(found, name)
    if not callable(found):
        kind = type(found).__name__
        raise ConfigError(f"{key}={text}: {named.function} is {_article(kind)}, not a function; name a function.")
    function: Callable[..., Any] = found
    return function


def run_factory(text: str, key: str, /, *given: Any, **args: Any) -> Any:
    """Call the function that the user named, and return what it returns. What it prints goes to standard error.

    Args:
        text: as for ``load_factory``.
        key: likewise.
        given: arguments by position.
        args: arguments by name.

    Raises:
        ConfigError: as ``load_factory``, or the function raises an error; the sentence names the line of the user's code.
    """
    function = load_factory(text, key)
    try:
        with on_stderr():
            return function(*given, **args)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        place = _place(text, key, _named(text, key).directory)
        raise ConfigError(f"{key}={text} failed: {blame(error, place.source.files)}.") from error


def file_of(text: str, key: str) -> Path:
    """The file of the function that the user named. Raises ConfigError as ``load_factory``."""
    return _place(text, key, _named(text, key).directory).path


def _named(text: str, key: str) -> Named:
    """``text``, if it is the user's. Raises ConfigError if it is from a record."""
    if isinstance(text, Named):
        return text
    raise ConfigError(
        f"{key}={text} is from a record, and bnexp never runs code that a record names; name it yourself if you trust it."
    )


@contextmanager
def on_stderr() -> Iterator[None]:
    """Inside, what code of the user prints goes to standard error: standard output has the results of the command."""
    with redirect_stdout(sys.stderr):
        yield


def blame(error: BaseException, files: Mapping[str, Path]) -> str:
    """What happened in code of the user, in a few words: type, message, and the last line of theirs that took part.

    Args:
        error: what the code raised.
        files: the files of the code, as ``Source`` has them.
    """
    said = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        lines.append((error.filename or "", error.lineno))
    own = set(files.values())
    for name, line in reversed(lines):
        if line is not None and Path(name).resolve() in own:
            return f"{what} ({Path(name).name}, line {line})"
    return what


@dataclass(frozen=True)
class _Place:
    """Where code is.

    Args:
        path: its file.
        module: its name as a module; empty if it is loaded by its path.
        source: all its files.
    """

    path: Path
    module: str
    source: Source


def _place(text: str, key: str, directory: Path) -> _Place:
    """Find the file of the code, and read all of its files. Raises ConfigError."""
    file, colon, function = text.rpartition(":")
    if not colon or not file or not all(part.isidentifier() for part in function.split(".")):
        raise ConfigError(f"{key}={text} names no function: allowed is {FORMS}.")
    by_path = file.endswith(".py") or os.sep in file
    path = (directory / Path(file).expanduser()).resolve() if by_path else None
    _look_in(directory, *([path.parent] if path else []))
    if path is None:
        path = _file_of_module(file, f"{key}={text}", directory)
    elif not path.is_file():
        raise ConfigError(f"{key}={text}: there is no file {path}; a relative path begins where bnexp is called.")
    try:
        return _Place(path, "" if by_path else file, read_source(path, "" if by_path else file))
    except OSError as error:
        raise ConfigError(f"{key}={text}: {error.filename or path} cannot be read ({error.strerror}).") from error


def _look_in(*folders: Path) -> None:
    """Let Python import from these folders, from the last one first, as it does from the folder of a script."""
    for folder in map(str, folders):
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(0, folder)


def _file_of_module(name: str, given: str, directory: Path) -> Path:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"{given} names no module: allowed is {FORMS}.")
    spec = find_module(name)
    if spec is None:
        more = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
        looked = ", ".join([str(directory), *more])
        raise ConfigError(
            f"{given}: there is no module {name}; looked in {looked} and among the installed packages. A file is named by its "
            f"path: {name.rpartition('.')[2]}.py:{given.rpartition(':')[2]}."
        )
    if not spec.origin or not spec.origin.endswith(".py"):
        raise ConfigError(f"{given}: the module {name} has no Python source, so a change of it would not be noticed.")
    return Path(spec.origin).resolve()


_imported: dict[str, tuple[ModuleType, str]] = {}  # module name -> the module, and the fingerprint it was imported with
_texts: dict[str, tuple[Path, str]] = {}  # name of a module that such code imports -> its file, and a hash of its text then
_importing: set[str] = set()


def _import(place: _Place, given: str) -> tuple[ModuleType, str]:
    """Import the code, or take the earlier import as long as the source is the same; and its fingerprint once imported."""
    name = place.module or f"_{place.path.stem}_{sha256(str(place.path).encode()).hexdigest()[:8]}"
    module, fingerprint = _imported.get(name, (None, ""))
    if module is not None and fingerprint == place.source.fingerprint:
        return module, fingerprint
    if name in _importing:
        raise ConfigError(
            f"{given}: the file uses bnexp while it is imported; put what is to run as a script under "
            'if __name__ == "__main__".'
        )
    _drop(place)
    _importing.add(name)
    try:
        with on_stderr(), _without_bytecode():
            module = importlib.import_module(name) if place.module else _run_file(place.path, name)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        hint = "; a file of a package is named as a module, like my_package.nets:build" if _is_relative(error) else ""
        raise ConfigError(f"{given} cannot be imported: {blame(error, place.source.files)}{hint}.") from error
    finally:
        _importing.discard(name)
    source = read_source(place.path, place.module)  # again: the code may have told Python where its other files are
    _imported[name] = module, source.fingerprint
    return _imported[name]


@contextmanager
def _without_bytecode() -> Iterator[None]:
    """Inside, imports leave no bytecode: Python takes it for current if a file changes within a second to the same size."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _run_file(path: Path, name: str) -> ModuleType:
    """Import a file by its path, under a name that no other module has."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for their module there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _drop(place: _Place) -> None:
    """Forget modules that are, or are named as, the code's files, unless they were imported here from the same texts."""
    if is_installed(place.path):
        return
    names = {name: path for name, path in place.source.files.items() if name}
    texts = {name: (path, sha256(path.read_bytes()).hexdigest()) for name, path in names.items()}
    if any(_texts.get(name) != text for name, text in texts.items()):
        for name in names:
            sys.modules.pop(name, None)
        _texts.update(texts)
    sys.modules.pop(place.module, None)


def _is_relative(error: BaseException) -> bool:
    return isinstance(error, ImportError) and "relative import" in str(error)


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
