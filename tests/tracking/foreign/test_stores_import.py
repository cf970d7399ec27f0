"""MLflow's file store and TensorBoard's event files; finding runs in folders; what all imports have in common."""

from __future__ import annotations

import math
import shutil
import struct
from pathlib import Path

import pytest

from bnexp.comparison.columns import metric_columns, setting_columns
from bnexp.comparison.loading import load_runs
from bnexp.config.schema import ConfigError
from bnexp.run.recorded import load_run
from bnexp.tracking.foreign.event_file import masked_crc32c
from bnexp.tracking.foreign.importing import import_runs
from bnexp.tracking.initial import starting_run
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.store import Store


def test_mlflow_s_runs_stand_in_the_table(samples: Path, runs: Path) -> None:
    done = import_runs([samples / "mlruns"])
    assert [run.seed_key for run in done.runs] == ["random_state"] * 2
    table = load_runs().sort("seed")
    assert table.select("study", "arm", "seed", "status", "source.name", "source.tags").rows() == [
        ("norm_layers", "norm layers", 7, "finished", "bold-fox-1", '["team=vision"]'),
        ("norm_layers", "norm layers", 8, "failed", "calm-elk-2", '["team=vision"]'),
    ]
    assert table.select(setting_columns(table)).row(0, named=True) == {
        "augment": True, "lr": 0.1, "model/depth": 20, "norm": "batch", "study.levels": "",
    }  # fmt: skip
    assert metric_columns(table) == ["bad", "loss", "val/accuracy"]
    assert table.select("bad", "loss", "val/accuracy").row(0) == (math.inf, pytest.approx(1 / 3), 0.875)
    rows = RecordedRun(Path(table["path"][0])).metrics()
    assert [(row["step"], row["val/accuracy"]) for row in rows] == [(0, 0.5), (1, 0.75), (2, 0.875)]


def test_an_experiment_or_a_run_of_mlflow_can_be_named(samples: Path, runs: Path) -> None:
    (experiment,) = samples.glob("mlruns/*")
    run = next(path for path in sorted(experiment.iterdir()) if path.is_dir())
    assert len(import_runs([run]).runs) == len(import_runs([run / "meta.yaml"]).runs) == 1
    assert sorted(run.action for run in import_runs([experiment]).runs) == ["new", "unchanged"]


def test_an_older_copy_of_a_run_that_had_not_ended_replaces_no_record(samples: Path, runs: Path) -> None:
    (meta,) = samples.glob("mlruns/*/80*/meta.yaml")
    import_runs([meta.parent])
    meta.write_text(meta.read_text().replace("status: 3", "status: 1"))
    again = import_runs([meta.parent])
    assert [run.action for run in again.runs] == ["unchanged"]
    assert "it holds no more of the run" in again.problems[0]
    assert load_runs()["status"].to_list() == ["finished"]


def test_damage_in_mlflow_s_store_costs_only_what_is_damaged(samples: Path, runs: Path) -> None:
    first, second = sorted(path.parent for path in samples.glob("mlruns/*/*/meta.yaml"))
    (first / "metrics" / "loss").write_text("1 0.5 0\n1 half 1\n")
    (second / "meta.yaml").write_text("run_id: [")
    (first / "metrics" / "link").symlink_to("/etc/passwd")
    done = import_runs([samples / "mlruns"])
    assert ([run.action for run in done.runs], done.lost) == (["new"], 1)
    assert done.problems[0].startswith(f"{first / 'metrics' / 'loss'} is damaged: line 2 is no time, value and step.")
    assert done.problems[1].startswith(f"{second / 'meta.yaml'} is damaged: ")
    assert load_runs()["loss"].to_list() == [0.5]
    assert "link" not in load_runs().columns


