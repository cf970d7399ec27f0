"""The Python API: what the command line does, from a program."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import save

import bnexp
from bnexp.data.resident import prepare
from bnexp.plan.compose import compose
from bnexp.plan.expand import StudyPlan
from bnexp.plan.spec import RunSpec
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.store import Store

SMALL = ["data=digits", "data.train_size=200", "train.epochs=1", "track.wandb.mode=disabled", "executor=inline"]
HEAVY = ("torch", "wandb", "polars", "hydra", "numpy", "altair", "typer", "rich")


def test_importing_it_imports_nothing_heavy() -> None:
    code = f"import sys, bnexp; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_name_is_there_and_no_other() -> None:
    for name in bnexp.__all__:
        assert getattr(bnexp, name) is not None
    assert set(bnexp.__all__) <= set(dir(bnexp))
    with pytest.raises(AttributeError, match="module 'bnexp' has no attribute 'tran'"):
        bnexp.tran  # type: ignore[attr-defined]  # noqa: B018


def test_the_types_are_those_of_the_api(tmp_path: Path) -> None:
    """``__init__.pyi`` names what ``__init__.py`` imports, and mypy of a user's script sees it."""
    script = tmp_path / "mine.py"
    lines = [f"reveal_type(bnexp.{name})" for name in bnexp.__all__]
    script.write_text("import bnexp\n" + "\n".join(lines) + "\nbnexp.train(3)\n")
    root = Path(__file__).parents[1]  # whose cache of scripts/test saves most of the time
    command = [sys.executable, "-m", "mypy", str(script)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root).stdout
    assert 'Argument 1 to "train" has incompatible type "int"; expected "Sequence[str]"' in found
    assert found.count("Revealed type") == len(bnexp.__all__)
    assert '"Any"' not in found


def test_a_run_is_trained_and_its_network_predicts_what_it_recorded(shared_cache: Path) -> None:
    run = bnexp.train([*SMALL, "norm=batch", "track.predictions=360"])
    assert run.summary.status == "finished"
    assert bnexp.load_run(run.run_id[:6]).path == run.path
    predictions = run.predictions()
    assert predictions is not None
    data = prepare(compose([*SMALL, "norm=batch"]).data)
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    images = (torch.tensor(data.test_images) / 255 - mean) / std
    with torch.no_grad():
        guesses = run.model()(images.float()[predictions["image_id"].to_list()]).argmax(1)
    assert guesses.tolist() == predictions["prediction"].to_list()


def test_a_network_says_where_it_does_not_predict_what_was_recorded(shared_cache: Path) -> None:
    run = bnexp.train([*SMALL, "norm=batch", "norm.statistics=precise", "train.precision=fp64"])
    with pytest.warns(UserWarning, match=f"Run {run.run_id} was evaluated by precise statistics"):
        network = run.model()
    weights = run.weights()
    assert weights["conv1.weight"].dtype == np.float64
    assert np.array_equal(network.state_dict()["conv1.weight"].numpy(), weights["conv1.weight"])


@pytest.fixture
def record(tmp_path: Path, shared_cache: Path) -> Path:
    """A copy of a run's record, for damaging."""
    run = bnexp.train([*SMALL, "norm=batch"])
    copy = tmp_path / "copies" / "train" / run.run_id
    shutil.copytree(run.path, copy)
    return copy


def test_weights_of_another_network_are_named(record: Path) -> None:
    config = record / "config.yaml"
    config.write_text(config.read_text().replace("size: 32", "size: 28"))
    with pytest.raises(DamagedRecord, match=r"model.safetensors is damaged: it does not fit the run's configuration: "):
        bnexp.load_run(record.name, record.parents[1]).model()


