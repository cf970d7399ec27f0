"""Records of sweeps made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnexp.comparison.sweep.record import Axis, SweepRecord, Trial


def sweep_record(folder: Path, axes: Sequence[Axis], trials: Sequence[Trial], **keys: Any) -> SweepRecord:
    """A record in ``folder`` (``.../NAME/sweep-ID``) of a grid for the best validation accuracy, but for ``keys``."""
    given: dict[str, Any] = {
        "name": folder.parent.name,
        "sweep_id": folder.name.removeprefix("sweep-"),
        "description": "",
        "method": "grid",
        "metric": "val/accuracy",
        "goal": "maximize",
        "stopping": "",
        "overrides": ["data=digits"],
        "seeds": [0],
        "search_seed": 0,
        "at_once": 1,
        "command": "",
    }
    return SweepRecord(folder=folder, axes=list(axes), trials=list(trials), **given | keys)
