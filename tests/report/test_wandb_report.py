"""``bnexp report --wandb``: the workspace and the report that W&B receives, and what is said if none can be made."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_reports
import pytest

from bnexp.cli import commands
from bnexp.comparison.conclude import conclude
from bnexp.comparison.record import load
from bnexp.config.schema import ConfigError, WandbConfig
from bnexp.report import sections, wandb_report
from bnexp.report.sections import Report
from bnexp.tracking.store import Store
from tests.tracking.conftest import wandb_home, wandb_server  # noqa: F401
from tests.tracking.standin import Standin

pytestmark = [
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning"),  # wandb's own
    pytest.mark.filterwarnings("ignore:Pydantic V1 style"),  # of wandb-workspaces
]
HOSTILE = "Is <img src=x onerror=alert(1)> | [better](javascript:alert(1))?"
Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of two arms, two levels and one seed, whose question is hostile."""
    root = tmp_path_factory.mktemp("runs")
    plan = made_reports.learning_rate()
    plan.study.seeds, plan.study.factors, plan.study.question = 1, {"optim.lr": [0.01, 0.3]}, HOSTILE
    plan.failed = set()
    result, _ = made_reports.record(plan, root)
    record = made_reports.study_record(plan, result, root)
    record = dataclasses.replace(record, folder=root / plan.study.name / f"study-{result.study_id}")
    record.save()
    record.save_verdict(result)
    return record.folder


@pytest.fixture
def ask(study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(study.parents[1]))
    (study / "report.html").unlink(missing_ok=True)

    def typed(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bnexp", "report", *arguments])
        code = commands.run()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return typed


@pytest.fixture
def needs_library() -> None:
    pytest.importorskip("wandb_workspaces", reason="the extra reports is not installed")


def filtered(run_set: dict[str, Any]) -> tuple[str, set[str]]:
    """The group and the ids of the runs that a run set shows, one line per arm."""
    assert run_set["grouping"] == [{"section": "config", "name": "arm.value"}]
    group, ids = run_set["filters"]["filters"]
    assert (group["key"], group["op"]) == ({"section": "run", "name": "group"}, "=")
    assert (ids["key"], ids["op"], ids["connector"]) == ({"section": "run", "name": "name"}, "IN", "AND")
    return group["value"], set(ids["value"])


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("needs_library")
def test_a_report_and_a_workspace_by_arm_show_the_runs_of_the_study(ask: Ask, study: Path, wandb_server: Standin) -> None:  # noqa: F811
    name = study.parent.name
    code, out, err = ask(name, "--wandb", "--json")
    assert code == 0, err
    told = json.loads(out)
    links = told["wandb"]
    assert err.splitlines()[-2:] == [f"W&B workspace: {links['workspace']}", f"W&B report: {links['report']}"]
    space, report = sorted(wandb_server.views.values(), key=lambda view: view.kind)
    assert links["report"].endswith(f"/somebody/bnexp/reports/{name}--{report.id}")
    runs = {run.name: run for run in wandb_server.runs.values() if run.job_type != "study"}
    assert len(runs) == 4

    section = space.spec["section"]
    assert filtered(section["runSets"][0]) == (name, set(runs))
    columns = section["runSets"][0]["runFeed"]["columnOrder"]
    assert columns[1:] == ["config:arm.value", "config:levels.value.optim_lr", "config:seed.value", "summary:test/accuracy"]
    panels: dict[str, list[dict[str, Any]]] = {}
    for panel in [panel for part in section["panelBankConfig"]["sections"] for panel in part["panels"]]:
        panels.setdefault(panel["viewType"], []).append(panel["config"])
    curves = {config["metrics"][0]: config for config in panels["Run History Line Plot"]}
    assert set(curves) == {"val/accuracy", "train/loss", "val/loss", "train/accuracy", "learning_rate"}
    assert {(c["xAxis"], c["groupBy"], c["groupAgg"], c["groupArea"]) for c in curves.values()} == {
        ("epoch", "arm.value", "mean", "minmax")
    }
    (bar,) = panels["Bar Chart"]
    assert (bar["metrics"], bar["groupBy"]) == (["test/accuracy"], "arm.value")
    (parallel,) = panels["Parallel Coordinates Plot"]
    accessors = [column["accessor"] for column in parallel["columns"]]
    assert accessors == ["config:arm.value", "config:levels.value.optim_lr", "summary:test/accuracy"]
    for run in runs.values():  # what the panels name is what the runs have
        assert set(curves) - {"learning_rate"} <= {key for row in run.history for key in row}
        assert {"arm", "levels"} <= set(run.config)
        assert isinstance(run.summary["test/accuracy"], float)

    blocks = report.spec["blocks"]
    assert blocks[1]["children"] == [{"text": HOSTILE}]  # text, which W&B does not read as Markdown
    assert told["answer"] in blocks[2]["children"][0]["children"][0]["text"]
    tables = "\n".join(block["content"] for block in blocks if block["type"] == "markdown-block")
    assert "ESTIMATE" in tables
    assert "1.00 to 1.00" not in tables
    shown = [filtered(block["metadata"]["runSets"][0]) for block in blocks if block["type"] == "panel-grid"]
    best = {name for name, run in runs.items() if run.config["levels"] == {"optim_lr": 0.01}}
    assert shown == [(name, best), (name, best), (name, set(runs))]  # curves and bars at the best level, factors over all
    text = json.dumps(blocks)
    assert f'"bnexp study {name}"' in text
    for url in (links["workspace"], f"/artifacts/report/report-{told['study_id']}/v0/files/report.html"):
        assert url in text, err

    sent = dict(wandb_server.requests)
    assert ask(name, "--wandb")[0] == 0
    assert [view.saved for view in wandb_server.views.values()] == [2, 2]
    assert wandb_server.requests["UpsertBucket"] == sent["UpsertBucket"]  # no run is sent again

    wandb_server.faults.fail(403, on=["UpsertView2"], message="no more workspaces")
    code, _, err = ask(name, "--wandb")
    assert code == 1
    assert err.splitlines()[-1].startswith("Error: W&B did not take the report (")
    assert "no more workspaces" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("missing", "mode", "arguments", "told"),
    [
        (
            True,
            "",
            [],
            "Error: --wandb needs the package wandb-workspaces, which is not installed here: pip install 'bnexp[reports]'.",
        ),
        (False, "offline", [], "Error: a W&B report is made on the server, but WANDB_MODE=offline: log in with `wandb login`"),
        (
            False,
            "disabled",
            [],
            "Error: a W&B report is made on the server, but WANDB_MODE=disabled: log in with `wandb login`",
        ),
        (False, "", [], "Error: a W&B report is made on the server, and no API key is configured: log in with `wandb login`."),
        (False, "", ["--book"], "Error: --wandb takes neither --book nor --metric"),
        (False, "", ["--metric", "test/loss"], "Error: --wandb takes neither --book nor --metric"),
    ],
)
def test_without_package_or_login_nothing_is_made(
    missing: bool,
    mode: str,
    arguments: list[str],
    told: str,
    ask: Ask,
    study: Path,
    wandb_home: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wandb_report, "find_spec", lambda name: None if missing else object())
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    code, out, err = ask("--wandb", *arguments)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith(told)
    assert not (study / "report.html").exists()
    assert not wandb_home.exists()


