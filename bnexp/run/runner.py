"""Trains run specs and records them: finished runs are skipped, a failed run stops no other, and results are kept at once."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from bnexp.config.keys import final_metrics
from bnexp.config.options import ExecutorName
from bnexp.config.schema import ConfigError
from bnexp.data.images import images_by_id
from bnexp.data.shown import Prepared
from bnexp.interrupt import tidied
from bnexp.metrics import Record, RunFailed
from bnexp.plan.spec import RunSpec, unique
from bnexp.run.arrange import arrange, by_data
from bnexp.run.forecast import outlook
from bnexp.run.local import Pool, run_inline
from bnexp.run.own_networks import try_networks
from bnexp.run.pace import recorded_pace
from bnexp.run.ray import RayPool
from bnexp.run.replay import in_sweep, replay_to_sweep
from bnexp.run.stopping import Stopping
from bnexp.terminal import SafeConsole
from bnexp.tracking.claims import Claims
from bnexp.tracking.initial import initial_weights
from bnexp.tracking.progress import ProgressSink
from bnexp.tracking.records import DataFacts, RecordedRun
from bnexp.tracking.sink import Fanout
from bnexp.tracking.store import Store, StoreSink
from bnexp.tracking.wandb.access import requested_mode
from bnexp.tracking.wandb.session import WandbSession
from bnexp.tracking.wandb.sink import WandbSink

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from bnexp.data.resident import Resident


class RunError(Exception):
    """A run that failed; the message says why."""


Results = dict[str, RecordedRun | RunError]  # run id -> its record, or why there is none


def run(
    specs: Sequence[RunSpec],
    store: Store | None = None,
    prepared: Prepared | None = None,
    stopping: Stopping | None = None,
    wandb: WandbSession | None = None,
) -> Results:
    """Train every spec that has no finished record.

    Results are written as they come, so an interruption loses only runs that are training. If another process trains a run,
    this one waits for it. No run is tried twice in one call.

    Args:
        specs: the runs.
        store: where runs are recorded; None: ``BNEXP_RUNS_DIR`` or its default.
        prepared: the data sets that the command has prepared so far; None if it has prepared none.
        stopping: stops runs early; None: no run is stopped.
        wandb: of a caller who says at the end where W&B has the runs, and what of several calls; None: it is said here.

    Returns:
        Run id -> its record, or the error that says why it failed. A run that was stopped is not among them.

    Raises:
        ConfigError: the runs cannot train on this machine or with these settings.
        DataError: all runs are on one data set, and it is out of reach.
    """
    store = store or Store()
    for spec in specs:
        requested_mode(spec.config.track.wandb)  # refuses a mode that W&B does not know before anything trains
    claims = Claims(store)
    errors: dict[str, RunError] = {}
    console = SafeConsole(stderr=True)
    prepared = prepared or Prepared(console)
    tried: set[str] = set()
    with ProgressSink(console) as progress:
        if progress.live and (first := unfinished(specs, store, prepared)):
            progress.expect(outlook(first, recorded_pace(store)))
        while todo := _startable([spec for spec in unfinished(specs, store, prepared) if spec.run_id not in tried]):
            with claims.claim([spec.run_id for spec in todo]) as claimed:
                mine = [spec for spec in unfinished(todo, store, prepared) if spec.run_id in claimed]
                tried |= {spec.run_id for spec in mine}
                errors |= _train(mine, store, prepared, progress, console, stopping, wandb)
            if not claimed:
                console.print(f"{len(todo)} runs are training in another process; waiting for them.")
                claims.wait_for(todo[0].run_id)
    run_ids = [spec.run_id for spec in unique(specs)]
    found = store.finished(run_ids)
    if in_sweep() and len(run_ids) == 1 and not tried and found:
        for line in replay_to_sweep(specs[0], found[run_ids[0]]):
            console.print(line, markup=False, soft_wrap=True)
    lost = RunError("trained, but its record cannot be read back")
    stopped = {run_id for run_id, record in store.records(run_ids).items() if record.stopped} if stopping else ()
    return {run_id: found.get(run_id) or errors.get(run_id, lost) for run_id in run_ids if run_id not in stopped}


def _startable(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """The specs, without those that start from the weights of another one of them."""
    waited_for = {spec.run_id for spec in specs}
    return [spec for spec in specs if spec.config.train.init_from not in waited_for]


def unfinished(specs: Sequence[RunSpec], store: Store, prepared: Prepared | None = None) -> list[RunSpec]:
    """The specs that have no finished record, each once.

    A record does not count if the user's own files have changed under the same path, or if an older bnexp wrote it and did not
    record the metric that the study compares.

    Args:
        specs: the runs.
        store: where runs are recorded.
        prepared: the data sets that the command has prepared so far; None if it has prepared none.

    Raises:
        DataError: the user's own files cannot be read.
    """
    prepared = prepared or Prepared()
    todo = []
    finished = store.finished([spec.run_id for spec in specs])
    for spec in unique(specs):
        record = finished.get(spec.run_id)
        if record is None or _other_images(spec, record, prepared) or _lacks_metric(spec, record):
            todo.append(spec)
    return todo


def _other_images(spec: RunSpec, record: RecordedRun, prepared: Prepared) -> bool:
    data = spec.config.data
    return bool(data.name.is_own) and record.summary.data_fingerprint != prepared(data).fingerprint


def _lacks_metric(spec: RunSpec, record: RecordedRun) -> bool:
    metric, summary = spec.config.study.metric, record.summary
    return summary.status == "finished" and metric in final_metrics(spec.config) and metric not in summary.metrics


def run_job(tree: DictConfig) -> float:
    """Hydra's task function: train one configuration and return its objective."""
    from hydra.core.hydra_config import HydraConfig

    from bnexp.plan.compose import to_config

    called_from = Path(HydraConfig.get().runtime.cwd)  # hydra.job.chdir=true has moved to the folder of the job
    spec = RunSpec(to_config(tree, called_from))
    return job_value(spec, run([spec])[spec.run_id])


