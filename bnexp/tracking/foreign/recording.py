"""Writes foreign runs to the local store, so that everything that reads our own records reads them too.

A run gets ``<runs>/<study>/<tool>-<id>/`` with ``config.yaml``, ``metrics.jsonl`` if it has a history, and, last,
``summary.json``, which has a ``source``. Importing a run again finds it by its id and changes only what has changed.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from bnexp.config.schema import ConfigError
from bnexp.terminal import visible_line
from bnexp.tracking.foreign.run import MOST_NAMES, ForeignRun, Names, clean, number, resolve
from bnexp.tracking.reading import MIB, DamagedRecord, read_text
from bnexp.tracking.records import CONFIG, METRICS, MOST_METRICS, MOST_TEXT, SUMMARY, RecordedRun, Source, Summary
from bnexp.tracking.store import Store, json_text, write_atomic

LONGEST_STUDY = 80  # characters of a folder's name
LOGS = ("wandb", "mlflow")  # the tools that append to what they wrote, and write that a run has ended
NOT_ENDED = ("crashed", "running")
OWN_ID = re.compile("[0-9a-f]{12}")
# What W&B's configuration of a run of ours says besides its settings: see ``tracking.wandb.content``.
OUR_FACTS = {"run_id", "study", "study_ids", "arm", "levels", "num_parameters", "num_steps", "device", "execution", "origin"}


class Action(StrEnum):
    """What an import does with a run."""

    new = "new"
    updated = "updated"
    unchanged = "unchanged"
    own = "own"  # a run of ours that is recorded, in the form of another tool


@dataclass(frozen=True)
class Imported:
    """A run after its import.

    Args:
        run: its id in our store.
        action: what was done; if nothing was written, what would be.
        source: the tool that it comes from.
        study: the study that it is recorded in.
        arm: its arm.
        seed: its seed; None: not known.
        status: how it ended.
        name: what the tool calls it.
        seed_key: the setting that is the seed; empty if none is.
        settings: the names of the others.
        metrics: their names.
        path: its folder.
        notes: sentences on what could not be read.
    """

    run: str
    action: Action
    source: str
    study: str
    arm: str
    seed: int | None
    status: str
    name: str
    seed_key: str
    settings: list[str]
    metrics: list[str]
    path: Path
    notes: list[str] = field(default_factory=list)


class Recorder:
    """Records foreign runs.

    Args:
        store: where.
        study: the study that all of them get; None: what the tool calls their project.
        dry: whether nothing is written.
    """

    def __init__(self, store: Store, study: str | None = None, dry: bool = False) -> None:
        self.store = store
        self.study = study
        self.dry = dry
        self._known: dict[str, RecordedRun] = {}
        self._listed = False

    def record(self, run: ForeignRun) -> Imported:
        """Bring the record of a run up to date. A copy that holds less than the record does not replace it, and a note says so.

        Raises:
            ConfigError: the run is too large, or another run has been imported under its id.
        """
        if own := self._own(run):
            return own
        run = _without_our_facts(run)
        known = self._find(run.run_id)
        old = known.summary if known and known.finished else None
        if old and old.source and known:
            _refuse_another(run, old.source, known)
        study = self.study or (known.path.parent.name if known else study_name(run.project))
        names = resolve(run)
        texts = _texts(run, names, study)
        path = self.store.root / study / run.run_id
        moved = known is not None and known.path != path
        action = Action.new if not old else Action.updated
        if old and old.source and old.source.digest == texts.digest and not moved:
            action = Action.unchanged
        elif old and known and _is_less(run, texts, known):
            action, study, path = Action.unchanged, known.path.parent.name, known.path
            kept = f"{run.path}: it holds no more of the run {run.label} than is recorded, so the record stays as it is."
            run = replace(run, notes=[*run.notes, kept])
        elif not self.dry:
            texts.write(path)
            if known and moved:
                shutil.rmtree(known.path, ignore_errors=True)
            self._known[run.run_id] = RecordedRun(path)
        return _imported(run, names, action, study, path)

    def _own(self, run: ForeignRun) -> Imported | None:
        """What is said of a run or study of our own, of which W&B has a copy; None if it is none, or not recorded here."""
        if run.tool == "wandb" and run.job_type == "study" and {"question", "held"} <= run.config.keys():
            own = run.group, "study", None, run.status, run.name
            return Imported(run.id, Action.own, run.tool, *own, "", [], [], run.path, run.notes)
        run_id = run.id.partition("-")[0]  # see ``tracking.wandb.content.Member.wandb_id``
        if not OWN_ID.fullmatch(run_id) or not (record := self._find(run_id)) or not record.finished:
            return None
        summary = record.summary
        facts = summary.study, summary.arm, summary.seed, summary.status, run.name
        return Imported(run_id, Action.own, run.tool, *facts, "seed", [], list(summary.metrics), record.path, run.notes)

    def _find(self, run_id: str) -> RecordedRun | None:
        """The record of a run; the store is listed once."""
        if not self._listed:
            self._known = {record.run_id: record for record in self.store.folders()}
            self._listed = True
        return self._known.get(run_id)


def _without_our_facts(run: ForeignRun) -> ForeignRun:
    """A run of ours from somewhere else, without what differs from run to run and is no setting, such as its date."""
    if run.tool != "wandb" or "origin" not in run.config or not OWN_ID.fullmatch(run.id.partition("-")[0]):
        return run
    return replace(run, config={name: value for name, value in run.config.items() if name not in OUR_FACTS})


@dataclass(frozen=True)
class _Texts:
    """The files of a record; ``digest``: hash of all that is in them."""

    config: str
    metrics: str
    summary: str
    digest: str

    def write(self, path: Path) -> None:
        """Write the files, the summary last. An import that is cut off leaves a run without one."""
        (path / SUMMARY).unlink(missing_ok=True)
        write_atomic(path / CONFIG, self.config)
        if self.metrics:
            write_atomic(path / METRICS, self.metrics)
        else:
            (path / METRICS).unlink(missing_ok=True)
        write_atomic(path / SUMMARY, self.summary)


def _texts(run: ForeignRun, names: Names, study: str) -> _Texts:
    if max(len(names.settings), len(names.metrics)) > MOST_NAMES:
        raise ConfigError(visible_line(f"{run.path}: the run {run.label} has more than {MOST_NAMES:,} settings or metrics."))
    config = _yaml(names.settings | {"study": {"name": study, "arm": names.arm, "levels": {}}})
    metrics = "".join(json.dumps(row) + "\n" for row in _rows(run, names))
    source = Source(
        tool=run.tool,
        path=clean(str(run.path.absolute())),
        id=clean(run.id),
        name=clean(run.name),
        group=clean(run.group),
        job_type=clean(run.job_type),
        tags=[clean(tag) for tag in run.tags],
        state=clean(run.state),
    )
    summary = Summary(
        run_id=run.run_id,
        study=study,
        data="",
        arm=names.arm,
        levels={},
        seed=names.seed,
        status=run.status,
        metrics=dict(names.metrics),
        seconds=run.seconds if run.seconds >= 0 and math.isfinite(run.seconds) else math.nan,
        finished_at=_date(run.finished),
        source=source,
    )
    content = asdict(summary)
    whole = hashlib.sha256("\0".join([config, metrics, json_text(content)]).encode()).hexdigest()
    content["source"]["digest"] = whole
    texts = _Texts(config, metrics, json_text(content), whole)
    parts = {"configuration": (config, MOST_TEXT), "history": (metrics, MOST_METRICS), "summary": (texts.summary, MOST_TEXT)}
    for what, (text, most) in parts.items():
        if len(text.encode()) > most:
            size = f"takes more than {most / MIB:,.0f} MiB, the most that is read"
            raise ConfigError(visible_line(f"{run.path}: the {what} of the run {run.label} {size}."))
    return texts


def _rows(run: ForeignRun, names: Names) -> list[dict[str, float]]:
    """The history with the names of the record. If a step is no count, all rows are counted instead."""
    rows = [row for row in run.history if len(row) > ("step" in row)]
    counted = all(float(row.get("step", -1)).is_integer() and 0 <= row["step"] < 2**40 for row in rows)
    found = []
    for index, row in enumerate(rows):
        step = {"step": int(row["step"]) if counted else index}
        epoch = {"epoch": number(row["epoch"])} if "epoch" in row else {}
        found.append(step | epoch | {names.renamed[name]: number(row[name]) for name in row if name not in ("step", "epoch")})
    return found


def _yaml(value: Any) -> str:
    import yaml

    base = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    plain = type("_Plain", (base,), {"ignore_aliases": lambda *_: True})
    return str(yaml.dump(value, Dumper=plain, sort_keys=False, allow_unicode=True))


def _date(seconds: float | None) -> str:
    """Seconds since 1970 as a date of UTC; empty if they are none."""
    with suppress(TypeError, ValueError, OverflowError, OSError):
        return time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(seconds)) if seconds is not None else ""
    return ""


def study_name(project: str) -> str:
    """A project's name as that of a study, and so of a folder: letters, digits, ``_``, ``-``, ``.``; others become ``_``."""
    name = re.sub(r"[^\w.-]+", "_", project)[:LONGEST_STUDY].strip("._") or "imported"
    return f"{name}_" if name.startswith(("study-", "book-", "sweep-")) else name


