"""On a CPU the same experiment has the same bits, whoever trains it: weights, metrics and predictions, only times differ."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bnexp.cli.commands import run
from bnexp.tracking.store import Store
from tests.cli.conftest import Cli

RUN = ("data=digits", "data.train_size=150", "train.epochs=2")
STUDY = ("train", "-m", "study=batchnorm", *RUN, "study.seeds=2")

Bits = dict[str, tuple[object, ...]]


def recorded() -> Bits:
    """Run id -> all that its record holds of its numbers."""
    bits: Bits = {}
    for record in Store().runs():
        rows = [_untimed(row) for row in record.metrics()]
        predictions = record.predictions()
        assert predictions is not None
        weights = (record.path / "model.safetensors").read_bytes()
        bits[record.run_id] = weights, json.dumps([rows, _untimed(record.summary.metrics)]), predictions.write_json()
    return bits


def _untimed(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, digits_cache: Path) -> Bits:
    """Each run of the study, trained by a command of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BNEXP_RUNS_DIR", str(tmp_path_factory.mktemp("alone")))
        patch.setenv("BNEXP_CACHE_DIR", str(digits_cache))
        patch.setenv("WANDB_MODE", "disabled")
        for norm in ("none", "batch"):
            for seed in (0, 1):
                patch.setattr(sys, "argv", ["bnexp", "train", *RUN, f"norm={norm}", f"seed={seed}"])
                assert run() == 0
        return recorded()


@pytest.mark.parametrize(
    "how",
    [
        ("executor=inline",),
        ("executor=local", "executor.workers=1"),
        ("executor=local", "executor.workers=2"),
        ("hydra/launcher=basic",),
        ("hydra/launcher=joblib",),
    ],
    ids=" ".join,
)
def test_a_run_has_the_same_bits_alone_and_in_a_study(cli: Cli, alone: Bits, how: tuple[str, ...]) -> None:
    assert cli(*STUDY, *how).code == 0
    assert recorded() == alone


def test_a_study_that_was_killed_goes_on_to_the_same_bits(cli: Cli, alone: Bits) -> None:
    command = [str(Path(sys.executable).parent / "bnexp"), *STUDY, "executor=inline"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "1/4" in line)
        process.send_signal(signal.SIGKILL)
    assert 1 <= len(recorded()) < 4
    assert cli(*STUDY, "executor=inline").code == 0
    assert recorded() == alone
