"""The HTTP side of the stand-in: authorisation, faults, GraphQL, the file stream, uploads and downloads."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.tracking.standin.graphql import QueryError, execute, parse
from tests.tracking.standin.runs import HttpError, Malformed, md5
from tests.tracking.standin.state import Standin


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: Any) -> None:
        """Stay quiet."""

    def do_POST(self) -> None:
        self._serve()

    do_PUT = do_GET = do_POST

    def _serve(self) -> None:
        standin = self.server.standin
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        part, operation = _part(self.command, path, body)
        if self.server.closed:  # an old connection of a server that has gone away
            self.close_connection = True
            return
        with standin.lock:
            fault = standin.faults.striking(part, operation)
            name = operation or part
            standin.requests[name] = standin.requests.get(name, 0) + 1
        if fault and fault.kind == "status":
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            self._reply({"errors": [{"message": fault.message or f"answered with {fault.status}"}]}, fault.status, headers)
            return
        if fault and fault.kind == "hang":
            standin.faults.wait_for_healing()
        if fault and fault.kind in ("hang", "drop"):
            self.close_connection = True
            return
        try:
            with standin.lock:
                answer = self._answer(part, path, body)
        except HttpError as error:
            self._reply({"errors": [{"message": str(error)}]}, error.status)
            return
        except Exception as error:  # a stand-in that fails must fail the test, not the connection
            with standin.lock:
                standin.errors.append(f"{operation or path}: {type(error).__name__}: {error}")
            self._reply({"errors": [{"message": str(error)}]}, 400)
            return
        if fault:
            self.close_connection = True
            return
        self._reply(answer)

    def _answer(self, part: str, path: str, body: bytes) -> Any:
        standin = self.server.standin
        if part in ("graphql", "stream") and not self._knows_key():
            raise HttpError(401, "user is not logged in")
        if part == "graphql":
            return _graphql(standin, json.loads(body))
        if part == "stream":
            run = standin.runs.get(path.split("/")[-2])
            if run is None:
                raise HttpError(404, "run not found")
            run.take(json.loads(body))
            return {"exitcode": None, "limits": {}, "stopped": run.stop_wanted}
        if part == "upload":
            _store(standin, path, body)
            return {}
        if part == "download":
            return _stored(standin, path)
        raise Malformed(f"{self.command} {path} is nothing that the server knows")

    def _knows_key(self) -> bool:
        expected = base64.b64encode(f"api:{self.server.standin.key}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"

    def _reply(self, answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # wandb-core opens many connections at once; one that finds the queue full waits for seconds
    standin: Standin
    closed = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """wandb-core drops its idle connections when it ends."""


def _part(method: str, path: str, body: bytes) -> tuple[str, str]:
    """The part of the API, and for GraphQL the name of the operation."""
    if path == "/graphql":
        with suppress(Exception):
            return "graphql", parse(json.loads(body)["query"]).name
        return "graphql", ""
    if path.startswith("/storage/"):
        return ("download" if method == "GET" else "upload"), ""
    return ("stream" if path.endswith("/file_stream") else "unknown"), ""


def _graphql(standin: Standin, request: dict[str, Any]) -> dict[str, Any]:
    if unknown := set(request) - {"query", "variables", "operationName"}:
        raise Malformed(f"a GraphQL request has no {sorted(unknown)}")
    try:
        return {"data": execute(parse(request["query"]), request.get("variables") or {}, standin.roots())}
    except QueryError as error:
        standin.errors.append(f"GraphQL: {error}")
        return {"errors": [{"message": str(error)}], "data": None}


def _store(standin: Standin, path: str, body: bytes) -> None:
    _, _, kind, owner, name = path.split("/", 4)
    if kind == "run":
        standin.runs[owner].files[name] = body
        return
    artifact = standin.artifacts.numbered(int(owner))
    if name not in artifact.announced:
        raise Malformed(f"{artifact.collection}: {name} was not announced")
    if md5(body) != artifact.announced[name]:
        raise Malformed(f"{artifact.collection}: {name} has another digest than announced")
    if name == "wandb_manifest.json":
        artifact.manifest = json.loads(body)
    else:
        artifact.files[name] = body


def _stored(standin: Standin, path: str) -> bytes:
    _, _, kind, owner, name = path.split("/", 4)
    if kind == "artifact":
        artifact = standin.artifacts.numbered(int(owner))
        content = json.dumps(artifact.manifest).encode() if name == "wandb_manifest.json" else artifact.files.get(name)
    else:
        content = standin.runs[owner].files.get(name)
    if content is None:
        raise HttpError(404, f"{name} not found")
    return content


class Running:
    """The listening socket and its thread; ``stop`` and ``start`` make the server go away and come back."""

    def __init__(self, standin: Standin) -> None:
        self.standin = standin
        self.port = 0
        self._server: _Server | None = None

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.standin = self.standin
        self.port = self._server.server_port
        self.standin.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.closed = True
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None


@contextmanager
def wandb_standin() -> Iterator[Standin]:
    """A running stand-in. When it ends, AssertionError says what no client should have sent."""
    standin = Standin()
    running = Running(standin)
    running.start()
    standin.go_away, standin.come_back = running.stop, running.start
    try:
        yield standin
    finally:
        standin.faults.heal()
        running.stop()
    if standin.errors:
        raise AssertionError("\n".join(standin.errors))
