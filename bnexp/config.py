"""The schema of a run and of a study: every key, its type, default, range and meaning.

Values live in ``configs/*.yaml``; this file says which values are possible. It needs the standard library only, so that
command-line help and completion stay quick. ``compose.py`` turns names and overrides into these dataclasses.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, get_args, get_type_hints

# What a finished run has recorded of its last epoch, and so what a study can compare; val/* where a part is held out.
FINAL_METRICS = (
    *(f"{split}/{name}" for split in ("train", "val", "test") for name in ("loss", "accuracy")),
    *("learning_rate", "time/epoch_seconds", "time/images_per_second"),
)


class ConfigError(Exception):
    """A configuration that cannot run. The message is one sentence for the user: what, where, allowed, how to fix."""


class DataName(StrEnum):
    digits = "digits"
    mnist = "mnist"
    fashion_mnist = "fashion_mnist"
    kmnist = "kmnist"
    cifar10 = "cifar10"
    cifar100 = "cifar100"
    svhn = "svhn"
    image_folder = "image_folder"
    npz = "npz"


class Augment(StrEnum):
    none = "none"
    flip = "flip"
    crop = "crop"
    flip_crop = "flip_crop"


class ModelName(StrEnum):
    lenet = "lenet"


class Activation(StrEnum):
    relu = "relu"
    leaky_relu = "leaky_relu"
    tanh = "tanh"
    sigmoid = "sigmoid"
    identity = "identity"
    gelu = "gelu"
    silu = "silu"


class InitScheme(StrEnum):
    torch = "torch"
    normal = "normal"
    xavier = "xavier"
    kaiming = "kaiming"
    orthogonal = "orthogonal"


class NormKind(StrEnum):
    none = "none"
    batch = "batch"


class Placement(StrEnum):
    before_activation = "before_activation"
    after_activation = "after_activation"
    after_pool = "after_pool"
    both = "both"


class OptimName(StrEnum):
    sgd = "sgd"
    adam = "adam"


class Schedule(StrEnum):
    constant = "constant"
    cosine = "cosine"
    step = "step"
    one_cycle = "one_cycle"


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(StrEnum):
    fp32 = "fp32"
    fp64 = "fp64"
    tf32 = "tf32"
    bf16 = "bf16"


class WandbMode(StrEnum):
    auto = "auto"
    online = "online"
    offline = "offline"
    disabled = "disabled"


class ExecutorName(StrEnum):
    auto = "auto"
    local = "local"
    inline = "inline"
    ray = "ray"


class Analysis(StrEnum):
    """What a study's verdict is about: each factor level on its own, or the whole course over a numeric factor."""

    levels = "levels"
    sensitivity = "sensitivity"


class Direction(StrEnum):
    """What a study expects of an arm against its baseline."""

    greater = "greater"
    less = "less"
    different = "different"
    equivalent = "equivalent"


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
) -> Any:
    """A dataclass field that knows its meaning and range.

    ``low``/``high`` are inclusive bounds, ``above``/``below`` exclusive ones. ``identity=False`` marks a presentation key:
    it does not change what is learned and so is left out of the run id.
    """
    bounds = {"low": low, "high": high, "above": above, "below": below}
    metadata = {"help": help, "choices": choices, "identity": identity, **bounds}
    return field(default=default, default_factory=factory, metadata=metadata)


@dataclass
class DataConfig:
    name: DataName = key(DataName.mnist, "data set")
    root: str | None = key(None, "where the raw files are; for image_folder and npz the folder or file itself")
    size: int = key(32, "side of the square input image, pixels", low=16, high=256)
    channels: int | None = key(None, "channels of the input; null: as the images have, 3 repeats grey", choices=(1, 3))
    train_size: int | None = key(None, "training images used, stratified; null uses all", low=10)
    val_fraction: float = key(0.05, "part of the training images kept for validation, stratified", low=0.0, below=0.9)
    test_fraction: float = key(0.2, "part used as test set where the source has no test set", above=0.0, below=0.9)
    split_seed: int = key(0, "seed of the train/validation split, the same for every run", low=0)
    augment: Augment = key(Augment.none, "random changes of training images")
    margin: float = key(1.0, "smallest accuracy difference of practical interest, percentage points", above=0.0, identity=False)


