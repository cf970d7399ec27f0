"""A run as another tool recorded it, in one form for all tools, and the names that it gets in our store."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_origin

from bnexp.config.keys import OF_TRAINING, schema_keys
from bnexp.plan.spec import digest
from bnexp.tracking.reading import LARGEST_NUMBER

Tool = Literal["wandb", "csv", "mlflow", "tensorboard"]
TOOL_NAMES: dict[Tool, str] = {"wandb": "W&B", "csv": "CSV", "mlflow": "MLflow", "tensorboard": "TensorBoard"}

LONGEST_NAME, LONGEST_TEXT = 200, 10_000  # most characters of a name, and of a value
MOST_NAMES = 5_000  # settings of a run, and metrics of a run

# The columns of a table of runs that are neither settings nor metrics (``comparison.columns``), and the steps of a history.
TAKEN = {"run", "study", "arm", "seed", "status", "finished_at", "seconds", "num_classes", "num_test", "path", "source", "step"}
TAKEN_SECTIONS = ("study.", "source.")

SEED_NAMES = ("seed", "random_seed", "rng_seed", "random_state", "manual_seed", "seed_everything")  # the first one counts
_IN_NAME = re.compile(r"(?:^|(?<=[\s_./,-]))seed[\s_=-]?(\d{1,18})(?=$|[\s_./,-])", re.IGNORECASE)
_GENERATED = re.compile(r"[a-z]+-[a-z]+-\d+")  # the names that W&B and MLflow invent, such as calm-sun-12


@dataclass
class ForeignRun:
    """What a tool says of one run.

    Args:
        tool: which tool.
        path: the file or folder that it was read from.
        id: what identifies the run among those of its project.
        project: what the tool calls the collection that it is in.
        unique: whether ``id`` is random, so that no other project has it.
        name: for people.
        group: of runs that belong together.
        job_type: kind of work.
        tags: in their order.
        state: how it ended, in the words of the tool.
        status: the same in ours.
        config: nested or flat plain values.
        metrics: flat name -> last value; none is called ``step``.
        history: rows of metric values, each with a ``step``, many with an ``epoch``, which is a metric too.
        seconds: wall time; NaN: not known.
        finished: when it ended, seconds since 1970; None: not known.
        seed_key: the key that is the seed; None: found by ``SEED_NAMES``, else in the name.
        notes: sentences on what could not be read.
    """

    tool: Tool
    path: Path
    id: str
    project: str
    unique: bool = False
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    state: str = ""
    status: Literal["finished", "diverged", "failed"] = "finished"
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = math.nan
    finished: float | None = None
    seed_key: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        """The id that the run gets in our store, the same on every import. No run of our own has such an id."""
        if self.unique and re.fullmatch(r"[0-9A-Za-z]{8,64}", self.id):
            return f"{self.tool}-{self.id[:12]}"
        return f"{self.tool}-{digest([self.project, self.id])}"

    @property
    def label(self) -> str:
        """The run in a sentence: its name, else its id."""
        return clean(self.name or self.id)


@dataclass(frozen=True)
class Names:
    """A foreign run under names that mean one thing each.

    Args:
        settings: dotted key -> plain value.
        metrics: name -> last value.
        renamed: metric name -> the name that it has in ``metrics``.
        seed: None if it is not known.
        seed_key: the setting that the seed was; empty if none was.
        arm: what the run is called in comparisons.
    """

    settings: dict[str, Any]
    metrics: dict[str, float]
    renamed: dict[str, str]
    seed: int | None
    seed_key: str
    arm: str


def resolve(run: ForeignRun) -> Names:
    """Choose the seed, the arm, and names for settings and metrics that clash with nothing.

    Nested keys are joined with dots. A key that is the name of a fact (``TAKEN``), of a metric of our own, or of a setting of
    ours with another type, gets the prefix ``config.``. A metric that has the name of a fact or of a setting gets ``metric.``.
    """
    flat = flattened(run.config)
    seed_key = next((key for key in seed_keys(flat, run.seed_key) if as_seed(flat[key]) is not None), "")
    seed = as_seed(flat.pop(seed_key)) if seed_key else None
    if seed is None and run.seed_key is None and (found := _IN_NAME.search(run.name)):
        seed = int(found[1])
    settings: dict[str, Any] = {}
    for name, value in flat.items():
        key = _short(name)
        while _clashes(key, value) or key in settings:
            key = f"config.{key}"
        settings[key] = value
    renamed: dict[str, str] = {}
    used = {*settings, *_schema()}
    for name in dict.fromkeys([*run.metrics, *(name for row in run.history for name in row)]):
        if name in ("step", "epoch"):
            continue
        key = _short(clean(name))
        while key in TAKEN or key.startswith(TAKEN_SECTIONS) or key in used:
            key = f"metric.{key}"
        used.add(key)
        renamed[name] = key
    metrics = {renamed.get(name, name): number(value) for name, value in run.metrics.items()}
    return Names(settings, metrics, renamed, seed, seed_key, _arm(run, seed))


def flattened(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as ``{dotted key: plain value}``. A list of plain values stays a list; others become JSON text."""
    flat: dict[str, Any] = {}
    todo = [(clean(str(name)), value) for name, value in reversed(list(config.items()))]
    while todo:
        key, value = todo.pop()
        if isinstance(value, Mapping) and value and key.count(".") < LONGEST_NAME:
            todo += [(f"{key}.{clean(str(name))}", item) for name, item in reversed(list(value.items()))]
            continue
        while key in flat:
            key = f"config.{key}"
        flat[key] = plain_value(value)
    return flat


