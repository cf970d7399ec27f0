"""Hydra, set up with bnexp's configuration files. The only module that drives Hydra.

``hydra._internal`` is imported here, in ``files`` and in the plugin ``user_files``, nowhere else.
``tests/plan/test_session.py`` fails if a new version of Hydra changes it. These are the parts in use, and why nothing public
can replace them:

``Hydra``                      runs and multiruns from inside a program: ``hydra.main`` returns nothing and reads ``sys.argv``,
                               ``hydra.compose`` cannot multirun
``ConfigRepository``           (``files``) reads each configuration file once
``ConfigLoaderImpl``           (``files``) composes; here it sets values in a composition that exists: a new one takes 50 ms,
                               and a study has hundreds
``create_config_search_path``  makes the search path that ``Hydra`` needs
``Callbacks``                  a launcher needs them, but Hydra makes them only for a sweeper
``FileConfigSource``           (``user_files``) reads configuration files
"""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobRuntime, JobStatus
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from bnexp.config.overrides import parse, translated
from bnexp.config.schema import ConfigError, RunConfig
from bnexp.config.sweeps import PARAMS, refuse_interval
from bnexp.interrupt import tidied
from bnexp.plan.files import Loader
from bnexp.plan.search import OPTUNA, SPACES, hearing, prepare_optuna, search_of
from bnexp.terminal import one_line

CONFIG_NAME = "run"
SWEEPS = "sweep"  # the folder of W&B's sweep files, beside those of config groups
PACKAGE = Path(__file__).parents[1]
ConfigStore.instance().store(name="schema", node=RunConfig)

Task = Callable[[DictConfig], Any]  # Hydra calls it with the configuration of a job; it returns the job's objective


def config_dirs() -> list[Path]:
    """Directories of configuration files: bnexp's own, then the user's (``BNEXP_CONFIG_PATH``).

    Raises:
        ConfigError: the user's path names something that is not a directory.
    """
    packaged = PACKAGE / "configs"
    own = packaged if packaged.is_dir() else PACKAGE.parent / "configs"
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
            if path.parent.name == SWEEPS:
                continue  # files of W&B, not of Hydra
            found.setdefault(path.parent.name, set()).add(path.stem)
    return {group: sorted(names) for group, names in sorted(found.items())}


@dataclass(frozen=True)
class Session:
    """Hydra, set up for one command line.

    Args:
        groups: config group -> names of its files.
        overrides: the overrides of the command line, checked and parsed.
        loader: Hydra's loader, which composes configurations from files and overrides.
    """

    groups: dict[str, list[str]]
    overrides: list[Override]
    loader: ConfigLoader
    _hydra: Hydra

    @property
    def texts(self) -> list[str]:
        """The overrides as they were typed."""
        return [str(override.input_line) for override in self.overrides]

    def run(self, task: Task) -> JobReturn:
        """Run one job. An exception of the task is raised as it is. Without this, Hydra would first print lines of its own."""
        raised: list[Exception] = []

        def guarded(tree: DictConfig) -> Any:
            try:
                return task(tree)
            except Exception as error:
                raised.append(error)

        with translated():
            job = self._hydra.run(CONFIG_NAME, guarded, self.texts, with_log_configuration=False)
        if raised:
            raise raised[0]
        return job

    @cached_property
    def master(self) -> DictConfig:
        """The composition of a multirun: Hydra's own keys, and the values that all jobs share."""
        return load(self.loader, self.texts, multirun=True)

    def is_multirun(self, asked: bool) -> bool:
        """Whether the overrides stand for a multirun: ``-m`` or ``hydra.mode=MULTIRUN``.

        Args:
            asked: whether the command line has ``-m``.

        Raises:
            ConfigError: a sweeper is chosen that searches, but nothing says that it should.
        """
        with translated():
            search = search_of(self.master)
            several = asked or self.master.hydra.mode is RunMode.MULTIRUN
        if search and not several:
            raise ConfigError(f"hydra/sweeper={search.sweeper} searches among several runs; add -m to bnexp train.")
        varied = [override for override in [*self.params(), *self.overrides] if override.is_sweep_override()]
        if search and search.sweeper == OPTUNA and not (varied or any(map(self.master.hydra.sweeper.get, SPACES))):
            raise ConfigError("hydra/sweeper=optuna has nothing to vary; give a key values, as 'optim.lr=interval(0.01,0.1)'.")
        for override in varied if several and not search else ():
            refuse_interval(override)
        return several

    def params(self) -> list[Override]:
        """What a configuration file lets the sweeper vary (``hydra.sweeper.params``), without keys of the command line.

        Raises:
            ConfigError: one of them cannot be read or names something that does not exist.
        """
        given = self.master.hydra.sweeper.get("params") or {}
        typed = {override.key_or_group for override in self.overrides}
        try:
            parsed = parse([f"{key}={value}" for key, value in given.items()], self.groups, self.loader)
        except ConfigError as error:
            raise ConfigError(f"{PARAMS} of a configuration file: {error}") from None
        return [override for override in parsed if override.key_or_group not in typed]

    def multirun(self, task: Task, heard: Callable[[Sequence[JobReturn]], None] | None = None) -> list[JobReturn]:
        """Run the jobs that the chosen sweeper makes of the overrides, with the chosen launcher.

        Args:
            task: is called for each job, maybe in another process.
            heard: is called with the jobs of each launch when they have ended; None if nobody wants to know.

        Returns:
            What the sweeper returns. Most searching sweepers return nothing; then all that was launched.
        """
        launched: list[JobReturn] = []
        with translated(), tidied():  # a launcher may have started processes
            search = search_of(self.master)
            if search:
                Path(self.master.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)  # a sweeper may write there when it ends
            if search and search.sweeper == OPTUNA:
                prepare_optuna(self.master.hydra.sweeper.get("storage"))

            def hear(jobs: Sequence[JobReturn]) -> None:
                launched.extend(jobs)
                if heard:
                    heard(jobs)
                for job in jobs if search else ():
                    if job.status is JobStatus.COMPLETED and math.isnan(job.return_value):
                        job.return_value = search.worst if search else math.nan

            texts = [*self.texts, *(search.settings if search else [])]
            with hearing(hear) as failed:
                try:
                    result = self._hydra.multirun(CONFIG_NAME, task, texts, with_log_configuration=False)
                except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
                    ours = [*failed, *(job._return_value for job in launched)]
                    if search is None or isinstance(error, ConfigError) or any(error is other for other in ours):
                        raise
                    raise ConfigError(
                        f"hydra/sweeper={search.sweeper} refuses: {one_line(error)} (--debug shows where)."
                    ) from error
        if not isinstance(result, list):
            return launched
        return [job for batch in result for job in (batch if isinstance(batch, Sequence) else [batch])]

    def launch(self, task: Task, master: DictConfig, jobs: Sequence[Sequence[str]]) -> list[JobReturn]:
        """Run jobs with a launcher, but without a sweeper.

        Args:
            task: is called for each job, maybe in another process.
            master: the multirun's own composition, which names the launcher.
            jobs: the overrides of each job.

        Returns:
            What the launcher returns for each job, in the same order.
        """
        with translated(), tidied():
            callbacks = Callbacks(master)
            callbacks.on_multirun_start(config=master, config_name=CONFIG_NAME)
            context = HydraContext(config_loader=self.loader, callbacks=callbacks)
            launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=master)
            done = launcher.launch([list(job) for job in jobs], initial_job_idx=0)
            callbacks.on_multirun_end(config=master, config_name=CONFIG_NAME)
        return list(done)


