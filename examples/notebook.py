"""A network of one's own from Python, cell by cell, as in a notebook: python examples/notebook.py"""

# %% A study: does batch norm help this network on these images? Runs that are recorded already are not trained again.
from pathlib import Path

import polars as pl

import bnexp

factory = f"{Path(__file__).with_name('small_network.py')}:build"
network = ["model=python", f"model.factory={factory}", "data=digits", "data.size=16", "data.train_size=300"]
network += ["optim.lr=0.1", "train.batch_size=20", "train.epochs=2"]
result = bnexp.run_study("batchnorm", [*network, "model.args.width=8", "study.seeds=6"])
print(result.verdict, result.answer)

# %% The same with another argument of the function: twice the channels.
wide = bnexp.run_study("batchnorm", [*network, "model.args.width=16", "study.seeds=6"])
print(wide.verdict, wide.answer)

# %% All of these runs together: does the width matter, with and without norm?
runs = bnexp.load_runs().filter(pl.col("study") == "batchnorm")
print(bnexp.compare(runs, arm="model.args.width", by=["norm.kind"]).answer)

# %% A single run, and its network as a torch module. Code that a record names never runs, so it is named again.
run = bnexp.train([*network, "norm=batch"])
module = run.model(factory=factory)
print(run.summary.metrics["test/accuracy"], sum(parameter.numel() for parameter in module.parameters()))
