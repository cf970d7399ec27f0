"""Artifacts on the server: versions, manifests and files, whose sizes and digests are checked when a version is committed."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.tracking.standin.graphql import Node, QueryError, connection
from tests.tracking.standin.runs import Malformed, Run, entity_node, md5, now, storage_id

NUMBERS = itertools.count(1)  # of all servers of a process: wandb keeps artifacts by their id as long as it lives


@dataclass
class Artifact:
    """One version of an artifact. ``files`` holds the content of each by its path."""

    number: int
    entity: str
    project: str
    collection: str
    type: str
    run: str
    digest: str
    client_id: str
    aliases: list[str]
    metadata: Any = None
    description: str | None = None
    history_step: int | None = None
    state: str = "PENDING"
    version: int = -1
    manifest: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    announced: dict[str, str] = field(default_factory=dict)  # path -> digest of files that will come
    created_at: str = field(default_factory=now)

    @property
    def id(self) -> str:
        return storage_id("Artifact", str(self.number))

    @property
    def name(self) -> str:
        return f"{self.collection}:v{self.version}"


@dataclass
class Artifacts:
    """All artifacts, and the mutations about them."""

    versions: list[Artifact] = field(default_factory=list)

    def by_id(self, artifact_id: str) -> Artifact:
        for artifact in self.versions:
            if artifact.id == artifact_id:
                return artifact
        raise QueryError(f"artifact {artifact_id} not found")

    def numbered(self, number: int) -> Artifact:
        """The version with this number, which no other version in this process has."""
        return next(artifact for artifact in self.versions if artifact.number == number)

    def find(self, name: str) -> Artifact | None:
        """The committed version that a name like ``model:latest`` or ``model:v0`` means."""
        collection, _, alias = name.partition(":")
        for artifact in reversed(self.versions):
            wanted = alias in ("", f"v{artifact.version}", *artifact.aliases)
            if artifact.collection == collection and artifact.state == "COMMITTED" and wanted:
                return artifact
        return None

    def create(
        self,
        *,
        entityName: str,
        projectName: str,
        artifactTypeName: str,
        artifactCollectionName: str,
        digest: str,
        digestAlgorithm: str,
        runName: str | None = None,
        aliases: Sequence[Mapping[str, str]] | None = None,
        clientID: str = "",
        sequenceClientID: str | None = None,
        description: str | None = None,
        metadata: str | None = None,
        historyStep: int | None = None,
        enableDigestDeduplication: bool = False,
        artifactCollectionNames: None = None,
        clientMutationId: None = None,
        distributedID: str | None = None,
        labels: None = None,
        storageRegion: str | None = None,
        tags: Sequence[Mapping[str, str]] | None = None,
        ttlDurationSeconds: int | None = None,
    ) -> Node:
        before = [item for item in self.versions if item.collection == artifactCollectionName and item.state == "COMMITTED"]
        if any(item.type != artifactTypeName for item in before):
            raise QueryError(f"artifact {artifactCollectionName} has the type {before[0].type}, not {artifactTypeName}")
        names = [item["alias"] for item in aliases or []]
        same = [item for item in before if item.digest == digest]
        if enableDigestDeduplication and same:
            artifact = same[-1]
            self._move_aliases(artifact, names)
        else:
            artifact = Artifact(
                number=next(NUMBERS),
                entity=entityName,
                project=projectName,
                collection=artifactCollectionName,
                type=artifactTypeName,
                run=runName or "",
                digest=digest,
                client_id=clientID,
                aliases=names,
                metadata=json.loads(metadata) if metadata else None,
                description=description,
                history_step=historyStep,
            )
            self.versions.append(artifact)
        latest = Node("Artifact", {"id": before[-1].id}) if before else None
        sequence = Node("ArtifactSequence", {"latestArtifact": latest})
        made = Node("Artifact", {"id": artifact.id, "state": artifact.state, "artifactSequence": sequence})
        return Node("CreateArtifactPayload", {"artifact": made})

    def _move_aliases(self, artifact: Artifact, names: Sequence[str]) -> None:
        for other in self.versions:
            if other.collection == artifact.collection:
                other.aliases = [alias for alias in other.aliases if alias not in names]
        artifact.aliases = [*artifact.aliases, *names]

    def commit(self, artifact_id: str) -> Artifact:
        """Check that every file of the manifest is here, with the size and the digest that it says."""
        artifact = self.by_id(artifact_id)
        if not artifact.manifest:
            raise Malformed(f"{artifact.collection} was committed without a manifest")
        for path, entry in artifact.manifest["contents"].items():
            if "ref" in entry:
                self._check_reference(artifact, entry["ref"])
                continue
            home = self.by_id(entry.get("birthArtifactID") or artifact.id)
            content = home.files.get(path)
            if content is None:
                raise Malformed(f"{artifact.collection}: {path} is in the manifest, but never came")
            if (len(content), md5(content)) != (entry["size"], entry["digest"]):
                raise Malformed(f"{artifact.collection}: {path} has another size or digest than the manifest says")
            artifact.files[path] = content
        if artifact.state != "COMMITTED":
            names, artifact.aliases = artifact.aliases, []
            same = [item for item in self.versions if item.collection == artifact.collection and item.version >= 0]
            artifact.version, artifact.state = len(same), "COMMITTED"
            self._move_aliases(artifact, names)
        return artifact

    def _check_reference(self, artifact: Artifact, reference: str) -> None:
        scheme, _, place = reference.partition("://")
        if scheme not in ("wandb-artifact", "wandb-client-artifact"):
            return  # a file elsewhere
        key, _, path = place.partition("/")
        if scheme == "wandb-client-artifact":
            meant = [item for item in self.versions if item.client_id == key]
        else:
            meant = [item for item in self.versions if base64.b64decode(item.id).hex() == key]
        if not meant or path not in (meant[0].files.keys() | meant[0].manifest.get("contents", {}).keys()):
            raise Malformed(f"{artifact.collection} refers to {reference}, which is not here")


def artifact_node(artifact: Artifact, file_url: Callable[[Artifact, str], str], runs: Mapping[str, Run]) -> Node:
    """The version as GraphQL type ``Artifact``."""
    project = _project_node(artifact)
    sequence = Node(
        "ArtifactSequence",
        {"id": artifact.collection, "name": artifact.collection, "project": project, "digestAlgorithm": "MANIFEST_MD5"},
        ("ArtifactCollection",),
    )
    aliases = [
        Node("ArtifactAlias", {"id": f"{artifact.id}-{alias}", "alias": alias, "artifactCollection": sequence})
        for alias in artifact.aliases
    ]

    def files(names: Sequence[str] | None = None, after: str | None = None, first: int | None = None, **_: Any) -> Node:
        wanted = [path for path in sorted(artifact.files) if not names or path in names]
        return connection([_artifact_file(artifact, path, file_url) for path in wanted], first, after)

    def by_entries(entries: Sequence[Mapping[str, Any]], **_: Any) -> Node:
        return files(names=[entry["name"] for entry in entries])

    run = runs.get(artifact.run)
    owner = Node("Run", {"id": run.id, "name": run.name, "project": project}) if run else None
    users = [Node("Run", {"id": r.id, "name": r.name, "project": project}) for r in runs.values() if artifact.id in r.used]
    manifest = Node("ArtifactManifest", {"file": Node("File", {"directUrl": file_url(artifact, "wandb_manifest.json")})})
    return Node(
        "Artifact",
        {
            "id": artifact.id,
            "artifactSequence": sequence,
            "versionIndex": artifact.version,
            "artifactType": Node("ArtifactType", {"name": artifact.type}),
            "description": artifact.description,
            "metadata": json.dumps(artifact.metadata or {}),
            "ttlDurationSeconds": -2,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": artifact.history_step,
            "state": artifact.state,
            "size": sum(len(content) for content in artifact.files.values()),
            "digest": artifact.digest,
            "digestAlgorithm": "MANIFEST_MD5",
            "commitHash": "",
            "fileCount": len(artifact.files),
            "createdAt": artifact.created_at,
            "updatedAt": artifact.created_at,
            "aliases": aliases,
            "currentManifest": manifest,
            "files": files,
            "filesByManifestEntries": by_entries,
            "createdBy": owner,
            "usedBy": lambda: connection(users),
        },
    )


def membership_node(artifact: Artifact, node: Node) -> Node:
    """The version as a member of its collection."""
    fields = {"id": artifact.id, "versionIndex": artifact.version, "createdAt": artifact.created_at, "artifact": node}
    more = {"aliases": node.fields["aliases"], "artifactCollection": node.fields["artifactSequence"]}
    return Node("ArtifactCollectionMembership", {**fields, **more, "files": node.fields["files"]})


def _project_node(artifact: Artifact) -> Node:
    fields = {"id": "1", "internalId": "1", "name": artifact.project, "entity": entity_node(artifact.entity)}
    return Node("Project", fields)


def _artifact_file(artifact: Artifact, path: str, file_url: Callable[[Artifact, str], str]) -> Node:
    content, url = artifact.files[path], file_url(artifact, path)
    fields = {"id": path, "name": path, "displayName": path, "url": url, "directUrl": url, "sizeBytes": len(content)}
    digests = {"digest": md5(content), "md5": md5(content), "storagePath": path}
    return Node("File", {**fields, **digests, "mimetype": None, "updatedAt": artifact.created_at})
