"""PowerSign and AddSign against NumPy, and as Keras optimizers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o import keras_optimizers
from l2o.errors import UserError
from l2o.problems import Quadratic
from l2o.train import LossArgs, Runner, SimpleStrategy, Training
from tests.tiny_rule import TinyOptimizer

KINDS = {
    l2o.PowerSign: lambda alpha, agree: alpha**agree,
    l2o.AddSign: lambda alpha, agree: alpha + agree,
}
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def expected(kind, x, grads, rate=0.1, alpha=None, beta=0.9):
    """The steps in NumPy, in float64."""
    alpha = alpha or {l2o.PowerSign: np.e, l2o.AddSign: 1.0}[kind]
    m = np.zeros_like(x)
    for g in grads:
        m = beta * m + (1 - beta) * g
        x = x - rate * KINDS[kind](alpha, np.sign(g) * np.sign(m)) * g
    return x


@each_kind
@pytest.mark.parametrize("options", [{}, {"learning_rate": 0.3, "alpha": 2.5, "beta": 0.5}])
def test_steps_are_those_of_the_paper(kind, options):
    rng = np.random.default_rng(0)
    x, grads = rng.normal(size=(3, 4)), list(rng.normal(size=(12, 3, 4)))
    grads[5][0] = 0.0
    variable, optimizer = keras.Variable(x, dtype="float64"), kind(**options)
    for g in grads:
        optimizer.apply([tf.constant(g)], [variable])
    renamed = {{"learning_rate": "rate"}.get(key, key): value for key, value in options.items()}
    # Keras holds a learning rate as float32.
    np.testing.assert_allclose(variable.numpy(), expected(kind, x, grads, **renamed), rtol=1e-6)


@each_kind
def test_it_is_kept_with_its_model(kind, tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(kind(0.02, alpha=1.5, beta=0.8, clipnorm=3.0), "mse")
    x = np.random.default_rng(0).normal(size=(8, 2))
    model.fit(x, x[:, :1], verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is kind
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert model.optimizer.get_config()["alpha"] == 1.5
    for one in (model, loaded):
        one.fit(x, x[:, :1], shuffle=False, verbose=0)
    for a, b in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(loaded.optimizer.variables[2]).max() > 0


@each_kind
def test_a_sparse_gradient_is_a_dense_one(kind):
    sparse, dense = keras.Variable(np.ones((4, 2))), keras.Variable(np.ones((4, 2)))
    one, other = kind(), kind()
    for rows in ([0, 2], [2, 2], [1, 3]):
        slices = tf.IndexedSlices(tf.constant([[1.0, -2.0], [3.0, 4.0]]), rows, [4, 2])
        one.apply([slices], [sparse])
        other.apply([tf.convert_to_tensor(slices)], [dense])
    np.testing.assert_array_equal(sparse.numpy(), dense.numpy())


@pytest.mark.parametrize(
    ("config", "words"),
    [({"alpha": 0.0}, "Expected `alpha` above 0"), ({"beta": 1.0}, "Expected `beta` in [0, 1)")],
)
@each_kind
def test_what_makes_no_sense_is_refused(kind, config, words):
    with pytest.raises(UserError) as error:
        keras_optimizers.spec_of({"class_name": kind.__name__, "config": config}, "here")
    assert error.value.path == "here/config"
    assert words in error.value.message


@each_kind
@pytest.mark.usefixtures("quick_periods")
def test_it_teaches(kind):
    """A student starts as its teacher does, so the distance is that of one step each."""
    optimizer = TinyOptimizer()
    spec = {"class_name": kind.__name__, "config": {"learning_rate": 0.5}}
    losses = {}
    for teacher in (spec, kind(0.5), kind(0.25)):
        training = Training(
            optimizer,
            [Quadratic(dimensions=2)],
            keras.optimizers.SGD(0.0),
            LossArgs(use_log_objective=False),
            teachers=[teacher],
            p_teacher=1.0,
        )
        strategy = SimpleStrategy(num_periods=1, epochs_per_period=1, unroll_distribution=2)
        losses[str(teacher)] = Runner(training, strategy).train()[0].imitation_loss
    first, same, other = losses.values()
    assert first == same != other
