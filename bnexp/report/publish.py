"""From a study's result to its report on disk, and to W&B: the runs that W&B lacks, and the study itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace

from bnexp.comparison.record import StudyRecord, load
from bnexp.comparison.recorded import recorded_studies
from bnexp.comparison.result import StudyResult
from bnexp.comparison.select import study_facts
from bnexp.config.schema import TrackConfig
from bnexp.data.images import ImagesById, images_by_id
from bnexp.data.packed import find_packed
from bnexp.interrupt import tidied
from bnexp.plan.spec import RunSpec
from bnexp.report import charts, html, sections, wandb_run
from bnexp.report.courses import summarise
from bnexp.report.export import NO_PICTURES, Pictures, slug
from bnexp.report.sections import Report
from bnexp.tracking.claims import Claims
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.records import DataFacts, RecordedRun
from bnexp.tracking.store import Store, write_if_allowed
from bnexp.tracking.wandb.content import Member
from bnexp.tracking.wandb.holding import Item
from bnexp.tracking.wandb.publishing import Action, Publisher
from bnexp.tracking.wandb.server import meaning
from bnexp.tracking.wandb.session import WandbSession
from bnexp.tracking.wandb.study import study_id_on_wandb

REPORT = "report.html"

Step = Callable[[int, int], None]  # number of runs that are published, and of all that will be


def nobody(done: int, total: int) -> None:
    """Nobody is told how the publishing goes."""
    del done, total


@dataclass(frozen=True)
class Logging:
    """How a study goes to W&B.

    Args:
        track: number of predictions, mode, project and more.
        again: whether W&B may have an older state of the study itself, because something has trained since.
        step: is called as runs are published.
    """

    track: TrackConfig
    again: bool = True
    step: Step = nobody
    session: WandbSession = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "session", WandbSession(self.track.wandb))


def publish(
    record: StudyRecord,
    result: StudyResult,
    store: Store,
    wandb: Logging | None = None,
    *,
    planned: str = "",
    pictures: Pictures = NO_PICTURES,
) -> list[str]:
    """Write ``report.html`` beside the study's record, then bring to W&B what it lacks of the study.

    Everything but the pictures of test images comes from the records. The pictures come from the packed data in the cache,
    if it has those that the runs were tested on; nothing is downloaded or packed for them.

    Args:
        record: the recorded study.
        result: what its comparison found.
        store: where its runs are recorded.
        wandb: how to log it; None does not.
        planned: the metric that the study was planned with, if ``record`` reads it by another one. The report then has the
            name ``report-<metric>.html``, beside the study's own.
        pictures: where the figures are written as files of their own.

    Returns:
        What the user should know: pictures that are missing, where W&B has the study, and where the report lies.
    """
    facts = study_facts(record.runs, store)
    images = _test_images(facts)
    report = sections.build(record, result, store, facts=facts, images=images, planned=planned)
    told = []
    if images is None and report.predictions is not None:
        told = [
            "The gallery has no pictures, because the test images of these runs are not in the cache of this machine. To have "
            f"them, run bnexp data {record.data.name} with the overrides of the study, then bnexp report."
        ]
        report = replace(report, notes=[*report.notes, *told])
    path = record.folder / (f"report-{slug(result.metric)}.html" if planned else REPORT)
    page = html.render(report)
    written = [f"\nReport: {path}"] if write_if_allowed(path, page) else []
    prefix = f"{report.title} {result.metric}" if planned else report.title
    if pictures.wanted:
        groups = charts.sections(report, summarise(report.curves)).values()
        written += pictures.write([figure for group in groups for figure in group], prefix)
    with tidied():
        return [*told, *(bring(record, report, store, wandb, page) if wandb else []), *written]


def bring(record: StudyRecord, report: Report, store: Store, wandb: Logging, page: str | None = None) -> list[str]:
    """Bring to W&B what it lacks of a study, unless W&B is disabled; what the user should know of that.

    Args:
        record: the recorded study.
        report: what its report shows.
        store: where its runs are recorded.
        wandb: how to log it.
        page: the report as HTML; None: it is made if it is needed.
    """
    session = wandb.session
    if session.disabled:
        return session.messages
    publisher, items = Publisher(session, wandb.track, pictures_of), members(record, store)
    try:
        with reserved(store, items, [record]) as own:
            missing = publisher.missing(items)
            again = wandb.again or missing or not publisher.holds_study(record.study.name, record.study_id)
            todo, studies = own.of(missing, [record] if again else [], session)
            lost = publish_items(publisher, todo, wandb.step)
            unlogged = _logged(studies[0], report, items, publisher, page) if studies else ""
            session.messages.extend(_not_published(lost, unlogged, record.study.name))
        publisher.note_unsynced(items)
    except Exception as error:  # W&B holds copies, which must not cost the study
        why = meaning(error)
        session.messages.append(f"W&B: it could not be asked what it has ({why}); later: bnexp publish {record.study.name}")
    session.report()
    return session.messages


def bring_recorded(specs: Sequence[RunSpec], store: Store, session: WandbSession) -> list[str]:
    """Bring to W&B what it lacks of runs that were recorded before; what the user should know of that.

    Args:
        specs: the runs, as a sweep sees them.
        store: where they are recorded.
        session: W&B's session of the sweep, which is not ``disabled``.
    """
    said = len(session.messages)
    records = store.records([spec.run_id for spec in specs])
    items = [Item(found, Member.of_spec(spec)) for spec in specs if (found := records.get(spec.run_id)) and found.ended]
    publisher = Publisher(session, specs[0].config.track, pictures_of)
    try:
        with tidied(), reserved(store, items, []) as own:
            todo, _ = own.of(publisher.missing(items), [], session)
            session.messages.extend(_not_published(publish_items(publisher, todo, nobody)))
        publisher.note_unsynced(items)
    except Exception as error:  # W&B holds copies, which must not cost the sweep
        why = meaning(error)
        session.messages.append(f"W&B: it could not be asked what it has ({why}); the same command sends the rest later.")
    return session.messages[said:]


@dataclass(frozen=True)
class Reserved:
    """The W&B runs that this process may send.

    Args:
        ids: their ids; of studies as W&B knows them.
    """

    ids: set[str]

    def of(
        self, items: Sequence[Item], studies: Sequence[StudyRecord], session: WandbSession
    ) -> tuple[list[Item], list[StudyRecord]]:
        """Those of the runs and studies that this process may send; a message tells of the others."""
        own = [item for item in items if item.id in self.ids]
        own_studies = [study for study in studies if study_id_on_wandb(study.study_id) in self.ids]
        if others := len(items) + len(studies) - len(own) - len(own_studies):
            what = "1 run is" if others == 1 else f"{others} runs are"
            session.messages.append(f"W&B: {what} being sent by another process and left to it.")
        return own, own_studies


@contextmanager
def reserved(store: Store, items: Sequence[Item], studies: Sequence[StudyRecord]) -> Iterator[Reserved]:
    """Reserve runs and studies for this process, so that two that publish the same records at once send each of them once.

    Where nothing can be written, such as in a folder on a read-only disk, nothing is reserved, and all may be sent.

    Args:
        store: where the runs are recorded.
        items: the runs.
        studies: the studies.
    """
    ids = [*(item.id for item in items), *(study_id_on_wandb(study.study_id) for study in studies)]
    with ExitStack() as stack:
        names = {f"W&B {run_id}": run_id for run_id in ids}
        free = set(names)
        with suppress(OSError):
            free = stack.enter_context(Claims(store).claim(list(names)))
        yield Reserved({names[name] for name in free})


def log(record: StudyRecord, report: Report, items: Sequence[Item], publisher: Publisher, page: str | None = None) -> Action:
    """Bring the study itself to W&B, after its runs; what came of it. Raises whatever wandb raises.

    Args:
        record: the recorded study.
        report: what its report shows.
        items: its runs.
        publisher: what publishes them.
        page: the report as HTML; None: it is made now.
    """
    page = page or html.render(report)
    content = wandb_run.content_of(record, report, page, record.folder / REPORT, items, publisher)
    tested = next((item.record for item in items if item.record.finished), items[0].record)
    return publisher.put(content, tested)


def _logged(record: StudyRecord, report: Report, items: Sequence[Item], publisher: Publisher, page: str | None) -> str:
    """Bring the study itself to W&B; what went wrong, empty if nothing did."""
    try:
        log(record, report, items, publisher, page)
    except Exception as error:
        return meaning(error)
    return ""


def publish_items(publisher: Publisher, items: Sequence[Item], step: Step) -> dict[str, int]:
    """Publish runs; what went wrong -> for how many of them."""
    problems: dict[str, int] = {}
    for done, (_, _, problem) in enumerate(publisher.publish(items), 1):
        step(done, len(items))
        if problem:
            problems[problem] = problems.get(problem, 0) + 1
    return problems


def _not_published(lost: Mapping[str, int], unlogged: str = "", study: str = "") -> list[str]:
    """What W&B lacks, one sentence for each reason.

    Args:
        lost: reason -> number of runs.
        unlogged: why the study itself was not logged; empty: it was.
        study: its name; empty: these are no runs of one study.
    """
    found = []
    for reason in dict.fromkeys([*lost, *([unlogged] if unlogged else [])]):
        count = lost.get(reason, 0)
        what = [f"{count} run{'s' * (count > 1)}"] if count else []
        what += [f"the study {study}"] if reason == unlogged else []
        verb = "were" if count > 1 or len(what) > 1 else "was"
        later = f"; later: bnexp publish {study}" if study else "."
        found.append(f"W&B: {' and '.join(what)} {verb} not published ({reason}){later}")
    return found


def members(record: StudyRecord, store: Store) -> list[Item]:
    """The recorded runs of a study that have ended, as it sees them, each once."""
    records = store.records([run.run_id for run in record.runs])
    studies = _studies_of(record, store)
    found: dict[str, Item] = {}
    for run in record.runs:
        recorded = records.get(run.run_id)
        if recorded is not None and recorded.ended and run.run_id not in found:
            found[run.run_id] = Item(recorded, Member(record.study.name, studies[run.run_id], run.arm, run.levels))
    return list(found.values())


def _studies_of(record: StudyRecord, store: Store) -> dict[str, tuple[str, ...]]:
    """Run id -> ids of the recorded studies of this name that have the run; the study has grown, or was asked of other data."""
    ids: dict[str, list[str]] = {}
    for folder in recorded_studies(store):
        if folder.parent == record.folder.parent:
            with suppress(DamagedRecord):
                study = load(folder)
                for run_id in {run.run_id for run in study.runs}:
                    ids.setdefault(run_id, []).append(study.study_id)
    return {run.run_id: tuple(sorted({*ids.get(run.run_id, []), record.study_id})) for run in record.runs}


def pictures_of(record: RecordedRun) -> ImagesById | None:
    """The test images that a run saw, by id; None if they are not in the cache of this machine."""
    return _test_images(record.facts)


def _test_images(facts: DataFacts | None) -> ImagesById | None:
    """The test images that the runs saw, by id; None if the cache has no packed data of that content."""
    packed = find_packed(facts.fingerprint) if facts else None
    if facts is None or packed is None:
        return None
    pixels = packed.array("test_images")
    return images_by_id(pixels) if len(pixels) == facts.num_test else None
