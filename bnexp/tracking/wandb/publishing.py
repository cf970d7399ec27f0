"""Brings recorded runs to W&B, each once: what is there already is not sent again.

Online, the server is asked what it holds. Offline, the folders of offline runs tell; each says itself for which project it was
written. So nothing that is remembered here can be wrong.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bnexp.config.schema import TrackConfig
from bnexp.data.images import ImagesById
from bnexp.tracking.foreign.wandb_file import run_of
from bnexp.tracking.records import DataFacts, RecordedRun
from bnexp.tracking.wandb.content import Member, RunContent, run_content, tags
from bnexp.tracking.wandb.holding import Item, OnDisk, OnServer, file_of, id_of, is_complete, is_synced
from bnexp.tracking.wandb.media import SharedImages
from bnexp.tracking.wandb.offline import write_run
from bnexp.tracking.wandb.sending import send
from bnexp.tracking.wandb.server import INCOMPLETE, SECONDS, meaning
from bnexp.tracking.wandb.session import WandbSession
from bnexp.tracking.wandb.study import study_id_on_wandb
from bnexp.tracking.wandb.tables import Table

if TYPE_CHECKING:
    import wandb

AT_ONCE = 8  # runs that are sent at once; sending is mostly waiting for the server
MOST_PICTURES = 500  # in the table ``images`` of a study that is written offline
CUT_SHORT = ("failed", "stopped", "interrupted")  # tags of runs that may finish later

Action = Literal["sent", "written", "incomplete", "failed"]  # what came of a run; see ``run.publish.PublishedRun``


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
        self._other_ids: dict[str, str] = {}  # the id that a run should have -> the one that it has
        self._looking = threading.Lock()  # runs that are sent at once share the pictures of a data set

    def missing(self, items: Sequence[Item], *, look_only: bool = False) -> list[Item]:
        """The items that W&B does not hold yet, or holds only as runs that had not finished. Runs that it holds are given the
        tags of studies that have grown by them, and the group that they should have.

        Args:
            items: recorded runs.
            look_only: whether nothing is changed on the server.
        """
        self.__dict__.pop("_disk", None)  # another process may have written or sent since
        self.__dict__.pop("_server", None)
        if not self.session.online:
            return [item for item in items if self._written(item) is None]
        held = {
            run_id: run
            for group in dict.fromkeys(map(self._group, items))
            for run_id, run in self._find(group, {i.id: i.record.run_id for i in items if self._group(i) == group}).items()
        }
        there = [item for item in items if item.id in held and not self._is_older(held[item.id].tags, item)]
        self._note_open(sum(held[item.id].state == "running" for item in there))
        if not look_only:
            self._note_moved([self._amend(held[item.id], self._group(item), item.member.study_ids) for item in there])
            for item in there:
                if held[item.id].state != "running":
                    self._note_sent(item.id)
        known = {item.id for item in there}
        return [item for item in items if item.id not in known]

    def holds_study(self, name: str, study_id: str, *, look_only: bool = False) -> bool:
        """Whether W&B holds the run of a study itself. One in another group is given the group that it should have.

        Args:
            name: name of the study.
            study_id: its id.
            look_only: whether nothing is changed on the server.
        """
        run_id = study_id_on_wandb(study_id)
        if not self.session.online:
            return self._disk.find(run_id) is not None
        group = self.session.config.group or name
        found = self._find(group, {run_id: ""})
        if found and not look_only:
            self._note_moved([self._amend(run, group, []) for run in found.values()])
        return bool(found)

    def note_unsynced(self, items: Sequence[Item]) -> None:
        """Note which of these runs are on disk only, whenever they were written, so that ``session.report`` names them all."""
        if self.session.online:
            return
        folders = [folder for item in items if (folder := self._disk.find(item.id)) is not None]
        waiting = [folder for folder in folders if not is_synced(folder)]
        self.session.unsynced = list(dict.fromkeys([*self.session.unsynced, *waiting]))

    def publish(self, items: Sequence[Item]) -> Iterator[tuple[Item, Action, str]]:
        """Publish items, several at a time; each as it is done, with what came of it and what went wrong.

        Ctrl-C waits for those that are being sent, so that none stays open on the server; the rest is not begun.
        """
        with ThreadPoolExecutor(AT_ONCE if self.session.online else 1, "W&B") as pool:
            waiting = {pool.submit(self.one, item.record, item.member): item for item in items}
            try:
                for done in as_completed(list(waiting)):
                    yield _outcome(waiting.pop(done), done)
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)
                yield from (_outcome(item, done) for done, item in waiting.items() if not done.cancelled())
                raise
            finally:
                pool.shutdown(cancel_futures=True)

    def one(self, record: RecordedRun, member: Member, run: wandb.Run | None = None, *, alone: bool = False) -> Action:
        """Publish a run; what came of it.

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
        return self.put(content, record, run, alone=alone)

    def put(self, content: RunContent, record: RecordedRun, run: wandb.Run | None = None, *, alone: bool = False) -> Action:
        """Bring what a run or a study holds to W&B; what came of it.

        What the server had of the run before is replaced, unless ``run`` is given. So it can be sent again as often as wanted.

        Args:
            content: what it holds.
            record: a run that was tested on the images that it shows.
            run: as for ``one``.
            alone: as for ``one``.
        """
        session, wanted = self.session, content.id
        content = replace(content, id=self._other_ids.get(wanted, wanted))
        if run is None and not session.online:
            own = any(table.own_pictures for table in content.tables.values())
            written = write_run(content, session.destination, self._images(record) if own else None)
            self._disk.add(wanted, written)
            session.wrote(written)
            return "written"
        run = run or session.open(opening(content), alone=alone, anew=True)
        try:
            send(content, run, self._shared_images(record))
        except BaseException:
            with suppress(Exception):  # W&B's process may be what failed
                run.tags = tuple(dict.fromkeys([*(run.tags or ()), INCOMPLETE]))
            session.finish(run, 1)
            raise
        arrived = session.finish(run, content.exit_code)
        if run.offline:
            return "written"
        if not arrived:
            return "incomplete"
        self._note_sent(wanted)
        return "sent"

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

    def _group(self, item: Item) -> str:
        return self.session.config.group or item.member.study

    def _written(self, item: Item) -> Path | None:
        """The folder in which a run was written for this project and for all of its studies."""
        folder = self._disk.find(item.id)
        if folder is None:
            return None
        self._other_ids[item.id] = id_of(folder)
        held = run_of(file_of(folder)).tags
        return folder if set(item.member.study_ids) <= set(held) and not self._is_older(held, item) else None

    def _is_older(self, held: Sequence[str], item: Item) -> bool:
        """Whether W&B holds a run as one that was cut short, by its tags, although it has finished since."""
        return item.record.finished and bool(set(CUT_SHORT).intersection(held) - set(self._track.wandb.tags))

    def _find(self, group: str, wanted: Mapping[str, str]) -> dict[str, Any]:
        """The complete runs on the server, by the id that they should have; see ``OnServer.find``."""
        found = self._server.find(group, wanted)
        self._other_ids |= {run_id: run.id for run_id, run in found.items()}
        for run in list(found.values())[:1]:
            self.session.found(run.url)
        return {run_id: run for run_id, run in found.items() if is_complete(run)}

    def _amend(self, run: Any, group: str, study_ids: Sequence[str]) -> str:
        """Give a run on the server its group and the tags of more studies; the group that it had, if it was another one."""
        new, moved = sorted(set(study_ids) - set(run.tags)), run.group != group
        if not (new or moved):
            return ""
        earlier = str(run.group or "none")
        run = self._server.whole(run)
        run.tags, run.group = tags([*run.tags, *new]), group
        if new:
            run.config["study_ids"] = list(dict.fromkeys([*run.config.get("study_ids", []), *new]))
        run.update()
        return earlier if moved else ""

    def _note_sent(self, wandb_id: str) -> None:
        """Mark the offline run that the server has as well, so that ``wandb sync`` does not replace that by it."""
        if (folder := self._disk.find(wandb_id)) is not None:
            with suppress(OSError):
                file_of(folder).with_suffix(".wandb.synced").touch()

    def _note_open(self, count: int) -> None:
        if count:
            runs, verb = ("1 run", "is") if count == 1 else (f"{count} runs", "are")
            self.session.messages.append(
                f"W&B: {runs} of these {verb} open there: another process sends them now, or was interrupted; then "
                "W&B marks them as crashed after some minutes, and bnexp publish sends them again."
            )

    def _note_moved(self, earlier: Sequence[str]) -> None:
        """Note how many runs were in another group."""
        if groups := [group for group in earlier if group]:
            runs, verb = ("1 run", "was") if len(groups) == 1 else (f"{len(groups)} runs", "were")
            named = ", ".join(dict.fromkeys(groups))
            self.session.messages.append(
                f"W&B: {runs} of these {verb} in another group ({named}) and changed to the wanted one."
            )

    @cached_property
    def _disk(self) -> OnDisk:
        return OnDisk(self.session.destination)

    @cached_property
    def _server(self) -> OnServer:
        to = self.session.destination
        return OnServer(self._api, f"{to.entity or self._api.default_entity}/{to.project}")

    @cached_property
    def _api(self) -> wandb.Api:
        import wandb

        return wandb.Api(timeout=SECONDS)


def _outcome(item: Item, done: Future[Action]) -> tuple[Item, Action, str]:
    """What came of a run whose sending has ended, and what went wrong."""
    error = done.exception()
    return (item, done.result(), "") if error is None else (item, "failed", meaning(error))


def opening(content: RunContent) -> dict[str, object]:
    """What a W&B run is opened with."""
    names = ("id", "name", "group", "job_type", "tags", "notes", "config")
    return {name: getattr(content, name) for name in names}
