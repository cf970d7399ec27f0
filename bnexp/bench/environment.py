"""The environment of the rungs P1 and P2: PyTorch Lightning, Hydra and W&B, beside the torch that bnexp uses.

It is a virtual environment of its own. So nothing of what it needs is installed where bnexp is, and the scripts find no plugins
that a user of theirs would not have. torch and everything else that is installed with bnexp is found through a ``.pth`` file,
instead of being installed again.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bnexp.bench.work import BenchError
from bnexp.data.download import cache_dir

PACKAGES = ("lightning>=2.4", "hydra-core>=1.3,<1.4", "wandb>=0.30", "torchvision")
LAUNCHER = "hydra-joblib-launcher>=1.2"
SHOWN = ("lightning", "hydra-core", "hydra-joblib-launcher", "joblib", "wandb", "torch", "torchvision")
MARK = "made-by-bnexp-bench"  # a file in an environment that we may install into
VERSIONS = """
import json, importlib.metadata
print(json.dumps({found.name.lower().replace("_", "-"): found.version for found in importlib.metadata.distributions()}))
"""


@dataclass(frozen=True)
class Environment:
    """Where P1 and P2 run.

    Args:
        python: its interpreter.
        versions: version of each package that they use, by name.
    """

    python: Path
    versions: dict[str, str]


def default_folder() -> Path:
    """The folder in the user's cache for this installation of bnexp."""
    own = hashlib.sha256(f"{sys.prefix} {sys.version}".encode()).hexdigest()[:8]
    return cache_dir() / "bench" / f"peers-{own}"


def prepare_environment(folder: Path, say: Callable[[str], None]) -> Environment:
    """The environment in ``folder``. It is made if nothing is there, and completed if an earlier call made it.

    Args:
        folder: a virtual environment, or where to make one.
        say: called with a sentence before something is installed.

    Raises:
        BenchError: it lacks a package and is not ours, or could not be made.
    """
    python = folder / "bin" / "python"
    versions = _versions(python) if python.exists() else {}
    lacking = [name for name in SHOWN if name not in versions]
    if lacking:
        mark = folder / MARK
        if folder.exists() and not mark.exists():
            raise BenchError(f"{folder} lacks {', '.join(lacking)}: install that there, or name a folder that does not exist.")
        say(f"Installing lightning and hydra-joblib-launcher for P1 and P2 in {folder}; torch is used from {sys.prefix}.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            mark.touch()
            _make(folder, python)
        except OSError as error:
            raise BenchError(f"{folder} cannot be written ({error.strerror}): name another folder with --peers.") from error
        versions = _versions(python)
    return Environment(python, {name: versions[name] for name in SHOWN})


def _make(folder: Path, python: Path) -> None:
    """Make the environment and install into it. It can be repeated after an interruption."""
    _run([sys.executable, "-m", "venv", str(folder)], "it could not be made")
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    present = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "reused.pth").write_text("".join(f"{path}\n" for path in present))
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "15"]
    _run([*pip, *PACKAGES, "joblib"], "pip failed")
    # With an __init__.py this is the only folder in which Hydra looks for plugins. Else it would import those of bnexp, too.
    _run([*pip, "--ignore-installed", "--no-deps", LAUNCHER], "pip failed")
    (site / "hydra_plugins" / "__init__.py").touch()


def _versions(python: Path) -> dict[str, str]:
    """Version of each package that this interpreter finds."""
    found: dict[str, str] = json.loads(_run([str(python), "-c", VERSIONS], "its python does not start"))
    return found


def _run(command: list[str], problem: str) -> str:
    """What a command prints. Raises BenchError with its last line."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise BenchError(f"{problem}: {error}") from error
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or [f"exit code {done.returncode}"]
        raise BenchError(f"{problem}: {lines[-1]}")
    return done.stdout
