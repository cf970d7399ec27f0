"""``bnexp study``: a controlled comparison: arms x factors x seeds, then verdict table and report."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bnexp.cli import complete
from bnexp.cli.output import (
    CsvFlag,
    Format,
    JsonFlag,
    MdFlag,
    message,
    pick_format,
    print_json,
    print_rows,
    stderr,
    stdout,
    table_width,
)
from bnexp.config.schema import ConfigError, StudyConfig, WandbConfig
from bnexp.config.validate import resolve_seeds
from bnexp.plan.study import fitting, jobs, pretraining_job, trained, tuning_jobs

if TYPE_CHECKING:
    from bnexp.compare.record import StudyRecord
    from bnexp.compare.result import StudyResult
    from bnexp.plan.compose import StudyPlan
    from bnexp.tracking.store import Store

SOME_FAILED = 3


def study(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Which study; without it: the list.", autocompletion=complete.studies)
    ] = None,
    overrides: complete.Overrides = None,
    every: Annotated[bool, typer.Option("--all", help="Run every study in turn, then write the book of claims.")] = False,
    budget: Annotated[
        str | None, typer.Option(metavar="NAME", help="The same as the override budget=NAME.", autocompletion=complete.budgets)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and what they take; train none.")] = False,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
) -> None:
    """Run a controlled comparison and say what it shows. Finished runs are never repeated.

    An override with several values (optim.lr=0.01,0.1) becomes a factor. Example: bnexp study batchnorm data=digits
    """
    format = pick_format(json, csv, md)
    chosen = [*(overrides or []), *([f"budget={budget}"] if budget else [])]
    if every:
        from bnexp.cli.book import run_all

        if name is not None and "=" not in name:
            raise ConfigError(f"--all runs every study: leave out {name}, or leave out --all.")
        run_all([*([name] if name else []), *chosen], dry_run, format)
        return
    if name is None:
        _list_studies(format, chosen)
        return
    if "=" in name:
        raise ConfigError(f"{name} is an override, but the study's name comes first: bnexp study batchnorm {name}.")
    from bnexp.tracking.store import Store

    store = Store()
    if dry_run:
        from bnexp.plan.compose import expand_study
        from bnexp.tracking.initial import resolve_starts

        _print_plan(expand_study(resolve_starts([f"study={name}", *chosen], store)), store, format)
        return
    record, wandb = run_study(name, chosen, store, format)
    if went_wrong(show_verdict_and_report(record, store, format, wandb)):
        raise typer.Exit(SOME_FAILED)


def run_study(name: str, overrides: list[str], store: Store, format: Format) -> tuple[StudyRecord, WandbConfig | None]:
    """Record a study's question, then train what has no record yet; with how to log it, if it has not been concluded before.

    Raises ConfigError for a study that cannot run.
    """
    from bnexp.compare.record import from_plan
    from bnexp.plan.compose import expand_study
    from bnexp.run.arrange import prepare_workers
    from bnexp.tracking.initial import resolve_starts

    prepare_workers()
    chosen = resolve_starts([f"study={name}", *overrides], store)
    plan = _tuned(expand_study(chosen), chosen, store, format)
    record = from_plan(plan, overrides, store)
    published_before = (record.folder / "verdict.json").exists()
    record.save()
    if _announce(plan, store):
        _train(plan, chosen, store)
        published_before = False
    return record, None if published_before else plan.configs[0].track.wandb


def _train(plan: StudyPlan, chosen: list[str], store: Store) -> None:
    """Train the runs of a study: by Hydra, unless its launcher is the one that would compose all of them again for this."""
    from bnexp.plan.compose import launch
    from bnexp.plan.spec import RunSpec
    from bnexp.run import runner

    if plan.launcher == "cohort":
        runner.run([RunSpec(config) for phase in plan.runs.phases for config in phase.configs], store)
    else:
        launch(runner.run_job, chosen, multirun=True)


def _tuned(plan: StudyPlan, chosen: list[str], store: Store, format: Format) -> StudyPlan:
    """The plan with the tuned values, where the study tunes one; what was chosen is printed beside the verdict's table."""
    from bnexp.compare.tuned import tuning_rows
    from bnexp.plan.compose import launch
    from bnexp.run.runner import run_job
    from bnexp.run.tuning import tune

    def train(jobs: list[list[str]]) -> None:
        message(f"tuning {plan.study.tune.setting} first: {len(jobs)} runs, and more where a best value lies at the edge")
        launch(run_job, [*chosen, "hydra.sweeper.only_tuning=true"], multirun=True)

    plan = tune(plan, store, train)
    if format is Format.table:
        print_rows(tuning_rows(plan.choices), format)
    return plan


