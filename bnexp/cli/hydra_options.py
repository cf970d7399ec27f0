"""Hydra's own options, such as ``--cfg job``: those that are natural here, and what to use instead of the others."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bnexp.cli.output import Format, print_json
from bnexp.config.schema import ConfigError


def _add_directory(path: Path | None) -> Path | None:
    """Let a directory count before those of ``BNEXP_CONFIG_PATH``, also in processes that train."""
    if path is not None:
        if not path.is_dir():
            raise ConfigError(f"--config-dir {path} is not a directory; name the one that holds your config groups.")
        known = os.environ.get("BNEXP_CONFIG_PATH", "")
        os.environ["BNEXP_CONFIG_PATH"] = os.pathsep.join(filter(None, [str(path.resolve()), known]))
    return path


def _value(typed: str | None) -> str | None:
    """The value of a short option, which may stand behind ``=`` with Hydra but not with Typer."""
    return typed.removeprefix("=") if typed else typed


ConfigDir = Annotated[
    Path | None,
    typer.Option(
        "--config-dir",
        "-cd",
        metavar="DIR",
        help="A directory of your own config groups, as in BNEXP_CONFIG_PATH.",
        callback=_add_directory,
        is_eager=True,
    ),
]
Cfg = Annotated[
    str | None,
    typer.Option(
        "--cfg",
        "-c",
        metavar="job|hydra|all",
        help="Print the configuration instead: of the job, of Hydra, or both.",
        callback=_value,
    ),
]
Package = Annotated[
    str | None, typer.Option("--package", "-p", metavar="KEY", help="Only this part of --cfg.", hidden=True, callback=_value)
]
Resolve = Annotated[bool, typer.Option("--resolve", help="Interpolations of --cfg as their values.", hidden=True)]
Run = Annotated[bool, typer.Option("--run", "-r", help="One run, which is what happens without -m.", hidden=True)]

_INFO = "bnexp doctor says what is installed, bnexp config what is composed, and bnexp train --cfg hydra what Hydra is set to"
_NAME = (
    "the first file is always bnexp's own; put your values into a file of a config group, such as "
    "DIR/hparams_search/NAME.yaml, and choose it: --config-dir DIR hparams_search=NAME"
)
# Option of Hydra that bnexp has not -> what to use.
INSTEAD = {
    "--info": _INFO,
    "-i": _INFO,
    "--hydra-help": "bnexp train --help lists the options, bnexp config --keys the keys, bnexp train --cfg hydra Hydra's own",
    "--config-name": _NAME,
    "-cn": _NAME,
    "--config-path": "--config-dir DIR adds a directory of config groups",
    "-cp": "--config-dir DIR adds a directory of config groups",
    "--experimental-rerun": "the same command finds its finished runs again; bnexp show RUN prints a run's configuration",
    "--shell-completion": "bnexp --install-completion installs it",
    "-sc": "bnexp --install-completion installs it",
}
# Option of Hydra that bnexp train has -> what to use with other commands.
ELSEWHERE = {
    "-m": "bnexp train -m runs a multirun; on a study, several values add a factor: bnexp study NAME optim.lr=0.01,0.1",
    "--cfg": "bnexp config study=NAME shows its configuration, and bnexp study NAME --dry-run lists its runs",
}
ELSEWHERE |= {"--multirun": ELSEWHERE["-m"], "-c": ELSEWHERE["--cfg"]}
ACCEPTED = ("--config-dir", "-cd", "--cfg", "-c", "--package", "-p", "--resolve", "--run", "-r", "-m", "--multirun")


def refuse_hydra_options(command: str, rest: Sequence[str], known: set[str]) -> None:
    """Raise ConfigError for the first option of Hydra's that a command does not have, with what to use.

    Args:
        command: its name.
        rest: what is typed behind it.
        known: the options that it has.
    """
    for word in rest:
        option = word.partition("=")[0]
        if option == "--":
            return
        if option not in known and (instead := INSTEAD.get(option) or ELSEWHERE.get(option)):
            raise ConfigError(f"bnexp {command} has no {option}: {instead}.")


def refuse_before_command(word: str, command: str, known: Collection[str]) -> None:
    """Raise ConfigError for an override, or an option of Hydra's or the command's, that stands before the command.

    Args:
        word: the first one on the command line.
        command: the command that follows.
        known: the options that it has.
    """
    if not word.startswith("-") or word.partition("=")[0] in (*ACCEPTED, *INSTEAD, *known):
        raise ConfigError(f"{word} stands before the command; write it behind: bnexp {command} ... {word}.")


def print_composed(overrides: Sequence[str], what: str, package: str | None, resolve: bool, format: Format) -> None:
    """Print what Hydra's ``--cfg`` asks for.

    Args:
        overrides: as the user gave them.
        what: ``job``, ``hydra`` or ``all``.
        package: the dotted key of the part to print; None: everything.
        resolve: print Hydra's own interpolations as their values. Those of the job are always resolved, as a run records them.
        format: YAML for a table, or JSON.

    Raises:
        ConfigError: it cannot be composed, or there is no such part.
    """
    import yaml

    from bnexp.plan.compose import compose
    from bnexp.plan.session import hydra_tree
    from bnexp.plan.spec import RunSpec

    if what not in ("job", "hydra", "all"):
        raise ConfigError(f"--cfg {what} is not possible: allowed are job, hydra, all.")
    if format not in (Format.table, Format.json):
        raise ConfigError(f"--{format} does not go with --cfg; a configuration is printed as YAML, or as JSON with --json.")
    tree: Any = {} if what == "hydra" else RunSpec(compose(overrides)).to_dict()
    if what != "job":
        tree = {**tree, "hydra": hydra_tree(overrides, resolve=resolve)}
    for part in package.split(".") if package and package != "_global_" else ():
        if not isinstance(tree, dict) or part not in tree:
            raise ConfigError(f"--package {package} names no part of the configuration; see all with --cfg {what}.")
        tree = tree[part]
    if format is Format.json:
        print_json(tree)
    else:
        sys.stdout.write(yaml.safe_dump(tree, sort_keys=False) if isinstance(tree, dict | list) else f"{tree}\n")
