"""Names and overrides -> configurations. The only file that drives Hydra.

``compose`` gives one configuration, ``expand_study`` those of a study; ``launch`` runs a task under Hydra.
Everything that a user can get wrong is answered with a ConfigError: one sentence with the key, what is allowed and the fix.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from bnexp.config import ConfigError, RunConfig, StudyConfig
from bnexp.plan import digest, identity, plain
from bnexp.schema import did_you_mean, schema_keys
from bnexp.study import check, check_runs, merge
from bnexp.study import jobs as study_jobs
from bnexp.validate import validate

CONFIG_NAME = "run"
ConfigStore.instance().store(name="schema", node=RunConfig)


def config_dirs() -> list[Path]:
    """Directories of configuration files: bnexp's own, then the user's (``BNEXP_CONFIG_PATH``)."""
    packaged = Path(__file__).parent / "configs"
    own = packaged if packaged.is_dir() else Path(__file__).parent.parent / "configs"
    user = [Path(part) for part in os.environ.get("BNEXP_CONFIG_PATH", "").split(os.pathsep) if part]
    for path in user:
        if not path.is_dir():
            raise ConfigError(f"BNEXP_CONFIG_PATH names {path}, which is not a directory; correct it or unset it.")
    return [own, *(path.resolve() for path in user)]


def groups() -> dict[str, list[str]]:
    """Config group -> names of its files, over all configuration directories."""
    found: dict[str, set[str]] = {}
    for root in config_dirs():
        for path in root.glob("*/*.yaml"):
            found.setdefault(path.parent.name, set()).add(path.stem)
    return {group: sorted(names) for group, names in sorted(found.items())}


@contextmanager
def _hydra() -> Iterator[Hydra]:
    own, *user = config_dirs()
    search_path = create_config_search_path(str(own))
    for path in user:
        search_path.prepend("user", f"file://{path}", anchor="main")
    version.setbase("1.3")
    GlobalHydra.instance().clear()
    try:
        yield Hydra.create_main_hydra2("bnexp", search_path)
    finally:
        GlobalHydra.instance().clear()


def compose(overrides: Sequence[str] = ()) -> RunConfig:
    """One validated configuration. Raises ConfigError."""
    check_overrides(overrides)
    for text in overrides:
        if OverridesParser.create().parse_override(text).is_sweep_override():
            raise ConfigError(f"{text} has several values: that makes several runs; add -m to bnexp train, or give one value.")
    with _hydra() as hydra, _translated():
        return to_config(hydra.compose_config(CONFIG_NAME, list(overrides), RunMode.RUN, with_log_configuration=False))


def to_config(tree: DictConfig) -> RunConfig:
    """Hydra's tree -> validated dataclasses. Raises ConfigError."""
    with _translated():
        tree = tree.copy()
        with open_dict(tree):
            tree.pop("hydra", None)
        config = OmegaConf.to_object(tree)
    assert isinstance(config, RunConfig)
    validate(config)
    return config


def launch(task: Callable[[DictConfig], Any], overrides: Sequence[str], *, multirun: bool) -> list[JobReturn]:
    """Run ``task`` under Hydra: once, or for every job of a multirun with the chosen sweeper and launcher.

    ``task`` gives the job's objective. Raises ConfigError.
    """
    check_overrides(overrides)
    with _hydra() as hydra, _translated():
        if not multirun:
            return [_run_once(hydra, task, overrides)]
        result = hydra.multirun(CONFIG_NAME, task, list(overrides), with_log_configuration=False)
    batches = result if isinstance(result, list) else []
    return [job for batch in batches for job in (batch if isinstance(batch, Sequence) else [batch])]


def _run_once(hydra: Hydra, task: Callable[[DictConfig], Any], overrides: Sequence[str]) -> JobReturn:
    """Hydra's ``run``, with an exception of the task raised as it is: Hydra would first print lines of its own."""
    raised: list[Exception] = []

    def guarded(tree: DictConfig) -> Any:
        try:
            return task(tree)
        except Exception as error:
            raised.append(error)

    job = hydra.run(CONFIG_NAME, guarded, list(overrides), with_log_configuration=False)
    if raised:
        raise raised[0]
    return job


def compose_jobs(loader: ConfigLoader, master: DictConfig, jobs: Sequence[Sequence[str]]) -> list[RunConfig]:
    """The validated configurations of a multirun's jobs.

    Hydra needs some 50 ms for one; jobs that differ in their seed alone are composed once.
    """
    return list(_compose_each(jobs, lambda overrides: loader.load_sweep_config(master, list(overrides))))


def _compose_each(jobs: Sequence[Sequence[str]], load: Callable[[Sequence[str]], DictConfig]) -> Iterator[RunConfig]:
    cache: dict[tuple[str, ...], RunConfig] = {}
    for job in jobs:
        seeds = [item for item in job if item.startswith("seed=")]
        rest = tuple(item for item in job if not item.startswith("seed="))
        if rest not in cache:
            with _translated():
                cache[rest] = to_config(load([*rest, *seeds]))
        config = deepcopy(cache[rest])
        if seeds:
            config.seed = int(seeds[-1].removeprefix("seed="))
            validate(config)
        yield config


def expand_multirun(overrides: Sequence[str]) -> list[RunConfig]:
    """The configurations of ``bnexp train -m`` with the basic sweeper or a study; those of a searching sweeper are not
    known beforehand. Raises ConfigError."""
    if any(item.startswith("study=") for item in overrides):
        return expand_study(overrides).configs
    if any(item.startswith("hydra/sweeper=") and item != "hydra/sweeper=basic" for item in overrides):
        raise ConfigError("the runs of a searching sweeper are not known before it runs; leave out --dry-run or hydra/sweeper.")
    check_overrides(overrides)
    with _hydra() as hydra, _translated():
        parsed = OverridesParser.create(hydra.config_loader).parse_overrides(list(overrides))
        jobs = [job for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]
        master = hydra.compose_config(CONFIG_NAME, [], RunMode.MULTIRUN, with_log_configuration=False)
        return compose_jobs(hydra.config_loader, master, jobs)


