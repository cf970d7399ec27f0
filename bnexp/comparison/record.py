"""A study as it is recorded before its first run trains: definition, id, settings and planned runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from bnexp.comparison.questions import PastLook, Question
from bnexp.comparison.result import Outcome, PlannedRun, Status, StudyResult, Verdict
from bnexp.comparison.stats import MIN_PAIRS
from bnexp.comparison.tuned import tuned_setting
from bnexp.config.keys import ALWAYS_NAMED, NAMED_IF_CHANGED, in_args, schema_keys
from bnexp.config.schema import ConfigError, DataConfig, RunConfig, StudyConfig
from bnexp.config.validate import check_name, check_range
from bnexp.plan.checks import check
from bnexp.plan.spec import RunSpec, flatten, identity, plain
from bnexp.plan.study import Choice, Level
from bnexp.tracking.reading import MIB, as_type, read_whole
from bnexp.tracking.store import Store, json_text, write_if_allowed, write_json

STUDY, VERDICT = "study.json", "verdict.json"
MOST = 16 * MIB  # a hundred thousand runs


@dataclass(frozen=True)
class Content:
    """What ``study.json`` holds.

    Args:
        study: the definition of the study.
        study_id: hash of what decides its results.
        overrides: those that reproduce it, besides ``study=NAME``.
        data: the data set.
        settings: key -> text of what is held fixed and named beside the verdict.
        runs: the planned runs.
        tuning: the best values of the tuned key, one per cell.
        added: the levels that were added to the study's one factor, to find the largest that trains.
        question_id: hash of what is read of which runs, whatever their seeds; empty in records of bnexp 0.2.
        earlier: when the question was concluded before, oldest first. It is kept here, so that the record needs no other file.
    """

    study: StudyConfig
    study_id: str
    overrides: list[str]
    data: DataConfig
    settings: dict[str, str]
    runs: list[PlannedRun]
    tuning: list[Choice] = field(default_factory=list)
    added: list[float] = field(default_factory=list)
    question_id: str = ""
    earlier: list[PastLook] = field(default_factory=list)


def num_whole_seeds(outcomes: Sequence[Outcome]) -> int:
    """Number of seeds of which no run is missing."""
    lacking = {outcome.seed for outcome in outcomes if outcome.status is Status.missing}
    return len({outcome.seed for outcome in outcomes} - lacking)


@dataclass(frozen=True, kw_only=True)
class StudyRecord(Content):
    """``study.json`` of a folder.

    Args:
        folder: where the record was read, or is to be written. What a record says of its own name decides no path.
    """

    folder: Path

    @property
    def command(self) -> str:
        """The command that runs exactly this study again."""
        import shlex

        return shlex.join(["bnexp", "study", self.study.name, *self.overrides])

    @property
    def concluded(self) -> bool:
        """Whether the study has reached a verdict before."""
        return (self.folder / VERDICT).exists()

    @property
    def saved(self) -> bool:
        """Whether ``study.json`` is there."""
        return (self.folder / STUDY).exists()

    def forget(self) -> None:
        """Remove ``study.json``, and its folder unless there is more in it: the study could not begin to train."""
        (self.folder / STUDY).unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent):
            with suppress(OSError):  # of a folder that is not empty
                folder.rmdir()

    def save_verdict(self, result: StudyResult, *, again: bool = False) -> None:
        """Write that the question was looked at, then ``verdict.json``, unless the files may only be read.

        A look at a part of the planned runs counts: who has seen it may choose another number of seeds. Too few seeds for a
        verdict are no look, because nothing was tested.

        Args:
            result: what the comparison found.
            again: whether the study is only shown again. The file then keeps its time, which says when the study was concluded.
        """
        if self.question_id and result.verdict is not Verdict.ESTIMATE:
            path = question_path(self.folder, self.question_id)
            seeds = sorted({run.seed for run in self.runs})
            found = Question.read(path).concluded(self.study_id, num_whole_seeds(result.outcomes), result.verdict, seeds)
            if not write_if_allowed(path, json_text(asdict(found))):
                return
        path = self.folder / VERDICT
        kept = path.stat() if again and path.is_file() else None
        if write_if_allowed(path, json_text(result.to_dict())) and kept is not None:
            os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))

    def up_to_date(self) -> StudyRecord:
        """The record with the looks at its question since it was written: by other studies, before it was concluded itself."""
        if not self.question_id or not (path := question_path(self.folder, self.question_id)).exists():
            return self
        return replace(self, earlier=Question.read(path).before(self.study_id))

    def concluded_with(self) -> PastLook | None:
        """When and with how many seeds the study itself was concluded; None if that is not recorded."""
        if not self.question_id:
            return None
        return Question.read(question_path(self.folder, self.question_id)).of(self.study_id)

    def save(self) -> None:
        """Write ``study.json``."""
        tuning = [{**vars(choice), "accuracies": list(choice.accuracies.items())} for choice in self.tuning]
        content = {name: value for name, value in asdict(self).items() if name != "folder"} | {"tuning": tuning}
        write_json(self.folder / STUDY, plain(content))


class Plan(Protocol):
    """What is recorded of a study's plan. ``plan`` itself reaches the data, which comparing must not."""

    @property
    def study(self) -> StudyConfig: ...
    @property
    def study_id(self) -> str: ...
    @property
    def question_id(self) -> str: ...
    @property
    def specs(self) -> Sequence[RunSpec]: ...
    @property
    def choices(self) -> Sequence[Choice]: ...
    @property
    def added(self) -> Sequence[float]: ...


