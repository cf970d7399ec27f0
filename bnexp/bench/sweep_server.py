"""The part of W&B's server that an agent needs: it gives out the points of a grid. Rung P2 has it on the loopback interface.

W&B's own agents register here and ask by heartbeats what to do. They get a point while there is one, then the end. Their runs
write offline, so there is nothing else to answer, and an answer takes no time. A real server is slower.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OPERATION = re.compile(r"(?:query|mutation)\s+(\w+)")
VIEWER = {"id": "user", "username": "bench", "entity": "bench", "flags": "{}", "teams": {"edges": []}}


class _Server(ThreadingHTTPServer):
    """Args: ``sweep``: the sweep file's text; ``points``: those that no agent has taken."""

    daemon_threads = True

    def __init__(self, program: str, sweep: str, points: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.program, self.sweep, self.points = program, sweep, list(points)
        self.taking = threading.Lock()

    def answer(self, operation: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The data of one GraphQL operation."""
        if operation == "Viewer":
            return {"viewer": VIEWER}
        if operation == "CreateAgent":
            return {"createAgent": {"agent": {"id": "agent"}}}
        if operation == "Heartbeat":
            busy = any(json.loads(variables["runState"]).values())
            return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps([] if busy else [self._next()])}}
        return {"project": {"sweep": {"id": "sweep", "name": "sweep", "config": self.sweep, "runs": {"edges": []}}}}

    def _next(self) -> dict[str, Any]:
        """What an idle agent is to do."""
        with self.taking:
            if not self.points:
                return {"type": "exit"}
            point = self.points.pop(0)
        arguments = {name: {"value": value} for name, value in point.items()}
        run_id = "-".join(map(str, point.values()))
        return {"id": run_id, "type": "run", "run_id": run_id, "program": self.program, "args": arguments}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Stay quiet."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/graphql":
            self.send_error(404)
            return
        request = json.loads(body)
        operation = OPERATION.search(request["query"])
        data = self.server.answer(operation[1] if operation else "", request.get("variables") or {})
        content = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def sweep_server(program: str, sweep: str, points: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A server for one sweep, while the block runs.

    Args:
        program: the script that an agent starts.
        sweep: text of the sweep file; an agent takes its ``command`` from it.
        points: parameters of each run, in the order in which they are given out.

    Yields:
        Its address.
    """
    server = _Server(program, sweep, points)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
