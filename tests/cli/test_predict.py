"""``bnexp predict``: images in, what recorded networks say of them out."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import bnexp
from bnexp.data.pictures import Picture
from bnexp.data.resident import Resident, prepare
from bnexp.data.sources import DIGITS_FILE
from bnexp.data.splits import stratified_split
from bnexp.plan.compose import compose
from bnexp.rng import numpy_generator
from bnexp.run.answers import Answers
from bnexp.tracking.store import Store
from tests.cli.conftest import Cli

SMALL = ["data=digits", "data.train_size=300", "train.epochs=2", "track.wandb.mode=disabled", "executor=inline"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, digits_cache: Path) -> Path:
    """A store with two arms of a study, two seeds each."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BNEXP_RUNS_DIR", str(root))
        patch.setenv("BNEXP_CACHE_DIR", str(digits_cache))
        bnexp.run_study("batchnorm", [*SMALL, "study.seeds=2"], report=False)
    return root


@pytest.fixture
def store(trained: Path, tmp_path: Path) -> Store:
    shutil.copytree(trained, tmp_path / "runs")
    return Store()


@pytest.fixture
def run(store: Store) -> bnexp.TrainedRun:
    """The run with batch norm and seed 0."""
    return next(bnexp.load_run(run.path) for run in store.runs() if (run.summary.arm, run.summary.seed) == ("after_pool", 0))


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """The test images of digits as published, (359, 8, 8), in their order, and their classes."""
    with np.load(DIGITS_FILE) as arrays:
        images, labels = np.rint(arrays["images"] * (255 / 16)).astype(np.uint8), arrays["labels"].astype(np.int64)
    _, test = stratified_split(labels, 0.2, numpy_generator(0, "split/digits"))
    return images[test], labels[test]


