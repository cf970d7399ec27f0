"""bnexp: does batch normalisation help here, where, at which learning rate, and how sure are we?

From Python: ``run_study`` runs a controlled comparison, ``run_sweep`` a search for settings, ``train`` one run; ``load_run``
and ``load_runs`` give what is recorded, ``import_runs`` adds what other tools recorded, ``publish`` brings what is recorded
to W&B, ``compare`` compares any of it; ``replace_norms`` puts an arm's norm layers into a network of your own. ``help`` of
each says more; ``__init__.pyi`` has the types. Each name is imported when it is first used, so that ``import bnexp`` takes no
time.
"""

from importlib import import_module

__version__ = "0.2.0"

_HOMES = {
    "ConfigError": "bnexp.config.schema",
    "DataError": "bnexp.data.download",
    "Listener": "bnexp.run.study",
    "RunComparison": "bnexp.comparison.frame",
    "RunError": "bnexp.run.runner",
    "StudiesBeside": "bnexp.comparison.side_by_side",
    "StudyResult": "bnexp.comparison.result",
    "SweepResult": "bnexp.comparison.sweep.result",
    "TrainedRun": "bnexp.run.recorded",
    "compare": "bnexp.comparison.frame",
    "compare_studies": "bnexp.comparison.side_by_side",
    "import_runs": "bnexp.tracking.foreign.importing",
    "load_run": "bnexp.run.recorded",
    "load_runs": "bnexp.comparison.loading",
    "publish": "bnexp.run.publish",
    "replace_norms": "bnexp.model.own.norms",
    "run_study": "bnexp.run.study",
    "run_sweep": "bnexp.run.sweep.sweep",
    "train": "bnexp.run.train",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
