"""What other tools call our keys, values and commands, so that a message can name what was meant, not what is spelt alike.

The words are in lower case, with ``_`` for ``-`` and blanks: compare ``plain``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence


def _by_word(table: Mapping[str, str]) -> dict[str, str]:
    """Our name -> words of others, turned round."""
    return {word: name for name, words in table.items() for word in words.split()}


# A word of others -> the key, or the config group, that it is here. The last part of a dotted name is looked up as well.
KEYS = _by_word(
    {
        "data": "dataset dataset_name",
        "data.augment": "augmentation transforms",
        "data.root": "data_dir data_path data_root",
        "data.test_fraction": "test_size test_split",
        "data.val_fraction": "val_split validation_split",
        "executor.workers": "num_workers n_jobs processes",
        "hydra.sweeper.n_trials": "n_trials num_trials trials",
        "model": "network net arch architecture",
        "model.activation": "nonlinearity activation_fn act",
        "model.args": "model_kwargs network_kwargs",
        "model.conv_bias": "bias use_bias",
        "model.depth": "num_layers n_layers",
        "model.dropout": "dropout_p dropout_rate",
        "model.factory": "_target_ model_fn network_fn model_class build_model",
        "model.init.scheme": "initialization weight_init",
        "norm": "bn batch_norm batchnorm use_bn norm_layer normalization normalisation norm_type",
        "norm.eps": "epsilon",
        "norm.momentum": "bn_momentum",
        "norm.placement": "position norm_position",
        "optim": "optimizer optimiser opt",
        "optim.lr": "learning_rate learningrate eta step_size",
        "optim.schedule": "scheduler lr_scheduler lr_schedule",
        "optim.warmup": "warmup_epochs",
        "optim.weight_decay": "wd decay l2",
        "probe.per_epoch": "every",
        "seed": "random_seed random_state manual_seed",
        "study": "experiment",
        "study.seeds": "seeds num_seeds n_seeds",
        "track.wandb.mode": "logger wandb wandb_mode use_wandb",
        "track.wandb.project": "wandb_project",
        "train.batch_size": "bs batchsize mini_batch_size",
        "train.device": "accelerator gpu gpus cuda",
        "train.epochs": "num_epochs n_epochs max_epochs",
        "train.precision": "dtype amp mixed_precision",
        "train.steps_per_epoch": "max_steps num_steps iterations",
    }
)

_OFF = "false off no 0"

# Key or config group -> a word of others -> the value that it is here.
VALUES: Mapping[str, Mapping[str, str]] = {
    "budget": _by_word({"smoke": "test debug tiny", "quick": "fast", "standard": "full paper"}),
    "data": _by_word(
        {
            "cifar10": "cifar cifar_10",
            "cifar100": "cifar_100",
            "digits": "test",
            "fashion_mnist": "fashion fmnist",
            "image_folder": "folder images",
            "npz": "numpy np",
        }
    ),
    "executor": _by_word({"inline": "serial none single", "local": "processes pool multiprocessing"}),
    "hydra/launcher": _by_word(
        {"joblib": "loky multiprocessing parallel processes", "submitit_slurm": "slurm sbatch submitit cluster"}
    ),
    "hydra/sweeper": _by_word({"basic": "grid", "optuna": "bayes bayesian cmaes hyperopt random tpe"}),
    "model": _by_word(
        {
            "lenet": "cnn convnet lenet5 lenet_5 small_cnn blog",
            "mlp": "fc dense linear feedforward",
            "plain": "vgg vgg11 vgg16 plainnet",
            "resnet": "resnet8 resnet14 resnet18 resnet20 resnet32 resnet50 resnet56",
        }
    ),
    "model.activation": _by_word(
        {"identity": "linear none", "leaky_relu": "lrelu leaky", "sigmoid": "logistic", "silu": "swish"}
    ),
    "model.init.scheme": _by_word(
        {
            "kaiming": "he he_normal kaiming_normal",
            "normal": "gaussian randn",
            "torch": "default pytorch",
            "xavier": "glorot xavier_uniform xavier_normal",
        }
    ),
    "norm": _by_word(
        {
            "batch": "bn batchnorm batchnorm1d batchnorm2d batch_normalization true yes on",
            "batch_renorm": "brn renorm batch_renormalization",
            "group": "gn groupnorm",
            "instance": "in instancenorm instancenorm2d",
            "layer": "ln layernorm",
            "none": f"identity without {_OFF}",
        }
    ),
    "norm.placement": _by_word(
        {
            "after_activation": "after post after_relu post_activation",
            "after_pool": "pool after_pooling after_maxpool",
            "before_activation": "before pre before_relu pre_activation",
        }
    ),
    "optimized_metric": _by_word(
        {
            "test/accuracy": "test_acc test/acc test_accuracy",
            "test/loss": "test_loss",
            "train/accuracy": "train_acc train/acc train_accuracy",
            "train/loss": "train_loss",
            "val/accuracy": "accuracy acc val_acc val/acc val/acc_best val/acc_max val_accuracy valid_acc validation_accuracy",
            "val/loss": "loss val_loss val/loss_best valid_loss validation_loss",
        }
    ),
    "optim": _by_word({"adam": "adamw adam_w", "sgd": "momentum nesterov gd"}),
    "study": _by_word(
        {
            "batch_size": "bs",
            "batchnorm": "bn norm default",
            "calibration": "ece",
            "conv_bias": "bias",
            "cost": "speed time",
            "covariate_shift": "ics",
            "epsilon": "eps",
            "initialization": "init",
            "learning_rate": "lr rate",
            "residual": "resnet skip",
            "weight_decay": "wd decay l2",
        }
    ),
    "track.wandb.mode": _by_word({"disabled": f"disable none {_OFF}", "online": "true on yes wandb"}),
    "train.device": _by_word({"cuda": "gpu nvidia cuda:0 0", "mps": "metal apple"}),
}
# Keys that a config group of the same values sets.
_GROUPS = {"norm.kind": "norm", **{f"{group}.name": group for group in ("data", "executor", "model", "optim")}}

# A word of others -> the command that it is here.
COMMANDS = _by_word(
    {
        "bench": "benchmark speed",
        "config": "keys settings",
        "data": "datasets download",
        "doctor": "env check",
        "predict": "infer classify",
        "report": "html plot",
        "runs": "ls list log ps",
        "show": "cat info",
        "sweep": "hpo hyperopt optimize search tune tuning",
        "study": "run start ablate ablation experiment studies",
        "train": "fit",
    }
)


def plain(word: str) -> str:
    """A word as the tables have it: lower case, ``_`` between its parts."""
    return re.sub(r"[-\s]+", "_", word.strip("'\"").lower())


def meant_key(word: str, known: Sequence[str]) -> str | None:
    """The key or config group that is meant by a name of other tools; None if nobody knows."""
    name = plain(word)
    tails = {key.rsplit(".", 1)[-1]: key for key in reversed(known)}
    last = name.rsplit(".", 1)[-1]
    alone = tails.get(last) if sum(key.rsplit(".", 1)[-1] == last for key in known) == 1 else None
    found = (KEYS.get(name), tails.get(name), KEYS.get(last), alone)
    return next((key for key in found if key in known), None)


def meant_value(key: str, value: str, known: Sequence[str]) -> str | None:
    """The value of a key or config group that is meant by a word of other tools; None if nobody knows."""
    word = plain(value)
    alike = {name.replace("_", ""): name for name in known}
    found = (VALUES.get(_GROUPS.get(key, key), {}).get(word), alike.get(word.replace("_", "")))
    return next((name for name in found if name in known), None)
