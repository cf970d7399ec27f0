"""The named choices of the configuration."""

from __future__ import annotations

from enum import StrEnum

# The themes of the study files (``study.theme``), in the order in which lists and the book of claims have them.
THEMES = (
    "accuracy",
    "speed and cost",
    "robustness",
    "batches",
    "layer design",
    "regularization",
    "training dynamics",
    "test-time statistics",
)


def theme_order(theme: str) -> tuple[int, str]:
    """Sort key of a theme: those of ``THEMES`` first, then a user's own by name, then studies without one."""
    known = THEMES.index(theme) if theme in THEMES else len(THEMES)
    return (known if theme else len(THEMES) + 1), theme


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
    python = "python"

    @property
    def is_own(self) -> bool:
        """Whether the images are the user's own, so that the catalogue knows nothing of them."""
        return self in _OWN_FILES or self is DataName.python

    @property
    def own_files(self) -> str:
        """What ``data.root`` must name if the files are the user's own; empty if it names none of them."""
        return _OWN_FILES.get(self, "")


_OWN_FILES = {DataName.image_folder: "the folder with one folder per class", DataName.npz: "the .npz file"}


class Augment(StrEnum):
    none = "none"
    flip = "flip"
    crop = "crop"
    flip_crop = "flip_crop"


class Order(StrEnum):
    """The order in which a run sees its training images."""

    shuffled = "shuffled"
    sorted = "sorted"
    grouped = "grouped"


class ModelName(StrEnum):
    lenet = "lenet"
    mlp = "mlp"
    plain = "plain"
    resnet = "resnet"
    python = "python"

    @property
    def pools(self) -> bool:
        """Whether there is max pooling, so that a norm after pooling differs from a norm after the activation."""
        return self in (ModelName.lenet, ModelName.plain)

    @property
    def has_hidden_units(self) -> bool:
        """Whether there are hidden linear layers."""
        return self in (ModelName.lenet, ModelName.mlp)


class DropoutSide(StrEnum):
    """The position of dropout in a linear block with a norm."""

    before_norm = "before_norm"
    after_norm = "after_norm"


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


class InitLayers(StrEnum):
    """Which layers the init scheme and gain apply to; the others get PyTorch's default."""

    all = "all"
    conv = "conv"


class ResidualInit(StrEnum):
    """What the residual branches of a network begin as."""

    none = "none"
    zero = "zero"
    fixup = "fixup"


class NormKind(StrEnum):
    """The norm layers. Facts that follow from the kind alone are properties here; the layers are in ``model/norms``."""

    none = "none"
    batch = "batch"
    layer = "layer"
    instance = "instance"
    group = "group"
    batch_renorm = "batch_renorm"

    @property
    def has_running_statistics(self) -> bool:
        """Whether training normalises by the statistics of the batch, and evaluation by running averages of them."""
        return self in (NormKind.batch, NormKind.batch_renorm)

    @property
    def normalises_single_channels(self) -> bool:
        """Whether each channel has a mean of its own. Subtracting it cancels a bias that was added to the channel before."""
        return self in (NormKind.batch, NormKind.batch_renorm, NormKind.instance)

    @property
    def needs_maps(self) -> bool:
        """Whether it cannot normalise linear layers: it takes each unit of each image by itself, and that is a single value."""
        return self.normalises_single_channels and not self.has_running_statistics

    @property
    def own_keys(self) -> frozenset[str]:
        """Keys of ``norm`` that this kind uses, but not every kind."""
        running = {"momentum", "track_running_stats", "statistics"} if self.has_running_statistics else set()
        special = {
            NormKind.batch: {"ghost_size", "noise"},
            NormKind.batch_renorm: {"r_max", "d_max"},
            NormKind.group: {"groups"},
        }
        return frozenset(running | special.get(self, set()))


class Backward(StrEnum):
    """How a norm layer computes its gradient."""

    compact = "compact"
    staged = "staged"
    autograd = "autograd"


class Statistics(StrEnum):
    """What batch norm normalises by in evaluation."""

    running = "running"
    precise = "precise"


