"""The Hydra sweeper ``study``, which expands a study into arms x factors x seeds and gives the jobs to the launcher."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from bnexp.plan.expand import Batch


@dataclass
class StudySweeperConf:
    _target_: str = "hydra_plugins.bnexp.study_sweeper.StudySweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="study", node=StudySweeperConf, provider="bnexp")


class StudySweeper(Sweeper):
    """Composes and validates every run of a study before the launcher starts the first one.

    The runs that tune train first, if there are any, then the pretrainings, then the study's own runs, then those at levels
    that the study adds.
    """

    launcher: Launcher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.loader = hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from bnexp.config.overrides import parse
        from bnexp.plan.expand import expand
        from bnexp.plan.session import groups
        from bnexp.run.refining import next_levels, recalled
        from bnexp.run.tuning import tune
        from bnexp.tracking.store import Store

        store = Store()
        plan = tune(recalled(expand(self.loader, parse(arguments, groups(), self.loader)), store), store, self._launch)
        done = [self._launch(phase) for phase in plan.runs.phases]
        launched = {spec.run_id for phase in plan.runs.phases for spec in phase.specs}
        while levels := next_levels(plan, store):
            plan = tune(plan.with_levels(levels), store, self._launch)
            for phase in plan.runs.phases:
                further = {spec.run_id for spec in phase.specs} - launched
                done += [self._launch(phase.only(further))] if further else []
                launched |= further
        return done

    def _launch(self, batch: "Batch") -> Any:
        from bnexp.plan.study import texts_of

        return self.launcher.launch([texts_of(job) for job in batch.jobs], initial_job_idx=0)