def _refuse_another(run: ForeignRun, old: Source, record: RecordedRun) -> None:
    """Raise ConfigError if another run than this one has been imported under its id."""
    ours = str(run.path.absolute())
    same_file = run.unique or old.path == clean(ours) or not Path(old.path).exists()
    if old.id != clean(run.id) or (run.tool == "csv" and not same_file):
        raise ConfigError(
            visible_line(
                f"{run.path}: a run {run.label} of a file of the same name was imported before, from {old.path} into "
                f"{record.path}. Rename this file, and import it again."
            )
        )


def _is_less(run: ForeignRun, texts: _Texts, known: RecordedRun) -> bool:
    """Whether a log that has not ended, or cannot be read whole, holds no more of a run than its record: an older copy, say."""
    if not run.notes and (run.tool not in LOGS or run.state not in NOT_ENDED):
        return False
    try:
        recorded = read_text(known.path / METRICS, MOST_METRICS)
    except (FileNotFoundError, DamagedRecord):
        return False
    more = texts.metrics.count("\n") - recorded.count("\n")
    return more < 0 or (more == 0 and known.summary.status != "failed")


def _imported(run: ForeignRun, names: Names, action: Action, study: str, path: Path) -> Imported:
    facts = names.arm, names.seed, run.status, clean(run.name), names.seed_key
    return Imported(run.run_id, action, run.tool, study, *facts, list(names.settings), list(names.metrics), path, run.notes)
