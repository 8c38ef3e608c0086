"""An optimizer has its learned weights wherever it is made."""

import abc
import inspect

import keras
import numpy as np
import pytest
from keras.src.utils.tracking import DotNotTrackScope

import l2o
from l2o.optimizer import OPTIMIZERS, TrainableOptimizer

KINDS = pytest.mark.parametrize("name", sorted(OPTIMIZERS.entries))


@KINDS
def test_in_the_build_and_the_compile_of_others(name):
    kind, made = OPTIMIZERS.find(name), []
    expected = [w.shape for w in kind().network.weights]

    class Layer(keras.layers.Layer):
        def build(self, shape):
            made.append(kind())
            self.built = True

        def call(self, x):
            return x

    class Model(keras.Sequential):
        def compile(self, optimizer, **options):
            super().compile(keras.optimizers.serialize(optimizer), **options)

    Layer()(np.zeros((1, 2)))
    keras.Sequential([keras.Input((2,)), Layer()])
    model = Model([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(kind(), loss="mse")
    made += [model.optimizer, keras.models.clone_model(model).optimizer]
    assert [[w.shape for w in o.network.weights] for o in made] == [expected] * 4


@keras.saving.register_keras_serializable("tests")
class Composed(TrainableOptimizer):
    """A user's rule, whose network is made of layers."""

    def __init__(self, learning_rate=1.0, *, name="Composed", **kwargs):
        super().__init__(learning_rate, name=name, **kwargs)
        self.network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])


def test_a_rule_of_the_users_own_made_inside_compile():
    given = Composed()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.serialize(given))
    found = model.optimizer.network.get_weights()
    assert len(found) == 2
    np.testing.assert_array_equal(found[0], given.network.get_weights()[0])


def test_what_keras_has_turned_off_is_off_again():
    holder = keras.layers.Layer()
    with DotNotTrackScope():
        l2o.DMOptimizer()
        with pytest.raises(ValueError, match="no_option"):
            l2o.DMOptimizer(no_option=1)
        holder.inner = keras.layers.Dense(1)
    assert holder._layers == []
    holder.other = keras.layers.Dense(1)
    assert holder._layers == [holder.other]


class Positional(Composed, abc.ABC):
    """One that takes its name first."""

    def __init__(self, name="Positional", **kwargs):
        super().__init__(name=name, **kwargs)


def test_names_however_they_are_given(tmp_path):
    assert [Positional("mine").name, Positional(name="mine").name] == ["mine", "mine"]
    names = [Positional().name for _ in range(2)]
    assert names[1] == f"Positional_{int(names[1].rpartition('_')[2])}" != names[0]
    # A file must not depend on how many were made before.
    l2o.DMOptimizer(layers=(2,))
    for made, expected in (
        (l2o.DMOptimizer(layers=(2,)), "DMOptimizer"),
        (l2o.DMOptimizer(layers=(2,), name="DM_7"), "DM_7"),
    ):
        made.save(tmp_path)
        assert l2o.load(tmp_path).name == expected


@KINDS
def test_help_shows_what_the_constructor_takes(name):
    kind = OPTIMIZERS.find(name)
    parameters = inspect.signature(kind).parameters
    assert next(iter(parameters)) == "learning_rate"
    assert list(parameters) == list(inspect.signature(kind.__init__).parameters)[1:]
