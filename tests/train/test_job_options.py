"""The options at the top of a config that choose no class."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import l2o
import train as train_script
from l2o.errors import UserError
from l2o.optimizer import saved
from l2o.train import RunDirectory, join, sources
from tests.option_cases import Cases, base, base_config, build, cached_run, close, run

cases = Cases()


@cases.add("directory", "directory={tmp_path}/elsewhere", built=False)
def _(run):
    path = Path(run.config["directory"])
    config = path.parent / "config.json"
    config.write_text(json.dumps(base_config()))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        patch.setattr(sys, "argv", ["train.py", "--config", str(config), f"directory={path}"])
        train_script.main()
    assert sorted(p.name for p in path.parent.iterdir()) == ["config.json", "elsewhere"]
    usual = base(run, validates=True)
    assert RunDirectory(path).rows() == usual.rows
    for loaded, weight in zip(l2o.load(path).network.weights, usual.weights, strict=True):
        assert close(loaded.numpy(), weight)


@cases.add("seed", "seed=1", validates=True)
def _(typed):
    again = cached_run.__wrapped__(("seed=1",), "DM", "Simple", None, True, False)
    usual = run(validates=True)
    assert again.rows == typed.rows != usual.rows
    for a, b, other in zip(typed.initial, again.initial, usual.initial, strict=True):
        assert np.array_equal(a, b)
        assert a.ndim < 2 or not np.array_equal(a, other), "the network"
    for a, b, other in zip(typed.steps, again.steps, usual.steps, strict=True):
        assert np.array_equal(a.start, b.start)
        assert not np.array_equal(a.start, other.start), "the optimizees"


SHIPPED = saved.read(sources.SHIPPED / "dm-digits")
STARTED = ["network/layers=[20,20]", "initial_weights=dm-digits"]


@cases.add("initial_weights", *STARTED)
def _(run):
    for weight, shipped in zip(run.initial, SHIPPED.weights, strict=True):
        assert np.array_equal(weight, shipped)
    # It trains with a rate of 0.
    for weight, shipped in zip(run.weights, SHIPPED.weights, strict=True):
        assert np.array_equal(weight, shipped)


SHA256 = saved.digest(SHIPPED.kind, SHIPPED.weights)


@cases.add("initial_weights_sha256", *STARTED, f"initial_weights_sha256={SHA256}")
def _(run):
    assert np.array_equal(run.initial[0], SHIPPED.weights[0])
    try:
        build({**run.config, "initial_weights_sha256": SHA256[::-1]})
    except UserError:
        return
    raise AssertionError("other weights than it says are refused")


@cases.add("distribute", "distribute=mirrored", "training/batch_of_problems=2", validates=True)
def _(typed):
    replicas = join(typed.config["distribute"])
    made = build(typed.config, replicas=replicas)
    (row,) = made.train()
    assert made.training.replicas.count == 2, "tests have two devices"
    assert row.unrolls == typed.rows[0].unrolls == 2
    assert close(row.meta_loss, typed.rows[0].meta_loss)
    assert close(row.validation_loss, typed.rows[0].validation_loss)


test_option_changes_what_it_should = cases.test()
test_a_case_fails_if_its_option_is_ignored = cases.test_ignored()