@dataclass
class NormConfig:
    kind: NormKind = key(NormKind.none, "normalisation layer")
    placement: Placement = key(Placement.after_pool, "where in a convolution block; both: before and after the activation")
    eps: float = key(1e-5, "added to the variance", above=0.0)
    momentum: float | None = key(
        0.1, "weight of the newest batch in the running statistics; null: cumulative", above=0.0, high=1.0
    )
    affine: bool = key(True, "learn a scale and a shift a channel")
    track_running_stats: bool = key(True, "keep running statistics; false: normalise by the batch in evaluation too")
    linear: bool = key(False, "normalise hidden linear layers too")

    @property
    def follows_conv(self) -> bool:
        """Whether a norm directly follows each convolution."""
        return self.placement in (Placement.before_activation, Placement.both)


@dataclass
class InitConfig:
    scheme: InitScheme = key(InitScheme.torch, "distribution of initial weights")
    gain: float = key(1.0, "factor on the initial weights", above=0.0)


@dataclass
class ModelConfig:
    name: ModelName = key(ModelName.lenet, "network")
    conv_bias: str = key(
        "auto", "bias of convolutions; auto: none where an affine norm follows directly", choices=("auto", "true", "false")
    )
    activation: Activation = key(Activation.relu, "activation function")
    dropout: float = key(0.0, "probability that a hidden linear unit is dropped in training", low=0.0, below=1.0)
    init: InitConfig = key(factory=InitConfig, help="initial weights")

    def __post_init__(self) -> None:
        self.conv_bias = str(self.conv_bias).lower()  # YAML reads true and false as booleans

    def has_conv_bias(self, norm: NormConfig) -> bool:
        """Whether convolutions have a bias; ``auto`` drops it where the norm's own shift makes it redundant."""
        if self.conv_bias != "auto":
            return self.conv_bias == "true"
        return not (norm.kind is not NormKind.none and norm.affine and norm.follows_conv)


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
    epochs: int = key(10, "passes through the training images", low=1)
    batch_size: int = key(64, "training images a step", low=1)
    eval_batch_size: int = key(1000, "images a step in evaluation", low=1, identity=False)
    device: Device = key(Device.auto, "where to compute", identity=False)
    precision: Precision = key(Precision.fp32, "number format, the same for every arm")
    log_every: int = key(0, "also record the training loss every so many steps; 0: once an epoch", low=0, identity=False)


@dataclass
class WandbConfig:
    mode: WandbMode = key(WandbMode.auto, "auto: online when a key is configured, else offline", identity=False)
    project: str = key("bnexp", "W&B project", identity=False)
    entity: str | None = key(None, "W&B user or team", identity=False)
    tags: list[str] = key(factory=list, help="more W&B tags", identity=False)
    artifacts: bool = key(False, "log the weights as an artifact of type model", identity=False)


@dataclass
class TrackConfig:
    predictions: int = key(128, "test images in the W&B prediction table; 0: no table", low=0, identity=False)
    wandb: WandbConfig = key(factory=WandbConfig, help="Weights & Biases", identity=False)


@dataclass
class ExecutorConfig:
    name: ExecutorName = key(
        ExecutorName.auto,
        "local: pool of processes; inline: this process; ray: tasks on a Ray cluster; auto: by device",
        identity=False,
    )
    workers: int | None = key(None, "worker processes; null: one a core", low=1, identity=False)
    address: str | None = key(
        None, "Ray cluster, HOST:PORT or auto; null: RAY_ADDRESS, else a Ray of its own on this machine", identity=False
    )


