"""`optimizer.save`, `l2o.load` and the optimizers that come with l2o."""

import json
import os
import pickle
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.disk.packing import pack, seal, unpack
from l2o.errors import UserError
from l2o.optimizer import OPTIMIZERS, TrainableOptimizer, saved
from l2o.train import RunDirectory, build_training, resolve_config
from l2o.train.runs.summary import Row
from tests.draws import same_draws

NAMES = sorted(OPTIMIZERS.entries)


# An option that changes the shapes of the learned weights, and an option of another kind.
SMALL = {
    "AdafacMLP": ({"hidden_units": 3}, {"exp_mult": 0.5}),
    "Celo2": ({"hidden_units": 3}, {"adam_for": ("embeddings",)}),
    # Its learned weights always have the same shapes.
    "LearnedMuon": ({}, {"adam_for": ("embeddings",)}),
    "ScaleHierarchical": ({}, {"use_bias": False}),
}


def small(name="DM", **options):
    shapes, _ = SMALL.get(name, ({"layers": (3,)}, {}))
    return OPTIMIZERS.find(name)(**shapes, **options)


def assert_same_rule(a, b):
    assert type(a) is type(b)
    # A name that was not given has a number.
    own, others = ({**o._own_config(), "name": ""} for o in (a, b))
    assert others == own
    for x, y in zip(a.network.get_weights(), b.network.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


def note_of(optimizer, folder, *about):
    optimizer.save(folder, *about)
    return saved.read(folder).about


def test_the_note_stays_with_the_weights(tmp_path):
    assert note_of(small(), tmp_path / "a") == ""
    made = small()
    assert note_of(made, tmp_path / "a", "tested") == "tested"
    assert note_of(made, tmp_path / "b") == "tested"
    for options in ({}, {"learning_rate": 0.5}):
        loaded = l2o.load(tmp_path / "a", **options)
        assert note_of(loaded, tmp_path / "b") == "tested"
        # It is about weights that are not there any more.
        loaded.network.set_weights([w + 1 for w in loaded.network.get_weights()])
        assert note_of(loaded, tmp_path / "b") == ""
        assert note_of(loaded, tmp_path / "b", "others") == "others"
    assert note_of(l2o.load(tmp_path / "a"), tmp_path / "b", "") == ""


@pytest.mark.parametrize("name", NAMES)
def test_what_was_saved_is_loaded(name, tmp_path):
    _, other = SMALL.get(name, ({}, {"use_bias": False}))
    optimizer = small(name, learning_rate=0.5, **other)
    optimizer.save(tmp_path / "deep" / "er", about="tested")
    loaded = l2o.load(str(tmp_path / "deep" / "er") + "/")
    assert saved.read(tmp_path / "deep" / "er").about == "tested"
    assert_same_rule(loaded, optimizer)
    ((option, value),) = other.items()
    assert getattr(loaded, option) == value
    assert float(loaded.learning_rate) == 1.0
    assert {p.name for p in (tmp_path / "deep" / "er").iterdir()} == {"README.md", "optimizer.npz"}
    # Saved again, over the first one.
    small(name).save(tmp_path / "deep" / "er")
    assert getattr(l2o.load(tmp_path / "deep" / "er"), option) != value


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


def test_a_run_is_loaded_with_keras_options_too(tmp_path):
    config = resolve_config({"problems": [{"target": "Booth"}], "network": {"layers": [2]}})
    training = build_training(config)
    run = RunDirectory(tmp_path)
    run.write_config(config)
    run.write_period(Row(0, 0, None, None, None, 0.0, 1, 0, 1, 0), training.save_state())
    loaded = l2o.load(tmp_path, learning_rate=0.25, use_ema=True)
    assert_same_rule(loaded, training.optimizer)
    assert (float(loaded.learning_rate), loaded.use_ema) == (0.25, True)


@pytest.mark.parametrize("option", ["learned", "layers", "p"])
def test_options_of_the_rule_are_not_changed_by_load(tmp_path, option):
    small().save(tmp_path)
    with pytest.raises(UserError, match=f"{option} belongs to what was trained"):
        l2o.load(tmp_path, **{option: None})


def test_a_save_that_is_interrupted_leaves_the_file_before(tmp_path, monkeypatch):
    small().save(tmp_path, about="first")

    def die(*_):
        raise KeyboardInterrupt

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, die)
            with pytest.raises(KeyboardInterrupt):
                small().save(tmp_path, about="second")
        assert {p.name for p in tmp_path.iterdir()} == {"README.md", "optimizer.npz"}
        assert saved.read(tmp_path).about == "first"


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    small().save(tmp_path)
    before = (tmp_path / "optimizer.npz").read_bytes()
    for about in (b"bytes", 3, ["text"]):
        with pytest.raises(ValueError, match="Expected a text `about` it"):
            small().save(tmp_path, about=about)
    odd = small(kernel_initializer=keras.initializers.Zeros())
    with pytest.raises(ValueError, match="Expected a plain value of kernel_initializer"):
        odd.save(tmp_path)
    assert (tmp_path / "optimizer.npz").read_bytes() == before


