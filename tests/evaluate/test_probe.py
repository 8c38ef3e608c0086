import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o import seeds
from l2o.evaluate import probe as module
from l2o.evaluate.probe import probe
from l2o.inner.batched import value_and_gradients
from l2o.problems import Quadratic, mlp_classifier
from tests import odd_problems


@pytest.mark.parametrize("problem", [mlp_classifier([2], batch_size=8), Quadratic(3)])
def test_sizes_are_those_of_a_training_step_by_step(problem, monkeypatch):
    optimizer = l2o.RNNPropOptimizer(layers=(3,))
    for weight in optimizer.network.trainable_variables:
        weight.assign(weight + 0.1)
    got = probe(problem, optimizer, 3, seed=5)
    rng = seeds.generator(5, seeds.EVALUATION)
    (params, model_state), stream = problem.init(seeds.draw(rng)), seeds.draw(rng)
    batches = problem.batches(stream, 0, 3)
    state = optimizer.initial_state(params)
    for i in range(3):
        batch = tf.nest.map_structure(lambda b, k=i: b[k], batches)
        _, grads, model_state = value_and_gradients(problem, params, model_state, batch)
        deltas, state = optimizer.update(params, grads, state)
        params = [p + d for p, d in zip(params, deltas, strict=True)]
        for sizes, tensors in ((got.gradients, grads), (got.updates, deltas)):
            expected = np.abs(np.concatenate([np.ravel(t) for t in tensors]))
            np.testing.assert_allclose(sizes[i], expected, rtol=1e-3, atol=1e-7)
    assert (got.updates > 0).all()


def test_of_many_coordinates_some_are_noted(monkeypatch):
    monkeypatch.setattr(module, "MOST_COORDINATES", 4)
    problem, optimizer = Quadratic(10), l2o.DMOptimizer(layers=(2,))
    some = probe(problem, optimizer, 2)
    monkeypatch.undo()
    every = probe(problem, optimizer, 2)
    np.testing.assert_allclose(some.gradients, every.gradients[:, ::3], rtol=1e-5)


def test_what_has_no_gradient_has_no_size():
    problem = odd_problems.outside()
    got = probe(problem, l2o.load("scale-hierarchical-digits"), 2)
    params = zip(problem.init(0).params, odd_problems.TAKING, strict=True)
    assert got.updates.shape[1] == sum(p.shape.num_elements() for p, takes in params if takes)
    assert (got.updates > 0).all()
