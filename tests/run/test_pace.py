"""What recorded runs tell about how long others take, computed by hand."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest

from bnexp.config.schema import DataConfig, RunConfig
from bnexp.plan.compose import compose
from bnexp.run import cost, timed
from bnexp.run.cost import RUN, run_seconds
from bnexp.run.pace import LONG, recorded_pace
from tests.run.made import Recorded, made_run

LENET = compose(["data=mnist", "norm=batch"])
RESNET = compose(["data=mnist", "model=resnet", "norm=batch"])
MLP = compose(["data=mnist", "model=mlp"])


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(timed, "_found", {})


def pace(config: RunConfig, *runs: Any) -> float | None:
    return recorded_pace(Recorded(runs)).cpu.of(config)


def test_without_records_the_timed_step_tells_and_without_it_the_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pace(LENET) == 1
    assert recorded_pace(Recorded()).accelerator.of(LENET) is None
    monkeypatch.setattr(timed, "_found", {"": 3.0})
    assert pace(LENET) == pytest.approx(3)
    assert pace(MLP, made_run(RESNET, 3 * 8.0)) == pytest.approx(3 * 2)  # one run against what counts as two
    assert recorded_pace(Recorded()).accelerator.of(LENET) is None


def test_a_slow_machine_is_slow_for_networks_that_it_has_not_trained() -> None:
    found = recorded_pace(Recorded([made_run(LENET, 3.0)] * 60))
    assert found.cpu.of(MLP) == found.machine == pytest.approx(3 ** (50 / 52))
    assert found.accelerator.of(MLP) is None
    assert found.cpu.seconds(MLP) == pytest.approx(3 ** (50 / 52) * run_seconds(MLP))


def test_kernels_are_expected_where_there_are_some_and_older_runs_without_them_do_not_slow_the_forecast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lenet, by_torch = compose(["data=mnist"]), compose(["data=mnist", "train.kernels=torch"])
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for execution in ("eager", "eager; kernels for conv1 with pooling"):
        cpu = recorded_pace(Recorded([made_run(lenet, 2.0, execution=execution)] * 50)).cpu
        with_kernels, without = cpu.seconds(lenet), cpu.seconds(by_torch)
        assert with_kernels == pytest.approx(cpu.of(lenet) * run_seconds(lenet))
        assert without == pytest.approx(cpu.of(by_torch) * run_seconds(by_torch))
        assert cpu.of(lenet) == pytest.approx(2 ** (1 - (2 / 52) * (2 / 12) * (2 / 8) ** 2))
        assert 0.4 < with_kernels / without < 0.6  # measured: .41 to .54
    assert run_seconds(compose(["data=mnist", "norm=batch", "norm.placement=before_activation"])) > 1.5 * run_seconds(lenet)
    reduced = [compose(["data=mnist", "train.precision=bf16", f"train.kernels={kernels}"]) for kernels in ("auto", "torch")]
    assert len({recorded_pace(Recorded()).cpu.seconds(config) for config in reduced}) == 1  # autocast has no kernels
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert recorded_pace(Recorded()).cpu.seconds(lenet) == pytest.approx(run_seconds(by_torch))
    gpu = recorded_pace(Recorded([made_run(lenet, 0.1, device="cuda")])).accelerator
    assert gpu.seconds(lenet) == pytest.approx(0.1 * run_seconds(by_torch))


def test_short_runs_do_not_tell_how_long_loading_takes() -> None:
    smoke = compose(["budget=smoke"])
    assert 5 * run_seconds(smoke) < LONG
    found = recorded_pace(Recorded([made_run(smoke, 5.0)] * 50))
    assert found.cpu.is_told
    assert found.machine == 1
    assert found.cpu.of(compose(["budget=smoke", "model=mlp"])) == pytest.approx(5 ** (50 / 52))


def test_windows_names_its_processors_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    lenet, seconds = compose(["data=mnist"]), []
    for machine in ("x86_64", "AMD64", "arm64"):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        seconds.append(recorded_pace(Recorded()).cpu.seconds(lenet))
    assert seconds[0] == seconds[1] < seconds[2]


def test_what_changes_no_work_makes_no_other_network() -> None:
    runs = [*[made_run(RESNET, 1.0)] * 50, *[made_run(compose(["data=mnist", "norm=batch", "model.conv_bias=true"]), 4.0)] * 10]
    assert pace(compose(["data=mnist", "norm=batch", "model.conv_bias=false"]), *runs) > 3
    assert pace(compose(["data=mnist", "model=mlp", "norm=batch"]), *runs) == pytest.approx(1, rel=0.1)


def test_a_short_run_tells_about_a_long_one_by_the_part_of_its_time() -> None:
    long = compose(["data=mnist", "train.kernels=torch"])
    short = compose(["data=mnist", "train.kernels=torch", "data.train_size=200", "train.epochs=1"])
    part = run_seconds(short) / run_seconds(long)
    assert part < 0.05
    busy = [made_run(short, 16.0)] * 6
    weight = 6 * part / (6 * part + 2)
    assert pace(long, *busy) == pytest.approx(16 ** (1 - (1 - weight) ** 3))  # of all runs, its network, its layers
    assert pace(short, *busy) == pytest.approx(16 ** (1 - (2 / 8) ** 4))
    assert pace(long, *busy, made_run(long, 0.5)) == pytest.approx(pace(long, made_run(long, 0.5)), rel=0.3)
    assert pace(short, made_run(long, 0.5)) == pytest.approx(0.5 ** (1 - (2 / 3) ** 3))


def test_runs_with_and_without_kernels_take_turns_and_each_kind_tells_about_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    lenet, by_torch = compose(["data=mnist"]), compose(["data=mnist", "train.kernels=torch"])
    both = made_run(by_torch, 1.0), made_run(lenet, 2.0, execution="kernels for conv1 with pooling")
    assert pace(lenet, *both * 20) == pytest.approx(2 ** (1 - (1 - 0.5 * 10 / 12) * (2 / 8) ** 2), rel=0.2)
    assert pace(by_torch, *both * 20) == pytest.approx(1, rel=0.05)


def test_each_network_has_its_own_pace_drawn_to_that_of_all() -> None:
    runs = [*[made_run(RESNET, 2.0)] * 4, *[made_run(LENET, 0.5)] * 2]
    everything = 6 / 8  # of the way to the median, which is 2; paces as powers of 2
    network = everything + 2 / 4 * (-1 - everything)
    layers = network + 2 / 4 * (-1 - network)
    experiment = layers + 2 / 4 * (-1 - layers)
    assert (network, layers, experiment) == (-0.125, -0.5625, -0.78125)
    assert pace(MLP, *runs) == pytest.approx(2**0.75, rel=0.01)
    assert pace(compose(["data=mnist", "norm=layer", "train.epochs=3"]), *runs) == pytest.approx(2**network)
    assert pace(compose(["data=mnist", "norm=batch", "train.epochs=3"]), *runs) == pytest.approx(2**layers)
    assert pace(compose(["data=mnist", "norm=batch", "seed=7", "optim.lr=0.5"]), *runs) == pytest.approx(2**experiment)
    assert pace(RESNET, *runs) == pytest.approx(2 ** (1 - 1 / 4 * 1 / 3 * 1 / 3 * 1 / 3), rel=0.01)
    assert pace(compose(["data=mnist", "model=resnet", "model.depth=8", "train.epochs=1"]), *runs) == pytest.approx(
        2**0.75, rel=0.01
    )


def test_a_new_load_is_noticed_after_a_few_runs_of_a_kind_and_old_runs_do_not_count() -> None:
    quiet, busy = [made_run(LENET, 1.0)] * 50, [made_run(LENET, 4.0)] * 6
    assert pace(MLP, *quiet, *busy) == pytest.approx(1)
    assert pace(LENET, *quiet, *busy) == pytest.approx(4 ** (1 - 1 / 6 * 1 / 4 * 1 / 4))
    assert pace(MLP, *busy, *quiet) == pytest.approx(1)
    assert pace(LENET, *busy, *quiet) == pytest.approx(1)
    assert pace(LENET, *busy, *[made_run(MLP, 1.0)] * 200) == pytest.approx(1)


def test_a_run_that_diverged_early_is_not_a_fast_one() -> None:
    early = made_run(LENET, 0.01, status="diverged", epoch_ratio=8.0)
    assert pace(MLP, early) == pytest.approx(8 ** (1 / 3))


def test_probes_and_tests_count_in_runs_that_trained_to_their_end() -> None:
    assert pace(MLP, made_run(LENET, 8.0, epoch_ratio=1.0)) == pytest.approx(2)


def test_the_number_of_the_users_own_images_does_not_matter() -> None:
    own = compose(["data=npz", "data.root=pixels.npz"])
    assert pace(MLP, made_run(own, 100.0, epoch_ratio=8.0)) == pytest.approx(2)


def test_a_gpu_tells_by_its_epochs() -> None:
    found = recorded_pace(Recorded([made_run(LENET, 50.0, device="NVIDIA H100", epoch_ratio=0.1)]))
    assert found.accelerator.of(MLP) == pytest.approx(0.1)
    assert found.cpu.of(MLP) == 1


def test_runs_that_were_executed_in_another_way_than_the_latest_do_not_tell_about_its_layers() -> None:
    runs = [*[made_run(LENET, 2.0)] * 6, made_run(LENET, 1.0, execution="new kernels")]
    wider = 1 - (2 / 9) ** 2  # of all seven, and of the network
    assert pace(LENET, *runs) == pytest.approx(2 ** (wider * 2 / 3 * 2 / 3))
    assert pace(compose(["data=mnist", "norm=layer"]), *runs) == pytest.approx(2**wider)


@pytest.mark.parametrize("damage", [{"model.depth": "many"}, {"train.epochs": None}, {"optim.name": "none"}])
def test_a_damaged_record_does_not_tell(damage: dict[str, Any]) -> None:
    run = made_run(LENET, 9.0)
    run.settings.update(damage)
    assert pace(LENET, run) == 1


def test_a_record_without_a_speed_or_a_part_of_its_configuration_does_not_tell() -> None:
    still, lacking = made_run(LENET, 9.0), made_run(LENET, 9.0)
    still.summary.metrics["time/images_per_second"] = None
    for name in [name for name in lacking.settings if name.startswith("optim.")]:
        del lacking.settings[name]
    assert pace(LENET, still, lacking) == 1


def test_a_network_that_nobody_has_counted_is_known_from_its_own_runs_or_a_timed_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "COUNTED", frozenset())
    chosen = ["data=mnist", "data.train_size=1000", "data.val_fraction=0", "train.epochs=2"]
    own, other = compose([*chosen, "model.width=8"]), compose([*chosen, "model.width=9"])
    fast, slow = (made_run(own, 1.0, images_per_second=speed) for speed in (1e6, 1e3))
    found = recorded_pace(Recorded([fast, slow, slow])).cpu
    training, test = 2 * 1000 / 1e3, 0.32 * 10_000 / 1e3
    assert found.seconds(own) == pytest.approx(RUN + training + test)
    assert found.seconds(compose([*chosen, "model.width=8", "norm=batch"])) == found.seconds(own)
    assert found.seconds(other) is None
    monkeypatch.setattr(timed, "time_step", lambda config: 0.5 * config.train.batch_size / 1e3)
    timed.time_network(other)
    assert found.seconds(other) == pytest.approx(RUN + timed.BESIDE * (training + test) / 2)
    assert recorded_pace(Recorded([fast])).accelerator.seconds(other) is None
    assert found.seconds(RunConfig(data=DataConfig(own.data.name.npz), model=own.model)) is None


def test_a_network_that_nobody_has_counted_does_not_tell_about_others(monkeypatch: pytest.MonkeyPatch) -> None:
    run = made_run(RESNET, 9.0, images_per_second=1.0)
    monkeypatch.setattr(cost, "COUNTED", cost.COUNTED - {RESNET.model.name})
    assert pace(LENET, run) == 1
