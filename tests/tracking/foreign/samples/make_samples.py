"""Makes the files beside it with the tools that write them, so that the tests read what those tools really write.

It needs packages that bnexp does not: ``pip install wandb mlflow-skinny tensorboard tensorboardX torch``. Run it as
``python make_samples.py FOLDER``. The samples were made with wandb 0.31.0, mlflow-skinny 3.17.2, tensorboardX 2.6.5,
tensorboard 2.21.0 and torch 2.14.1; machine names and paths in them are made up.
"""

from __future__ import annotations

import math
import os
import socket
import sys
from pathlib import Path
from typing import Any


def wandb_runs(folder: Path) -> None:
    """Four runs of one project: two of a group that end well, one that fails, one without a seed."""
    os.environ |= {"WANDB_MODE": "offline", "WANDB_DIR": str(folder), "WANDB_SILENT": "true"}
    import wandb

    lean: dict[str, Any] = {
        "console": "off", "disable_git": True, "x_disable_meta": True, "x_disable_stats": True, "x_disable_machine_info": True,
        "x_save_requirements": False, "disable_code": True,
    }  # fmt: skip
    for number, (name, group, lr) in enumerate([("bn s0", "bn", 0.1), ("bn s1", "bn", 0.1), ("none", None, 0.5)]):
        config = {
            "lr": lr,
            "seed": number,
            "optimizer": {"name": "sgd", "momentum": 0.9},
            "layers": [16, 32],
            "status": "draft",
        }
        if group is None:
            del config["seed"]
        run = wandb.init(
            project="my nets", id=f"abcd000{number}", name=name, group=group, job_type="train", tags=["paper", "v1"],
            config=config, settings=wandb.Settings(**lean),
        )  # fmt: skip
        run.define_metric("val/acc", summary="max")
        for epoch in range(1, 4):
            values = {"epoch": epoch, "loss": 1 / epoch + number, "lr": lr / epoch, "val": {"f1": 0.5}, "note": "text"}
            run.log(values | {"val/acc": [90.0, 95.5, 94.0][epoch - 1] + number, "hist": wandb.Histogram([1, 2, 3])})
        run.log({"loss": math.nan if number == 2 else 0.25})
        run.summary["best"] = {"epoch": 2}
        run.finish(exit_code=0 if number < 2 else 1)
    wandb.teardown()


def mlflow_runs(folder: Path) -> None:
    """Two runs of one experiment; the second has failed."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import mlflow

    mlflow.set_tracking_uri(f"file:{folder}/mlruns")
    mlflow.set_experiment("norm layers")
    for number, name in enumerate(["bold-fox-1", "calm-elk-2"]):
        with mlflow.start_run(run_name=name) as run:
            mlflow.log_params({"lr": 0.1, "random_state": 7 + number, "model/depth": 20, "norm": "batch", "augment": True})
            mlflow.set_tags({"team": "vision"})
            for step in range(3):
                mlflow.log_metric("loss", 1 / (step + 1), step=step)
                mlflow.log_metric("val/accuracy", [0.5, 0.75, 0.875][step] + number / 100, step=step)
            mlflow.log_metric("bad", math.inf)
        if number:
            mlflow.MlflowClient().set_terminated(run.info.run_id, "FAILED")


def tensorboard_runs(folder: Path) -> None:
    """A run of each writer: torch's with hyperparameters, tensorboardX's, and new-style scalars, which are tensors."""
    import numpy as np
    import tensorboardX
    from tensorboard.compat.proto import event_pb2
    from tensorboard.plugins.hparams import summary_v2
    from tensorboard.plugins.scalar import summary_v2 as scalar
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(folder / "torch_seed3")
    for step in range(4):
        writer.add_scalar("Loss/train", 1 / (step + 1), step)
        writer.add_scalar("Accuracy/test", 0.5 + step / 10, step)
    writer.add_histogram("weights", np.arange(10), 0)
    writer.add_text("note", "hello", 0)
    writer.add_hparams({"lr": 0.1, "seed": 3, "optimizer": "sgd", "nesterov": True}, {"hparam/accuracy": 0.8}, run_name=".")
    writer.close()

    other = tensorboardX.SummaryWriter(str(folder / "x_seed4"))
    for step in range(1, 4):
        other.add_scalar("loss", 1 / step, step)
    other.add_scalar("loss", math.nan, 4)
    other.close()

    new = EventFileWriter(str(folder / "new"))
    session = summary_v2.hparams_pb({"dropout": 0.5, "norm": "batch"}, trial_id="g", start_time_secs=100.0)
    values = [session, *(scalar.scalar_pb("epoch_loss", value) for value in (0.5, 0.25))]
    for step, summary in enumerate(values):
        new.add_event(event_pb2.Event(wall_time=1_700_000_000.0 + step, step=max(step - 1, 0), summary=summary))
    new.close()


if __name__ == "__main__":
    home = Path(sys.argv[1])
    socket.gethostname = lambda: "host"
    wandb_runs(home)
    mlflow_runs(home / "mlflow")
    tensorboard_runs(home / "tensorboard")
