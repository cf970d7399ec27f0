"""Recorded runs that nobody trained: files as bnexp writes them, with what a test wants in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from bnexp.config.schema import RunConfig
from bnexp.plan.spec import RunSpec


def record(runs: Path, run_id: str, *, study: str = "made", seed: int | None = 0, arm: str = "none", **keys: Any) -> Path:
    """Write one run.

    Args:
        runs: the directory of all records.
        run_id: of the run.
        study: whose directory it is in.
        seed: of the run.
        arm: its name, and the kind of its norm.
        keys: of the summary, and with two underscores of the configuration: ``optim__lr=0.1``.
    """
    path = runs / study / run_id
    path.mkdir(parents=True)
    config: dict[str, Any] = RunSpec(RunConfig(seed=seed or 0)).to_dict()
    config["norm"]["kind"] = arm
    for name in [name for name in keys if "__" in name]:
        section, _, key = name.partition("__")
        config[section][key] = keys.pop(name)
    config["study"] |= {"name": study, "arm": arm}
    summary = {
        "run_id": run_id,
        "study": study,
        "data": "digits",
        "arm": arm,
        "levels": {},
        "seed": seed,
        "status": "finished",
        "metrics": {"test/accuracy": 0.9, "test/loss": 0.25},
        "seconds": 1.5,
        "finished_at": f"2026-01-01T00:00:{seed or 0:02}+0000",
        "class_names": ["a", "b", "c", "d"],
        "num_test": 40,
    }
    (path / "summary.json").write_text(json.dumps(summary | keys))
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def study_record(runs: Path, name: str, study_id: str, run_ids: list[str]) -> None:
    """Write the ``study.json`` of a study that compares these runs, as two arms."""
    folder = runs / name / f"study-{study_id}"
    folder.mkdir(parents=True)
    content = {
        "study": {"name": name, "question": f"Is {name} better?", "arms": {"none": ["norm=none"], "batch": ["norm=batch"]}},
        "study_id": study_id,
        "overrides": [],
        "data": {},
        "settings": {"optim.lr": "0.01"},
        "runs": [
            {"run_id": run_id, "arm": ("none", "batch")[k % 2], "levels": {}, "seed": k // 2}
            for k, run_id in enumerate(run_ids)
        ],
    }
    (folder / "study.json").write_text(json.dumps(content))
