"""``bnexp study``: runs a controlled comparison of arms x factors x seeds, then prints the verdict and writes the report."""

from __future__ import annotations

from typing import Annotated

import typer

from bnexp.cli import complete
from bnexp.cli.output import SOME_FAILED, CsvFlag, JsonFlag, MdFlag, pick_format
from bnexp.cli.result import went_wrong
from bnexp.config.schema import ConfigError


def study(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Which study; without a name the studies are listed.", autocompletion=complete.files("study")
        ),
    ] = None,
    overrides: complete.Overrides = None,
    every: Annotated[bool, typer.Option("--all", help="Run every study in turn, then write the book of claims.")] = False,
    budget: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The same as the override budget=NAME.", autocompletion=complete.files("budget")),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs, their time and memory; train none.")] = False,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
) -> None:
    """Run a controlled comparison and say what it shows. Finished runs are never repeated.

    An override with several values (optim.lr=0.01,0.1) becomes a factor. Example: bnexp study batchnorm data=digits
    """
    format = pick_format(json, csv, md)
    chosen = [*(overrides or []), *([f"budget={budget}"] if budget else [])]
    if every:
        from bnexp.cli import book

        if name is not None and "=" not in name:
            raise ConfigError(f"--all runs every study: leave out {name}, or leave out --all.")
        (book.print_plans if dry_run else book.run_all)([*([name] if name else []), *chosen], format)
    elif name is None:
        from bnexp.cli.studies import print_studies

        print_studies(format, chosen)
    elif "=" in name:
        raise ConfigError(f"{name} is an override, but the study's name comes first: bnexp study batchnorm {name}.")
    elif dry_run:
        from bnexp.cli.planned import print_plan

        print_plan(name, chosen, format)
    else:
        from bnexp.cli.printed import Printed
        from bnexp.run.study import run_study

        if went_wrong(run_study(name, chosen, listener=Printed(format))):
            raise typer.Exit(SOME_FAILED)
