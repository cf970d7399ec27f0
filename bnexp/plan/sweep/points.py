"""The points of a sweep, and the runs of each: a sweep file and overrides -> validated configurations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bnexp.config.keys import (
    RECORDED_ONCE,
    KeyInfo,
    alternatives,
    did_you_mean,
    final_metrics,
    in_args,
    of_split,
    schema_keys,
)
from bnexp.config.overrides import parse, unescaped
from bnexp.config.schema import ConfigError, RunConfig
from bnexp.config.validate import MAX_RUNS, check_range
from bnexp.plan.compose import Composer
from bnexp.plan.session import Session, load
from bnexp.plan.spec import RunSpec, digest
from bnexp.plan.study import Job, as_job, literal, overrides_of
from bnexp.plan.sweep.distribution import KINDS, Parameter, Value
from bnexp.plan.sweep.file import SweepFile
from bnexp.plan.sweep.metric import Metric

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

Point = dict[str, Value]  # parameter -> its value
SEED = "seed"
TRIES = 200  # draws in a row that repeat an earlier point, before a random sweep counts as complete
NOT_SEARCHED = ("study", "hydra", "track", "executor")  # groups and sections of keys that change no training


@dataclass(frozen=True)
class PlannedPoint:
    """A point that a sweep is about to try.

    Args:
        number: from 1, in the order in which points are chosen.
        point: its values.
        specs: its runs, one per seed; none if it cannot train.
        problem: why it cannot train; empty if it can.
    """

    number: int
    point: Point
    specs: list[RunSpec]
    problem: str = ""


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that is about to run.

    Args:
        file: the sweep file.
        parameters: what is searched: those of the file that no override fixes, without the seed.
        metric: what is optimised.
        overrides: the overrides that all runs share, as typed.
        seeds: the seeds that each point trains with.
        search_seed: of the draws of ``random`` and ``bayes``.
        sources: fingerprints of the user's own functions, see ``config/source.py``.
    """

    file: SweepFile
    parameters: dict[str, Parameter]
    metric: Metric
    overrides: list[str]
    seeds: list[int]
    search_seed: int
    _compose: Composer
    _shared: Job
    sources: list[str] = field(default_factory=list)

    @property
    def sweep_id(self) -> str:
        """Hash of everything that decides which points there are and what they train, but not how many."""
        own = {info.name for info in schema_keys() if not info.metadata["identity"]}
        shared = sorted(
            f"{key}={value}" for key, value in self._shared.items() if key not in own and key.split(".")[0] not in NOT_SEARCHED
        )
        stops = self.file.early_terminate
        asked = [
            self.file.method,
            [asdict(item) for item in self.parameters.values()],
            asdict(replace(self.metric, target=None)),
            asdict(stops) if stops else None,
            shared,
            self.seeds,
            None if self.file.method == "grid" else self.search_seed,
        ]
        return digest([*asked, self.sources] if self.sources else asked, 8)

    @property
    def varied(self) -> dict[str, Parameter]:
        """What a point has values of."""
        return {name: item for name, item in self.parameters.items() if item.varies}

    @property
    def constants(self) -> Point:
        """The parameters that have one value, which all runs share."""
        return {name: item.values[0] for name, item in self.parameters.items() if not item.varies}

    def specs(self, point: Point, seeds: Sequence[int] | None = None) -> list[RunSpec]:
        """The runs of a point, one per seed. Raises ConfigError if its values are not possible."""
        values = {name: literal(value) for name, value in (self.constants | point).items()}
        configs = self._compose([self._shared | values | {SEED: str(seed)} for seed in seeds or self.seeds])
        return [self._named(config, point) for config in configs]

    def planned(self, number: int, point: Point) -> PlannedPoint:
        """A point with its runs. One that cannot train has none: a range may reach beyond what its key allows.

        Raises:
            ConfigError: it cannot train, but the file lists it (``grid``).
        """
        try:
            return PlannedPoint(number, point, self.specs(point))
        except ConfigError as error:
            if self.file.method == "grid":
                raise ConfigError(f"{point_text(point)}: {error}") from error
            return PlannedPoint(number, point, [], str(error).rstrip("."))

    def _named(self, config: RunConfig, point: Point) -> RunSpec:
        levels = {name: value for name, value in point.items() if name not in ("norm", "norm.kind")}
        return RunSpec(replace(config, study=replace(config.study, name=self.file.name, levels=levels)))

    def points(self) -> Iterator[Point]:
        """The points of ``grid`` and ``random``, in order. Those of ``random`` have no end unless its values have one."""
        points = _grid(self.parameters) if self.file.method == "grid" else _random(self.parameters, self.search_seed)
        return ({name: point[name] for name in self.varied} for point in points)

    def middle(self) -> list[RunSpec]:
        """The runs of a point in the middle of the ranges, as an example. Raises ConfigError if it is not possible."""
        point = {name: item.at(0.5) for name, item in self.varied.items()}
        try:
            return self.specs(point)
        except ConfigError as error:
            raise ConfigError(f"{self.file.name}: {point_text(point)}: {error}") from error


