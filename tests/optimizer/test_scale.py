"""The two rules of Wichrowska et al. against NumPy, and what their papers promise of them."""

import numpy as np
import pytest
import tensorflow as tf

from l2o import seeds
from l2o.optimizer import ScaleBasicOptimizer, ScaleHierarchicalOptimizer
from tests import reference_scale
from tests.optimizer.odd_gradients import SHAPES, gradients

SIZES = [int(np.prod(s)) for s in SHAPES]


def randomize(optimizer, seed=1):
    """Weights of some size everywhere, so that none of them can go missing unseen."""
    rng = np.random.default_rng(seed)
    weights = [w + rng.normal(size=w.shape) * 0.3 for w in optimizer.network.get_weights()]
    optimizer.network.set_weights(weights)


def basic_weights(network):
    decay, lr, delta = network.readouts
    return {
        "lstm": [tuple(cell.get_weights()) for cell in network.cells],
        "decay_kernel": decay.kernel.numpy(),
        "decay_bias": decay.bias.numpy(),
        "lr_kernel": lr.kernel.numpy(),
        "lr_bias": lr.bias.numpy(),
        "delta_kernel": delta.kernel.numpy(),
    }


def hierarchical_weights(network):
    found = {
        level: tuple(getattr(network, f"{level}_gru").get_weights())
        for level in ("param", "tensor", "global")
    }
    for level in ("param", "tensor", "global"):
        found[f"{level}_h0"] = getattr(network, f"h_{level}").numpy()
    kernel, bias = network.readouts.get_weights()
    for i, name in enumerate(("direction", "lr", "beta_g", "beta_lambda")):
        found[f"{name}_kernel"], found[f"{name}_bias"] = kernel[:, i : i + 1], bias[i : i + 1]
    return {
        **found,
        "shortcut": network.shortcut.numpy(),
        "lr_momentum": network.lr_momentum.numpy(),
        "offset": network.lr_offset.numpy(),
    }


def assert_follows(optimizer, expected, state, rtol):
    params = [tf.zeros(s) for s in SHAPES]
    for grads in gradients(5):
        deltas, state = optimizer.update(params, [tf.constant(g, tf.float32) for g in grads], state)
        flat = np.concatenate([g.astype(np.float32).astype(np.float64).ravel() for g in grads])
        got = np.concatenate([d.numpy().ravel() for d in deltas])
        want = expected.step(flat)
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * np.abs(want).max() / 10)
        assert np.abs(want).max() > 0
        assert [tuple(d.shape) for d in deltas] == SHAPES


@pytest.mark.parametrize(
    "options",
    [{}, {"layers": (4,)}, {"layers": (3, 4, 5)}, {"epsilon": 1e-3}, {"init_lr": (0.01, 0.1)}],
    ids=str,
)
def test_scale_basic_equals_its_equations_over_five_steps(options):
    optimizer = ScaleBasicOptimizer(**{"layers": (6, 5), **options})
    randomize(optimizer)
    state = optimizer.initial_state([tf.zeros(s) for s in SHAPES], seed=4)
    expected = reference_scale.ScaleBasic(
        basic_weights(optimizer.network), sum(SIZES), state.lr.numpy(), optimizer.epsilon
    )
    assert_follows(optimizer, expected, state, 5e-4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"param_units": 4},
        {"tensor_units": 3, "global_units": 2},
        {"timescales": 1},
        {"timescales": 3},
        {"epsilon": 1e-3},
        {"init_lr": (1e-3, 1e-1)},
    ],
    ids=str,
)
def test_scale_hierarchical_equals_its_equations_over_five_steps(options):
    optimizer = ScaleHierarchicalOptimizer(**options)
    randomize(optimizer)
    state = optimizer.initial_state([tf.zeros(s) for s in SHAPES], seed=4)
    expected = reference_scale.ScaleHierarchical(
        hierarchical_weights(optimizer.network),
        SIZES,
        state.eta_bar.numpy(),
        optimizer.timescales,
        optimizer.epsilon,
    )
    assert_follows(optimizer, expected, state, 2e-3)


@pytest.mark.parametrize("make", [ScaleBasicOptimizer, ScaleHierarchicalOptimizer])
def test_the_first_learning_rates_are_log_uniform_between_both_ends(make):
    optimizer = make(init_lr=(1e-5, 1e-1))
    params = [tf.zeros([100])] * 50

    def logs(seed):
        state = optimizer.initial_state(params, seed)
        natural = tf.math.log(state.lr) if make is ScaleBasicOptimizer else state.eta_bar
        return natural.numpy() / np.log(10)

    drawn = logs(0)
    assert drawn.min() >= -5
    assert drawn.max() <= -1
    assert drawn.mean() == pytest.approx(-3, abs=0.25)
    if make is ScaleBasicOptimizer:
        shares = np.histogram(drawn, bins=4, range=(-5, -1))[0] / drawn.size
        np.testing.assert_allclose(shares, 0.25, atol=0.03)
    else:
        # Half of the spread within a tensor, half between tensors.
        by_tensor = drawn.reshape(50, 100)
        assert np.ptp(by_tensor, axis=1).max() <= 2
        assert np.ptp(by_tensor, axis=1).mean() > 1.8
        assert np.ptp(by_tensor.mean(1)) > 1.5
    np.testing.assert_array_equal(logs(0), drawn)
    assert (logs(1) != drawn).mean() > 0.99


