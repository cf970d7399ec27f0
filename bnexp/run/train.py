"""Trains single runs and multiruns: ``bnexp train`` without printing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bnexp.config.schema import refuse_text
from bnexp.data.amount import budget_note
from bnexp.plan.compose import compose_one, to_config
from bnexp.plan.session import session
from bnexp.plan.spec import RunSpec, unique
from bnexp.run.recorded import TrainedRun
from bnexp.run.runner import RunError, run_job
from bnexp.run.trials import Trials
from bnexp.tracking.initial import resolve_starts
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.store import Store


def train(overrides: Sequence[str] = ()) -> TrainedRun:
    """Train one network, unless the same run is recorded already.

    The run is recorded in ``BNEXP_RUNS_DIR`` (default ``./runs``), as by ``bnexp train``. Progress is shown on stderr.

    Args:
        overrides: Hydra overrides, such as ``["data=digits", "norm=batch", "seed=1"]``, each with one value.

    Returns:
        The recorded run: ``run.summary.metrics`` (accuracies are fractions), ``run.metrics()`` (per epoch),
        ``run.predictions()``, ``run.model()``. A run that diverged is a result too: ``run.summary.status`` tells.

    Raises:
        ConfigError: the run is not possible with these overrides; nothing has trained.
        DataError: the data set is out of reach.
        RunError: training failed.

    Example:
        >>> run = bnexp.train(["data=digits", "norm=batch"])
        >>> run.summary.metrics["test/accuracy"]
    """
    refuse_text("overrides", overrides, "data=digits")
    (spec,) = launch(overrides, multirun=False)
    store = Store()
    run = store.find(spec.run_id)
    if run is None:
        raise RunError(RecordedRun(store.run_path(spec)).failure or "the run left no record")
    return TrainedRun(run.path)


def launch(
    overrides: Sequence[str],
    *,
    multirun: bool,
    tell: Callable[[str], None] | None = None,
    trials: Trials | None = None,
) -> list[RunSpec]:
    """Train the runs of a command line with Hydra's sweeper and launcher.

    Args:
        overrides: Hydra overrides; a key may have several values only in a multirun.
        multirun: whether the sweeper makes several jobs of them; it does so too with ``hydra.mode=MULTIRUN``.
        tell: is called with each sentence that the user should read; None if nobody is told.
        trials: gets the jobs of a multirun as they end, so that they are known after an interruption too; None if nobody
            wants them.

    Returns:
        The runs, each once, including those that failed.

    Raises:
        ConfigError: an override or a run is not possible.
    """
    trials = trials or Trials()
    with session(resolve_starts(overrides, Store())) as hydra:
        if several := hydra.is_multirun(multirun):
            trials.begin(hydra)
            jobs = hydra.multirun(run_job, trials.hear)
        else:
            tell_notes([RunSpec(compose_one(hydra))], tell)  # composing first finds every mistake before Hydra starts
            jobs = [hydra.run(run_job)]
    specs = unique([RunSpec(to_config(job.cfg)) for job in jobs if job.cfg is not None])
    if several:
        tell_notes(specs, tell)
    return specs


def tell_notes(specs: Sequence[RunSpec], tell: Callable[[str], None] | None) -> None:
    """Tell the user which data sets have fewer images than their budget allows."""
    for note in dict.fromkeys(budget_note(spec.config) for spec in specs):
        if note and tell:
            tell(note)
