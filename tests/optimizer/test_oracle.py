"""Rules whose truth is known, through both paths: the unroll and Keras' apply are right."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o.problems import mlp_classifier
from l2o.train.outer.meta_step import MetaStep
from tests import hand_designed

STEPS = 10
PAIRS = {
    "SGD": (hand_designed.SGD, keras.optimizers.SGD(0.1, momentum=0.9)),
    "Adam": (hand_designed.Adam, keras.optimizers.Adam(0.01)),
}


@pytest.mark.parametrize("name", ["Adam", pytest.param("SGD", marks=pytest.mark.slow)])
def test_both_paths_equal_keras_own_optimizer(name):
    rule, reference = PAIRS[name]
    problem = mlp_classifier(layers=[6], batch_size=16)
    images, labels = problem.batches(2, 0, STEPS + 1)

    def fit(optimizer):
        model = problem.model(5)
        model.compile(optimizer=optimizer, loss=problem.loss)
        model.fit(
            tf.reshape(images[:-1], [-1, *images.shape[2:]]),
            tf.reshape(labels[:-1], [-1]),
            batch_size=16,
            shuffle=False,
            verbose=0,
        )
        return model.get_weights()

    expected = fit(reference)
    step = MetaStep(rule(), problem)
    _, end = step.validate(step.start(problem.init(5)), (images, labels), STEPS)
    for got in (end.params, fit(rule())):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-6)


class Pushed(hand_designed.SGD):
    """SGD that starts in motion."""

    def initial_state(self, params, seed=0):
        return [tf.random.stateless_normal(p.shape, [1, i]) for i, p in enumerate(params)]


def test_an_initial_state_that_is_not_zero_survives_being_built_inside_a_trace():
    problem = mlp_classifier(layers=[6], batch_size=16)
    images, labels = problem.batches(2, 0, 4)
    model, optimizer = problem.model(5), Pushed()

    @tf.function
    def train(x, y):
        with tf.GradientTape() as tape:
            loss = problem.loss(y, model(x, training=True))
        values = [v.value for v in model.trainable_variables]
        optimizer.apply(tape.gradient(loss, values), model.trainable_variables)

    for i in range(3):
        train(images[i], labels[i])
    step = MetaStep(Pushed(), problem)
    _, end = step.validate(step.start(problem.init(5)), (images, labels), 3)
    for a, b in zip(end.params, model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
