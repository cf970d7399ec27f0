"""Weights & Biases, data sets and records: what is there already."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from bnexp.config.options import DataName
from bnexp.config.schema import ConfigError, DataConfig, WandbConfig
from bnexp.data.catalogue import CATALOGUE
from bnexp.data.presence import Presence, presence
from bnexp.run.health.finding import Finding, State
from bnexp.run.health.importing import Tried
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.store import Store
from bnexp.tracking.wandb.access import key_configured, requested_mode

WANDB = "Weights & Biases"
PUBLIC = "https://api.wandb.ai"
MOST_RUNS = 2000  # whose records are read; more would take seconds


def wandb_findings(imports: Mapping[str, Tried]) -> Iterator[Finding]:
    """Where runs go, and by which setting. No server is asked."""
    tried = imports.get("wandb", Tried())
    try:
        mode = requested_mode(WandbConfig())
    except ConfigError as error:
        yield Finding(WANDB, "mode", str(error), State.blocks, fix="unset WANDB_MODE")
        return
    by = "WANDB_MODE" if os.environ.get("WANDB_MODE", "").strip() else "track.wandb.mode"
    if tried.error:
        if mode == "disabled":
            yield Finding(WANDB, "mode", f"disabled, by {by}")
        else:
            fix = 'pip install --force-reinstall "wandb"'
            yield Finding(WANDB, "mode", "runs are recorded here only, because wandb cannot be imported", State.gap, fix=fix)
        return
    address = tried.facts.get("base_url") or os.environ.get("WANDB_BASE_URL") or PUBLIC
    server = "the public server" if _is_public(address) else "a server of your own"
    key = bool(tried.facts.get("key")) or key_configured(address)
    yield Finding(WANDB, "login", f"a key for {server} is configured" if key else f"no key for {server}", *_login(key, mode))
    settings_mode = {"run": "online", "dryrun": "offline"}.get(str(tried.facts.get("mode")), tried.facts.get("mode"))
    if mode == "auto" and settings_mode in ("offline", "disabled"):
        yield Finding(WANDB, "mode", f"{settings_mode}, by W&B's own settings")
    elif mode == "auto":
        yield Finding(WANDB, "mode", f"{'online' if key else 'offline'}, because {'a' if key else 'no'} key is configured")
    else:
        yield Finding(WANDB, "mode", f"{mode}, by {by}")
    if waiting := _waiting():
        folder = waiting[0].parent
        what = f"{len(waiting)} recorded offline and not uploaded"
        fix = f"wandb sync '{folder}'/offline-run-*" if key else ""
        yield Finding(WANDB, "runs", what, State.option, str(folder.absolute()), fix)


def _login(key: bool, mode: str) -> tuple[State, str, str]:
    """State, place and fix of a missing key."""
    if key:
        return State.ok, "", ""
    return (State.gap if mode == "online" else State.option), "", "wandb login"


def _is_public(address: str) -> bool:
    return urlsplit(address).netloc in ("api.wandb.ai", "api.forge.coreweave.com")


def _waiting() -> list[Path]:
    """Folders of offline runs that W&B has not marked as uploaded."""
    root = Path(os.environ.get("WANDB_DIR") or ".") / "wandb"
    return [path for path in sorted(root.glob("offline-run-*")) if not any(path.glob("*.synced"))]


def data_findings() -> Iterator[Finding]:
    """Each published data set: ready, to be packed at first use, or to be downloaded."""
    for name in DataName:
        if name.is_own:
            continue
        match presence(DataConfig(name=name)):
            case Presence.packed:
                yield Finding("data", name.value, "ready")
            case Presence.raw if not CATALOGUE[name].files:
                yield Finding("data", name.value, "part of bnexp")
            case Presence.raw:
                yield Finding("data", name.value, "raw files are there; packed at first use")
            case Presence.absent:
                what = "not here; downloaded at first use"
                yield Finding("data", name.value, what, State.option, fix=f"bnexp data {name.value}")


def record_findings() -> Iterator[Finding]:
    """How many runs are recorded, and which of them are damaged."""
    store = Store()
    folders = list(store.folders())
    damaged: list[RecordedRun] = []
    kinds: Counter[str] = Counter()
    for run in folders[:MOST_RUNS]:
        if run.damage:
            damaged.append(run)
        else:
            kinds["finished" if run.finished else "failed" if run.failure else "not finished"] += 1
    counted = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    of_first = f" (of the first {MOST_RUNS:,} of {len(folders):,})" if len(folders) > MOST_RUNS else ""
    if folders:
        yield Finding("records", "runs", f"{counted or 'none whole'}{of_first}")
    else:
        yield Finding("records", "runs", "none yet", State.option, fix="bnexp study batchnorm data=digits")
    for run in damaged[:3]:
        reason = run.damage.reason if run.damage else ""
        yield Finding("records", run.run_id, f"damaged: {reason}", State.gap, str(run.path), _aside(run))
    if len(damaged) > 3:
        yield Finding("records", "damaged", f"{len(damaged) - 3:,} more", State.gap)


def _aside(run: RecordedRun) -> str:
    """The command that takes a damaged record out of the store and loses nothing. Training the run again replaces it too."""
    return f'mv {shlex.quote(str(run.path.absolute()))} "$HOME/"'
