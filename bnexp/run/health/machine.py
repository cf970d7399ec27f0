"""Processors, GPUs, directories and the shell of this machine."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from bnexp.config.keys import did_you_mean
from bnexp.run.health.finding import Finding, State
from bnexp.run.health.importing import Tried
from bnexp.run.local import num_cores
from bnexp.tracking.reading import MIB

LITTLE_BYTES = 1024 * MIB  # of free disk; a study with its data and records takes less
VARIABLES = (
    "BNEXP_CACHE_DIR",
    "BNEXP_CONFIG_PATH",
    "BNEXP_DATA_DIR",
    "BNEXP_DATA_MIRROR",
    "BNEXP_RUNS_DIR",
)


def device_findings(imports: Mapping[str, Tried]) -> Iterator[Finding]:
    """Processors that may be used, threads, and the device that ``train.device=auto`` takes."""
    cores, all_cores = num_cores(), os.cpu_count() or 1
    bound = f" of {all_cores}; the others are not for this process" if cores < all_cores else ""
    yield Finding("device", "processors", f"{cores}{bound}")
    threads = os.environ.get("OMP_NUM_THREADS")
    yield Finding("device", "threads", "1 per run, several runs at once" + (f"; OMP_NUM_THREADS={threads}" if threads else ""))
    torch = imports.get("torch", Tried())
    if torch.error:
        yield Finding("device", "GPU", "not known, because torch cannot be imported")
        return
    facts = torch.facts
    for number, (name, size) in enumerate(facts.get("gpus", [])):
        yield Finding("device", f"GPU {number}", f"{name}, {size / 1024**3:.0f} GiB")
    if facts.get("gpus"):
        return
    if facts.get("mps"):
        yield Finding("device", "GPU", "Apple (mps)")
    elif not shutil.which("nvidia-smi"):
        yield Finding("device", "GPU", "none; runs train on the CPU", State.option)
    elif facts.get("built_for") == "CPU":
        what = "not used: this torch is built for the CPU alone"
        yield Finding("device", "GPU", what, State.gap, fix="pip install --force-reinstall torch torchvision")
    else:
        what = f"not used: torch is built for {facts.get('built_for')} and finds no GPU; the driver may be older"
        yield Finding("device", "GPU", what, State.gap, fix="nvidia-smi")


def directory_findings() -> Iterator[Finding]:
    """Where records, the cache and raw data are, whether they can be written, and the free disk there."""
    from bnexp.data.download import cache_dir
    from bnexp.tracking.store import runs_dir

    yield _directory("runs", runs_dir(), "BNEXP_RUNS_DIR", needed=True)
    yield _directory("cache", cache_dir(), "BNEXP_CACHE_DIR", needed=True)
    data = os.environ.get("BNEXP_DATA_DIR")
    yield _directory("data", Path(data).expanduser() if data else cache_dir() / "raw", "BNEXP_DATA_DIR", needed=False)
    for place in filter(None, os.environ.get("BNEXP_CONFIG_PATH", "").split(os.pathsep)):
        if not Path(place).expanduser().is_dir():
            what = "BNEXP_CONFIG_PATH names a directory that is not there"
            yield Finding("directories", "configs", what, State.blocks, place, f"mkdir -p {shlex.quote(place)}")
    for name in sorted(os.environ):
        if name.startswith("BNEXP_") and name not in VARIABLES and (hint := did_you_mean(name, VARIABLES)):
            yield Finding("directories", name, f"is not a variable of bnexp.{hint}", State.gap, fix=f"unset {name}")


def _directory(name: str, path: Path, variable: str, needed: bool) -> Finding:
    """A directory, or the existing one in which it would be made."""
    source = variable if os.environ.get(variable) else f"default; {variable} sets another"
    there = next((place for place in (path, *path.absolute().parents) if place.exists()), Path("/"))
    shown = str(path.absolute())
    fix = f'export {variable}="$HOME/bnexp-{name}"'
    lacking = State.blocks if needed else State.gap
    if not there.is_dir():
        return Finding("directories", name, f"{source}; is no directory", lacking, shown, fix)
    if not _can_write(there):
        if not needed:  # raw data are often in a place that is only read
            return Finding("directories", name, f"{source}; can only be read, downloads go to the cache", State.ok, shown)
        return Finding("directories", name, f"{source}; cannot be written", lacking, shown, fix)
    free = shutil.disk_usage(there).free
    what = f"{source}; {'can be written' if there == path else 'will be made'}, {free / 1024**3:.1f} GiB free"
    if free < LITTLE_BYTES:
        return Finding("directories", name, f"{what}: little", State.gap, shown, fix)
    return Finding("directories", name, what, State.ok, shown)


def _can_write(directory: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False


COMPLETION_FILES = {  # shell -> where ``--install-completion`` writes, below the home directory
    "bash": ".bash_completions/bnexp.sh",
    "zsh": ".zfunc/_bnexp",
    "fish": ".config/fish/completions/bnexp.fish",
}


def completion_finding() -> Finding:
    """Whether completion is installed for the user's shell."""
    shell = Path(os.environ.get("SHELL", "")).name
    if shell not in COMPLETION_FILES:
        known = ", ".join(COMPLETION_FILES)
        return Finding("shell", "completion", f"not known of the shell {shell or 'that runs this'}; there is one for {known}")
    if (Path.home() / COMPLETION_FILES[shell]).is_file():
        return Finding("shell", "completion", f"installed for {shell}")
    return Finding("shell", "completion", f"not installed for {shell}", State.option, fix="bnexp --install-completion")