@dataclass(frozen=True)
class StudyPlan:
    """A study, expanded: its definition and the override lists and configurations of its runs, in the same order."""

    study: StudyConfig
    study_id: str
    jobs: list[list[str]]
    configs: list[RunConfig]


def expand_study(overrides: Sequence[str]) -> StudyPlan:
    """Arms x factors x seeds of the study that ``overrides`` choose (``study=NAME``). Raises ConfigError."""
    check_overrides(overrides)
    with _hydra() as hydra:
        return expand(hydra.config_loader, overrides)


def expand(loader: ConfigLoader, overrides: Sequence[str]) -> StudyPlan:
    """``expand_study`` with Hydra's loader at hand, as in a sweeper.

    An override with several values (``optim.lr=0.01,0.1``) becomes one more factor. The study id hashes the question with
    its metric, direction, margin and runs, before any of them trains.
    """
    with _translated():
        parsed = OverridesParser.create(loader).parse_overrides(list(overrides))
        fixed = [item for item in parsed if not item.is_sweep_override()]
        fixed_lines = [str(item.input_line) for item in fixed]
        swept = {item.key_or_group: list(item.sweep_string_iterator()) for item in parsed if item.is_sweep_override()}
        master = loader.load_configuration(CONFIG_NAME, fixed_lines, RunMode.MULTIRUN)
    base = to_config(master)
    study = deepcopy(base.study)
    study.factors |= swept
    if not study.name:
        names = groups().get("study", [])
        raise ConfigError(f"no study was chosen: allowed is one of {', '.join(names)}; try bnexp study {names[0]}.")
    check(study, base, [item.key_or_group for item in fixed], list(swept))
    jobs = [merge(fixed_lines, job) for job in study_jobs(study)]
    configs = compose_jobs(loader, master, jobs)
    check_runs(study, configs)
    definition = plain({name: value for name, value in asdict(study).items() if name not in ("arm", "levels", "id")})
    study_id = digest([definition, study.margin or base.data.margin, sorted(digest(identity(config)) for config in configs)], 8)
    for job, config in zip(jobs, configs, strict=True):
        job.append(f"study.id='{study_id}'")  # quoted: a hash may read as a number
        config.study.id = study_id
    return StudyPlan(study, study_id, jobs, configs)


def check_overrides(overrides: Sequence[str]) -> None:
    """Raise ConfigError for an override that cannot be read, or whose key or group member does not exist."""
    known_groups = groups()
    keys = {info.name: info for info in schema_keys()}
    nodes = {name.rsplit(".", depth)[0] for name in keys for depth in range(1, name.count(".") + 1)}
    for text in overrides:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException:
            raise ConfigError(
                f"cannot read {text!r}: an override is KEY=VALUE, like optim.lr=0.1 or norm=batch; "
                "quote values with spaces or brackets for the shell."
            ) from None
        name = override.key_or_group
        if override.is_delete():
            raise ConfigError(f"{text} would remove a key, which the configuration needs; set a value instead: {name}=VALUE.")
        if name.startswith("hydra"):
            continue
        if name.removeprefix("+") in ("study.arm", "study.id", "study.levels"):
            raise ConfigError(f"{name} is set by the study itself; leave it out.")
        if name in known_groups:
            _check_choice(override, known_groups[name])
        elif name not in keys and name not in nodes and not _inside_mapping(name, keys):
            known = [*keys, *known_groups]
            raise ConfigError(
                f"there is no key {name!r} in the configuration.{did_you_mean(name, known)} See all with bnexp config --keys."
            )


def _inside_mapping(name: str, keys: dict[str, Any]) -> bool:
    return any(name.startswith(key + ".") and info.allowed() == "a mapping" for key, info in keys.items())


def _check_choice(override: Override, names: list[str]) -> None:
    group = override.key_or_group
    values = override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_element_as_str()]
    for value in values:
        choice = value.strip("'\"")
        if override.is_sweep_override() and override.is_range_sweep():
            continue
        if choice not in names and choice != "null":
            hint = did_you_mean(choice, names)
            raise ConfigError(f"{group}={choice} does not exist: allowed are {', '.join(names)}.{hint}")


@contextmanager
def _translated() -> Iterator[None]:
    """Hydra's and OmegaConf's errors as ConfigErrors."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error)) from error
    except YAMLError as error:
        raise ConfigError(f"a configuration file is not valid YAML: {' '.join(str(error).split())}.") from error


def _explain(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__ or cause.__context__
    name = str(getattr(cause, "full_key", None) or "")
    info = {info.name: info for info in schema_keys()}.get(name)
    if info is not None and isinstance(cause, OmegaConfBaseException):
        found = re.search(r"[Vv]alue '([^']*)'", str(cause.msg))
        value = found.group(1) if found else str(cause.value)
        hint = did_you_mean(value, info.choices)
        return f"{name}={value} is not possible: allowed is {info.allowed()} ({info.help}).{hint}"
    text = " ".join(str(error).split())
    place = re.match(r"In '([^']*)'", text)
    where = f" ({place.group(1)}.yaml)" if place else ""
    if name.startswith("study.study") or "@study." in text:
        return f"a study file{where} sets keys of the whole configuration: its first line must be '# @package _global_'."
    if name and isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return f"there is no key {name!r} in the configuration{where}.{did_you_mean(name, [i.name for i in schema_keys()])}"
    return f"the configuration cannot be composed: {text.rstrip('.')}."