@pytest.fixture
def pictures(tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """The first 30 test images as PNG files in a folder for each class."""
    for i, (image, label) in enumerate(zip(*digits, strict=True)):
        if i < 30:
            save(tmp_path / "digits" / str(label) / f"{i:03d}.png", image)
    return tmp_path / "digits"


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def recorded(run: bnexp.TrainedRun) -> np.ndarray:
    """The recorded probabilities of the test images, (359, 10)."""
    frame = pl.read_parquet(run.path / "predictions.parquet").sort("image_id")
    return frame.select(f"p{k}" for k in range(10)).to_numpy()


def resident() -> Resident:
    return prepare(compose(SMALL).data)


def test_test_images_get_the_recorded_probabilities(run: bnexp.TrainedRun, pictures: Path, shared_cache: Path) -> None:
    found = run.predict(pictures)
    ids = [int(Path(name).stem) for name in found.images]
    assert sorted(ids) == list(range(30))
    np.testing.assert_allclose(found.probabilities, recorded(run)[ids], atol=1e-5)
    assert found.labels.tolist() == [int(Path(name).parent.name) for name in found.images]
    assert found.names == [str(k) for k in recorded(run)[ids].argmax(1)]
    assert found.accuracy == np.mean(found.classes == found.labels)


def test_an_image_of_the_size_of_the_input_is_taken_as_it_is(run: bnexp.TrainedRun, tmp_path: Path, shared_cache: Path) -> None:
    stored = resident().test_images[:20, 0]
    for i, image in enumerate(stored):
        save(tmp_path / f"shown/{i:02d}.png", image)
    np.testing.assert_allclose(run.predict(tmp_path / "shown").probabilities, recorded(run)[:20], atol=1e-5)
    np.testing.assert_allclose(run.predict(stored).probabilities, recorded(run)[:20], atol=1e-5)


def test_neither_the_data_nor_its_cache_is_needed(
    run: bnexp.TrainedRun, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(tmp_path / "empty"))
    assert len(run.predict(pictures).images) == 30
    assert not (tmp_path / "empty").exists()


def forget(run: bnexp.TrainedRun, **values: object) -> bnexp.TrainedRun:
    """The run as an earlier version recorded it, without the mean and deviation of its images, and with other ``values``."""
    path = run.path / "summary.json"
    summary = {**json.loads(path.read_text()), **values}
    for name in ("pixel_mean", "pixel_std"):
        if name not in values:
            summary.pop(name, None)
    path.write_text(json.dumps(summary))
    return bnexp.load_run(run.path)


def test_a_record_without_its_normalisation_takes_it_from_the_data(
    run: bnexp.TrainedRun, pictures: Path, shared_cache: Path
) -> None:
    found = run.predict(pictures).probabilities
    assert np.array_equal(forget(run).predict(pictures).probabilities, found)
    with pytest.raises(bnexp.ConfigError, match="digits on this machine has other images: train it again"):
        forget(run, data_fingerprint="ffff").predict(pictures)


def test_a_record_without_its_normalisation_and_data_says_how_to_get_them(run: bnexp.TrainedRun, pictures: Path) -> None:
    config = run.path / "config.yaml"
    whole = config.read_text()
    config.write_text(whole.replace("name: digits", "name: npz"))
    with pytest.raises(bnexp.ConfigError, match="the images themselves are not in the cache of this machine: train it again"):
        forget(run, data_fingerprint="ffff").predict(pictures)
    config.write_text(whole.replace("name: digits", "name: kmnist"))
    with pytest.raises(bnexp.ConfigError, match=r"get the data set first, with bnexp data kmnist data.size=32\.$"):
        forget(run, data_fingerprint="ffff").predict(pictures)


@pytest.mark.parametrize(("mean", "std"), [([0.1, 0.2], [1.0, 1.0]), ([0.1], [0.0]), ([0.1], []), ([float("nan")], [1.0])])
def test_a_damaged_normalisation_is_named(run: bnexp.TrainedRun, pictures: Path, mean: list[float], std: list[float]) -> None:
    with pytest.raises(bnexp.ConfigError, match=r"summary.json is damaged: pixel_mean and pixel_std are no mean and deviation"):
        forget(run, pixel_mean=mean, pixel_std=std).predict(pictures)


def test_it_prints_guesses_truth_and_accuracy(cli: Cli, run: bnexp.TrainedRun, pictures: Path) -> None:
    result = cli("predict", run.run_id[:8], str(pictures), "--top", "3", "--json")
    rows = json.loads(result.out)
    found = run.predict(pictures)
    first = np.argsort(-found.probabilities[0])[:3]
    assert result.code == 0
    assert len(rows) == 30
    assert [rows[0][name] for name in ("prediction", "guess_2", "guess_3")] == [str(k) for k in first]
    assert rows[0]["confidence_3"] == pytest.approx(found.probabilities[0, first[2]])
    assert [row["correct"] for row in rows] == (found.classes == found.labels).tolist()
    assert f"{sum(row['correct'] for row in rows)} of 30 right, {100 * found.accuracy:.1f} % (95 % interval" in result.err
    table = cli("predict", str(run.path), str(pictures / "3"))
    assert table.out.splitlines()[0].split() == ["image", "prediction", "confidence", "guess", "2"]
    assert "right" not in table.err  # the folder of a class was named itself, so no truth is known
    (header, *lines) = csv.reader(io.StringIO(cli("predict", str(run.path), str(pictures), "--csv").out))
    assert header == list(cli_columns(2))
    assert len(lines) == 30


def cli_columns(top: int) -> list[str]:
    guesses = ["prediction", "confidence", *(f"{name}_{k}" for k in range(2, top + 1) for name in ("guess", "confidence"))]
    return ["image", "by", "runs", "agreeing", *guesses, "truth", "correct", "agreed"]


def test_a_narrow_terminal_folds_no_path(
    cli: Cli, run: bnexp.TrainedRun, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bnexp.cli.predict as command
    from bnexp.terminal import SafeConsole

    monkeypatch.setattr(command, "stdout", lambda: SafeConsole(width=40))
    lines = cli("predict", run.run_id, str(pictures)).out.splitlines()
    assert lines[0] in run.predict(pictures).images
    assert lines[1].startswith("    prediction: ")


def test_two_runs_stand_side_by_side_where_they_disagree_first(cli: Cli, store: Store, pictures: Path) -> None:
    pair = sorted((run for run in store.runs() if run.summary.seed == 0), key=lambda run: run.summary.arm)
    result = cli("predict", *(run.run_id for run in pair), str(pictures), "--json")
    rows = json.loads(result.out)
    assert [row["by"] for row in rows[:2]] == ["after_pool", "none"]
    guesses = [bnexp.load_run(run.path).predict(pictures) for run in pair]
    agree = guesses[0].classes == guesses[1].classes
    assert [row["agreed"] for row in rows[::2]] == sorted(agree.tolist())
    gap = dict(zip(guesses[0].images, np.abs(guesses[0].probabilities - guesses[1].probabilities).sum(1), strict=True))
    apart = [gap[row["image"]] for row in rows[::2] if not row["agreed"]]
    assert len(apart) > 1
    assert apart == sorted(apart, reverse=True)
    assert f"Both predict the same class on {agree.sum()} of 30 images." in result.err
    right = [found.classes == found.labels for found in guesses]
    only = [int((a & ~b).sum()) for a, b in (right, right[::-1])]
    assert f"Only after_pool is right on {only[0]}, only none on {only[1]}." in result.err
    table = cli("predict", *(run.run_id for run in pair), str(pictures)).out.splitlines()
    assert table[0].split() == ["image", "after_pool", "none", "truth", "agree"]


def test_a_study_asks_each_arm_by_the_average_of_its_seeds(cli: Cli, store: Store, pictures: Path) -> None:
    result = cli("predict", "batchnorm", str(pictures), "--json")
    row = next(row for row in json.loads(result.out) if row["by"] == "none")
    members = [bnexp.load_run(run.path) for run in store.runs() if run.summary.arm == "none"]
    each = np.stack([run.predict(row["image"]).probabilities[0] for run in members])
    mean = each.mean(0)
    assert row["confidence"] == pytest.approx(mean.max())
    assert row["prediction"] == str(mean.argmax())
    assert (row["runs"], row["agreeing"]) == (2, (each.argmax(1) == mean.argmax()).sum())
    (folder,) = store.root.glob("batchnorm/study-*")
    for name in (str(folder), f"batchnorm-{folder.name.removeprefix('study-')}"):
        assert cli("predict", name, str(pictures), "--json").out == result.out
    next(store.root.glob("batchnorm/*/summary.json")).unlink()
    assert "1 of 4 runs of batchnorm are not asked: diverged, failed or not recorded." in (
        cli("predict", "batchnorm", str(pictures)).err
    )


def grey(size: int = 32, value: int = 100) -> np.ndarray:
    return np.full((size, size), value, np.uint8)


def colour(size: int = 32) -> np.ndarray:
    return np.stack([grey(size, v) for v in (200, 100, 50)], -1)


def write_cmyk(path: Path) -> None:
    Image.fromarray(colour()).convert("CMYK").save(path)


def write_clear(path: Path) -> None:
    Image.fromarray(np.dstack([colour(), grey(value=7)])).save(path)


def write_animation(path: Path) -> None:
    Image.fromarray(grey()).save(path, save_all=True, append_images=[Image.fromarray(grey(value=0))])


@pytest.mark.parametrize(
    ("name", "write", "note"),
    [
        ("c.jpg", write_cmyk, ""),
        ("a.png", write_clear, "a.png: the transparency is left out, as in training."),
        ("m.gif", write_animation, "m.gif: all images but the first is left out, as in training."),
        ("large.png", lambda path: Image.fromarray(colour(3000)).save(path), ""),
    ],
)
def test_unusual_images_are_classified_and_what_is_left_out_is_said(
    cli: Cli, run: bnexp.TrainedRun, tmp_path: Path, name: str, write: Callable[[Path], None], note: str
) -> None:
    write(tmp_path / name)
    result = cli("predict", run.run_id, str(tmp_path / name), "--json")
    assert result.code == 0
    assert note in result.err
    plain = grey() if name == "m.gif" else np.array(Image.fromarray(colour()).convert("L"))
    assert json.loads(result.out)[0]["confidence"] == pytest.approx(run.predict(plain[None]).probabilities.max(), abs=0.01)


def test_an_unreadable_image_costs_no_other(cli: Cli, run: bnexp.TrainedRun, pictures: Path) -> None:
    (pictures / "0/odd.png").write_text("text")
    Image.fromarray(np.full((9, 9), 300, np.uint16)).save(pictures / "0/deep.png")
    result = cli("predict", run.run_id, str(pictures), "--json")
    assert result.code == 3
    assert len(json.loads(result.out)) == 30
    assert "0/odd.png cannot be read as an image (cannot identify image file): repair, convert or remove it." in result.err
    assert "0/deep.png cannot be read as an image (more than 8 bits per channel" in result.err
    with pytest.raises(bnexp.DataError, match=r"deep\.png cannot be read"):
        run.predict(pictures)


def test_folders_that_are_no_class_are_said(cli: Cli, run: bnexp.TrainedRun, pictures: Path) -> None:
    (pictures / "3").rename(pictures / "three")
    count = len(list((pictures / "three").iterdir()))
    result = cli("predict", run.run_id, str(pictures), "--json")
    assert f"{count} images lie in folders that are no class of the run (three), so their truth is not known" in result.err
    rows = json.loads(result.out)
    assert {row["correct"] for row in rows if "/three/" in row["image"]} == {None}
    assert f"of {30 - count} right" in result.err
    header = cli("predict", run.run_id, str(pictures)).out.splitlines()[0]
    assert header.split()[-2:] == ["truth", "correct"]


def test_dark_ink_on_paper_is_told_apart(cli: Cli, run: bnexp.TrainedRun, pictures: Path, tmp_path: Path) -> None:
    assert "inverted" not in cli("predict", run.run_id, str(pictures)).err
    save(tmp_path / "paper.png", grey(value=240))
    assert "The image is far lighter than the training images" in cli("predict", run.run_id, str(tmp_path / "paper.png")).err


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["RUN"], 2, "there are no images: name image files or folders behind the run"),
        (["RUN", "nothing.png"], 2, "'nothing.png' is no file or folder, and no recorded run or study"),
        (["RUN", "digits/3", "nothing.png"], 2, "nothing.png does not exist: name an image file"),
        (["RUN", "empty"], 2, "no images in empty: name image files, or a folder with PNG or JPEG files"),
        (["RUN", "odd.png"], 1, "odd.png cannot be read as an image (cannot identify image file): repair"),
        (["RUN", "fifo"], 1, "fifo cannot be read as an image (no ordinary file): repair"),
        (
            ["RUN", "huge.png"],
            1,
            "huge.png cannot be read as an image (9,000 x 9,000 pixels, and at most 64 million are decoded)",
        ),
        (["zzz", "digits"], 2, "'zzz' is no recorded run or study (in "),
        (["batchnrm", "digits"], 2, "Did you mean batchnorm?"),
        (["odd.png", "digits"], 2, "odd.png is no recorded run: the run comes first, then the images"),
        (["RUN", "digits", "--top", "11"], 2, "--top 11 is more than there is: the run knows 10 classes."),
    ],
)
def test_wrong_use_is_one_sentence(
    cli: Cli, run: bnexp.TrainedRun, pictures: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, sentence: str
) -> None:
    monkeypatch.chdir(pictures.parent)
    Path("empty").mkdir()
    Path("odd.png").write_text("text")
    os.mkfifo("fifo")
    Image.new("L", (9000, 9000)).save("huge.png")
    result = cli("predict", *(run.run_id if word == "RUN" else word for word in words))
    assert sentence in result.err
    assert (result.code, result.out) == (code, "")
    assert result.err.count("\n") == 1


