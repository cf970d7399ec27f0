"""Names and overrides -> configurations. The only file that drives Hydra.

``compose`` gives one configuration, ``expand_study`` those of a study; ``launch`` runs a task under Hydra.
Everything that a user can get wrong is answered with a ConfigError: one sentence with the key, what is allowed and the fix.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from bnexp.config.overrides import check_overrides, translated, unescaped
from bnexp.config.schema import ConfigError, RunConfig, StudyConfig
from bnexp.config.validate import validate
from bnexp.data.amount import budget_note, fit_train_size
from bnexp.interrupt import tidied
from bnexp.plan.checks import check, check_pretraining, check_runs
from bnexp.plan.spec import digest, identity, plain
from bnexp.plan.study import TRAIN_SIZE, Choice, budgeted, fitting, merge, pretraining_job
from bnexp.plan.study import jobs as study_jobs

CONFIG_NAME = "run"
ConfigStore.instance().store(name="schema", node=RunConfig)


def config_dirs() -> list[Path]:
    """Directories of configuration files: bnexp's own, then the user's (``BNEXP_CONFIG_PATH``)."""
    package = Path(__file__).parents[1]
    packaged = package / "configs"
    own = packaged if packaged.is_dir() else package.parent / "configs"
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
        search_path.prepend("user", f"bnexp://{path}", anchor="main")  # hydra_plugins.bnexp.user_files
    version.setbase("1.3")
    GlobalHydra.instance().clear()
    try:
        yield Hydra.create_main_hydra2("bnexp", search_path)
    finally:
        GlobalHydra.instance().clear()


def compose(overrides: Sequence[str] = ()) -> RunConfig:
    """One validated configuration. Raises ConfigError."""
    check_overrides(overrides, groups())
    for text in overrides:
        if OverridesParser.create().parse_override(text).is_sweep_override():
            raise ConfigError(f"{text} has several values: that makes several runs; add -m to bnexp train, or give one value.")
    with _hydra() as hydra, translated():
        return to_config(hydra.compose_config(CONFIG_NAME, list(overrides), RunMode.RUN, with_log_configuration=False))


def to_config(tree: DictConfig) -> RunConfig:
    """Hydra's tree -> validated dataclasses. Raises ConfigError, and DataError where the user's own files cannot be read."""
    with translated():
        tree = tree.copy()
        with open_dict(tree):
            tree.pop("hydra", None)
        config = OmegaConf.to_object(tree)
    assert isinstance(config, RunConfig)
    validate(config)
    fit_train_size(config)
    return config


def launch(task: Callable[[DictConfig], Any], overrides: Sequence[str], *, multirun: bool) -> list[JobReturn]:
    """Run ``task`` under Hydra: once, or for every job of a multirun with the chosen sweeper and launcher.

    ``task`` gives the job's objective. Raises ConfigError.
    """
    check_overrides(overrides, groups())
    with _hydra() as hydra, translated():
        if not multirun:
            return [_run_once(hydra, task, overrides)]
        with tidied():  # a launcher may have started processes
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


Composed = dict[tuple[str, ...], RunConfig]


def compose_jobs(
    loader: ConfigLoader, master: DictConfig, jobs: Sequence[Sequence[str]], cache: Composed | None = None
) -> list[RunConfig]:
    """The validated configurations of a multirun's jobs.

    Hydra needs some 50 ms for one; jobs that differ only in their seed, or in the run that they start from, are composed once.
    ``cache`` keeps what was composed for the next call with the same ``master``.
    """
    return list(_compose_each(jobs, _quick_loader(loader, master), {} if cache is None else cache))


def _quick_loader(loader: ConfigLoader, master: DictConfig) -> Callable[[list[str]], DictConfig]:
    """Hydra's ``load_sweep_config``, but that the files are read and composed once for each choice of config groups.

    The overrides of values change the finished composition, which takes a small part of the time; Hydra does the same.
    """
    known = groups()
    composed: dict[tuple[str, ...], DictConfig] = {}

    def load(overrides: list[str]) -> DictConfig:
        parsed = OverridesParser.create(loader).parse_overrides(overrides)
        chosen = [item.key_or_group in known or item.is_hydra_override() for item in parsed]
        choices = tuple(itertools.compress(overrides, chosen))
        if choices not in composed:
            composed[choices] = loader.load_sweep_config(master, list(choices))
            with open_dict(composed[choices]):
                composed[choices].pop("hydra")
        tree = composed[choices].copy()
        values = [item for item, is_choice in zip(parsed, chosen, strict=True) if not is_choice]
        ConfigLoaderImpl._apply_overrides_to_config(values, tree)
        return tree

    return load


def _compose_each(
    jobs: Sequence[Sequence[str]], load: Callable[[list[str]], DictConfig], cache: Composed
) -> Iterator[RunConfig]:
    for job in jobs:
        own = dict(item.split("=", 1) for item in job if item.startswith(("seed=", "train.init_from='")))
        rest = tuple(item for item in job if item.split("=", 1)[0] not in own)
        cached = (*rest, *own)
        if cached not in cache:
            with translated():
                cache[cached] = to_config(load([*rest, *(f"{name}={value}" for name, value in own.items())]))
        config = deepcopy(cache[cached])
        if "seed" in own:
            config.seed = int(own["seed"])
        if "train.init_from" in own:
            config.train.init_from = own["train.init_from"].strip("'")
        if own:
            validate(config)
        yield config


def expand_multirun(overrides: Sequence[str]) -> list[RunConfig]:
    """The configurations of ``bnexp train -m`` with the basic sweeper or a study; those of a searching sweeper are not
    known beforehand. Raises ConfigError."""
    if any(item.startswith("study=") for item in overrides):
        plan = expand_study(overrides)
        if plan.study.tune.grid:
            name = plan.study.name
            raise ConfigError(f"what study {name} tunes is not known yet; list its runs: bnexp study {name} --dry-run.")
        return [config for phase in plan.runs.phases for config in phase.configs]
    if any(item.startswith("hydra/sweeper=") and item != "hydra/sweeper=basic" for item in overrides):
        raise ConfigError("the runs of a searching sweeper are not known before it runs; leave out --dry-run or hydra/sweeper.")
    check_overrides(overrides, groups())
    with _hydra() as hydra, translated():
        parsed = OverridesParser.create(hydra.config_loader).parse_overrides(list(overrides))
        jobs = [job for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]
        master = hydra.compose_config(CONFIG_NAME, [], RunMode.MULTIRUN, with_log_configuration=False)
        return compose_jobs(hydra.config_loader, master, jobs)


@dataclass(frozen=True)
class Batch:
    """Runs as override lists and as configurations, in the same order; ``pretraining``: those that they start from, if any."""

    jobs: list[list[str]]
    configs: list[RunConfig]
    pretraining: Batch | None = None

    @property
    def phases(self) -> list[Batch]:
        """What can train at once, in order."""
        return [self.pretraining, self] if self.pretraining else [self]

    def marked(self, study_id: str) -> Batch:
        """The same runs as those of a study. Runs that they start from may be shared between studies, and are not marked."""
        jobs = [[*job, f"study.id='{study_id}'"] for job in self.jobs]  # quoted: a hash may read as a number
        configs = [replace(config, study=replace(config.study, id=study_id)) for config in self.configs]
        return replace(self, jobs=jobs, configs=configs)


@dataclass(frozen=True)
class StudyPlan:
    """A study, expanded: its definition and its runs. ``batch`` composes other runs of it; ``choices``: the tuned values;
    ``launcher``: the name of Hydra's launcher; ``note``: how it was fitted to the data, where it was."""

    study: StudyConfig
    study_id: str
    runs: Batch
    batch: Callable[[Iterable[list[str]]], Batch] = field(repr=False, compare=False)
    choices: list[Choice] = field(default_factory=list)
    launcher: str = "cohort"
    note: str = ""

    @property
    def jobs(self) -> list[list[str]]:
        return self.runs.jobs

    @property
    def configs(self) -> list[RunConfig]:
        return self.runs.configs

    def with_choices(self, choices: list[Choice]) -> StudyPlan:
        """The plan whose runs have the chosen values. The study and its id stay: they say how values are chosen."""
        return replace(self, choices=choices, runs=self.batch(study_jobs(self.study, choices)).marked(self.study_id))


