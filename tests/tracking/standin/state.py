"""The state of the stand-in and its GraphQL schema: each field of ``Query`` and ``Mutation`` is a function here."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.tracking.standin.artifacts import Artifact, Artifacts, artifact_node, membership_node
from tests.tracking.standin.faults import Faults
from tests.tracking.standin.filters import matches, ordered
from tests.tracking.standin.graphql import Node, connection
from tests.tracking.standin.mutations import ENTITY, mutations
from tests.tracking.standin.runs import Run, entity_node, run_node
from tests.tracking.standin.sweeps import Agent, Sweep, sweep_node
from tests.tracking.standin.views import View, view_node


@dataclass
class Standin:
    """What the server holds, to be read by tests.

    Attributes:
        url: address of the server.
        key: the API key that it takes; others get 401.
        runs: runs by their id.
        deleted: ids of runs that were deleted; they cannot be used again.
        artifacts: versions of artifacts.
        sweeps, agents: by id.
        views: reports and workspaces by id.
        faults: switches for what can go wrong.
        announced: set when a run is opened.
        go_away, come_back: refuse connections for a while.
        requests: how often each GraphQL operation, ``stream``, ``upload`` and ``download`` was asked for.
        errors: what no client should have sent; the fixture fails a test that leaves some.
    """

    url: str = ""
    key: str = "k" * 40
    runs: dict[str, Run] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    artifacts: Artifacts = field(default_factory=Artifacts)
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    announced: threading.Event = field(default_factory=threading.Event)
    requests: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    go_away: Callable[[], None] = field(default=lambda: None)
    come_back: Callable[[], None] = field(default=lambda: None)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def artifact(self, name: str) -> Artifact:
        """The committed artifact of a name, with an alias (``model-1:latest``) or without."""
        found = self.artifacts.find(name)
        assert found is not None, f"{name} is not among {[item.name for item in self.artifacts.versions]}"
        return found

    def delete_run(self, run_id: str) -> None:
        """Delete a run; its id cannot be used again."""
        self.runs.pop(run_id, None)
        self.deleted.add(run_id)

    def add_sweep(self, text: str, *, project: str = "bnexp", name: str = "") -> Sweep:
        """Register a sweep as ``wandb sweep FILE`` does.

        Args:
            text: the sweep's YAML.
            project: where its runs go.
            name: its id; empty: one is made.
        """
        name = name or f"sweep{len(self.sweeps)}"
        self.sweeps[name] = Sweep(name, ENTITY, project, text)
        return self.sweeps[name]

    # ---- the schema ----

    def roots(self) -> dict[str, Node]:
        """The roots of GraphQL's operations."""
        query = {
            "viewer": self._viewer,
            "serverInfo": lambda: Node("ServerInfo", {"features": []}),
            "entity": lambda name: entity_node(name),
            "project": self.project,
            "model": self.project,
            "models": self._projects,
            "artifact": lambda id: self.artifact_node(self.artifacts.by_id(id)),
            "clientIDMapping": self._client_id_mapping,
        }
        return {"query": Node("Query", query), "mutation": Node("Mutation", mutations(self))}

    def _projects(self, entityName: str, first: int | None = None, after: str | None = None) -> Node:
        names = dict.fromkeys(run.project for run in self.runs.values() if run.entity == entityName)
        return connection([node for name in names if (node := self.project(name, entityName))], first, after)

    def _viewer(self) -> Node:
        facts = {"id": "user", "name": ENTITY, "username": ENTITY, "entity": ENTITY, "email": "", "admin": False}
        lists = {"teams": connection([]), "apiKeys": connection([]), "flags": "{}", "deletedAt": None}
        return Node("User", {**facts, **lists})

    def project(self, name: str | None = None, entityName: str | None = None) -> Node | None:
        entity = entityName or ENTITY
        facts = {
            "id": "1",
            "internalId": "1",
            "name": name,
            "entityName": entity,
            "isBenchmark": False,
            "user": None,
            "readOnly": False,
            "createdAt": "",
            "entity": entity_node(entity),
        }
        return Node("Project", facts | self._runs(entity, name) | self._artifacts() | self._sweeps_and_views(entity, name))

    def _runs(self, entity: str, project: str | None) -> dict[str, Any]:
        """The fields of a project that are about its runs."""
        runs = [run for run in self.runs.values() if (run.entity, run.project) == (entity, project)]

        def filtered(filters: str | None) -> list[Run]:
            return [run for run in runs if matches(run, json.loads(filters or "{}"))]

        def listed(
            filters: str | None = None, after: str | None = None, first: int | None = None, order: str | None = None
        ) -> Node:
            return connection([self.run_node(run) for run in ordered(filtered(filters), order)], first, after)

        def one(name: str, missingOk: bool = False) -> Node | None:
            found = next((run for run in runs if run.name == name), None)
            if found and missingOk:
                found.resuming = True
            return self.run_node(found) if found else None

        return {"runCount": lambda filters=None: len(filtered(filters)), "runs": listed, "run": one, "bucket": one}

    def _artifacts(self) -> dict[str, Any]:
        """The fields of a project that are about artifacts."""

        def member(name: str) -> Node | None:
            found = self.artifacts.find(name)
            return membership_node(found, self.artifact_node(found)) if found else None

        def artifact(name: str) -> Node | None:
            found = self.artifacts.find(name)
            return self.artifact_node(found) if found else None

        def collection(name: str) -> Node | None:
            found = artifact(name)
            return found.fields["artifactSequence"] if found else None

        return {
            "artifact": artifact,
            "artifactCollectionMembership": member,
            "artifactCollection": collection,
            "artifactType": lambda name: Node("ArtifactType", {"name": name, "artifactCollection": collection}),
        }

    def _sweeps_and_views(self, entity: str, project: str | None) -> dict[str, Any]:
        """The fields of a project that are about its sweeps, reports and workspaces."""
        sweeps = [sweep for sweep in self.sweeps.values() if (sweep.entity, sweep.project) == (entity, project)]

        def sweep(sweepName: str) -> Node | None:
            return next((self.sweep_node(item) for item in sweeps if item.name == sweepName), None)

        def listed(after: str | None = None, first: int | None = None, filters: str | None = None) -> Node:
            return connection([self.sweep_node(item) for item in sweeps], first, after)

        def views(
            viewType: str,
            viewName: str | None = None,
            userName: str | None = None,
            first: int | None = None,
            after: str | None = None,
        ) -> Node:
            of = (entity, project, viewType)
            own = [view for view in self.views.values() if (view.entity, view.project, view.kind) == of]
            return connection([view_node(view) for view in own if viewName in (None, view.name)], first, after)

        return {"sweep": sweep, "sweeps": listed, "totalSweeps": len(sweeps), "allViews": views}

    def run_node(self, run: Run) -> Node:
        def pages(items: list[Artifact], after: str | None, first: int | None) -> Node:
            return connection([self.artifact_node(item) for item in items], first, after)

        def logged(after: str | None = None, first: int | None = None) -> Node:
            made = [item for item in self.artifacts.versions if item.run == run.name and item.state == "COMMITTED"]
            return pages(made, after, first)

        def used(after: str | None = None, first: int | None = None) -> Node:
            return pages([self.artifacts.by_id(item) for item in run.used], after, first)

        def url(of: Run, name: str) -> str:
            return f"{self.url}/storage/run/{of.name}/{name}"

        return run_node(run, url, {"outputArtifacts": logged, "inputArtifacts": used})

    def artifact_node(self, artifact: Artifact) -> Node:
        return artifact_node(artifact, lambda item, path: self.place(item, path), self.runs)

    def sweep_node(self, sweep: Sweep) -> Node:
        agents = [agent for agent in self.agents.values() if agent.sweep == sweep.name]
        return sweep_node(sweep, agents, self.runs, self.run_node)

    def place(self, artifact: Artifact, path: str) -> str:
        return f"{self.url}/storage/artifact/{artifact.number}/{path}"

    def _client_id_mapping(self, clientID: str) -> Node | None:
        found = [item for item in self.artifacts.versions if item.client_id == clientID]
        return Node("ClientIDMapping", {"serverID": found[0].id}) if found else None
