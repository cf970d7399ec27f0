"""``study.*`` and ``budget.*``: a question, and how much is spent on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bnexp.config.options import Analysis, Direction
from bnexp.config.schema.field import key


@dataclass
class BudgetConfig:
    """What a budget allows. The values that it sets for other keys are in its file."""

    train_size: int | None = key(
        None,
        "the data.train_size of a budget, as an upper limit: a data set with fewer images is used whole, as with "
        "data.train_size=null; no effect if data.train_size has another value",
        low=10,
        identity=False,
    )
    tune_lr: list[float] = key(
        factory=list,
        help="values of optim.lr tried for each cell of a study that neither varies nor tunes it itself; empty: no tuning",
        identity=False,
    )
    steps_per_epoch: int = key(
        938,  # a pass through the 60,000 images of MNIST in batches of 64
        "the train.steps_per_epoch of studies that fix the number of updates",
        low=1,
        identity=False,
    )
    trained_steps_per_epoch: int = key(
        938,
        "the train.steps_per_epoch of studies that compare networks at a loss or accuracy that all must reach",
        low=1,
        identity=False,
    )
    slow_steps_per_epoch: int = key(
        5000,  # the 50,000 updates of Ioffe & Szegedy's sigmoids in ten epochs
        "the train.steps_per_epoch of studies whose networks begin to learn late",
        low=1,
        identity=False,
    )


@dataclass
class LinearRule:
    """An arm that follows the linear rule instead of being tuned: its value is proportional to the batch size.

    Source: Goyal et al. 2017, arXiv:1706.02677, section 2.1.
    """

    arm: str = key("", "arm that follows the rule; empty: none", identity=False)
    of: str = key("", "tuned arm that it takes the value from", identity=False)
    batch_size: int = key(64, "level of train.batch_size at which it takes it", low=1, identity=False)


@dataclass
class TuneConfig:
    """How each arm gets its own best value of one key before a study, chosen on validation with seeds used for nothing else."""

    setting: str = key("optim.lr", "key that is tuned", identity=False)
    grid: list[float] = key(factory=list, help="values tried, the same for every arm; empty: no tuning", identity=False)
    seeds: list[int] = key(
        factory=lambda: [1000, 1001, 1002], help="seeds of the tuning runs; the study must not use them", identity=False
    )
    max_values: int | None = key(
        None,
        "largest number of values tried of a study's own grid, evenly spaced, with the first and the last; null: all",
        low=2,
        identity=False,
    )
    extensions: int = key(
        4, "how many times the grid may grow while a best value lies on its edge; 0: never", low=0, identity=False
    )
    linear: LinearRule = key(factory=LinearRule, help="an arm that follows the linear rule instead of being tuned")


@dataclass
class RefineConfig:
    """How a sensitivity study adds levels to its grid, the same for every arm and seed, to find the largest that trains."""

    ratio: float | None = key(
        None,
        "add levels until the largest that trains and the next one are at most this factor apart; null: add none",
        above=1.0,
        identity=False,
    )
    extensions: int = key(
        4, "how many times the grid may grow upwards while its largest level trains; 0: never", low=0, high=20, identity=False
    )


@dataclass
class Decides:
    """Comparisons that decide a study, and what its claim predicts of them. A key that is left out allows all values."""

    arm: str | None = key(None, "arm that is compared; null: every arm", identity=False)
    baseline: str | None = key(None, "what it is compared with; null: whatever the study compares with", identity=False)
    at: dict[str, Any] = key(factory=dict, help="factor -> the one level at which arms are compared", identity=False)
    measure: str | None = key(None, "what is compared, by its short name; null: the first of the analysis", identity=False)
    expect: Direction | None = key(None, "what the claim predicts there; null: study.direction", identity=False)


@dataclass
class Reference:
    """A value that others found for one arm, in the unit of reports: per cent for accuracies."""

    value: float = key(help="value that others found", identity=False)
    low: float | None = key(None, "smallest value expected here; null: no expectation", identity=False)
    high: float | None = key(None, "largest value expected here; null: no expectation", identity=False)


@dataclass
class Published:
    """What others found on a study's question: in words, as values of arms, or both."""

    source: str = key("", "who found it, and where", identity=False)
    note: str = key("", "what was found, in words", identity=False)
    differs: str = key("", "what differs there from the study's own setting, in words", identity=False)
    metric: str = key("test/accuracy", "metric of the values", identity=False)
    at: dict[str, Any] = key(
        factory=dict,
        help="key -> setting of the values; they are shown for the same data set, with the settings that differ",
        identity=False,
    )
    values: dict[str, Reference] = key(factory=dict, help="arm -> value; arms that a study lacks are left out", identity=False)


