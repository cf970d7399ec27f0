"""The connection to Weights & Biases: which mode works, opening and finishing runs, and what to tell the user.

Nobody is ever asked for a key. If the server is away or refuses, the session goes offline within seconds. A ``WANDB_*``
variable that the user has set wins over every argument given here.
"""

from __future__ import annotations

import netrc
import os
import secrets
import shlex
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bnexp.config.options import WandbMode
from bnexp.config.schema import ConfigError, WandbConfig

if TYPE_CHECKING:
    import wandb

# W&B's own hosts share one key; every other server has its own.
_PUBLIC_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")

# No console capture, machine statistics, code or git: they cost more than a small run. Waiting for the server is bounded.
_LEAN: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "finish_timeout": 60.0,
    "finish_timeout_raises": True,
    "init_timeout": 20.0,
    "save_code": False,
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}

_PLAIN_MODE = {"run": "online", "dryrun": "offline", "shared": "online"}

_VARIABLES = {
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "group": "WANDB_RUN_GROUP",
    "job_type": "WANDB_JOB_TYPE",
    "name": "WANDB_NAME",
    "id": "WANDB_RUN_ID",
    "tags": "WANDB_TAGS",
    "dir": "WANDB_DIR",
    "resume": "WANDB_RESUME",
}


def requested_mode(config: WandbConfig) -> str:
    """The mode that the user asks for: ``WANDB_MODE`` if it is set, else ``track.wandb.mode``.

    Returns:
        ``auto``, ``online``, ``offline`` or ``disabled``.

    Raises:
        ConfigError: ``WANDB_MODE`` is none of W&B's modes.
    """
    variable = os.environ.get("WANDB_MODE", "").strip().lower()
    mode = _PLAIN_MODE.get(variable, variable) or config.mode.value
    if mode not in list(WandbMode):
        raise ConfigError(f"WANDB_MODE={variable} is not possible: allowed are online, offline, disabled; correct or unset it.")
    return mode


