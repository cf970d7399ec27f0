"""Rung P2 of ``bnexp bench``: the study as one writes it in plain PyTorch for a sweep of W&B.

``wandb sweep wandb_sweep.yaml`` registers the grid of arms and seeds. Each ``wandb agent`` then takes one point after another
and starts this script for it; two agents work side by side.

``load`` in ``pictures.py`` says what ``images.npz`` holds. Each run writes W&B's files, its weights and
``metrics.json`` to its folder. Needs wandb and torchvision.
"""

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import wandb
from lenet import LeNet
from pictures import load
from torch.utils.data import DataLoader


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--norm", choices=["none", "batch"], default="none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--eval_batch_size", type=int, default=500)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


@torch.no_grad()
def accuracy(network, loader, device):
    network.eval()
    correct = sum((network(x.to(device)).argmax(-1) == y.to(device)).sum().item() for x, y in loader)
    return correct / len(loader.dataset)


def main() -> None:
    args = parse()
    run = wandb.init(project="lenet", config={name: str(value) for name, value in vars(args).items()})
    torch.manual_seed(args.seed)
    data = load(args.data)
    train = DataLoader(data["train"], args.batch_size, shuffle=True)
    val, test = (DataLoader(data[split], args.eval_batch_size) for split in ("val", "test"))

    in_channels, size = data["train"][0][0].shape[:2]
    num_classes = int(max(data["train"].labels)) + 1
    network = LeNet(in_channels, size, num_classes, batch_norm=args.norm == "batch").to(args.device)
    optimiser = torch.optim.SGD(network.parameters(), lr=args.lr, momentum=args.momentum)
    train_seconds = 0.0
    for epoch in range(1, args.epochs + 1):
        began, total_loss = time.perf_counter(), 0.0
        network.train()
        for x, y in train:
            x, y = x.to(args.device), y.to(args.device)
            optimiser.zero_grad()
            loss = F.cross_entropy(network(x), y)
            loss.backward()
            optimiser.step()
            total_loss += loss.item() * len(y)
        train_seconds += time.perf_counter() - began
        train_loss = total_loss / len(data["train"])
        run.log({"epoch": epoch, "train/loss": train_loss, "val/accuracy": accuracy(network, val, args.device)})

    test_accuracy = accuracy(network, test, args.device)
    run.summary["test/accuracy"] = test_accuracy
    run.finish()

    folder = args.out / f"{args.norm}-{args.seed}"
    folder.mkdir(parents=True)
    torch.save(network.state_dict(), folder / "weights.pt")
    metrics = {"norm": args.norm, "seed": args.seed, "test_accuracy": test_accuracy}
    metrics |= {"images": args.epochs * len(data["train"]), "train_seconds": train_seconds}
    (folder / "metrics.json").write_text(json.dumps(metrics))


if __name__ == "__main__":
    main()
