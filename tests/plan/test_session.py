"""Hydra finds the files, runs the jobs, and is the Hydra that we know."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import hydra
import pytest
from omegaconf import DictConfig

from bnexp.config.schema import ConfigError
from bnexp.plan import session as s
from bnexp.plan.compose import compose


def test_a_users_own_directory_joins_the_search_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text("name: sgd\nlr: 0.125\n")
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    assert compose(["optim=mine"]).optim.lr == 0.125
    (tmp_path / "optim" / "mine.yaml").write_text("name: sgd\nlearning_rate: 0.125\n")
    with pytest.raises(ConfigError, match=r"optim.learning_rate"):
        compose(["optim=mine"])
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="not a directory"):
        compose([])


LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
CHAIN = "a0: &a0 [ha]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 135))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (LAUGHS, "mine.yaml holds more than 10,000 values, with each alias (*name) counted in full"),
        (f"beta1: [{'1,' * 10_000}]", "mine.yaml holds more than 10,000 values"),
        (f"lr: {'1' * 2**20}", "mine.yaml has more than 1 MiB; write a shorter one."),
        ("lr: " + "[" * 100_000, "mine.yaml has more than 50 lists and mappings inside each other"),
        ("lr: &a [*a]", "mine.yaml contains *a inside &a, which never ends"),
        (CHAIN, "too many lists and mappings inside each other"),
        ("lr: [", "a configuration file is not valid YAML"),
        ("lr: *nowhere", "found undefined alias 'nowhere'"),
        (b"lr: \xff", "mine.yaml is not text in UTF-8"),
    ],
    ids=["laughs", "wide", "long", "deep", "inside itself", "chain", "cut off", "undefined", "binary"],
)
def test_a_file_that_holds_too_much_is_refused(
    content: str | bytes, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    assert compose().optim.lr == 0.01  # a file that is not asked for is not read
    with pytest.raises(ConfigError) as error:
        compose(["optim=mine"])
    assert sentence in str(error.value)


def test_aliases_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text("lr: &x 0.25\nmomentum: *x\n")
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    assert compose(["optim=mine"]).optim.momentum == 0.25


def test_of_files_with_one_name_that_of_the_first_directory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, lr in (("first", 0.25), ("second", 0.5)):
        (tmp_path / name / "optim").mkdir(parents=True)
        (tmp_path / name / "optim" / "sgd.yaml").write_text(f"name: sgd\nlr: {lr}\n")
        (tmp_path / name / "optim" / f"{name}.yaml").write_text("name: sgd\n")
    monkeypatch.setenv("BNEXP_CONFIG_PATH", os.pathsep.join(["", str(tmp_path / "first"), str(tmp_path / "second")]))
    assert compose().optim.lr == 0.25
    assert s.groups()["optim"] == ["adam", "first", "second", "sgd"]


@pytest.mark.parametrize(
    ("overrides", "unused"),
    [([], "hydra._internal.config_loader_impl.create_defaults_list"), (["optim.lr=1"], "yaml.load")],
    ids=["the same", "other values"],
)
def test_compositions_share_no_values_although_each_file_is_read_once(
    overrides: list[str], unused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s.session() as hydra:
        for _ in range(2):
            first = s.load(hydra.loader, ["study=batchnorm"])
            first.study.arms.none.append("optim.lr=1")
            first.hydra.run.dir = "elsewhere"
        monkeypatch.setattr(unused, lambda *_, **__: pytest.fail("a file was read, or the same composed, again"))
        again = s.load(hydra.loader, ["study=batchnorm", *overrides])
    assert again.study.arms.none == ["norm=none"]
    assert again.hydra.run.dir != "elsewhere"


def test_what_was_composed_before_is_composed_again_where_another_file_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    (tmp_path / "optim").mkdir()
    assert compose(["optim=sgd"]).optim.lr == 0.01
    for lr in (0.125, 0.25):
        (tmp_path / "optim" / "sgd.yaml").write_text(f"name: sgd\nlr: {lr}\n")
        assert compose(["optim=sgd"]).optim.lr == lr
    (tmp_path / "optim" / "sgd.yaml").unlink()
    assert compose(["optim=sgd"]).optim.lr == 0.01


def test_an_installed_package_has_its_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s, "PACKAGE", tmp_path / "bnexp")
    assert s.config_dirs() == [tmp_path / "configs"]
    (tmp_path / "bnexp" / "configs").mkdir(parents=True)
    assert s.config_dirs() == [tmp_path / "bnexp" / "configs"]


def test_a_task_gets_the_run_and_what_it_raises_comes_out_as_it_is() -> None:
    with s.session(["seed=7"]) as hydra:
        assert hydra.run(lambda tree: tree.seed).return_value == 7

        def failing(tree: DictConfig) -> None:
            raise ConfigError("the data are gone")

        with pytest.raises(ConfigError, match=r"^the data are gone$"):
            hydra.run(failing)


def learning_rate(tree: DictConfig) -> float:
    return float(tree.optim.lr)


def test_jobs_run_with_the_chosen_launcher_with_a_sweeper_and_without() -> None:
    with s.session(["optim.lr=0.1,0.2", "hydra/launcher=basic"]) as hydra:
        assert [job.return_value for job in hydra.multirun(learning_rate)] == [0.1, 0.2]
        master = s.load(hydra.loader, ["hydra/launcher=basic"], multirun=True)
        assert [job.return_value for job in hydra.launch(learning_rate, master, [["optim.lr=0.3"], ["optim.lr=0.4"]])] == [
            0.3,
            0.4,
        ]


class Callback:
    """A callback of the user's, as ``hydra.callbacks`` names it."""

    heard: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda **_: self.heard.append(name)


