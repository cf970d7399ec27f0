"""The named choices of the configuration."""

from __future__ import annotations

from enum import StrEnum


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

    @property
    def own_files(self) -> str:
        """What ``data.root`` must name for files of the user's own; empty for a published data set."""
        return _OWN_FILES.get(self, "")


_OWN_FILES = {DataName.image_folder: "the folder with one folder per class", DataName.npz: "the .npz file"}


class Augment(StrEnum):
    none = "none"
    flip = "flip"
    crop = "crop"
    flip_crop = "flip_crop"


class Order(StrEnum):
    """In which order a run sees its training images."""

    shuffled = "shuffled"
    sorted = "sorted"
    grouped = "grouped"


class ModelName(StrEnum):
    lenet = "lenet"
    mlp = "mlp"
    plain = "plain"


class DropoutSide(StrEnum):
    """Where dropout stands in a linear block with a norm."""

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
    """Which layers the init scheme and gain hold for; the others get PyTorch's default."""

    all = "all"
    conv = "conv"


class NormKind(StrEnum):
    none = "none"
    batch = "batch"
    layer = "layer"
    instance = "instance"
    group = "group"
    batch_renorm = "batch_renorm"


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
    """What becomes of batch norm's running statistics in training."""

    live = "live"
    frozen = "frozen"
    recomputed = "recomputed"


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
    """What a study compares its arms in.

    ``levels``          the metric, at each factor level on its own
    ``sensitivity``     the course of an accuracy over one numeric factor: area, width, largest stable level
    ``interaction``     how the difference between arms changes from the first factor level to each other one
    ``trend``           whether the difference between arms rises or falls over the ordered levels of one factor
    ``time_to_target``  updates and seconds until the validation accuracy that the baseline ends with
    ``matched_loss``    validation minus training loss where the arms have the same training loss
    ``predictions``     which test images two arms get right: McNemar
    """

    levels = "levels"
    sensitivity = "sensitivity"
    interaction = "interaction"
    trend = "trend"
    time_to_target = "time_to_target"
    matched_loss = "matched_loss"
    predictions = "predictions"


class Direction(StrEnum):
    """What a study expects of an arm against its baseline."""

    greater = "greater"
    less = "less"
    different = "different"
    equivalent = "equivalent"
