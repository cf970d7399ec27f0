"""Which recorded runs and studies ``bnexp publish`` brings to W&B."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnexp.comparison.record import StudyRecord, load
from bnexp.comparison.recorded import label, recorded_studies, studies_named
from bnexp.comparison.selection import chosen, is_path, select_runs
from bnexp.config.schema import RunConfig
from bnexp.plan.spec import RunSpec
from bnexp.report.publish import members
from bnexp.tracking.reading import DamagedRecord, as_type
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.store import Store
from bnexp.tracking.wandb.content import Member
from bnexp.tracking.wandb.holding import Item


@dataclass(frozen=True)
class Selected:
    """The recorded runs and studies that are to be on W&B.

    Args:
        items: the runs, each as a study sees it.
        studies: the concluded studies.
        notes: sentences on what is left out.
    """

    items: list[Item]
    studies: list[StudyRecord]
    notes: list[str]


def chosen_for_wandb(
    words: Sequence[str], store: Store, *, where: str | None, last: int | None, status: str | None
) -> Selected:
    """The runs and studies that the words mean, each run once per study. Without words, all that are recorded.

    Args:
        words: as ``select`` of ``bnexp.publish``.
        store: where the runs are recorded.
        where: as for ``bnexp.publish``.
        last: likewise.
        status: likewise.

    Raises:
        ConfigError: a word names nothing, or the condition cannot be read.
    """
    studies, others, notes = _studies(words, store)
    ids: set[str] | None = None
    if where is not None or last is not None or status is not None:
        frame = select_runs(words, where=where, last=last, status=status, store=store)
        ids = set(frame["run"].to_list()) if len(frame) else set()
    items: dict[str, Item] = {}
    for study in studies:
        own = members(study, store)
        items |= {item.id: item for item in own}
        if study.concluded and (lacking := len({run.run_id for run in study.runs}) - len(own)):
            have = "has" if lacking == 1 else "have"
            notes.append(f"{label(study.folder)}: {lacking} of its runs {have} no record in {store.root}.")
    known = {item.record.run_id for item in items.values()}
    for record in chosen(others, store) if others else () if words else store.folders():
        if (record.run_id not in known or others) and (ids is None or record.run_id in ids):
            items |= {item.id: item for item in _on_its_own(record)}
    kept = [item for item in items.values() if ids is None or item.record.run_id in ids]
    own_runs = [item for item in kept if not _is_imported(item.record)]
    notes += _about_imported(len(kept) - len(own_runs))
    return Selected(own_runs, [study for study in studies if study.concluded and ids is None], notes)


def _studies(words: Sequence[str], store: Store) -> tuple[list[StudyRecord], list[str], list[str]]:
    """The recorded studies that the words mean, or all without words; the other words; and sentences on damaged ones."""
    folders: dict[Path, None] = {}
    others: list[str] = []
    for word in words:
        found = [] if is_path(word, store) else studies_named(word, store)
        folders |= dict.fromkeys(found)
        others += [] if found else [word]
    if not words:
        folders = dict.fromkeys(recorded_studies(store))
    studies, notes = [], []
    for folder in folders:
        try:
            studies.append(load(folder))
        except DamagedRecord as damage:
            notes.append(f"{damage} The study is left out.")
    return studies, others, notes


def _about_imported(count: int) -> list[str]:
    if count == 1:
        return ["1 imported run is left out: the tool that recorded it has it."]
    return [f"{count} imported runs are left out: the tool that recorded them has them."] if count else []


def _on_its_own(record: RecordedRun) -> list[Item]:
    try:
        if record.finished:
            return [Item(record, Member.of_record(record))]
        if record.ended:
            spec = RunSpec(as_type(RunConfig, record.config, record.path))
            return [Item(record, Member.of_spec(spec))]
    except (DamagedRecord, FileNotFoundError):
        return []
    return []


def _is_imported(record: RecordedRun) -> bool:
    return record.finished and record.summary.source is not None