def from_plan(plan: Plan, overrides: Sequence[str], store: Store) -> StudyRecord:
    """The record of a study that is about to run.

    Args:
        plan: its plan.
        overrides: those besides ``study=NAME``.
        store: where its runs will be recorded.

    Raises:
        ConfigError: its seeds were chosen among those of earlier looks.
    """
    folder = store.study_path(plan.study.name, plan.study_id)
    earlier = Question.read(question_path(folder, plan.question_id)).before(plan.study_id)
    _refuse_chosen_seeds(plan, earlier)
    return StudyRecord(
        folder=folder,
        study=plan.study,
        study_id=plan.study_id,
        overrides=list(overrides),
        data=plan.specs[0].config.data,
        settings=shared_settings([spec.config for spec in plan.specs]) | tuned_setting(plan.choices),
        runs=[PlannedRun(spec.run_id, spec.arm, spec.levels, spec.seed) for spec in plan.specs],
        tuning=list(plan.choices),
        added=list(plan.added),
        question_id=plan.question_id,
        earlier=earlier,
    )


def _refuse_chosen_seeds(plan: Plan, earlier: Sequence[PastLook]) -> None:
    """Refuse seeds that were chosen among those of earlier looks: no test would be valid. Raises ConfigError."""
    seeds = sorted({spec.seed for spec in plan.specs})
    if len(seeds) >= MIN_PAIRS and any(not past.is_continued_by(seeds) for past in earlier):
        raise ConfigError(
            f"study.seeds={plan.study.seeds} are some of the seeds with which this question was looked at before, and leave "
            "out others: no test would be valid. Take the first ones, like study.seeds=10, or only seeds that are new."
        )


def question_path(folder: Path, question_id: str) -> Path:
    """The file that tells when a question was concluded, of the study in ``folder``."""
    return folder.parent / f"question-{question_id}.json"


def load(folder: Path) -> StudyRecord:
    """Read the ``study.json`` of a folder.

    Raises:
        DamagedRecord: it is not there, or cannot be used.
    """
    content = read_whole(Content, folder / STUDY, MOST, partial(_check, path=folder / STUDY))
    return StudyRecord(**vars(content), folder=folder)


def _check(content: Content, path: Path) -> None:
    """Raise ConfigError if parts of a record do not fit together, or if an id is no name of a folder."""
    study = content.study
    as_type(dict[str, list[Level] | dict[str, list[str]]], study.factors, path, "study.factors")
    for name, what in ((study.name, "study.name"), (content.study_id, "study_id")):
        check_name(name, what)
    if content.question_id:
        check_name(content.question_id, "question_id")
    for run in content.runs:
        check_name(run.run_id, "the run id")
    check(study, fixed=[], swept=[])
    for info in schema_keys():
        own = {"study.margin": study.margin, "study.max_seeds": study.max_seeds}.get(info.name)
        if own is not None:
            check_range(info, own)
    if any(choice.value not in choice.accuracies and not choice.rule for choice in content.tuning):
        raise ConfigError("tuning.accuracies lacks the chosen value")


def shared_settings(configs: Sequence[RunConfig]) -> dict[str, str]:
    """The settings that matter and are equal in all runs, key -> text."""
    flat = [flatten(config) for config in configs]
    default = flatten(RunConfig())
    used = set.intersection(*(set(identity(config)) for config in configs))
    shared = {}
    for name in (*ALWAYS_NAMED, *NAMED_IF_CHANGED, *filter(in_args, flat[0])):
        values = {str(entry.get(name)) for entry in flat}
        if len(values) == 1 and name in used and (name in ALWAYS_NAMED or flat[0][name] != default.get(name)):
            shared[name] = values.pop()
    return shared