def test_a_run_that_cannot_predict_says_why(cli: Cli, run: bnexp.TrainedRun, pictures: Path) -> None:
    weights = run.path / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    assert f"the run {run.run_id} cannot predict: {weights} is not there." in cli("predict", run.run_id, str(pictures)).err
    weights.write_bytes(content)
    summary = run.path / "summary.json"
    whole = json.loads(summary.read_text())
    summary.write_text(json.dumps(whole | {"status": "diverged", "diverged_at": 7}))
    assert "has diverged (step 7): its weights say nothing." in cli("predict", run.run_id, str(pictures)).err
    summary.write_text(json.dumps(whole | {"class_names": [str(k) for k in range(9)]}))
    assert "it names 9 classes, and the network has 10" in cli("predict", run.run_id, str(pictures)).err
    summary.unlink()
    assert "has not finished: its training was interrupted." in cli("predict", run.run_id, str(pictures)).err


def test_runs_that_know_different_classes_are_not_mixed(cli: Cli, store: Store, run: bnexp.TrainedRun, pictures: Path) -> None:
    other = next(other for other in store.runs() if other.run_id != run.run_id)
    path = other.path / "summary.json"
    path.write_text(path.read_text().replace('"0",', '"nought",', 1))
    result = cli("predict", run.run_id, other.run_id, str(pictures))
    assert "know different classes (0, 1, 2, 3, ...; nought, 1, 2, 3, ...): ask them one at a time." in result.err
    assert result.code == 2


