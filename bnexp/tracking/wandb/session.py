"""The connection to Weights & Biases: which mode works, opening and finishing runs, and what to tell the user.

Nobody is ever asked for a key. If the server is away or refuses, the session goes offline within seconds. A ``WANDB_*``
variable that the user has set wins over every argument given here; only ``track.wandb.mode`` wins over ``WANDB_MODE``.
"""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexp.config.schema import WandbConfig
from bnexp.terminal import one_line
from bnexp.tracking.wandb import server, service
from bnexp.tracking.wandb.access import PLAIN_MODE, key_configured, requested_mode
from bnexp.tracking.wandb.content import with_environment
from bnexp.tracking.wandb.offline import Destination

if TYPE_CHECKING:
    import wandb

# Waiting for the server is bounded.
_BOUNDED: dict[str, Any] = {"finish_timeout": 60.0, "finish_timeout_raises": True, "init_timeout": 20.0, "silent": True}

# What W&B itself would record of machine, console and code; unless ``track.wandb.machine``.
_LEAN: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "save_code": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}

# What is not given if the user says it by a variable; ``content.with_environment`` knows the others.
_VARIABLES = {
    "name": "WANDB_NAME",
    "id": "WANDB_RUN_ID",
    "dir": "WANDB_DIR",
    "resume": "WANDB_RESUME",
}


