"""Rung P1 of ``bnexp bench``: the study as one writes it with PyTorch Lightning, Hydra and W&B.

Hydra starts one job for each arm and seed; its joblib launcher has several of them at once:

    python lightning_hydra.py --multirun norm=none,batch seed=0,1,2 data=images.npz \
        hydra/launcher=joblib hydra.launcher.n_jobs=2

``load`` in ``pictures.py`` says what ``images.npz`` holds. Each job writes W&B's offline files, Lightning's
checkpoint and ``metrics.json`` to its folder. Needs lightning, hydra-core, hydra-joblib-launcher, wandb and torchvision.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import hydra
import lightning as L
import torch
import torch.nn.functional as F
import wandb
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from lenet import LeNet
from lightning.pytorch.loggers import WandbLogger
from pictures import load
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy


@dataclass
class Config:
    data: str = "???"
    norm: str = "none"
    seed: int = 0
    epochs: int = 1
    lr: float = 0.01
    momentum: float = 0.9
    batch_size: int = 64
    eval_batch_size: int = 500
    accelerator: str = "cpu"


ConfigStore.instance().store("config", Config)


class Classifier(L.LightningModule):
    def __init__(self, network, num_classes, lr, momentum):
        super().__init__()
        self.network, self.lr, self.momentum = network, lr, momentum
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.train_seconds = 0.0

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.network(x), y)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.val_accuracy(self.network(x), y)
        self.log("val/accuracy", self.val_accuracy)

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.test_accuracy(self.network(x), y)
        self.log("test/accuracy", self.test_accuracy)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=self.momentum)

    def on_train_epoch_start(self):
        self.began = time.perf_counter()

    def on_validation_start(self):  # validation comes before Lightning calls the epoch ended
        self.train_seconds += time.perf_counter() - self.began


@hydra.main(config_name="config", version_base="1.3")
def main(config: Config) -> None:
    folder = Path(HydraConfig.get().runtime.output_dir)
    L.seed_everything(config.seed)
    data = load(config.data)
    train = DataLoader(data["train"], config.batch_size, shuffle=True)
    val, test = (DataLoader(data[split], config.eval_batch_size) for split in ("val", "test"))

    in_channels, size = data["train"][0][0].shape[:2]
    num_classes = int(max(data["train"].labels)) + 1
    network = LeNet(in_channels, size, num_classes, batch_norm=config.norm == "batch")
    model = Classifier(network, num_classes, config.lr, config.momentum)
    logger = WandbLogger(project="lenet", name=f"{config.norm}-{config.seed}", save_dir=folder, offline=True)
    logger.log_hyperparams(dict(config))
    trainer = L.Trainer(
        max_epochs=config.epochs,
        accelerator=config.accelerator,
        devices=1,
        logger=logger,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, train, val)
    (scores,) = trainer.test(model, test, verbose=False)
    wandb.finish()

    metrics = {"norm": config.norm, "seed": config.seed, "test_accuracy": scores["test/accuracy"]}
    metrics |= {"images": config.epochs * len(data["train"]), "train_seconds": model.train_seconds}
    (folder / "metrics.json").write_text(json.dumps(metrics))


if __name__ == "__main__":
    main()
