"""A study as it is recorded before its first run trains: definition, id, settings and planned runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnexp.compare.result import PlannedRun
from bnexp.compare.tuned import tuned_setting
from bnexp.config.keys import ALWAYS_NAMED, NAMED_IF_CHANGED, schema_keys
from bnexp.config.schema import ConfigError, DataConfig, RunConfig, ShowConfig, StudyConfig
from bnexp.config.validate import check_name, check_range
from bnexp.plan.checks import check
from bnexp.plan.spec import RunSpec, flatten, identity, plain
from bnexp.plan.study import Choice
from bnexp.tracking.reading import MIB, DamagedRecord, Level, as_type, read_json
from bnexp.tracking.store import Store, write_json

if TYPE_CHECKING:
    from bnexp.plan.compose import StudyPlan

STUDY = "study.json"
MOST = 16 * MIB  # a hundred thousand runs


@dataclass(frozen=True)
class StudyRecord:
    """``study.json`` of ``folder``. ``overrides`` reproduce the study; ``tuning``: the values that were tuned, one a cell.

    ``folder`` is where the record was read, or is to be written: what a record says of its own name decides no path.
    """

    folder: Path
    study: StudyConfig
    study_id: str
    overrides: list[str]
    data: DataConfig
    settings: dict[str, str]
    runs: list[PlannedRun]
    tuning: list[Choice] = field(default_factory=list)

    @property
    def command(self) -> str:
        """The command that runs exactly this study again."""
        import shlex

        return shlex.join(["bnexp", "study", self.study.name, *self.overrides])

    def save(self) -> None:
        tuning = [{**vars(choice), "accuracies": list(choice.accuracies.items())} for choice in self.tuning]
        content = {name: value for name, value in asdict(self).items() if name != "folder"} | {"tuning": tuning}
        write_json(self.folder / STUDY, plain(content))


def from_plan(plan: StudyPlan, overrides: Sequence[str], store: Store) -> StudyRecord:
    """The record of a study that is about to run; ``overrides`` are those besides ``study=NAME``."""
    specs = [RunSpec(config) for config in plan.configs]
    return StudyRecord(
        folder=store.study_path(plan.study.name, plan.study_id),
        study=plan.study,
        study_id=plan.study_id,
        overrides=list(overrides),
        data=plan.configs[0].data,
        settings=shared_settings(plan.configs) | tuned_setting(plan.choices),
        runs=[PlannedRun(spec.run_id, spec.arm, spec.levels, spec.seed) for spec in specs],
        tuning=list(plan.choices),
    )


@dataclass(frozen=True)
class _Choice:
    """A ``study.Choice`` as JSON has it: ``accuracies`` are pairs of value and mean."""

    arm: str
    levels: dict[str, Level]
    setting: str
    value: float
    accuracies: list[list[float]]
    at_edge: bool


@dataclass(frozen=True)
class _Content:
    """What ``study.json`` holds."""

    study: StudyConfig
    study_id: str
    overrides: list[str]
    data: DataConfig
    settings: dict[str, str]
    runs: list[PlannedRun]
    tuning: list[_Choice] = field(default_factory=list)


def load(folder: Path) -> StudyRecord:
    """Read the ``study.json`` of ``folder``. Raises DamagedRecord if it cannot be used."""
    path = folder / STUDY
    try:
        values = read_json(path, MOST)
    except FileNotFoundError:
        raise DamagedRecord(path, "it is not there") from None
    content: _Content = as_type(_Content, values, path)
    factors = as_type(dict[str, list[Level] | dict[str, list[str]]], content.study.factors, path, "study.factors")
    study = replace(content.study, factors=factors)
    if "show" not in values["study"]:
        study = replace(study, show=_configured_show(study.name))
    try:
        for name, what in ((content.study.name, "study.name"), (content.study_id, "study_id")):
            check_name(name, what)
        for run in content.runs:
            check_name(run.run_id, "the run id")
        check(study, fixed=[], swept=[])
        if study.margin is not None:
            check_range(next(info for info in schema_keys() if info.name == "study.margin"), study.margin)
    except ConfigError as error:
        raise DamagedRecord(path, str(error).removesuffix(".")) from error
    return StudyRecord(
        folder=folder,
        study=study,
        study_id=content.study_id,
        overrides=content.overrides,
        data=content.data,
        settings=content.settings,
        runs=content.runs,
        tuning=[_choice(path, entry) for entry in content.tuning],
    )


def _configured_show(name: str) -> ShowConfig:
    """``study.show`` of the study's file, for records of bnexp 0.1, which lack it; empty if there is no such file."""
    from bnexp.plan.compose import compose

    try:
        return compose([f"study={name}"]).study.show
    except ConfigError:
        return ShowConfig()


def _choice(path: Path, entry: _Choice) -> Choice:
    accuracies = {pair[0]: pair[1] for pair in entry.accuracies if len(pair) == 2}
    if len(accuracies) < len(entry.accuracies) or entry.value not in accuracies:
        raise DamagedRecord(path, "tuning.accuracies are no pairs of value and mean, one of them of the chosen value")
    return Choice(entry.arm, entry.levels, entry.setting, entry.value, accuracies, entry.at_edge)


def shared_settings(configs: Sequence[RunConfig]) -> dict[str, str]:
    """The settings that matter and are equal in all runs, key -> text."""
    flat = [flatten(config) for config in configs]
    default = flatten(RunConfig())
    used = set.intersection(*(set(identity(config)) for config in configs))
    shared = {}
    for name in (*ALWAYS_NAMED, *NAMED_IF_CHANGED):
        values = {str(entry[name]) for entry in flat}
        if len(values) == 1 and name in used and (name in ALWAYS_NAMED or flat[0][name] != default[name]):
            shared[name] = values.pop()
    return shared
