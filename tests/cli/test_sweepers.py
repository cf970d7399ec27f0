"""Multiruns whose sweeper searches, such as Optuna's: what the user sees of the trials, and what the sweeper is told."""

from __future__ import annotations

import json
import math
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

from bnexp.plan.search import Search
from bnexp.run.trials import Trials
from bnexp.tracking.store import Store
from tests.cli.conftest import Cli

QUICK = ("data=digits", "data.train_size=100", "train.epochs=1", "executor=inline")
SEEKER = "hydra_plugins.seeker.Seeker"
needs_optuna = pytest.mark.skipif(find_spec("optuna") is None, reason="needs the extra bnexp[optuna]")


class Seeker(Sweeper):
    """Tries points of ``optim.lr``, two at a time, and like Optuna's sweeper returns nothing and writes a file at the end."""

    told: ClassVar[list[float]] = []

    def __init__(self, points: list[float], raises: str | None, n_trials: int, params: Any) -> None:
        self.points, self.raises = list(points), raises

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.folder = Path(config.hydra.sweep.dir)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        parsed = OverridesParser.create().parse_overrides(arguments)
        fixed = [str(item.input_line) for item in parsed if not item.is_sweep_override()]
        for i in range(0, len(self.points), 2):
            jobs = self.launcher.launch([[f"optim.lr={lr}", *fixed] for lr in self.points[i : i + 2]], initial_job_idx=i)
            self.told.extend(job.return_value for job in jobs)
            if self.raises:
                raise {"ValueError": ValueError, "KeyboardInterrupt": KeyboardInterrupt}[self.raises]("there is no prior")
        (self.folder / "results.yaml").write_text("best: none")


