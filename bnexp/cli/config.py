"""``bnexp config``: the resolved configuration of a run, or what every key means."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bnexp.cli import complete, hydra_options
from bnexp.cli.output import CsvFlag, Format, JsonFlag, MdFlag, pick_format, print_json, print_rows
from bnexp.config.keys import schema_keys
from bnexp.config.schema import ConfigError, RunConfig


def config(
    overrides: complete.Overrides = None,
    keys: Annotated[bool, typer.Option("--keys", help="List every key with its default, allowed values and meaning.")] = False,
    config_dir: hydra_options.ConfigDir = None,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
) -> None:
    """Show the resolved configuration of a run without running it.

    An interpolation, like ${oc.env:NAME}, is shown as its value, which is what a run records.
    """
    del config_dir  # set already
    format = pick_format(json, csv, md)
    if keys and overrides:
        raise ConfigError(f"--keys lists all keys with their defaults: leave out {overrides[0]}, or leave out --keys.")
    if keys:
        defaults = RunConfig()
        rows = [
            {"key": info.name, "default": _default(defaults, info.name), "allowed": info.allowed(), "meaning": info.help}
            for info in schema_keys()
        ]
        print_rows(rows, format)
        return
    if format in (Format.csv, Format.md):
        raise ConfigError(f"--{format} goes with --keys; a configuration is printed as YAML, or as JSON with --json.")
    import yaml

    from bnexp.plan.compose import compose
    from bnexp.plan.spec import RunSpec

    spec = RunSpec(compose(overrides or []))
    tree = {"run_id": spec.run_id, **spec.to_dict()}
    if format is Format.json:
        print_json(tree)
    else:
        sys.stdout.write(f"# run id {tree.pop('run_id')}\n" + yaml.safe_dump(tree, sort_keys=False))


def _default(defaults: RunConfig, name: str) -> str:
    """The default of a dotted key, as text."""
    value: object = defaults
    for part in name.split("."):
        value = getattr(value, part)
    return "null" if value is None else str(value)
