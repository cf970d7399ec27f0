"""Brings recorded runs to W&B, each once: what is there already is not sent again.

Online, the server is asked what it holds. Offline, the folders of offline runs tell; each says itself for which project it was
written. So nothing that is remembered here can be wrong.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexp.config.options import WandbMode
from bnexp.config.schema import TrackConfig
from bnexp.data.images import ImagesById
from bnexp.tracking.foreign.wandb_file import run_of
from bnexp.tracking.reading import DamagedRecord, as_type
from bnexp.tracking.records import DataFacts, RecordedRun
from bnexp.tracking.wandb.content import Member, RunContent, run_content, tags
from bnexp.tracking.wandb.media import SharedImages
from bnexp.tracking.wandb.offline import is_for, write_run
from bnexp.tracking.wandb.sending import send
from bnexp.tracking.wandb.server import INCOMPLETE, SECONDS, meaning, runs_of_group
from bnexp.tracking.wandb.session import WandbSession
from bnexp.tracking.wandb.study import study_id_on_wandb
from bnexp.tracking.wandb.tables import Table

if TYPE_CHECKING:
    import wandb

AT_ONCE = 8  # runs that are sent at once; sending is mostly waiting for the server
OTHER_ID = re.compile("(.+)-[0-9a-f]{4}")  # see ``server.other_id``
MOST_PICTURES = 500  # in the table ``images`` of a study that is written offline
CUT_SHORT = ("failed", "stopped", "interrupted")  # tags of runs that may finish later
COMPLETE = ("finished", "failed", "running")  # states of runs on the server that are not sent again


@dataclass(frozen=True)
class Item:
    """A recorded run, as one study sees it."""

    record: RecordedRun
    member: Member

    @property
    def id(self) -> str:
        """Id of the W&B run."""
        return self.member.wandb_id(self.record.run_id)


class Publisher:
    """Publishes recorded runs through one session.

    Args:
        session: the connection, which is not ``disabled``.
        track: number of predictions, and how W&B files runs.
        images: gives the test images of a run by their ids; None if they are not on this machine.
    """

    def __init__(
        self, session: WandbSession, track: TrackConfig, images: Callable[[RecordedRun], ImagesById | None] = lambda _: None
    ) -> None:
        self.session = session
        self._track = replace(track, wandb=session.config)
        self._images = images
        self._shared: dict[str, SharedImages | None] = {}
        self._looking = threading.Lock()  # runs that are sent at once share the pictures of a data set

    def missing(self, items: Sequence[Item], *, look_only: bool = False) -> list[Item]:
        """The items that W&B does not hold yet, or holds only as runs that had not finished. Runs that it holds are given the
        tags of studies that have grown by them.

        Args:
            items: recorded runs.
            look_only: whether nothing is changed on the server, so that no tags are given.
        """
        self.__dict__.pop("_folders", None)  # another process may have written since
        if not self.session.online:
            return [item for item in items if self._written(item) is None]
        listed = [run for group in dict.fromkeys(map(self._group, items)) for run in self._on_server(group)]
        held = {_wanted_id(run.id): run for run in listed} | {run.id: run for run in listed}
        there = {item.id for item in items if item.id in held and not self._is_older(held[item.id].tags, item)}
        if count := sum(held[run_id].state == "running" for run_id in there):
            runs, verb = ("1 run", "is") if count == 1 else (f"{count} runs", "are")
            self.session.messages.append(
                f"W&B: {runs} of these {verb} open there: another process sends them now, or was interrupted; then "
                "W&B marks them as crashed after some minutes, and bnexp publish sends them again."
            )
        for item in () if look_only else items:
            if item.id in there and (new := set(item.member.study_ids) - set(held[item.id].tags)):
                self._add_studies(held[item.id], sorted(new))
        return [item for item in items if item.id not in there]

    def holds_study(self, name: str, study_id: str) -> bool:
        """Whether W&B holds the run of a study itself."""
        run_id = study_id_on_wandb(study_id)
        if self.session.online:
            return any(run_id in (run.id, _wanted_id(run.id)) for run in self._on_server(self.session.config.group or name))
        return self._folder(run_id) is not None

    def note_unsynced(self, items: Sequence[Item]) -> None:
        """Note which of these runs are on disk only, whenever they were written, so that ``session.report`` names them all."""
        if self.session.online:
            return
        folders = [folder for item in items if (folder := self._folder(item.id)) is not None]
        waiting = [folder for folder in folders if not _is_synced(folder)]
        self.session.unsynced = list(dict.fromkeys([*self.session.unsynced, *waiting]))

    def _group(self, item: Item) -> str:
        return self.session.config.group or item.member.study

    def publish(self, items: Sequence[Item]) -> Iterator[tuple[Item, str]]:
        """Publish items, several at a time; each as it is done, with what went wrong or an empty text."""
        with ThreadPoolExecutor(AT_ONCE if self.session.online else 1, "W&B") as pool:
            waiting = {pool.submit(self.one, item.record, item.member): item for item in items}
            try:
                for done in as_completed(waiting):
                    error = done.exception()
                    yield waiting[done], "" if error is None else meaning(error)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def one(self, record: RecordedRun, member: Member, run: wandb.Run | None = None, *, alone: bool = False) -> None:
        """Publish a run.

        Args:
            record: the run.
            member: the study that it is published for.
            run: the W&B run that has logged it so far; None if there is none.
            alone: whether it is the only run, so that WANDB_NAME, WANDB_RUN_ID and WANDB_RESUME are meant for it.
        """
        content = run_content(record, member, self._track)
        if alone:
            name, run_id = (os.environ.get(f"WANDB_{key}", "") for key in ("NAME", "RUN_ID"))
            content = replace(content, name=name or content.name, id=run_id or content.id)
        self.put(content, record, run, alone=alone)

    def put(self, content: RunContent, record: RecordedRun, run: wandb.Run | None = None, *, alone: bool = False) -> None:
        """Bring what a run or a study holds to W&B.

        Args:
            content: what it holds.
            record: a run that was tested on the images that it shows.
            run: as for ``one``.
            alone: as for ``one``.
        """
        session = self.session
        if run is None and not session.online:
            own = any(table.own_pictures for table in content.tables.values())
            written = write_run(content, session.destination, self._images(record) if own else None)
            self._folders[content.id] = [written]
            session.wrote(written)
            return
        run = run or session.open(opening(content), alone=alone)
        try:
            send(content, run, self._shared_images(record))
        except BaseException:
            session.finish(run, 1)
            raise
        session.finish(run, content.exit_code)
        if (folder := self._folder(content.id)) is not None:
            (folder / f"run-{content.id}.wandb.synced").touch()  # so that wandb sync leaves it

    def shown_images(self, items: Sequence[Item]) -> Table | None:
        """The images that the offline tables of these runs show, those that most of them show first; None if there are none."""
        count: Counter[tuple[int, str]] = Counter()
        for item in items:
            folder = self._written(item)
            for path in folder.glob("files/media/table/predictions_*.json") if folder is not None else ():
                table = json.loads(path.read_text())
                places = [table["columns"].index(name) for name in ("image_id", "truth")]
                count.update((row[places[0]], row[places[1]]) for row in table["data"])
        rows = [[image_id, truth] for (image_id, truth), _ in count.most_common(MOST_PICTURES)]
        return Table(["image_id", "truth"], sorted(rows), pictured=True, own_pictures=True) if rows else None

    def share(self, facts: DataFacts, name: str, images: ImagesById) -> SharedImages:
        """The pictures of a data set, for tables that are logged while runs train and for those that are published later.

        Args:
            facts: about the data set.
            name: its name.
            images: its test images by their ids.
        """
        shared = self._shared[facts.fingerprint] = SharedImages(images, name)
        return shared

    def _shared_images(self, record: RecordedRun) -> SharedImages | None:
        data = record.summary.data_fingerprint if record.finished else ""
        with self._looking:
            if data not in self._shared:
                images = self._images(record) if data else None
                self._shared[data] = SharedImages(images, record.summary.data) if images else None
            return self._shared[data]

    def _written(self, item: Item) -> Path | None:
        """The folder in which a run was written for this project and for all of its studies."""
        folder = self._folder(item.id)
        if folder is None:
            return None
        held = run_of(folder / f"run-{item.id}.wandb").tags
        return folder if set(item.member.study_ids) <= set(held) and not self._is_older(held, item) else None

    def _is_older(self, held: Sequence[str], item: Item) -> bool:
        """Whether W&B holds a run as one that was cut short, by its tags, although it has finished since."""
        return item.record.finished and bool(set(CUT_SHORT).intersection(held) - set(self._track.wandb.tags))

    def _folder(self, run_id: str) -> Path | None:
        """The folder in which a run was written for this project."""
        folders = self._folders.get(run_id, [])
        return next((folder for folder in folders if is_for(folder, run_id, self.session.destination)), None)

    @cached_property
    def _folders(self) -> dict[str, list[Path]]:
        """Run id -> the folders of its offline runs. There may be thousands, so they are listed once."""
        found: dict[str, list[Path]] = {}
        for folder in sorted(self.session.destination.folder.glob("offline-run-*")):
            found.setdefault(folder.name.removeprefix("offline-run-").partition("-")[2], []).append(folder)
        return found

    def _on_server(self, group: str) -> list[Any]:
        """The complete runs of a group, as W&B's public API gives them."""
        to = self.session.destination
        path = f"{to.entity or self._api.default_entity}/{to.project}"
        return [run for run in runs_of_group(self._api, path, group) if run.state in COMPLETE and INCOMPLETE not in run.tags]

    def _add_studies(self, run: Any, study_ids: Sequence[str]) -> None:
        """Tag a run on the server with more studies."""
        run.load(force=True)  # a list of runs has only a part of each
        run.tags = tags([*run.tags, *study_ids])
        run.config["study_ids"] = list(dict.fromkeys([*run.config.get("study_ids", []), *study_ids]))
        run.update()

    @cached_property
    def _api(self) -> wandb.Api:
        import wandb

        return wandb.Api(timeout=SECONDS)


def recorded_track(records: Iterable[RecordedRun]) -> TrackConfig:
    """How recorded runs go to W&B: as the first of them whose settings can be read was configured, else by the defaults.

    A mode that was configured then decides nothing now.

    Args:
        records: the runs, the one that matters most first.
    """
    for record in records:
        with suppress(DamagedRecord, FileNotFoundError):
            found: TrackConfig = as_type(TrackConfig, record.config.get("track", {}), record.path)
            return replace(found, wandb=replace(found.wandb, mode=WandbMode.auto))
    return TrackConfig()


def opening(content: RunContent) -> dict[str, object]:
    """What a W&B run is opened with."""
    names = ("id", "name", "group", "job_type", "tags", "notes", "config")
    return {name: getattr(content, name) for name in names}


def _wanted_id(run_id: str) -> str:
    """The id that a run should have had, of one that got a suffix because its own belonged to a deleted run."""
    found = OTHER_ID.fullmatch(run_id)
    return found[1] if found else run_id


def _is_synced(folder: Path) -> bool:
    """Whether ``wandb sync``, or we, have marked an offline run as uploaded."""
    return any(folder.glob("*.wandb.synced"))
