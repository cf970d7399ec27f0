"""Writes runs as W&B's offline files, which ``wandb sync`` uploads and ``wandb leet`` opens.

wandb itself takes 34 ms of processor time for a run of five epochs with two tables, most of it to start, to stage files and to
log what it does; this takes a few. The records are W&B's own protocol (``wandb.proto``), whose messages every later version of
wandb has to read. ``log_file.py`` puts them into a file. Which artifacts a run uses is not among them: wandb tells that to the
server alone, and refuses it offline. So the lineage of a study (``content.uses``) is recorded online only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from itertools import count
from pathlib import Path
from typing import Any

from bnexp.data.images import ImagesById, UInt8
from bnexp.tracking.foreign.wandb_file import run_of
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.wandb.content import RunContent
from bnexp.tracking.wandb.log_file import Log
from bnexp.tracking.wandb.media import confusion_panel, png
from bnexp.tracking.wandb.tables import CONFUSION, Table

OLDEST_READER = "0.70.0"  # of the files that wandb writes


@dataclass(frozen=True)
class Destination:
    """Where runs go.

    Args:
        folder: W&B's folder on disk, ``wandb``.
        project: W&B's project.
        entity: user or team; None for whoever uploads.
    """

    folder: Path
    project: str
    entity: str | None


def write_run(content: RunContent, to: Destination, images: ImagesById | None = None) -> Path:
    """Write a run as an offline run; one that is there already for this project is replaced. It appears whole or not at all.

    Args:
        content: the run.
        to: where it goes.
        images: test images by their ids, for tables with pictures of their own; None: these have none either.

    Returns:
        Its folder.
    """
    others = [old for old in to.folder.glob(f"offline-run-*-{escape(content.id)}") if is_for(old, content.id, to) is False]
    folder = next(place for place in _names(content, to) if place not in others)
    building = to.folder / f".{folder.name}.{secrets.token_hex(4)}.tmp"
    try:
        building.mkdir(parents=True)
        log = Log()
        for record in _Writer(content, to, building, folder, images).records():
            log.add(record)
        (building / f"run-{content.id}.wandb").write_bytes(log.content)
        for old in to.folder.glob(f"offline-run-*-{escape(content.id)}"):
            if old not in others:
                shutil.rmtree(old, ignore_errors=True)
        try:
            building.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process has written the same run in this moment
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)  # what a full disk or Ctrl-C has left
    return folder


def is_for(folder: Path, run_id: str, to: Destination) -> bool | None:
    """Whether an offline run was written for this project; None if its file cannot be read."""
    try:
        about = run_of(folder / f"run-{run_id}.wandb")
    except (DamagedRecord, OSError):
        return None
    return (about.project, about.entity or None) == (to.project, to.entity)


def _names(content: RunContent, to: Destination) -> Iterator[Path]:
    """What the folder of a run can be called: runs of one id for several projects differ in their seconds."""
    for second in count():
        started = time.strftime("%Y%m%d_%H%M%S", time.localtime(content.started + second))
        yield to.folder / f"offline-run-{started}-{content.id}"


class _Writer:
    """Makes the records of a run, and writes its files.

    Args:
        content: the run.
        to: where it goes.
        building: the folder in which files are written.
        folder: what that folder will be called.
        images: test images by their ids.
    """

    def __init__(self, content: RunContent, to: Destination, building: Path, folder: Path, images: ImagesById | None) -> None:
        from wandb.proto import wandb_internal_pb2

        self._pb: Any = wandb_internal_pb2
        self._content, self._to, self._building, self._folder, self._images = content, to, building, folder, images
        self._step = content.history[-1][0] if content.history else 0

    def records(self) -> Iterator[Any]:
        """All records in their order; files are written before the records that name them."""
        pb, content = self._pb, self._content
        yield _header(pb)
        yield _run(pb, content, self._to)
        for metric in ({"name": "epoch"}, {"glob_name": "*", "step_metric": "epoch"}):
            record = pb.Record(metric=pb.MetricRecord(**metric))
            record.metric.options.defined = True
            record.metric.options.step_sync = "step_metric" in metric
            yield record
        media: dict[str, Any] = {}
        earlier: dict[int, dict[str, Any]] = {}
        for step, table in content.earlier.items():
            described, artifact = self._table("predictions", table, step)
            earlier[step] = {"predictions": described}
            yield from self._placed(artifact)
        for name, table in content.tables.items():
            media[name], artifact = self._table(name, table, self._step)
            yield from self._placed(artifact)
        for name, page in content.pages.items():
            media[name] = self._file("html", name, ".html", page.encode(), self._step) | {"_type": "html-file"}
        for file in content.artifacts:
            artifact, *_ = self._artifact(file.name, file.type, {file.path.name: file.path.read_bytes()}, self._step)
            artifact.artifact.metadata = json.dumps(content.made_by)
            yield from self._placed(artifact)
        paths = [described["path"] for row in (*earlier.values(), media) for described in row.values()]
        yield pb.Record(files=pb.FilesRecord(files=[pb.FilesItem(path=path) for path in paths]))
        steps = content.history or [(0, {})]
        for number, (step, row) in enumerate(steps, 1):
            yield _row(pb, step, row | (media if number == len(steps) else earlier.get(step, {})), content)
        yield _summary(pb, content, media)
        yield pb.Record(exit=pb.RunExitRecord(exit_code=content.exit_code, runtime=int(content.seconds)))

    def _table(self, name: str, table: Table, step: int) -> tuple[dict[str, Any], Any]:
        """Write a table; what history and summary say of it, and the record of its artifact.

        W&B keeps a table twice: as a file of the run, and as an artifact, which joins the tables of several runs.
        """
        typed, files = _typed(table, self._images)
        plain = json.dumps({"columns": table.columns, "data": table.rows})
        described = self._file("table", name, ".table.json", plain.encode(), step)
        entry = f"{name}.table.json"
        files[entry] = json.dumps(typed).encode()
        artifact, address, latest = self._artifact(f"run-{self._content.id}-{name}", "run_table", files, step)
        described |= {
            "_type": "table-file",
            "ncols": len(table.columns),
            "nrows": len(table.rows),
            "log_mode": "IMMUTABLE",
            "artifact_path": f"{address}/{entry}",
            "_latest_artifact_path": f"{latest}/{entry}",
        }
        return described, artifact

    def _file(self, kind: str, name: str, ending: str, content: bytes, step: int) -> dict[str, Any]:
        """Write a file of the run; its place, hash and size."""
        sha256 = hashlib.sha256(content).hexdigest()
        path = f"media/{kind}/{name}_{step}_{sha256[:20]}{ending}"
        place = self._building / "files" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return {"path": path, "sha256": sha256, "size": len(content)}

    def _artifact(self, name: str, kind: str, files: Mapping[str, bytes], step: int) -> tuple[Any, str, str]:
        """Write an artifact's files; its record, and the addresses of this version and of the latest one.

        wandb may delete the files once it has uploaded them, so they are files of their own.
        """
        record = self._pb.Record()
        artifact = record.artifact
        artifact.run_id, artifact.project, artifact.entity = self._content.id, self._to.project, self._to.entity or ""
        artifact.type, artifact.name, artifact.finalize = kind, name, True
        artifact.aliases.append("latest")
        artifact.client_id, artifact.sequence_client_id = (_client_id() for _ in range(2))
        manifest = artifact.manifest
        manifest.version, manifest.storage_policy = 1, "wandb-storage-policy-v1"
        manifest.storage_policy_config.add(key="storageLayout", value_json='"V2"')
        whole = hashlib.md5(b"wandb-artifact-manifest-v1\n", usedforsecurity=False)
        for path, content in sorted(files.items()):
            digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
            whole.update(f"{path}:{digest}\n".encode())
            place = Path("artifacts", f"{name}-{step}", path)
            (self._building / place).parent.mkdir(parents=True, exist_ok=True)
            (self._building / place).write_bytes(content)
            manifest.contents.add(path=path, digest=digest, size=len(content), local_path=str(place))
        artifact.digest = whole.hexdigest()
        if "digest_algorithm" in artifact.DESCRIPTOR.fields_by_name:
            artifact.digest_algorithm = "MANIFEST_MD5"
        scheme = "wandb-client-artifact://"
        return record, f"{scheme}{artifact.client_id}", f"{scheme}{artifact.sequence_client_id}:latest"

    def _placed(self, artifact: Any) -> Iterator[Any]:
        """The record of an artifact, twice: ``wandb sync`` opens its files by their paths as they stand there.

        The first has absolute paths, which are right from any directory. The second is for a folder ``wandb`` that was moved,
        for example to a machine with a network: its paths are right from the directory around it. Without the files, wandb goes
        on to the next record; what the server has by the first one is not sent again.
        """
        folder = self._folder
        around = folder.parents[1] if folder.is_absolute() else Path()
        for place in (folder.absolute(), folder.relative_to(around)):
            record = self._pb.Record()
            record.CopyFrom(artifact)
            for file in record.artifact.manifest.contents:
                file.local_path = str(place / file.local_path)
            yield record


def _header(pb: Any) -> Any:
    import wandb

    return pb.Record(
        header=pb.HeaderRecord(version_info=pb.VersionInfo(producer=wandb.__version__, min_consumer=OLDEST_READER))
    )


def _run(pb: Any, content: RunContent, to: Destination) -> Any:
    import wandb

    record = pb.Record()
    run = record.run
    run.run_id, run.project, run.entity = content.id, to.project, to.entity or ""
    run.run_group, run.job_type, run.display_name = content.group, content.job_type, content.name
    run.notes = content.notes or ""
    run.tags.extend(content.tags)
    run.start_time.FromNanoseconds(int(content.started * 1e9))
    run.telemetry.cli_version = wandb.__version__
    _set(run.config.update, content.config)
    if f"{CONFUSION}_table" in content.tables:
        item = run.config.update.add(value_json=json.dumps({"visualize": {CONFUSION: confusion_panel()}}))
        item.key = "_wandb"
    return record


def _row(pb: Any, step: int, row: Mapping[str, Any], content: RunContent) -> Any:
    record = pb.Record()
    at = row.get("_timestamp", content.started)
    _set(record.history.item, {**row, "_timestamp": at, "_runtime": at - content.started, "_step": step})
    record.history.step.num = step
    return record


def _summary(pb: Any, content: RunContent, media: Mapping[str, Any]) -> Any:
    record = pb.Record()
    times = {"_runtime": content.seconds, "_step": content.history[-1][0] if content.history else 0}
    _set(record.summary.update, content.final() | dict(media) | times)
    return record


def _set(items: Any, values: Mapping[str, Any]) -> None:
    """Add each value as JSON under its own key."""
    for name, value in values.items():
        items.add(key=name, value_json=json.dumps(value))


def _typed(table: Table, images: ImagesById | None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A table as an artifact has it: with the types of its columns, and with pictures; and the files of these."""
    columns, rows, files = table.columns, table.rows, dict[str, bytes]()
    types = [_type([row[place] for row in rows]) for place in range(len(columns))]
    if table.own_pictures and images is not None and rows:
        cells = []
        for pixels in images(table.image_ids):
            cell, path, content = _picture(pixels)
            files[path] = content
            cells.append(cell)
        place = columns.index("image_id") + 1
        columns = [*columns[:place], "image", *columns[place:]]
        rows = [[*row[:place], cell, *row[place:]] for row, cell in zip(rows, cells, strict=True)]
        types.insert(place, {"wb_type": "image-file"})
    return {
        "_type": "table",
        "column_types": {"params": {"type_map": dict(zip(columns, types, strict=True))}, "wb_type": "typedDict"},
        "columns": columns,
        "data": rows,
        "log_mode": "IMMUTABLE",
        "ncols": len(columns),
        "nrows": len(rows),
    }, files


def _type(values: Sequence[Any]) -> dict[str, Any]:
    """W&B's type of a column."""
    first = next((value for value in values if value is not None), "")
    kind = "boolean" if isinstance(first, bool) else "number" if isinstance(first, int | float) else "string"
    if None not in values:
        return {"wb_type": kind}
    return {"params": {"allowed_types": [{"wb_type": "none"}, {"wb_type": kind}]}, "wb_type": "union"}


def _picture(pixels: UInt8) -> tuple[dict[str, Any], str, bytes]:
    """A picture as a cell of a table, and its file."""
    content = png(pixels)
    sha256 = hashlib.sha256(content).hexdigest()
    path = f"media/images/{sha256[:20]}.png"
    height, width = pixels.shape[:2]
    cell = {"_type": "image-file", "path": path, "sha256": sha256, "format": "png", "width": width, "height": height}
    return cell, path, content


def _client_id() -> str:
    return secrets.token_hex(64)
