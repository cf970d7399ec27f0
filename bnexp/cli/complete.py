"""Shell completion: config groups, keys and their values (``norm=<TAB>``), studies, and what is recorded."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from bnexp.config.keys import ARGS, schema_keys

# Keys that name code of the user's -> how many arguments its functions take by position, at least.
LEAST_ARGUMENTS = {"model.factory": 4, "data.factory": 0}
Offers = list[tuple[str, str]]  # what can be typed, each with a short help text


def overrides(incomplete: str) -> Offers:
    """Completions of one override, each with a short help text.

    Bash takes ``=`` as a word of its own. There only what follows it is completed.
    """
    typed, before = _split_by_bash(incomplete)
    offers = _offers(typed)
    return [(offer.removeprefix(before), text) for offer, text in offers]


def _split_by_bash(incomplete: str) -> tuple[str, str]:
    """The override as typed so far, and the part of it that the shell keeps and does not complete."""
    if not os.environ.get("_BNEXP_COMPLETE", "").endswith("_bash"):
        return incomplete, ""
    words = os.environ.get("COMP_WORDS", "").split("\n")[: int(os.environ.get("COMP_CWORD", "0")) + 1]
    start = words[::-1].index("=") if "=" in words[-2:] else None
    if start is None or len(words) < start + 2:
        return incomplete, ""
    before = f"{words[-start - 2]}="
    return before + (words[-1] if start else ""), before


def _offers(typed: str) -> Offers:
    """What an override can go on as. A single key is offered with a value: no shell then puts a blank behind the ``=``."""
    from bnexp.plan.session import groups

    files, keys = groups(), {info.name: info for info in schema_keys()}
    name, equals, value = typed.partition("=")
    if name in LEAST_ARGUMENTS and equals:
        return [(f"{name}={code}", "") for code in _code(value, LEAST_ARGUMENTS[name])]
    if equals:
        choices = files.get(name) or (keys[name].choices if name in keys else [])
        several = value[: value.rfind(",") + 1]
        return [(f"{name}={several}{choice}", "") for choice in choices if f"{several}{choice}".startswith(value)]
    found = [(group, "config group") for group in files if group.startswith(name)]
    found += [(key, info.help) for key, info in keys.items() if key.startswith(name)]
    if len(found) > 1:
        return [(f"{key}=", text) for key, text in found]
    return [offer for key, text in found for offer in _offers(f"{key}=") or [(f"{key}=", text), _with_default(key)]]


def _code(typed: str, least: int) -> list[str]:
    """Functions in Python files, ``nets.py:build``, and folders to go on with. Files are read, and nothing in them runs."""
    from pathlib import Path

    from bnexp.config.source import functions_in

    folder = typed[: typed.rfind("/") + 1]
    found: list[str] = []
    for path in sorted(Path(folder or ".").expanduser().glob("[!._]*")):
        if path.is_dir():
            found.append(f"{folder}{path.name}/")
        elif path.suffix == ".py":
            found += [f"{folder}{path.name}:{function}" for function in functions_in(path, least)]
    return [code for code in found if code.startswith(typed)]


def _with_default(key: str) -> tuple[str, str]:
    from bnexp.config.schema import RunConfig
    from bnexp.plan.spec import flatten

    value: Any = flatten(RunConfig()).get(key, {} if key in ARGS else None)
    return f"{key}={'null' if value is None else value}", "the default"


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="OVERRIDE",
        help="Like data=cifar10 norm=batch optim.lr=0.1; bnexp config --keys lists all.",
        autocompletion=overrides,
    ),
]


def files(group: str) -> Callable[[str], list[str]]:
    """What completes the name of a file of a config group."""

    def complete(incomplete: str) -> list[str]:
        from bnexp.plan.session import groups

        return [name for name in groups().get(group, []) if name.startswith(incomplete)]

    return complete


def sweeps(incomplete: str) -> list[str]:
    """Completions of a sweep file, by its name."""
    from bnexp.plan.sweep.file import sweep_files

    return [name for name in sorted(sweep_files()) if name.startswith(incomplete)]


def recorded(incomplete: str) -> Offers:
    """Completions of what is recorded: studies by their name, runs by their id, each with where it lies."""
    return [*studies(incomplete), *runs(incomplete)]


def studies(incomplete: str) -> Offers:
    """Completions of a recorded study or sweep, by its name."""
    from bnexp.tracking.store import Store

    kinds = {"study": "[!.]*/study-*/study.json", "sweep": "[!.]*/sweep-*/sweep.json"}
    found = {path.parent.parent.name: kind for kind, places in kinds.items() for path in Store().root.glob(places)}
    return [(name, kind) for name, kind in sorted(found.items()) if name.startswith(incomplete)]


def runs(incomplete: str) -> Offers:
    """Completions of a recorded run, by its id."""
    from bnexp.tracking.store import Store

    found = (run for run in Store().folders() if run.run_id.startswith(incomplete))
    return [(run.run_id, f"run of {run.path.parent.name}") for run in found]
