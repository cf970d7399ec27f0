"""All findings together, and as text that can be sent to strangers."""

from __future__ import annotations

import getpass
import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from bnexp.run.health.finding import Finding, State
from bnexp.run.health.importing import tried
from bnexp.run.health.machine import completion_finding, device_findings, directory_findings
from bnexp.run.health.packages import module_groups, package_findings
from bnexp.run.health.recorded import data_findings, record_findings, wandb_findings

SHORTEST = 3  # characters of a name that is taken out wherever it stands
_PATH = re.compile(r"(?<![\w.])(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\:;,'\"()`]+)+[/\\]?")
_SECRET = re.compile(r"\b[0-9A-Za-z_-]{32,}\b")


def examine(waiting: Callable[[Sequence[str]], None] | None = None) -> list[Finding]:
    """Look at everything. It takes some seconds, because packages are imported, and asks no network.

    If a part cannot be looked at, that is a finding too.

    Args:
        waiting: told the packages that are still being imported, as they become fewer; None: nobody is.
    """
    imports = tried(module_groups(), waiting)
    parts: dict[str, Callable[[], Iterable[Finding]]] = {
        "software": lambda: package_findings(imports),
        "device": lambda: device_findings(imports),
        "Weights & Biases": lambda: wandb_findings(imports),
        "data": data_findings,
        "directories": directory_findings,
        "records": record_findings,
        "shell": lambda: [completion_finding()],
    }
    return [finding for section, look in parts.items() for finding in _looked(section, look)]


def _looked(section: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except Exception as error:  # whatever is broken here, the rest is still wanted
        yield Finding(section, section, f"cannot be looked at ({type(error).__name__}: {error})", State.gap)


def is_ready(findings: Iterable[Finding]) -> bool:
    """Whether nothing stands in the way of training."""
    return all(finding.state is not State.blocks for finding in findings)


def markdown(findings: Iterable[Finding]) -> str:
    """The findings for an issue: without places, commands, keys, and names of users and machines."""
    lines = []
    for section, part in groupby(findings, key=lambda finding: finding.section):
        lines += [f"**{section}**", "", "| what | state | found |", "| --- | --- | --- |"]
        for finding in part:
            found = without_names(finding.found).replace("|", r"\|")
            lines.append(f"| {without_names(finding.name)} | {finding.state} | {found} |")
        lines.append("")
    return "\n".join(lines)


def without_names(text: str) -> str:
    """The text without directories, long random words, values of variables that hold keys, and names of user and machine."""
    text = _PATH.sub(lambda found: ".../" + re.split(r"[/\\]", found[0].rstrip("/\\"))[-1], text)
    for value in sorted(_private(os.environ), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "...", text)
    return _SECRET.sub("...", text)


def _private(environment: Mapping[str, str]) -> set[str]:
    names = {value for name, value in environment.items() if re.search("KEY|TOKEN|SECRET|PASSWORD", name)}
    names |= {environment.get("USER", ""), environment.get("LOGNAME", ""), platform.node(), platform.node().split(".")[0]}
    names.add(Path.home().name)
    with suppress(OSError, KeyError, ImportError):  # of a user without a name
        names.add(getpass.getuser())
    return {name for name in names if len(name) >= SHORTEST}