def plain_value(value: Any) -> Any:
    """A value that YAML and a table can hold."""
    if isinstance(value, str):
        text = clean(value)
        return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)[:LONGEST_NAME] if abs(value) < 10**LONGEST_NAME else math.inf
    if isinstance(value, list | tuple) and len(value) <= LONGEST_NAME and not any(isinstance(v, list | dict) for v in value):
        return [plain_value(item) for item in value]
    try:
        return plain_value(json.dumps(value, default=str))
    except (ValueError, RecursionError):
        return "..."


def clean(text: str) -> str:
    """``text`` as valid Unicode."""
    return text.encode("utf-8", "replace").decode()


def number(value: float) -> float:
    """A metric as our records hold it: what is beyond their largest number is infinite."""
    return math.copysign(math.inf, value) if abs(value) > LARGEST_NUMBER else value


def as_number(value: Any) -> float | None:
    """A value as a metric; None if it is none."""
    if isinstance(value, bool | int | float):
        try:
            return number(float(value))
        except OverflowError:
            return math.copysign(math.inf, value)
    return None


def as_seed(value: Any) -> int | None:
    """A value as a seed: a whole number from 0, also as text; else None."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value.strip()):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**63 else None


def seed_keys(names: Iterable[str], chosen: str | None) -> list[str]:
    """The keys that can be the seed, the likeliest first: ``chosen``, or those of ``SEED_NAMES``, top-level ones first."""
    if chosen is not None:
        return [name for name in names if name == chosen]
    last = {name: re.split(r"[./]", name)[-1].lower() for name in names}
    fitting = [name for name, part in last.items() if part in SEED_NAMES]
    return sorted(fitting, key=lambda name: (name.count(".") + name.count("/"), SEED_NAMES.index(last[name])))


def _arm(run: ForeignRun, seed: int | None) -> str:
    """The group; else the name without the seed; else, for a name that a tool invented, the job type or the project."""
    name = "" if _GENERATED.fullmatch(run.name) else run.name
    if seed is not None:
        name = _IN_NAME.sub("", name)
        name = re.sub(rf"(?:^|[\s_./,-])s?{seed}$", "", name)
    name = re.sub(r"([\s_./,-])[\s_./,-]+", r"\1", name).strip(" _./,-")
    return _short(clean(run.group or name or run.job_type or run.project))


def _short(name: str) -> str:
    """A name of at most ``LONGEST_NAME`` characters that no other name is cut to."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 13]}~{digest(name)}"


def _clashes(key: str, value: Any) -> bool:
    if key in TAKEN or key.startswith(TAKEN_SECTIONS) or key in OF_TRAINING or not key:
        return True
    kind = _schema().get(key)
    return kind is not None and value is not None and kind is not _kind(value)


def _kind(value: Any) -> type | None:
    """What a value is: bool, float for any number, str; None for anything else."""
    kind = type(value)
    return float if kind is int else kind if kind in (bool, float, str) else None


@cache
def _schema() -> dict[str, type | None]:
    """Each configuration key of our own, and what its values are, as ``_kind`` tells."""
    kinds = {bool: bool, list: None, dict: None}
    return {
        info.name: float if info.is_number else kinds.get(get_origin(info.type) or info.type, str) for info in schema_keys()
    }
