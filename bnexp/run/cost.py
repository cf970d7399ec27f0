"""What training costs: seconds of processor time, computed from the configuration before anything trains.

A step takes a fixed time, a fixed time per layer, and a time per image in proportion to the work in the layers
(``model/counts.py``). All constants are below. ``run/pace.py`` compares them with the runs recorded on this machine.

The constants were fitted to the processor time of real training steps on random images, by least squares of the logarithms:
torch 2.14, one core of a shared Xeon with AVX-512 at 2.6 GHz, median of three. The 66 settings are lenet, mlp, plain and resnet
of 2 to 32 layers, plain of 8 to 64 channels, batches of 1 to 256 images of 32 or 64 pixels, all norms and placements. Each was
measured twice within half an hour. The largest error is a factor of 1.33 of the geometric mean of the two, which differ by up
to 1.55 themselves: the machine was busy. Of ``STEP``, 2e-4 is the loop around a step (``training/loop.py``) with lenet.
``NOISE_VALUE``, ``READINGS`` and ``RUN`` were fitted to 4,000 recorded runs at the budgets smoke and quick, ``BETWEEN`` and
``STUDY`` to the wall times of all studies at these budgets, also on an AMD EPYC.
The constants of kernels were fitted to the processor time of 46 such steps with kernels as a part of that without, taking turns
(.45 to 1.03): lenet, plain, mlp and resnet, without a norm and with batch norm at three placements. The largest error of such a
ratio is a factor of 1.19.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from bnexp.config.options import Backward, Kernels, NormKind, OptimName, Precision, Statistics
from bnexp.config.schema import READING_SIZES, DataConfig, RunConfig
from bnexp.data.amount import num_available, split_sizes
from bnexp.data.catalogue import CATALOGUE
from bnexp.model.counts import COUNTED, Counts, count

# Seconds per step, whatever the batch size: of the step itself, and of each layer's forward and backward pass.
STEP, CONV, NORM, OTHER = 5.6e-4, 2.7e-4, 3.8e-4, 7.6e-5
PARAMETER = {OptimName.sgd: 4.7e-9, OptimName.adam: 1.7e-8}

# Seconds per image and step: of a multiply-add, of a value that a norm normalises, of one that another layer
# reads, of one of the image itself, which is gathered and normalised.
CONV_PRODUCT, LINEAR_PRODUCT, OTHER_VALUE, IMAGE_VALUE = 5.0e-11, 4.4e-11, 6.0e-9, 1.2e-9
NORM_VALUE = {
    NormKind.none: 0.0,
    NormKind.batch: 6.9e-9,
    NormKind.layer: 9.3e-9,
    NormKind.instance: 4.0e-9,
    NormKind.group: 9.4e-9,
    NormKind.batch_renorm: 1.9e-8,
}

# With kernels: a multiply-add of a convolution with pooling, as a part of one that PyTorch computes; seconds per value that
# pooling reads; seconds per step of a batch norm, and per value that it normalises.
FUSED, POOL_VALUE, KERNEL_NORM, KERNEL_NORM_VALUE = 0.78, 5.5e-9, 2.8e-4, 5.2e-9

# Layers with weights of a network whose layers nobody has counted.
ASSUMED_LAYERS = 10

# A forward pass as a part of forward and backward pass (0.22 to 0.41 for the same settings).
FORWARD = 0.32

# Seconds per value that ``norm.noise`` changes in training: most of it draws the random numbers.
NOISE_VALUE = 8.0e-8

# Passes of the probes that make several: gradients of landscape, images of gap, steps of each network of cost. The time of
# activations as a part of a step on its images without kernels, which it does not use.
LANDSCAPE, GAP_IMAGES, COST_STEPS = 8, 10_000, 44
ACTIVATIONS = 1.5

# The tests of statistics in forward passes: two for each size of a batch, which normalise twice, and five others.
READINGS = 1.75 * 2 * len(READING_SIZES) + 5

# Seconds per run: its first step is slower. Besides, what its record does not count: it is built, and its results are sent.
RUN, BETWEEN = 0.005, 0.03

# Seconds per command: Python, Hydra and torch are loaded; of it after the runs are planned; per study: its verdict and report.
START, LOAD, STUDY = 2.7, 1.0, 0.7

# What is assumed about the user's own images.
OWN_CHANNELS = 3
OWN_CLASSES = 10
OWN_TRAIN = 50_000
OWN_TEST = 10_000


def num_train_images(data: DataConfig) -> int | None:
    """Number of training images of a run, without those held out for validation; None if only the user's files tell."""
    if data.train_size is not None:
        return data.train_size
    return None if data.name.is_own else num_available(data)


