"""Networks and images of the user's own on the command line: they train, and code that a record names never runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import bnexp
from bnexp.config.schema import ConfigError
from tests.cli.conftest import Cli

NETS = """\
from torch import nn

def build(norm, in_channels, num_classes, size, width=4):
    layer = norm(width)
    conv = nn.Conv2d(in_channels, width, 3, bias=isinstance(layer, nn.Identity))
    blocks = conv, layer, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    return nn.Sequential(*blocks, nn.Linear(4 * width, num_classes))
"""
IMAGES = """\
import numpy as np

def load(number=60):
    labels = np.arange(number) % 3
    images = np.random.default_rng(0).integers(0, 100, (number, 16, 16)) + 70 * labels[:, None, None]
    return dict(x_train=images, y_train=labels, class_names=["dark", "grey", "light"])
"""
EVIL = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n\ndef build(*_, **__):\n    pass\n\nload = build\n"
OVERRIDES = [
    *("model=python", "model.factory=nets.py:build", "data=python", "data.factory=images.py:load", "data.size=16"),
    *("train.epochs=1", "train.batch_size=20", "study.seeds=2", "executor=inline", "track.wandb.mode=disabled"),
]


@pytest.fixture(scope="module")
def recorded(digits_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the user's files, and the records of a study with them."""
    place = tmp_path_factory.mktemp("work")
    (place / "nets.py").write_text(NETS)
    (place / "images.py").write_text(IMAGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("BNEXP_RUNS_DIR", str(place / "runs"))
        patch.setenv("BNEXP_CACHE_DIR", str(digits_cache))
        bnexp.run_study("batchnorm", OVERRIDES)
    return place


@pytest.fixture
def work(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the current directory."""
    place = Path(shutil.copytree(recorded, tmp_path / "work"))
    monkeypatch.chdir(place)
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(place / "runs"))
    Image.fromarray(np.full((16, 16), 150, np.uint8)).save("image.png")
    return place


def run_of(work: Path, arm: str, seed: int = 0) -> bnexp.TrainedRun:
    runs = (bnexp.load_run(path.parent) for path in sorted(work.glob("runs/batchnorm/*/summary.json")))
    return next(run for run in runs if (run.summary.arm, run.summary.seed) == (arm, seed))


def test_a_recorded_study_is_found_again_wherever_its_files_are(cli: Cli, work: Path) -> None:
    (work / "code").mkdir()
    for name in ("nets.py", "images.py"):
        (work / name).rename(work / "code" / name)
    moved = [item.replace("=nets", "=code/nets").replace("=images", "=code/images") for item in OVERRIDES]
    assert "4 runs, 0 to train" in cli("study", "batchnorm", *moved, "--dry-run").err
    with (work / "code/nets.py").open("a") as file:
        file.write("# changed\n")
    assert "4 runs, 4 to train" in cli("study", "batchnorm", *moved, "--dry-run").err


@pytest.mark.parametrize("command", [("study", "batchnorm"), ("train", "-m", "norm=none,batch")])
def test_a_dry_run_names_a_network_with_numbers_that_no_seed_decides(cli: Cli, work: Path, command: tuple[str, ...]) -> None:
    unseeded = (
        "    conv.weight.data += 0.1 * torch.rand(1, generator=torch.Generator().manual_seed(time.time_ns()))\n    blocks ="
    )
    (work / "nets.py").write_text("import time\nimport torch\n" + NETS.replace("    blocks =", unseeded))
    overrides = [item for item in OVERRIDES if command[0] == "study" or not item.startswith("study.")]
    result = cli(*command, *overrides, "--dry-run")
    assert result.code == 0, result.err
    said = "nets.py:build: its network, made twice with one seed, starts with other values of 0.weight"
    assert " ".join(result.err.split()).count(said) == 1


def test_floating_point_images_are_wrong_use_before_anything_trains(cli: Cli, work: Path) -> None:
    (work / "images.py").write_text(IMAGES.replace("images, y_train", "images / 255, y_train"))
    result = cli("study", "batchnorm", *OVERRIDES)
    assert "x_train is float64 with values from 0 to 0.937; return pixel values 0..255 as uint8" in result.err
    assert (result.code, len([*work.glob("runs/batchnorm/*/summary.json")])) == (2, 4), "those of the function before"


def test_a_job_that_hydra_moves_elsewhere_finds_the_files(cli: Cli, work: Path) -> None:
    own = [item for item in OVERRIDES if not item.startswith("study.")]
    result = cli("train", *own, "norm=batch", "hydra.job.chdir=true", f"hydra.run.dir={work / 'elsewhere'}", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)[0]["run"] == run_of(work, "after_pool").run_id
    assert Path.cwd() == work


def test_a_sweep_draws_arguments_and_is_known_by_the_source(work: Path) -> None:
    from bnexp.run.sweep.sweep import plan_points

    parameters = {"model.args.width": {"min": 4, "max": 9}, "norm": {"values": ["none", "batch"]}}
    (work / "widths.yaml").write_text(yaml.safe_dump({"method": "random", "run_cap": 4, "parameters": parameters}))
    own = [item for item in OVERRIDES if not item.startswith("study.")]

    def planned(*more: str) -> tuple[str, list[object], list[str]]:
        plan, points = plan_points("widths.yaml", [*own, *more], count=None, seeds=None, search_seed=0)
        return plan.sweep_id, [item.specs[0].config.model.args["width"] for item in points], plan.overrides

    first, widths, _ = planned()
    assert len(set(widths)) > 1
    assert set(widths) <= set(range(4, 10))
    assert "model.args.width=5" in planned("+model.args.width=5")[2], "as W&B and the printed command want it"
    with (work / "nets.py").open("a") as file:
        file.write("# changed\n")
    assert planned()[0] != first


def test_records_say_which_code_they_are_of(cli: Cli, work: Path) -> None:
    one, other = run_of(work, "none"), run_of(work, "after_pool")
    fingerprint = one.config["model"]["fingerprint"]
    shown = cli("show", one.run_id).out
    assert "nets.py:build" in shown
    assert fingerprint in shown
    config = yaml.safe_load((other.path / "config.yaml").read_text())
    config["model"] |= {"fingerprint": "0123456789ab", "args": {"width": 8}}
    (other.path / "config.yaml").write_text(yaml.safe_dump(config))
    rows = json.loads(cli("diff", one.run_id, other.run_id, "--json").out)
    assert {"model.fingerprint", "model.args.width"} <= {value for row in rows for value in map(str, row.values())}
    report = (next(work.glob("runs/batchnorm/study-*")) / "report.html").read_text()
    assert "nets.py:build" in report


def test_what_arms_do_not_share_is_told_by_the_records_in_the_report(cli: Cli, work: Path) -> None:
    said = "The arms start alike, but not in 0.bias (only in none): these are not paired by seed."
    (work / "nets.py").unlink()
    assert said in json.loads(cli("report", "batchnorm", "--json").out)["notes"]
    page = next(work.glob("runs/batchnorm/study-*/report.html")).read_text()
    assert said in page


def test_code_that_a_record_names_never_runs(cli: Cli, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "evil.py").write_text(EVIL)
    named = {"build": "evil.py:build", "load": f"{work / 'evil.py'}:load"}
    for path in [*work.glob("runs/batchnorm/*/config.yaml"), *work.glob("runs/batchnorm/study-*/study.json")]:
        text = path.read_text().replace("nets.py:build", named["build"]).replace("images.py:load", named["load"])
        path.write_text(text)
    one, other = run_of(work, "none"), run_of(work, "after_pool")
    for command in (
        ["runs"],
        ["show", one.run_id],
        ["runs", "batchnorm"],
        ["diff", one.run_id, other.run_id],
        ["compare", "batchnorm"],
        ["compare", one.run_id, other.run_id],
        ["report", "batchnorm"],
        ["doctor"],
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bnexp.run.health.examine.tried", lambda *_: {})  # importing every package is for test_doctor
            result = cli(*command)
        assert result.code in (0, 1), (command, result.err)
        assert "Traceback" not in result.err
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(work))
    assert "Traceback" not in cli("publish", one.run_id).err
    (sent,) = [path.read_bytes() for path in work.glob("wandb/offline-run-*/run-*.wandb")]
    assert b"evil.py:build" in sent
    assert one.config["model"]["fingerprint"].encode() in sent
    assert b"__file__" not in sent, "the source goes nowhere"
    for image in (["image.png"], ["image.png", "--top", "1"]):
        result = cli("predict", one.run_id, *image)
        assert result.code == 2
        assert "was made by evil.py:build, and bnexp never runs code that a record names" in result.err
    with pytest.raises(ConfigError, match="bnexp never runs code that a record names"):
        bnexp.load_run(one.run_id).model()
    assert not (work / "ran").exists()


def test_a_run_predicts_with_the_code_that_the_user_names(cli: Cli, work: Path) -> None:
    run = run_of(work, "after_pool")
    asked = ["predict", run.run_id, "image.png", "--json"]
    result = cli(*asked, "--factory", "nets.py:build")
    assert result.err == ""
    (row,) = json.loads(result.out)
    (work / "nets.py").rename(work / "mine.py")
    assert json.loads(cli(*asked, "--factory", "mine:build").out) == [row]
    (work / "mine.py").write_text(NETS + "# changed\n")
    changed = cli(*asked, "--factory", "mine.py:build")
    assert json.loads(changed.out) == [row]
    assert "mine.py:build has changed since the run" in changed.err
    (work / "mine.py").write_text(NETS.replace("width=4", "width=5"))
    wrong = cli(*asked, "--factory", "mine.py:build")
    assert wrong.code == 2
    assert f"mine.py:build makes another network than that of the run {run.run_id}" in wrong.err
    assert cli(*asked, "--factory", "mine.py:gone").code == 2