class WandbSession:
    """Opens and finishes W&B runs in the mode that works: online if possible, else offline.

    ``messages`` collects what the user should know; ``report`` adds where the runs are and how to upload them.

    Args:
        config: mode, project, entity.
        directory: where the folder ``wandb`` goes; None: the working directory. WANDB_DIR wins over it.
    """

    _told_unusable = False  # the line is said once in a process, whichever session finds out

    def __init__(self, config: WandbConfig, directory: Path | None = None) -> None:
        self.config = with_environment(config)
        self.directory = directory
        self.messages: list[str] = []
        self._lock = threading.Lock()
        self.unsynced: list[Path] = []  # folders of runs that are on disk only
        self._incomplete: list[Path] = []  # folders of online runs
        self._project_url = ""
        self._went_offline = False
        self._stuck: set[str] = set()  # ids of runs that wandb could not open; it does not give them back

    @property
    def disabled(self) -> bool:
        """Whether nothing is recorded: W&B is switched off, or wandb cannot be used.

        It imports wandb only if neither a variable nor the configuration switches it off. It asks no server.
        """
        return requested_mode(self.config) == "disabled" or self._settings_mode == "disabled"

    @property
    def online(self) -> bool:
        """Whether runs go to the server. The first look may ask the server, for 10 s at most."""
        return self._configured_mode == "online" and not self._went_offline

    @property
    def destination(self) -> Destination:
        """Where runs go that are written offline."""
        folder = Path(os.environ.get("WANDB_DIR") or self.directory or ".") / "wandb"
        return Destination(folder, self.config.project, self.config.entity)

    def found(self, url: str) -> None:
        """Note the address of a run that the server has, for ``report``."""
        self._project_url = self._project_url or url.partition("/runs/")[0]

    def wrote(self, folder: Path) -> None:
        """Note that a run was written offline, for ``report``."""
        with self._lock:
            self.unsynced.append(folder)

    @cached_property
    def _settings(self) -> wandb.Settings | None:
        """W&B's settings after a look at its settings files; None if wandb is missing or broken."""
        try:
            _drop_empty_variables()
            service.prepare(self.destination.folder)
            wanted = _lean_settings(self.config.machine)
            requested = requested_mode(self.config)
            if requested != "auto":
                wanted["mode"] = requested
            return service.settings(wanted)
        except (Exception, SystemExit) as error:  # a damaged package can raise anything while it is imported
            if not WandbSession._told_unusable:
                WandbSession._told_unusable = True
                self.messages.append(
                    f"W&B: wandb cannot be used ({type(error).__name__}: {one_line(error)}), so runs are recorded here only; "
                    "repair it with pip install --force-reinstall wandb, or do without it by track.wandb.mode=disabled."
                )
            return None

    @property
    def _settings_mode(self) -> str:
        mode = self._settings.mode if self._settings is not None else "disabled"
        return PLAIN_MODE.get(mode, mode)

    @cached_property
    def _configured_mode(self) -> str:
        """The mode after a look at the key, and at whether the server takes it."""
        if self._settings_mode != "online":
            return self._settings_mode
        return "online" if self._has_key() and self._is_let_in() else "offline"

    def _has_key(self) -> bool:
        settings = self._settings
        found = settings is not None and bool(settings.api_key or key_configured(settings.base_url))
        if not found and requested_mode(self.config) == "online":
            self.messages.append("W&B: no API key is configured, so runs are recorded offline; log in with `wandb login`.")
        return found

    def _is_let_in(self) -> bool:
        """Whether the server takes the key; it has 10 s to answer."""
        import wandb

        try:
            wandb.login(verify=True)
        except Exception as error:
            self.messages.append(f"W&B: no access, so runs are recorded offline: {server.meaning(error)}.")
            return False
        return True

    def open(self, arguments: Mapping[str, Any], *, alone: bool, anew: bool = False) -> wandb.Run:
        """Open a W&B run; one that the server has already goes on. If a deleted run had its id, it gets a suffix.

        Args:
            arguments: for ``wandb.init``, with ``id``.
            alone: whether it is the only run, so that WANDB_NAME, WANDB_RUN_ID and WANDB_RESUME are meant for it.
            anew: whether what the server has of it is replaced.
        """
        os.environ.setdefault("WANDB_DATA_DIR", str(self.destination.folder))  # files wait for their upload beside the runs
        given = self._arguments(arguments, alone)
        given["id"] = given.get("id") or os.environ.get("WANDB_RUN_ID") or arguments["id"]
        with self._lock:  # threads open runs side by side; one of them asks the server
            online = self.online
            if not alone and self._settings is not None:
                self._settings.sweep_id = None  # else wandb gives every run the id of the sweep's one
        if online:
            try:
                run = service.with_core(lambda: self._open_online(given, anew))
            except Exception as error:
                self._note(error)
            else:
                self._project_url = run.project_url or self._project_url
                return run
        given.pop("resume", None)
        if given["id"] in self._stuck:
            given["id"] = server.other_id(given["id"])
        return service.with_core(lambda: _init({**given, "mode": "offline"}))

    def _open_online(self, given: Mapping[str, Any], anew: bool) -> wandb.Run:
        try:
            run_id = self._claimed(given)
            self._stuck.add(run_id)
            kept = {name: value for name, value in given.items() if not (anew and name == "resume")}
            run = _init({**kept, "id": run_id})
            self._stuck.discard(run_id)
            return run
        except Exception as error:
            if service.has_ended(error):
                self.__dict__.pop("_api", None)  # it knows the old process
            raise

    def _claimed(self, given: Mapping[str, Any]) -> str:
        """The id of a run that the server takes. In a sweep it has chosen it; WANDB_RESUME may ask that there is none yet."""
        if "resume" not in given:
            return str(given["id"])
        settings = self._settings
        assert settings is not None
        project, entity = (given.get(name) or getattr(settings, name) for name in ("project", "entity"))
        with self._lock:
            api = self._api
        return server.claim(api, given["id"], project, entity)

    @cached_property
    def _api(self) -> wandb.Api:
        import wandb

        return wandb.Api(timeout=server.SECONDS)

    def _arguments(self, arguments: Mapping[str, Any], alone: bool) -> dict[str, Any]:
        import wandb

        config = self.config
        more = {"project": config.project, "entity": config.entity, "dir": self.directory, "resume": "allow"}
        user_sets = {name for name, variable in _VARIABLES.items() if os.environ.get(variable)}
        if not alone:
            user_sets -= {"name", "id", "resume"}
        if alone and os.environ.get("WANDB_SWEEP_ID"):  # the sweep's agent says where its runs belong
            user_sets |= {"project", "entity", "id", "resume"}
        given = {name: value for name, value in {**more, **arguments}.items() if name not in user_sets and value is not None}
        return given | {"reinit": "create_new", "settings": wandb.Settings(**_lean_settings(self.config.machine))}

    def _note(self, error: Exception) -> None:
        """Say once what went wrong. Without the server all later runs are offline; a process that has died is started again."""
        with self._lock:
            if service.has_ended(error):
                told = f"W&B: {server.meaning(error)}; a new one is started."
            else:
                told = f"W&B: a run could not be sent ({server.meaning(error)}), so the rest is recorded offline."
                if self._went_offline:
                    return
                self._went_offline = True
            if told not in self.messages:
                self.messages.append(told)

    def finish(self, run: wandb.Run, exit_code: int) -> bool:
        """End a W&B run. What the server did not take stays on disk, and ``report`` names the command that sends it.

        Args:
            run: as ``open`` gave it.
            exit_code: 0 if the run has finished.

        Returns:
            Whether the server has all of it.
        """
        place, arrived = Path(run.settings.sync_dir), False
        try:
            run.finish(exit_code=exit_code)
            arrived = not run.offline and not service.gave_up(place)
        except Exception as error:
            self._note(error)
        else:
            if not (arrived or run.offline):
                server.mark_incomplete(self._api, run.path)
        if not arrived:
            with self._lock:
                (self.unsynced if run.offline else self._incomplete).append(place)
        return arrived

    def absorb(self, other: WandbSession) -> list[str]:
        """Take over where the runs of another session are, for ``report``; those of its messages that say something new.

        Every session looks again whether the server is there.
        """
        new = [line for line in other.messages if line not in self.messages]
        self.messages += new
        self.unsynced += other.unsynced
        self._incomplete += other._incomplete
        self._project_url = other._project_url or self._project_url
        return new

    def report(self) -> None:
        """Add to ``messages`` where the runs are, and how to send what the server lacks."""
        if self._project_url:
            self.messages.append(f"W&B: {self._project_url}")
        if count := len(self._incomplete):
            what = "1 run" if count == 1 else f"{count} runs"
            them = "it" if count == 1 else "them"
            self.messages.append(f"W&B: the server lacks part of {what}; send {them} with: bnexp publish")
        if self.unsynced:
            command = _sync_command(self.unsynced)
            what = "1 run is" if len(self.unsynced) == 1 else f"{len(self.unsynced)} runs are"
            self.messages.append(f"W&B: {what} recorded offline; upload with: {command}")
        self._project_url, self.unsynced, self._incomplete = "", [], []


