"""Shell completion of overrides: ``norm=<TAB>`` offers the group's files, ``optim.<TAB>`` the keys."""

from __future__ import annotations

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


def studies(incomplete: str) -> list[str]:
    """Completions of a study's name."""
    from bnexp.plan.session import groups

    return [name for name in groups().get("study", []) if name.startswith(incomplete)]


def budgets(incomplete: str) -> list[str]:
    """Completions of a budget's name."""
    from bnexp.plan.session import groups

    return [name for name in groups()["budget"] if name.startswith(incomplete)]


def data(incomplete: str) -> list[str]:
    """Completions of a data set's name."""
    from bnexp.plan.session import groups

    return [name for name in groups()["data"] if name.startswith(incomplete)]