def test_tensorboard_s_runs_stand_in_the_table(samples: Path, runs: Path) -> None:
    import_runs([samples / "tensorboard"])
    table = load_runs().sort("source.name")
    assert table.select("study", "source.name", "arm", "seed", "status").rows() == [
        ("tensorboard", "new", "g", None, "finished"),
        ("tensorboard", "torch_seed3", "torch", 3, "finished"),
        ("tensorboard", "x_seed4", "x", 4, "finished"),
    ]
    assert table.select("dropout", "norm", "epoch_loss").row(0) == (0.5, "batch", 0.25)
    scalars = table.select("lr", "optimizer", "Loss/train", "Accuracy/test", "hparam/accuracy").row(1)
    assert scalars == (0.1, "sgd", 0.25, 0.8, 0.8)
    assert table.select("seconds", "finished_at").row(0) == (2.0, "2023-11-14T22:13:22+0000")
    assert math.isnan(table["loss"][2])
    rows = RecordedRun(Path(table["path"][1])).metrics()
    assert [(row["step"], row["Loss/train"]) for row in rows] == [(0, 1), (1, 0.5), (2, 0.33333334), (3, 0.25)]


def test_the_checksum_is_castagnoli_s() -> None:
    """RFC 3720, B.4: the CRC-32C of 32 bytes of zeros is 8a9136aa; TFRecord rotates it by 15 and adds a constant."""
    crc = 0x8A9136AA
    assert masked_crc32c(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def test_of_event_files_that_are_cut_off_or_damaged_the_beginning_is_read(samples: Path, runs: Path) -> None:
    (path,) = samples.glob("tensorboard/x_seed4/*")
    content = path.read_bytes()
    for length in range(0, len(content), 5):
        path.write_bytes(content[:length])
        if length < 82:  # before the first scalar is whole
            with pytest.raises(ConfigError, match=str(path.parent)):
                import_runs([path])
        else:
            assert import_runs([path]).runs[0].metrics == ["loss"]
    assert load_runs()["loss"].to_list() == [0.33333334]
    path.write_bytes(content[:-10] + b"?" + content[-9:])
    assert import_runs([path]).problems == [f"{path}: the checksum of a record is wrong; what is before it was read."]
    path.write_bytes(content)
    assert import_runs([path]).runs[0].action == "updated"


def test_a_tag_that_is_no_unicode_is_read(samples: Path, runs: Path) -> None:
    (path,) = samples.glob("tensorboard/x_seed4/*")
    content = path.read_bytes()
    data = content[40 + 12 : 82 - 4].replace(b"loss", b"lo\xff\xfe")  # the second record
    path.write_bytes(content[: 40 + 12] + data + struct.pack("<I", masked_crc32c(data)))
    assert import_runs([path]).runs[0].metrics == ["lo\ufffd\ufffd"]
    assert load_runs()["lo\ufffd\ufffd"].to_list() == [1.0]


@pytest.mark.parametrize(
    ("dtype", "content", "expected"),
    [
        (1, struct.pack("<f", 0.1), 0.1),
        (2, struct.pack("<d", 0.1), 0.1),
        (9, struct.pack("<q", -3), -3),
        (1, bytes(8), None),
        (7, b"", None),
    ],
)
def test_scalars_are_tensors_of_one_number_too(
    tmp_path: Path, runs: Path, dtype: int, content: bytes, expected: float | None
) -> None:
    """The bytes of TensorFlow's protocol: event.summary(5).value(1): tag(1), tensor(8): dtype(1), tensor_content(4)."""

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    tensor = bytes([1 << 3, dtype]) + field(2, b"") + field(4, content)
    other = field(1, b"other") + bytes([2 << 3 | 5]) + struct.pack("<f", 1)
    summary = field(1, field(1, b"loss") + field(8, tensor)) + field(1, other)
    event = bytes([1 << 3 | 1]) + struct.pack("<d", 100.0) + bytes([2 << 3, 7]) + field(5, summary)
    length = struct.pack("<Q", len(event))
    record = length + struct.pack("<I", masked_crc32c(length)) + event + struct.pack("<I", masked_crc32c(event))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "events.out.tfevents.100.host").write_bytes(record)
    (run,) = import_runs([tmp_path / "logs"]).runs
    assert RecordedRun(run.path).metrics() == [{"step": 7} | ({} if expected is None else {"loss": expected}) | {"other": 1}]


