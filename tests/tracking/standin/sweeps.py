"""Sweeps on the server: agents register, ask by heartbeats what to do, and get runs, stops or the end."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.tracking.standin.filters import below
from tests.tracking.standin.graphql import Node, connection
from tests.tracking.standin.runs import Run, now, storage_id

STATES = ("PENDING", "RUNNING", "PAUSED", "CANCELED", "FINISHED")


@dataclass
class Agent:
    """A process that works on a sweep. ``alive``: the runs that its last heartbeat named."""

    name: str
    host: str
    sweep: str
    created_at: str = field(default_factory=now)
    heartbeats: int = 0
    alive: set[str] = field(default_factory=set)
    runs: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return storage_id("Agent", self.name)


@dataclass
class Sweep:
    """A sweep and what its agents were told.

    ``points``: parameters of each run that was given out, by run id. ``waiting``: points that come before those that the
    method of the sweep makes; a test can put its own there. ``seen``: for method ``bayes`` the values of the metric that the
    server knew when it made each point, by run id.
    """

    name: str
    entity: str
    project: str
    text: str
    display_name: str | None = None
    description: str | None = None
    state: str = "PENDING"
    created_at: str = field(default_factory=now)
    points: dict[str, dict[str, Any]] = field(default_factory=dict)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    to_stop: set[str] = field(default_factory=set)
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    commands: list[dict[str, Any]] = field(default_factory=list)
    prior_runs: Any = None

    @property
    def id(self) -> str:
        return storage_id("Sweep", "v1", self.name, self.project, self.entity)

    @property
    def config(self) -> dict[str, Any]:
        return dict(yaml.safe_load(self.text))

    @property
    def limit(self) -> int | None:
        """How many runs it has altogether; None: no end."""
        wanted = self.config.get("run_cap")
        if self.config.get("method") == "grid":
            return min(len(grid(self.config)), wanted or 10**9)
        return wanted

    def stop(self, run_id: str) -> None:
        """The agent that has this run is told to stop it, as early stopping does."""
        self.to_stop.add(run_id)

    def values(self, runs: Mapping[str, Run]) -> dict[str, Any]:
        """The metric of each run that has one."""
        name = self.config.get("metric", {}).get("name", "")
        found = {run_id: below(runs[run_id].summary, name) for run_id in self.points if run_id in runs}
        return {run_id: value for run_id, value in found.items() if isinstance(value, int | float)}

    def best(self, runs: Mapping[str, Run]) -> float | None:
        values = self.values(runs)
        better = max if self.config.get("metric", {}).get("goal") == "maximize" else min
        return better(values.values()) if values else None

    def next_point(self, runs: Mapping[str, Run]) -> dict[str, Any] | None:
        """The parameters of the next run; None: there is no other."""
        if self.waiting:
            return self.waiting.pop(0)
        if self.limit is not None and len(self.points) >= self.limit:
            return None
        given = list(self.points.values())
        if self.config.get("method") == "grid":
            return next((point for point in grid(self.config) if point not in given), None)
        return drawn(self.config, random.Random(f"{self.name}-{len(given)}"))


def grid(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All points of a grid sweep, in the order of its parameters."""
    parameters = config["parameters"]
    values = [item["values"] if "values" in item else [item["value"]] for item in parameters.values()]
    return [dict(zip(parameters, point, strict=True)) for point in itertools.product(*values)]


def drawn(config: Mapping[str, Any], chance: random.Random) -> dict[str, Any]:
    """A random point of a sweep."""
    point: dict[str, Any] = {}
    for name, item in config["parameters"].items():
        if "value" in item:
            point[name] = item["value"]
        elif "values" in item:
            point[name] = chance.choice(item["values"])
        elif str(item.get("distribution", "")).startswith("log_uniform_values"):
            point[name] = item["min"] * (item["max"] / item["min"]) ** chance.random()
        elif isinstance(item["min"], int) and isinstance(item["max"], int):
            point[name] = chance.randint(item["min"], item["max"])
        else:
            point[name] = chance.uniform(item["min"], item["max"])
    return point