def _load_plugins() -> None:
    """Let Hydra import its plugins. It imports all that are installed, so a broken one breaks every command.

    Raises:
        ConfigError: one cannot be imported; the sentence names it.
    """
    try:
        Plugins.instance()
    except Exception as error:
        frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
        broken = next((name for name in reversed(frames) if name.startswith("hydra_plugins.")), None)
        if broken is None:
            raise
        package = broken.split(".")[1]
        raise ConfigError(
            f"the installed Hydra plugin {package} cannot be imported ({one_line(error)}); "
            f"it may be too old for this Python: pip uninstall {package.replace('_', '-')}"
        ) from error


@contextmanager
def session(overrides: Sequence[str] = ()) -> Iterator[Session]:
    """Hydra, set up for these overrides. Raises ConfigError if one cannot be read or names something that does not exist.

    Hydra has one state for the whole process. A program that uses both Hydra and bnexp finds its own again afterwards.
    """
    own, *user = config_dirs()
    _load_plugins()
    search_path = create_config_search_path(str(own))
    for path in user:
        search_path.prepend("user", f"bnexp://{path}", anchor="main")  # hydra_plugins.bnexp.user_files
    current, base, job = GlobalHydra.instance(), version.VersionBase.instance(), JobRuntime.instance()
    before, job_name = (current.hydra, base.version_base), job.get("name")
    version.setbase("1.3")
    current.clear()
    try:
        hydra = Hydra("bnexp", Loader(search_path))
        current.initialize(hydra)
        known = groups()
        yield Session(known, parse(overrides, known, hydra.config_loader), hydra.config_loader, hydra)
    finally:
        current.hydra, base.version_base = before
        job.set("name", job_name)


def load(loader: ConfigLoader, overrides: Sequence[str], *, multirun: bool = False) -> DictConfig:
    """Compose bnexp's files with these overrides.

    Args:
        loader: Hydra's configuration loader.
        overrides: ``KEY=VALUE``, each with one value.
        multirun: whether Hydra's own keys are those of a multirun.

    Returns:
        The tree, Hydra's own keys included.

    Raises:
        ConfigError: it cannot be composed.
    """
    with translated():
        return loader.load_configuration(CONFIG_NAME, list(overrides), RunMode.MULTIRUN if multirun else RunMode.RUN)


def hydra_tree(overrides: Sequence[str], *, resolve: bool = False) -> dict[str, Any]:
    """Hydra's own keys, as they are composed for these overrides.

    Args:
        overrides: as the user gave them; a key may have several values.
        resolve: give the values of interpolations.

    Raises:
        ConfigError: they cannot be composed.
    """
    with session(overrides) as hydra, translated():
        search = search_of(hydra.master)
        own = load(hydra.loader, [*hydra.texts, *(search.settings if search else [])], multirun=True).hydra
        found = OmegaConf.to_container(own, resolve=resolve, enum_to_str=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items() if key not in ("help", "hydra_help")}


def apply(overrides: Sequence[Override], tree: DictConfig) -> None:
    """Set the values of ``overrides`` in an existing composition. None of them may choose a file of a config group."""
    ConfigLoaderImpl._apply_overrides_to_config(list(overrides), tree)
