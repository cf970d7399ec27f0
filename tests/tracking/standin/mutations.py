"""The mutations of the stand-in: what clients tell it. The names of the arguments are the fields of GraphQL's inputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.tracking.standin.artifacts import Artifact
from tests.tracking.standin.graphql import Node, QueryError, connection
from tests.tracking.standin.runs import HttpError, Malformed, Run
from tests.tracking.standin.sweeps import STATES, Agent, commands, parse_alive
from tests.tracking.standin.views import View, save, view_node

if TYPE_CHECKING:
    from tests.tracking.standin.state import Standin

ENTITY = "somebody"


def mutations(server: Standin) -> dict[str, Any]:
    """The fields of GraphQL's type ``Mutation``."""
    given = _Mutations(server)
    return {
        "upsertBucket": given.upsert_bucket,
        "upsertModel": given.upsert_model,
        "createRunFiles": given.create_run_files,
        "markRunFilesUploaded": given.mark_run_files_uploaded,
        "deleteRun": given.delete_run,
        "stopRun": given.stop_run,
        "createArtifact": server.artifacts.create,
        "createArtifactManifest": given.create_artifact_manifest,
        "updateArtifactManifest": given.update_artifact_manifest,
        "createArtifactFiles": given.create_artifact_files,
        "commitArtifact": given.commit_artifact,
        "updateArtifact": given.update_artifact,
        "useArtifact": given.use_artifact,
        "upsertSweep": given.upsert_sweep,
        "createAgent": given.create_agent,
        "agentHeartbeat": given.agent_heartbeat,
        "upsertView": given.upsert_view,
    }