@dataclass
class ShowConfig:
    """What reports show beside a study's answer. It changes neither run ids nor the study id."""

    figures: list[str] = key(
        factory=list,
        help="more figures: curves (loss and accuracy by epoch), reliability (accuracy over confidence), or another metric of "
        "the runs",
        identity=False,
    )
    published: dict[str, Published] = key(
        factory=dict,
        help="name -> what others found: source, note, metric, at (settings), values (arm -> value, low, high)",
        identity=False,
    )
    errata: list[str] = key(factory=list, help="mistakes in the sources, each with the correction", identity=False)


@dataclass
class StudyConfig:
    """A question: arms x factors x seeds, a metric, an expected direction, a test."""

    name: str = key("", "name of the study", identity=False)
    theme: str = key("", "what lists of studies group it under, such as robustness; empty: other", identity=False)
    question: str = key("", "the question in one sentence", identity=False)
    claim: str = key("", "what the sources claim", identity=False)
    sources: list[str] = key(factory=list, help="where the claim is made", identity=False)
    arms: dict[str, list[str]] = key(factory=dict, help="arm name -> overrides", identity=False)
    factors: dict[str, Any] = key(factory=dict, help="key -> levels, or name -> {level: overrides}", identity=False)
    max_levels: int | None = key(
        None,
        "largest number of levels used of each factor, evenly spaced, with the first and the last; null: all",
        low=2,
        identity=False,
    )
    limits: dict[str, float] = key(factory=dict, help="factor -> the largest level that a budget allows", identity=False)
    seeds: Any = key(10, "number of seeds, or a list of seeds; a study has at most 100,000 runs", identity=False)
    least_seeds: int | None = key(
        None,
        "fewest seeds with which the study can be settled: a budget with fewer takes so many; null: any number",
        low=1,
        identity=False,
    )
    max_seeds: int | None = key(
        None,
        "add seeds until the study is settled, at most so many; null: train study.seeds",
        low=6,
        high=200,  # the null distribution of its test is simulated, in 20 s and 300 MB
        identity=False,
    )
    metric: str = key("test/accuracy", "metric that is compared, at the last epoch", identity=False)
    metrics: dict[str, str] = key(
        factory=dict, help="arm -> metric, for arms that read different metrics of the same runs", identity=False
    )
    baseline: str | None = key(None, "arm that the others are compared with; null: all pairs", identity=False)
    direction: Direction = key(Direction.different, "what is expected of an arm against the baseline", identity=False)
    decides: list[Decides] = key(
        factory=list,
        help="the comparisons that decide the study, each with what is expected; empty: all in the analysis's first measure",
        identity=False,
    )
    analysis: Analysis = key(Analysis.levels, "in what the arms are compared", identity=False)
    match: str = key(
        "train/loss", "matched: loss or accuracy at whose equal values the study's metric is compared", identity=False
    )
    margin: float | None = key(
        None,
        "equivalence margin in the unit of what is compared (if by ratios: one above 1); null: data.margin for accuracies",
        above=0.0,
        identity=False,
    )
    noise_floor: bool = key(
        False, "also compare the baseline with itself: one half of its seeds with the other half", identity=False
    )
    pretrain: list[str] = key(
        factory=list, help="overrides of the run that each run starts from; empty: no pretraining", identity=False
    )
    tune: TuneConfig = key(factory=TuneConfig, help="own best value of a key for each arm", identity=False)
    refine: RefineConfig = key(factory=RefineConfig, help="levels that are added to those of the one factor", identity=False)
    show: ShowConfig = key(factory=ShowConfig, help="what reports show beside the answer", identity=False)
    id: str = key("", "hash of the study with its runs; set by the study sweeper", identity=False)
    arm: str = key("", "arm of this run; set by the study sweeper", identity=False)
    levels: dict[str, Any] = key(factory=dict, help="factor levels of this run; set by the study sweeper", identity=False)