def _announce(plan: StudyPlan, store: Store) -> bool:
    """Say on stderr what will run; whether anything is left to train."""
    from bnexp.plan.spec import RunSpec, unique
    from bnexp.run.forecast import duration_text, estimate_seconds
    from bnexp.run.runner import unfinished

    own = unique([RunSpec(config) for config in plan.configs])
    first = [RunSpec(config) for config in plan.runs.pretraining.configs] if plan.runs.pretraining else []
    specs = [*first, *own]
    todo = unfinished(specs, store)
    seconds = estimate_seconds(todo, store)
    stderr().print(plan.study.question, style="bold", markup=False)
    known = f", {len(specs) - len(todo)} finished before" if len(todo) < len(specs) else ""
    time_left = f", about {duration_text(seconds)}" if todo and seconds is not None else ""
    arms = ", ".join(plan.study.arms)
    after = f", after {len(first)} that they start from" if first else ""
    read = f", {len(plan.configs)} readings" if len(own) < len(plan.configs) else ""
    what = f"{len(own)} run{'s' * (len(own) != 1)}{read}: {arms}{_times(plan.study)}"
    message(f"{what}{after}{known}{time_left}; study {plan.study.name}-{plan.study_id}")
    if plan.note:
        message(plan.note)
    return bool(todo)


def _times(study: StudyConfig) -> str:
    factors = "".join(f" x {len(levels)} {name}" for name, levels in study.factors.items())
    count = len(resolve_seeds(study.seeds))
    return f"{factors} x {count} seed{'s' if count > 1 else ''}"


def went_wrong(result: StudyResult) -> bool:
    """Whether a run failed, is missing or damaged, or diverged where the study does not look for the rate at which runs do."""
    from bnexp.compare.analyses import ANALYSES

    expected = {"diverged"} if ANALYSES[result.study["analysis"]].expects_divergence else set()
    bad = {"failed", "missing", "damaged", "diverged"} - expected
    return any(outcome.status in bad for outcome in result.outcomes)


def show_verdict_and_report(record: StudyRecord, store: Store, format: Format, wandb: WandbConfig | None = None) -> StudyResult:
    """Print the verdict first, then draw the report, which takes some seconds, and say where it lies."""
    from bnexp.compare.conclude import conclude

    result = conclude(record, store)
    print_result(result, format)
    from bnexp.report.publish import publish

    for line in publish(record, result, store, wandb):
        message(line)
    return result


def print_result(result: StudyResult, format: Format) -> None:
    """The verdict on stdout: answer and tables, or the data behind them."""
    from bnexp.compare.tables import arm_rows, comparison_rows

    if format is Format.json:
        print_json(result.to_dict())
        return
    arms, comparisons = arm_rows(result), comparison_rows(result)
    if format is Format.csv:
        print_rows([asdict(comparison) for comparison in result.comparisons], format)
        return
    if format is Format.md:
        print_rows(comparisons, format)
        return
    out = stdout()
    out.print(f"\n{result.answer}\n", style="bold", markup=False, soft_wrap=not out.is_terminal)
    print_rows(arms, format, right=[name for name in arms[0] if name not in ("arm", "level")] if arms else ())
    out.print()
    tables = [[{name: row[name] for name in columns if name in row} for row in comparisons] for columns in TERMINAL_COLUMNS]
    shown = next((table for table in tables if table_width(table) <= out.width), tables[-1])
    print_rows(shown, format, right=("n", "difference", "95 % interval", "p adjusted", "p sign flip", "d_z", "n needed"))
    settings = "  ".join(f"{name}={value}" for name, value in result.settings.items())
    for line in (f"\nHeld fixed: {settings}", *(f"- {line}" for line in (*result.unpaired, *result.notes))):
        out.print(line, style="dim", markup=False, soft_wrap=not out.is_terminal)


