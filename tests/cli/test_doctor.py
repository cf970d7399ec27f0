"""``bnexp doctor``: what stands in the way of training, and the line that removes it."""

from __future__ import annotations

import getpass
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import bnexp
from bnexp.run.health import examine, packages
from bnexp.run.health.importing import Tried, tried
from bnexp.tracking.store import Store
from tests.cli.conftest import Cli

CPU = {"threads": 1, "built_for": "CPU", "gpus": [], "mps": False}
NO_KEY = {"mode": "online", "base_url": "https://api.wandb.ai", "key": False}

Imports = Callable[..., None]


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> Imports:
    """``imports(torch=Tried("broken"))``: what came of importing packages; all others can be imported."""

    def come(**found: Tried) -> None:
        known = {"torch": Tried(facts=CPU), "wandb": Tried(facts=NO_KEY)} | found
        monkeypatch.setattr(examine, "tried", lambda *_: known)

    monkeypatch.setattr(packages, "requirements", lambda: {"torch": ">=2.6", "torchvision": ">=0.21", "polars": ">=1.0"})
    come()
    return come


def findings(cli: Cli, code: int = 0) -> dict[str, dict[str, Any]]:
    result = cli("doctor", "--json")
    page = json.loads(result.out)
    assert result.code == code
    assert page["ready"] is (code == 0)
    return {f"{finding['section']}/{finding['name']}": finding for finding in page["findings"]}


