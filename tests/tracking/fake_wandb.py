"""A W&B server on the loopback interface: it keeps the runs, files and artifacts that wandb-core sends, to be looked at.

It answers the GraphQL operations that wandb-core needs to log runs, the file stream (history and summary), and uploads. An
unknown operation is answered with an error and listed in ``unknown``, so that a test fails by name rather than hangs.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeRun:
    """What the server knows of one run."""

    fields: dict[str, Any] = field(default_factory=dict)  # the variables of UpsertBucket: config, tags, groupName, ...
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def config(self) -> dict[str, Any]:
        return {name: item["value"] for name, item in json.loads(self.fields["config"]).items() if name != "_wandb"}


@dataclass
class FakeWandb:
    """The server's state. Every request is answered with ``status`` where that is not 200.

    ``refused``: ids of runs that the server does not take. ``announced`` is set when a run begins.
    """

    url: str = ""
    status: int = 200
    runs: dict[str, FakeRun] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    committed: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    announced: threading.Event = field(default_factory=threading.Event)
    unknown: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, name: str) -> FakeRun:
        return self.runs.setdefault(name, FakeRun())

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The ``data`` (or ``errors``) of a GraphQL answer."""
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = found.group(1) if found else query
        if name == "UpsertBucket" and variables["name"] in self.refused:
            return {"errors": [{"message": "run was previously created and deleted"}]}
        handler = getattr(self, "_" + re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(), None)
        if handler is None:
            self.unknown.append(name)
            return {"errors": [{"message": f"the fake server does not know {name}"}]}
        return {"data": handler(variables)}

    def _run_resume_status(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"model": None}

    def _upsert_bucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.announced.set()
        run = self.run(variables["name"])
        run.fields.update({name: value for name, value in variables.items() if value is not None})
        project = {
            "id": "project",
            "name": variables["project"],
            "entity": {"id": "entity", "name": variables["entity"] or "somebody"},
        }
        bucket = {
            "id": variables["name"],
            "name": variables["name"],
            "displayName": variables["displayName"],
            "project": project,
        }
        rest = {"description": None, "config": None, "sweepName": None, "historyLineCount": 0}
        return {"upsertBucket": {"bucket": bucket | rest, "inserted": True}}

    def _viewer(self, variables: dict[str, Any]) -> dict[str, Any]:
        teams = {"edges": []}
        return {
            "viewer": {"id": "user", "entity": "somebody", "username": "somebody", "email": "", "flags": "{}", "teams": teams}
        }

    def _create_run_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        place = f"{self.url}/upload/{variables['run']}"
        files = [{"name": name, "uploadUrl": f"{place}/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}

    def _server_features_query(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _artifact_type(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _create_artifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        given = variables["input"]
        self.artifacts[given["artifactCollectionName"]] = given
        artifact = {"id": given["artifactCollectionName"], "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def _create_artifact_manifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["artifactID"]
        upload = {"id": f"file-{name}", "uploadUrl": f"{self.url}/upload/{name}/{variables['name']}", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": f"manifest-{name}", "file": upload}}}

    def _update_artifact_manifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {
            "updateArtifactManifest": self._create_artifact_manifest(
                {"artifactID": variables["artifactManifestID"].removeprefix("manifest-"), "name": "wandb_manifest.json"}
            )["createArtifactManifest"]
        }

    def _create_artifact_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        nodes = []
        for spec in variables["input"]["artifactFiles"] if "input" in variables else variables["artifactFiles"]:
            place = f"{self.url}/upload/{spec['artifactID']}/{spec['name']}"
            node = {"id": place, "name": spec["name"], "displayName": spec["name"], "uploadUrl": place, "uploadHeaders": []}
            extra = {"storagePath": spec["name"], "uploadMultipartUrls": None, "artifact": {"id": spec["artifactID"]}}
            nodes.append({"node": node | extra})
        return {"createArtifactFiles": {"files": {"edges": nodes}}}

    def _commit_artifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.committed.add(variables["artifactID"])
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": ""}}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: Any) -> None:
        """Stay quiet."""

    def do_POST(self) -> None:
        body = self._body()
        fake = self.server.fake
        with fake.lock:
            if fake.status != 200:
                self._reply({}, fake.status)
            elif self.path.startswith("/graphql"):
                request = json.loads(body)
                self._reply(fake.answer(request["query"], request.get("variables") or {}))
            elif self.path.endswith("/file_stream"):
                _take_stream(fake.run(self.path.split("/")[-2]), json.loads(body))
                self._reply({})
            else:
                fake.unknown.append(self.path)
                self._reply({}, 404)

    def do_PUT(self) -> None:
        body = self._body()
        with self.server.fake.lock:
            self.server.fake.files[self.path.removeprefix("/upload/")] = body
        self._reply({})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _reply(self, answer: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeWandb

    def handle_error(self, request: Any, client_address: Any) -> None:
        """wandb-core drops its idle connections when it ends."""


def _take_stream(run: FakeRun, request: dict[str, Any]) -> None:
    for name, chunk in request.get("files", {}).items():
        rows = [json.loads(line) for line in chunk["content"]]
        if name == "wandb-history.jsonl":
            run.history += rows
        elif name == "wandb-summary.json":
            run.summary = rows[-1]
    if request.get("complete"):
        run.exit_code = request["exitcode"]


@contextmanager
def fake_wandb() -> Iterator[FakeWandb]:
    """A running server; ``url`` is its address."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.fake = FakeWandb(url=f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.fake
        finally:
            server.shutdown()
            thread.join()
