"""How many training images there are, and what a number asked for means where there are fewer."""

from __future__ import annotations

from dataclasses import replace

from bnexp.config.options import DataName
from bnexp.config.schema import ConfigError, DataConfig, RunConfig
from bnexp.terminal import SafeConsole

# Training images of each published data set, those for validation among them. Only the files tell those of one's own.
NUM_IMAGES = {
    DataName.digits: 1438,
    DataName.mnist: 60_000,
    DataName.fashion_mnist: 60_000,
    DataName.kmnist: 60_000,
    DataName.cifar10: 50_000,
    DataName.cifar100: 50_000,
    DataName.svhn: 73_257,
}


def split_sizes(data: DataConfig) -> tuple[int, int]:
    """Training images, and those kept for validation besides. Reads the user's own files; of other data sets they are known.

    Raises ConfigError and DataError where the user's own files are not what they should be.
    """
    if data.name in NUM_IMAGES:
        num_val = round(data.val_fraction * NUM_IMAGES[data.name])
        return NUM_IMAGES[data.name] - num_val, num_val
    from bnexp.data.shown import prepare_shown

    resident = prepare_shown(replace(data, train_size=None), SafeConsole(stderr=True))
    return len(resident.train_index), len(resident.val_index)


def num_available(data: DataConfig) -> int:
    """Training images besides those for validation; as ``split_sizes``."""
    return split_sizes(data)[0]


def fit_train_size(config: RunConfig) -> None:
    """Set ``data.train_size`` to all images where it is the budget's and there are fewer.

    Raises ConfigError where it is another number that is more than there is.
    """
    data = config.data
    if data.train_size is None:
        return
    sizes = split_sizes(data)
    if data.train_size > sizes[0] and data.train_size != config.budget.train_size:
        raise too_large(data, *sizes)
    if data.train_size > sizes[0]:
        data.train_size = None


def too_large(data: DataConfig, num_train: int, num_val: int) -> ConfigError:
    """What is wrong with ``data.train_size``."""
    return ConfigError(
        f"data.train_size={data.train_size} is more than there is: {data.name} has {num_train} training images besides the "
        f"{num_val} for validation; allowed is at most {num_train} or null (all)."
    )


def budget_note(config: RunConfig) -> str:
    """That all images are used, where a budget allows more than there are; else empty."""
    data, budget = config.data, config.budget.train_size
    if budget is None or data.train_size is not None or (available := num_available(data)) >= budget:
        return ""
    return f"{data.name} has {available:,} training images, fewer than the {budget:,} of the budget: all of them are used."
