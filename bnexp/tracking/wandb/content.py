"""What a W&B run holds of a recorded run: the one description, from which files are written (``offline.py``) and runs are sent.

It is made of the record alone and needs no wandb. Nothing here is a W&B object.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bnexp.config.keys import SPLITS, of_split
from bnexp.config.schema import TrackConfig, WandbConfig
from bnexp.plan.spec import RunSpec, digest, run_label
from bnexp.plan.study import Level
from bnexp.tracking.records import WEIGHTS, RecordedRun, Summary
from bnexp.tracking.wandb.tables import Table, predictions_of, tables_of_epochs

ALONE = "train"  # the study of a run that no study asked for
STATES = ("diverged", "failed", "stopped", "interrupted")  # tags of a run that has not simply finished
MOST_TAG = 64  # characters of a tag that W&B allows

Row = dict[str, Any]


@dataclass(frozen=True)
class Member:
    """A run as one study sees it. A run that two studies share is two W&B runs.

    Args:
        study: name of the study; ``train`` for a run on its own.
        study_ids: ids of the recorded studies of this name that compare the run.
        arm: its arm.
        levels: factor -> level.
    """

    study: str
    study_ids: tuple[str, ...]
    arm: str
    levels: Mapping[str, Level] = field(default_factory=dict)

    @classmethod
    def of_spec(cls, spec: RunSpec) -> Member:
        """A run as the study that trains it sees it."""
        ids = (spec.config.study.id,) if spec.config.study.id else ()
        return cls(spec.study, ids, spec.arm, spec.levels)

    @classmethod
    def of_record(cls, record: RecordedRun) -> Member:
        """A recorded run as the study that trained it sees it. Raises DamagedRecord and FileNotFoundError."""
        study_id, summary = record.settings.get("study.id"), record.summary
        return cls(summary.study, (str(study_id),) if study_id else (), summary.arm, summary.levels)

    def wandb_id(self, run_id: str) -> str:
        """Id of the W&B run: the same whenever and wherever it is published."""
        return run_id if self.study == ALONE else f"{run_id}-{digest(self.study, 6)}"


@dataclass(frozen=True)
class FileArtifact:
    """A file that becomes an artifact: its name, its type, and where the file is."""

    name: str
    type: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class RunContent:
    """What W&B holds of one run, or of a study, which is a run of its own there.

    Args:
        id: id of the W&B run.
        name: its name.
        group: its group.
        job_type: its kind of work.
        tags: its tags.
        notes: its notes; None for none.
        config: its configuration, nested.
        started: when it began to train, seconds since 1970.
        seconds: how long it trained.
        history: the number of updates, and what was measured then; the last row holds the final metrics.
        summary: scalars, besides the last value of each metric.
        tables: key -> table.
        earlier: number of updates -> the table of predictions at that time.
        pages: key -> HTML text that W&B shows.
        artifacts: its weights, if they are wanted, or its report.
        uses: names of the artifacts that it was made from; only online.
        exit_code: 0 if it has finished.
    """

    id: str
    name: str
    group: str
    job_type: str
    tags: list[str]
    notes: str | None
    config: dict[str, Any]
    started: float
    seconds: float
    history: list[tuple[int, Row]]
    summary: dict[str, Any]
    tables: dict[str, Table] = field(default_factory=dict)
    earlier: dict[int, Table] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    artifacts: tuple[FileArtifact, ...] = ()
    uses: tuple[str, ...] = ()
    exit_code: int = 0

    @property
    def made_by(self) -> dict[str, str]:
        """What its artifacts say of the run that they come from."""
        return {"group": self.group, "name": self.name}

    def final(self) -> dict[str, Any]:
        """The summary with the last value of each metric."""
        last: dict[str, Any] = {}
        for _, row in self.history:
            last |= row
        return last | self.summary


def identity(run_id: str, member: Member, seed: int | None, data: str, model: str | None, wandb: WandbConfig) -> dict[str, Any]:
    """How W&B files a run, as arguments of ``wandb.init``: ``id name group job_type tags notes``.

    Args:
        run_id: id of the run.
        member: its study.
        seed: its seed.
        data: its data set.
        model: its network.
        wandb: group, job type, notes and tags that the user wants; see ``with_environment``.
    """
    return {
        "id": member.wandb_id(run_id),
        "name": run_label(member.arm, member.levels, seed),
        "group": wandb.group or member.study,
        "job_type": wandb.job_type or member.arm,
        "tags": tags([data, model or "", member.study, *member.study_ids, *wandb.tags]),
        "notes": wandb.notes,
    }


def run_content(record: RecordedRun, member: Member, track: TrackConfig) -> RunContent:
    """What W&B holds of a recorded run of ours, whether it has finished, has diverged, has failed or was stopped early.

    Args:
        record: the run.
        member: the study that it is published for.
        track: number of predictions, and how W&B files it; see ``with_environment``.

    Raises:
        DamagedRecord: a file of the run cannot be used.
        FileNotFoundError: the run has no ending.
    """
    if record.ended and not record.finished:
        return _cut_short(record, member, track)
    summary = record.summary
    started = _seconds_since_1970(summary.finished_at) - summary.seconds
    known = {name: math.nan if value is None else value for name, value in summary.metrics.items()}
    lines = record.metrics()
    history = _history(lines, summary, started, known)
    steps = {line["epoch"]: int(line["step"]) for line in lines if "epoch" in line}
    shown = tables_of_epochs(record, summary, track.predictions)
    facts: dict[str, Any] = {"status": summary.status, "seconds": summary.seconds}
    if summary.diverged_at is not None:
        facts["diverged_at"] = summary.diverged_at
    tables, rates = predictions_of(record, summary, track.predictions)
    filed = identity(record.run_id, member, summary.seed, summary.data, summary.model, track.wandb)
    weights = record.path / WEIGHTS
    model = FileArtifact(model_name(filed["id"]), "model", weights)
    ending = [summary.status] if summary.status in STATES else []
    return RunContent(
        **filed | {"tags": tags([*filed["tags"], *ending])},
        config=_config(record.config, record.run_id, member) | _facts(summary),
        started=started,
        seconds=summary.seconds,
        history=history,
        summary=facts | _best(history) | rates,
        tables=tables,
        earlier={steps[epoch]: table for epoch, table in shown.items() if epoch in steps},
        artifacts=(model,) if track.wandb.artifacts and weights.is_file() else (),
    )


def model_name(wandb_id: str) -> str:
    """Name of the artifact with the weights of a run."""
    return f"model-{wandb_id}"


def _cut_short(record: RecordedRun, member: Member, track: TrackConfig) -> RunContent:
    """What W&B holds of a run that has failed, or that a sweep has stopped early."""
    config = record.config
    data, model = (config.get(name) for name in ("data", "model"))
    data, model = (str(part["name"]) if isinstance(part, dict) and "name" in part else "" for part in (data, model))
    began = (record.path / "config.yaml").stat().st_mtime
    seed = config.get("seed")
    filed = identity(record.run_id, member, seed if isinstance(seed, int) else None, data, model, track.wandb)
    stopped, status = record.stopped, "failed" if record.failure is not None else "stopped"
    facts: dict[str, Any] = {"error": record.failure} if stopped is None else {"stopped_at": stopped.epoch}
    return RunContent(
        **filed | {"tags": tags([*filed["tags"], status])},
        config=_config(config, record.run_id, member),
        started=began,
        seconds=stopped.seconds if stopped else 0.0,
        history=[(int(row["step"]), {k: v for k, v in row.items() if k != "step"}) for row in record.metrics()],
        summary={"status": status, **facts},
        exit_code=1 if status == "failed" else 0,
    )


def run_config(spec: RunSpec, member: Member) -> dict[str, Any]:
    """The configuration of a run that is about to train, as ``run_content`` has it later."""
    return _config(spec.to_dict(), spec.run_id, member)


def _config(config: Mapping[str, Any], run_id: str, member: Member) -> dict[str, Any]:
    """A configuration as W&B keeps it: nested, which W&B shows as columns like ``optim.lr``.

    Of the study only the part about this run is kept. The sections ``track`` and ``executor`` are left out.
    """
    kept = {name: value for name, value in config.items() if name not in ("study", "track", "executor")}
    levels = {name.replace(".", "_"): level for name, level in member.levels.items()}  # W&B reads a dot as nesting
    own = {"run_id": run_id, "study": member.study, "study_ids": list(member.study_ids), "arm": member.arm, "levels": levels}
    return kept | own


def _facts(summary: Summary) -> dict[str, Any]:
    """What is known of the run besides its configuration; below ``origin`` how it came to be."""
    about = summary.environment
    git = {name.removeprefix("git_"): text for name, text in about.items() if name.startswith("git_")}
    origin: dict[str, Any] = {
        "command": summary.command,
        "finished_at": summary.finished_at,
        "git": git,
        **{name: about[name] for name in ("bnexp", "torch") if name in about},
    }
    facts: dict[str, Any] = {name: getattr(summary, name) for name in ("num_parameters", "num_steps", "device", "execution")}
    facts |= {"origin": {name: value for name, value in origin.items() if value}}
    return {name: value for name, value in facts.items() if value is not None}


def _history(
    lines: Sequence[Mapping[str, float]], summary: Summary, started: float, final: Mapping[str, float]
) -> list[tuple[int, Row]]:
    """The rows of a run in order of their updates, with the final metrics in the last one; one row per number of updates."""
    epochs = [line["step"] / line["epoch"] for line in lines if line.get("epoch")]
    per_epoch = epochs[0] if epochs else float(summary.num_steps or 1)
    rows: dict[int, Row] = {}
    for line in lines:
        step = int(line["step"])
        values = {name: value for name, value in line.items() if name != "step"}
        rows.setdefault(step, {"epoch": step / per_epoch}).update(values)
    last = max(rows, default=summary.num_steps or 0)
    rows.setdefault(last, {}).update(final)
    length = max(summary.num_steps or last, last, 1)
    for step, row in rows.items():
        row["_timestamp"] = started + summary.seconds * step / length
    return sorted(rows.items())


def _best(history: Sequence[tuple[int, Row]]) -> dict[str, float]:
    """``best/<metric>``: the smallest or largest finite value of each metric of training and validation images. Test images
    are looked at once, so there is no best.
    """
    found: dict[str, float] = {}
    for split in (name for name in SPLITS if name != "test"):
        for name, better in of_split(split).items():
            metric = f"{split}/{name}"
            values = [row[metric] for _, row in history if math.isfinite(row.get(metric, math.nan))]
            if values:
                found[f"best/{metric}"] = min(values) if better == "min" else max(values)
    return found


def with_environment(wandb: WandbConfig) -> WandbConfig:
    """The settings with what ``WANDB_*`` variables say instead; ``WANDB_TAGS`` adds to the tags."""
    known = {"project": "PROJECT", "entity": "ENTITY", "group": "RUN_GROUP", "job_type": "JOB_TYPE", "notes": "NOTES"}
    said: dict[str, Any] = {name: os.environ[f"WANDB_{key}"] for name, key in known.items() if os.environ.get(f"WANDB_{key}")}
    more = [name.strip() for name in os.environ.get("WANDB_TAGS", "").split(",")]
    return replace(wandb, **said, tags=tags([*wandb.tags, *more]))


def tags(names: Sequence[str]) -> list[str]:
    """The tags of a W&B run: without repeats and empty ones, each cut to the 64 characters that W&B allows."""
    return list(dict.fromkeys(name[:MOST_TAG] for name in names if name))


def _seconds_since_1970(text: str) -> float:
    with suppress(ValueError):
        return datetime.fromisoformat(text).timestamp()
    return 0.0