class Trainable(StrEnum):
    """Which parameters are trained: all, norm scale and shift, the output layer, or the last two."""

    all = "all"
    norm = "norm"
    head = "head"
    norm_head = "norm_head"


class NormStatistics(StrEnum):
    """How training treats batch norm's running statistics, see ``train.norm_statistics``."""

    live = "live"
    frozen = "frozen"
    recomputed = "recomputed"


class Placement(StrEnum):
    before_activation = "before_activation"
    after_activation = "after_activation"
    after_pool = "after_pool"
    both = "both"


class OptimName(StrEnum):
    """The optimisers. They are in ``training/optim.py``."""

    sgd = "sgd"
    adam = "adam"

    @property
    def own_keys(self) -> frozenset[str]:
        """Keys of ``optim`` that this optimiser uses, but not every optimiser."""
        keys = {OptimName.sgd: {"momentum", "nesterov"}, OptimName.adam: {"beta1", "beta2", "eps"}}
        return frozenset(keys.get(self, set()))


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


class Kernels(StrEnum):
    """What computes a convolution and the max pooling that follows it, on a CPU."""

    auto = "auto"
    torch = "torch"


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
    """In what a study compares its arms. What an analysis needs of a study is a property here; the rest is in ``comparison``.

    ``levels``          the metric, at each factor level on its own
    ``sensitivity``     the course of an accuracy over one numeric factor: area, width, largest stable level
    ``interaction``     how the difference between arms changes from the first factor level to each other one
    ``trend``           whether the difference between arms rises or falls over the ordered levels of one factor
    ``time_to_target``  updates and seconds until an arm reaches the accuracy that the baseline ends with on average
    ``matched``         the metric where the arms have the same training loss, or the same ``study.match``
    ``predictions``     which test images two arms get right: McNemar
    """

    levels = "levels"
    sensitivity = "sensitivity"
    interaction = "interaction"
    trend = "trend"
    time_to_target = "time_to_target"
    matched = "matched"
    predictions = "predictions"

    @property
    def least_levels(self) -> int:
        """The smallest number of levels that its factor may have; 0 if it needs no factor."""
        return {Analysis.interaction: 2, Analysis.sensitivity: 2, Analysis.trend: 3}.get(self, 0)

    @property
    def measures(self) -> tuple[str, ...]:
        """Short names of what it compares. The first one decides a study, unless ``study.decides`` names another."""
        named = {Analysis.sensitivity: ("largest_stable", "area", "width"), Analysis.time_to_target: ("updates", "seconds")}
        return named.get(self, (self.value,))

    @property
    def tested_by_signs(self) -> tuple[str, ...]:
        """Measures with few different values, by a grid or by validations, or with censored ones: no t test suits them."""
        return {Analysis.sensitivity: ("largest_stable",), Analysis.time_to_target: self.measures}.get(self, ())

    @property
    def needs_one_factor(self) -> bool:
        """Whether it works along a single factor."""
        return self in (Analysis.sensitivity, Analysis.trend)

    @property
    def needs_order(self) -> bool:
        """Whether the levels of its factor must be in order."""
        return self is Analysis.trend

    @property
    def needs_baseline(self) -> bool:
        """Whether it needs ``study.baseline``: one arm that all others are compared with."""
        return self in (Analysis.time_to_target, Analysis.predictions)

    @property
    def needs_accuracy(self) -> bool:
        """Whether the metric must be an accuracy."""
        return self is Analysis.sensitivity

    @property
    def needs_validation(self) -> bool:
        """Whether it reads validation results of each run."""
        return self is Analysis.time_to_target

    @property
    def judges_metric(self) -> bool:
        """Whether ``greater`` and ``less`` refer to the metric itself."""
        return self in (Analysis.levels, Analysis.matched)


class Direction(StrEnum):
    """What a study expects of an arm compared with its baseline.

    ``greater`` ``less`` ``different``   a difference
    ``equivalent``                       none beyond the margin
    ``at_least``                         none below the margin: a larger value supports it as well
    """

    greater = "greater"
    less = "less"
    different = "different"
    equivalent = "equivalent"
    at_least = "at_least"
