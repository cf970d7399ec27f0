"""Sweeps at W&B: registering a sweep file there, and working on one that is registered."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from bnexp.config.schema import ConfigError, WandbConfig
from bnexp.interrupt import tidied, wait_for
from bnexp.plan.session import session
from bnexp.plan.sweep.distribution import Parameter
from bnexp.plan.sweep.file import COMMAND, SweepFile, load_file
from bnexp.plan.sweep.points import SweepPlan, plan_sweep
from bnexp.terminal import one_line
from bnexp.tracking.initial import resolve_starts
from bnexp.tracking.store import Store, runs_dir
from bnexp.tracking.wandb.access import key_configured, requested_mode

MACROS = "${args"  # what W&B replaces by the parameters begins so
STOP_SECONDS = 60.0  # that agents have to finish after Ctrl-C


class RemoteError(Exception):
    """W&B did not do what was asked; the message says why."""


def register(name: str, overrides: Sequence[str], count: int | None = None, seeds: int | None = None) -> dict[str, str]:
    """Register a sweep with W&B, after every check that a local sweep makes.

    Args:
        name: name or path of the sweep file.
        overrides: Hydra overrides that all runs share. They become part of the registered command.
        count: largest number of runs, instead of ``run_cap`` of the file; None: that of the file.
        seeds: number of seeds, which become one more parameter; None: those of the file, else one.

    Returns:
        ``sweep`` (``entity/project/id``, or what of it is known) and ``url`` (empty if it is not known).

    Raises:
        ConfigError: the file or an override is not possible, or W&B is off or has no key.
        RemoteError: W&B did not take the sweep.
    """
    file = load_file(name)
    with session(resolve_starts(list(overrides), Store())) as hydra:
        plan = plan_sweep(hydra, file, seeds, 0)
        config = plan.middle()[0].config
    if file.early_terminate is not None and file.early_terminate.kind != "hyperband":
        raise ConfigError(f"{file.name}: early_terminate {file.early_terminate.kind} exists only here; W&B has hyperband.")
    wandb_config = config.track.wandb
    with _online(wandb_config) as wandb, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of wandb about itself
        content = definition(file, plan, count)
        project = None if os.environ.get("WANDB_PROJECT") else content.get("project", wandb_config.project)
        entity = None if os.environ.get("WANDB_ENTITY") else content.get("entity", wandb_config.entity)
        sweep_id = wandb.sweep(content, project=project, entity=entity)
        api = wandb.Api()
        entity, project = api.settings["entity"] or api.default_entity, api.settings["project"]
        url = f"{wandb.setup().settings.app_url}/{entity}/{project}/sweeps/{sweep_id}"
    return {"sweep": f"{entity}/{project}/{sweep_id}", "url": url}


def definition(file: SweepFile, plan: SweepPlan, count: int | None) -> dict[str, Any]:
    """The sweep file as W&B gets it: with the overrides in its parameters and in its command.

    Args:
        file: the sweep file.
        plan: the sweep with its overrides.
        count: largest number of runs; None: that of the file.
    """
    fixed = {item.partition("=")[0] for item in plan.overrides}
    given: dict[str, Any] = {name: _typed(item) for name, item in file.raw["parameters"].items() if name not in fixed}
    given |= {name: _listed(item) for name, item in plan.parameters.items() if item != file.parameters.get(name)}
    command = [str(word) for word in file.raw.get("command") or COMMAND]
    place = next((number for number, word in enumerate(command) if word.startswith(MACROS)), len(command))
    own_seeds = {"seed": {"values": plan.seeds}} if "seed" not in given and len(plan.seeds) > 1 else {}
    one_seed = [f"seed={plan.seeds[0]}"] if len(plan.seeds) == 1 and plan.seeds != [0] else []
    command[place:place] = [*plan.overrides, *one_seed]
    found = {"name": file.name, **file.raw, "parameters": given | own_seeds, "command": command}
    return found | ({"run_cap": count} if count else {})


def _listed(item: Parameter) -> Mapping[str, Any]:
    """A parameter whose values the overrides list."""
    return _typed({"values": list(item.values)})


def _typed(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """A parameter with null as a word: W&B's agent writes the value null as None, which is no null for Hydra."""
    return {
        key: ["null" if value is None else value for value in item] if key == "values" else "null" if item is None else item
        for key, item in given.items()
    }


