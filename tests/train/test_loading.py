"""`optimizer.save`, `l2o.load` and the optimizers that come with l2o."""

import json
import pickle
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.disk.packing import pack, seal, unpack
from l2o.errors import UserError
from l2o.optimizer import OPTIMIZERS, TrainableOptimizer

NAMES = sorted(OPTIMIZERS.entries)


def small(name="DM", **options):
    return OPTIMIZERS.find(name)(
        **({} if name == "ScaleHierarchical" else {"layers": (3,)}), **options
    )


def assert_same_rule(a, b):
    assert type(a) is type(b)
    own = a._own_config()
    assert b._own_config() == own
    for x, y in zip(a.network.get_weights(), b.network.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_saved_is_loaded(name, tmp_path):
    optimizer = small(name, learning_rate=0.5, use_bias=False)
    optimizer.save(tmp_path / "deep" / "er", about="tested")
    loaded = l2o.load(tmp_path / "deep" / "er")
    assert_same_rule(loaded, optimizer)
    assert not loaded.use_bias
    assert float(loaded.learning_rate) == 1.0
    assert [p.name for p in (tmp_path / "deep" / "er").iterdir()] == ["optimizer.npz"]
    # Saved again, over the first one.
    small(name).save(tmp_path / "deep" / "er")
    assert l2o.load(tmp_path / "deep" / "er").use_bias


def test_keras_options_are_taken_by_load(tmp_path):
    optimizer = small()
    optimizer.save(tmp_path)
    schedule = keras.optimizers.schedules.CosineDecay(1.0, 100)
    loaded = l2o.load(tmp_path, learning_rate=schedule, clipnorm=1.0)
    assert_same_rule(loaded, optimizer)
    assert loaded.clipnorm == 1.0
    assert float(loaded.learning_rate) == 1.0
    assert loaded.get_config()["learning_rate"]["class_name"] == "CosineDecay"
    with pytest.raises(ValueError, match="not recognized"):
        l2o.load(tmp_path, clip_norm=1.0)


def test_a_saved_optimizer_has_no_periods(tmp_path):
    small().save(tmp_path)
    with pytest.raises(UserError, match="saved optimizer: it has no periods"):
        l2o.load(tmp_path, period=1)


def test_a_run_directory_is_not_written_over(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is a run directory"):
        small().save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*optimizer\.npz"):
        small().save(tmp_path / "file")


def test_a_name_that_is_none_is_told_and_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"none of those .*did you mean rnnprop-digits\?"):
        l2o.load("rnnprop-digit")


@pytest.mark.parametrize("name", sorted(l2o.pretrained()))
def test_those_that_come_with_it_are_loaded(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optimizer = l2o.load(name)
    assert optimizer.name.lower().startswith(name.removesuffix("-digits").replace("-", ""))
    assert "digits" in l2o.pretrained()[name]
    path = l2o.train.loading.SHIPPED / name / "optimizer.npz"
    assert path.stat().st_size < 100_000
    # A directory of one's own comes first.
    own = small()
    own.save(name)
    assert_same_rule(l2o.load(name), own)


def test_all_four_come_with_it():
    found = {type(l2o.load(name)) for name in l2o.pretrained()}
    assert found == {*OPTIMIZERS.entries.values()}


@keras.saving.register_keras_serializable("theirs")
class TheirOptimizer(l2o.DMOptimizer):
    """A rule of somebody else's."""


def test_a_rule_of_ones_own_is_saved_too(tmp_path):
    optimizer = TheirOptimizer(layers=(2,))
    optimizer.save(tmp_path)
    assert_same_rule(l2o.load(tmp_path), optimizer)


ABOUT = {"kind": "l2o>DMOptimizer", "options": {"layers": [3]}, "about": ""}


def arrays(optimizer=None):
    return {str(i): w for i, w in enumerate((optimizer or small()).network.get_weights())}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "l2o>NoOptimizer"}, "not registered here"),
        ({"kind": "builtins>eval"}, "not registered here"),
        ({"kind": "os.system"}, "not registered here"),
        ({"kind": 3}, "damaged"),
        ({"about": 3}, "damaged"),
        ({"options": {"layers": [4]}}, "does not hold the weights of DMOptimizer"),
        ({"options": {"layer": [3]}}, r"did you mean network/layers\?"),
        ({"options": {"layers": "os"}}, "network/layers"),
        ({"options": 3}, "expected an object"),
        ({"more": 3}, "damaged"),
    ],
)
def test_a_file_of_somebody_else_is_refused_in_one_line(tmp_path, change, message):
    (tmp_path / "optimizer.npz").write_bytes(seal(arrays(), {**ABOUT, **change}))
    with pytest.raises(UserError, match=message) as error:
        l2o.load(tmp_path)
    assert len(str(error.value).splitlines()) == 1


def test_damage_is_told(tmp_path):
    small().save(tmp_path)
    path = tmp_path / "optimizer.npz"
    whole = path.read_bytes()
    changed = unpack(whole)
    changed["0"] = changed["0"] + 1
    for damaged in (whole[:-1], whole[:100], b"", pack(changed), pickle.dumps({}), pack({})):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="no saved optimizer, or is damaged"):
            l2o.load(tmp_path)
    shutil.move(path, tmp_path / "optimizer")
    path.mkdir()
    with pytest.raises(UserError, match=r"cannot read .*not a regular file"):
        l2o.load(tmp_path)


def test_weights_of_another_network_are_refused_and_nothing_is_changed():
    optimizer, other = small(), l2o.DMOptimizer(layers=(4,))
    before = optimizer.network.get_weights()
    config = {**optimizer.get_config(), "learned": other.get_config()["learned"]}
    with pytest.raises(ValueError, match="expected the weights of DMOptimizer"):
        optimizer.learn(other.network.get_weights())
    with pytest.raises(ValueError, match="expected the weights of DMOptimizer"):
        l2o.DMOptimizer.from_config(config)
    for a, b in zip(before, optimizer.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_configuration_is_json_and_runs_nothing():
    config = json.loads(json.dumps(small().get_config()))
    evil = {**config, "learned": "gANjb3MKc3lzdGVtCnEAWAUAAABmYWxzZXEBhXECUnEDLg=="}
    with pytest.raises(ValueError, match="zip"):
        l2o.DMOptimizer.from_config(evil)
    without = {k: v for k, v in config.items() if k != "learned"}
    assert isinstance(l2o.DMOptimizer.from_config(without), TrainableOptimizer)
    assert tf.nest.flatten(config)
