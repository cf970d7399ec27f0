"""Hydra's own options: those that are natural here do what they do there, and the others name what to use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Cli


@pytest.mark.parametrize("given", [["--config-dir", "{}"], ["--config-dir={}"], ["-cd", "{}"], ["-cd={}"]])
@pytest.mark.parametrize("first", [True, False])
def test_a_directory_of_ones_own_counts_before_the_others(
    given: list[str], first: bool, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, lr in (("typed", 0.125), ("set", 0.5)):
        (tmp_path / name / "optim").mkdir(parents=True)
        (tmp_path / name / "optim" / "mine.yaml").write_text(f"name: sgd\nlr: {lr}\n")
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path / "set"))
    monkeypatch.chdir(tmp_path)
    options = [option.format("typed") for option in given]
    order = [*options, "optim=mine"] if first else ["optim=mine", *options]
    shown = json.loads(cli("config", *order, "--json").out)
    assert shown["optim"]["lr"] == 0.125


def test_the_job_is_shown_as_config_shows_it(cli: Cli) -> None:
    job = cli("train", "norm=batch", "--cfg", "job")
    assert yaml.safe_load(job.out) == yaml.safe_load(cli("config", "norm=batch").out)
    assert yaml.safe_load(cli("train", "-c=job", "-p", "norm", "norm=batch").out)["kind"] == "batch"
    assert cli("train", "--package=optim.lr", "optim.lr=0.5", "--cfg=job").out == "0.5\n"
    both = yaml.safe_load(cli("train", "norm=batch", "--cfg", "all", "--package", "_global_").out)
    assert (both["norm"]["kind"], both["hydra"]["launcher"]["_target_"].rsplit(".", 1)[-1]) == ("batch", "CohortLauncher")


def test_hydras_own_keys_are_shown_with_their_values_if_asked(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(tmp_path))
    asked = ("train", "--cfg", "hydra", "-p", "hydra.run.dir")
    assert cli(*asked).out == "${oc.env:BNEXP_RUNS_DIR,runs}\n"
    assert cli(*asked, "--resolve").out == f"{tmp_path}\n"
    assert set(yaml.safe_load(cli("train", "-m", "seed=0,1", "--cfg", "hydra").out)) == {"hydra"}


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("train --cfg=none", "--cfg none is not possible: allowed are job, hydra, all."),
        ("train --cfg job --csv", "--csv does not go with --cfg; a configuration is printed as YAML, or as JSON with --json."),
        ("train --cfg job -p optim.rate", "--package optim.rate names no part of the configuration; see all with --cfg job."),
        (
            "train -m seed=0,1 --cfg job",
            "--cfg job shows one run; leave out -m, or list the runs of a multirun with --dry-run.",
        ),
        ("train --resolve", "--resolve goes with --cfg; add --cfg job."),
        ("train -p optim", "--package goes with --cfg; add --cfg job."),
        ("train --run -m", "--run and --multirun exclude each other; give one."),
        ("train --config-dir nowhere", "--config-dir nowhere is not a directory; name the one that holds your config groups."),
        ("train norm=batch --info", "bnexp train has no --info: bnexp doctor says what is installed"),
        ("train --info=plugins", "bnexp train has no --info: bnexp doctor says what is installed"),
        ("train -i all norm=batch", "bnexp train has no -i: bnexp doctor says"),
        ("train --hydra-help", "bnexp train has no --hydra-help: bnexp train --help lists the options"),
        ("train -cn=mine", "bnexp train has no -cn: the first file is always bnexp's own; put your values into a file"),
        ("train --config-name mine", "choose it: --config-dir DIR hparams_search=NAME."),
        ("train -cp conf", "bnexp train has no -cp: --config-dir DIR adds a directory of config groups."),
        ("train --experimental-rerun x", "bnexp train has no --experimental-rerun: the same command finds its finished runs"),
        ("train -sc install=bash", "bnexp train has no -sc: bnexp --install-completion installs it."),
        (
            "study batchnorm -m",
            "bnexp study has no -m: bnexp train -m runs a multirun; on a study, several values add a factor",
        ),
        ("study batchnorm --cfg job", "bnexp study has no --cfg: bnexp config study=NAME shows its configuration"),
        ("-m train", "-m stands before the command; write it behind: bnexp train ... -m."),
        ("--config-dir=x train", "--config-dir=x stands before the command; write it behind: bnexp train ... --config-dir=x."),
    ],
)
def test_an_option_that_bnexp_has_not_names_what_to_use(typed: str, sentence: str, cli: Cli) -> None:
    done = cli(*typed.split())
    assert done.code == 2
    assert done.err.startswith("Error: ")
    assert sentence in done.err
    assert done.err.count("\n") == 1
    assert not done.out


def test_run_is_what_happens_anyway(cli: Cli) -> None:
    assert cli("train", "--run", "data=digits", "--dry-run").out == cli("train", "data=digits", "--dry-run").out


def test_an_option_that_nobody_knows_is_no_option_of_hydras(cli: Cli) -> None:
    assert "there is no option --nonsense" in cli("--nonsense", "train").err
    assert "cannot read '--info'" in cli("train", "--dry-run", "--", "--info").err
