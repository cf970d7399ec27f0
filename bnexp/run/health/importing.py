"""Tries packages in processes of their own: one that is broken may raise anything, end Python, or take minutes.

Run as a module with names of packages, it imports them and prints what came of it as one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

LONGEST_SECONDS = 300.0  # a busy machine takes a minute for torch
MARK = "bnexp-doctor:"


@dataclass(frozen=True)
class Tried:
    """What came of importing a package.

    Args:
        error: why it cannot be imported; empty if it can.
        facts: what it says of this machine.
    """

    error: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def tried(groups: Sequence[Sequence[str]], waiting: Callable[[Sequence[str]], None] | None = None) -> dict[str, Tried]:
    """Import packages, each group in one process of its own, all at the same time. No network is asked.

    Args:
        groups: names as they are imported.
        waiting: told the names that are still being imported, at the beginning and after each group; None: nobody is.

    Returns:
        Name -> what came of it.
    """
    tell = waiting or (lambda _: None)
    found: dict[str, Tried] = {}
    with ThreadPoolExecutor(len(groups)) as pool:
        tasks = [pool.submit(_try, names) for names in groups]
        tell([name for names in groups for name in names])
        for task in as_completed(tasks):
            found |= task.result()
            tell([name for names in groups for name in names if name not in found])
    return found


def _try(names: Sequence[str]) -> dict[str, Tried]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", "-m", __name__, *names]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", timeout=LONGEST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return dict.fromkeys(names, Tried(f"importing it takes more than {LONGEST_SECONDS:.0f} s"))
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            name, error, facts = json.loads(line.removeprefix(MARK))
            found[name] = Tried(error, facts)
    return {name: found.get(name, Tried(f"importing it ends Python (exit code {done.returncode})")) for name in names}


def _torch() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "threads": torch.get_num_threads(),
        "built_for": f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU",
        "gpus": [[gpu.name, gpu.total_memory] for gpu in gpus] if torch.cuda.is_available() else [],
        "mps": torch.backends.mps.is_available(),
    }


def _wandb() -> dict[str, Any]:
    import wandb

    settings = wandb.setup().settings
    return {"mode": settings.mode, "base_url": settings.base_url, "key": bool(settings.api_key)}


FACTS = {"torch": _torch, "wandb": _wandb}


def main() -> None:
    """Import the packages named on the command line."""
    for name in sys.argv[1:]:
        error, facts = "", {}
        try:
            importlib.import_module(name)
            facts = FACTS[name]() if name in FACTS else {}
        except BaseException as problem:  # a damaged package can raise anything, also SystemExit
            error = " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
        print(f"\n{MARK}{json.dumps([name, error, facts])}", flush=True)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