def point_text(point: Mapping[str, Any]) -> str:
    """A point as overrides: ``norm=batch optim.lr=0.1``."""
    return " ".join(overrides_of(point))


def _grid(parameters: Mapping[str, Parameter]) -> Iterator[Point]:
    axes = [item.grid() for item in parameters.values()]
    for values in itertools.product(*axes):
        yield dict(zip(parameters, values, strict=True))


def _random(parameters: Mapping[str, Parameter], search_seed: int) -> Iterator[Point]:
    """Draws from the distributions, each point once."""
    generator = np.random.default_rng(search_seed)
    seen: set[str] = set()
    misses = 0
    while misses < TRIES:
        draws = generator.random(len(parameters)).tolist()
        point = {name: item.at(u) for (name, item), u in zip(parameters.items(), draws, strict=True)}
        misses = misses + 1 if point_text(point) in seen else 0
        if not misses:
            seen.add(point_text(point))
            yield point


def plan_sweep(hydra: Session, file: SweepFile, seeds: int | None, search_seed: int) -> SweepPlan:
    """Bring a sweep file and the overrides of a command line together, and check both.

    An override of a searched parameter replaces its values: ``optim.lr=0.1`` fixes it, ``optim.lr=0.1,0.2`` lists them.

    Args:
        hydra: a session with the overrides.
        file: the sweep file.
        seeds: number of seeds that each point trains with; None: those of the file, or the one of the overrides.
        search_seed: of the draws of ``random`` and ``bayes``.

    Raises:
        ConfigError: a parameter or an override is not possible.
    """
    parameters, fixed = dict(file.parameters), []
    for override in hydra.overrides:
        name = override.key_or_group
        if name.split(".")[0] in ("study", "hydra"):
            raise ConfigError(f"{override.input_line} has no effect in a sweep: its file says what is varied; leave it out.")
        if override.is_sweep_override():
            parameters[name] = _listed(override)
        else:
            parameters.pop(name, None)
            fixed.append(override)
    for item in parameters.values():
        _check_parameter(item, hydra, file.name)
    shared = as_job(str(item.input_line) for item in fixed)
    chosen = _seeds(parameters.pop(SEED, None), int(shared.pop(SEED, 0)), seeds)
    if not any(item.varies for item in parameters.values()):
        raise ConfigError(f"{file.name} has nothing to search with these overrides: every parameter has one value.")
    compose = Composer(hydra.loader, load(hydra.loader, [], multirun=True))
    texts = [f"{key}={value}" for key, value in shared.items()]
    plan = SweepPlan(file, parameters, file.metric or Metric(), texts, chosen, search_seed, compose, shared)
    first = plan.middle()[0].config
    sources = [part.fingerprint for part in (first.data, first.model) if part.fingerprint]
    return replace(plan, metric=_metric(file, first), sources=sources)