def test_a_network_that_needs_its_batch_says_so(cli: Cli, shared_cache: Path, pictures: Path) -> None:
    run = bnexp.train([*SMALL, "norm=batch", "norm.track_running_stats=false", "norm.linear=true", "train.epochs=1"])
    result = cli("predict", run.run_id, str(pictures))
    assert result.code == 0
    assert "what it says of an image depends on the images beside it." in result.err
    alone = cli("predict", run.run_id, str(next(pictures.rglob("*.png"))))
    assert "so it cannot classify a single image: give more images." in alone.err
    assert alone.code == 2


@pytest.mark.parametrize("array", [np.zeros((2, 8, 8)), np.zeros((8, 8), np.uint8), np.zeros((2, 8, 8, 4), np.uint8)])
def test_an_array_of_another_kind_is_refused(run: bnexp.TrainedRun, array: np.ndarray) -> None:
    with pytest.raises(bnexp.ConfigError, match=r"allowed are uint8 pixels of shape \(N, H, W\) for grey images"):
        run.predict(array)


@pytest.mark.parametrize(
    "more", [[], ["train.precision=bf16", "data.contrast=0.5", "norm=batch"], ["train.precision=fp64", "data.normalize=false"]]
)
def test_a_run_on_own_photographs_says_of_them_what_it_recorded(tmp_path: Path, shared_cache: Path, more: list[str]) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 30), ("test", 6)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(count):
                noise = rng.integers(0, 128, (50, 40 + i, 3), np.uint8) + np.uint8(100 * label)
                save(tmp_path / "photos" / part / name / f"{i}.{'jpg' if i % 2 else 'png'}", noise)
    data = ["data=image_folder", f"data.root={tmp_path / 'photos'}", "train.batch_size=20", "train.epochs=1"]
    run = bnexp.train([*data, "track.wandb.mode=disabled", "executor=inline", *more])
    found = run.predict(tmp_path / "photos/test")
    frame = pl.read_parquet(run.path / "predictions.parquet").sort("image_id")
    np.testing.assert_allclose(
        found.probabilities, frame.select("p0", "p1").to_numpy(), atol=0.01 if "bf16" in str(more) else 1e-5
    )
    assert found.labels.tolist() == frame["label"].to_list()
    assert found.class_names == ["cat", "dog"]


