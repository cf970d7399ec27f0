"""Ray trains the same runs to the same numbers, outlives its workers and leaves nothing behind. Every cluster here is real."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexp.config.schema import ConfigError
from bnexp.data.download import DataError
from bnexp.data.resident import Resident, prepare
from bnexp.metrics import Record, RunFailed, RunFinished, RunStarted
from bnexp.plan.compose import compose
from bnexp.plan.expand import expand_study
from bnexp.plan.spec import RunSpec
from bnexp.run import ray as ray_executor
from bnexp.run.local import Pool, run_inline
from bnexp.run.ray import RayPool
from bnexp.tracking.store import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra bnexp[ray]"),
]

SMALL = ["data=digits", "train.epochs=1"]
BNEXP = str(Path(sys.executable).parent / "bnexp")


def specs(*overrides: str, count: int = 3) -> list[RunSpec]:
    return [RunSpec(compose([*SMALL, f"seed={seed}", *overrides])) for seed in range(count)]


@pytest.fixture(scope="module", autouse=True)
def _own_token() -> Iterator[None]:
    """Ray's processes know each other by this; without it Ray would write one to the home directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture
def resident(shared_cache: Path) -> Resident:
    return prepare(compose(SMALL).data)


@pytest.fixture(scope="module")
def cluster(_own_token: None) -> Iterator[None]:
    """A Ray of two worker processes, which the pools of several tests share."""
    ray = ray_executor._import_ray()
    ray_executor._connect(ray, "local", num_cpus=2)
    yield
    ray.shutdown()


def finished(records: list[Record]) -> dict[str, RunFinished]:
    return {record.run_id: record for record in records if isinstance(record, RunFinished)}


def failed(records: list[Record]) -> dict[str, RunFailed]:
    return {record.run_id: record for record in records if isinstance(record, RunFailed)}


