"""Each member of the pool against the Keras optimizer that it stands for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.optimizer.hand_designed import POOL

KERAS = {
    "AddSign": l2o.AddSign,
    "Adam": keras.optimizers.Adam,
    "Momentum": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    "PowerSign": l2o.PowerSign,
    "RMSprop": keras.optimizers.RMSprop,
    "SGD": keras.optimizers.SGD,
}


@pytest.mark.parametrize("name", sorted(POOL))
def test_a_member_is_its_keras_optimizer(name):
    rng = np.random.default_rng(0)
    # 1e-4 is where the epsilons count.
    scale = np.array([1.0, 100.0, 1e-4, 1e-7])
    x, optimizer = keras.Variable(np.zeros(4), dtype="float64"), KERAS[name](0.25)
    member, t = POOL[name], tf.zeros([], tf.int64)
    averages = tuple(tf.zeros([4], tf.float64) for _ in range(member.averages))
    for _ in range(10):
        g = tf.constant(rng.normal(size=4) * scale)
        t, before = t + 1, x.numpy()
        delta, averages = member.step(g, averages, t, 0.25)
        optimizer.apply([g], [x])
        # Keras holds 0.999 and its powers in float32.
        np.testing.assert_allclose(delta, x.numpy() - before, rtol=2e-5)
    assert len(averages) == member.averages