def has_known_length(config: RunConfig) -> bool:
    """Whether the number of updates of a run is known without its data."""
    return config.train.steps_per_epoch is not None or num_train_images(config.data) is not None


def image_channels(data: DataConfig) -> int:
    """Channels of the images; assumed if only the user's files tell."""
    return data.channels or CATALOGUE[data.name].channels or OWN_CHANNELS


def num_classes(data: DataConfig) -> int:
    """Number of classes; assumed if only the user's files tell."""
    return CATALOGUE[data.name].num_classes or OWN_CLASSES


def network_counts(config: RunConfig) -> Counts:
    """The layers of a run's network and their work. They are counted once for all runs with the same network."""
    model, norm, data = config.model, config.norm, config.data
    shape = (model.name, model.depth, model.width, model.has_conv_bias(norm), model.init.residual)
    between = (model.activation, model.dropout > 0, norm.kind, norm.placement, norm.affine, norm.linear)
    images = (image_channels(data), data.size, num_classes(data))
    key = (*shape, *between, *images, config.train.kernels)
    if key not in _counted:
        _counted[key] = count(config, *images)
    return _counted[key]


_counted: dict[tuple[object, ...], Counts] = {}


@dataclass(frozen=True)
class StepTime:
    """What a training step takes, seconds.

    Args:
        fixed: whatever its batch: its own overhead, that of each layer, and the update.
        image: what each image adds.
        test: what an image takes outside of training.
        num_layers: number of layers with weights, for which probes do extra work.
    """

    fixed: float
    image: float
    test: float
    num_layers: int

    def __call__(self, batch_size: int) -> float:
        """One training step on a batch of this size."""
        return self.fixed + batch_size * self.image


def with_kernels(config: RunConfig, there: bool) -> RunConfig:
    """The same run as a device computes it.

    Args:
        config: of a run.
        there: whether there are kernels for the device; reduced precision has none.
    """
    used = there and config.train.kernels is Kernels.auto and config.train.precision is not Precision.bf16
    return replace(config, train=replace(config.train, kernels=Kernels.auto if used else Kernels.torch))


def is_counted(config: RunConfig) -> bool:
    """Whether the layers of the network are known from its configuration, so that its work can be counted."""
    return config.model.name in COUNTED


def counted_time(config: RunConfig) -> StepTime:
    """The time of a step, from the counted work of a network (``is_counted``)."""
    n = network_counts(config)
    norm, norm_value = (KERNEL_NORM, KERNEL_NORM_VALUE) if _norm_kernels(config) else (NORM, NORM_VALUE[config.norm.kind])
    fixed = STEP + CONV * n.convs + norm * n.norms + OTHER * n.others + PARAMETER[config.optim.name] * n.parameters
    products = CONV_PRODUCT * (n.products + FUSED * n.fused_products) + LINEAR_PRODUCT * n.linear_products
    values = norm_value * n.norm_values + OTHER_VALUE * n.other_values + POOL_VALUE * n.pooled_values
    image = products + values + IMAGE_VALUE * image_channels(config.data) * config.data.size**2
    noise = NOISE_VALUE * n.norm_values * bool(config.norm.noise)  # only in training
    return StepTime(fixed, image + noise, FORWARD * image, n.convs + n.linears)