@pytest.mark.usefixtures("needs_library")
def test_several_studies_stand_under_a_table_of_their_answers(reports: Callable[[str], Report]) -> None:
    from bnexp.report.wandb_blocks import blocks
    from bnexp.report.wandb_panels import Held

    first, second = reports("batchnorm"), reports("conv_bias")
    hostile = dataclasses.replace(first, result=dataclasses.replace(first.result, answer=HOSTILE))
    held = [Held(report.title, {o.run_id: o.run_id for o in report.result.outcomes}, 0) for report in (first, second)]
    shown = blocks([(hostile, held[0], "https://w/1"), (second, held[1], "https://w/2")], "", "bnexp")
    made = [block._to_model().model_dump(by_alias=True, exclude_none=True) for block in shown]
    assert [block["children"][0]["text"] for block in made if block.get("level") == 1] == [first.title, second.title]
    answers = next(block["content"] for block in made if block["type"] == "markdown-block")
    assert r"Is \<img src=x onerror=alert(1)\> \| \[better\](javascript:alert(1))?" in answers
    grids = [block["metadata"]["runSets"][0] for block in made if block["type"] == "panel-grid"]
    assert {filtered(grid)[0] for grid in grids} == {first.title, second.title}
    levels = {o.run_id for o in second.result.outcomes if o.level == second.focus}
    assert [filtered(grid)[1] for grid in grids if filtered(grid)[0] == second.title] == [levels, levels, set(held[1].runs)]


@pytest.mark.usefixtures("needs_library")
def test_only_runs_of_the_study_are_shown_and_those_that_are_lacking_are_counted(study: Path) -> None:
    class Api:
        def runs(self, path: str, filters: dict[str, str], per_page: int) -> list[SimpleNamespace]:
            assert (path, filters) == ("me/bnexp", {"group": record.study.name})
            return [
                SimpleNamespace(id=name, state=state, url=f"https://w/runs/{name}")
                for name, state in [
                    (f"{ids[0]}-0d88fd-9f", "crashed"),
                    (f"{ids[0]}-0d88fd", "finished"),
                    (f"{ids[1]}-0d88fd' or True", "finished"),
                    ("f00-0d88fd", "finished"),
                    (f"study-{record.study_id}", "finished"),
                ]
            ]

        def artifact(self, name: str) -> SimpleNamespace:
            assert name == f"me/bnexp/report-{record.study_id}:latest"
            return SimpleNamespace(version="v3")

    record = load(study)
    store = Store(study.parents[1])
    ids = [run.run_id for run in record.runs]
    report = sections.build(record, conclude(record, store), store, facts=None, images=None)
    session: Any = SimpleNamespace(config=WandbConfig())
    held = wandb_report._held(record, report, session, Api(), "me/bnexp")  # type: ignore[arg-type]
    assert held.runs == {ids[0]: f"{ids[0]}-0d88fd"}
    assert (held.planned, held.lacking) == (4, 3)
    assert held.page == f"https://w/runs/study-{record.study_id}"
    assert held.report == f"https://w/artifacts/report/report-{record.study_id}/v3/files/report.html"
    session.config = WandbConfig(group="a' or 'b")
    with pytest.raises(ConfigError, match="has characters that the filter of a W&B report cannot hold"):
        wandb_report._held(record, report, session, Api(), "me/bnexp")  # type: ignore[arg-type]


def test_the_same_studies_in_another_order_are_the_same_report() -> None:
    assert (
        wandb_report.mark_of(["norm-2", "bias-1"]) == wandb_report.mark_of(["bias-1", "norm-2"]) == "bnexp report bias-1 norm-2"
    )
