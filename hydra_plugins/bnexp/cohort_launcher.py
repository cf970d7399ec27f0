"""The Hydra launcher ``cohort``, which trains the jobs of a multirun together, as cohorts, instead of one after another."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


@dataclass
class CohortLauncherConf:
    _target_: str = "hydra_plugins.bnexp.cohort_launcher.CohortLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="cohort", node=CohortLauncherConf, provider="bnexp")


class CohortLauncher(Launcher):
    """Composes and validates every job before the first one trains, then gives all of them to the runner."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        # The task function trains a single job. A cohort needs all of them, so ``launch`` calls the runner directly.
        del task_function
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        del initial_job_idx
        from bnexp.plan.compose import Composer
        from bnexp.plan.spec import RunSpec
        from bnexp.plan.study import as_job
        from bnexp.run import runner

        configs = Composer(self.hydra_context.config_loader, self.config)([as_job(job) for job in job_overrides])
        specs = [RunSpec(config) for config in configs]
        results = runner.run(specs)
        return [
            JobReturn(
                overrides=list(overrides),
                cfg=OmegaConf.structured(spec.config),
                status=JobStatus.COMPLETED,
                _return_value=runner.job_value(spec, results[spec.run_id]),
            )
            for spec, overrides in zip(specs, job_overrides, strict=True)
        ]