def test_equal_ends_are_a_constant():
    state = ScaleBasicOptimizer().initial_state([tf.zeros([7])], seed=3)
    np.testing.assert_array_equal(state.lr, np.ones(7))
    state = ScaleHierarchicalOptimizer(init_lr=(1e-3, 1e-3)).initial_state([tf.zeros([7])])
    np.testing.assert_allclose(state.eta_bar, np.full(7, np.log(1e-3)), rtol=1e-6)


@pytest.mark.parametrize("make", [ScaleBasicOptimizer, ScaleHierarchicalOptimizer])
def test_every_part_of_the_state_advances(make):
    with seeds.keras_initializers(0):
        optimizer = make()
    randomize(optimizer)
    params = [tf.zeros([3]), tf.zeros([2, 2])]
    state = optimizer.initial_state(params)
    for step in range(3):
        grads = [
            tf.constant(np.random.default_rng(step).normal(size=p.shape), tf.float32)
            for p in params
        ]
        _, new = optimizer.update(params, grads, state)
        for name, old_part, part in zip(state._fields, state, new, strict=True):
            pairs = zip(tf.nest.flatten(old_part), tf.nest.flatten(part), strict=True)
            assert all((a.numpy() != b.numpy()).all() for a, b in pairs), (name, step)
        state = new


@pytest.mark.parametrize("make", [ScaleBasicOptimizer, ScaleHierarchicalOptimizer])
def test_every_learned_weight_has_a_meta_gradient_over_three_steps(make):
    with seeds.keras_initializers(0):
        optimizer = make()
    # At its zero start the learning rate equals its average, whatever the momentum.
    randomize(optimizer)
    start = [tf.constant([[1.0, -2.0], [0.5, 3.0]]), tf.constant([0.7, -0.1, 2.0])]
    variables = optimizer.network.trainable_variables
    with tf.GradientTape() as tape:
        params, state, total = start, optimizer.initial_state(start), 0.0
        for _ in range(3):
            grads = [tf.stop_gradient(tf.sin(p) + p) for p in params]
            deltas, state = optimizer.update(params, grads, state)
            params = [p + d for p, d in zip(params, deltas, strict=True)]
            total += sum(tf.reduce_sum(p**2 / 2 - tf.cos(p)) for p in params)
    gradient = tape.gradient(total, [v.value for v in variables])
    for variable, g in zip(variables, gradient, strict=True):
        assert g is not None, variable.path
        share = np.mean(tf.convert_to_tensor(g).numpy() != 0)
        assert share == 1, (variable.path, share)


def test_the_global_network_hears_every_tensor():
    optimizer = ScaleHierarchicalOptimizer()
    randomize(optimizer)
    params = [tf.zeros([3]), tf.zeros([5]), tf.zeros([2])]
    grads = [tf.fill(p.shape, 0.1 * (i + 1)) for i, p in enumerate(params)]
    state = optimizer.initial_state(params)
    _, reference = optimizer.update(params, grads, state)
    changes = []
    for i in range(len(params)):
        other = [g * -3 if j == i else g for j, g in enumerate(grads)]
        _, changed = optimizer.update(params, other, state)
        changes.append(np.abs(changed.h_global - reference.h_global).max())
    assert min(changes) > 1e-3
    # A tensor counts once, however many coordinates it has: twice the same is the same.
    twice = [tf.zeros([5]), tf.zeros([10])]
    start = optimizer.initial_state(twice)
    start = start._replace(eta_bar=tf.fill([15], -5.0))
    _, both = optimizer.update(twice, [tf.fill([5], 0.2), tf.fill([10], 0.2)], start)
    np.testing.assert_allclose(both.h_tensor[0], both.h_tensor[1], rtol=1e-5)
    alone = optimizer.initial_state(twice[:1])._replace(eta_bar=tf.fill([5], -5.0))
    _, single = optimizer.update(twice[:1], [tf.fill([5], 0.2)], alone)
    np.testing.assert_allclose(single.h_global, both.h_global, rtol=1e-5)


def test_unit_forget_bias_of_a_gru_is_its_update_gates():
    for cell in ("param_gru", "tensor_gru", "global_gru"):
        on = getattr(ScaleHierarchicalOptimizer().network, cell)
        off = getattr(ScaleHierarchicalOptimizer(unit_forget_bias=False).network, cell)
        ones = getattr(ScaleHierarchicalOptimizer(bias_initializer="ones").network, cell)
        none = getattr(ScaleHierarchicalOptimizer(use_bias=False).network, cell)
        np.testing.assert_array_equal(on.bias.numpy(), np.repeat([1, 0, 0], on.units))
        np.testing.assert_array_equal(off.bias.numpy(), np.zeros(3 * on.units))
        np.testing.assert_array_equal(ones.bias.numpy(), np.ones(3 * on.units))
        assert none.bias is None


def test_the_learning_rate_stays_within_its_clip_and_still_learns():
    optimizer = ScaleHierarchicalOptimizer()
    kernel, bias = optimizer.network.readouts.get_weights()
    bias[1] = 100.0
    optimizer.network.readouts.set_weights([kernel, bias])
    params = [tf.zeros([3])]
    with tf.GradientTape() as tape:
        deltas, _ = optimizer.update(
            params, [tf.constant([1.0, -2.0, 0.5])], optimizer.initial_state(params)
        )
        # The direction has a mean square of 1.
        size = tf.sqrt(tf.reduce_mean(deltas[0] ** 2))
        log = tf.math.log(size)
    assert float(log) == pytest.approx(33 - 1, abs=1e-3)
    slope = tape.gradient(log, optimizer.network.readouts.bias.value)
    assert float(slope[1]) == pytest.approx(1, abs=1e-3), "straight through the clip"