@pytest.mark.parametrize("names", [[], ["fc_a.weight"], ["conv1.bias"]])
def test_weights_without_an_output_layer_are_named(record: Path, names: list[str]) -> None:
    content = save({name: np.zeros(3, np.float32) for name in names})
    (record / "model.safetensors").write_bytes(content)
    summary = json.loads((record / "summary.json").read_text())
    summary["sha256"]["model.safetensors"] = hashlib.sha256(content).hexdigest()
    (record / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(DamagedRecord, match="it has no weights of an output layer"):
        bnexp.load_run(record.name, record.parents[1]).model()


@pytest.mark.parametrize("damage", ["no config", "a setting named as a fact", "a metric named as a fact", "as a setting"])
def test_a_damaged_record_is_left_out_of_the_table(record: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    whole = record.with_name("a" * 12)
    shutil.copytree(record, whole)
    rename = {"run_id": whole.name, "seed": 7}
    (whole / "summary.json").write_text(json.dumps(json.loads((record / "summary.json").read_text()) | rename))
    config, summary = record / "config.yaml", json.loads((record / "summary.json").read_text())
    if damage == "no config":
        config.unlink()
    elif damage == "a setting named as a fact":
        config.write_text(config.read_text() + "status: odd\n")
    else:
        summary["metrics"]["arm" if damage == "a metric named as a fact" else "optim.lr"] = 0.5
        (record / "summary.json").write_text(json.dumps(summary))
    runs = bnexp.load_runs(record.parents[1])
    assert runs.select("run", "seed", "num_classes", "num_test", "study.levels").rows() == [(whole.name, 7, 10, 359, "")]
    (told,) = [message.getMessage() for message in caplog.records if record.name in message.getMessage()]
    assert told.endswith("Its run is left out.")


def test_a_study_gives_its_result(shared_cache: Path) -> None:
    class Heard(bnexp.Listener):
        texts: list[str]

        def __init__(self) -> None:
            self.texts = []

        def told(self, text: str) -> None:
            self.texts.append(text)

    heard = Heard()
    result = bnexp.run_study("batchnorm", [*SMALL, "study.seeds=2"], listener=heard)
    assert isinstance(result, bnexp.StudyResult)
    assert repr(result) == f"StudyResult(verdict='ESTIMATE', answer={result.answer!r})"
    assert [(arm.arm, arm.n) for arm in result.arms] == [("none", 2), ("after_pool", 2)]
    (line,) = [text for text in heard.texts if "Report: " in text]
    assert Path(line.split("Report: ")[1]).read_text().startswith("<!DOCTYPE html>")
    again = bnexp.run_study("batchnorm", [*SMALL, "study.seeds=2"], report=False)
    assert again.to_dict() == result.to_dict()

    runs = bnexp.load_runs()
    assert runs.columns[:6] == ["run", "study", "arm", "seed", "status", "finished_at"]
    assert sorted(runs["norm.kind"]) == ["batch", "batch", "none", "none"]
    compared = bnexp.compare(runs, arm="norm.kind", baseline="none")
    (ours,), (theirs,) = compared.comparisons, result.comparisons
    assert ours.differences == theirs.differences
    assert (ours.difference, ours.n) == (theirs.difference, 2)
    assert "exploratory" in compared.notes[0]


def test_a_plain_script_trains_in_worker_processes_and_runs_once(tmp_path: Path, shared_cache: Path) -> None:
    """Nobody needs ``if __name__ == "__main__"``: a worker does not run the program that started it again."""
    script = tmp_path / "mine.py"
    overrides = [*SMALL[:-1], "study.seeds=1", "executor=local", "executor.workers=2"]
    script.write_text(
        "import bnexp\n"
        "print('begun')\n"
        f"result = bnexp.run_study('batchnorm', {overrides}, report=False)\n"
        "print([arm.n for arm in result.arms])\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=300)
    assert (done.stdout, "Traceback" in done.stderr) == ("begun\n[1, 1]\n", False), done.stderr


def test_a_comparison_that_cannot_be_made_is_one_sentence() -> None:
    rows = [
        {"run": f"r{i}", "arm": arm, "seed": 0, "status": "finished", "optim.lr": lr, "test/accuracy": 0.5}
        for i, (arm, lr) in enumerate([("a", 0.1), ("a", 0.2), ("b", 0.1)])
    ]
    frame = pl.DataFrame(rows)
    assert [c.level for c in bnexp.compare(frame, arm="arm", by=["optim.lr"]).comparisons] == ["lr=0.1"]
    with pytest.raises(bnexp.ConfigError, match=r"test/acc is not a column of these runs. Did you mean test/accuracy"):
        bnexp.compare(frame, metric="test/acc")
    with pytest.raises(bnexp.ConfigError, match="the runs have 1 value of arm, and comparing takes two"):
        bnexp.compare(frame.filter(pl.col("arm") == "a"), arm="arm")
    with pytest.raises(bnexp.ConfigError, match="c is not a value of arm: allowed are a, b"):
        bnexp.compare(frame, arm="arm", baseline="c")


def test_a_comparison_names_the_other_settings_in_which_pairs_differ() -> None:
    rows = [
        {"run": f"{arm}{seed}", "seed": seed, "status": "finished", "norm.kind": arm, "optim.lr": lr, "data.margin": 1.0}
        | {"num_classes": 10, "num_test": 400, "test/accuracy": 0.5, "study.levels": f"lr={lr}", "executor.workers": lr}
        for seed in range(2)
        for arm, lr in (("none", 0.1), ("batch", 0.2))
    ]
    frame = pl.DataFrame(rows).with_columns(pl.Series("own", [object() for _ in rows], dtype=pl.Object))
    confounded = bnexp.compare(frame, arm="norm.kind")
    assert confounded.notes[2] == "Runs that are compared also differ in optim.lr: that may be what made the difference."
    assert "optim.lr" not in confounded.settings
    fair = bnexp.compare(frame.with_columns(pl.lit(0.1).alias("optim.lr")), arm="norm.kind")
    assert not any("differ in" in note for note in fair.notes)
    assert (fair.settings, fair.margin) == ({"optim.lr": "0.1"}, 1.0)
    assert any("The 400 test images alone give one accuracy" in note for note in fair.notes)


def test_what_compare_cannot_use_is_one_sentence() -> None:
    rows = [
        {"run": f"r{arm}", "arm": arm, "seed": 0, "status": "finished", "data.name": "digits", "test/accuracy": 0.5}
        for arm in "ab"
    ]
    frame = pl.DataFrame(rows)
    with pytest.raises(bnexp.ConfigError, match=r"^data.name is no metric: its values are not numbers"):
        bnexp.compare(frame, metric="data.name")
    with pytest.raises(bnexp.ConfigError, match=r"^seed is not a column of these runs; give whole rows of load_runs\.$"):
        bnexp.compare(frame.drop("seed"))
    with pytest.raises(bnexp.ConfigError, match=r"^margin=-1 is out of range: allowed is a number above 0\.$"):
        bnexp.compare(frame, margin=-1)
    with pytest.raises(bnexp.ConfigError, match=r'^by is one text: give a list of texts, like \["data.name"\]\.$'):
        bnexp.compare(frame, by="data.name")
    with pytest.raises(bnexp.ConfigError, match=r"^there are no runs to compare; filter less of load_runs"):
        bnexp.compare(frame.clear())


@pytest.mark.parametrize("call", [bnexp.train, lambda overrides: bnexp.run_study("batchnorm", overrides)])
def test_one_text_instead_of_a_list_of_overrides_is_answered_so(call: Callable[[str], object]) -> None:
    with pytest.raises(bnexp.ConfigError, match=r'^overrides is one text: give a list of texts, like \["data=digits"\]\.$'):
        call("data=digits")


def test_without_runs_there_is_an_empty_table(tmp_path: Path) -> None:
    runs = bnexp.load_runs(tmp_path)
    assert (len(runs), runs.columns[:3]) == (0, ["run", "study", "arm"])
    assert np.array_equal(runs["run"].to_numpy(), [])


def test_a_run_that_fails_raises_why(monkeypatch: pytest.MonkeyPatch, shared_cache: Path) -> None:
    from bnexp.training import engine

    def broken(*_: object) -> None:
        raise ValueError("the engine broke")

    monkeypatch.setattr(engine, "fit", broken)
    with pytest.raises(bnexp.RunError, match="the engine broke"):
        bnexp.train([*SMALL, "seed=9"])
    (failed,) = Store().folders()
    with pytest.raises(bnexp.ConfigError, match=f"^the run {failed.run_id} has not finished: the engine broke\\.$"):
        bnexp.load_run(failed.run_id[:5])
    with pytest.raises(bnexp.ConfigError, match="'zzz' is not a recorded run in"):
        bnexp.load_run("zzz")


def test_a_listener_hears_what_trains_and_wandb_gets_a_study_again_only_when_it_is_new(
    monkeypatch: pytest.MonkeyPatch, shared_cache: Path
) -> None:
    class Heard(bnexp.Listener):
        def __init__(self) -> None:
            self.events: list[tuple[str, int]] = []

        def tuning(self, setting: str, num_runs: int) -> None:
            self.events.append((setting, num_runs))

        def planned(self, plan: StudyPlan, todo: Sequence[RunSpec]) -> None:
            self.events.append((plan.study.name, len(todo)))

    logged: list[bool] = []
    monkeypatch.setattr("bnexp.run.study.requested_mode", lambda config: "offline")
    monkeypatch.setattr("bnexp.report.publish.publish", lambda record, result, store, wandb: logged.append(wandb.again) or [])
    heard = Heard()
    tuned = ["study.tune.grid=[0.01,0.02]", "study.tune.seeds=[7]", "study.tune.extensions=0"]
    for overrides in ([*SMALL, "study.seeds=1"], [*SMALL, "study.seeds=1"], [*SMALL, "study.seeds=1", *tuned]):
        bnexp.run_study("batchnorm", overrides, listener=heard)
    assert heard.events[:3] == [("batchnorm", 2), ("batchnorm", 0), ("optim.lr", 4)]
    assert logged == [True, False, True]
