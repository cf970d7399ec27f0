"""The files in ``examples/`` work as they stand there, on a few images."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

import bnexp
from bnexp.model.norms import RunNorm

EXAMPLES = Path(__file__).parents[1] / "examples"
IMAGES = """\
import numpy as np

def load():
    labels = np.arange(50) % 2
    return np.random.default_rng(0).integers(0, 150, (50, 16, 16)) + 100 * labels[:, None, None], labels
"""


@pytest.mark.parametrize("example", ["small_network", "torchvision_resnet18"])
def test_a_network_trains_and_comes_back(example: str, tmp_path: Path, shared_cache: Path) -> None:
    (tmp_path / "images.py").write_text(IMAGES)
    factory = f"{EXAMPLES / example}.py:build"
    data = ["data=python", f"data.factory={tmp_path / 'images.py'}:load", "data.size=16"]
    run = bnexp.train([*data, "model=python", f"model.factory={factory}", "norm=batch", "train.epochs=1", "executor=inline"])
    assert run.summary.status == "finished"
    module = run.model(factory=factory)
    assert module(torch.zeros(2, 1, 16, 16)).shape == (2, 2)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d | RunNorm)]
    assert len(norms) == {"small_network": 3, "torchvision_resnet18": 20}[example]


def test_the_notebook_runs(shared_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "notebook.py"), run_name="__main__")
    narrow, wide, both, single = capsys.readouterr().out.splitlines()
    for line in (narrow, wide):
        assert line.split()[0] in ("SUPPORTED", "REFUTED", "EQUIVALENT", "INCONCLUSIVE", "ESTIMATE")
        assert "on digits" in line
    assert "width=16" in both
    assert single.endswith(" 5066")