def expand_study(overrides: Sequence[str]) -> StudyPlan:
    """Arms x factors x seeds of the study that ``overrides`` choose (``study=NAME``). Raises ConfigError."""
    check_overrides(overrides, groups())
    with _hydra() as hydra:
        return expand(hydra.config_loader, overrides)


def expand(loader: ConfigLoader, overrides: Sequence[str]) -> StudyPlan:
    """``expand_study`` with Hydra's loader at hand, as in a sweeper.

    An override with several values (``optim.lr=0.01,0.1``) becomes one more factor. The study id hashes the question with
    its metric, direction, margin, way of tuning and runs (untuned ones), before any of them trains.
    """
    with translated():
        parsed = OverridesParser.create(loader).parse_overrides(list(overrides))
        fixed = [item for item in parsed if not item.is_sweep_override()]
        fixed_lines = [str(item.input_line) for item in fixed]
        swept = {
            item.key_or_group: list(map(unescaped, item.sweep_string_iterator())) for item in parsed if item.is_sweep_override()
        }
        master = loader.load_configuration(CONFIG_NAME, fixed_lines, RunMode.MULTIRUN)
    base = to_config(master)
    study = deepcopy(base.study)
    factors, note = fitting(study, base.data) if TRAIN_SIZE not in swept else (budgeted(study), "")
    study.factors = factors | swept
    if not study.name:
        names = groups().get("study", [])
        raise ConfigError(f"no study was chosen: allowed is one of {', '.join(names)}; try bnexp study {names[0]}.")
    check(study, [item.key_or_group for item in fixed], list(swept))

    compose = partial(compose_jobs, loader, master, cache={})

    def batch(jobs: Iterable[list[str]]) -> Batch:
        return _compose_batch(compose, study, [merge(fixed_lines, job) for job in jobs])

    runs = batch(study_jobs(study))
    check_runs(study, runs.configs)
    study_id = digest([_definition(study), study.margin or base.data.margin, sorted(map(_run_id, runs.configs))], 8)
    launcher = str(master.hydra.runtime.choices["hydra/launcher"])
    note = note if TRAIN_SIZE in study.factors else budget_note(base)
    return StudyPlan(study, study_id, runs.marked(study_id), batch, launcher=launcher, note=note)


def _definition(study: StudyConfig) -> dict[str, Any]:
    """What a study asks and how it finds out."""
    given = {name: value for name, value in asdict(study).items() if name not in ("arm", "levels", "id", "show")}
    return dict(plain(given if study.tune.grid else given | {"tune": None}))


def _run_id(config: RunConfig) -> str:
    return digest(identity(config))


def _compose_batch(
    compose: Callable[[Sequence[Sequence[str]]], list[RunConfig]], study: StudyConfig, jobs: list[list[str]]
) -> Batch:
    """The runs of ``jobs``; with ``study.pretrain`` each starts from its pretraining, which runs that agree in it share."""
    configs = compose(jobs)
    if not study.pretrain:
        return Batch(jobs, configs)
    first_jobs = [pretraining_job(study, job) for job in jobs]
    first_configs = compose(first_jobs)
    starts = [_run_id(config) for config in first_configs]
    for job, config, first, start in zip(jobs, configs, first_configs, starts, strict=True):
        check_pretraining(study, config, first)
        job.append(f"train.init_from='{start}'")
        config.train.init_from = start
    once = [starts.index(start) for start in dict.fromkeys(starts)]
    return Batch(jobs, configs, Batch([first_jobs[i] for i in once], [first_configs[i] for i in once]))