def job_value(spec: RunSpec, result: RecordedRun | RunError) -> float:
    """What a sweeper optimises: ``optimized_metric``.

    It is NaN for a run that failed or diverged. With an exception, Hydra's sweepers would end and lose the results of the other
    jobs.
    """
    if isinstance(result, RunError) or result.summary.status != "finished":
        return math.nan
    return objective(result, spec.config.optimized_metric)


def objective(result: RecordedRun | RunError, metric: str | None = None) -> float:
    """The value of a metric at the last epoch; NaN for a run that failed. A diverged run counts at chance.

    Args:
        result: the record of a run, or why it failed.
        metric: None: the validation accuracy, or the test accuracy if no validation part exists.
    """
    if isinstance(result, RunError):
        return math.nan
    summary = result.summary
    return summary.metric(metric or ("val/accuracy" if "val/accuracy" in summary.metrics else "test/accuracy"))


def command_line() -> str:
    """The command that is running, as a user would type it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _train(
    specs: Sequence[RunSpec],
    store: Store,
    prepared: Prepared,
    progress: ProgressSink,
    console: SafeConsole,
    stopping: Stopping | None,
    wandb: WandbSession | None,
) -> dict[str, RunError]:
    """Train the runs of each data set; run id -> why it failed. If one of several data sets is out of reach, its runs fail."""
    from bnexp.data.download import DataError

    errors: dict[str, RunError] = {}
    groups = by_data(specs)
    for group in groups:
        try:
            errors |= _run_group(group, store, prepared, progress, console, stopping, wandb)
        except DataError as error:
            if len(groups) == 1:
                raise
            console.print(str(error), markup=False, soft_wrap=True)
            errors |= {spec.run_id: RunError(str(error)) for spec in group}
    return errors


def _run_group(
    specs: list[RunSpec],
    store: Store,
    prepared: Prepared,
    progress: ProgressSink,
    console: SafeConsole,
    stopping: Stopping | None,
    session: WandbSession | None,
) -> dict[str, RunError]:
    """Train runs that share a data set; run id -> why it failed, for those that did."""
    resident = prepared(specs[0].config.data)
    by_id = {spec.run_id: spec for spec in specs}
    errors = {}
    ready, lost = _with_weights(specs, store)
    warning = prepared.overlap_warning(specs[0].config.data)
    images = resident.in_channels, resident.size, resident.num_classes
    for line in [*([warning] if warning else []), *try_networks(ready, images)]:
        console.print(line, markup=False, soft_wrap=True)
    records = chain(lost, _execute(ready, resident, stopping) if ready else ())
    progress.begin(specs)
    mean, std = (values[: resident.channels].tolist() for values in (resident.mean, resident.std))
    known = list(resident.class_names), len(resident.test_labels), resident.fingerprint
    facts = DataFacts(*known, mean, std, resident.overlap.test)
    first = specs[0].config
    wandb = WandbSink(first.track, store, images_by_id(resident.test_images), facts, first.data.name.value)
    told = bool(specs[0].config.study.id)  # the study says where all of its runs are, when it is concluded
    own = StoreSink(store, command_line(), facts, stopping.by if stopping else "")
    try:
        with tidied(), Fanout([own, wandb]) as fanout:
            fanout.begin(specs)
            for record in records:
                spec = by_id[record.run_id]
                if stopping is not None:
                    stopping.record(record)
                fanout.record(spec, record)
                progress.record(spec, record)
                if isinstance(record, RunFailed):
                    errors[record.run_id] = RunError(record.error)
    except BaseException:  # such as Ctrl-C: there will be no conclusion
        told = False
        raise
    finally:
        wandb.messages.extend([] if told else wandb.lost)
        if not told and session is None:
            wandb.session.report()
        for line in wandb.messages if session is None else session.absorb(wandb.session):
            console.print(line, markup=False, soft_wrap=True)
    return errors


def _with_weights(specs: Sequence[RunSpec], store: Store) -> tuple[list[RunSpec], list[RunFailed]]:
    """The specs with the weights that they start from, and the records of those that fail because there are no such weights."""
    ready, lost = [], []
    for spec in specs:
        try:
            ready.append(replace(spec, initial=initial_weights(spec, store)))
        except ConfigError as error:
            lost.append(RunFailed(spec.run_id, str(error)))
    return ready, lost


def _execute(specs: Sequence[RunSpec], resident: Resident, stopping: Stopping | None) -> Iterator[Record]:
    """Train the runs with the executor that suits them; their records."""
    plan, executor = arrange(specs), specs[0].config.executor
    if plan.place is ExecutorName.ray and stopping is not None:
        raise ConfigError("executor=ray cannot stop runs early; leave out early_terminate, or use executor=local.")
    if plan.place is ExecutorName.ray:
        return RayPool(resident, executor.address, executor.workers).run(plan.cohorts)
    if plan.place is ExecutorName.inline:
        return run_inline(plan.cohorts, resident, stopping)
    return Pool(resident, plan.workers, stopping).run(plan.cohorts)
