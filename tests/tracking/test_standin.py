"""The stand-in of W&B's server refuses what the real one refuses, and hands out sweeps as the real one does."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.tracking.standin import Standin, wandb_standin
from tests.tracking.standin.runs import md5

UPSERT = "mutation U($name: String, $entity: String) { upsertBucket(input: {name: $name, modelName: $entity}) { inserted } }"
HEARTBEAT = "mutation H($id: ID!, $alive: JSONString) { agentHeartbeat(input: {id: $id, runState: $alive}) { commands } }"


@pytest.fixture
def server() -> Iterator[Standin]:
    with wandb_standin() as standin:
        yield standin
        standin.errors.clear()


def send(server: Standin, method: str, path: str, content: bytes, key: str = "") -> tuple[int, Any]:
    authorisation = base64.b64encode(f"api:{key or server.key}".encode()).decode()
    url = path if path.startswith("http") else server.url + path
    request = urllib.request.Request(url, content, {"Authorization": f"Basic {authorisation}"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def ask(server: Standin, query: str, **variables: Any) -> Any:
    _, answer = send(server, "POST", "/graphql", json.dumps({"query": query, "variables": variables}).encode())
    return answer


def stream(server: Standin, rows: list[dict[str, Any]], offset: int) -> int:
    files = {"wandb-history.jsonl": {"offset": offset, "content": [json.dumps(row) for row in rows]}}
    return send(server, "POST", "/files/somebody/p/r/file_stream", json.dumps({"files": files}).encode())[0]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("query Q { nothing { id } }", 'Cannot query field "nothing" on type "Query"'),
        ("query Q { viewer { shoe } }", 'Cannot query field "shoe" on type "User"'),
        ("mutation M { upsertBucket(input: {colour: 1}) { inserted } }", "unexpected keyword argument 'colour'"),
        ("query Q($id: ID!) { artifact(id: $id) { id } }", 'Variable "$id" of required type was not provided'),
        ("query Q { viewer { id }", "Syntax Error"),
    ],
)
def test_what_the_schema_lacks_is_an_error(server: Standin, query: str, told: str) -> None:
    assert told in ask(server, query)["errors"][0]["message"]
    assert told in server.errors[0]


def test_a_test_that_causes_an_error_fails() -> None:
    with pytest.raises(AssertionError, match="nothing"), wandb_standin() as server:
        ask(server, "{ nothing }")


@pytest.mark.parametrize(
    ("rows", "offset", "told"),
    [
        ([{"_step": 2, "x": 0}], 2, "has a hole"),
        ([{"_step": 0, "x": 5}], 0, "others than before"),
        ([{"_step": 0, "x": 1}], 1, "a step came twice"),
    ],
)
def test_history_has_every_line_once(server: Standin, rows: list[dict[str, Any]], offset: int, told: str) -> None:
    ask(server, UPSERT, name="r", entity="p")
    assert stream(server, [{"_step": 0, "x": 1}], 0) == 200
    assert stream(server, [{"_step": 0, "x": 1}], 0) == 200  # its answer was lost
    assert stream(server, rows, offset) == 400
    assert told in server.errors[0]


def test_a_file_must_have_the_digest_that_was_announced(server: Standin) -> None:
    given = {"entityName": "e", "projectName": "p", "artifactTypeName": "model", "artifactCollectionName": "m"}
    query = "mutation C($input: I!) { createArtifact(input: $input) { artifact { id } } }"
    made = ask(server, query, input={**given, "digest": "d", "digestAlgorithm": "MANIFEST_MD5"})
    artifact_id = made["data"]["createArtifact"]["artifact"]["id"]
    query = "mutation F($input: I!) { createArtifactFiles(input: $input) { files { edges { node { uploadUrl } } } } }"
    file = {"artifactID": artifact_id, "name": "w", "md5": md5(b"right")}
    made = ask(server, query, input={"artifactFiles": [file], "storageLayout": "V2"})
    url = made["data"]["createArtifactFiles"]["files"]["edges"][0]["node"]["uploadUrl"]
    assert send(server, "PUT", url, b"wrong")[0] == 400
    assert "another digest" in server.errors[0]
    assert send(server, "PUT", url, b"right")[0] == 200


def test_one_value_is_taken_for_a_list_of_it(server: Standin) -> None:
    ask(server, UPSERT, name="r", entity="p")
    stream(server, [{"_step": 0, "x": 1}], 0)
    query = 'query H($specs: [JSONString!]!) { project(name: "p") { run(name: "r") { sampledHistory(specs: $specs) } } }'
    answer = ask(server, query, specs='{"keys": ["x"]}')
    assert answer["data"]["project"]["run"]["sampledHistory"] == [[{"x": 1}]]


def test_a_deleted_run_cannot_come_back_and_a_wrong_key_is_refused(server: Standin) -> None:
    ask(server, UPSERT, name="r", entity="p")
    server.delete_run("r")
    assert (
        "previously created and deleted; try a new run name"
        in ask(server, UPSERT, name="r", entity="p")["errors"][0]["message"]
    )
    assert send(server, "POST", "/graphql", b'{"query": "{ viewer { id } }"}', key="x" * 40)[0] == 401
    assert server.errors == []


def test_a_sweep_gives_out_each_point_once_stops_runs_and_ends(server: Standin) -> None:
    sweep = server.add_sweep("{method: grid, metric: {name: a.b}, parameters: {lr: {values: [1, 2]}}}")
    query = "mutation A($sweep: String!) { createAgent(input: {host: here, sweep: $sweep}) { agent { id } } }"
    agent = ask(server, query, sweep=sweep.name)["data"]["createAgent"]["agent"]["id"]

    def heartbeat(*alive: str) -> list[dict[str, Any]]:
        state = json.dumps(dict.fromkeys(alive, True))
        return json.loads(ask(server, HEARTBEAT, id=agent, alive=state)["data"]["agentHeartbeat"]["commands"])

    (first,) = heartbeat()
    run = first["run_id"]
    assert (first["type"], first["args"]) == ("run", {"lr": {"value": 1}})
    assert heartbeat(run) == []
    sweep.stop(run)
    assert heartbeat(run) == [{"type": "stop", "run_id": run}]
    ask(server, UPSERT, name=run, entity="p")
    server.runs[run].summary = {"a": {"b": 0.5}}
    (second,) = heartbeat()
    assert second["args"] == {"lr": {"value": 2}}
    assert sweep.seen[second["run_id"]] == {run: 0.5}
    assert heartbeat() == [{"type": "exit"}]
    server.runs[run].exit_code = 0
    heartbeat()
    assert sweep.state == "FINISHED"
    del server.sweeps[sweep.name]
    assert "not found" in ask(server, HEARTBEAT, id=agent)["errors"][0]["message"]