# Columns of a comparison: the first of these that fit the terminal. All there is is in --json, --csv, --md and the report.
_NAMES = ("arm", "baseline", "level", "measure")
TERMINAL_COLUMNS = (
    (*_NAMES, "n", "difference", "95 % interval", "p adjusted", "p sign flip", "d_z", "n needed", "verdict"),
    (*_NAMES, "difference", "95 % interval", "p adjusted", "verdict"),
    (*_NAMES, "difference", "verdict"),
)


def _print_plan(plan: StudyPlan, store: Store, format: Format) -> None:
    from bnexp.cli.forecast import print_dry_run
    from bnexp.cli.planned import planned_rows, planned_runs
    from bnexp.run.forecast import duration_text, estimate_seconds

    rows = planned_rows(plan, store)
    message(f"{plan.study.name}-{plan.study_id}: {plan.study.question}")
    specs = planned_runs(plan)
    print_dry_run(rows, specs, store, format)
    todo = [spec for spec, row in zip(specs, rows, strict=True) if row["state"] != "finished"]
    seconds = estimate_seconds(todo, store)
    if plan.note:
        message(plan.note)
    message(f"{len(rows)} runs, {len(todo)} to train" + (f", about {duration_text(seconds)}" if seconds is not None else ""))


def _list_studies(format: Format, overrides: list[str]) -> None:
    from bnexp.data.download import DataError
    from bnexp.plan.compose import compose, groups
    from bnexp.plan.spec import RunSpec
    from bnexp.run.forecast import changed, duration_text, estimate_seconds
    from bnexp.tracking.store import Store

    store = Store()
    rows = []
    for name in groups().get("study", []):
        try:
            spec = RunSpec(compose([f"study={name}", *overrides]))
            study = spec.config.study
            study.factors, _ = fitting(study, spec.config.data)
        except (ConfigError, DataError) as error:
            message(f"study {name} cannot be read: {error}")
            continue
        text, runs = _runs(study)
        seconds = estimate_seconds([changed(spec, overrides) for overrides in runs], store)
        rows.append(
            {
                "study": name,
                "question": study.question,
                "runs": text,
                "data": spec.config.data.name.value,
                "estimated_time": "unknown" if seconds is None else duration_text(seconds),
            }
        )
    print_rows(rows, format, right=("estimated_time",))
    message(
        "\nRun one with bnexp study NAME, all with bnexp study --all; add data=digits or budget=quick for a faster answer, "
        "--dry-run to see its runs."
    )


def _runs(study: StudyConfig) -> tuple[str, list[list[str]]]:
    """How many runs a study has, in words that show the arithmetic, and the overrides of each."""
    planned, tuning = list(jobs(study)), tuning_jobs(study, study.tune.grid)
    own, first = trained(planned), trained(pretraining_job(study, job) for job in [*tuning, *planned] if study.pretrain)
    text = f"{len(study.arms)} arms{_times(study)} = {len(planned)}"
    text += f" readings of {len(own)} runs" if len(own) < len(planned) else ""
    parts = [f"{len(tuning)} that tune" if tuning else "", f"{len(first)} to start from" if first else ""]
    after = " and ".join(part for part in parts if part)
    return text + (f", after {after}" if after else ""), [*trained(tuning), *first, *own]
