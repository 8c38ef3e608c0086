import numpy as np
import pytest
import tensorflow as tf

from l2o.optimizer import equations


def test_flatten_and_unflatten_are_inverse_and_keep_dtypes():
    tensors = [
        tf.reshape(tf.range(6, dtype=tf.float32), [2, 3]),
        tf.constant(7.0, tf.float64),
        tf.constant([8, 9], tf.bfloat16),
    ]
    flat = equations.flatten(tensors, tf.float32)
    np.testing.assert_array_equal(flat, [0, 1, 2, 3, 4, 5, 7, 8, 9])
    assert equations.count(tensors) == 9
    for a, b in zip(equations.unflatten(flat, tensors), tensors, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_array_equal(tf.cast(a, tf.float64), tf.cast(b, tf.float64))


def test_log_and_sign_on_both_sides_of_the_threshold():
    edge = np.exp(-10)
    g = np.array([2.0, -2.0, edge * 1.01, edge * 0.5, -edge * 0.5, 0.0])
    expected = [
        (np.log(2) / 10, 1),
        (np.log(2) / 10, -1),
        (np.log(edge * 1.01) / 10, 1),
        (-1, 0.5),
        (-1, -0.5),
        (-1, 0),
    ]
    got = equations.log_and_sign(tf.constant(g, tf.float64), 10.0)
    np.testing.assert_allclose(got, np.transpose(expected), rtol=1e-9)


def test_features_have_finite_gradients_everywhere():
    g = tf.constant([0.0, 1e-38, 1e-6, 1.0, -1e18])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(g)
        features = equations.log_and_sign(g, 10.0)
        root = equations.root(tf.abs(g))
    assert np.isfinite(tape.gradient(features, g)).all()
    assert np.isfinite(tape.gradient(root, g)).all()
    np.testing.assert_allclose(tape.gradient(root, g)[3], 0.5)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_a_debiased_average_of_a_constant_is_that_constant(decay):
    average = tf.constant([0.0], tf.float64)
    for t in range(1, 6):
        average = equations.moving_average(average, tf.constant([3.0], tf.float64), decay)
        debiased = equations.debias(average, decay, tf.constant(t, tf.int64))
        np.testing.assert_allclose(debiased, [3.0], rtol=1e-12)


def test_gradients_are_clipped_only_where_their_square_would_overflow():
    g = tf.constant([1e18, -1e18, 1e30, -np.inf, 5.0])
    np.testing.assert_allclose(equations.clip_gradient(g), [1e18, -1e18, 1e18, -1e18, 5.0])


def test_both_branches_of_log_and_sign_meet_at_the_threshold():
    edge = np.exp(-10.0)
    near = edge * np.array([1 - 1e-9, 1, 1 + 1e-9])
    for sign in (1, -1):
        got = tf.transpose(equations.log_and_sign(tf.constant(sign * near, tf.float64), 10.0))
        np.testing.assert_allclose(got, [(-1, sign)] * 3, rtol=1e-8)


def test_the_gradient_of_log_and_sign_is_that_of_the_branch_taken():
    p = 4.0
    g = tf.constant([2.0, -2.0, 1e-3, -1e-3, 0.0], tf.float64)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(g)
        logarithm, sign = tf.unstack(equations.log_and_sign(g, p))
    np.testing.assert_allclose(tape.gradient(logarithm, g), [1 / (2 * p), -1 / (2 * p), 0, 0, 0])
    np.testing.assert_allclose(tape.gradient(sign, g), [0, 0, *[np.exp(p)] * 3])


def test_the_gradient_of_root_at_zero_is_zero():
    v = tf.constant([0.0, 4.0, 1e-30])
    with tf.GradientTape() as tape:
        tape.watch(v)
        root = equations.root(v)
    np.testing.assert_allclose(root, [0, 2, 1e-15], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(root, v), [0, 0.25, 0.5e15], rtol=1e-6)


@pytest.mark.parametrize("t", [1, 2, 10, 1000000])
def test_debias_divides_by_what_t_steps_of_decay_leave(t):
    got = equations.debias(tf.constant([1.0, -3.0], tf.float64), 0.9, tf.constant(t, tf.int64))
    np.testing.assert_allclose(got, np.array([1.0, -3.0]) / (1 - 0.9**t), rtol=1e-12)


def test_flattening_casts_before_it_joins():
    tensors = [tf.constant([1e30], tf.float64), tf.constant(2.5, tf.float16), tf.zeros([0])]
    flat = equations.flatten(tensors, tf.float32)
    assert flat.dtype == tf.float32
    np.testing.assert_allclose(flat, [1e30, 2.5], rtol=1e-6)
    back = equations.unflatten(flat, tensors)
    assert [(tuple(t.shape), t.dtype) for t in back] == [(tuple(t.shape), t.dtype) for t in tensors]
