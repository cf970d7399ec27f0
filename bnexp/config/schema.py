"""The configuration of a run and of a study: every key, its type, default, range and meaning.

Values live in ``configs/*.yaml``; this file says which keys exist. It needs the standard library only, so that command-line
help and completion stay quick. ``compose.py`` turns names and overrides into these dataclasses, ``validate.py`` checks them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field
from typing import Any

from bnexp.config.options import (
    Activation,
    Analysis,
    Augment,
    Backward,
    DataName,
    Device,
    Direction,
    DropoutSide,
    ExecutorName,
    InitLayers,
    InitScheme,
    Kernels,
    ModelName,
    NormKind,
    NormStatistics,
    OptimName,
    Order,
    Placement,
    Precision,
    ResidualInit,
    Schedule,
    Statistics,
    Trainable,
    WandbMode,
)
from bnexp.config.typed import MessageError


class ConfigError(MessageError):
    """A configuration that cannot run. The message is one sentence for the user: what, where, allowed, how to fix."""


class MachineError(ConfigError):
    """A configuration that this machine cannot train, whichever run it is: one message, not one for each run."""


def refuse_text(name: str, values: Sequence[str], example: str) -> None:
    """Raise ConfigError if an argument of the Python API is one text: its letters would be taken for a list of texts.

    Args:
        name: of the argument.
        values: its value.
        example: a text that could stand in the list.
    """
    if isinstance(values, str):
        raise ConfigError(f'{name} is one text: give a list of texts, like ["{example}"].')


def key(
    default: Any = MISSING,
    help: str = "",
    *,
    factory: Any = MISSING,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[Any, ...] = (),
    identity: bool = True,
    built_in: bool = False,
    records: tuple[str, ...] = (),
) -> Any:
    """A dataclass field that knows its meaning and range.

    Args:
        default: its value if no file and no override sets it.
        help: its meaning, for messages and ``bnexp config --keys``.
        factory: makes the default of a field that is a list, a mapping or a dataclass.
        low: smallest allowed value; None for no bound, as for the other three.
        high: largest allowed value.
        above: every allowed value is larger.
        below: every allowed value is smaller.
        choices: the allowed values; empty if the type and the bounds decide.
        identity: False for a presentation key. Such a key does not change what is learned, so the run id leaves it out.
        built_in: True for a key that only bnexp's own networks use, so that it has no effect on a network of the user's.
        records: the metrics that a finished run has if this key is on.
    """
    bounds = {"low": low, "high": high, "above": above, "below": below}
    metadata = {"help": help, "choices": choices, "identity": identity, "built_in": built_in, "records": records, **bounds}
    return field(default=default, default_factory=factory, metadata=metadata)


@dataclass
class DataConfig:
    name: DataName = key(DataName.mnist, "data set")
    root: str | None = key(None, "directory of the raw files; for image_folder and npz the folder or file itself")
    factory: str | None = key(
        None, "python: your function that returns the images, FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION"
    )
    args: dict[str, Any] = key(factory=dict, help="python: arguments of your function, by name")
    fingerprint: str = key("", "python: hash of your function's source; set by bnexp")
    size: int = key(32, "side of the square input image, pixels", low=16, high=256)
    channels: int | None = key(
        None, "channels of the input; null: those of the images; 3 repeats the channel of grey images", choices=(1, 3)
    )
    train_size: int | None = key(
        None,
        "number of training images, stratified, at most as many as there are (but see budget.train_size); null: all",
        low=10,
    )
    val_fraction: float = key(0.05, "part of the training images kept for validation, stratified", low=0.0, below=0.9)
    test_fraction: float = key(0.2, "part used as test set if the source has none", above=0.0, below=0.9)
    split_seed: int = key(0, "seed of the train/validation split, the same for every run", low=0)
    augment: Augment = key(Augment.none, "random changes of training images")
    normalize: bool = key(True, "subtract the training images' mean and divide by their standard deviation")
    order: Order = key(Order.shuffled, "order of the training images; sorted: class by class; grouped: 64 of a class in a row")
    group_classes: int = key(
        1, "order=grouped: number of classes in each 64 images, mixed at random; other classes in each pass", low=1
    )
    duplicates: int = key(1, "copies of each image per training batch; the number of steps per epoch stays the same", low=1)
    contrast: float = key(
        1.0, "factor on the distance of pixel values from mid-grey, before normalisation; -1 inverts", low=-1.0, high=2.0
    )
    brightness: float = key(0.0, "added to pixel values (0 to 1), before normalisation", low=-1.0, high=1.0)
    margin: float = key(1.0, "smallest accuracy difference of practical interest, percentage points", above=0.0, identity=False)
    effort: int = key(
        1,
        "how many times the updates of MNIST a network needs to learn the training images; short budgets multiply by it",
        low=1,
        identity=False,
    )


@dataclass
class NormConfig:
    kind: NormKind = key(NormKind.none, "normalisation layer")
    placement: Placement = key(
        Placement.after_pool,
        "position of the norm in a convolution block; both: before and after the activation; in a block without pooling "
        "after_pool means after_activation; a residual block adds its shortcut right before its last activation",
        built_in=True,
    )
    eps: float = key(1e-5, "added to the variance", above=0.0)
    momentum: float | None = key(
        0.1, "weight of the newest batch in the running statistics; null: cumulative", above=0.0, high=1.0
    )
    affine: bool = key(True, "learn a scale and a shift per channel")
    track_running_stats: bool = key(True, "keep running statistics; false: normalise by the batch in evaluation too")
    linear: bool = key(False, "lenet: normalise hidden linear layers too; an mlp always normalises them", built_in=True)
    groups: int = key(2, "group norm: number of groups; must divide the number of channels of every normalised layer", low=1)
    ghost_size: int | None = key(
        None, "batch norm: number of images that are normalised together; null: the whole batch", low=1
    )
    statistics: Statistics = key(
        Statistics.running, "evaluation by running statistics, or precise ones taken over all training images"
    )
    noise: float = key(
        0.0, "noisy batch norm: spread of the random scale and shift of each activation; Santurkar et al. take 0.5", low=0.0
    )
    r_max: float = key(3.0, "batch renorm: largest correction of the scale", low=1.0)
    d_max: float = key(5.0, "batch renorm: largest correction of the mean, in standard deviations", low=0.0)
    backward: Backward = key(Backward.compact, "how the gradient is computed; the same up to rounding", identity=False)

    @property
    def follows_conv(self) -> bool:
        """Whether a norm directly follows each convolution."""
        return self.placement in (Placement.before_activation, Placement.both)


@dataclass
class InitConfig:
    scheme: InitScheme = key(InitScheme.torch, "distribution of initial weights", built_in=True)
    gain: float = key(1.0, "factor on the initial weights", above=0.0, built_in=True)
    layers: InitLayers = key(
        InitLayers.all, "layers that scheme and gain apply to; the others get PyTorch's default", built_in=True
    )
    residual: ResidualInit = key(
        ResidualInit.none,
        "resnet: start of the residual branches; none: like other layers; zero: at 0, by the scale of the norm that ends a "
        "branch, or else by a learned factor; fixup: without norm, with scaled weights and learned scalars",
        built_in=True,
    )


LENET_CHANNELS = (6, 16)
LENET_UNITS = (120, 84)


@dataclass
class ModelConfig:
    name: ModelName = key(ModelName.lenet, "network")
    factory: str | None = key(None, "python: your function that makes the network, FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION")
    args: dict[str, Any] = key(factory=dict, help="python: further arguments of your function, by name")
    fingerprint: str = key("", "python: hash of your function's source; set by bnexp")
    depth: int = key(
        4,
        "plain: number of convolutions, in four stages with pooling between; mlp: number of hidden layers; resnet: number of "
        "weighted layers, 6n+2 for n blocks in each of three stages",
        low=1,
        high=50,
        built_in=True,
    )
    width: int = key(
        16,
        "plain: channels of each convolution; mlp: units of each hidden layer; resnet: channels of the first stage, which "
        "double from stage to stage",
        low=1,
        built_in=True,
    )
    conv_bias: str = key(
        "auto",
        "bias of convolutions; auto: none if a per-channel affine norm follows directly, or if fixup puts scalars in its place",
        choices=("auto", "true", "false"),
        built_in=True,
    )
    activation: Activation = key(Activation.relu, "activation function", built_in=True)
    dropout: float = key(0.0, "probability that a hidden linear unit is dropped in training", low=0.0, below=1.0, built_in=True)
    dropout_side: DropoutSide = key(
        DropoutSide.after_norm,
        "before_norm: dropout right before the norm of a linear block; after_norm: at its end",
        built_in=True,
    )
    init: InitConfig = key(factory=InitConfig, help="initial weights")

    def __post_init__(self) -> None:
        self.conv_bias = str(self.conv_bias).lower()  # YAML reads true and false as booleans

    def has_conv_bias(self, norm: NormConfig) -> bool:
        """Whether convolutions have a bias.

        With ``auto`` it is dropped before a per-channel affine norm, which cancels it and has its own shift. Layer and group
        norm subtract a mean over several channels, so a bias before them is not redundant. Fixup has one scalar in its place.
        """
        if self.conv_bias != "auto":
            return self.conv_bias == "true"
        if self.init.residual is ResidualInit.fixup:
            return False
        return not (norm.kind.normalises_single_channels and norm.affine and norm.follows_conv)

    @property
    def stage_widths(self) -> tuple[int, int, int]:
        """Number of channels in each stage of a resnet."""
        return self.width, 2 * self.width, 4 * self.width

    def normalised_widths(self, norm: NormConfig) -> list[int]:
        """Number of channels or units of each layer that has a norm; empty without one."""
        if norm.kind is NormKind.none:
            return []
        if self.name is ModelName.resnet:
            return list(self.stage_widths)
        if self.name is not ModelName.lenet:
            return [self.width]
        return [*LENET_CHANNELS, *(LENET_UNITS if norm.linear else ())]

    def has_linear_norm(self, norm: NormConfig) -> bool:
        """Whether hidden linear layers are normalised. In an MLP with a norm they always are: it has no other layers."""
        return norm.kind is not NormKind.none and (self.name is ModelName.mlp or (self.name is ModelName.lenet and norm.linear))


@dataclass
class OptimConfig:
    name: OptimName = key(OptimName.sgd, "optimiser")
    lr: float = key(0.01, "learning rate (peak)", above=0.0)
    momentum: float = key(0.9, "SGD momentum", low=0.0, below=1.0)
    nesterov: bool = key(False, "Nesterov momentum (SGD)")
    weight_decay: float = key(0.0, "L2 penalty on all parameters", low=0.0)
    beta1: float = key(0.9, "Adam: decay of the first moment", low=0.0, below=1.0)
    beta2: float = key(0.999, "Adam: decay of the second moment", low=0.0, below=1.0)
    eps: float = key(1e-8, "Adam: added to the denominator", above=0.0)
    schedule: Schedule = key(Schedule.constant, "course of the learning rate")
    warmup: float = key(0.0, "epochs of linear warm-up", low=0.0)
    step_epochs: float = key(5.0, "step schedule: epochs between two drops", above=0.0)
    step_gamma: float = key(0.1, "step schedule: factor of a drop", above=0.0, high=1.0)


@dataclass
class TrainConfig:
    epochs: int = key(10, "length of the training; an epoch is one pass through the training images, or steps_per_epoch", low=1)
    steps_per_epoch: int | None = key(
        None,
        "updates per epoch, each on a full batch; passes through the images go on from one epoch to the next; null: one pass, "
        "whose last batch takes what is left",
        low=1,
        high=1_000_000,
    )
    batch_size: int = key(64, "training images per step", low=1)
    eval_batch_size: int = key(500, "images per step in evaluation", low=1, identity=False)
    device: Device = key(
        Device.auto, "device that trains; auto: a GPU if there is one, else the CPU; on Ray the CPU", identity=False
    )
    precision: Precision = key(Precision.fp32, "number format, the same for every arm")
    kernels: Kernels = key(
        Kernels.auto,
        "what computes a convolution with the max pooling that follows it, on a CPU; auto: bnexp, both at once, where it can; "
        "torch: PyTorch; the same up to rounding",
        identity=False,
    )
    evals_per_epoch: int = key(1, "validations per epoch, evenly spaced", low=1)
    init_from: str | None = key(None, "run whose weights training starts from; null: newly drawn weights")
    trainable: Trainable = key(Trainable.all, "parameters that are trained; head: the output layer")
    norm_statistics: NormStatistics = key(
        NormStatistics.live,
        "running statistics in training: live: updated by each batch; frozen: used as they are; recomputed: computed over "
        "the training images first, then frozen",
    )
    log_every: int = key(
        0, "number of steps between two records of the training loss; 0: only once per epoch", low=0, identity=False
    )

    def images_per_epoch(self, num_train: int) -> int:
        """How many images an epoch shows, each counted as often as it is seen, if there are ``num_train`` training images."""
        return num_train if self.steps_per_epoch is None else self.steps_per_epoch * self.batch_size

    def updates_per_epoch(self, num_train: int) -> int:
        """How many updates make an epoch, if there are ``num_train`` training images."""
        return math.ceil(self.images_per_epoch(num_train) / self.batch_size)


READING_SIZES = (1, 2, 8, 64, 1000)  # images per batch of the ``statistics`` probe
READING_SHIFT = (0.5, 0.25)  # ``data.contrast`` and ``data.brightness`` of its shifted test images


@dataclass
class ProbeConfig:
    """Measurements of a training that do not disturb it: the weights are the same with and without them, bit for bit.

    ``records`` names the metrics that a probe adds to a finished run: means over its epochs, or for ``gap`` the values of the
    last epoch. Values of single layers are recorded as well, but not named here. ``training/probes`` defines all of them.
    """

    activations: bool = key(
        False, "percentiles of pre-activations; fraction of dead units", records=("activations/dead", "activations/drift")
    )
    gradients: bool = key(False, "norm of each layer's gradient", records=("gradients/log_ratio",))
    initial_gradients: bool = key(
        False, "norm of each layer's gradient before the first update", records=("initial_gradients/log_ratio",)
    )
    covariate_shift: bool = key(
        False,
        "change of a layer's gradient after the update of the layers before it",
        records=("covariate_shift/l2", "covariate_shift/relative_l2", "covariate_shift/cosine"),
    )
    landscape: bool = key(
        False,
        "loss range, gradient change and smoothness along the gradient",
        records=(
            "landscape/loss_range",
            "landscape/gradient_change",
            "landscape/relative_gradient_change",
            "landscape/beta",
        ),
    )
    oscillation: bool = key(False, "deviation of the step losses from their trend", records=("oscillation/loss",))
    decoupling: bool = key(
        False, "loss change of a step compared with the sum of its layers' loss changes", records=("decoupling/gap",)
    )
    statistics: bool = key(
        False,
        "accuracy of the same weights with other batch norm statistics",
        records=(
            "statistics/running",
            "statistics/precise",
            *(f"statistics/batch_{n}" for n in READING_SIZES),
            "statistics/training_mode",
            "statistics/after_training_mode",
            "statistics/shifted/running",
            *(f"statistics/shifted/batch_{n}" for n in READING_SIZES),
        ),
    )
    similar: bool = key(
        False,
        "output and gradient of norms on a batch of nearly equal images",
        records=("similar/output_deviation", "similar/backward_gain"),
    )
    cost: bool = key(
        False,
        "time of a step compared with the network without norm; memory; number of parameters",
        records=("cost/step_ms", "cost/step_ratio", "cost/activation_mib", "cost/parameters"),
    )
    gap: bool = key(
        False,
        "loss and accuracy on training images in evaluation mode",
        records=("train_eval/loss", "train_eval/accuracy", "gap/loss", "gap/accuracy", "gap/mode_accuracy"),
    )
    per_epoch: int = key(1, "measurements at single steps per epoch, evenly spaced; each is recorded with its step", low=1)
    images: int = key(256, "number of images in the fixed batch that measurements use", low=2)
    jitter: float = key(0.01, "similar: standard deviation of the difference between images", low=0.0)


@dataclass
class WandbConfig:
    mode: WandbMode = key(
        WandbMode.auto,
        "auto: as WANDB_MODE says, else online when a key is configured, else offline. The others win over WANDB_MODE, but "
        "WANDB_MODE=disabled always wins",
        identity=False,
    )
    project: str = key("bnexp", "W&B project", identity=False)
    entity: str | None = key(None, "W&B user or team", identity=False)
    tags: list[str] = key(factory=list, help="more W&B tags", identity=False)
    artifacts: bool = key(False, "log the weights as an artifact of type model", identity=False)
    group: str | None = key(None, "W&B group; null: the study's name", identity=False)
    job_type: str | None = key(None, "W&B job type of runs; null: their arm", identity=False)
    notes: str | None = key(None, "W&B notes of every run", identity=False)
    machine: bool = key(
        False,
        "have W&B itself record machine, console, code and git; it names the machine and its user, and takes longer than a "
        "small run",
        identity=False,
    )


@dataclass
class TrackConfig:
    predictions: int = key(128, "test images in the W&B prediction table; 0: no table", low=0, identity=False)
    predictions_every: int | None = key(
        None,
        "epochs between predictions of the test images during training, recorded and shown as tables on W&B; null: only at "
        "the end",
        low=1,
        identity=False,
    )
    wandb: WandbConfig = key(factory=WandbConfig, help="Weights & Biases", identity=False)


@dataclass
class ExecutorConfig:
    name: ExecutorName = key(
        ExecutorName.auto,
        "local: pool of processes; inline: this process; ray: tasks on a Ray cluster; auto: by device",
        identity=False,
    )
    workers: int | None = key(None, "number of worker processes; null: one per core", low=1, identity=False)
    address: str | None = key(
        None,
        "Ray cluster, HOST:PORT or auto; null: RAY_ADDRESS if it is set, else a new Ray on this machine",
        identity=False,
    )


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


@dataclass
class RunConfig:
    """One training: everything that decides its result, and how the result is presented."""

    seed: int = key(0, "seed of initial weights, data order, augmentation and dropout", low=0)
    data: DataConfig = key(factory=DataConfig)
    model: ModelConfig = key(factory=ModelConfig)
    norm: NormConfig = key(factory=NormConfig)
    optim: OptimConfig = key(factory=OptimConfig)
    train: TrainConfig = key(factory=TrainConfig)
    probe: ProbeConfig = key(factory=ProbeConfig)
    track: TrackConfig = key(factory=TrackConfig, identity=False)
    executor: ExecutorConfig = key(factory=ExecutorConfig, identity=False)
    budget: BudgetConfig = key(factory=BudgetConfig, identity=False)
    optimized_metric: str | None = key(
        None, "metric of the last epoch that a searching sweeper optimises; null: val/accuracy", identity=False
    )
    study: StudyConfig = key(factory=StudyConfig, identity=False)
