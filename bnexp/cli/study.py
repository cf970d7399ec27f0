"""``bnexp study``: a controlled comparison: arms x factors x seeds, then verdict table and report."""

from __future__ import annotations

from dataclasses import asdict
from math import prod
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnexp.cli import complete
from bnexp.cli.output import CsvFlag, Format, JsonFlag, MdFlag, message, pick_format, print_json, print_rows, stderr, stdout
from bnexp.config import ConfigError, StudyConfig, WandbConfig
from bnexp.options import Analysis
from bnexp.validate import resolve_seeds

if TYPE_CHECKING:
    from bnexp.compare.record import StudyRecord
    from bnexp.compare.result import StudyResult
    from bnexp.compose import StudyPlan
    from bnexp.tracking.store import Store

SOME_FAILED = 3


def study(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Which study; without it: the list.", autocompletion=complete.studies)
    ] = None,
    overrides: complete.Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs, train none.")] = False,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
) -> None:
    """Run a controlled comparison and say what it shows. Finished runs are never repeated.

    An override with several values (optim.lr=0.01,0.1) becomes a factor. Example: bnexp study batchnorm data=digits
    """
    format = pick_format(json, csv, md)
    if name is None:
        _list_studies(format)
        return
    if "=" in name:
        raise ConfigError(f"{name} is an override, but the study's name comes first: bnexp study batchnorm {name}.")
    from bnexp.compare.record import from_plan
    from bnexp.compose import expand_study, launch
    from bnexp.runner import run_job
    from bnexp.tracking.store import Store

    chosen = [f"study={name}", *(overrides or [])]
    plan = expand_study(chosen)
    store = Store()
    if dry_run:
        _print_plan(plan, store, format)
        return
    record = from_plan(plan, overrides or [])
    published_before = (record.path(store) / "verdict.json").exists()
    record.save(store)
    if _announce(plan, store):
        launch(run_job, chosen, multirun=True)
        published_before = False
    _conclude(record, store, format, None if published_before else plan.configs[0].track.wandb)


def _announce(plan: StudyPlan, store: Store) -> bool:
    """Say on stderr what will run; whether anything is left to train."""
    from bnexp.plan import RunSpec, unique
    from bnexp.runner import duration_text, estimate_seconds, unfinished

    specs = unique([RunSpec(config) for config in plan.configs])
    todo = unfinished(specs, store)
    seconds = estimate_seconds(todo, store)
    stderr().print(plan.study.question, style="bold", markup=False)
    known = f", {len(specs) - len(todo)} finished before" if len(todo) < len(specs) else ""
    time_left = f", about {duration_text(seconds)}" if todo and seconds is not None else ""
    arms = ", ".join(plan.study.arms)
    message(f"{len(specs)} runs: {arms}{_times(plan.study)}{known}{time_left}; study {plan.study.name}-{plan.study_id}")
    return bool(todo)


def _times(study: StudyConfig) -> str:
    factors = "".join(f" x {len(levels)} {name}" for name, levels in study.factors.items())
    count = len(resolve_seeds(study.seeds))
    return f"{factors} x {count} seed{'s' if count > 1 else ''}"


def _conclude(record: StudyRecord, store: Store, format: Format, wandb: WandbConfig | None) -> None:
    result = show_verdict_and_report(record, store, format, wandb)
    bad = {"failed", "missing"} | (set() if record.study.analysis is Analysis.sensitivity else {"diverged"})
    if any(outcome.status in bad for outcome in result.outcomes):
        raise typer.Exit(SOME_FAILED)


def show_verdict_and_report(record: StudyRecord, store: Store, format: Format, wandb: WandbConfig | None = None) -> StudyResult:
    """Print the verdict first, then draw the report, which takes some seconds, and say where it lies."""
    from bnexp.compare.conclude import conclude

    result = conclude(record, store)
    print_result(result, format)
    from bnexp.report.publish import publish

    path, messages = publish(record, result, store, wandb)
    for line in messages:
        message(line)
    message(f"\nReport: {path}")
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
    columns = next(names for width, names in TERMINAL_COLUMNS.items() if out.width >= width)
    shown = [{name: row[name] for name in columns if name in row} for row in comparisons]
    print_rows(shown, format, right=("n", "difference", "95 % interval", "p adjusted", "p sign flip", "d_z", "n needed"))
    settings = "  ".join(f"{name}={value}" for name, value in result.settings.items())
    for line in (f"\nHeld fixed: {settings}", *(f"- {line}" for line in (*result.unpaired, *result.notes))):
        out.print(line, style="dim", markup=False, soft_wrap=not out.is_terminal)


# Columns of a comparison by the terminal's width; all there is is in --json, --csv, --md and the report.
_NAMES = ("arm", "baseline", "level", "measure")
TERMINAL_COLUMNS = {
    110: (*_NAMES, "n", "difference", "95 % interval", "p adjusted", "p sign flip", "d_z", "n needed", "verdict"),
    80: (*_NAMES, "difference", "95 % interval", "p adjusted", "verdict"),
    0: (*_NAMES, "difference", "verdict"),
}


def _print_plan(plan: StudyPlan, store: Store, format: Format) -> None:
    from bnexp.plan import RunSpec
    from bnexp.runner import duration_text, estimate_seconds

    specs = [RunSpec(config) for config in plan.configs]
    rows: list[dict[str, Any]] = [
        {
            "run": spec.run_id,
            "arm": spec.arm,
            **spec.levels,
            "seed": spec.seed,
            "state": "finished" if store.find(spec.run_id) else "to train",
        }
        for spec in specs
    ]
    message(f"{plan.study.name}-{plan.study_id}: {plan.study.question}")
    print_rows(rows, format, right=("seed",))
    todo = [spec for spec in specs if store.find(spec.run_id) is None]
    seconds = estimate_seconds(todo, store)
    message(f"{len(specs)} runs, {len(todo)} to train" + (f", about {duration_text(seconds)}" if seconds is not None else ""))


def _list_studies(format: Format) -> None:
    from bnexp.compose import compose, groups
    from bnexp.plan import RunSpec
    from bnexp.runner import duration_text, estimate_seconds
    from bnexp.tracking.store import Store

    store = Store()
    rows = []
    for name in groups().get("study", []):
        try:
            spec = RunSpec(compose([f"study={name}"]))
        except ConfigError as error:
            message(f"study {name} cannot be read: {error}")
            continue
        study = spec.config.study
        count = len(study.arms) * prod(len(levels) for levels in study.factors.values()) * len(resolve_seeds(study.seeds))
        seconds = estimate_seconds([spec] * count, store)
        rows.append(
            {
                "study": name,
                "question": study.question,
                "runs": f"{len(study.arms)} arms{_times(study)} = {count}",
                "data": spec.config.data.name.value,
                "estimated_time": "unknown" if seconds is None else duration_text(seconds),
            }
        )
    print_rows(rows, format, right=("estimated_time",))
    message("\nRun one with bnexp study NAME; add data=digits or budget=quick for a faster answer, --dry-run to see its runs.")