def commands(sweep: Sweep, agent: Agent, runs: Mapping[str, Run], alive: set[str]) -> list[dict[str, Any]]:
    """What an agent is told: stops first, then a run if it has none, then the end if there is nothing left.

    Args:
        sweep: the agent's sweep.
        agent: who asks.
        runs: all runs by id.
        alive: the agent's runs that are still going, as it says.
    """
    agent.heartbeats += 1
    agent.alive = alive
    if sweep.state == "CANCELED":
        sweep.to_stop |= alive
    told: list[dict[str, Any]] = [{"type": "stop", "run_id": run_id} for run_id in sorted(sweep.to_stop & alive)]
    if told or sweep.state == "PAUSED" or alive:
        sweep.commands += told
        return told
    point = None if sweep.state in ("CANCELED", "FINISHED") else sweep.next_point(runs)
    if point is None:
        told = [{"type": "exit"}]
        everybody_idle = all(run_id not in runs or runs[run_id].state != "running" for run_id in sweep.points)
        if sweep.state in ("PENDING", "RUNNING") and everybody_idle:
            sweep.state = "FINISHED"
    else:
        run_id = f"{sweep.name}{len(sweep.points):02d}"
        sweep.state = "RUNNING"
        sweep.seen[run_id] = sweep.values(runs)
        sweep.points[run_id] = point
        agent.runs.append(run_id)
        arguments = {name: {"value": value} for name, value in point.items()}
        program = sweep.config.get("program", "")
        told = [{"id": f"command-{run_id}", "type": "run", "run_id": run_id, "program": program, "args": arguments}]
    sweep.commands += told
    return told


def sweep_node(sweep: Sweep, agents: list[Agent], runs: Mapping[str, Run], run_node: Callable[[Run], Node]) -> Node:
    """The sweep as GraphQL type ``Sweep``."""
    mine = [runs[run_id] for run_id in sweep.points if run_id in runs]

    def agent(agentName: str) -> Node | None:
        return next((_agent_node(item, runs, run_node) for item in agents if agentName in (item.name, item.id)), None)

    return Node(
        "Sweep",
        {
            "id": sweep.id,
            "name": sweep.name,
            "displayName": sweep.display_name,
            "description": sweep.description,
            "method": sweep.config.get("method"),
            "state": sweep.state,
            "config": sweep.text,
            "bestLoss": sweep.best(runs),
            "createdAt": sweep.created_at,
            "updatedAt": sweep.created_at,
            "heartbeatAt": sweep.created_at,
            "earlyStopJobRunning": False,
            "controller": None,
            "controllerRunName": None,
            "scheduler": None,
            "runCount": len(mine),
            "runCountExpected": sweep.limit,
            "runs": lambda first=None, after=None: connection([run_node(run) for run in mine], first, after),
            "agent": agent,
            "agents": lambda: connection([_agent_node(item, runs, run_node) for item in agents]),
            "project": Node(
                "Project", {"id": "1", "name": sweep.project, "entity": Node("Entity", {"id": "1", "name": sweep.entity})}
            ),
        },
    )


def _agent_node(agent: Agent, runs: Mapping[str, Run], run_node: Callable[[Run], Node]) -> Node:
    facts = {"id": agent.id, "name": agent.name, "host": agent.host, "state": "RUNNING", "totalRuns": len(agent.runs)}
    mine = [runs[run_id] for run_id in agent.runs if run_id in runs]
    pages = lambda after=None, before=None, first=None, last=None, order=None: connection(  # noqa: E731
        [run_node(run) for run in mine], first, after
    )
    return Node("Agent", {**facts, "createdAt": agent.created_at, "heartbeatAt": agent.created_at, "runs": pages})


def parse_alive(text: str | None) -> set[str]:
    """The runs that a heartbeat calls alive."""
    return {run_id for run_id, going in json.loads(text or "{}").items() if going}
