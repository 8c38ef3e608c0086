"""What is saved goes on where it was, to the last bit: the optimizee, the state, the rule."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o.optimizer import TrainableOptimizer
from tests.contract.features import (
    BOTH,
    LEARNED_PARAMETERS,
    LEARNED_PARAMETERS_BOTH,
    NONE,
    close,
    data,
    equal,
    feature,
    fit,
    maker,
    new_model,
    state,
    steps,
)

ROOT = Path(__file__).parent.parent.parent


@feature("`get_config`, `from_config`, `serialize`, `deserialize`")
def test_the_configuration_is_the_optimizer(make):
    optimizer = make(learning_rate=0.5, clipnorm=1.0, name="another")
    expected = steps(make(learning_rate=0.5, clipnorm=1.0))
    config = optimizer.get_config()
    copies = [
        type(optimizer).from_config(config),
        keras.optimizers.deserialize(keras.optimizers.serialize(optimizer)),
        keras.optimizers.deserialize(json.loads(json.dumps(keras.optimizers.serialize(optimizer)))),
    ]
    for copy in copies:
        assert copy.get_config() == config
        assert copy.name == "another"
        equal(steps(copy), expected)


@feature("`keras.models.clone_model`")
def test_a_clone(make):
    model = new_model(make())
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert clone.optimizer is not model.optimizer
    equal(fit(model), fit(clone))


@feature("`model.save` and `load_model`")
def test_a_saved_model(make, tmp_path):
    model = new_model(make(learning_rate=0.5))
    fit(model)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded.optimizer) is type(model.optimizer)
    equal(state(loaded.optimizer), state(model.optimizer))
    equal(fit(loaded), fit(model))


@feature("`compile(optimizer=keras.optimizers.serialize(...))`", fast=NONE)
def test_an_optimizer_that_is_made_inside_compile(make, tmp_path):
    given = make(learning_rate=0.5)
    model = new_model(keras.optimizers.serialize(given))
    assert type(model.optimizer) is type(given)
    equal(fit(model), fit(new_model(given)))
    model.save(tmp_path / "m.keras")
    equal(fit(keras.models.load_model(tmp_path / "m.keras")), fit(model))
    untrained = keras.optimizers.serialize(given)
    untrained["config"].pop("learned", None)
    model = new_model(untrained)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    equal(fit(clone), fit(model))


@pytest.mark.traced
@feature("a saved float8 model, which lists its variables in another order")
def test_a_saved_float8_model(make, tmp_path):
    model = new_model()
    model.quantize("float8")
    model.compile(optimizer=make(), loss="mse")
    fit(model)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    shapes = [v.shape for v in model.trainable_variables]
    assert [v.shape for v in loaded.trainable_variables] != shapes
    fit(model), fit(loaded)
    by_place = [
        sorted((v.path.split("/")[-2:], v.numpy().tolist()) for v in m.trainable_variables)
        for m in (model, loaded)
    ]
    assert by_place[0] == by_place[1]


@feature("`model.save` before any step", fast=NONE)
def test_a_model_that_is_saved_before_any_step(make, tmp_path):
    model = new_model(make())
    model.save(tmp_path / "m.keras")
    equal(fit(keras.models.load_model(tmp_path / "m.keras")), fit(model))


@feature("`model.save` with `LossScaleOptimizer`", fast=NONE)
def test_a_saved_model_with_a_loss_scale(make, tmp_path):
    model = new_model(keras.optimizers.LossScaleOptimizer(make()))
    fit(model)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    equal(fit(loaded), fit(model))


@pytest.fixture(scope="module")
def elsewhere(request, tmp_path_factory):
    """Models that another process has loaded and trained on; and what they were."""
    folder, expected = tmp_path_factory.mktemp("models"), {}
    names = [
        item.callspec.params["make"]
        for item in request.session.items
        if item.originalname == "test_another_process_goes_on"
    ]
    for name in names:
        model = new_model(maker(name)())
        fit(model)
        model.save(folder / f"{name}.keras")
        expected[name] = fit(model)
    code = (
        "import sys, keras, numpy as np\n"
        "import l2o\n"
        f"l2o.optimizer.TrainableOptimizer.xla = {TrainableOptimizer.xla}\n"
        # As in conftest.py: what is optimized in another way is rounded in another.
        "import tensorflow as tf\n"
        "tf.config.optimizer.set_experimental_options({'disable_meta_optimizer': True})\n"
        "from tests.contract.features import fit\n"
        "for name in sys.argv[2:]:\n"
        "    model = keras.models.load_model(f'{sys.argv[1]}/{name}.keras')\n"
        "    np.savez(f'{sys.argv[1]}/{name}.npz', *fit(model))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, expected


@feature("`load_model` in another process, without custom objects", fast=NONE)
def test_another_process_goes_on(make, elsewhere, request):
    folder, expected = elsewhere
    name = request.node.callspec.params["make"]
    with np.load(folder / f"{name}.npz") as found:
        equal([found[f"arr_{i}"] for i in range(len(found))], expected[name])


@feature("`save_weights`, `load_weights`")
def test_saved_weights(make, tmp_path):
    model = new_model(make())
    fit(model)
    model.save_weights(tmp_path / "m.weights.h5")
    other = new_model(make())
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "m.weights.h5")
    equal(state(other.optimizer), state(model.optimizer))
    equal(fit(other), fit(model))


@feature("`load_weights` of a model without an optimizer, or with another one", fast=NONE)
def test_weights_of_another_training(make, tmp_path):
    sgd = new_model(keras.optimizers.SGD(0.01))
    fit(sgd)
    plain = keras.Sequential([keras.Input((3,)), *map(_copy, sgd.layers)])
    plain.set_weights(sgd.get_weights())
    expected = new_model(make())
    expected.set_weights(sgd.get_weights())
    expected = fit(expected)
    for source in (sgd, plain):
        source.save_weights(tmp_path / "m.weights.h5")
        model = new_model(make())
        model.optimizer.build(model.trainable_variables)
        model.load_weights(tmp_path / "m.weights.h5")
        equal(model.get_weights(), sgd.get_weights())
        equal(fit(model), expected)


def _copy(layer):
    return type(layer).from_config(layer.get_config())


@pytest.mark.parametrize("make", LEARNED_PARAMETERS, indirect=True)
def test_weights_of_a_training_with_another_rule_do_not_change_this_one(make, tmp_path):
    rule = make().network.get_weights()
    for other in ("DM", "RNNProp"):
        source = new_model(maker(other)())
        source.optimizer.network.set_weights(
            [w + 1 for w in source.optimizer.network.get_weights()]
        )
        fit(source, epochs=1)
        source.save_weights(tmp_path / "m.weights.h5")
        model = new_model(make())
        model.optimizer.build(model.trainable_variables)
        model.load_weights(tmp_path / "m.weights.h5")
        equal(model.get_weights(), source.get_weights())
        equal(model.optimizer.network.get_weights(), rule)


@feature("a saved model that was frozen: its state is skipped with a warning")
def test_a_model_that_was_frozen_before_it_was_saved(make, tmp_path):
    model = new_model(make())
    fit(model)
    model.layers[0].trainable = False
    model.save(tmp_path / "m.keras")
    with pytest.warns(UserWarning, match="Skipping variable loading"):
        loaded = keras.models.load_model(tmp_path / "m.keras")
    equal(loaded.get_weights(), model.get_weights())
    fit(loaded)


@feature("`tf.train.Checkpoint`", fast=BOTH)
def test_tensorflows_own_checkpoints(make, tmp_path):
    optimizer, variables = make(), [tf.Variable(tf.ones([3]))]
    grads = [tf.constant([1.0, -2.0, 0.5])]
    optimizer.apply(grads, variables)
    path = tf.train.Checkpoint(optimizer=optimizer, v=variables).write(str(tmp_path / "c"))
    other, others = make(), [tf.Variable(tf.zeros([3]))]
    other.build(others)
    tf.train.Checkpoint(optimizer=other, v=others).read(path).assert_existing_objects_matched()
    for made, v in ((optimizer, variables), (other, others)):
        made.apply(grads, v)
    equal(variables, others)
    equal(state(optimizer), state(other))


@feature("`ModelCheckpoint`", fast=NONE)
def test_a_checkpoint_of_each_epoch(make, tmp_path):
    model = new_model(make())
    path = str(tmp_path / "{epoch}.keras")
    expected = fit(model, epochs=3, callbacks=[keras.callbacks.ModelCheckpoint(path)])
    loaded = keras.models.load_model(tmp_path / "2.keras")
    equal(fit(loaded, epochs=1), expected)


class Interrupt(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


@feature("`BackupAndRestore`", fast=NONE)
def test_a_fit_that_was_interrupted(make, tmp_path):
    expected = fit(new_model(make()), epochs=4)
    with pytest.raises(KeyboardInterrupt):
        fit(
            new_model(make()),
            epochs=4,
            callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "b"), Interrupt()],
        )
    again = new_model(make())
    found = fit(again, epochs=4, callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "b")])
    assert int(again.optimizer.iterations) == 16
    equal(found, expected)


@keras.saving.register_keras_serializable("tests")
class Pair(keras.Model):
    """Two layers, made in the order that is given."""

    def __init__(self, order, **options):
        super().__init__(**options)
        self.order = order
        for name in order:
            setattr(self, name, keras.layers.Dense(3, name=name))

    def call(self, x):
        return self.second(keras.ops.tanh(self.first(x)))

    def get_config(self):
        return {"order": self.order}


def _pair(make, *order, **options):
    model = Pair(order)
    model(data()[0])
    for k, name in enumerate(("first", "second")):
        rng = np.random.default_rng(k)
        layer = getattr(model, name)
        layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    model.compile(optimizer=make(**options), loss="mse")
    model.optimizer.build(model.trainable_variables)
    return model


def _fit_pair(model):
    model.fit(data()[0], data()[0], batch_size=8, shuffle=False, verbose=0)
    return [w for name in ("first", "second") for w in getattr(model, name).get_weights()]


@pytest.mark.parametrize("make", LEARNED_PARAMETERS, indirect=True)
@pytest.mark.parametrize(
    "options",
    [
        {"use_ema": True},
        *(
            pytest.param(o, marks=pytest.mark.slow)
            for o in ({}, {"gradient_accumulation_steps": 3})
        ),
    ],
)
def test_a_state_follows_the_variables_it_belongs_to(make, options):
    model = _pair(make, "first", "second", **options)
    _fit_pair(model)
    other = _pair(make, "second", "first", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.optimizer.load_own_variables(_stored(model.optimizer))
    for name in ("first", "second"):
        getattr(other, name).set_weights(getattr(model, name).get_weights())
    close(_fit_pair(other), _fit_pair(model), rtol=1e-6, atol=1e-6)


@feature("weights of a model that is made again, whose layers have other numbers then")
def test_weights_of_a_model_that_is_made_again(make, tmp_path):
    def build(*layers):
        for layer, k in zip(layers, range(9), strict=False):
            layer.build((None, 3))
            layer.set_weights(
                [np.random.default_rng(k).normal(size=w.shape) for w in layer.get_weights()]
            )
        model = keras.Sequential([keras.Input((3,)), *layers])
        model.compile(optimizer=make(), loss="mse")
        model.optimizer.build(model.trainable_variables)
        return model

    def layers(number):
        return [keras.layers.Dense(3, name=f"dense_{n}") for n in (number, 105)]

    model, again = build(*layers(100)), build(*layers(108))
    x = data()[0]
    model.fit(x, x, batch_size=8, shuffle=False, verbose=0)
    model.save_weights(tmp_path / "m.weights.h5")
    again.load_weights(tmp_path / "m.weights.h5")
    for m in (model, again):
        m.fit(x, x, batch_size=8, shuffle=False, verbose=0)
    equal(again.get_weights(), model.get_weights())


@pytest.mark.parametrize("make", LEARNED_PARAMETERS_BOTH, indirect=True)
def test_a_state_that_would_go_to_other_variables_is_refused(make, tmp_path):
    model = _pair(make, "first", "second")
    _fit_pair(model)
    tf.train.Checkpoint(optimizer=model.optimizer).write(str(tmp_path / "c"))
    tree = model.get_state_tree()
    same, other = _pair(make, "first", "second"), _pair(make, "second", "first")
    ways = (
        lambda m: tf.train.Checkpoint(optimizer=m.optimizer).read(str(tmp_path / "c")),
        lambda m: m.set_state_tree(
            {"optimizer_variables": {m.optimizer.name: tree["optimizer_variables"][NAME]}}
        ),
        lambda m: [
            v.assign(w)
            for v, w in zip(m.optimizer.variables, model.optimizer.variables, strict=True)
        ],
    )
    NAME = model.optimizer.name
    for way in ways:
        way(same)
        equal(state(same.optimizer), state(model.optimizer))
        with pytest.raises(ValueError, match="Expected the state of 4 variables in the order"):
            way(other)
    # In a loss scale's weights lie those of the optimizer inside.
    scaled = [keras.optimizers.LossScaleOptimizer(m.optimizer) for m in (model, other)]
    for optimizer, m in zip(scaled, (model, other), strict=True):
        optimizer.build(m.trainable_variables)
    with pytest.raises(ValueError, match="Expected the state of 4 variables in the order"):
        scaled[1].load_own_variables(_stored(scaled[0]))


@pytest.mark.parametrize("make", LEARNED_PARAMETERS, indirect=True)
def test_a_state_of_other_variables_is_skipped(make):
    optimizer, shapes = make(), [(3,), (3,)]
    optimizer.build([keras.Variable(np.ones(s), name=n) for s, n in zip(shapes, "ab", strict=True)])
    before = state(optimizer)
    for names in ("bc", "ca"):
        other = make()
        variables = [keras.Variable(np.ones(s), name=n) for s, n in zip(shapes, names, strict=True)]
        other.apply([tf.ones(s) for s in shapes], variables)
        with pytest.warns(UserWarning, match="belongs to other variables"):
            optimizer.load_own_variables(_stored(other))
        equal(state(optimizer), before)


def _stored(optimizer):
    store = {}
    optimizer.save_own_variables(store)
    return store
