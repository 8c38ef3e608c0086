"""A saved state is sorted for a model that lists its variables in another order."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.optimizer.partial import Place
from l2o.optimizer.restore import Owned, is_updated, rearranged
from tests.draws import same_draws

# The third one is not updated, and no two have the same shape.
VALUES = {
    "a": np.ones((2, 3), "float32"),
    "b": np.full(4, 2.0, "float32"),
    "count": np.array(3),
    "c": np.full((1, 2), 3.0, "float32"),
}
KINDS = {
    "Celo2": l2o.Celo2Optimizer,
    "DM": l2o.DMOptimizer,
    "ScaleHierarchical": l2o.ScaleHierarchicalOptimizer,
}


def trained(kind, order, steps, **options):
    """An optimizer that has taken steps on variables in an order, and the variables by name."""
    same_draws(0)
    optimizer = KINDS[kind](**options)
    variables = {name: keras.Variable(VALUES[name], name=name) for name in order}
    optimizer.build(list(variables.values()))
    return optimizer, variables, lambda: step(optimizer, variables, steps)


def step(optimizer, variables, count):
    for i in range(count):
        updated = {n: v for n, v in variables.items() if n != "count"}
        grads = [
            tf.constant(np.random.default_rng([i, ord(n)]).normal(size=v.shape), tf.float32)
            for n, v in updated.items()
        ]
        optimizer.apply(grads, list(updated.values()))


@pytest.mark.parametrize("options", [{}, {"use_ema": True}], ids=["plain", "ema"])
@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(
    "order", ["b c count a", pytest.param("c b a count", marks=pytest.mark.slow)]
)
def test_the_training_continues_in_another_order(kind, order, options):
    # Keras has no moving average of an integer.
    left_out = {"count"} if options else set()
    names = [name for name in VALUES if name not in left_out]
    first, variables, train = trained(kind, names, 3, **options)
    train()
    store = {}
    first.save_own_variables(store)
    names = [name for name in order.split() if name not in left_out]
    second, others, continue_ = trained(kind, names, 2, **options)
    for name, variable in variables.items():
        others[name].assign(variable)
    second.load_own_variables({key: np.array(value) for key, value in store.items()})
    step(first, variables, 2)
    continue_()
    for name, variable in variables.items():
        np.testing.assert_allclose(others[name], variable, rtol=1e-5, err_msg=name)
        assert name == "count" or not np.array_equal(variable, VALUES[name])
    if options:
        for optimizer, own in ((first, variables), (second, others)):
            optimizer.finalize_variable_values(list(own.values()))
        for name, variable in variables.items():
            np.testing.assert_allclose(others[name], variable, rtol=1e-5, err_msg=name)


def test_the_state_of_other_variables_is_skipped_with_a_warning():
    first, _, train = trained("DM", ["a", "b"], 2)
    train()
    store = {}
    first.save_own_variables(store)
    second, _, _ = trained("DM", ["a", "c"], 0)
    before = [v.numpy() for v in second.variables]
    with pytest.warns(UserWarning, match="belongs to other variables"):
        second.load_own_variables({key: np.array(value) for key, value in store.items()})
    for a, b in zip(before, second.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_values_without_a_layout_keep_their_order():
    owned = Owned([tf.Variable(0.0)], [], [], lambda: [Place(0, True)], [])
    assert rearranged([np.array(7.0)], owned) == [7.0]


def test_integers_are_not_updated():
    assert is_updated(keras.Variable(1.0))
    assert not is_updated(keras.Variable(np.array(1)))
