"""What W&B holds of recorded runs: on the server, or as folders of offline runs.

A run is known by its id, which says the experiment and the study. One that was logged as WANDB_RUN_ID, or as a run of a sweep,
is known by its configuration, which names both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexp.tracking.foreign.wandb_file import run_of
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.wandb.content import Member
from bnexp.tracking.wandb.offline import Destination, is_for
from bnexp.tracking.wandb.server import INCOMPLETE, runs_of_group, runs_that

if TYPE_CHECKING:
    import wandb

OWN_ID = re.compile(r"(study-[^-]+|[0-9a-f]{12}(?:-[0-9a-f]{6})?)(?:-[0-9a-f]{4})?")  # the suffix: see ``server.other_id``
COMPLETE = ("finished", "failed", "running")  # states of runs on the server that are not sent again
AT_A_TIME = 250  # experiments in one question


@dataclass(frozen=True)
class Item:
    """A recorded run, as one study sees it."""

    record: RecordedRun
    member: Member

    @property
    def id(self) -> str:
        """Id of the W&B run."""
        return self.member.wandb_id(self.record.run_id)


class OnServer:
    """The runs of one project on the server.

    Args:
        api: W&B's public API.
        path: entity and project.
    """

    def __init__(self, api: wandb.Api, path: str) -> None:
        self._api, self._path = api, path
        self._groups: dict[str, dict[str, Any]] = {}

    def find(self, group: str, wanted: Mapping[str, str]) -> dict[str, Any]:
        """The runs that the server has, as W&B's public API gives them, by the id that they should have.

        Args:
            group: where they should be. It is listed once; what it lacks is looked for elsewhere.
            wanted: the id that a run should have -> the id of the experiment here; of a study this is empty.
        """
        if group not in self._groups:
            listed = runs_of_group(self._api, self._path, group)
            self._groups[group] = _by_id(
                run for run in listed if OWN_ID.fullmatch(run.id)
            )  # the others are asked for if missing
        found = {run_id: run for run_id, run in self._groups[group].items() if run_id in wanted}
        rest = [run_id for run_id in wanted if run_id not in found]
        for start in range(0, len(rest), AT_A_TIME):
            part = rest[start : start + AT_A_TIME]
            experiments = [wanted[run_id] for run_id in part if wanted[run_id]]
            those = [{"name": {"$in": part}}, {"config.run_id": {"$in": experiments}}]
            others = _by_id(runs_that(self._api, self._path, {"$or": those[: 2 if experiments else 1]}))
            found |= {run_id: run for run_id, run in others.items() if run_id in part}
        return found

    def whole(self, run: Any) -> Any:
        """A run with all that the server knows of it now; a list of runs has only a part of each."""
        return self._api.run(f"{self._path}/{run.id}")


def is_complete(run: Any) -> bool:
    """Whether the server has all of a run, or another process is sending it."""
    return run.state in COMPLETE and INCOMPLETE not in run.tags


def _by_id(runs: Iterable[Any]) -> dict[str, Any]:
    """The runs by the id that they should have; of several with one, a complete one."""
    found: dict[str, Any] = {}
    for run in runs:
        own = OWN_ID.fullmatch(run.id)
        wanted = own[1] if own else _id_of_experiment(run.config)
        if wanted and (wanted not in found or not is_complete(found[wanted])):
            found[wanted] = run
    return found


class OnDisk:
    """The offline runs that were written for one project.

    Args:
        to: the project, and the folder that has them.
    """

    def __init__(self, to: Destination) -> None:
        self._to = to

    def find(self, wandb_id: str) -> Path | None:
        """The folder of the run that should have this id."""
        return next((folder for folder in self._folders.get(wandb_id, []) if is_for(folder, id_of(folder), self._to)), None)

    def add(self, wandb_id: str, folder: Path) -> None:
        """Note that a run was written."""
        self._folders[wandb_id] = [folder]

    @cached_property
    def _folders(self) -> dict[str, list[Path]]:
        """The id that a run should have -> its folders, of any project. There may be thousands, so they are listed once."""
        found: dict[str, list[Path]] = {}
        for folder in sorted(self._to.folder.glob("offline-run-*")):
            run_id = id_of(folder)
            found.setdefault(run_id if OWN_ID.fullmatch(run_id) else _id_by_file(folder) or run_id, []).append(folder)
        return found


def id_of(folder: Path) -> str:
    """Id of the run in a folder of an offline run."""
    return folder.name.removeprefix("offline-run-").partition("-")[2]


def file_of(folder: Path) -> Path:
    """The file of an offline run."""
    return folder / f"run-{id_of(folder)}.wandb"


def is_synced(folder: Path) -> bool:
    """Whether ``wandb sync``, or we, have marked an offline run as uploaded."""
    return any(folder.glob("*.wandb.synced"))


def _id_by_file(folder: Path) -> str:
    """The id that the offline run of another id should have; empty if it is none of ours."""
    with suppress(DamagedRecord, OSError, ValueError):
        about = run_of(file_of(folder))
        said = {item.key: item.value_json for item in about.config.update if item.key in ("run_id", "study")}
        return _id_of_experiment({name: json.loads(text) for name, text in said.items()})
    return ""


def _id_of_experiment(config: Mapping[str, Any]) -> str:
    """The id that a run with this configuration should have; empty if it is none of ours."""
    run_id, study = config.get("run_id"), config.get("study")
    return Member(study, (), "").wandb_id(run_id) if isinstance(run_id, str) and isinstance(study, str) else ""
