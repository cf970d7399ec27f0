"""Hydra sweeper ``study``: expands the arms x factors x seeds of a study and hands the jobs to the launcher."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class StudySweeperConf:
    _target_: str = "hydra_plugins.bnexp.study_sweeper.StudySweeper"
    only_tuning: bool = False


ConfigStore.instance().store(group="hydra/sweeper", name="study", node=StudySweeperConf, provider="bnexp")


class StudySweeper(Sweeper):
    """Every run of the study is composed and validated before the launcher starts the first.

    A study that is tuned trains the runs that tune first, and those alone with ``only_tuning``; one with pretraining then the
    runs that the others start from.
    """

    launcher: Launcher

    def __init__(self, only_tuning: bool = False) -> None:
        self.only_tuning = only_tuning

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.loader = hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from bnexp.plan.compose import expand
        from bnexp.run.tuning import tune
        from bnexp.tracking.store import Store

        plan = tune(expand(self.loader, arguments), Store(), self._launch)
        return [] if self.only_tuning else [self._launch(phase.jobs) for phase in plan.runs.phases]

    def _launch(self, jobs: list[list[str]]) -> Any:
        return self.launcher.launch(jobs, initial_job_idx=0)
