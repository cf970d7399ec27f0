"""Views of the stand-in: reports (``runs``) and workspaces (``project-view``), whose content is one JSON text each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.tracking.standin.graphql import Node
from tests.tracking.standin.runs import HttpError, Malformed

KINDS = ("runs", "runs/draft", "project-view")


@dataclass
class View:
    """A report or a workspace as it was saved last.

    Attributes:
        id: its id.
        kind: ``runs`` for a report, ``project-view`` for a workspace.
        name: name in its address; two views of a project never share one.
        title: name for people.
        spec: its content.
        saved: how often it was saved.
    """

    id: str
    entity: str
    project: str
    kind: str
    name: str
    title: str
    description: str
    spec: dict[str, Any]
    saved: int = 1


def save(views: dict[str, View], view: View) -> bool:
    """Save a view in place of the one with its id, or as a new one, which gets an id; whether it is new."""
    if view.kind not in KINDS or not view.name:
        raise Malformed(f"a view of type {view.kind!r} named {view.name!r}")
    if view.id:
        if view.id not in views:
            raise HttpError(404, f"view {view.id} not found")
        view.saved = views[view.id].saved + 1
    elif any((other.entity, other.project, other.name) == (view.entity, view.project, view.name) for other in views.values()):
        raise HttpError(409, f"the name {view.name} is taken")
    inserted = not view.id
    view.id = view.id or f"view{len(views)}"
    views[view.id] = view
    return inserted


def view_node(view: View) -> Node:
    """The view as GraphQL gives it."""
    project = Node("Project", {"id": "1", "name": view.project, "entityName": view.entity})
    fields = {"id": view.id, "type": view.kind, "name": view.name, "displayName": view.title, "description": view.description}
    times = {"createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z"}
    return Node("View", {**fields, **times, "user": None, "project": project, "spec": json.dumps(view.spec)})
