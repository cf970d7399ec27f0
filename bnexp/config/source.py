"""Which Python files code of the user consists of, found from their text: nothing is imported or run for it.

A factory is covered by the file that it is named in, and by every file that this one imports, directly or through such files,
in any statement ``import`` or ``from ... import``, also inside functions. Not covered are Python's own library and installed
packages, bnexp, files that are imported by a name made at run time, and files that the code reads. A factory of an installed
package is covered by all Python files of that package.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path

INSTALLED = ("site-packages", "dist-packages")  # folders of installed packages
OURS = "bnexp"  # changes with its version, not with the user's network


@dataclass(frozen=True)
class Source:
    """The files of a factory.

    Args:
        files: module name -> its file; the factory's own file has the empty name, so that it may be moved or renamed.
        fingerprint: hash of these names and of the texts of the files.
    """

    files: dict[str, Path]
    fingerprint: str


def read_source(path: Path, module: str = "") -> Source:
    """The files that a factory consists of.

    Args:
        path: its own file.
        module: the name that the file is imported by; empty if it is loaded by its path.

    Raises:
        OSError: a file cannot be read.
    """
    if module and is_installed(path):
        return _read_installed(path, module)
    importlib.invalidate_caches()  # a file may be new
    parents = [module.rsplit(".", depth)[0] for depth in range(module.count("."), 0, -1)]  # their __init__.py runs too
    files, todo = {"": path}, [*parents, *_imported(path, module)]
    packages, seen = {""}, {module, OURS}
    while todo:
        name = todo.pop(0)
        if name in seen or name.rpartition(".")[0] not in packages:
            continue
        seen.add(name)
        spec = find_module(name)
        if spec is None or any(is_installed(Path(place)) for place in [spec.origin, *_folders(spec)] if place):
            continue
        if _folders(spec):
            packages.add(name)
        if spec.origin and spec.origin.endswith(".py"):
            files[name] = Path(spec.origin).resolve()
            todo += _imported(files[name], name)
    return Source(files, _hash(files))


@cache
def _read_installed(path: Path, module: str) -> Source:
    """The files of an installed package, in which nothing changes while a command runs."""
    package = module.partition(".")[0]
    folder = next((parent for parent in path.parents if parent.name == package), None)
    others = sorted(folder.rglob("*.py")) if folder else []
    files = {"": path} | {other.relative_to(folder.parent).as_posix(): other for other in others if folder}
    return Source(files, _hash(files))


def _hash(files: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        text = file.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{name} {len(text)}\n".encode() + text)
    return digest.hexdigest()[:12]


def functions_in(path: Path, least: int = 0) -> list[str]:
    """The names of the functions of a file that take at least so many arguments by position, read from its text."""
    with suppress(OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        found = [node for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.FunctionDef)]
        return [
            node.name
            for node in found
            if not node.name.startswith("_") and (node.args.vararg or len(node.args.posonlyargs + node.args.args) >= least)
        ]
    return []


def is_installed(path: Path) -> bool:
    """Whether a file belongs to an installed package or to Python's own library."""
    own = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    return any(part in INSTALLED for part in path.parts) or any(folder in path.parents for folder in own)


def find_module(name: str) -> ModuleSpec | None:
    """What Python would import by this dotted name, without importing it, and whatever it has imported already."""
    folders, spec = None, None
    for depth in range(1, name.count(".") + 2):
        part = ".".join(name.split(".")[:depth])
        spec = _find_part(part, folders)
        if spec is None:
            return None
        folders = _folders(spec)
    return spec


def _find_part(name: str, folders: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        with suppress(Exception):  # a finder of another tool
            if spec := finder.find_spec(name, folders):
                return spec
    inside = [Path(folder, name.rpartition(".")[2]) for folder in folders or ()]
    if not any(path.is_dir() for path in inside):
        return None
    spec = ModuleSpec(name, None, is_package=True)  # without __init__.py; Python itself must import the outer one to find it
    spec.submodule_search_locations = [str(path) for path in inside if path.is_dir()]
    return spec


def _folders(spec: ModuleSpec) -> list[str]:
    """Where the modules of a package are; empty for what is no package."""
    return list(spec.submodule_search_locations or ())


def _imported(path: Path, module: str) -> list[str]:
    """The names of all modules that a file imports; some may be names of what is inside a module."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return [name for level, base, names in _statements(path.read_bytes()) for name in _absolute(level, base, names, package)]


def _absolute(level: int, base: str, names: tuple[str, ...], package: str) -> Iterator[str]:
    parts = package.split(".") if package else []
    start = parts[: len(parts) - level + 1] if level else []
    origin = ".".join([*start, *([base] if base else [])])
    for name in (origin, *(f"{origin}.{name}" for name in names)):
        whole = name.strip(".").split(".")
        yield from (".".join(whole[: depth + 1]) for depth in range(len(whole)) if whole[0])


@lru_cache(maxsize=1000)
def _statements(text: bytes) -> tuple[tuple[int, str, tuple[str, ...]], ...]:
    """The import statements of a file: level, module, names. Empty if it is no Python: importing it will say so."""
    found: list[tuple[int, str, tuple[str, ...]]] = []
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", tuple(alias.name for alias in node.names if alias.name != "*")))
    return tuple(found)
