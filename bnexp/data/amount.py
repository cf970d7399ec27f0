"""The number of training images, and what happens if fewer exist than a run asks for."""

from __future__ import annotations

from bnexp.config.schema import ConfigError, DataConfig, RunConfig


def split_sizes(data: DataConfig) -> tuple[int, int]:
    """Numbers of training images and of validation images, if ``data.train_size`` takes all.

    Args:
        data: which data set, and ``val_fraction``.

    Returns:
        ``(training, validation)``. The user's own files are listed for it, but no image is read.

    Raises:
        ConfigError: if ``data.root`` does not name what it should.
        DataError: if the user's own files cannot be read or understood.
    """
    from bnexp.data.cache import count_train_images
    from bnexp.data.splits import part_sizes

    return part_sizes(count_train_images(data), data.val_fraction)


def num_available(data: DataConfig) -> int:
    """Training images without those for validation; see ``split_sizes``."""
    return split_sizes(data)[0]


def fit_train_size(config: RunConfig) -> None:
    """Set ``data.train_size`` to null (all images) if the budget chose it and fewer exist.

    Raises:
        ConfigError: if the user chose it and fewer exist.
        DataError: if the user's own files cannot be read or understood.
    """
    data = config.data
    if data.train_size is None:
        return
    sizes = split_sizes(data)
    if data.train_size <= sizes[0]:
        return
    if data.train_size != config.budget.train_size:
        raise too_large(data, *sizes)
    data.train_size = None


def too_large(data: DataConfig, num_train: int, num_val: int) -> ConfigError:
    """The error for a ``data.train_size`` above the ``num_train`` images that exist beside ``num_val`` for validation."""
    return ConfigError(
        f"data.train_size={data.train_size} is more than there is: {data.name} has {num_train} training images besides the "
        f"{num_val} for validation; allowed is at most {num_train} or null (all)."
    )


def budget_note(config: RunConfig) -> str:
    """A sentence that all images are used, if the budget allows more than exist; else empty."""
    data, budget = config.data, config.budget.train_size
    if budget is None or data.train_size is not None or (available := num_available(data)) >= budget:
        return ""
    return f"{data.name} has {available:,} training images, fewer than the {budget:,} of the budget: all of them are used."