@dataclass
class StudyConfig:
    """A question: arms x factors x seeds, a metric, an expected direction, a test."""

    name: str = key("", "name of the study", identity=False)
    question: str = key("", "the question in one sentence", identity=False)
    claim: str = key("", "what the sources claim", identity=False)
    sources: list[str] = key(factory=list, help="where the claim is made", identity=False)
    arms: dict[str, list[str]] = key(factory=dict, help="arm name -> overrides", identity=False)
    factors: dict[str, Any] = key(factory=dict, help="key -> levels, or name -> {level: overrides}", identity=False)
    seeds: Any = key(10, "a count, or a list of seeds", identity=False)
    metric: str = key("test/accuracy", "metric that is compared, last epoch", identity=False)
    baseline: str | None = key(None, "arm that the others are compared with; null: all pairs", identity=False)
    direction: Direction = key(Direction.different, "what is expected of an arm against the baseline", identity=False)
    expect: dict[str, Direction] = key(
        factory=dict, help="level -> direction, where it differs from `direction`", identity=False
    )
    analysis: Analysis = key(
        Analysis.levels, "levels: a verdict a level; sensitivity: of the course over a numeric factor", identity=False
    )
    margin: float | None = key(None, "equivalence margin, percentage points; null: data.margin", above=0.0, identity=False)
    id: str = key("", "hash of the study with its runs; set by the study sweeper", identity=False)
    arm: str = key("", "arm of this run; set by the study sweeper", identity=False)
    levels: dict[str, Any] = key(factory=dict, help="factor levels of this run; set by the study sweeper", identity=False)


@dataclass
class RunConfig:
    """One training: everything that decides its outcome, and how it is presented."""

    seed: int = key(0, "seed of initial weights, data order, augmentation and dropout", low=0)
    data: DataConfig = key(factory=DataConfig)
    model: ModelConfig = key(factory=ModelConfig)
    norm: NormConfig = key(factory=NormConfig)
    optim: OptimConfig = key(factory=OptimConfig)
    train: TrainConfig = key(factory=TrainConfig)
    track: TrackConfig = key(factory=TrackConfig, identity=False)
    executor: ExecutorConfig = key(factory=ExecutorConfig, identity=False)
    study: StudyConfig = key(factory=StudyConfig, identity=False)


@dataclass(frozen=True)
class KeyInfo:
    """What is known of one dotted configuration key."""

    name: str
    type: Any
    help: str
    metadata: dict[str, Any]

    @property
    def choices(self) -> list[str]:
        """The values of an enumerated key as text; empty where the key is not enumerated."""
        enum = next((t for t in self._types if isinstance(t, type) and issubclass(t, StrEnum)), ())
        switch = ("true", "false") if bool in self._types else ()
        return [str(choice) for choice in (*self.metadata["choices"], *enum, *switch)]

    @property
    def _types(self) -> tuple[Any, ...]:
        return get_args(self.type) or (self.type,)

    @property
    def optional(self) -> bool:
        return type(None) in self._types

    def allowed(self) -> str:
        """The allowed values, as a phrase: ``none, batch`` or ``a number above 0``."""
        if self.choices:
            return ", ".join(self.choices) + (" or null" if self.optional else "")
        noun = "an integer" if int in self._types else "a number" if float in self._types else None
        if noun is None:
            origin = getattr(self.type, "__origin__", None)
            return "a list" if origin is list else "a mapping" if origin is dict else "text"
        words = {"low": "at least", "above": "above", "high": "at most", "below": "below"}
        bounds = [f"{word} {self.metadata[bound]:g}" for bound, word in words.items() if self.metadata[bound] is not None]
        return noun + (" " + " and ".join(bounds) if bounds else "") + (" or null" if self.optional else "")


@cache
def schema_keys(cls: type = RunConfig, prefix: str = "") -> tuple[KeyInfo, ...]:
    """Every leaf key of the schema with its dotted name, in declaration order."""
    hints = get_type_hints(cls)
    keys: list[KeyInfo] = []
    for item in fields(cls):
        hint = hints[item.name]
        if is_dataclass(hint):
            assert isinstance(hint, type)
            keys += schema_keys(hint, f"{prefix}{item.name}.")
        else:
            metadata = dict(item.metadata)
            keys.append(KeyInfo(prefix + item.name, hint, metadata["help"], metadata))
    return tuple(keys)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`` Did you mean X?`` for the closest known word, or an empty string."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not close:
        tails = {name.rsplit(".", 1)[-1]: name for name in reversed(known)}
        close = [tails[tail] for tail in difflib.get_close_matches(word.rsplit(".", 1)[-1], list(tails), n=1, cutoff=0.75)]
    return f" Did you mean {close[0]}?" if close else ""


