"""Expands a study or a multirun into its runs. Each is composed and validated before the first one trains."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from bnexp.config.options import Analysis, ModelName
from bnexp.config.overrides import translated, unescaped
from bnexp.config.schema import ConfigError, RunConfig, StudyConfig
from bnexp.config.sweeps import refuse_interval
from bnexp.config.validate import resolve_seeds
from bnexp.plan.budget import fitted
from bnexp.plan.checks import check, check_pretraining, check_runs
from bnexp.plan.compose import Composer, compose_one, to_config
from bnexp.plan.grid import as_level
from bnexp.plan.reaching import fit_reach, refuse_typed
from bnexp.plan.search import search_of
from bnexp.plan.session import groups, load, session
from bnexp.plan.spec import RunSpec, digest, plain
from bnexp.plan.study import Choice, Job, as_job, merge, pretraining_job
from bnexp.plan.study import jobs as study_jobs

# Keys of a study that change neither its question nor its answer, or only by way of another key.
PRESENTED = ("arm", "levels", "id", "show", "theme", "least_seeds")
# Besides the runs, what makes a question: what is read of them. A margin, a direction or a deciding set that is chosen after a
# look is no new question but another look at the same results.
ASKED = ("metric", "metrics", "analysis", "match", "pretrain", "tune")


@dataclass(frozen=True)
class Batch:
    """Runs that can train at the same time, once their pretraining has ended.

    Args:
        jobs: the overrides of each run.
        specs: the runs, in the same order.
        pretraining: the runs that they start from; None if they start from newly drawn weights.
    """

    jobs: list[Job]
    specs: list[RunSpec]
    pretraining: Batch | None = None

    @property
    def phases(self) -> list[Batch]:
        """The batches that have to train one after another: the pretraining, if there is one, and this one."""
        return [self.pretraining, self] if self.pretraining else [self]

    def only(self, run_ids: Collection[str]) -> Batch:
        """The runs with these ids, without those that they start from."""
        kept = [(job, spec) for job, spec in zip(self.jobs, self.specs, strict=True) if spec.run_id in run_ids]
        return Batch([job for job, _ in kept], [spec for _, spec in kept])

    def of_seeds(self, seeds: Collection[int]) -> Batch:
        """The runs with these seeds, and those that they start from."""
        kept = self.only({spec.run_id for spec in self.specs if spec.seed in seeds})
        starts = {spec.config.train.init_from for spec in kept.specs}
        return replace(kept, pretraining=self.pretraining and self.pretraining.only({start for start in starts if start}))

    def marked(self, study_id: str) -> Batch:
        """The same runs, marked with the study's id. Their pretraining may be shared between studies, so it is not marked."""
        jobs = [job | {"study.id": f"'{study_id}'"} for job in self.jobs]  # quoted: a hash may read as a number
        configs = [replace(spec.config, study=replace(spec.config.study, id=study_id)) for spec in self.specs]
        return replace(self, jobs=jobs, specs=list(map(RunSpec, configs)))


