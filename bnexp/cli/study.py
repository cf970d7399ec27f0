"""``bnexp study``: runs a controlled comparison of arms x factors x seeds, then prints the verdict and writes the report."""

from __future__ import annotations

from typing import Annotated

import typer

from bnexp.cli import complete, hydra_options
from bnexp.cli.output import SOME_FAILED, CsvFlag, Format, JsonFlag, LatexFlag, MdFlag, pick_format
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
    until_settled: Annotated[
        bool,
        typer.Option(
            "--until-settled", help="Add seeds until the study is settled. The tests stay valid however often one looks."
        ),
    ] = False,
    max_seeds: Annotated[
        int | None,
        typer.Option(
            "--max-seeds", metavar="N", min=6, max=200, help="Largest number of seeds of --until-settled; 40 without it."
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="How long seeds may be added, like 30m. With --all it is spent where it settles most."
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The same as the override budget=NAME.", autocompletion=complete.files("budget")),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs, their time and memory; train none.")] = False,
    config_dir: hydra_options.ConfigDir = None,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
    latex: LatexFlag = False,
) -> None:
    """Run a controlled comparison and say what it shows. Finished runs are never repeated.

    An override with several values (optim.lr=0.01,0.1) becomes a factor. Example: bnexp study batchnorm data=digits

    Of a network of your own: bnexp study batchnorm model=python model.factory=FILE.py:FUNCTION model.args.width=32
    """
    del config_dir  # set already
    format = pick_format(json, csv, md, latex)
    chosen = [*(overrides or []), *([f"budget={budget}"] if budget else [])]
    if name is None and not every:
        from bnexp.cli.studies import print_studies

        return print_studies(format, chosen)
    if every or dry_run:
        from bnexp.run.seeds import growing, parse_time

        if time is not None:
            parse_time(time)  # refuses what is no duration before anything is listed
        chosen += growing(chosen, until_settled or time is not None, max_seeds)
    if every:
        return _all(name, chosen, format, time, dry_run)
    assert name is not None
    if "=" in name:
        raise ConfigError(f"{name} is an override, but the study's name comes first: bnexp study batchnorm {name}.")
    if dry_run:
        from bnexp.cli.planned import print_plan

        return print_plan(name, chosen, format)
    from bnexp.cli.printed import Printed
    from bnexp.run.study import run_study

    result = run_study(name, chosen, until_settled=until_settled, max_seeds=max_seeds, time=time, listener=Printed(format))
    if went_wrong(result):
        raise typer.Exit(SOME_FAILED)


def _all(name: str | None, overrides: list[str], format: Format, time: str | None, dry_run: bool) -> None:
    """Run or list every study. In place of a name there may be one more override."""
    from bnexp.cli import book

    if name is not None and "=" not in name:
        raise ConfigError(f"--all runs every study: leave out {name}, or leave out --all.")
    chosen = [*([name] if name else []), *overrides]
    return book.print_plans(chosen, format) if dry_run else book.run_all(chosen, format, time)