def _norm_kernels(config: RunConfig) -> bool:
    """Whether kernels normalise in training, as in ``model/norms/batch.py``."""
    norm = config.norm
    plain = norm.ghost_size is None and not norm.noise and norm.backward is Backward.compact
    return config.train.kernels is Kernels.auto and norm.kind is NormKind.batch and plain


def measured_time(config: RunConfig, seconds: float) -> StepTime:
    """The time of a step of any network of which only this is known: the seconds of a step on a batch of the run's size."""
    image = seconds / config.train.batch_size
    return StepTime(0.0, image, FORWARD * image, ASSUMED_LAYERS)


def epoch_images(config: RunConfig) -> int:
    """How many images an epoch shows; assumed if only the user's files tell."""
    return config.train.images_per_epoch(_part_sizes(config.data)[0])


def epoch_seconds(config: RunConfig, time: StepTime) -> float:
    """The training steps of one epoch."""
    images = epoch_images(config)
    return math.ceil(images / config.train.batch_size) * time.fixed + images * time.image


def run_seconds(config: RunConfig, time: StepTime | None = None) -> float:
    """A whole run as its record counts it: training, validations, the test, probes.

    Args:
        config: of the run.
        time: of a step; None: as counted.
    """
    time = time or counted_time(config)
    train, (num_train, num_val, num_test) = config.train, _part_sizes(config.data)
    validations = train.epochs * train.evals_per_epoch if num_val else 0
    evaluated = validations * num_val + num_test
    if config.norm.statistics is Statistics.precise and config.norm.kind.has_running_statistics:
        evaluated += (validations + 1) * num_train
    training = train.epochs * (epoch_seconds(config, time) + _probes_of_epoch(config, time, num_train))
    return RUN + training + time.test * evaluated + _probes_around(config, time, num_train, num_test)


def _part_sizes(data: DataConfig) -> tuple[int, int, int]:
    """Images for training, validation and test; assumed if only the user's files tell."""
    if data.name.is_own:
        return data.train_size or OWN_TRAIN, round(data.val_fraction * OWN_TRAIN), OWN_TEST
    num_train, num_val = split_sizes(data)
    return data.train_size or num_train, num_val, CATALOGUE[data.name].num_test


def _probes_of_epoch(config: RunConfig, time: StepTime, num_train: int) -> float:
    """What probes add to each epoch. Their passes are those in ``training/probes``."""
    probe, train = config.probe, config.train
    gradients = probe.covariate_shift * (time.num_layers - 1) + probe.landscape * LANDSCAPE
    gradients += bool(probe.gradients or gradients)  # at the weights before the step, shared by these probes
    forwards = probe.decoupling * (time.num_layers + 2)
    seconds = (gradients + FORWARD * forwards) * time(train.batch_size)
    seconds += (ACTIVATIONS * probe.activations + FORWARD * probe.similar) * _without_kernels(config, time)(probe.images)
    full = max(train.images_per_epoch(num_train) // train.batch_size, 1)
    return min(probe.per_epoch, full) * seconds + probe.gap * time.test * min(num_train, GAP_IMAGES)


def _without_kernels(config: RunConfig, time: StepTime) -> StepTime:
    """The time of a step for a probe that goes through a network layer by layer."""
    return counted_time(with_kernels(config, False)) if is_counted(config) else time


def _probes_around(config: RunConfig, time: StepTime, num_train: int, num_test: int) -> float:
    """What probes add before the first epoch and after the last."""
    probe = config.probe
    seconds = ACTIVATIONS * probe.activations * _without_kernels(config, time)(probe.images)
    seconds += probe.initial_gradients * time(config.train.batch_size)
    if probe.statistics:
        several = config.norm.kind.has_running_statistics
        seconds += time.test * (num_train * several + num_test * (READINGS if several else 2))
    if probe.cost:
        without = replace(config, norm=replace(config.norm, kind=NormKind.none))
        both = (time, counted_time(without) if is_counted(config) else time)
        seconds += COST_STEPS * sum(one(config.train.batch_size) for one in both)
    return seconds