@dataclass
class _Mutations:
    server: Standin

    def upsert_bucket(
        self,
        id: str | None = None,
        name: str | None = None,
        modelName: str | None = None,
        entityName: str | None = None,
        groupName: str | None = None,
        displayName: str | None = None,
        jobType: str | None = None,
        jobProgram: str | None = None,
        jobRepo: str | None = None,
        summaryMetrics: str | None = None,
        config: str | None = None,
        description: str | None = None,
        notes: str | None = None,
        commit: str | None = None,
        host: str | None = None,
        debug: bool | None = None,
        state: str | None = None,
        sweep: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> Node:
        if name in self.server.deleted:
            raise HttpError(409, f"run {name} was previously created and deleted; try a new run name")
        run = next((item for item in self.server.runs.values() if id and item.id == id), None)
        inserted = False
        if run is None:
            if not name:
                raise HttpError(404, f"run {id} not found")
            if not modelName:
                raise Malformed(f"run {name} came without a project")
            inserted = name not in self.server.runs
            run = self.server.runs.setdefault(name, Run(entityName or ENTITY, modelName, name))
            if (run.entity, run.project) != (entityName or ENTITY, modelName):
                raise Malformed(f"run {name} is in {run.project}; the stand-in knows each id in one project only")
            if inserted or run.resuming or run.crashed or run.exit_code is not None:  # else a later update of an open run
                run.reopen()
                self.server.announced.set()
        elif name and run.resuming:
            run.resume()
        if tags is not None and any(not 1 <= len(tag) <= 64 for tag in tags):
            raise HttpError(400, "invalid tag: must be between 1 and 64 characters")
        if sweep and sweep not in self.server.sweeps:
            raise HttpError(404, f"sweep {sweep} not found")
        given = {"group": groupName, "display_name": displayName, "job_type": jobType, "program": jobProgram, "repo": jobRepo}
        more = {"description": description, "notes": notes, "commit": commit, "host": host, "sweep": sweep, "tags": tags}
        for field_name, value in {**given, **more}.items():
            if value is not None:
                setattr(run, field_name, value)
        if config is not None:
            run.full_config = json.loads(config)
        if summaryMetrics is not None:
            run.summary = json.loads(summaryMetrics)
        return Node("UpsertBucketPayload", {"bucket": self.server.run_node(run), "inserted": inserted})

    def upsert_model(self, name: str, entityName: str | None = None, **_: Any) -> Node:
        return Node("UpsertModelPayload", {"inserted": False, "model": self.server.project(name, entityName)})

    def _run(self, name: str) -> Run:
        if name not in self.server.runs:
            raise HttpError(404, f"run {name} not found")
        return self.server.runs[name]

    def create_run_files(self, entityName: str, projectName: str, runName: str, files: Sequence[str]) -> Node:
        run = self._run(runName)
        nodes = [
            Node("File", {"name": name, "uploadUrl": f"{self.server.url}/storage/run/{run.name}/{name}"}) for name in files
        ]
        return Node("CreateRunFilesPayload", {"runID": run.id, "uploadHeaders": [], "files": nodes})

    def mark_run_files_uploaded(self, entityName: str, projectName: str, runName: str, files: Sequence[str]) -> Node:
        if missing := set(files) - set(self._run(runName).files):
            raise Malformed(f"{runName}: called uploaded, but never came: {sorted(missing)}")
        return Node("MarkRunFilesUploadedPayload", {"success": True})

    def delete_run(self, id: str, deleteArtifacts: bool = False) -> Node:
        for name in [run.name for run in self.server.runs.values() if run.id == id]:
            self.server.delete_run(name)
        return Node("DeleteRunPayload", {"clientMutationId": None})

    def stop_run(self, id: str) -> Node:
        for run in self.server.runs.values():
            if run.id == id:
                run.stop_wanted = True
        return Node("StopRunPayload", {"success": True})

    # ---- artifacts ----

    def create_artifact_manifest(
        self,
        artifactID: str,
        name: str,
        digest: str,
        entityName: str,
        projectName: str,
        runName: str,
        type: str,
        baseArtifactID: str | None = None,
    ) -> Node:
        return self._manifest_payload(self.server.artifacts.by_id(artifactID), digest, "CreateArtifactManifestPayload")

    def update_artifact_manifest(
        self,
        artifactManifestID: str,
        digest: str | None = None,
        baseArtifactID: str | None = None,
    ) -> Node:
        artifact = self.server.artifacts.by_id(artifactManifestID.removeprefix("manifest-"))
        return self._manifest_payload(artifact, digest or "", "UpdateArtifactManifestPayload")

    def _manifest_payload(self, artifact: Artifact, digest: str, kind: str) -> Node:
        if digest:
            artifact.announced["wandb_manifest.json"] = digest
        upload = {"uploadUrl": self.server.place(artifact, "wandb_manifest.json"), "uploadHeaders": []}
        file = Node("File", {"id": f"file-{artifact.id}", **upload})
        return Node(kind, {"artifactManifest": Node("ArtifactManifest", {"id": f"manifest-{artifact.id}", "file": file})})

    def create_artifact_files(
        self,
        artifactFiles: Sequence[dict[str, Any]],
        storageLayout: str,
        clientMutationId: None = None,
        cloudRegionID: None = None,
    ) -> Node:
        nodes = []
        for spec in artifactFiles:
            artifact, path = self.server.artifacts.by_id(spec["artifactID"]), spec["name"]
            artifact.announced[path] = spec["md5"]
            upload = {"uploadUrl": self.server.place(artifact, path), "uploadHeaders": [], "uploadMultipartUrls": None}
            owner = Node("Artifact", {"id": artifact.id})
            nodes.append(Node("File", {"storagePath": path, "name": path, "artifact": owner, **upload}))
        return Node("CreateArtifactFilesPayload", {"files": connection(nodes)})

    def commit_artifact(self, artifactID: str) -> Node:
        artifact = self.server.artifacts.commit(artifactID)
        done = Node("Artifact", {"id": artifact.id, "digest": artifact.digest})
        return Node("CommitArtifactPayload", {"artifact": done})

    def update_artifact(
        self,
        artifactID: str,
        metadata: str | None = None,
        description: str | None = None,
        **_: Any,
    ) -> Node:
        artifact = self.server.artifacts.by_id(artifactID)
        artifact.metadata = json.loads(metadata) if metadata else artifact.metadata
        artifact.description = description or artifact.description
        return Node("UpdateArtifactPayload", {"artifact": self.server.artifact_node(artifact)})

    def use_artifact(
        self,
        artifactID: str,
        entityName: str,
        projectName: str,
        runName: str,
        usedAs: str | None = None,
        artifactEntityName: str | None = None,
        artifactProjectName: str | None = None,
        clientMutationId: None = None,
    ) -> Node:
        artifact = self.server.artifacts.by_id(artifactID)
        used = self._run(runName).used
        if artifact.id not in used:
            used.append(artifact.id)
        return Node("UseArtifactPayload", {"artifact": self.server.artifact_node(artifact)})

    # ---- sweeps ----

    def upsert_sweep(
        self,
        id: str | None = None,
        config: str | None = None,
        description: str | None = None,
        entityName: str | None = None,
        projectName: str | None = None,
        controller: str | None = None,
        launchScheduler: str | None = None,
        templateVariableValues: str | None = None,
        scheduler: str | None = None,
        state: str | None = None,
        priorRunsFilters: str | None = None,
        displayName: str | None = None,
    ) -> Node:
        if state is not None and state not in STATES:
            raise QueryError(f"{state} is no state of a sweep")
        sweep = next((item for item in self.server.sweeps.values() if id in (item.id, item.name)), None)
        if id and sweep is None:
            raise HttpError(404, f"sweep {id} not found")
        if sweep is None:
            if not config or not projectName:
                raise Malformed("a new sweep needs a config and a project")
            sweep = self.server.add_sweep(config, project=projectName)
            sweep.entity = entityName or ENTITY
            if not {"method", "parameters"} <= set(sweep.config):
                del self.server.sweeps[sweep.name]
                raise HttpError(400, "Sweep config error: a sweep needs a method and parameters")
        for name, value in {"text": config, "state": state, "display_name": displayName, "description": description}.items():
            if value is not None:
                setattr(sweep, name, value)
        sweep.prior_runs = json.loads(priorRunsFilters) if priorRunsFilters else sweep.prior_runs
        return Node("UpsertSweepPayload", {"sweep": self.server.sweep_node(sweep), "configValidationWarnings": []})

    def create_agent(
        self,
        host: str,
        sweep: str,
        projectName: str | None = None,
        entityName: str | None = None,
    ) -> Node:
        if sweep not in self.server.sweeps:
            raise HttpError(404, f"sweep {entityName}/{projectName}/{sweep} not found")
        agent = Agent(f"agent{len(self.server.agents)}", host, sweep)
        self.server.agents[agent.id] = agent
        return Node("CreateAgentPayload", {"agent": Node("Agent", {"id": agent.id})})

    def agent_heartbeat(self, id: str, metrics: str | None = None, runState: str | None = None) -> Node:
        agent = self.server.agents.get(id)
        if agent is None or agent.sweep not in self.server.sweeps:
            raise HttpError(404, "agent or sweep not found")
        told = commands(self.server.sweeps[agent.sweep], agent, self.server.runs, parse_alive(runState))
        answer = {"agent": Node("Agent", {"id": agent.id}), "commands": json.dumps(told)}
        return Node("AgentHeartbeatPayload", answer)

    # ---- reports and workspaces ----

    def upsert_view(
        self,
        entityName: str,
        projectName: str,
        type: str,
        spec: str,
        createdUsing: str,
        id: str | None = None,
        name: str | None = None,
        displayName: str | None = None,
        description: str | None = None,
    ) -> Node:
        view = View(id or "", entityName, projectName, type, name or "", displayName or "", description or "", json.loads(spec))
        inserted = save(self.server.views, view)
        return Node("UpsertViewPayload", {"view": view_node(view), "inserted": inserted})
