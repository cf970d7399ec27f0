"""Runs to start from: found by the beginning of their id, refused with a reason, read as they were written."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from bnexp.config.options import NormKind, Placement
from bnexp.config.schema import ConfigError
from bnexp.plan.spec import RunSpec
from bnexp.tracking.initial import initial_weights, resolve_starts
from bnexp.tracking.store import Store, StoreSink
from tests.changed import changed
from tests.tracking.records import failure, make_records, make_spec, play


@pytest.fixture
def store() -> Store:
    return Store()


def recorded(store: Store, seed: int = 0, **options: Any) -> RunSpec:
    spec = make_spec(seed)
    play(StoreSink(store), [spec], **options)
    return spec


def test_whole_ids_take_the_place_of_their_beginnings(store: Store) -> None:
    one, other = recorded(store, 0).run_id, recorded(store, 1).run_id
    given = ["seed=1,2", "train.init_from=null", "train.init_from=", f"train.init_from={one[:6]}", f"train.init_from='{one}'"]
    given += [f'train.init_from={other[:6]}, "{one[:7]}"', "train.init_fromm=abc"]
    assert resolve_starts(given, store) == [
        "seed=1,2",
        "train.init_from=null",
        "train.init_from=",
        f"train.init_from='{one}'",
        f"train.init_from='{one}'",
        f"train.init_from='{other}','{one}'",
        "train.init_fromm=abc",
    ]


def test_an_id_has_to_be_that_of_one_run(store: Store) -> None:
    for study, run in [(".locks", "ab9"), ("one", "study-ab"), ("one", "ab1"), ("one", "ab2"), ("two", "ab2"), ("two", "ab3")]:
        (store.root / study / run).mkdir(parents=True)
    message = re.escape("train.init_from=ab could be ab1 or ab2 or ab3; give more of the run's id.")
    with pytest.raises(ConfigError, match=message):
        resolve_starts(["train.init_from=ab"], store)
    (store.root / "two" / "ab4").mkdir()
    with pytest.raises(ConfigError, match=message):
        resolve_starts(["train.init_from=ab"], store)
    for run in ("cd1", "cd2"):
        (store.root / "one" / run).mkdir()
    with pytest.raises(ConfigError, match=r"train.init_from=cd could be cd1 or cd2; give more of the run's id"):
        resolve_starts(["train.init_from=cd"], store)
    with pytest.raises(ConfigError, match=r"train.init_from=ab1 names a run that has not finished; train it first, or start"):
        resolve_starts(["train.init_from=ab1"], store)
    for beginning in ("study-", "b1"):
        with pytest.raises(ConfigError, match=f"train.init_from={beginning} is not recorded in "):
            resolve_starts([f"train.init_from={beginning}"], store)


def test_a_run_that_failed_or_diverged_is_no_start(store: Store) -> None:
    failed = make_spec(3)
    with StoreSink(store) as sink:
        for record in [*make_records(failed)[:2], failure(failed)]:
            sink.record(failed, record)
    with pytest.raises(ConfigError, match=rf"={failed.run_id} names a run that failed \(the batch does not fit into memory\);"):
        resolve_starts([f"train.init_from={failed.run_id}"], store)
    lost = recorded(store, 4, diverged_at=17)
    with pytest.raises(ConfigError, match=f"={lost.run_id} names a run that diverged; start from another"):
        resolve_starts([f"train.init_from={lost.run_id}"], store)


def starting(spec: RunSpec, **values: Any) -> RunSpec:
    keys = {key.replace("__", "."): value for key, value in values.items()}
    return RunSpec(changed(spec.config, {"train.init_from": spec.run_id} | keys))


def test_weights_are_those_of_the_run_and_norms_must_be(store: Store) -> None:
    first = recorded(store)
    assert initial_weights(first, store) is None
    weights = initial_weights(starting(first, seed=9), store)
    assert weights is not None
    np.testing.assert_array_equal(weights["conv1.weight"], np.arange(4))
    for key, value in (("norm__placement", Placement.both), ("norm__kind", NormKind.layer)):
        name, own = key.replace("__", "."), "after_pool" if key == "norm__placement" else "batch"
        with pytest.raises(ConfigError, match=f"was trained with {name}={own}, not {value}; set {name}={own}, or start from"):
            initial_weights(starting(first, **{key: value}), store)


def test_without_norms_it_does_not_matter_where_they_would_stand(store: Store) -> None:
    first = make_spec(arm="none")
    play(StoreSink(store), [first])
    assert initial_weights(starting(first, norm__placement=Placement.both), store) is not None
