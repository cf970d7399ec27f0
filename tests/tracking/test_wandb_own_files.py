"""An offline run that we write holds what wandb itself writes of the same run."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from google.protobuf.json_format import MessageToDict
from PIL import Image

from bnexp.config.options import WandbMode
from bnexp.config.schema import WandbConfig
from bnexp.tracking.wandb.content import FileArtifact, RunContent
from bnexp.tracking.wandb.offline import write_run
from bnexp.tracking.wandb.publishing import opening
from bnexp.tracking.wandb.sending import send
from bnexp.tracking.wandb.session import WandbSession
from bnexp.tracking.wandb.tables import Table
from tests.tracking.records import images
from tests.tracking.wandb_file import OfflineRun, read

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning")  # wandb's own

OFFLINE = WandbConfig(mode=WandbMode.offline)
SHOWN = Table(["image_id", "truth", "correct", "p"], [[3, "cat", True, 0.5], [5, "dog", False, None]], pictured=True)
COUNTS = Table(["Actual", "Predicted", "nPredictions"], [["cat", "cat", 3], ["dog", "cat", 1]])
CLOCK = ("_timestamp", "_runtime", "_wandb")  # wandb writes when it was called, we write when the run trained
OWN_NAMES = ("path", "sha256", "size", "artifact_path", "_latest_artifact_path")  # say where things are; they are followed


def a_run(report: Path) -> RunContent:
    """A run of two epochs that failed, with all that a run can hold."""
    return RunContent(
        id="one",
        name="batch seed=0",
        group="demo",
        job_type="batch",
        tags=["mnist"],
        notes="a note",
        config={"optim": {"lr": 0.1}},
        started=1e9,
        seconds=2.5,
        history=[
            (10, {"epoch": 1, "train/loss": 1.0, "_timestamp": 1e9 + 1.25}),
            (20, {"epoch": 2, "train/loss": 0.5, "_timestamp": 1e9 + 2.5}),
        ],
        summary={"status": "failed"},
        tables={"predictions": SHOWN, "confusion_matrix_table": COUNTS},
        earlier={10: replace(SHOWN, rows=SHOWN.rows[:1])},
        pages={"page": "<p>It helps.</p>"},
        artifacts=(FileArtifact("report-one", "report", report),),
        exit_code=1,
    )


def held(folder: Path) -> dict[str, Any]:
    """What the files of an offline run say: each address is replaced by what it leads to."""
    run = read(folder)
    about = {name: getattr(run.run, name) for name in ("run_id", "project", "entity", "run_group", "job_type", "display_name")}
    panels = run.config.pop("_wandb")["visualize"]
    return {
        "run": about | {"notes": run.run.notes, "tags": run.tags, "wandb": run.run.telemetry.cli_version},
        "config": run.config,
        "panels": panels,
        "metrics": {name: MessageToDict(metric) for name, metric in run.metrics.items()},
        "history": [followed(row, folder, run) for row in run.history],
        "summary": followed(run.summary, folder, run),
        "artifacts": {name: contents(artifact) for name, artifact in run.artifacts.items()},
        "uploaded": sorted((str(Path(path).parent), (folder / "files" / path).is_file()) for path in run.files),
        "exit_code": run.exit_code,
    }


def followed(row: dict[str, Any], folder: Path, run: OfflineRun) -> dict[str, Any]:
    """A row of the history or the summary: files and artifacts instead of their addresses."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict) and "path" in value:
            content = (folder / "files" / value["path"]).read_bytes()
            assert value["sha256"] == hashlib.sha256(content).hexdigest()
            assert value["size"] == len(content)
            value = {key: said for key, said in value.items() if key not in OWN_NAMES} | {
                "file": json.loads(content) if value["path"].endswith(".table.json") else content,
                "folder": Path(value["path"]).parent,
                "artifact": artifact_at(value.get("artifact_path"), run),
                "latest": artifact_at(value.get("_latest_artifact_path"), run),
            }
        if name not in CLOCK:
            found[name] = value
    return found