def test_broken_torch_torchvision_and_wandb_are_named_with_their_fix(tmp_path: Path, digits_cache: Path) -> None:
    for name in ("torch", "torchvision", "wandb"):
        (tmp_path / "stubs" / name).mkdir(parents=True)
        (tmp_path / "stubs" / name / "__init__.py").write_text(f"raise OSError('lib{name}.so: no such symbol')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "stubs"), *filter(None, sys.path)])}
    environment |= {"WANDB_MODE": "", "BNEXP_CACHE_DIR": str(digits_cache)}
    done = subprocess.run(
        [sys.executable, "-m", "bnexp", "doctor", "--json"], env=environment, capture_output=True, text=True, check=False
    )
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1
    assert found["torch"]["state"] == "blocks"
    assert "cannot be imported (OSError: libtorch.so: no such symbol); needed for training" in found["torch"]["found"]
    assert found["torch"]["fix"].startswith('pip install --force-reinstall "torch')
    for name, use in (("torchvision", "data=cifar10 and data=cifar100"), ("wandb", "Weights & Biases")):
        assert found[name]["state"] == "gap"
        assert found[name]["found"].endswith(f"needed for {use}")
    assert found["mode"]["found"] == "runs are recorded here only, because wandb cannot be imported"
    assert found["polars"]["state"] == "ok"
    assert "Traceback" not in done.stderr


def test_what_the_project_asks_for_is_known_by_the_name_it_is_imported_by() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    asked_for = [re.match(r"[\w.-]+", line) for line in project["dependencies"]]
    modules = [packages.module_of(name[0]) for name in asked_for if name]
    assert len(modules) > 10
    assert [name for name in modules if not name or importlib.util.find_spec(name) is None] == []


def test_a_healthy_machine_is_ready(cli: Cli, imports: Imports) -> None:
    found = findings(cli)
    assert found["software/bnexp"]["found"] == bnexp.__version__
    assert found["software/torch"]["found"] == f"{metadata.version('torch')} (supported: >=2.6)"
    assert found["software/torch and torchvision"]["state"] == "ok"
    assert found["data/digits"]["state"] == "ok"
    assert found["device/GPU"]["found"] == "none; runs train on the CPU"
    page = cli("doctor")
    assert page.code == 0
    assert page.err.endswith("Nothing stands in the way of training.\n")
    assert "bnexp study batchnorm data=digits" in page.out  # the fix of having no records


def test_what_blocks_is_said_last_with_its_fix(cli: Cli, imports: Imports) -> None:
    imports(polars=Tried("ImportError: wrong build"))
    result = cli("doctor")
    assert result.code == 1
    assert "No training is possible here:" in result.err
    assert result.err.splitlines()[-1] == '  pip install --force-reinstall "polars>=1.0"'


def test_a_version_outside_the_range_is_a_gap(cli: Cli, imports: Imports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "requirements", lambda: {"polars": ">=900,<901"})
    found = findings(cli)["software/polars"]
    assert found["found"] == f"{metadata.version('polars')} is not supported (supported: >=900,<901)"
    assert (found["state"], found["fix"]) == ("gap", 'pip install "polars>=900,<901"')


@pytest.mark.parametrize(("torch", "state"), [("2.6.0+cpu", "ok"), ("2.7.0", "gap")])
def test_torchvision_belongs_to_one_torch(
    cli: Cli, imports: Imports, monkeypatch: pytest.MonkeyPatch, torch: str, state: str
) -> None:
    version, requires = metadata.version, metadata.requires
    monkeypatch.setattr(metadata, "version", lambda name: torch if name == "torch" else version(name))
    monkeypatch.setattr(
        metadata, "requires", lambda name: ["numpy", "torch (==2.6.0)"] if name == "torchvision" else requires(name)
    )
    found = findings(cli)["software/torch and torchvision"]
    assert found["state"] == state
    assert ("do not match" in found["found"]) is (state == "gap")
    assert found["fix"] == ("" if state == "ok" else "pip install --upgrade torch torchvision")


def test_extras_are_named_with_their_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["torch>=2.6", 'nowhere-launcher>=1.2; extra == "joblib"', "ray>=2; extra == 'dev'", "bnexp[ray]; extra == 'dev'"]
    monkeypatch.setattr(packages, "_required", lambda: lines)
    (extra,) = [finding for finding in packages.package_findings({}) if finding.name.startswith("extra")]
    assert (extra.name, extra.state) == ("extra joblib", "option")
    assert extra.found == "not installed; only for hydra/launcher=joblib"
    assert extra.fix == 'pip install "nowhere-launcher>=1.2"'
    assert packages.requirements() == {"torch": ">=2.6"}
    monkeypatch.setattr(packages, "_required", lambda: ["hydra-core>=1; extra == 'optuna'", "pillow<2; extra == 'optuna'"])
    (extra,) = [finding for finding in packages.package_findings({}) if finding.name.startswith("extra")]
    assert extra.found == f"pillow {metadata.version('pillow')} is not supported; only for hydra/sweeper=optuna"
    assert (extra.state, extra.fix) == ("option", 'pip install "pillow<2"')


@pytest.mark.parametrize(
    ("facts", "smi", "state", "text"),
    [
        ({"gpus": [["H100", 80 * 2**30]], "built_for": "CUDA 12.4"}, True, "ok", "H100, 80 GiB"),
        ({"built_for": "CPU"}, True, "gap", "not used: this torch is built for the CPU alone"),
        ({"built_for": "CUDA 12.4"}, True, "gap", "not used: torch is built for CUDA 12.4 and finds no GPU"),
        ({"mps": True}, False, "ok", "Apple (mps)"),
    ],
)
def test_a_gpu_is_found_or_it_is_said_why_not(
    cli: Cli, imports: Imports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: Any, smi: bool, state: str, text: str
) -> None:
    if smi:
        (tmp_path / "nvidia-smi").touch(mode=0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
    imports(torch=Tried(facts=CPU | facts))
    found = next(finding for name, finding in findings(cli).items() if name.startswith("device/GPU"))
    assert found["state"] == state
    assert found["found"].startswith(text)


@pytest.mark.parametrize(
    ("variables", "facts", "mode", "login"),
    [
        ({"WANDB_MODE": ""}, {}, "offline, because no key is configured", "option"),
        ({"WANDB_MODE": "", "WANDB_API_KEY": "k" * 40}, {}, "online, because a key is configured", "ok"),
        ({"WANDB_MODE": "online"}, {}, "online, by WANDB_MODE", "gap"),
        ({"WANDB_MODE": ""}, {"mode": "offline"}, "offline, by W&B's own settings", "option"),
        ({"WANDB_MODE": "disabled"}, {}, "disabled, by WANDB_MODE", "option"),
    ],
)
def test_where_runs_go_is_said_with_the_setting_that_decides(
    cli: Cli, imports: Imports, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], facts: Any, mode: str, login: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    imports(wandb=Tried(facts=NO_KEY | facts))
    found = findings(cli)
    assert found["Weights & Biases/mode"]["found"] == mode
    assert found["Weights & Biases/login"]["state"] == login
    assert found["Weights & Biases/login"]["fix"] == ("" if login == "ok" else "wandb login")


def test_a_wrong_wandb_mode_stands_in_the_way(cli: Cli, imports: Imports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "onlin")
    assert findings(cli, code=1)["Weights & Biases/mode"]["fix"] == "unset WANDB_MODE"


def test_runs_that_wait_for_upload_are_counted(
    cli: Cli, imports: Imports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    for name in ("offline-run-1", "offline-run-2", "offline-run-3"):
        (tmp_path / "wandb" / name).mkdir(parents=True)
    (tmp_path / "wandb/offline-run-2/run-2.wandb.synced").touch()
    found = findings(cli)["Weights & Biases/runs"]
    assert found["found"] == "2 recorded offline and not uploaded"
    assert found["fix"] == f"wandb sync '{tmp_path / 'wandb'}'/offline-run-*"


def test_directories_that_cannot_be_used_stand_in_the_way(
    cli: Cli, imports: Imports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(tmp_path / "file"))
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(tmp_path / "new" / "cache"))
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path / "nowhere"))
    monkeypatch.setenv("BNEXP_RUN_DIR", "x")
    found = findings(cli, code=1)
    assert (found["directories/runs"]["state"], found["directories/runs"]["fix"]) == (
        "blocks",
        'export BNEXP_RUNS_DIR="$HOME/bnexp-runs"',
    )
    assert "will be made" in found["directories/cache"]["found"]
    assert not (tmp_path / "new").exists()
    assert found["directories/configs"]["fix"] == f"mkdir -p {tmp_path / 'nowhere'}"
    assert found["directories/BNEXP_RUN_DIR"]["found"] == "is not a variable of bnexp. Did you mean BNEXP_RUNS_DIR?"