def _drop_empty_variables() -> None:
    """Unset the variables of W&B that are set but empty. wandb takes an empty mode or run id for a wrong one."""
    for name in [name for name, value in os.environ.items() if name.startswith("WANDB_") and not value.strip()]:
        del os.environ[name]


def _init(arguments: Mapping[str, Any]) -> wandb.Run:
    import wandb

    run = wandb.init(**arguments)
    service.end_first()
    return run


def _lean_settings(machine: bool) -> dict[str, Any]:
    """Those of our settings that this version of wandb knows and that no variable of the user sets.

    Args:
        machine: whether W&B records machine, console and code.
    """
    import wandb

    def variable(name: str) -> str:
        return "WANDB__" + name.removeprefix("x_").upper() if name.startswith("x_") else "WANDB_" + name.upper()

    known = wandb.Settings.model_fields
    wanted = _BOUNDED if machine else _BOUNDED | _LEAN
    return {name: value for name, value in wanted.items() if name in known and variable(name) not in os.environ}


def _sync_command(places: Sequence[Path]) -> str:
    """The shell command that uploads these runs."""
    here = Path.cwd()
    paths = [path.relative_to(here) if path.is_relative_to(here) else path for path in places]
    folders = {path.parent for path in paths}
    if len(paths) > 3 and len(folders) == 1 and all(path.name.startswith("offline-run-") for path in paths):
        return f"wandb sync {shlex.quote(str(folders.pop()))}/offline-run-*"
    return "wandb sync " + " ".join(shlex.quote(str(path)) for path in paths)