@contextmanager
def _online(config: WandbConfig) -> Iterator[Any]:
    """wandb, with its prints on stderr and its errors as one sentence. Raises ConfigError if it is off or has no key."""
    if (mode := requested_mode(config)) in ("disabled", "offline"):
        raise ConfigError(f"W&B is {mode} (WANDB_MODE or track.wandb.mode), and a sweep there needs it online.")
    try:
        import wandb
    except Exception as error:  # a damaged package can raise anything
        raise ConfigError(
            f"wandb cannot be used ({one_line(error)}); repair it: pip install --force-reinstall wandb."
        ) from error
    settings = wandb.setup().settings
    if not (settings.api_key or key_configured(settings.base_url)):
        raise ConfigError("W&B has no API key here, and a sweep there needs one; log in with: wandb login")
    try:
        with redirect_stdout(sys.stderr):
            yield wandb
    except ConfigError:
        raise
    except Exception as error:
        raise RemoteError(f"W&B did not take the sweep: {one_line(error)}") from error


def work(sweep_id: str, count: int | None = None, parallel: int = 1) -> int:
    """Work on a sweep that is registered with W&B, until it has no more points.

    W&B's own agent asks for points and starts ``bnexp train`` for each. A point that is recorded already is not trained again
    but sent to W&B from its record. After Ctrl-C the runs in training end cleanly; the same command goes on with the sweep.

    Args:
        sweep_id: ``entity/project/id``, or its last parts.
        count: largest number of points; None: until the sweep ends.
        parallel: number of agents.

    Returns:
        The largest exit code of an agent.

    Raises:
        ConfigError: this is no id, or W&B is off or has no key.
        RemoteError: an agent was killed.
    """
    if not re.fullmatch(r"[^/\s]+(/[^/\s]+){0,2}", sweep_id):
        raise ConfigError(
            f"{sweep_id} is no id of a sweep: allowed is ENTITY/PROJECT/ID, as bnexp sweep NAME --wandb prints it, or its end."
        )
    with _online(WandbConfig()):
        pass
    shares = [None] * parallel if count is None else [count // parallel + (k < count % parallel) for k in range(parallel)]
    agents = [_start(sweep_id, share) for share in shares if share != 0]
    with tidied():
        try:
            codes = wait_for(agents)
        except KeyboardInterrupt:
            _stop(agents)
            raise
    if killed := [-code for code in codes if code < 0]:
        raise RemoteError(
            f"{len(killed)} of {len(codes)} agents died of signal {killed[0]}; a run that it had started trains on and is "
            "recorded. The same command goes on with the sweep."
        )
    return max(codes)


def _stop(agents: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let agents end their runs as interrupted ones: for W&B a run that SIGTERM ends is one that the sweep wanted to end.

    An agent that takes longer than ``STOP_SECONDS`` is killed.
    """
    for agent in agents:
        agent.send_signal(signal.SIGINT)
    latest = time.monotonic() + STOP_SECONDS
    for agent in agents:
        try:
            agent.wait(max(0.0, latest - time.monotonic()))
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()


def _start(sweep_id: str, count: int | None) -> subprocess.Popen[bytes]:
    """Start one of W&B's agents. It gets no Ctrl-C of the terminal: that would end it before its run."""
    environment = dict(os.environ)
    environment.setdefault("WANDB_DIR", str(runs_dir().resolve()))
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])  # finds bnexp
    Path(environment["WANDB_DIR"]).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "bnexp.run.sweep.agent", sweep_id, *([str(count)] if count else [])]
    return subprocess.Popen(command, env=environment, start_new_session=True)
