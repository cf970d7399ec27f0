"""Which W&B mode the user asks for, how recorded runs were configured, and whether there is a key: told without wandb."""

from __future__ import annotations

import netrc
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from bnexp.config.options import WandbMode
from bnexp.config.schema import ConfigError, TrackConfig, WandbConfig
from bnexp.tracking.reading import DamagedRecord, as_type
from bnexp.tracking.records import RecordedRun

# W&B's own hosts share one key; every other server has its own.
_PUBLIC_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")

PLAIN_MODE = {"run": "online", "dryrun": "offline", "shared": "online"}


def requested_mode(config: WandbConfig) -> str:
    """The mode that the user asks for.

    ``disabled`` wins wherever it is said, so that nothing is sent that someone has switched off. Else ``track.wandb.mode`` wins
    over ``WANDB_MODE``, because it is said for this command; but for ``auto``, which leaves it to the variable.

    Returns:
        ``auto``, ``online``, ``offline`` or ``disabled``.

    Raises:
        ConfigError: ``WANDB_MODE`` is none of W&B's modes.
    """
    variable = os.environ.get("WANDB_MODE", "").strip().lower()
    meant = PLAIN_MODE.get(variable, variable) or WandbMode.auto.value
    if meant not in list(WandbMode):
        raise ConfigError(f"WANDB_MODE={variable} is not possible: allowed are online, offline, disabled; correct or unset it.")
    if config.mode is WandbMode.auto or meant == WandbMode.disabled:
        return meant
    return config.mode.value


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


def recorded_track(records: Iterable[RecordedRun]) -> TrackConfig:
    """How recorded runs go to W&B: as the first of them whose settings can be read was configured, else by the defaults.

    A mode that was configured then decides nothing now.

    Args:
        records: the runs, the one that matters most first.
    """
    for record in records:
        with suppress(DamagedRecord, FileNotFoundError):
            found: TrackConfig = as_type(TrackConfig, record.config.get("track", {}), record.path)
            return replace(found, wandb=replace(found.wandb, mode=WandbMode.auto))
    return TrackConfig()