def test_data_is_ready_or_raw_or_has_a_line_that_gets_it(
    cli: Cli, imports: Imports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("BNEXP_DATA_DIR", str(tmp_path))
    (tmp_path / "cache/packed/kmnist-32-v1").mkdir(parents=True)
    (tmp_path / "cache/packed/kmnist-32-v1/meta.json").touch()
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "train_32x32.mat").touch()  # half of svhn
    found = {name.split("/")[1]: finding for name, finding in findings(cli).items() if name.startswith("data/")}
    assert {name: finding["found"].split(";")[0] for name, finding in found.items()} == {
        "digits": "part of bnexp",
        "mnist": "not here",
        "fashion_mnist": "not here",
        "kmnist": "ready",
        "cifar10": "raw files are there",
        "cifar100": "not here",
        "svhn": "not here",
    }
    assert found["svhn"]["fix"] == "bnexp data svhn"


def test_records_are_counted_and_damaged_ones_named(cli: Cli, imports: Imports) -> None:
    for name, file, text in (("aa", "failure.json", '{"error": "x"}'), ("bb", "config.yaml", ""), ("cc", "summary.json", "{")):
        folder = Store().root / "train" / name
        folder.mkdir(parents=True)
        (folder / file).write_text(text)
    found = findings(cli)
    assert found["records/runs"]["found"] == "1 failed, 1 not finished"
    assert found["records/cc"]["state"] == "gap"
    assert found["records/cc"]["found"].startswith("damaged: it is no JSON")
    assert found["records/cc"]["fix"] == f'mv {Store().root.absolute() / "train/cc"} "$HOME/"'


