"""What other tools have written under a path."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bnexp.config.schema import ConfigError
from bnexp.terminal import visible_line
from bnexp.tracking.foreign.csv_table import HPARAMS
from bnexp.tracking.foreign.mlflow_store import META
from bnexp.tracking.foreign.run import Tool
from bnexp.tracking.reading import DamagedRecord, read_text
from bnexp.tracking.records import MOST_TEXT

MOST_FOLDERS = 200_000  # under one path
DEEPEST = 20  # levels of folders
EVENTS = re.compile(r"events\.out\.tfevents\.")
LOG = "metrics.csv"
LIGHTNING = {LOG, HPARAMS}  # what its CSVLogger writes into the folder of a run
HPARAMS_FOLDER = re.compile(r"\d{9,11}(\.\d+)?")  # torch's ``add_hparams`` writes into a subfolder named by the time


@dataclass(frozen=True)
class Place:
    """Where a tool has written one run; or several, in a CSV file.

    Args:
        tool: which tool.
        path: the file or folder.
        root: only of TensorBoard: the folder that all runs are in.
        files: only of TensorBoard: the event files.
    """

    tool: Tool
    path: Path
    root: Path = Path()
    files: list[Path] = field(default_factory=list)


def find_places(path: Path) -> list[Place]:
    """The runs of other tools at a path: a file, or whatever lies in a folder.

    CSV files in a folder are not taken, because not every CSV file holds runs; but for those of Lightning, which have their
    settings beside them. Links to folders are not followed.

    Raises:
        ConfigError: there is nothing at the path, or no run in it.
    """
    if path.is_file():
        return [_of_file(path)]
    if not path.is_dir():
        raise ConfigError(
            visible_line(f"there is no file or folder {path}; give one of W&B, MLflow or TensorBoard, or a CSV file.")
        )
    found = list(_in_folders(path))
    if not found:
        tables = sorted(path.glob("*.csv"))
        hint = f" Its CSV files are taken if they are named: bnexp import {tables[0]}." if tables else ""
        raise ConfigError(
            visible_line(f"{path} holds no runs of W&B (.wandb), MLflow (meta.yaml) or TensorBoard (tfevents).{hint}")
        )
    return found


def _of_file(path: Path) -> Place:
    if path.suffix == ".wandb":
        return Place("wandb", path)
    if path.suffix.lower() in (".csv", ".tsv"):
        return Place("csv", path)
    if EVENTS.search(path.name):
        return Place("tensorboard", path.parent, _common([path.parent]), [path])
    if path.name == META and _is_mlflow_run(path.parent):
        return Place("mlflow", path.parent)
    raise ConfigError(
        visible_line(
            f"{path} is none of the files that can be imported: *.wandb, *.csv, *.tsv, events.out.tfevents.*, or meta.yaml."
        )
    )


def _in_folders(path: Path) -> Iterator[Place]:
    events: dict[Path, list[Path]] = {}
    for count, (parent, folders, names) in enumerate(os.walk(path)):
        folder = Path(parent)
        if count >= MOST_FOLDERS:
            raise ConfigError(visible_line(f"{path} has more than {MOST_FOLDERS:,} folders; import them in parts."))
        folders.sort()
        logs = sorted(name for name in names if name.endswith(".wandb") and (folder / name).is_file())
        yield from (Place("wandb", folder / name) for name in logs)
        if META in names and _is_mlflow_run(folder):
            yield Place("mlflow", folder)
            logs = names
        if logs or len(folder.parts) - len(path.parts) >= DEEPEST:  # what lies deeper belongs to that run
            folders.clear()
            continue
        if files := sorted(name for name in names if EVENTS.search(name) and (folder / name).is_file()):
            belongs = HPARAMS_FOLDER.fullmatch(folder.name) and folder.parent in events
            events.setdefault(folder.parent if belongs else folder, []).extend(folder / name for name in files)
        elif {*names} >= LIGHTNING:
            yield Place("csv", folder / LOG)
    home = _common(list(events))
    yield from (Place("tensorboard", folder, home, files) for folder, files in events.items())


def _common(folders: Sequence[Path]) -> Path:
    """The folder that all these are in; of a single one, its parent."""
    if len(folders) == 1:
        return folders[0].absolute().parent
    return Path(os.path.commonpath([folder.absolute() for folder in folders])) if folders else Path()


def _is_mlflow_run(folder: Path) -> bool:
    """Whether the ``meta.yaml`` of a folder is that of a run, not of an experiment."""
    try:
        text = read_text(folder / META, MOST_TEXT)
    except (FileNotFoundError, DamagedRecord):
        return False
    return re.search(r"^run_(id|uuid):", text, re.MULTILINE) is not None
