"""Optimizees on replicas: put in, taken out, summed up."""

import numpy as np
import pytest
import tensorflow as tf

from l2o.train import Replicas
from l2o.train.distributed.layout import Layout


@pytest.fixture(params=[(1, 1), (1, 3), (2, 1), (2, 3)], ids=str)
def layout(request):
    count, per_replica = request.param
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])
    return Layout(Replicas(strategy), per_replica)


def nest(number):
    return {"a": tf.constant([1.0, 2.0]) * number, "b": (tf.constant(number),)}


def test_what_is_stacked_is_taken_out_and_replaced(layout):
    count = len(layout.own)
    value = layout.stack([nest(k) for k in range(count)])
    for replaced in range(count):
        changed = layout.put(value, replaced, nest(9))
        for k in range(count):
            expected = nest(9 if k == replaced else k)
            tf.nest.map_structure(np.testing.assert_array_equal, layout.take(changed, k), expected)


def test_the_axis_of_optimizees_may_be_the_second(layout):
    streams = [tf.range(4) * (k + 1) for k in range(len(layout.own))]
    parts = layout.parts(layout.stack(streams, axis=1))
    assert len(parts) == layout.replicas.local
    for r, part in enumerate(parts):
        own = [streams[r * layout.per_replica + k] for k in range(layout.per_replica)]
        np.testing.assert_array_equal(part, own[0] if len(own) == 1 else np.stack(own, 1))


def test_a_function_runs_on_each_replica_and_its_sums_are_those_of_all(layout):
    count = len(layout.own)
    value = layout.stack([tf.constant(2.0 + k) for k in range(count)])
    made = layout.make(lambda: tf.constant(10.0))

    @tf.function(autograph=False)
    def run(value, made):
        def function(own, factor):
            return [tf.reduce_sum(own), tf.size(own)], [own, own > 2.0], factor * own

        return layout.run(function, value, made)

    (total, size), (each, above), end = run(value, made)
    own = np.arange(2.0, 2.0 + count)
    assert float(total) == own.sum()
    assert (int(size), size.dtype) == (count, tf.int32)
    np.testing.assert_array_equal(np.ravel(each), own)
    np.testing.assert_array_equal(np.ravel(above), own > 2)
    assert above.dtype == tf.bool
    for k in range(count):
        assert float(layout.take(end, k)) == 10 * own[k]