def test_of_many_voices_the_predictions_are_counted(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study with 20 levels fills a screen for each image else."""
    names = [f"arm lr={rate}" for rate in range(20)]
    guesses = [[7] * 8 + [1] * 6 + [2, 2, 3, 4, 5, 6], [7] * 19 + [1]]
    probabilities = np.eye(10, dtype=np.float32)[np.array(guesses).T]
    pictures = [Picture(Path("photos/7/a.png"), "7"), Picture(Path("photos/1/b.png"), "1")]
    found = Answers(dict.fromkeys(names, 5), [str(k) for k in range(10)], pictures, probabilities, np.full((20, 2), 4))
    monkeypatch.setattr("bnexp.run.voices.voices_and_images", lambda words: ([], [], []))
    monkeypatch.setattr("bnexp.run.answers.ask", lambda voices, places, factory: found)
    result = cli("predict", "study", "photos")
    header, *lines = result.out.splitlines()
    assert header.split() == ["image", "prediction", "by", "others", "truth"]
    assert [" ".join(line.split()) for line in lines] == [
        "photos/7/a.png 7 8 of 20 1 (6), 2 (2), 3 (1), 4 (1), 2 more 7",
        "photos/1/b.png 7 19 of 20 1 (1) 1",
    ]
    told = result.err.splitlines()
    assert told[0] == "Counts how many of 20 predict a class; --json and --csv have what each of them predicts."
    assert [line.split(":")[0] for line in told[2:6]] == ["arm lr=0", "arm lr=1", "arm lr=17", "arm lr=18"]
    assert len(told) == 7
    assert len(json.loads(cli("predict", "study", "photos", "--json").out)) == 40