@dataclass(frozen=True)
class StudyPlan:
    """A study, expanded.

    Args:
        study: its definition, fitted to budget and data.
        study_id: hash of the question and its runs, as they are before tuning.
        question_id: hash of what is read of which runs, whatever their seeds: studies that share it look at the same results.
        runs: its runs.
        master: Hydra's composition with the overrides that all runs share.
        choices: the tuned values; empty before tuning, and if nothing is tuned.
        added: the levels that were added to its one factor, ascending (``study.refine``).
        note: a sentence on how it was fitted to the data; empty if it was not.
    """

    study: StudyConfig
    study_id: str
    question_id: str
    runs: Batch
    master: DictConfig = field(repr=False, compare=False)
    _compose: Composer = field(repr=False, compare=False)
    _shared: Job = field(repr=False, compare=False)
    choices: list[Choice] = field(default_factory=list)
    added: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def seeds(self) -> list[int]:
        """The seeds of its runs, in order."""
        return list(dict.fromkeys(spec.seed for spec in self.specs))

    def first(self, num_seeds: int) -> StudyPlan:
        """The same plan with the runs of its first seeds only. Its id stays the same."""
        seeds = resolve_seeds(self.study.seeds)[:num_seeds]
        return replace(self, runs=self.runs.of_seeds(set(seeds)))

    @property
    def specs(self) -> list[RunSpec]:
        """The runs of the study itself, one per cell and seed. Arms may be readings of the same run, which is then repeated."""
        return self.runs.specs

    @property
    def configs(self) -> list[RunConfig]:
        """The configurations of ``specs``."""
        return [spec.config for spec in self.specs]

    @property
    def launcher(self) -> str:
        """The name of Hydra's launcher."""
        return str(self.master.hydra.runtime.choices["hydra/launcher"])

    def batch(self, jobs: Iterable[Job]) -> Batch:
        """Further runs of the study, such as those that tune: ``jobs`` with the overrides that all runs share."""
        return _batch(self._compose, self.study, [merge(self._shared, job) for job in jobs])

    def with_choices(self, choices: list[Choice]) -> StudyPlan:
        """The plan with the chosen values in its runs. The study and its id stay the same: they say how values are chosen."""
        return replace(self, choices=choices, runs=self.batch(study_jobs(self.study, choices)).marked(self.study_id))

    def with_levels(self, levels: Sequence[float]) -> StudyPlan:
        """The plan with further levels of its one factor, for all arms and seeds, and with nothing tuned.

        Its ids stay the same: the study says how levels are chosen, and its question is not a matter of how finely it is asked.
        """
        if not levels:
            return self
        ((name, known),) = self.study.factors.items()
        further = [as_level(level) for level in levels]
        study = replace(self.study, factors={name: sorted([*known, *further], key=float)})
        runs = self.batch(study_jobs(study)).marked(self.study_id)
        return replace(self, study=study, runs=runs, choices=[], added=sorted([*self.added, *further]))


def expand_study(overrides: Sequence[str]) -> StudyPlan:
    """Expand the study that the overrides choose into its arms x factors x seeds.

    Args:
        overrides: ``study=NAME`` and any others. One with several values (``optim.lr=0.01,0.1``) becomes a factor.

    Raises:
        ConfigError: the study cannot run with these overrides.
    """
    with session(overrides) as hydra:
        return expand(hydra.loader, hydra.overrides)


def expand(loader: ConfigLoader, overrides: Sequence[Override]) -> StudyPlan:
    """``expand_study`` for callers that have Hydra's loader and parsed overrides, such as a sweeper.

    The study id is a hash of the question, its metric, direction, margin and way of tuning, and of the runs as they are before
    tuning. So it is known before any of them trains.
    """
    fixed = [item for item in overrides if not item.is_sweep_override()]
    swept = {item.key_or_group: _values(item) for item in overrides if item.is_sweep_override()}
    master = load(loader, [str(item.input_line) for item in fixed], multirun=True)
    with translated():
        network, asked = ModelName(master.model.name), OmegaConf.to_object(master.study)
    assert isinstance(asked, StudyConfig)
    refuse_typed(network, as_job(str(item.input_line) for item in overrides))
    reaching, reach_note = fit_reach(asked, network)  # first: its sentence says more than that on a single key
    base = replace(to_config(master), study=reaching)
    if not base.study.name:
        names = groups().get("study", [])
        raise ConfigError(f"no study was chosen: allowed is one of {', '.join(names)}; try bnexp study {names[0]}.")
    fixed_keys = [item.key_or_group for item in fixed]
    study, note = fitted(base, swept, fixed_keys)
    if study.max_seeds is not None and "study.seeds" in fixed_keys:
        unused = f"study.seeds is not used: seeds are added one after the other, at most {study.max_seeds}."
        note = f"{note} {unused}".strip()
    note = f"{note} {reach_note}".strip()
    check(study, fixed_keys, list(swept))
    compose, shared = Composer(loader, master), as_job(str(item.input_line) for item in fixed)
    runs = _batch(compose, study, [merge(shared, job) for job in study_jobs(study)])
    check_runs(study, [spec.config for spec in runs.specs])
    run_ids = sorted(spec.run_id for spec in runs.specs)
    definition, margin = _definition(study), study.margin or base.data.margin
    study_id = digest([definition, margin, run_ids], 8)
    asked = {name: definition[name] for name in ASKED if name in definition}
    question_id = digest([asked, sorted({_without_seed(spec) for spec in runs.specs})], 8)
    return StudyPlan(study, study_id, question_id, runs.marked(study_id), master, compose, shared, note=note)