def test_options_of_numpy_are_plain_values_in_the_file(tmp_path):
    made = l2o.DMOptimizer(layers=np.array([2, 3]), output_scale=np.float32(0.5))
    made.save(tmp_path)
    loaded = l2o.load(tmp_path)
    assert (loaded.layers, loaded.output_scale) == ((2, 3), 0.5)


@pytest.mark.parametrize("name", sorted(l2o.pretrained()))
def test_rules_compute_in_32_bits_where_keras_has_16(name):
    keras.config.set_floatx("bfloat16")
    try:
        optimizer = l2o.load(name)
    finally:
        keras.config.set_floatx("float32")
    assert {w.dtype for w in optimizer.network.weights} == {"float32"}
    assert_same_rule(optimizer, l2o.load(name))


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
    for path in (tmp_path / "file", tmp_path / ("x" * 5000)):
        with pytest.raises(UserError, match=r"cannot write .*"):
            small().save(path)


def test_a_name_that_is_none_is_told_and_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"none of those .*did you mean rnnprop-digits\?"):
        l2o.load("rnnprop-digit")


@pytest.mark.parametrize("name", sorted(l2o.pretrained()))
def test_those_that_come_with_it_are_loaded(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optimizer = l2o.load(f"{name}/")
    rule = re.sub("-(digits|held-out|mnist|wide)$", "", name)
    assert optimizer.name.lower().startswith(rule.replace("-", ""))
    assert ("mnist" if name.endswith("-mnist") else "digits") in l2o.pretrained()[name]
    path = l2o.train.loading.SHIPPED / name / "optimizer.npz"
    assert path.stat().st_size < 100_000
    # A directory of one's own comes first.
    own = small()
    own.save(name)
    assert_same_rule(l2o.load(name), own)


def test_all_that_are_trained_come_with_it():
    found = {type(l2o.load(name)) for name in l2o.pretrained()}
    # These are still to be trained.
    untrained = {l2o.AdafacMLPOptimizer, l2o.Celo2Optimizer, l2o.ChoiceOptimizer}
    assert found == {*OPTIMIZERS.entries.values()} - untrained


@keras.saving.register_keras_serializable("theirs")
class TheirOptimizer(l2o.DMOptimizer):
    """A rule of somebody else's."""


def test_a_rule_of_ones_own_is_saved_too(tmp_path):
    optimizer = TheirOptimizer(layers=(2,))
    optimizer.save(tmp_path)
    assert_same_rule(l2o.load(tmp_path), optimizer)


@pytest.mark.parametrize("name", sorted(l2o.pretrained()))
def test_loading_leaves_no_trace_in_the_model_that_comes_next(name):
    found = []
    for load in (False, True):
        keras.utils.clear_session(free_memory=False)
        same_draws(0)
        if load:
            optimizer = l2o.load(name)
            type(optimizer).from_config(optimizer.get_config())
        layers = [
            kind(2) for kind in (keras.layers.Dense, keras.layers.LSTMCell, keras.layers.GRUCell)
        ]
        layers[0].build((None, 3))
        found.append(([layer.name for layer in layers], layers[0].kernel.numpy().tolist()))
    assert found[0] == found[1]


def test_a_class_that_could_not_be_loaded_is_not_saved(tmp_path):
    class Unregistered(l2o.DMOptimizer):
        pass

    with pytest.raises(ValueError, match="Unregistered could not be loaded again: decorate"):
        Unregistered(layers=(2,)).save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


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
        ({"options": {"layers": [4]}}, "expected the weights of DMOptimizer .* Received: array"),
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
        with pytest.raises(UserError, match="not a saved optimizer, or is damaged"):
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
        optimizer.set_learned_weights(other.network.get_weights())
    with pytest.raises(ValueError, match="expected the weights of DMOptimizer"):
        l2o.DMOptimizer.from_config(config)
    for a, b in zip(before, optimizer.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


BAD_WEIGHTS = [
    (lambda w: w[:-1], r"Received: \d arrays, of the shapes \[\("),
    (lambda w: [*w, w[0]], r"Received: \d arrays, of the shapes \[\("),
    (lambda w: [*w[:-1], w[-1][..., None]], r"array \d of the shape \(1, 1\) where \(1,\) belongs"),
    (lambda w: [w[0].astype(np.complex64), *w[1:]], "array 0 of complex64, which are not real"),
    (lambda w: [w[0].astype(str), *w[1:]], "array 0 of <U.*, which are not real numbers"),
    (lambda w: [w[0], w[1] * np.nan, *w[2:]], "array 1 with values that are not finite"),
    (lambda w: [w[0], w[1] + np.float64(1e300), *w[2:]], "array 1 .* not finite in float32"),
]


@pytest.mark.parametrize(("change", "reason"), BAD_WEIGHTS)
def test_weights_that_do_not_fit_are_told_why_however_they_come(change, reason, tmp_path):
    optimizer = small()
    before = optimizer.network.get_weights()
    wrong = change(before)
    with pytest.raises(ValueError, match=reason):
        optimizer.set_learned_weights(wrong)
    for a, b in zip(before, optimizer.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    # Saved.
    named = {str(i): w for i, w in enumerate(wrong)}
    (tmp_path / "optimizer.npz").write_bytes(seal(named, ABOUT))
    # A run.
    config = resolve_config({"problems": [{"target": "Booth"}], "network": {"layers": [3]}})
    run = RunDirectory(tmp_path / "run")
    run.write_config(config)
    state = {f"network/{i}": w for i, w in enumerate(wrong)}
    state["optimizer"] = np.array("DMOptimizer")
    run.write_period(Row(0, 0, None, None, None, 0.0, 1, 0, 1, 0), state)
    for path in (tmp_path, tmp_path / "run"):
        with pytest.raises(UserError, match=f"npz cannot be used: expected .*{reason}") as error:
            l2o.load(path)
        assert len(str(error.value).splitlines()) == 1


def test_a_checkpoint_that_lacks_one_of_its_weights_says_which(tmp_path):
    config = resolve_config({"problems": [{"target": "Booth"}], "network": {"layers": [2]}})
    state = build_training(config).save_state()
    del state["network/1"]
    run = RunDirectory(tmp_path)
    run.write_config(config)
    run.write_period(Row(0, 0, None, None, None, 0.0, 1, 0, 1, 0), state)
    with pytest.raises(UserError, match="learned weights, but network/1 is missing"):
        l2o.load(tmp_path)


@keras.saving.register_keras_serializable("theirs")
class PickyOptimizer(l2o.DMOptimizer):
    """Refuses weights for a reason of its own."""

    def set_learned_weights(self, weights):
        raise ValueError("a reason\n  of its own")


def test_a_reason_of_the_class_itself_is_told(tmp_path):
    PickyOptimizer(layers=(3,)).save(tmp_path)
    with pytest.raises(UserError, match="cannot be used: a reason of its own"):
        l2o.load(tmp_path)


def test_a_configuration_is_json_and_runs_nothing():
    config = json.loads(json.dumps(small().get_config()))
    evil = {**config, "learned": "gANjb3MKc3lzdGVtCnEAWAUAAABmYWxzZXEBhXECUnEDLg=="}
    for learned in (evil["learned"], "", "x", 3):
        with pytest.raises(ValueError, match=r"what DMOptimizer\w* has learned is damaged"):
            l2o.DMOptimizer.from_config({**evil, "learned": learned})
    without = {k: v for k, v in config.items() if k != "learned"}
    assert isinstance(l2o.DMOptimizer.from_config(without), TrainableOptimizer)
    assert tf.nest.flatten(config)