def artifact_at(address: str | None, run: OfflineRun) -> Any:
    """The file that an address of an artifact leads to."""
    if address is None:
        return None
    artifact_id, _, path = address.removeprefix("wandb-client-artifact://").partition("/")
    artifact = next(a for a in run.versions if artifact_id in (a.client_id, f"{a.sequence_client_id}:latest"))
    return contents(artifact)["files"][path]


def contents(artifact: Any) -> dict[str, Any]:
    """What an artifact is and what its files hold; their sizes and digests are checked."""
    said = MessageToDict(artifact)
    files = {}
    for entry in artifact.manifest.contents:
        content = Path(entry.local_path).read_bytes()
        assert base64.b64decode(entry.digest) == hashlib.md5(content, usedforsecurity=False).digest()
        assert entry.size == len(content)
        files[entry.path] = json.loads(content) if entry.path.endswith(".json") else content
    digest = {} if any(path.endswith(".json") for path in files) else {"digest": said["digest"]}  # JSON has many spellings
    lengths = {name: len(said.pop(name)) for name in ("clientId", "sequenceClientId")}
    policy = {name: said["manifest"][name] for name in ("version", "storagePolicy", "storagePolicyConfig")}
    kept = ("type", "name", "project", "entity", "runId", "aliases", "finalize", "digestAlgorithm")
    metadata = json.loads(artifact.metadata or "{}")
    return {"files": files, **digest, **lengths, **policy, "metadata": metadata} | {name: said.get(name) for name in kept}


def test_an_offline_run_holds_what_wandb_itself_writes(
    wandb_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").write_text("<p>It helps.</p>")
    content = a_run(tmp_path / "report.html")
    ours = held(write_run(content, WandbSession(OFFLINE).destination))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "theirs"))
    (tmp_path / "theirs").mkdir()
    session = WandbSession(OFFLINE)
    run = session.open(opening(content), alone=False)
    send(content, run, None)
    session.finish(run, content.exit_code)
    wandb.teardown()
    (folder,) = (tmp_path / "theirs" / "wandb").glob("offline-run-*")
    theirs = held(folder)
    for part, expected in theirs.items():
        assert ours[part] == expected, part
    assert list(ours) == list(theirs)


def test_the_times_of_an_offline_run_are_those_of_its_training(wandb_home: Path, tmp_path: Path) -> None:
    (tmp_path / "report.html").touch()
    run = read(write_run(a_run(tmp_path / "report.html"), WandbSession(OFFLINE).destination))
    assert run.run.start_time.ToSeconds() == 1_000_000_000
    assert [(row["_runtime"], row["_timestamp"]) for row in run.history] == [(1.25, 1e9 + 1.25), (2.5, 1e9 + 2.5)]
    assert (run.summary["_runtime"], run.runtime) == (2.5, 2)


@pytest.mark.parametrize("wandb_dir", [".", "logs", "absolute"])
def test_the_files_of_artifacts_are_found_where_they_were_written_and_after_a_move(
    wandb_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wandb_dir: str
) -> None:
    """After a move they are found from the directory that WANDB_DIR is relative to, or around ``wandb`` if it is absolute."""
    (tmp_path / "report.html").write_text("<p>It helps.</p>")
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("WANDB_DIR", str(here) if wandb_dir == "absolute" else wandb_dir)
    (tmp_path / "elsewhere").mkdir()
    paths = artifact_paths(write_run(a_run(tmp_path / "report.html"), WandbSession(OFFLINE).destination))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [path.is_file() for path in paths] == [True, False] * 4
    here.rename(there)
    monkeypatch.chdir(there)
    assert [path.is_file() for path in paths] == [False, True] * 4


def artifact_paths(folder: Path) -> list[Path]:
    """Where the records of an offline run say that the files of its artifacts are."""
    return [Path(file.local_path) for artifact in read(folder).versions for file in artifact.manifest.contents]


