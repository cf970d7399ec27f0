"""``bnexp report --wandb``: a W&B report of studies, and a W&B workspace of the runs of each.

Both are made by the library wandb-workspaces, which is an extra. Made again, they replace what was made before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from bnexp.comparison.record import StudyRecord
from bnexp.comparison.recorded import label
from bnexp.comparison.result import Status, StudyResult
from bnexp.comparison.select import study_facts
from bnexp.config.schema import ConfigError
from bnexp.plan.spec import digest
from bnexp.report import sections
from bnexp.report.publish import Logging, bring
from bnexp.report.sections import Report
from bnexp.terminal import one_line
from bnexp.tracking.store import Store
from bnexp.tracking.wandb.access import recorded_track, requested_mode
from bnexp.tracking.wandb.server import SECONDS, runs_of_group
from bnexp.tracking.wandb.session import WandbSession

if TYPE_CHECKING:
    import wandb

    from bnexp.report.wandb_panels import Held

EXTRA = "pip install 'bnexp[reports]'"
ENDED = (Status.finished, Status.diverged, Status.failed)


@dataclass(frozen=True)
class Study:
    """A recorded study with its result, the store of its runs, and how it goes to W&B: see ``logging_of``."""

    record: StudyRecord
    result: StudyResult
    store: Store
    logging: Logging


class NotTaken(Exception):
    """The server did not take a report or a workspace; the message is one sentence."""


@dataclass(frozen=True)
class Links:
    """Where W&B shows the studies.

    Args:
        report: address of the report.
        workspaces: addresses of the workspaces, one per study, in their order.
        notes: what the user should know besides.
    """

    report: str
    workspaces: list[str]
    notes: list[str]


def logging_of(record: StudyRecord, store: Store) -> Logging:
    """How a study goes to W&B for its report there: to the project that its runs were configured with, and online.

    It may ask the server.

    Args:
        record: the study.
        store: where its runs are recorded.

    Raises:
        ConfigError: no W&B report can be made. The message is one sentence that says what to do.
    """
    if find_spec("wandb_workspaces") is None:
        raise ConfigError(f"--wandb needs the package wandb-workspaces, which is not installed here: {EXTRA}.")
    track = recorded_track(store.records([run.run_id for run in reversed(record.runs)]).values())
    asked = requested_mode(track.wandb)
    if asked in ("disabled", "offline"):
        raise ConfigError(
            f"a W&B report is made on the server, but WANDB_MODE={asked}: log in with `wandb login` and set WANDB_MODE=online."
        )
    logging = Logging(track, again=False)
    session = logging.session
    if not session.online:
        why = " ".join(session.messages).replace(", so runs are recorded offline", "")
        raise ConfigError(why or "a W&B report is made on the server, and no API key is configured: log in with `wandb login`.")
    return logging


def make(studies: Sequence[Study]) -> Links:
    """Bring to W&B what it lacks of some studies, then make or replace their report and the workspace of each.

    Args:
        studies: what is shown.

    Raises:
        ConfigError: W&B holds no run of a study.
        NotTaken: the server refused, or could not be reached.
    """
    import wandb

    built, told = [], []
    for study in studies:
        record, store = study.record, study.store
        report = sections.build(record, study.result, store, facts=study_facts(record.runs, store), images=None)
        told += bring(record, report, store, study.logging)
        built.append((record, report))
    session = studies[0].logging.session
    if not session.online:
        raise NotTaken("W&B was lost while the runs were sent, so it has no report; the same command tries again.")
    try:
        links = _make(built, session, wandb.Api(timeout=SECONDS))
    except ConfigError:
        raise
    except Exception as error:  # the library and wandb raise many kinds for what a server answers
        raise NotTaken(f"W&B did not take the report ({one_line(error)}); the same command tries again.") from error
    return replace(links, notes=list(dict.fromkeys([*told, *links.notes])))


def _make(studies: Sequence[tuple[StudyRecord, Report]], session: WandbSession, api: wandb.Api) -> Links:
    from wandb_workspaces.reports import v2 as wr

    from bnexp.report.wandb_blocks import blocks

    project = session.config.project
    entity = session.config.entity or str(api.default_entity)
    held = [_held(record, report, session, api, f"{entity}/{project}") for record, report in studies]
    shown = [
        (report, part, _workspace(record, report, part, entity, project))
        for (record, report), part in zip(studies, held, strict=True)
    ]
    names = [label(record.folder) for record, _ in studies]
    mark = mark_of(names)
    made = wr.Report(
        entity=entity,
        project=project,
        title=" and ".join(dict.fromkeys(report.title for _, report in studies))[:128],
        description=mark,
        blocks=blocks(shown, entity, project),
        width="fluid",
    )
    earlier = [found.id for found in api.reports(f"{entity}/{project}") if found.description == mark]
    made.id = earlier[0] if earlier else ""
    made.save()
    notes = [
        f"W&B lacks {part.lacking} of the {part.planned} runs of {name}; bnexp publish {name} sends them."
        for name, part in zip(names, held, strict=True)
        if part.lacking
    ]
    return Links(made.url, [url for _, _, url in shown], notes)


def mark_of(names: Sequence[str]) -> str:
    """The description of a W&B report, by which it is found again: the same for the same studies in any order."""
    return f"bnexp report {' '.join(sorted(names))}"


def _held(record: StudyRecord, report: Report, session: WandbSession, api: wandb.Api, path: str) -> Held:
    """What W&B holds of a study. Raises ConfigError if it holds none of its runs."""
    from bnexp.report.wandb_panels import Held

    group, name = session.config.group or record.study.name, label(record.folder)
    if not re.fullmatch(r"[\w .:/@+-]+", group):
        raise ConfigError(
            f"the W&B group {group!r} has characters that the filter of a W&B report cannot hold; set WANDB_RUN_GROUP or "
            "track.wandb.group to letters, digits and '_-.:/@+'."
        )
    wanted = {outcome.run_id for outcome in report.result.outcomes if outcome.status in ENDED}
    own = f"study-{record.study_id}"
    runs: dict[str, str] = {}
    page = ""
    for run in runs_of_group(api, path, group):
        there = str(run.id)
        run_id = next((part for part in (there, there.split("-")[0]) if part in wanted), "")
        if run_id and (run_id not in runs or run.state == "finished") and re.fullmatch(r"[\w.-]+", there):
            runs[run_id] = there
        elif there == own or there.startswith(f"{own}-"):
            page = str(run.url)
    if not runs:
        raise ConfigError(f"W&B holds no run of {name} in {path}: bring them there with bnexp publish {name}.")
    return Held(group, runs, len(wanted), page, _report_file(api, path, record.study_id, page) if page else "")


def _report_file(api: wandb.Api, path: str, study_id: str, page: str) -> str:
    """Address of ``report.html`` in the study's artifact; empty if there is none. ``page``: address of the study's run."""
    import wandb

    name = f"report-{study_id}"
    try:
        version = api.artifact(f"{path}/{name}:latest").version
    except (ValueError, wandb.errors.CommError):
        return ""
    return f"{page.rsplit('/runs/', 1)[0]}/artifacts/report/{name}/{version}/files/report.html"


def _workspace(record: StudyRecord, report: Report, held: Held, entity: str, project: str) -> str:
    """Save the workspace of a study's runs, in place of an earlier one; its address."""
    from wandb_workspaces import expr, workspaces

    from bnexp.report import wandb_panels as panels

    sections = {
        "Curves by arm": panels.curve_panels(report),
        "At the end": panels.result_panels(report),
        "Over the factors": panels.factor_panels(report),
        "What probes measured": panels.probe_panels(report),
    }
    space = workspaces.Workspace(
        entity=entity,
        project=project,
        name=label(record.folder),
        sections=[
            workspaces.Section(
                name=name,
                panels=found,
                is_open=True,
                layout_settings=workspaces.SectionLayoutSettings(columns=2, rows=max(1, (len(found) + 1) // 2)),
                panel_settings=workspaces.SectionPanelSettings(x_axis="epoch"),
            )
            for name, found in sections.items()
            if found
        ],
        settings=workspaces.WorkspaceSettings(x_axis="epoch", max_runs=panels.limit(report)),
        runset_settings=workspaces.RunsetSettings(
            filters=panels.run_filter(report, held),
            groupby=[expr.Config(panels.ARM)],
            order=[expr.Ordering(expr.Metric("Name"), ascending=True)],
            group_colors=panels.colours(report.arms),
            pinned_columns=panels.columns(report),
        ),
    )
    # The library gives a view a random name. A name of our own is what finds it again.
    space._internal_name = f"nw-bnexp{digest(label(record.folder), 12)}-v"
    try:
        space._internal_id = workspaces.Workspace.from_url(space.url)._internal_id
    except ValueError as error:
        if "not found" not in str(error):
            raise
    space.save()
    return str(space.url)
