"""Runs whose network is a function of ``own_nets.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fake_data import make_spec

from bnexp.config.factory import name_code
from bnexp.config.options import ModelName, NormKind
from bnexp.plan.spec import RunSpec

HERE = Path(__file__).parent


def own_spec(seed: int = 0, norm: dict[str, Any] | None = None, function: str = "lenet", **sections: Any) -> RunSpec:
    args = sections.pop("args", {})
    factory = name_code(f"own_nets.py:{function}", "model.factory", HERE)
    model = {"name": ModelName.python, "factory": factory, "args": args}
    spec = make_spec(seed, None, model=model, **sections)
    if norm is not None:
        spec.config.norm.kind = NormKind.batch
        for name, value in norm.items():
            setattr(spec.config.norm, name, value)
    return spec