def test_pictures_are_written_as_wandb_writes_them(wandb_home: Path) -> None:
    table = Table(["image_id", "truth"], [[3, "cat"], [5, "dog"]], pictured=True, own_pictures=True)
    content = replace(a_run(wandb_home), tables={"images": table}, earlier={}, artifacts=())
    written = read(write_run(content, WandbSession(OFFLINE).destination, images)).artifacts["run-one-images"]
    pixels = images(table.image_ids)[..., 0]
    rows = [[row[0], wandb.Image(Image.fromarray(image)), row[1]] for row, image in zip(table.rows, pixels, strict=True)]
    theirs = wandb.Artifact("images", "dataset")
    theirs.add(wandb.Table(["image_id", "image", "truth"], rows, optional=False), "images")
    held = {entry.path: Path(entry.local_path or "").read_bytes() for entry in theirs.manifest.entries.values()}
    ours, expected = pictured(contents(written)["files"]), pictured(held)
    assert ours == expected
    assert [row[1]["pixels"] for row in ours["data"]] == pixels.tolist()


def pictured(files: dict[str, Any]) -> dict[str, Any]:
    """The table in the files of an artifact: pixels instead of the names of its pictures, and the columns that have a type."""
    content = files.pop("images.table.json")
    table: dict[str, Any] = content if isinstance(content, dict) else json.loads(content)
    for row in table["data"]:
        sha256, path = row[1].pop("sha256"), row[1].pop("path")
        picture = files.pop(path)
        assert sha256 == hashlib.sha256(picture).hexdigest()
        assert (Path(path).parent, Path(path).suffix) == (Path("media/images"), ".png")
        row[1]["pixels"] = np.asarray(Image.open(io.BytesIO(picture))).tolist()
    assert files == {}
    types = table.pop("column_types")["params"]["type_map"]
    return table | {"types": {name: column["wb_type"] for name, column in types.items()}}


def test_runs_are_written_where_md5_is_allowed_only_for_what_is_no_secret(
    wandb_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So on machines in FIPS mode."""

    def md5(data: bytes, *, usedforsecurity: bool = True) -> Any:
        assert not usedforsecurity
        return made(data, usedforsecurity=False)

    made = hashlib.md5
    monkeypatch.setattr(hashlib, "md5", md5)
    (tmp_path / "report.html").write_text("<p>It helps.</p>")
    assert write_run(a_run(tmp_path / "report.html"), WandbSession(OFFLINE).destination).is_dir()


def test_a_run_is_replaced_for_its_project_alone(wandb_home: Path, tmp_path: Path) -> None:
    (tmp_path / "report.html").touch()
    content, to = a_run(tmp_path / "report.html"), WandbSession(OFFLINE).destination
    first, other = (write_run(content, replace(to, project=project)) for project in ("first", "other"))
    again = write_run(replace(content, started=content.started + 60), replace(to, project="first"))
    assert sorted(wandb_home.iterdir()) == sorted([other, again])
    assert (read(other).run.project, read(again).run.project) == ("other", "first")
    assert first not in (other, again)


@pytest.mark.parametrize("by_another", [True, False])
def test_a_run_that_another_process_writes_at_the_same_moment_is_left_to_it(
    wandb_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_another: bool
) -> None:
    def rename(building: Path, folder: Path) -> None:
        if by_another:
            folder.mkdir()
        raise OSError("it cannot be renamed")

    (tmp_path / "report.html").touch()
    monkeypatch.setattr(Path, "rename", rename)
    write = partial(write_run, a_run(tmp_path / "report.html"), WandbSession(OFFLINE).destination)
    if by_another:
        assert write() == next(wandb_home.iterdir())
    else:
        with pytest.raises(OSError, match="it cannot be renamed"):
            write()
        assert list(wandb_home.iterdir()) == []