def descendants(pid: int) -> dict[int, str]:
    """Process id -> command line of all processes below ``pid``."""
    lines = subprocess.run(["ps", "-axo", "pid=,ppid=,command="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in lines.splitlines()]
    found: dict[int, str] = {}
    parents = {pid}
    while parents:
        children = {int(row[0]): row[2] for row in rows if int(row[1]) in parents and len(row) == 3}
        found |= children
        parents = set(children)
    return found


def training(pid: int) -> list[int]:
    """The processes below ``pid`` that train a cohort now: Ray names them after their task."""
    return [child for child, command in descendants(pid).items() if command.startswith("ray::_train_on_node")]


def left_over(pids: Iterable[int]) -> list[int]:
    """Those that still run after a moment's grace; an orphan that nobody has collected yet does not run."""
    for _ in range(50):
        lines = subprocess.run(["ps", "-axo", "pid=,stat="], capture_output=True, text=True, check=True).stdout.splitlines()
        running = {int(pid) for pid, stat in map(str.split, lines) if not stat.startswith("Z")}
        if not running & set(pids):
            return []
        time.sleep(0.1)
    return sorted(running & set(pids))


def test_ray_trains_the_same_bits_as_the_local_pool(resident: Resident, cluster: None) -> None:
    singles = [(spec,) for spec in specs("norm=batch")]
    here = finished(list(Pool(resident, num_workers=1).run(singles)))
    there = finished(list(RayPool(resident).run(singles)))
    assert here.keys() == there.keys() == {spec.run_id for (spec,) in singles}
    for run_id, record in here.items():
        for name, weight in record.weights.items():
            np.testing.assert_array_equal(weight, there[run_id].weights[name])
        assert record.metrics["test/loss"] == there[run_id].metrics["test/loss"]


def test_records_stream_home_in_order_while_both_workers_train(resident: Resident, cluster: None) -> None:
    first, second = specs("train.epochs=4", count=2)
    order = [record.run_id for record in RayPool(resident).run([(first,), (second,)]) if not isinstance(record, RunStarted)]
    assert order.count(first.run_id) == order.count(second.run_id) == 5
    last_of_one = min(len(order) - 1 - order[::-1].index(run_id) for run_id in set(order))
    assert len(set(order[:last_of_one])) == 2  # neither waited for the end of the other


def test_an_error_in_one_run_leaves_the_others_alone(resident: Resident, cluster: None) -> None:
    good, other = specs(count=2)
    bad = RunSpec(compose([*SMALL, "train.batch_size=1", "norm=batch", "norm.placement=after_pool"]))
    bad.config.norm.linear = True  # past validation: one value per channel
    records = list(RayPool(resident).run([(good,), (bad,), (other,)]))
    assert finished(records).keys() == {good.run_id, other.run_id}
    assert "one value" in failed(records)[bad.run_id].error


def test_a_run_that_loses_two_workers_fails_and_the_others_go_on(resident: Resident, cluster: None) -> None:
    first, second = specs("train.epochs=5", count=2)
    records = []
    for record in RayPool(resident, num_workers=1).run([(first,), (second,)]):
        records.append(record)
        if isinstance(record, RunStarted) and record.run_id == first.run_id:
            (pid,) = training(os.getpid())
            os.kill(pid, signal.SIGKILL)
    assert [record.run_id for record in records if isinstance(record, RunStarted)].count(first.run_id) == 2
    assert finished(records).keys() == {second.run_id}
    assert "lost 2 times in a row: The worker died" in failed(records)[first.run_id].error


def test_stopping_early_ends_the_tasks_and_leaves_a_shared_cluster_running(resident: Resident, cluster: None) -> None:
    import ray

    records = RayPool(resident).run([(spec,) for spec in specs("train.epochs=1000")])
    next(records)
    assert training(os.getpid())
    records.close()
    assert finished(list(RayPool(resident).run([(specs()[0],)])))  # would wait for ever if the cores were still taken
    assert ray.is_initialized()


def test_a_gpu_that_the_cluster_lacks_is_said_at_once(resident: Resident, cluster: None) -> None:
    with pytest.raises(ConfigError, match="needs a GPU, and the Ray cluster at local has none"):
        list(RayPool(resident).run([(spec,) for spec in specs("train.device=cuda")]))


def study(tmp_path: Path, *overrides: str) -> subprocess.Popen[str]:
    """``bnexp study`` on a Ray of its own with two workers, in a process group of its own."""
    command = [BNEXP, "study", "batchnorm", "executor=ray", "executor.workers=2", *overrides, "--json"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True
    )


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    assert process.stderr is not None
    assert any(word in line for line in process.stderr)


def wait_for_task(process: subprocess.Popen[str]) -> int:
    """The id of a process that trains a cohort for ``process``."""
    while not (tasks := training(process.pid)):
        assert process.poll() is None
        time.sleep(0.05)
    return tasks[0]


def test_a_study_outlives_a_killed_worker_and_records_what_it_would_have_without(shared_cache: Path, tmp_path: Path) -> None:
    overrides = ("data=digits", "study.seeds=2", "train.epochs=4")
    with study(tmp_path, *overrides) as process:
        wait_for(process, "1/4")
        processes = descendants(process.pid)
        os.kill(wait_for_task(process), signal.SIGKILL)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "4/4" in err
    assert [arm["arm"] for arm in json.loads(out)["arms"]] == ["none", "after_pool"]
    assert len(processes) >= 4
    assert not left_over(processes)
    singles = [(RunSpec(config),) for config in expand_study(["study=batchnorm", *overrides]).configs]
    here = finished(list(run_inline(singles, prepare(singles[0][0].config.data))))
    recorded = {run.run_id: run.summary.metric("test/loss") for run in Store().runs()}
    assert recorded == {run_id: record.metrics["test/loss"] for run_id, record in here.items()}


def test_ctrl_c_ends_the_tasks_and_the_ray_that_was_started(shared_cache: Path, tmp_path: Path) -> None:
    with study(tmp_path, "data=digits", "train.epochs=1000") as process:
        wait_for_task(process)
        processes = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not left_over(processes)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("127.0.0.1:9", "does not answer"),
        ("ray://127.0.0.1:10001", "allowed is HOST:PORT"),
        ("somewhere", "allowed is HOST:PORT"),
    ],
)
def test_an_address_without_a_cluster_is_one_sentence(resident: Resident, address: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        ray_executor._check_reachable(address)
    assert address in str(caught.value)


def test_without_ray_the_error_says_what_to_install(resident: Resident, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'bnexp\[ray\]'"):
        list(RayPool(resident).run([(spec,) for spec in specs()]))


def test_an_address_for_another_executor_is_refused() -> None:
    with pytest.raises(ConfigError, match="add executor=ray"):
        compose(["executor.address=auto"])


def test_a_node_without_the_packed_files_makes_the_same_data(resident: Resident, tmp_path: Path, monkeypatch: Any) -> None:
    config = compose(SMALL).data
    assert ray_executor._find_data(resident, config) is resident
    elsewhere = replace(resident, packed=replace(resident.packed, path=tmp_path / "of-another-machine"))
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(tmp_path / "cache"))
    here = ray_executor._find_data(elsewhere, config)
    assert tmp_path in here.packed.path.parents
    np.testing.assert_array_equal(here.train_images, resident.train_images)
    np.testing.assert_array_equal(here.train_index, resident.train_index)


def test_a_node_with_other_data_of_the_same_name_does_not_train(resident: Resident, tmp_path: Path) -> None:
    packed = replace(resident.packed, path=tmp_path / "of-another-machine", fingerprint="of other images")
    with pytest.raises(DataError, match="digits differs from that of the machine that started the study"):
        ray_executor._find_data(replace(resident, packed=packed), compose(SMALL).data)
