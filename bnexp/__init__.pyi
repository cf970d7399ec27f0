from bnexp.comparison.frame import RunComparison as RunComparison
from bnexp.comparison.frame import compare as compare
from bnexp.comparison.loading import load_runs as load_runs
from bnexp.comparison.result import StudyResult as StudyResult
from bnexp.comparison.side_by_side import StudiesBeside as StudiesBeside
from bnexp.comparison.side_by_side import compare_studies as compare_studies
from bnexp.comparison.sweep.result import SweepResult as SweepResult
from bnexp.config.schema import ConfigError as ConfigError
from bnexp.data.download import DataError as DataError
from bnexp.model.own.norms import replace_norms as replace_norms
from bnexp.run.publish import publish as publish
from bnexp.run.recorded import TrainedRun as TrainedRun
from bnexp.run.recorded import load_run as load_run
from bnexp.run.runner import RunError as RunError
from bnexp.run.study import Listener as Listener
from bnexp.run.study import run_study as run_study
from bnexp.run.sweep.sweep import run_sweep as run_sweep
from bnexp.run.train import train as train
from bnexp.tracking.foreign.importing import import_runs as import_runs

__version__: str
__all__: list[str]