def _without_seed(spec: RunSpec) -> str:
    """The id of a run, whatever its seed and the pretraining with that seed."""
    config = spec.config
    return RunSpec(replace(config, seed=0, train=replace(config.train, init_from=None))).run_id


def _values(override: Override) -> list[str]:
    return list(map(unescaped, _texts(override)))


def _texts(override: Override) -> list[str]:
    """The several values of an override, each as text. Raises ConfigError for an interval, which has no list of them."""
    refuse_interval(override)
    return list(override.sweep_string_iterator())


def _definition(study: StudyConfig) -> dict[str, Any]:
    """The keys of a study that decide its id: what it asks and how it finds the answer."""
    unused = () if study.analysis is Analysis.matched else ("match",)
    given = {name: value for name, value in asdict(study).items() if name not in (*PRESENTED, *unused)}
    del given["tune"]["max_values"]  # the grid says it
    if study.refine.ratio is None:
        del given["refine"]
    return dict(plain(given if study.tune.grid else given | {"tune": None}))


def _batch(compose: Composer, study: StudyConfig, jobs: list[Job]) -> Batch:
    """The runs of ``jobs``. With ``study.pretrain`` each starts from a pretraining; runs with equal pretrainings share one."""
    configs = compose(jobs)
    if not study.pretrain:
        return Batch(jobs, list(map(RunSpec, configs)))
    first_jobs = [pretraining_job(study, job) for job in jobs]
    first = Batch(first_jobs, list(map(RunSpec, compose(first_jobs))))
    for config, spec in zip(configs, first.specs, strict=True):
        check_pretraining(study, config, spec.config)
        config.train.init_from = spec.run_id
    starts = [spec.run_id for spec in first.specs]
    jobs = [job | {"train.init_from": f"'{start}'"} for job, start in zip(jobs, starts, strict=True)]
    once = [starts.index(start) for start in dict.fromkeys(starts)]
    shared = Batch([first.jobs[i] for i in once], [first.specs[i] for i in once])
    return Batch(jobs, list(map(RunSpec, configs)), shared)


def expand_multirun(overrides: Sequence[str], *, asked: bool = True) -> list[RunConfig]:
    """The configurations that ``bnexp train -m`` would train with the basic sweeper or a study.

    Args:
        overrides: as the user gave them.
        asked: whether the command line has ``-m``. Without it they make one run, unless ``hydra.mode=MULTIRUN`` is set.

    Raises:
        ConfigError: a run is not possible, or the runs are not known beforehand because a sweeper or a tuning chooses them.
    """
    with session(overrides) as hydra:
        if not hydra.is_multirun(asked):
            return [compose_one(hydra)]
        if "study" in {item.key_or_group for item in hydra.overrides}:
            plan = expand(hydra.loader, hydra.overrides)
            if plan.study.tune.grid:
                name = plan.study.name
                raise ConfigError(f"what study {name} tunes is not known yet; list its runs: bnexp study {name} --dry-run.")
            return [spec.config for phase in plan.runs.phases for spec in phase.specs]
        if search_of(hydra.master) or hydra.master.hydra.runtime.choices["hydra/sweeper"] != "basic":
            raise ConfigError(
                "the runs of a searching sweeper are not known before it runs; leave out --dry-run or hydra/sweeper."
            )
        return Composer(hydra.loader, load(hydra.loader, [], multirun=True))(_products([*hydra.params(), *hydra.overrides]))


def _products(overrides: Sequence[Override]) -> list[Job]:
    """Every combination of the values of the overrides, as Hydra's basic sweeper makes them."""
    keys = [item.get_key_element() for item in overrides]
    values = [_texts(item) if item.is_sweep_override() else [item.get_value_element_as_str()] for item in overrides]
    return [dict(zip(keys, combination, strict=True)) for combination in itertools.product(*values)]
