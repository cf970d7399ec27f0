"""Runs train together on a GPU and alone on a CPU, whichever executor trains them."""

from __future__ import annotations

import pytest

from bnexp.config.options import Device
from bnexp.plan.compose import compose
from bnexp.plan.spec import RunSpec
from bnexp.run import arrange


@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_only_runs_on_a_gpu_are_fused(monkeypatch: pytest.MonkeyPatch, executor: str) -> None:
    monkeypatch.setattr(arrange, "_on_accelerator", lambda spec: spec.config.train.device is Device.cuda)
    base = ("data=digits", f"executor={executor}")
    specs = [
        RunSpec(compose([*base, f"train.device={device}", f"seed={seed}"])) for device in ("cpu", "cuda") for seed in (0, 1)
    ]
    assert arrange.arrange(specs).cohorts == [(specs[2], specs[3]), (specs[0],), (specs[1],)]
    assert arrange.arrange(specs[:2]).cohorts == [(specs[0],), (specs[1],)]