def key_configured(base_url: str) -> bool:
    """Whether a key for the W&B server at ``base_url`` is in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(base_url).netloc
    hosts = _PUBLIC_HOSTS if host in _PUBLIC_HOSTS else (host,)
    places = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    for place in places:
        try:
            entries = netrc.netrc(Path(place).expanduser())
        except (OSError, netrc.NetrcParseError):
            continue
        if any((entry := entries.authenticators(name)) and entry[2] for name in hosts):
            return True
    return False


class WandbSession:
    """Opens and finishes W&B runs in the mode that works: online if possible, else offline.

    ``messages`` collects what the user should know; ``report`` adds where the runs are and how to upload them.

    Args:
        config: mode, project, entity.
        directory: where the folder ``wandb`` goes; None: the working directory. WANDB_DIR wins over it.
    """

    _told_unusable = False  # the line is said once in a process, whichever session finds out

    def __init__(self, config: WandbConfig, directory: Path | None = None) -> None:
        self.config = config
        self.directory = directory
        self.messages: list[str] = []
        self._lock = threading.Lock()
        self._unsynced: list[Path] = []
        self._project_url = ""
        self._went_offline = False

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

    @cached_property
    def _settings(self) -> wandb.Settings | None:
        """W&B's settings after a look at its settings files; None if wandb is missing or broken."""
        try:
            import wandb

            wanted = _lean_settings()
            requested = requested_mode(self.config)
            if requested != "auto" and not os.environ.get("WANDB_MODE"):
                wanted["mode"] = requested
            return wandb.setup(wandb.Settings(**wanted)).settings
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
        return _PLAIN_MODE.get(mode, mode)

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
            self.messages.append(f"W&B: no access, so runs are recorded offline: {one_line(error)}.")
            return False
        return True

    def open(self, arguments: Mapping[str, Any], *, alone: bool) -> wandb.Run:
        """Open a new W&B run.

        Args:
            arguments: for ``wandb.init``.
            alone: whether it is the only run, so that WANDB_NAME, WANDB_RUN_ID and WANDB_RESUME are meant for it.
        """
        import wandb

        given = self._arguments(arguments, alone)
        with self._lock:  # threads open runs side by side; one of them asks the server
            online = self.online
        if online:
            try:
                run = wandb.init(**given)
            except Exception as error:
                self._go_offline(error)
            else:
                self._project_url = run.project_url or self._project_url
                return run
            wanted = given.get("id") or os.environ["WANDB_RUN_ID"]
            given["id"] = f"{wanted}-{secrets.token_hex(2)}"  # wandb keeps the id of a run that it could not open
        given.pop("resume", None)
        return wandb.init(**given, mode="offline")

    def _arguments(self, arguments: Mapping[str, Any], alone: bool) -> dict[str, Any]:
        import wandb

        config = self.config
        more = {"project": config.project, "entity": config.entity, "dir": self.directory, "resume": "allow"}
        user_sets = {name for name, variable in _VARIABLES.items() if os.environ.get(variable)}
        if not alone:
            user_sets -= {"name", "id", "resume"}
        if os.environ.get("WANDB_SWEEP_ID"):  # the sweep's agent says where its runs belong
            user_sets |= {"project", "entity", "id", "resume"}
        given = {name: value for name, value in {**more, **arguments}.items() if name not in user_sets and value is not None}
        return given | {"reinit": "create_new", "settings": wandb.Settings(**_lean_settings())}

    def _go_offline(self, error: Exception) -> None:
        with self._lock:
            if not self._went_offline:
                self._went_offline = True
                self.messages.append(
                    f"W&B: the server did not take a run ({one_line(error)}), so the rest is recorded offline."
                )

    def finish(self, run: wandb.Run, exit_code: int) -> None:
        """End a W&B run. What could not be uploaded in time stays on disk, and ``report`` names it.

        Args:
            run: as ``open`` gave it.
            exit_code: 0 if the run has finished.
        """
        place = Path(run.settings.sync_dir)
        offline = run.offline
        try:
            run.finish(exit_code=exit_code)
        except Exception as error:
            offline = True
            self._go_offline(error)
        if offline:
            with self._lock:
                self._unsynced.append(place)

    def report(self) -> None:
        """Add to ``messages`` where the runs are, and how to upload those that are only on disk."""
        if self._project_url:
            self.messages.append(f"W&B: {self._project_url}")
        if self._unsynced:
            command = _sync_command(self._unsynced)
            what = "1 run is" if len(self._unsynced) == 1 else f"{len(self._unsynced)} runs are"
            self.messages.append(f"W&B: {what} recorded offline; upload with: {command}")
        self._project_url, self._unsynced = "", []


def _lean_settings() -> dict[str, Any]:
    """Those settings of ``_LEAN`` that this version of wandb knows and that no variable of the user sets."""
    import wandb

    def variable(name: str) -> str:
        return "WANDB__" + name.removeprefix("x_").upper() if name.startswith("x_") else "WANDB_" + name.upper()

    known = wandb.Settings.model_fields
    return {name: value for name, value in _LEAN.items() if name in known and variable(name) not in os.environ}


def one_line(error: BaseException) -> str:
    """The message of an error as one line without a full stop, cut to 300 characters; its type if it has no message."""
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__


def _sync_command(places: Sequence[Path]) -> str:
    """The shell command that uploads these runs."""
    here = Path.cwd()
    paths = [path.relative_to(here) if path.is_relative_to(here) else path for path in places]
    folders = {path.parent for path in paths}
    if len(paths) > 3 and len(folders) == 1 and all(path.name.startswith("offline-run-") for path in paths):
        return f"wandb sync {shlex.quote(str(folders.pop()))}/offline-run-*"
    return "wandb sync " + " ".join(shlex.quote(str(path)) for path in paths)


def tags(names: Sequence[str]) -> list[str]:
    """The tags of a W&B run: without repeats and empty ones, each cut to the 64 characters that W&B allows."""
    return list(dict.fromkeys(name[:64] for name in names if name))