def resolve_seeds(seeds: Any) -> list[int]:
    """``study.seeds`` as a list: a count ``n`` means ``0 .. n-1``. Raises ConfigError on anything else."""
    if isinstance(seeds, int) and not isinstance(seeds, bool) and seeds > 0:
        return list(range(seeds))
    listed = isinstance(seeds, list) and all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in seeds)
    if listed and 0 < len(seeds) == len(set(seeds)):
        return list(seeds)
    raise ConfigError(
        f"study.seeds={seeds} is not possible: allowed is a count above 0 or a list of different integers of at least 0; "
        "try study.seeds=6 or study.seeds=[0,1,2]."
    )


def validate(config: RunConfig) -> None:
    """Check ranges and combinations of one resolved configuration. Raises ConfigError with the first problem."""
    for info in schema_keys():
        value: Any = config
        for part in info.name.split("."):
            value = getattr(value, part)
        if info.metadata["choices"] and value is not None and value not in info.metadata["choices"]:
            raise ConfigError(f"{info.name}={value} is not possible: allowed is {info.allowed()} ({info.help}).")
        if isinstance(value, int | float) and not isinstance(value, bool):
            _check_range(info, value)
    _check_combinations(config)


def _check_range(info: KeyInfo, value: float) -> None:
    m = info.metadata
    inside = (
        math.isfinite(value)
        and (m["low"] is None or value >= m["low"])
        and (m["above"] is None or value > m["above"])
        and (m["high"] is None or value <= m["high"])
        and (m["below"] is None or value < m["below"])
    )
    if not inside:
        raise ConfigError(f"{info.name}={value:g} is out of range: allowed is {info.allowed()} ({info.help}).")


def check_name(word: str, what: str) -> None:
    """Raise ConfigError unless ``word`` can be the name of a study, an arm or a factor, and so of a directory."""
    if not re.fullmatch(r"[\w-][\w.-]*", word):
        raise ConfigError(f"{what} {word!r} is not possible: use letters, digits, '_', '-' and, not first, '.'.")


def _check_combinations(config: RunConfig) -> None:
    for name, word in (("study.name", config.study.name), ("study.arm", config.study.arm)):
        if word:
            check_name(word, name)
    data, optim, train, norm = config.data, config.optim, config.train, config.norm
    if data.name in (DataName.image_folder, DataName.npz) and not data.root:
        what = "the folder with one folder a class" if data.name is DataName.image_folder else "the .npz file"
        raise ConfigError(f"data={data.name} needs data.root: {what}; add data.root=PATH.")
    if config.executor.address and config.executor.name is not ExecutorName.ray:
        raise ConfigError(
            f"executor.address={config.executor.address} has no effect with executor={config.executor.name}; add executor=ray."
        )
    if optim.name is OptimName.sgd and optim.nesterov and optim.momentum == 0:
        raise ConfigError("optim.nesterov=true needs optim.momentum above 0; set optim.momentum=0.9 or optim.nesterov=false.")
    if optim.warmup >= train.epochs and optim.warmup > 0:
        raise ConfigError(
            f"optim.warmup={optim.warmup:g} leaves no epoch to train: allowed is below train.epochs={train.epochs}; "
            "lower the one or raise the other."
        )
    if train.precision is Precision.tf32 and train.device in (Device.cpu, Device.mps):
        raise ConfigError(
            f"train.precision=tf32 needs a CUDA device, not train.device={train.device}; use train.precision=fp32."
        )
    if train.precision is Precision.fp64 and train.device is Device.mps:
        raise ConfigError("train.precision=fp64 does not exist on train.device=mps; use train.precision=fp32.")
    if norm.kind is NormKind.batch and train.batch_size == 1 and norm.linear:
        raise ConfigError(
            "norm.linear=true with train.batch_size=1 leaves one value a channel to normalise; "
            "raise train.batch_size to 2 or more, or set norm.linear=false."
        )