@pytest.mark.parametrize(
    ("shell", "file"),
    [("bash", ".bash_completions/bnexp.sh"), ("zsh", ".zfunc/_bnexp"), ("fish", ".config/fish/completions/bnexp.fish")],
)
def test_completion_is_found(
    cli: Cli, imports: Imports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, file: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    assert findings(cli)["shell/completion"]["fix"] == "bnexp --install-completion"
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    assert findings(cli)["shell/completion"]["found"] == f"installed for {shell}"


def test_a_report_names_nobody(cli: Cli, imports: Imports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, key = tmp_path / "home" / "mallory", "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USER", "mallory")
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("HUB_TOKEN", "short-token")
    monkeypatch.setattr(platform, "node", lambda: "gpu07.example.org")
    monkeypatch.setattr(getpass, "getuser", lambda: "mallory")
    problem = f"OSError: {home}/venv/lib/libtorch.so: mallory on gpu07, see https://gpu07.example.org/a {key} short-token | x"
    imports(torch=Tried(problem))
    result = cli("doctor", "--report")
    assert result.code == 1
    assert "| torch | blocks |" in result.out
    assert ".../libtorch.so" in result.out
    assert f"| {bnexp.__version__} |" in result.out
    assert "supported: >=2.6" not in result.out.split("| torch |")[1].splitlines()[0]
    assert r"\| x" in result.out
    for private in ("mallory", "gpu07", "example.org", key, "short-token", str(tmp_path), str(Path.cwd())):
        assert private not in result.out, private


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("carol and carolina", "... and carolina"),  # USER
        ("dan and his data", "... and his data"),  # LOGNAME, as short as a name can be that is taken out
        ("of erin", "of ..."),  # the home directory
        ("of frank", "of ..."),  # the system's name of the user
        ("on node7.lab: node7", "on ...: ..."),
        ("of al", "of al"),  # of two letters: more words than names
        (f"id {'q1' * 16}.", "id ...."),
        (f"id {'q' * 31}", f"id {'q' * 31}"),
        ("in /srv/deep/a.so: ~/b, C:\\Users\\x and hydra/launcher", "in .../a.so: .../b, .../x and hydra/launcher"),
        ("at https://host.example/api", "at https:/.../api"),
    ],
)
def test_names_and_places_are_taken_out(monkeypatch: pytest.MonkeyPatch, text: str, left: str) -> None:
    for name, value in (("USER", "carol"), ("LOGNAME", "dan"), ("HOME", "/home/erin"), ("MY_KEY", "al")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(getpass, "getuser", lambda: "frank")
    monkeypatch.setattr(platform, "node", lambda: "node7.lab")
    assert examine.without_names(text) == left


def test_gaps_are_counted_at_the_end(cli: Cli, imports: Imports) -> None:
    imports(torchvision=Tried("ImportError: x"), wandb=Tried("ImportError: y"))
    assert cli("doctor").err.splitlines()[-2:] == [
        "Nothing stands in the way of training.",
        "2 gaps: torchvision, wandb.",
    ]


@pytest.mark.parametrize(
    ("function", "section"),
    [
        ("package_findings", "software"),
        ("device_findings", "device"),
        ("wandb_findings", "Weights & Biases"),
        ("data_findings", "data"),
        ("directory_findings", "directories"),
        ("record_findings", "records"),
        ("completion_finding", "shell"),
    ],
)
def test_a_part_that_breaks_costs_no_other(
    cli: Cli, imports: Imports, monkeypatch: pytest.MonkeyPatch, function: str, section: str
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr(examine, function, broken)
    found = findings(cli)
    assert found[f"{section}/{section}"]["found"] == "cannot be looked at (RuntimeError: odd)"
    assert found[f"{section}/{section}"]["state"] == "gap"
    assert len({name.split("/")[0] for name in found}) == 7


def test_one_format_at_a_time(cli: Cli) -> None:
    assert "--json and --report exclude each other" in cli("doctor", "--json", "--report").err


def test_packages_are_imported_by_the_names_that_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "requirements", lambda: dict.fromkeys(["torch", "pillow", "polars", "odd-name"], ""))
    assert packages.module_groups() == [["torch"], ["torchvision"], ["wandb"], ["PIL", "polars"]]
    monkeypatch.setattr(packages, "version_of", lambda name: "1.0")
    (odd,) = [finding for finding in packages.package_findings({}) if finding.name == "odd-name"]
    assert (odd.state, odd.found) == ("ok", "1.0")


def test_it_says_which_packages_it_waits_for() -> None:
    told: list[list[str]] = []
    found = tried([["json"], ["no_such_package", "csv"]], lambda names: told.append(list(names)))
    assert sorted(name for name, tried in found.items() if not tried.error) == ["csv", "json"]
    assert told[0] == ["json", "no_such_package", "csv"]
    assert told[1] in (["json"], ["no_such_package", "csv"])
    assert told[2:] == [[]]
