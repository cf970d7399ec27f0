"""What training costs: seconds of processor time, computed from the configuration before anything trains.

A step takes a fixed time, a fixed time per layer, and a time per image in proportion to the work in the layers
(``model/counts.py``). All constants are below. ``run/pace.py`` compares them with the runs recorded on this machine.

The constants were fitted to the processor time of real training steps on random images, by least squares of the logarithms:
torch 2.14, one core of a shared Xeon with AVX-512 at 2.6 GHz, median of three. The 66 settings are lenet, mlp, plain and resnet
of 2 to 32 layers, plain of 8 to 64 channels, batches of 1 to 256 images of 32 or 64 pixels, all norms and placements. Each was
measured twice within half an hour. The largest error is a factor of 1.33 of the geometric mean of the two, which differ by up
to 1.55 themselves: the machine was busy. Of ``STEP``, 2e-4 is the loop around a step (``training/loop.py``) with lenet.
"""

from __future__ import annotations

import math
from dataclasses import replace

from bnexp.config.options import NormKind, OptimName, Statistics
from bnexp.config.schema import READING_SIZES, DataConfig, RunConfig
from bnexp.data.amount import num_available, split_sizes
from bnexp.data.catalogue import CATALOGUE
from bnexp.model.counts import Counts, count

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

# A forward pass as a part of forward and backward pass (0.22 to 0.41 for the same settings).
FORWARD = 0.32

# Passes of the probes that make several: gradients of landscape, images of gap, tests of statistics, steps of each network of
# cost. The time of activations as a part of a step on its images (most of it is sorting).
LANDSCAPE, GAP_IMAGES, READINGS, COST_STEPS = 8, 10_000, len(READING_SIZES) + 4, 44
ACTIVATIONS = 6.0

# Seconds per run: its network is built, its first step is slower, its results are written.
RUN = 0.05

# Seconds per command: Python, Hydra and torch are loaded; per study: its verdict and its report.
START, STUDY = 4.0, 0.5

# What is assumed about the user's own images.
OWN_CHANNELS = 3
OWN_CLASSES = 10
OWN_TRAIN = 50_000
OWN_TEST = 10_000


def num_train_images(data: DataConfig) -> int | None:
    """Number of training images of a run, without those held out for validation; None if only the user's files tell."""
    if data.train_size is not None:
        return data.train_size
    return None if data.name.own_files else num_available(data)


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
    key = (*shape, *between, *images)
    if key not in _counted:
        _counted[key] = count(config, *images)
    return _counted[key]


_counted: dict[tuple[object, ...], Counts] = {}


def fixed_seconds(config: RunConfig) -> float:
    """What a training step takes whatever its batch: its own overhead, that of each layer, and the update."""
    n = network_counts(config)
    return STEP + CONV * n.convs + NORM * n.norms + OTHER * n.others + PARAMETER[config.optim.name] * n.parameters


def image_seconds(config: RunConfig) -> float:
    """What each image adds to a training step."""
    n = network_counts(config)
    products = CONV_PRODUCT * n.products + LINEAR_PRODUCT * n.linear_products
    values = NORM_VALUE[config.norm.kind] * n.norm_values + OTHER_VALUE * n.other_values
    return products + values + IMAGE_VALUE * image_channels(config.data) * config.data.size**2


def step_seconds(config: RunConfig, batch_size: int) -> float:
    """One training step on a batch of this size."""
    return fixed_seconds(config) + batch_size * image_seconds(config)


def epoch_images(config: RunConfig) -> int:
    """How many images an epoch shows; assumed if only the user's files tell."""
    return config.train.images_per_epoch(_part_sizes(config.data)[0])


def epoch_seconds(config: RunConfig) -> float:
    """The training steps of one epoch."""
    images = epoch_images(config)
    return math.ceil(images / config.train.batch_size) * fixed_seconds(config) + images * image_seconds(config)


def run_seconds(config: RunConfig) -> float:
    """A whole run: training, validations, the test, probes, and what each run takes besides."""
    train, (num_train, num_val, num_test) = config.train, _part_sizes(config.data)
    validations = train.epochs * train.evals_per_epoch if num_val else 0
    evaluated = validations * num_val + num_test
    if config.norm.statistics is Statistics.precise and config.norm.kind.has_running_statistics:
        evaluated += (validations + 1) * num_train
    training = train.epochs * (epoch_seconds(config) + _probes_of_epoch(config, num_train))
    return RUN + training + FORWARD * image_seconds(config) * evaluated + _probes_around(config, num_train, num_test)


def _part_sizes(data: DataConfig) -> tuple[int, int, int]:
    """Images for training, validation and test; assumed if only the user's files tell."""
    if data.name.own_files:
        return data.train_size or OWN_TRAIN, round(data.val_fraction * OWN_TRAIN), OWN_TEST
    num_train, num_val = split_sizes(data)
    return data.train_size or num_train, num_val, CATALOGUE[data.name].num_test


def _probes_of_epoch(config: RunConfig, num_train: int) -> float:
    """What probes add to each epoch. Their passes are those in ``training/probes``."""
    probe, train, n = config.probe, config.train, network_counts(config)
    num_layers = n.convs + n.linears
    gradients = probe.covariate_shift * (num_layers - 1) + probe.landscape * LANDSCAPE
    gradients += bool(probe.gradients or gradients)  # at the weights before the step, shared by these probes
    forwards = probe.decoupling * (num_layers + 2)
    seconds = (gradients + FORWARD * forwards) * step_seconds(config, train.batch_size)
    seconds += (ACTIVATIONS * probe.activations + FORWARD * probe.similar) * step_seconds(config, probe.images)
    full = max(train.images_per_epoch(num_train) // train.batch_size, 1)
    return min(probe.per_epoch, full) * seconds + probe.gap * FORWARD * image_seconds(config) * min(num_train, GAP_IMAGES)


def _probes_around(config: RunConfig, num_train: int, num_test: int) -> float:
    """What probes add before the first epoch and after the last."""
    probe = config.probe
    seconds = ACTIVATIONS * probe.activations * step_seconds(config, probe.images)
    seconds += probe.initial_gradients * step_seconds(config, config.train.batch_size)
    if probe.statistics:
        readings = READINGS if config.norm.kind.has_running_statistics else 1
        seconds += FORWARD * image_seconds(config) * (num_train * (readings > 1) + num_test * readings)
    if probe.cost:
        without = replace(config, norm=replace(config.norm, kind=NormKind.none))
        seconds += COST_STEPS * sum(step_seconds(one, config.train.batch_size) for one in (config, without))
    return seconds
