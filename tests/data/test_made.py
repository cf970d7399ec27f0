"""Images from a function of the user's: what it may return, when it is called, and what each mistake is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_files import images_and_labels

from bnexp.config.factory import name_code
from bnexp.config.options import DataName
from bnexp.config.schema import ConfigError, DataConfig
from bnexp.data.amount import split_sizes
from bnexp.data.download import DataError
from bnexp.data.resident import Resident, prepare

IMAGES, LABELS = images_and_labels(40, 16, 16, num_classes=4)
HEAD = "import numpy as np\nx, y = np.load('images.npy'), np.load('labels.npy')\n"
KEY = "data.factory"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(tmp_path / "cache"))
    np.save("images.npy", IMAGES)
    np.save("labels.npy", LABELS)


def made(body: str, **args: object) -> DataConfig:
    """The configuration of a function with this body."""
    Path("images.py").write_text(f"{HEAD}def load(**args):\n    print('called')\n    {body}\n")
    named = name_code("images.py:load", KEY)
    return DataConfig(DataName.python, size=16, factory=named, fingerprint=named.fingerprint, args=args, val_fraction=0.0)


def load(body: str, **args: object) -> Resident:
    return prepare(made(body, **args))


@pytest.mark.parametrize(
    "body",
    [
        "return x, y, x[:8], y[:8]",
        "return {'x_train': x, 'y_train': y, 'x_test': x[:8], 'y_test': y[:8], 'class_names': None}",
        "return x[..., None], y.tolist(), x[:8, :, :, None], y[:8].tolist()",
        "import torch; return torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(x[:8]), torch.from_numpy(y[:8])",
    ],
)
def test_all_forms_give_the_same_images(body: str) -> None:
    resident = load(body)
    np.testing.assert_array_equal(resident.train_images, IMAGES[:, None])
    np.testing.assert_array_equal(resident.test_images, IMAGES[:8, None])
    np.testing.assert_array_equal(resident.train_labels, LABELS)
    assert resident.class_names == ("0", "1", "2", "3")


def test_classes_may_have_names_and_a_test_set_is_split_off() -> None:
    config = made("return dict(x_train=x, y_train=y, class_names=['ant', 'bee', 'cat', 'dog'])")
    calls: list[tuple[str, int, int]] = []
    resident = prepare(config, lambda *call: calls.append(call))
    assert calls[0] == ("calling images.py:load", 0, 0)
    assert resident.class_names == ("ant", "bee", "cat", "dog")
    assert (len(resident.train_images), len(resident.test_images)) == (32, 8)
    sizes = []
    for config.test_fraction in (0.5, 0.2):
        sizes.append(len(prepare(config).test_images))
    assert sizes == [20, 8]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("return None", "what images.py:load returns is None: return a mapping with x_train, y_train, x_test, y_test, or two "),
        ("return x", "what images.py:load returns is ndarray: return a mapping"),
        ("return x, y, x", "what images.py:load returns is tuple of 3: return a mapping"),
        ("return {'x': x}", "what images.py:load returns lacks x_train and y_train (it has x): name the arrays"),
        ("return x, y, x, None", "what images.py:load returns lacks y_test (it has x_train, y_train, x_test): name the arrays"),
        (
            "return x, y[:-1]",
            "what images.py:load returns: y_train has 39 labels for the 40 images of x_train: make them equal.",
        ),
        (
            "return x, y * 3",
            "what images.py:load returns: no image of y_train has the label 1, though 9 occurs: number from 0 ",
        ),
        (
            "return x, y.astype(int) - 1",
            "what images.py:load returns: y_train has the label -1; allowed are class numbers from 0",
        ),
        ("return x[0], y", "what images.py:load returns: x_train has shape (16, 16); allowed is (N, H, W), (N, H, W, C) or "),
        ("return x.astype(int) * 9, y", "what images.py:load returns: x_train has values from "),
        (
            "return x / 256, y, x[:8] / 256, y[:8]",
            "returns: x_train is float64 with values from 0 to 0.996; return pixel values 0..255 as uint8: "
            '(255 * x_train).round().astype("uint8").',
        ),
        (
            "return x, y, x[:8].astype(np.float32), y[:8]",
            'x_test is float32 with values from 0 to 255; return pixel values 0..255 as uint8: x_test.round().astype("uint8").',
        ),
        (
            "return (x - 99.0) / 50, y",
            "x_train is float64 with values from -1.98 to 3.12; return pixel values 0..255 as uint8, not normalised: ",
        ),
        (
            "return x, y, x[:8, :8], y[:8]",
            "what images.py:load returns: images of x_train are uint8 of shape (1, 16, 16), those ",
        ),
        (
            "return [[1], [1, 2]], y",
            "what images.py:load returns: x_train is list that makes no array (setting an array element",
        ),
        (
            "return np.array([None] * 40), y",
            "what images.py:load returns: x_train is ndarray, no array of numbers: return arrays",
        ),
        (
            "return dict(x_train=x, y_train=y, class_names=['a', 'a', 'b', 'c'])",
            "what images.py:load returns: class_names must be a list of 4 different texts, one for each label from 0 to 3.",
        ),
        ("return dict(x_train=x, y_train=y, class_names='abcd')", "class_names must be a list of 4 different texts"),
        ("return dict(x_train=x, y_train=y, class_names=['a', 'b', 'c'])", "class_names must be a list of 4 different texts"),
        (
            "return dict(x_train=x, y_train=y, class_names=['a', 'b', 'c', ''])",
            "class_names must be a list of 4 different texts",
        ),
        (
            "return dict(x_train=x, y_train=y, class_names=['a', 'b', 'c', 'd', 'd'])",
            "class_names must be a list of 4 different",
        ),
        ("return dict(x_train=x, y_train=y, class_names=[1, 2, 3, 4])", "class_names must be a list of 4 different texts"),
        ("return x[:0] / 2, y", "what images.py:load returns: x_train has shape (0, 16, 16), so no pixels: write at least one"),
        ("return x / x.max(), y", "with values from 0 to 1; return pixel values 0..255 as uint8: (255 * x_train).round()"),
        (
            "return type('Odd', (), {'__array__': lambda *_, **__: 1 / 0})(), y",
            "what images.py:load returns: x_train is Odd that makes no array (division by zero): return arrays.",
        ),
        (
            """return type('Odd', (), {'__array__': lambda *_, **__: exec('raise ValueError("no.\\\\nMore")')})(), y""",
            "x_train is Odd that makes no array (no): return arrays.",
        ),
        (
            "return type('Odd', (), {'__array__': lambda *_, **__: next(iter([]))})(), y",
            "x_train is Odd that makes no array (StopIteration): return arrays.",
        ),
        ("return 1 / 0", "data.factory=images.py:load failed: ZeroDivisionError: division by zero (images.py, line 5)."),
    ],
)
def test_each_wrong_return_has_its_sentence(body: str, sentence: str) -> None:
    with pytest.raises(DataError) as raised:
        load(body)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not [*Path("cache").rglob("*.npy")], "nothing half-written is left"


def test_the_function_is_called_once_for_each_source_and_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    def called(config: DataConfig) -> bool:
        prepare(config)
        return "called" in capsys.readouterr().err

    body = "return x[:args.get('most')], y[:args.get('most')]"
    assert [called(made(body)), called(made(body)), called(made(body, most=20)), called(made(body, most=20))] == [
        True,
        False,
        True,
        False,
    ]
    assert not called(made(body))  # still there: other arguments are other images
    assert called(made(f"{body}  # changed"))
    assert len([*Path("cache/packed").glob("python-*")]) == 2, "what an older source made is removed"


def test_a_function_may_use_up_its_arguments() -> None:
    config = made("return x[:args['most'][0]], y[:args['most'].pop()]", most=[20])
    prepare(config)
    assert config.args == {"most": [20]}, "they are part of the run's identity"


def test_training_images_are_counted() -> None:
    assert split_sizes(made("return x, y, x[:8], y[:8]")) == (40, 0)


def test_a_function_that_a_record_names_is_never_called() -> None:
    config = made("open('ran', 'w')")
    assert config.factory is not None
    config.factory = str(config.factory)
    with pytest.raises(ConfigError, match=r"data.factory=images.py:load is from a record, and bnexp never runs code"):
        prepare(config)
    assert not Path("ran").exists()