def _listed(override: Override) -> Parameter:
    """An override with several values as a parameter."""
    import yaml

    if override.is_interval_sweep():
        raise ConfigError(f"{override.input_line}: list the values, or write a distribution into the sweep file.")
    values = [yaml.safe_load(unescaped(text)) for text in override.sweep_string_iterator()]
    return Parameter(override.key_or_group, "categorical", tuple(values))


def _seeds(given: Parameter | None, base: int, count: int | None) -> list[int]:
    """The seeds that each point trains with."""
    if given is None:
        return list(range(base, base + (count or 1)))
    whole = [value for value in given.values if isinstance(value, int) and not isinstance(value, bool) and value >= 0]
    if not given.values or len(whole) != len(given.values):
        raise ConfigError(
            "seed is no setting to search: give seed: {values: [0, 1, 2]} for the seeds of each point, or --seeds N."
        )
    if count is not None:
        raise ConfigError(f"--seeds {count} and the seeds of the sweep file exclude each other; leave one of them out.")
    return list(dict.fromkeys(whole))


def _check_parameter(item: Parameter, hydra: Session, place: str) -> None:
    """Raise ConfigError unless the key exists and may have the values."""
    if item.name.split(".")[0] in NOT_SEARCHED:
        raise ConfigError(f"{place}: {item.name} changes nothing that a run learns, so a sweep cannot search it; leave it out.")
    if len(item.values) > MAX_RUNS:
        raise ConfigError(f"{place}: {item.name} has {len(item.values):,} values: allowed are at most {MAX_RUNS:,}.")
    try:
        parse([f"{item.name}={literal(value)}" for value in item.values], hydra.groups)
        if item.values or in_args(item.name):  # the user's function knows what it takes
            return
        parse([f"{item.name}=0"] if item.name not in hydra.groups else [], hydra.groups)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
    info = {info.name: info for info in schema_keys()}.get(item.name)
    if info is None or not info.is_number:
        raise ConfigError(f"{place}: {item.name} takes no numbers, so {item.kind} is not possible; give values: [...].")
    numbers = item.numbers or {}
    if info.is_integer and item.kind != "int_uniform" and not float(numbers.get("q", 0.5)).is_integer():
        raise ConfigError(
            f"{place}: {item.name} is a whole number; use distribution: int_uniform, one that begins with q_, or values: [...]."
        )
    if "min" in KINDS[item.kind].needs:
        for u in (0.0, 1.0):
            _in_range(info, item.at(u), place)


def _in_range(info: KeyInfo, value: Value, place: str) -> None:
    try:
        assert isinstance(value, int | float)
        check_range(info, value)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error


def _metric(file: SweepFile, config: RunConfig) -> Metric:
    """What is optimised. Raises ConfigError if runs do not record it, or if the goal is the wrong way round."""
    known = final_metrics(config)
    metric = file.metric or Metric("val/accuracy" if "val/accuracy" in known else "test/accuracy")
    if metric.name not in known:
        allowed = alternatives(did_you_mean(metric.name, known), f"are {', '.join(known)}")
        raise ConfigError(f"{file.name}: metric {metric.name!r} is recorded by no run of this sweep{allowed}")
    split, _, name = metric.name.rpartition("/")
    better = of_split(split).get(name) if split in ("train", "val", "test") else None
    wanted = {"min": "minimize", "max": "maximize"}.get(better or "", metric.goal)
    if wanted != metric.goal:
        raise ConfigError(
            f"{file.name}: the goal of metric {metric.name} is {metric.goal} (W&B's default is minimize), but it is better "
            f"if it is {'larger' if better == 'max' else 'smaller'}; write goal: {wanted}."
        )
    if file.early_terminate is not None and split in RECORDED_ONCE:
        raise ConfigError(
            f"{file.name}: early_terminate compares runs after epochs, but {metric.name} is recorded once, at the end; use "
            "val/accuracy or val/loss."
        )
    return metric
