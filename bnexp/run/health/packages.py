"""Which packages are installed, in which versions, whether they can be imported, and whether they belong together."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata

import bnexp
from bnexp.run.health.finding import Finding, State
from bnexp.run.health.importing import Tried

SECTION = "software"
OLDEST_PYTHON = (3, 11)

MODULES = {  # distribution -> name as it is imported, if it differs
    "hydra-core": "hydra",
    "pillow": "PIL",
    "protobuf": "google.protobuf",
    "pyyaml": "yaml",
    "vl-convert-python": "vl_convert",
}
NEEDED_FOR = {  # distribution -> what does not work without it; all others are needed for training
    "altair": "reports",
    "jinja2": "reports",
    "markupsafe": "reports",
    "protobuf": "bnexp import and Weights & Biases",
    "scipy": "verdicts",
    "torchvision": "data=cifar10 and data=cifar100",
    "vl-convert-python": "reports",
    "wandb": "Weights & Biases",
}
ALONE = ("torch", "torchvision", "wandb")  # they take long, and break most often


def requirements() -> dict[str, str]:
    """Distribution -> the versions that bnexp supports, ``>=2.6``; empty if bnexp is used without being installed."""
    return {name: rest for name, rest in map(_parted, _required()) if ";" not in rest}


def extras() -> dict[str, dict[str, str]]:
    """Extra -> its distributions, as ``requirements``. Those for developers are left out."""
    found: dict[str, dict[str, str]] = {}
    for name, rest in map(_parted, _required()):
        versions, _, marker = rest.partition(";")
        extra = re.search(r"""extra\s*==\s*['"]([\w.-]+)['"]""", marker)
        if extra and extra[1] != "dev" and name != "bnexp":
            found.setdefault(extra[1], {})[name] = versions.strip()
    return found


def _required() -> list[str]:
    try:
        return metadata.requires("bnexp") or []
    except metadata.PackageNotFoundError:
        return []


def _parted(requirement: str) -> tuple[str, str]:
    """``("torch", ">=2.6")`` for ``torch>=2.6``."""
    found = re.match(r"\s*([\w.-]+)(?:\[[^]]*\])?\s*(.*)", requirement)
    assert found
    return found[1].lower(), found[2].strip("() ").replace(") ;", ";")


def module_groups() -> list[list[str]]:
    """The packages to import, in groups for ``importing.tried``."""
    names = [module_of(name) for name in requirements() or NEEDED_FOR]
    return [*([name] for name in ALONE), [name for name in names if name and name not in ALONE]]


def module_of(distribution: str) -> str:
    """The name by which a distribution is imported; empty if it is not known."""
    return MODULES.get(distribution, "" if "-" in distribution else distribution)


def package_findings(imports: Mapping[str, Tried]) -> Iterator[Finding]:
    """bnexp, Python, each package that bnexp needs, whether torch and torchvision match, and each optional extra."""
    yield Finding(SECTION, "bnexp", bnexp.__version__)
    old = sys.version_info < OLDEST_PYTHON
    oldest = ".".join(map(str, OLDEST_PYTHON))
    yield Finding(
        SECTION, "Python", f"{platform.python_version()} (supported: {oldest} or newer)", State.blocks if old else State.ok
    )
    yield Finding(SECTION, "system", f"{platform.system()} {platform.release()} {platform.machine()}")
    wanted = requirements()
    for name in [*ALONE, *(name for name in wanted if name not in ALONE)]:
        yield _package(name, wanted.get(name, ""), imports.get(module_of(name), Tried()))
    yield from _match(imports)
    for extra, parts in extras().items():
        missing = [f"{name}{versions}" for name, versions in parts.items() if not _serves(name, versions)]
        text = f"not installed; only for {EXTRAS.get(extra, extra)}" if missing else ", ".join(map(_named, parts))
        if wrong := [_named(part) for part in parts if version_of(part) and not _serves(part, parts[part])]:
            text = f"{', '.join(wrong)} is not supported; only for {EXTRAS.get(extra, extra)}"
        fix = " ".join(["pip install", *(f'"{part}"' for part in missing)]) if missing else ""
        yield Finding(SECTION, f"extra {extra}", text, State.option if missing else State.ok, fix=fix)


EXTRAS = {
    "joblib": "hydra/launcher=joblib",
    "optuna": "hydra/sweeper=optuna",
    "ray": "executor=ray",
    "reports": "bnexp report --wandb",
    "submitit": "hydra/launcher=submitit_slurm",
}


def _serves(name: str, versions: str) -> bool:
    """Whether a distribution is installed in one of the versions."""
    version = version_of(name)
    return bool(version) and (not versions or fits(version, versions))


def _named(name: str) -> str:
    return f"{name} {version_of(name)}"


def version_of(name: str) -> str:
    """The version of an installed distribution; empty if it is not installed."""
    try:
        return metadata.version(name) or ""
    except metadata.PackageNotFoundError:
        return ""


def _package(name: str, wanted: str, imported: Tried) -> Finding:
    use = NEEDED_FOR.get(name, "")
    lacking = State.gap if use else State.blocks
    loss = f"; needed for {use or 'training'}"
    version, versions = version_of(name), f" (supported: {wanted})" if wanted else ""
    if not version and imported.error:
        return Finding(SECTION, name, f"not installed{versions}{loss}", lacking, fix=f'pip install "{name}{wanted}"')
    if imported.error:
        fix = f'pip install --force-reinstall "{name}{wanted}"'
        return Finding(SECTION, name, f"{version} cannot be imported ({imported.error}){loss}", lacking, fix=fix)
    if wanted and version and not fits(version, wanted):
        fix = f'pip install "{name}{wanted}"'
        return Finding(SECTION, name, f"{version} is not supported{versions}", State.gap, fix=fix)
    return Finding(SECTION, name, f"{version or 'installed'}{versions}")


def fits(version: str, wanted: str) -> bool:
    """Whether a version lies in a range such as ``>=1.3.2,<1.4``; True if either cannot be read."""
    try:
        from packaging.specifiers import SpecifierSet

        return SpecifierSet(wanted).contains(version, prereleases=True)
    except (ImportError, ValueError):
        return True


def _match(imports: Mapping[str, Tried]) -> Iterator[Finding]:
    """Whether torchvision was made for this torch."""
    torch, torchvision = version_of("torch"), version_of("torchvision")
    if not torch or not torchvision or imports.get("torch", Tried()).error:
        return
    wanted = dict(map(_parted, metadata.requires("torchvision") or [])).get("torch", "")
    if fits(torch, wanted):
        yield Finding(SECTION, "torch and torchvision", f"match (torchvision {torchvision} wants torch{wanted})")
        return
    what = f"do not match: torchvision {torchvision} wants torch{wanted}, and torch is {torch}"
    yield Finding(SECTION, "torch and torchvision", what, State.gap, fix="pip install --upgrade torch torchvision")
