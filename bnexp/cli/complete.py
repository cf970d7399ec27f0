"""Shell completion of overrides: ``norm=<TAB>`` offers the group's files, ``optim.<TAB>`` the keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from bnexp.config.keys import schema_keys


def overrides(incomplete: str) -> list[tuple[str, str]]:
    """Completions of one override, each with a short help text."""
    from bnexp.plan.session import groups

    name, equals, value = incomplete.partition("=")
    files = groups()
    keys = {info.name: info for info in schema_keys()}
    if equals:
        choices = files.get(name) or (keys[name].choices if name in keys else [])
        return [(f"{name}={choice}", "") for choice in choices if choice.startswith(value)]
    offers = [(f"{group}=", "config group") for group in files if group.startswith(name)]
    return offers + [(f"{key}=", info.help) for key, info in keys.items() if key.startswith(name)]


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
