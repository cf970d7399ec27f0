"""The subcommands of ``bnexp``. Each has a file of its own, and none imports anything heavy at module level."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from functools import cache
from typing import Annotated

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command

import bnexp
from bnexp.cli import (
    bench,
    compare,
    config,
    data,
    diff,
    doctor,
    imports,
    predict,
    publish,
    report,
    runs,
    show,
    study,
    sweep,
    train,
)
from bnexp.cli.meant import refuse_foreign
from bnexp.cli.output import FAILED, OK, WRONG_USE, LogMessages, message
from bnexp.cli.usage import usage_sentence
from bnexp.config.schema import ConfigError
from bnexp.config.typed import as_typed
from bnexp.terminal import shortened

app = typer.Typer(
    name="bnexp",
    help="Does batch normalisation help here: with or without it, before or after the activation, at which learning rate, "
    "and how sure are we? Start with: bnexp study batchnorm data=digits",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"bnexp {bnexp.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; allowed anywhere on the command line.")
    ] = False,
) -> None:
    del version, debug


app.command("study")(study.study)
app.command("train")(train.train)
app.command("sweep")(sweep.sweep)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("publish")(publish.publish)
app.command("runs")(runs.runs)
app.command("predict")(predict.predict)
app.command("import")(imports.import_)
app.command("show")(show.show)
app.command("diff")(diff.diff)
app.command("data")(data.data)
app.command("config")(config.config)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)


@cache
def _group() -> TyperGroup:
    """What Typer makes of the functions. It reads all their annotations, which takes longer than most commands."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def run() -> int:
    """Run the command of ``sys.argv`` and return its exit code. Every error that a user can cause becomes one sentence."""
    logging.lastResort = LogMessages(logging.WARNING)  # unless a program that calls bnexp has its own handlers
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        group = _group()
        refuse_foreign(group, sys.argv[1:])
        code = group(standalone_mode=False)
        return code if isinstance(code, int) else OK
    except SystemExit as exit:
        return int(exit.code or OK)
    except TyperException as error:
        if not error.format_message():  # bnexp alone: Typer has printed the help
            return WRONG_USE
        return _fail(f"Error: {usage_sentence(error)}", WRONG_USE, debug)
    except ConfigError as error:
        return _fail(f"Error: {error}", WRONG_USE, debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains once more as it ends
        return FAILED
    except OSError as error:
        from bnexp.tracking.store import runs_dir

        path = f" {error.filename}" if error.filename else ""
        return _fail(
            f"Error: the file or directory{path} cannot be used: {error.strerror or error}. Records go to BNEXP_RUNS_DIR "
            f"({runs_dir()}), packed data to BNEXP_CACHE_DIR; name a directory with free space that you may write to.",
            FAILED,
            debug,
        )
    except Exception as error:
        from bnexp.data.download import DataError, WrongData

        text = f"Error: {str(error) or type(error).__name__}"
        hint = "" if debug or isinstance(error, DataError) else " (--debug shows where)"
        return _fail(text + hint, WRONG_USE if isinstance(error, WrongData) else FAILED, debug)
    return OK


def _fail(text: str, code: int, debug: bool) -> int:
    if debug:
        message(as_typed(traceback.format_exc()))
    message(shortened(as_typed(text)))
    return code