def test_the_users_callbacks_hear_of_jobs_that_no_sweeper_made() -> None:
    Callback.heard.clear()
    callback = f"+hydra.callbacks.mine={{_target_: {__name__}.Callback}}"
    with s.session([callback, "hydra/launcher=basic"]) as hydra:
        hydra.launch(learning_rate, s.load(hydra.loader, hydra.texts, multirun=True), [["optim.lr=0.3"]])
    assert Callback.heard == ["on_multirun_start", "on_job_start", "on_job_end", "on_multirun_end"]


NEEDED = {
    "callbacks.Callbacks": ["self", "config"],
    "callbacks.Callbacks.on_multirun_start": ["self", "config", "kwargs"],
    "callbacks.Callbacks.on_multirun_end": ["self", "config", "kwargs"],
    "config_loader_impl.ConfigLoaderImpl._apply_overrides_to_config": ["overrides", "cfg"],
    "config_loader_impl.ConfigLoaderImpl": ["self", "config_search_path"],
    "config_repository.ConfigRepository": ["self", "config_search_path"],
    "config_repository.ConfigRepository.load_config": ["self", "config_path"],
    "config_repository.ConfigRepository._find_object_source": ["self", "config_path", "object_type"],
    "core_plugins.file_config_source.FileConfigSource.is_config": ["self", "config_path"],
    "core_plugins.file_config_source.FileConfigSource.load_config": ["self", "config_path"],
    "core_plugins.file_config_source.FileConfigSource._normalize_file_name": ["filename"],
    "hydra.Hydra": ["self", "task_name", "config_loader"],
    "hydra.Hydra.run": ["self", "config_name", "task_function", "overrides", "with_log_configuration"],
    "hydra.Hydra.multirun": ["self", "config_name", "task_function", "overrides", "with_log_configuration"],
    "utils.create_config_search_path": ["search_path_dir"],
}


@pytest.mark.parametrize("name", NEEDED)
def test_hydra_still_has_what_bnexp_takes_from_its_inside(name: str) -> None:
    """What each is for stands in ``bnexp/plan/session.py``. Where this fails, a new Hydra has moved or changed it."""
    module, *path = re.split(r"\.(?=[A-Z]|_apply|_find|create_config|on_|is_|load_|_norm|run|multirun)", name)
    found: Any = importlib.import_module(f"hydra._internal.{module}")
    for part in path:
        assert hasattr(found, part), f"Hydra {hydra.__version__} has no hydra._internal.{name}: see bnexp/plan/session.py"
        found = getattr(found, part)
    parameters = list(inspect.signature(found.__init__ if inspect.isclass(found) else found).parameters)
    assert parameters == NEEDED[name], f"Hydra {hydra.__version__} calls hydra._internal.{name} in another way"


def test_hydras_inside_is_imported_in_three_places_only() -> None:
    inside = re.compile(r"^\s*(from|import) hydra\._internal", re.MULTILINE)
    files = [path for root in ("bnexp", "hydra_plugins") for path in Path(root).rglob("*.py")]
    assert {path.name for path in files if inside.search(path.read_text())} == {"session.py", "files.py", "user_files.py"}


def test_a_program_with_a_hydra_of_its_own_finds_it_again(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: 1\n")
    with hydra.initialize_config_dir(str(tmp_path), job_name="mine", version_base="1.2"):
        compose(["norm=batch"])
        assert str(hydra.version.getbase()) == "1.2"
        assert hydra.compose("mine") == {"a": 1}
        assert hydra.compose("mine", return_hydra_config=True).hydra.job.name == "mine"