def test_what_torch_s_add_hparams_writes_into_a_subfolder_belongs_to_its_run(samples: Path, runs: Path) -> None:
    folder = samples / "tensorboard" / "torch_seed3"
    _, hparams = sorted(folder.iterdir())
    (folder / "1795326441.4291").mkdir()
    hparams.rename(folder / "1795326441.4291" / hparams.name)
    (run,) = import_runs([folder]).runs
    assert (run.name, run.seed, run.seed_key, sorted(run.settings)) == (
        "torch_seed3",
        3,
        "seed",
        ["lr", "nesterov", "optimizer"],
    )


def test_lightning_s_hyperparameters_are_read(samples: Path, runs: Path) -> None:
    folder = samples / "tensorboard" / "x_seed4"
    (folder / "hparams.yaml").write_text("net:\n  depth: 3\nlr: 0.5\n")
    import_runs([folder])
    assert load_runs().select("net.depth", "lr").rows() == [(3, 0.5)]


def test_a_folder_with_runs_of_all_tools_is_searched_and_imported_once(samples: Path, runs: Path) -> None:
    (link,) = samples.glob("wandb/*0002")
    (samples / "wandb" / "latest-run").symlink_to(link)
    assert [len(import_runs([samples, samples / "wandb"], dry_run=True).runs), runs.exists()] == [8, False]
    assert {run.action for run in import_runs([samples, samples / "wandb" / "latest-run"]).runs} == {"new"}
    assert len(load_runs()) == 8
    assert {run.action for run in import_runs([samples]).runs} == {"unchanged"}
    moved = shutil.move(samples, samples.with_name("moved"))
    again = import_runs([moved])
    assert {run.action for run in again.runs} == {"updated"}  # only the path in it
    assert len(load_runs()) == 8


def test_a_study_can_be_named_and_changed(samples: Path, runs: Path) -> None:
    import_runs([samples / "wandb"], study="one")
    assert load_runs()["study"].unique().to_list() == ["one"]
    assert {run.action for run in import_runs([samples / "wandb"]).runs} == {"unchanged"}
    import_runs([samples / "wandb"], study="two")
    assert load_runs()["study"].to_list() == ["two"] * 3
    with pytest.raises(ConfigError, match=r"--study '\.\./x' is not possible"):
        import_runs([samples / "wandb"], study="../x")


def test_an_import_that_was_cut_off_is_completed(samples: Path, runs: Path) -> None:
    (run, *_) = import_runs([samples / "wandb"]).runs
    (run.path / "summary.json").unlink()
    assert [run.action for run in import_runs([samples / "wandb"]).runs] == ["new", "unchanged", "unchanged"]


def test_the_seed_has_the_key_that_the_user_names(samples: Path, runs: Path) -> None:
    import_runs([samples / "tensorboard" / "torch_seed3"], seed="nesterov")
    assert load_runs().select("seed", "config.seed").rows() == [(1, 3)]


def test_an_imported_run_has_no_network(samples: Path, runs: Path) -> None:
    import_runs([samples / "wandb"])
    with pytest.raises(
        ConfigError, match=r"^the run wandb-abcd0000 was imported from .* but no weights, so that it cannot predict"
    ):
        load_run("wandb-abcd0000").model()
    with pytest.raises(ConfigError, match="names an imported run, which has no weights"):
        starting_run("wandb-abcd0000", Store())


def test_what_holds_no_runs_is_refused(tmp_path: Path, runs: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file or folder .*nowhere; give one of W&B"):
        import_runs([tmp_path / "nowhere"])
    (tmp_path / "a.csv").write_text("acc\n1\n")
    with pytest.raises(
        ConfigError, match=r"holds no runs of .*\. Its CSV files are taken if they are named: bnexp import .*a\.csv"
    ):
        import_runs([tmp_path])
    (tmp_path / "a.png").write_text("x")
    with pytest.raises(ConfigError, match=r"a\.png is none of the files that can be imported"):
        import_runs([tmp_path / "a.png"])
    assert not runs.exists()
