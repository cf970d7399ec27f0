"""Publishes recorded runs and studies on W&B: ``bnexp publish`` without printing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bnexp.comparison.record import StudyRecord
from bnexp.comparison.recorded_studies import recorded_verdict
from bnexp.comparison.select import study_facts
from bnexp.config.schema import ConfigError
from bnexp.interrupt import tidied
from bnexp.report import sections
from bnexp.report.publish import Reserved, Step, log, members, nobody, pictures_of, reserved
from bnexp.run.publishable import Selected, chosen_for_wandb
from bnexp.tracking.store import Store
from bnexp.tracking.wandb.access import recorded_track, requested_mode
from bnexp.tracking.wandb.holding import Item
from bnexp.tracking.wandb.publishing import Publisher
from bnexp.tracking.wandb.server import meaning
from bnexp.tracking.wandb.session import WandbSession


@dataclass(frozen=True)
class PublishedRun:
    """What came of one run or study.

    Args:
        id: id of the W&B run.
        run: id of the run here; of a study its ``study-<id>``.
        study: name of the study that it is published for.
        kind: ``run`` or ``study``.
        action: ``sent``; ``written``: on disk only; ``incomplete``: the server lacks part of it, and publishing again sends it;
            ``failed``; ``there``: W&B had it; ``missing``: it was not sent, because of a dry run or of Ctrl-C.
        problem: why it failed, without a full stop.
    """

    id: str
    run: str
    study: str
    kind: str
    action: str
    problem: str = ""


@dataclass(frozen=True)
class Published:
    """What ``publish`` did.

    Args:
        runs: every run and study that was selected.
        messages: sentences for the user: where W&B has them, what is missing.
    """

    runs: list[PublishedRun]
    messages: list[str] = field(default_factory=list)

    def count(self, action: str) -> int:
        """How many have this action."""
        return sum(run.action == action for run in self.runs)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class PublishInterrupted(KeyboardInterrupt):
    """Ctrl-C while runs were published.

    Args:
        published: what was done; what is left is ``missing``.
    """

    def __init__(self, published: Published) -> None:
        super().__init__()
        self.published = published


def publish(
    select: Sequence[str] = (),
    *,
    where: str | None = None,
    last: int | None = None,
    status: str | None = None,
    project: str | None = None,
    entity: str | None = None,
    dry_run: bool = False,
    runs_dir: str | Path | None = None,
    step: Callable[[int, int], None] = nobody,
) -> Published:
    """Bring recorded runs and studies to W&B. What is there already is not sent again.

    Nothing is trained, and no data set is needed; without it, tables have no pictures. Without access to a server the runs are
    written as W&B's offline runs.

    Args:
        select: names and ids of studies, ids of runs or their beginnings, directories; empty for everything that is recorded. A
            study stands for all runs that it compares and for itself, a run for itself in the study that trained it.
        where: a condition on columns, such as ``optim.lr > 0.1``: of the runs only those for which it is true.
        last: of the runs only so many, those that finished last.
        status: of the runs only those of this status.
        project: W&B's project; None for the one that the runs were configured with, or WANDB_PROJECT.
        entity: W&B's user or team; None likewise.
        dry_run: whether to find out only what would be sent.
        runs_dir: the directory of the records; None for ``BNEXP_RUNS_DIR``, else ``./runs``.
        step: is called with the number of runs that are published, and of all that will be.

    Returns:
        What came of each run, and messages.

    Raises:
        ConfigError: a word of ``select`` names nothing, or W&B is switched off.
        RuntimeError: the server has let us in, but does not say what it has.

    Example:
        >>> bnexp.publish(["batchnorm"], dry_run=True).count("missing")
    """
    store = Store(Path(runs_dir) if runs_dir is not None else None)
    selected = chosen_for_wandb(select, store, where=where, last=last, status=status)
    if not selected.items and not selected.studies:
        return Published([], [*selected.notes, f"No run in {store.root} that has ended fits; bnexp runs lists them all."])
    publisher = _publisher(selected.items, project, entity)
    if dry_run:
        return _asked(publisher, selected, look_only=True).published()
    with reserved(store, selected.items, selected.studies) as own:
        sending = _asked(publisher, selected)
        sending.run(own, store, step)
    return sending.published()


def _asked(publisher: Publisher, selected: Selected, *, look_only: bool = False) -> _Sending:
    """What W&B lacks of what was selected. Raises RuntimeError."""
    try:
        missing = {item.id for item in publisher.missing(selected.items, look_only=look_only)}
        lacking = [study for study in selected.studies if _lacks(publisher, study, selected.items, missing, look_only)]
    except Exception as error:
        raise RuntimeError(f"W&B could not be asked what it has: {meaning(error)}.") from error
    return _Sending(publisher, selected, [item for item in selected.items if item.id in missing], lacking)


class _Sending:
    """Sends what W&B lacks, and keeps what came of it.

    Args:
        publisher: what publishes.
        selected: all that W&B should have.
        items: the runs that it lacks.
        studies: the studies that it lacks.
    """

    def __init__(self, publisher: Publisher, selected: Selected, items: Sequence[Item], studies: Sequence[StudyRecord]) -> None:
        self._publisher, self._selected, self._items, self._studies = publisher, selected, items, studies
        self._done: dict[str, PublishedRun] = {}  # by id

    def run(self, own: Reserved, store: Store, step: Step) -> None:
        """Send everything that this process may send. Raises PublishInterrupted after Ctrl-C."""
        session = self._publisher.session
        try:
            with tidied():
                self._send(own, store, step)
        except KeyboardInterrupt as interrupt:
            session.report()
            total = len(self._items) + len(self._studies)
            session.messages.append(f"Published are {len(self._done)} of {total}; the same command sends the rest.")
            raise PublishInterrupted(self.published()) from interrupt
        self._publisher.note_unsynced(self._selected.items)
        session.report()
        session.messages[:0] = self._without_pictures()

    def _send(self, own: Reserved, store: Store, step: Step) -> None:
        items, studies = own.of(self._items, self._studies, self._publisher.session)
        total = len(items) + len(studies)
        for item, action, problem in self._publisher.publish(items):
            self._keep(_of_item(item, action, problem))
            step(len(self._done), total)
        for study in studies:
            self._keep(self._study(study, store))
            step(len(self._done), total)

    def _study(self, study: StudyRecord, store: Store) -> PublishedRun:
        facts = study_facts(study.runs, store)
        try:
            report = sections.build(study, recorded_verdict(study, store), store, facts=facts, images=None)
            return _of_study(study, log(study, report, members(study, store), self._publisher))
        except Exception as error:
            return _of_study(study, "failed", meaning(error))

    def _keep(self, run: PublishedRun) -> None:
        self._done[run.id] = run

    def published(self) -> Published:
        """What came of everything that was selected; what was not sent is ``missing``."""
        lacking = {item.id for item in self._items} | {_of_study(study, "").id for study in self._studies}
        rows = [_of_item(item, "there") for item in self._selected.items] + [
            _of_study(s, "there") for s in self._selected.studies
        ]
        there = [row for row in rows if row.id not in lacking]
        left = [replace(row, action="missing") for row in rows if row.id in lacking and row.id not in self._done]
        return Published([*there, *self._done.values(), *left], [*self._selected.notes, *self._publisher.session.messages])

    def _without_pictures(self) -> list[str]:
        """A sentence for each data set whose tables have no pictures."""
        seen = {item.record.summary.data_fingerprint: item.record for item in self._items if item.record.finished}
        names = sorted({record.summary.data for record in seen.values() if pictures_of(record) is None})
        return [f"Tables of {name} have no pictures, because its test images are not on this machine." for name in names]


def _lacks(publisher: Publisher, study: StudyRecord, items: Sequence[Item], missing: set[str], dry_run: bool) -> bool:
    """Whether W&B has no run of a study, or may have one of the time before some of its runs had ended."""
    own = {run.run_id for run in study.runs}
    grown = any(item.id in missing and item.member.study == study.study.name and item.record.run_id in own for item in items)
    return grown or not publisher.holds_study(study.study.name, study.study_id, look_only=dry_run)


def _publisher(items: Sequence[Item], project: str | None, entity: str | None) -> Publisher:
    """How the runs go to W&B: as the last of them was configured, but never disabled by that. Raises ConfigError."""
    track = recorded_track(item.record for item in reversed(items))
    session = WandbSession(track.wandb)
    if project or entity:
        session.config = replace(
            session.config, project=project or session.config.project, entity=entity or session.config.entity
        )
    if requested_mode(track.wandb) == "disabled":
        raise ConfigError("W&B is switched off by WANDB_MODE=disabled: unset it, or set it to online or offline.")
    if session.disabled:
        raise ConfigError(" ".join(session.messages) or "W&B is switched off by its settings; `wandb online` switches it on.")
    return Publisher(session, track, pictures_of)


def _of_item(item: Item, action: str, problem: str = "") -> PublishedRun:
    return PublishedRun(item.id, item.record.run_id, item.member.study, "run", action, problem)


def _of_study(study: StudyRecord, action: str, problem: str = "") -> PublishedRun:
    name = f"study-{study.study_id}"
    return PublishedRun(name, name, study.study.name, "study", action, problem)