@pytest.fixture
def seeking(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    node = {"_target_": SEEKER, "points": [0.001, 0.1, 0.01], "raises": None, "params": None, "n_trials": 3}
    ConfigStore.instance().store(group="hydra/sweeper", name="seeker", node=node)
    monkeypatch.setitem(Plugins.instance().class_name_to_class, SEEKER, Seeker)
    monkeypatch.setattr(Seeker, "told", [])
    return ("train", "-m", *QUICK, "hydra/sweeper=seeker", "optim.lr=interval(0.001,1)")


def test_a_search_shows_its_trials_and_the_best_of_them_with_the_command_that_measures_it_again(
    cli: Cli, seeking: tuple[str, ...]
) -> None:
    done = cli(*seeking, "norm=batch", "--json")
    rows = json.loads(done.out)
    assert [(row["trial"], row["optim.lr"], row["status"]) for row in rows] == [
        (1, 0.001, "finished"),
        (2, 0.1, "finished"),
        (3, 0.01, "finished"),
    ]
    assert [row["val/accuracy"] for row in rows] == [round(value, 4) for value in Seeker.told]
    best = max(rows, key=lambda row: row["val/accuracy"])
    assert [row["best"] for row in rows] == [row is best for row in rows]
    assert all((Path(row["path"]) / "summary.json").is_file() for row in rows)
    assert done.code == 0
    assert f"Best of 3 trials (largest val/accuracy): trial {best['trial']}, {100 * max(Seeker.told):.2f} %" in done.err
    assert "trial 1/3: optim.lr=0.001  val/accuracy" in done.err
    assert "The best of many looks better than it is: measure it again with fresh seeds." in done.err
    again = shlex.split(done.err.strip().splitlines()[-1])
    planned = json.loads(cli(*again[1:], "--dry-run", "--json").out)
    assert [(run["lr"], run["norm"], run["seed"], run["data"]) for run in planned] == [
        (best["optim.lr"], "batch after_pool", seed, "digits") for seed in range(1, 6)
    ]


def test_a_search_optimises_the_metric_that_is_named_in_its_own_direction(cli: Cli, seeking: tuple[str, ...]) -> None:
    done = cli(*seeking, "optimized_metric=val/loss", "--csv")
    rows = [line.split(",") for line in done.out.splitlines()]
    assert rows[0] == ["trial", "run", "optim.lr", "val/loss", "status", "best", "path"]
    losses = [float(row[3]) for row in rows[1:]]
    assert losses == [round(value, 4) for value in Seeker.told]
    assert [row[5] for row in rows[1:]] == [str(loss == min(losses)) for loss in losses]
    (best,) = [line for line in done.err.splitlines() if line.startswith("Best of 3 trials (smallest val/loss)")]
    assert f", {min(Seeker.told):.4g} with optim.lr=" in best

    assert "optimized_metric" not in done.err.splitlines()[-1]  # fresh seeds are compared in any metric

    wrong = cli(*seeking, "optimized_metric=val/acc_best")
    assert wrong.code == 2
    assert "optimized_metric=val/acc_best is not recorded by these runs. Did you mean val/accuracy? Allowed are" in wrong.err


def test_a_trial_that_diverged_is_told_as_the_worst_and_never_the_best(cli: Cli, seeking: tuple[str, ...]) -> None:
    done = cli(*seeking, "hydra.sweeper.points=[1e6,0.01]")
    assert Seeker.told[0] == -math.inf
    assert math.isfinite(Seeker.told[1])
    header, first, second = done.out.splitlines()
    assert header.split() == ["trial", "run", "lr", "val/accuracy", "status", "best"]
    assert first.split()[-1] == "diverged"
    assert second.split()[-1] == "*"
    assert "Best of 2 trials (largest val/accuracy): trial 2" in done.err
    one = cli(*seeking, "hydra.sweeper.points=[0.01]")
    assert "looks better than it is" not in one.err  # nothing was chosen
    none = cli(*seeking, "hydra.sweeper.points=[1e6]")
    assert "None of 1 trials has a val/accuracy: all failed or diverged." in none.err


def test_a_search_that_tried_nothing_says_nothing() -> None:
    assert Trials(search=Search("seeker", "val/loss", False, 3, [])).summary() == []
    assert Trials().summary() == []


@pytest.mark.parametrize(("raises", "code"), [("ValueError", 2), ("KeyboardInterrupt", 130)])
def test_a_search_that_ends_early_shows_the_trials_that_it_has(
    raises: str, code: int, cli: Cli, seeking: tuple[str, ...]
) -> None:
    done = cli(*seeking, f"hydra.sweeper.raises={raises}", "--json")
    assert [row["optim.lr"] for row in json.loads(done.out)] == [0.001, 0.1]
    assert "Best of 2 trials" in done.err
    assert done.code == code
    assert ("hydra/sweeper=seeker refuses: there is no prior" in done.err) == (raises == "ValueError")


def test_mistakes_of_a_search_are_named_before_anything_trains(cli: Cli, seeking: tuple[str, ...]) -> None:
    train, _, *others = seeking
    assert "hydra/sweeper=seeker searches among several runs; add -m" in cli(train, *others).err
    assert "the runs of a searching sweeper are not known before it runs" in cli(*seeking, "--dry-run").err
    assert "there is no key 'optim.learning_rate'" in cli(*seeking, "hydra.sweeper.params={optim.learning_rate: '1,2'}").err
    assert not list(Store().root.glob("*/*"))


def test_what_a_multirun_varies_is_a_column(cli: Cli) -> None:
    rows = json.loads(cli("train", "-m", *QUICK, "optim.momentum=0,0.5", "seed=0,1", "--json").out)
    assert [(row["optim.momentum"], row["seed"]) for row in rows] == [("0", 0), ("0", 1), ("0.5", 0), ("0.5", 1)]


SEARCH_FILE = """# @package _global_
train:
  log_every: 1
  batch_size: 32
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      optim.lr: 0.01,0.1
      norm: choice(none, batch)
"""


def test_a_file_of_ones_own_makes_a_multirun_and_says_what_it_varies(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BNEXP_CONFIG_PATH", "")  # undone by the test's end, as --config-dir sets it
    (tmp_path / "hparams_search").mkdir()
    (tmp_path / "hparams_search" / "mine.yaml").write_text(SEARCH_FILE)
    chosen = ("train", "--config-dir", str(tmp_path), "hparams_search=mine", *QUICK, "--json")
    planned = json.loads(cli(*chosen, "--dry-run").out)
    assert [(run["lr"], run["norm"].split()[0]) for run in planned] == [
        (0.01, "none"),
        (0.01, "batch"),
        (0.1, "none"),
        (0.1, "batch"),
    ]
    assert [row["run"] for row in json.loads(cli(*chosen).out)] == [run["run"] for run in planned]
    narrower = json.loads(cli(*chosen, "norm=group", "--dry-run").out)
    assert [(run["lr"], run["norm"].split()[0], run["batch_size"]) for run in narrower] == [
        (0.01, "group", 32),
        (0.1, "group", 32),
    ]
    (tmp_path / "hparams_search" / "mine.yaml").write_text(SEARCH_FILE.replace("params:", "n_trials: 3\n    params:"))
    other = cli(*chosen, "hydra/sweeper=basic")
    assert (other.code, other.err) == (
        2,
        "Error: hparams_search=mine sets hydra.sweeper.n_trials, which the sweeper that the command line chooses "
        "does not have: leave out hydra/sweeper=..., or hparams_search=mine.\n",
    )
    (tmp_path / "hparams_search" / "mine.yaml").write_text(SEARCH_FILE.replace("optim.lr", "model.optimizer.lr"))
    wrong = cli(*chosen)
    assert "hydra.sweeper.params of a configuration file: there is no key 'model.optimizer.lr'" in wrong.err


@needs_optuna
@pytest.mark.filterwarnings("ignore")  # Optuna 2.10 is older than the packages it uses
@pytest.mark.slow
def test_optuna_searches_as_the_shipped_file_says_and_goes_on_where_it_was(cli: Cli) -> None:
    search = ("train", "hparams_search=mnist_optuna", *QUICK, "--json")
    first = cli(*search, "hydra.sweeper.n_trials=2")
    rows = json.loads(first.out)
    assert first.code == 0
    assert list(rows[0]) == ["trial", "run", "norm", "optim.lr", "train.batch_size", "val/accuracy", "status", "best", "path"]
    assert sum(row["best"] for row in rows) == 1
    assert "A new study" not in first.err
    more = cli(*search, "hydra.sweeper.n_trials=4")
    assert json.loads(more.out)[0]["run"] == rows[0]["run"]
    assert [row["run"] for row in json.loads(more.out)[:2]] == [row["run"] for row in rows]
    assert len(list(Store().root.glob("train/*/summary.json"))) == len({row["run"] for row in json.loads(more.out)})
    worst = cli(*search, "optimized_metric=val/loss")
    assert "would look for the worst val/loss; give hydra.sweeper.direction=minimize" in worst.err


@needs_optuna
@pytest.mark.filterwarnings("ignore")  # Optuna 2.10 is older than the packages it uses
@pytest.mark.slow
def test_optuna_maximises_accuracies_and_repeats_its_trials_without_being_told(cli: Cli) -> None:
    empty = cli("train", "-m", *QUICK, "hydra/sweeper=optuna")
    assert "hydra/sweeper=optuna has nothing to vary; give a key values, as 'optim.lr=interval(0.01,0.1)'." in empty.err
    search = ("train", "-m", *QUICK, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "optim.lr=tag(log,interval(0.001,1))")
    first = cli(*search)
    assert "(largest val/accuracy)" in first.err
    assert cli(*search).out == first.out
    composed = json.loads(cli(*search, "--cfg", "hydra", "-p", "hydra.sweeper", "--json").out)
    assert (composed["direction"], composed["sampler"]["seed"]) == ("maximize", 0)
