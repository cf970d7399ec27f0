"""Runs on the server: what the file stream brings, checked line by line, and the questions of W&B's public API."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.tracking.standin.graphql import Node, connection

STREAM_KEYS = {"files", "uploaded", "complete", "exitcode", "preempting", "dropped"}


class Malformed(Exception):
    """The client sent what no client should send: the test that caused it fails."""


class HttpError(Exception):
    """An answer with an HTTP status other than 200, as the real server gives it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def storage_id(kind: str, *parts: str) -> str:
    """An id as the real server makes it: base64 of what it stands for."""
    return base64.b64encode(":".join([kind, *parts]).encode()).decode()


@dataclass
class Run:
    """What the server holds of one run; ``name`` is what W&B's clients call its id."""

    entity: str
    project: str
    name: str
    created_at: str = field(default_factory=now)
    heartbeat_at: str = field(default_factory=now)
    group: str = ""
    job_type: str = ""
    display_name: str = ""
    description: str = ""
    notes: str = ""
    commit: str = ""
    host: str = ""
    program: str = ""
    repo: str = ""
    sweep: str = ""
    tags: list[str] = field(default_factory=list)
    full_config: dict[str, Any] = field(default_factory=dict)  # with W&B's own part, as {name: {"value": ...}}
    history: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    output: dict[int, str] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)  # ids of artifacts
    openings: int = 0
    heartbeats: int = 0
    stop_wanted: bool = False
    crashed: bool = False
    resuming: bool = False  # a client asked where to go on
    _overwriting: bool = False

    @property
    def id(self) -> str:
        return storage_id("Run", "v1", self.name, self.project, self.entity)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as a user gave it."""
        return {name: item["value"] for name, item in self.full_config.items() if name != "_wandb"}

    @property
    def state(self) -> str:
        if self.exit_code is None:
            return "crashed" if self.crashed else "running"
        return "failed" if self.exit_code else "finished"

    @property
    def next_line(self) -> int:
        """Where a client goes on; wandb-core does so after every answer that names a line above 0."""
        return 0 if self._overwriting and not self.resuming else len(self.history)

    def reopen(self) -> None:
        """A client begins to log it, anew or resumed."""
        self.openings += 1
        self._overwriting = not self.resuming
        self.exit_code, self.crashed, self.resuming = None, False, False

    def resume(self) -> None:
        """A client that has asked where to go on goes on in a run that is open, such as one that it has just created."""
        self._overwriting = self.resuming = False

    def take(self, chunk: Mapping[str, Any]) -> None:
        """Take one request of the file stream.

        A request may come twice, if its answer was lost; then it brings the same lines. Every other repeat and every hole is
        ``Malformed``. A client that reopens the run without resuming it writes from line 0 again, as on the real server.
        """
        if unknown := set(chunk) - STREAM_KEYS:
            raise Malformed(f"the file stream does not know {sorted(unknown)}")
        self.heartbeat_at = now()
        self.heartbeats += not chunk
        for name, part in chunk.get("files", {}).items():
            if set(part) != {"offset", "content"}:
                raise Malformed(f"{name} in the file stream has {sorted(part)}")
            self._take_lines(name, part["offset"], part["content"])
        if missing := set(chunk.get("uploaded", [])) - set(self.files):
            raise Malformed(f"{self.name}: called uploaded, but never came: {sorted(missing)}")
        if chunk.get("complete"):
            self.exit_code = chunk["exitcode"]

    def _take_lines(self, name: str, offset: int, lines: Sequence[str]) -> None:
        if name == "output.log":
            self.output.update(enumerate(lines, offset))  # a progress bar writes a line again
            return
        rows = [json.loads(line) for line in lines]
        if name == "wandb-summary.json":
            self.summary = rows[-1]
        elif name == "wandb-events.jsonl":
            self.events = self._joined(name, self.events, rows, offset)
        elif name == "wandb-history.jsonl":
            self.history = self._joined(name, self.history, rows, offset)
            steps = [row["_step"] for row in self.history]
            if steps != sorted(set(steps)):
                raise Malformed(f"{self.name}: a step came twice or too late: {steps}")
        else:
            raise Malformed(f"the file stream does not know the file {name}")

    def _joined(self, name: str, known: list[dict[str, Any]], rows: list[dict[str, Any]], offset: int) -> list[dict[str, Any]]:
        if offset > len(known):
            raise Malformed(f"{self.name}: {name} has a hole: line {offset} came after {len(known)} lines")
        if offset == 0 and self._overwriting:
            known = []
        if name == "wandb-history.jsonl":
            self._overwriting = False
        if known[offset:] != rows[: len(known) - offset]:
            raise Malformed(f"{self.name}: {name} brought lines from {offset} again, and others than before")
        return known[:offset] + rows


def run_node(run: Run, file_url: Callable[[Run, str], str], artifacts: Mapping[str, Callable[..., Node]]) -> Node:
    """The run as GraphQL type ``Run``."""
    history = [json.dumps(row) for row in run.history]
    fields: dict[str, Any] = {
        "id": run.id,
        "internalId": run.id,
        "projectId": 1,
        "name": run.name,
        "displayName": run.display_name or run.name,
        "description": run.description,
        "notes": run.notes,
        "state": run.state,
        "group": run.group,
        "jobType": run.job_type,
        "tags": list(run.tags),
        "commit": run.commit,
        "host": run.host,
        "sweepName": run.sweep or None,
        "readOnly": False,
        "createdAt": run.created_at,
        "heartbeatAt": run.heartbeat_at,
        "exitcode": run.exit_code,
        "shouldStop": run.stop_wanted,
        "stopped": run.stop_wanted and run.state != "running",
        "failed": run.state == "failed",
        "running": run.state == "running",
        "user": Node("User", {"name": run.entity, "username": run.entity}),
        "config": json.dumps(run.full_config),
        "summaryMetrics": json.dumps(run.summary),
        "systemMetrics": json.dumps(run.events[-1] if run.events else {}),
        "historyLineCount": run.next_line,
        "eventsLineCount": len(run.events),
        "logLineCount": len(run.output),
        "historyTail": json.dumps(history[-1:]),
        "eventsTail": json.dumps([json.dumps(row) for row in run.events[-1:]]),
        "historyKeys": _history_keys(run),
        "wandbConfig": lambda keys: json.dumps(
            {key: run.full_config.get("_wandb", {}).get("value", {}).get(key) for key in keys}
        ),
        "project": Node("Project", {"id": "1", "name": run.project, "entity": entity_node(run.entity)}),
        "fileCount": len(run.files),
        "files": lambda names=None, after=None, first=None, pattern=None: connection(
            [_file_node(run, name, file_url) for name in sorted(run.files) if not names or name in names], first, after
        ),
        "history": lambda samples=500, minStep=0, maxStep=2**63: [
            json.dumps(row) for row in run.history if minStep <= row["_step"] < maxStep
        ][:samples],
        "events": lambda samples=500: [json.dumps(row) for row in run.events][:samples],
        "sampledHistory": lambda specs: [_sampled(run, json.loads(spec)) for spec in specs],
        "parquetHistory": lambda liveKeys: Node("ParquetHistory", {"parquetUrls": [], "liveData": list(run.history)}),
    }
    return Node("Run", {**fields, **artifacts})


def entity_node(name: str) -> Node:
    fields = {"id": f"entity-{name}", "name": name, "xxhashDigestsEnabled": False, "organization": None}
    return Node("Entity", fields)


def _file_node(run: Run, name: str, file_url: Callable[[Run, str], str]) -> Node:
    content = run.files[name]
    url = file_url(run, name)
    fields = {"id": name, "name": name, "url": lambda upload=False: url, "directUrl": url, "sizeBytes": len(content)}
    return Node("File", {**fields, "mimetype": None, "updatedAt": run.heartbeat_at, "md5": md5(content)})


def md5(content: bytes) -> str:
    """The digest of a file as W&B writes it."""
    import hashlib

    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _history_keys(run: Run) -> dict[str, Any]:
    keys = {key for row in run.history for key in row}
    return {
        "keys": {key: {"typeCounts": []} for key in sorted(keys)},
        "lastStep": max((r["_step"] for r in run.history), default=-1),
    }


def _sampled(run: Run, spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    keys = spec.get("keys")
    rows = run.history if not keys else [row for row in run.history if set(keys) <= set(row)]
    return [{key: row[key] for key in keys} if keys else row for row in rows[: spec.get("samples", 500)]]
