"""Executor on a Ray cluster: each cohort is a Ray task, which sends its records back while it trains.

Every node needs the same version of bnexp (``pip install 'bnexp[ray]'``). A node takes data sets from its own cache, or
prepares them there.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexp.config.options import Device
from bnexp.config.schema import ConfigError, DataConfig
from bnexp.metrics import Record, RunFailed, RunFinished
from bnexp.run.cohorts import Cohort
from bnexp.run.local import MAX_ATTEMPTS, num_cores, train_cohort, try_again
from bnexp.run.pool_server import single_threaded

if TYPE_CHECKING:
    from bnexp.data.resident import Resident

CONNECT_SECONDS = 5.0
OBJECT_STORE_BYTES = 200 * 2**20  # of a Ray that is started here; it holds no images, only records on their way


@dataclass
class _Task:
    cohort: Cohort
    finished: set[str] = field(default_factory=set)


class RayPool:
    """Trains cohorts as Ray tasks, each on one CPU core, and with ``train.device=cuda`` on one GPU as well.

    ``train.device=auto`` means the CPU here. If the worker or the node of a task dies, the task is tried again from its start.
    A cohort that loses two tasks is recorded as failed; the others go on.

    Args:
        resident: the data set, as prepared on this machine.
        address: ``HOST:PORT`` of a cluster that this machine is a node of, or ``auto`` for the one that runs on this machine.
            None: ``RAY_ADDRESS`` if the environment has it, else a new Ray on this machine, which ends with the work.
        num_workers: largest number of cohorts at the same time; None: as many as the cluster has room for.
    """

    def __init__(self, resident: Resident, address: str | None = None, num_workers: int | None = None) -> None:
        self.resident = resident
        self.address = address or os.environ.get("RAY_ADDRESS") or "local"
        self.num_workers = num_workers

    def run(self, cohorts: Sequence[Cohort]) -> Iterator[Record]:
        """Train the cohorts; their records as they come. Those of one run are in order.

        Raises:
            ConfigError: Ray is not installed, the cluster does not answer, or it has no GPU but the runs need one.
        """
        ray = _import_ray()
        ours = not ray.is_initialized()
        if ours:
            _connect(ray, self.address, self.num_workers or num_cores())
        running: dict[Any, _Task] = {}
        try:
            yield from self._train(ray, deque(cohorts), running)
        finally:
            for stream in running:
                ray.cancel(stream, force=True)
            if ours:
                ray.shutdown()

    def _train(self, ray: Any, waiting: deque[Cohort], running: dict[Any, _Task]) -> Iterator[Record]:
        if waiting and _num_gpus(waiting[0]) > ray.cluster_resources().get("GPU", 0):
            raise ConfigError(
                f"train.device=cuda needs a GPU, and the Ray cluster at {self.address} has none; "
                "use train.device=cpu or another executor.address."
            )
        task = ray.remote(max_retries=0)(_train_on_node)  # Ray's own retries would send the same records again
        data = ray.put(_pack(self.resident))
        limit = self.num_workers or len(waiting)
        attempts: dict[str, int] = {}
        while waiting or running:
            while waiting and len(running) < limit:
                cohort = waiting.popleft()
                placed = task.options(num_cpus=1, num_gpus=_num_gpus(cohort))
                running[placed.remote(_portable(cohort), data)] = _Task(cohort)
            (stream, *_), _ = ray.wait(list(running), num_returns=1)
            try:
                record = ray.get(next(stream))
            except StopIteration:
                del running[stream]
            except ray.exceptions.RayError as error:
                yield from _again(running.pop(stream), error, waiting, attempts)
            else:
                if isinstance(record, RunFinished | RunFailed):
                    running[stream].finished.add(record.run_id)
                yield record


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # else Ray prints the death of a worker to stdout, into --json
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # without it, Ray warns of a change in its GPU handling
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            "executor=ray needs Ray, which is not installed here; install it: pip install 'bnexp[ray]'."
        ) from error


def _connect(ray: Any, address: str, num_cpus: int) -> None:
    """Connect to the cluster, or start a Ray with so many CPUs for the address ``local``. Raises ConfigError."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        with single_threaded():
            ray.init(address, num_cpus=num_cpus, object_store_memory=OBJECT_STORE_BYTES, include_dashboard=False, **quiet)
        return
    if address != "auto":
        _check_reachable(address)
    try:
        ray.init(address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = _first_sentence(error)
        raise ConfigError(
            f"executor.address={address} cannot be used: {reason}; the machine that runs bnexp must be a node of the cluster "
            "(ray start --address=HOST:PORT), with the cluster's RAY_AUTH_MODE and RAY_AUTH_TOKEN if it has any."
        ) from error


def _first_sentence(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].split(". ")[0].rstrip(".")


def _check_reachable(address: str) -> None:
    """Raise ConfigError unless something listens at the address. Ray itself would go on trying for minutes."""
    host, _, port = address.rpartition(":")
    if "/" in host or not host or not port.isdigit():
        raise ConfigError(
            f"executor.address={address} is not possible: allowed is HOST:PORT of a cluster that this machine is a node of, "
            "auto for the cluster on this machine, or null for a Ray of its own."
        )
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise ConfigError(
            f"executor.address={address} does not answer ({error.strerror or error}); "
            "check host and port, or start a cluster there: ray start --head."
        ) from error


def _num_gpus(cohort: Cohort) -> int:
    return int(cohort[0].config.train.device is Device.cuda)


def _portable(cohort: Cohort) -> Cohort:
    """The runs as a node can train them: absolute paths, and device ``cpu`` for ``auto``, which has no GPU reserved."""
    specs = [replace(spec, config=deepcopy(spec.config)) for spec in cohort]
    for spec in specs:
        if spec.config.train.device is Device.auto:
            spec.config.train.device = Device.cpu
        if spec.config.data.root:
            spec.config.data.root = str(Path(spec.config.data.root).expanduser().resolve())
    return tuple(specs)


def _pack(resident: Resident) -> bytes:
    """The data set as bytes: arrays that Ray itself sends arrive read-only, which torch does not support."""
    return pickle.dumps(replace(resident, packed=replace(resident.packed, path=resident.packed.path.resolve())))


def _again(task: _Task, error: Exception, waiting: deque[Cohort], attempts: dict[str, int]) -> Iterator[RunFailed]:
    """Put the unfinished runs of a lost cohort back into the queue; the records of those that are given up."""
    reason = _first_sentence(getattr(error, "cause", None) or error)
    for spec in try_again(task.cohort, task.finished, waiting, attempts):
        yield RunFailed(spec.run_id, f"its Ray task was lost {MAX_ATTEMPTS} times in a row: {reason}.", str(error))


def _train_on_node(cohort: Cohort, packed: bytes) -> Iterator[Record]:
    """The Ray task, which runs on a node: train a cohort on the pickled data set."""
    try:
        yield from train_cohort(cohort, _find_data(pickle.loads(packed), cohort[0].config.data))
    except Exception as error:
        for spec in cohort:
            yield RunFailed(spec.run_id, f"{socket.gethostname()}: {str(error) or type(error).__name__}")


def _find_data(resident: Resident, config: DataConfig) -> Resident:
    """The sender's packed files if this node can read them (same machine, shared disk), else the same data prepared here."""
    from bnexp.data.download import DataError
    from bnexp.data.resident import prepare

    meta = resident.packed.path / "meta.json"
    if meta.exists() and json.loads(meta.read_text())["fingerprint"] == resident.fingerprint:
        return resident
    here = prepare(config)
    if here.fingerprint != resident.fingerprint:
        raise DataError(
            f"{config.name} differs from that of the machine that started the study; compare the files and the versions of "
            "bnexp, or share one BNEXP_CACHE_DIR."
        )
    return here
