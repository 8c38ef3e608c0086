"""What every learned optimizer must do; a registered one is tested without being named here."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o import seeds
from l2o.inner.trajectory import Carry
from l2o.optimizer import OPTIMIZERS
from l2o.options import options_of
from l2o.problems import Instance, Problem, mlp_classifier
from l2o.train.losses.base import LossArgs
from l2o.train.losses.meta import MetaLoss
from l2o.train.outer.meta_step import MetaStep
from tests import odd_problems
from tests.problems import tiny
from tests.unrolled import meta_gradient, meta_gradients

NAMES = sorted(OPTIMIZERS.entries)
# AdafacMLP shares Celo2's code and Choice shares RNNProp's, so they are for `make test-slow`.
FAST = [name for name in NAMES if name not in ("AdafacMLP", "Choice")]
RULES = [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
# For what takes long to trace or to compile: a rule with an LSTM, and one that sees matrices.
TWO = ("LearnedMuon", "RNNProp")
STEPS = 10


def only(*names):
    """Gives a test each rule; those that are not named are for `make test-slow`."""
    rules = [n if n in names else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
    return pytest.mark.parametrize("optimizer", rules, indirect=True)


def each_rule(*parameters, cases, fast):
    """Parametrizes a test with each rule in each case; only those of `fast` are not slow.

    Args:
        parameters: Their names; the first one is the rule.
        cases: The values of the other parameters, by the name of the case.
        fast: By the name of a case, the rules for which it is in the fast tier. One or two do for
            a case that is about what all rules have in common.
    """
    return pytest.mark.parametrize(
        parameters,
        [
            pytest.param(
                rule,
                *values,
                id=f"{case}-{rule}",
                marks=[] if rule in fast.get(case, []) else pytest.mark.slow,
            )
            for case, values in cases.items()
            for rule in NAMES
        ],
        indirect=[name for name in parameters if name == "optimizer"],
    )


def make(name):
    kind = OPTIMIZERS.find(name)
    # A first step of 0.001 would not change a parameter of 16 bits.
    return kind(**({"step_size": 0.1} if "step_size" in options_of(kind) else {}))


@pytest.fixture(params=RULES)
def optimizer(request):
    with seeds.keras_initializers(3):
        return make(request.param)


@pytest.fixture(scope="module")
def problem():
    return mlp_classifier(layers=[6, 5], batch_size=16)


def gradients(params, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return [tf.cast(rng.normal(size=p.shape) * scale, p.dtype) for p in params]


def assert_finite(nest):
    for tensor in tf.nest.flatten(nest):
        if tensor.dtype.is_floating:
            assert np.isfinite(tf.cast(tensor, tf.float64)).all()


def assert_same(a, b, **tolerance):
    for x, y in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


def run_pure(optimizer, problem, instance, images, labels):
    """T steps of the pure pair, one after the other, eagerly."""
    params, model_state = instance
    state = optimizer.initial_state(params)
    for batch in zip(images, labels, strict=True):
        with tf.GradientTape() as tape:
            tape.watch(params)
            loss, model_state = problem.objective(params, model_state, batch)
        params, state = stepped(optimizer, params, tape.gradient(loss, params), state)
    return params, state


def stepped(optimizer, params, grads, state):
    """The step of `fit`: what has no gradient takes no part in it."""
    if all(g is not None for g in grads):
        deltas, state = optimizer.update(params, grads, state)
    else:
        deltas, state = optimizer._update_some(params, grads, state)
    return [p if d is None else p + d for p, d in zip(params, deltas, strict=True)], state


def test_state_keeps_structure_shapes_and_dtypes(optimizer):
    params = [tf.zeros([3, 2]), tf.zeros([]), tf.zeros([4])]
    state = optimizer.initial_state(params)
    for step in range(3):
        deltas, new = optimizer.update(params, gradients(params, seed=step), state)
        tf.nest.assert_same_structure(state, new)
        for a, b in zip(tf.nest.flatten(state), tf.nest.flatten(new), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
        for d, p in zip(deltas, params, strict=True):
            assert (d.shape, d.dtype) == (p.shape, p.dtype)
        state = new


def test_deltas_keep_the_dtypes_of_parameters(optimizer):
    params = [tf.zeros([2], d) for d in (tf.float16, tf.bfloat16, tf.float32, tf.float64)]
    deltas, _ = optimizer.update(params, gradients(params), optimizer.initial_state(params))
    assert [d.dtype for d in deltas] == [p.dtype for p in params]


def test_a_rule_keeps_its_precision_under_a_mixed_policy():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        for make in OPTIMIZERS.entries.values():
            network = make().network
            for layer in network._flatten_layers():
                assert layer.compute_dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


# Every dtype and kind of shape an optimizee may have, in one list.
MIXED = [
    ((3, 2), "float32"),
    ((), "float64"),
    ((1,), "bfloat16"),
    ((4,), "float16"),
    ((), "float32"),
]


def mixed_params():
    return [tf.fill(shape, tf.constant(0.125, dtype)) for shape, dtype in MIXED]


def test_mixed_parameters_keep_state_shapes_and_dtypes_step_after_step(optimizer):
    params = mixed_params()
    state = first = optimizer.initial_state(params)
    for step in range(5):
        deltas, state = optimizer.update(params, gradients(params, seed=step), state)
        assert [(tuple(d.shape), d.dtype.name) for d in deltas] == MIXED
        params = [p + d for p, d in zip(params, deltas, strict=True)]
    tf.nest.assert_same_structure(first, state)
    for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(state), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert_finite([params, state])


@pytest.mark.xla
@only(*TWO)
def test_apply_and_tf_function_equal_eager_updates_on_mixed_parameters(optimizer):
    params, traced = mixed_params(), mixed_params()
    variables = [keras.Variable(p, dtype=p.dtype.name) for p in params]
    state = traced_state = optimizer.initial_state(params)
    update = tf.function(optimizer.update)
    for step in range(STEPS):
        grads = gradients(params, seed=step)
        deltas, state = optimizer.update(params, grads, state)
        params = [p + d for p, d in zip(params, deltas, strict=True)]
        deltas, traced_state = update(traced, grads, traced_state)
        traced = [p + d for p, d in zip(traced, deltas, strict=True)]
        optimizer.apply(grads, variables)
    for p, q, v in zip(params, traced, variables, strict=True):
        # One unit in the last place of the coarsest dtype, or float32's noise.
        tolerance = {"bfloat16": 2e-2, "float16": 2e-3}.get(p.dtype.name, 2e-5)
        assert v.dtype == p.dtype.name
        assert np.abs(tf.cast(p, tf.float64) - 0.125).max() > 0
        for other in (q, v.value):
            difference = tf.cast(other, tf.float64) - tf.cast(p, tf.float64)
            assert np.abs(difference).max() <= tolerance


def test_update_assigns_nothing(optimizer):
    before = optimizer.network.get_weights()
    params = [tf.zeros([3])]
    state = optimizer.initial_state(params)
    first, _ = optimizer.update(params, gradients(params), state)
    second, _ = optimizer.update(params, gradients(params), state)
    assert_same(first, second, rtol=0)
    assert_same(before, optimizer.network.get_weights(), rtol=0)


@pytest.mark.xla
@each_rule(
    "optimizer",
    "eager",
    cases={"graph": [False], "eager": [True]},
    # What is compiled: one program for all variables, and one with all of a state. Parts, as of
    # Celo2, are compiled in optimizer/test_parts.py.
    # contract/test_steps.py has a fit that is eager.
    fast={"graph": ["RNNProp", "ScaleHierarchical"]},
)
def test_fit_equals_the_pure_path(optimizer, problem, eager):
    model = problem.model(7)
    learned = optimizer.network.get_weights()
    images, labels = problem.batches(1, 0, STEPS)
    expected, state = run_pure(optimizer, problem, problem.init(7), images, labels)
    model.compile(optimizer=optimizer, loss=problem.loss, run_eagerly=eager)
    model.fit(
        tf.reshape(images, [-1, *images.shape[2:]]),
        tf.reshape(labels, [-1]),
        batch_size=problem.batch_size,
        shuffle=False,
        verbose=0,
    )
    assert int(optimizer.iterations) == STEPS
    assert_same(model.get_weights(), expected, atol=2e-5)
    assert_same([v.value for v in optimizer._state_variables], state, atol=2e-4, rtol=1e-3)
    assert_same(learned, optimizer.network.get_weights(), rtol=0)


@only("DM", *TWO)
def test_apply_in_a_loop_of_ones_own_equals_the_pure_path(optimizer, problem):
    model = problem.model(7)
    images, labels = problem.batches(1, 0, 3)
    expected, _ = run_pure(optimizer, problem, problem.init(7), images, labels)
    for x, y in zip(images, labels, strict=True):
        with tf.GradientTape() as tape:
            loss = problem.loss(y, model(x, training=True))
        grads = tape.gradient(loss, [v.value for v in model.trainable_variables])
        optimizer.apply_gradients(zip(grads, model.trainable_variables, strict=True))
    assert_same(model.get_weights(), expected, atol=2e-5)


@each_rule(
    "optimizer",
    "outside",
    cases={"whole": [False], "a part": [True]},
    fast={"whole": TWO, "a part": ["RNNProp"]},
)
def test_the_unroll_equals_single_steps_and_chains(optimizer, problem, outside):
    if outside:
        problem, optimizer.xla = odd_problems.outside(), False
    step = MetaStep(optimizer, problem, MetaLoss(LossArgs(scale_objective=False)))
    carry = step.start(problem.init(7))
    images, labels = problem.batches(1, 0, STEPS + 1)
    expected, state = run_pure(optimizer, problem, problem.init(7), images[:-1], labels[:-1])
    _, whole = step.validate(carry, (images, labels), STEPS)
    assert_same(whole.params, expected, atol=2e-5)
    assert_same(whole.optimizer_state, state, atol=2e-4, rtol=1e-3)
    half = STEPS // 2
    _, middle = step.validate(carry, (images[: half + 1], labels[: half + 1]), half)
    _, end = step.validate(middle, (images[half:], labels[half:]), STEPS - half)
    assert_same(end.params, whole.params, atol=2e-5)
    moved = [bool(np.any(a != b)) for a, b in zip(whole.params, carry.params, strict=True)]
    assert moved == (odd_problems.TAKING if outside else [True] * len(moved))


@each_rule(
    "optimizer",
    "kind",
    cases={kind: [kind] for kind in tiny.PROBLEMS},
    # Each kind is evaluated in inner/test_batched.py.
    fast={"vae": ["DM"]},
)
def test_each_kind_of_model_in_fit_and_in_the_unroll(optimizer, kind):
    problem, steps = tiny.PROBLEMS[kind](), 3
    batches = problem.batches(1, 0, steps + 1)
    step = MetaStep(optimizer, problem, MetaLoss(LossArgs(scale_objective=False)))
    _, end = step.validate(step.start(problem.init(7)), batches, steps)
    model = problem.model(7)
    model.compile(optimizer=optimizer, loss=problem.loss)
    model.fit(
        *(tf.reshape(b[:-1], [-1, *b.shape[2:]]) for b in batches),
        batch_size=problem.batch_size,
        shuffle=False,
        verbose=0,
    )
    assert int(optimizer.iterations) == steps
    assert_same([v.value for v in model.trainable_variables], end.params, atol=5e-5)
    assert_same([v.value for v in model.non_trainable_variables], end.model_state, atol=5e-5)
    first = problem.init(7)
    moved = [np.any(a != b) for a, b in zip(end.params, first.params, strict=True)]
    assert np.mean(moved) > 0.5
    assert_finite(end)


@pytest.mark.xla
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30], ids=["zero", "tiny", "huge"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)], ids=str)
def test_extreme_gradients_stay_finite(optimizer, scale, shape):
    params = [tf.zeros(shape)]
    state = optimizer.initial_state(params)
    for step in range(5):
        deltas, state = optimizer.update(params, gradients(params, scale, step), state)
        assert_finite(deltas)
        assert_finite(state)


# The others of FAST, as that of ScaleHierarchical takes as long as all of them.
@only(*(name for name in FAST if name != "ScaleHierarchical"))
def test_one_huge_gradient_is_not_remembered_forever(optimizer):
    params = [tf.zeros([4])]
    _, state = optimizer.update(params, gradients(params, 1e30), optimizer.initial_state(params))

    @tf.function
    def many(state):
        def step(i, state):
            g = tf.random.stateless_normal([4], tf.stack([i, 0]))
            return i + 1, optimizer.update(params, [g], state)[1]

        # A square of 1e36 fades at a decay of 0.98 within this many steps.
        return tf.while_loop(lambda i, _: i < 4200, step, (0, state))[1]

    state = many(state)
    a, b = (optimizer.update(params, gradients(params, seed=s), state)[0][0] for s in (1, 2))
    assert_finite([a, b, state])
    assert np.abs(a - b).max() > 1e-3 * np.abs(a).max(), "it does not feel gradients"


class Ray(Problem):
    """scale * sum x^2 / 2, with gradients from 0 to `scale`, a variable."""

    name = "ray"

    def __init__(self):
        self.scale = tf.Variable(1.0)

    def init(self, seed):
        return Instance([tf.constant([0.0, 1e-3, 1.0]), tf.constant(-1.0)], [])

    def objective(self, params, model_state, batch):
        squares = tf.add_n([tf.reduce_sum(tf.square(p)) for p in params])
        return self.scale * squares / 2, model_state


@only(*TWO)
def test_second_order_meta_gradients_stay_finite(optimizer):
    problem = Ray()
    instance = problem.init(0)
    carry = Carry(*instance, optimizer.initial_state(instance.params))
    run = meta_gradients(optimizer, problem, carry, (), args=LossArgs(), second_derivatives=True)
    for scale in (0.0, 1e-30, 1e-10, 1.0, 1e10, 1e30):
        problem.scale.assign(scale)
        loss, gradient, _ = run(tf.constant(4))
        assert np.isfinite(loss), scale
        assert_finite(gradient)


class Bowl(Problem):
    """sum exp(x_i - y_i) - x_i: smooth, with curvature that changes; two tensors."""

    name = "bowl"

    def init(self, seed):
        rng = seeds.generator(seed)
        x = [tf.constant(rng.normal(size=s) * 0.3, tf.float64) for s in ((2, 2), (3,))]
        return Instance(
            x, [tf.constant(rng.normal(size=s) * 0.3, tf.float64) for s in ((4,), (3,))]
        )

    def objective(self, params, model_state, batch):
        terms = [
            tf.reduce_sum(tf.exp(tf.reshape(p, [-1]) - y) - tf.reshape(p, [-1]))
            for p, y in zip(params, model_state, strict=True)
        ]
        return tf.add_n(terms), model_state


class PartOfABowl(Bowl):
    """As `Bowl`, with parameters first and last that the loss does not depend on."""

    def init(self, seed):
        x, y = super().init(seed)
        return Instance([tf.ones([2], tf.float64), *x, tf.ones([], tf.float64)], y)

    def objective(self, params, model_state, batch):
        return super().objective(params[1:-1], model_state, batch)


@pytest.fixture
def float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


@each_rule(
    "name",
    "problem",
    "second_derivatives",
    cases={
        "whole-first": [Bowl(), False],
        "whole-second": [Bowl(), True],
        "a part-first": [PartOfABowl(), False],
        "a part-second": [PartOfABowl(), True],
    },
    # One with second derivatives, one without; the others take twice as long.
    fast={"whole-second": ["RNNProp"], "a part-first": ["DM"]},
)
def test_the_meta_gradient_equals_finite_differences(name, problem, second_derivatives, float64):
    with seeds.keras_initializers(0):
        optimizer = make(name)
    assert optimizer.network.compute_dtype == "float64"
    optimizer.xla = False
    steps = 4
    instance = problem.init(0)
    carry = Carry(*instance, optimizer.initial_state(instance.params))
    weights = [v.value for v in optimizer.network.trainable_variables]

    # First order takes the gradients of the optimizee for constants: the same unroll,
    # but fed the gradients recorded on the unperturbed trajectory.
    recorded = []

    def loss(replay):
        params, model_state, state = carry
        total = tf.zeros([], tf.float64)
        for i in range(steps):
            with tf.GradientTape() as tape:
                tape.watch(params)
                f, _ = problem.objective(params, model_state, ())
            grads = tape.gradient(f, params)
            if not replay:
                recorded.append(grads)
            elif not second_derivatives:
                grads = recorded[i]
            params, state = stepped(optimizer, params, grads, state)
            total += problem.objective(params, model_state, ())[0]
        return float(total)

    value, gradient, _ = meta_gradient(
        optimizer, problem, carry, (), steps, second_derivatives=second_derivatives
    )
    np.testing.assert_allclose(value, loss(replay=False), rtol=1e-9)

    # A direction in which every weight takes part.
    rng = np.random.default_rng(0)
    direction = [rng.normal(size=w.shape) for w in weights]
    slope = sum(np.sum(g * d) for g, d in zip(gradient, direction, strict=True))
    original = [w.numpy() for w in weights]
    ends = []
    for sign in (1, -1):
        for w, o, d in zip(weights, original, direction, strict=True):
            w.assign(o + sign * 1e-6 * d)
        ends.append(loss(replay=True))
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-4, atol=1e-8)


@pytest.mark.slow
def test_second_order_differs_from_first(optimizer, problem):
    instance = problem.init(0)
    carry = Carry(*instance, optimizer.initial_state(instance.params))

    def gradient(second_derivatives):
        _, gradient, _ = meta_gradient(
            optimizer,
            problem,
            carry,
            problem.batches(0, 0, 4),
            3,
            args=LossArgs(),
            second_derivatives=second_derivatives,
        )
        return np.concatenate([g.numpy().ravel() for g in gradient])

    first, second = gradient(False), gradient(True)
    assert np.isfinite(second).all()
    assert np.abs(first - second).max() > 1e-4 * np.abs(first).max()


# Keras' contract.


def small_model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    return model, x, x[:, :2]


def other_value(value):
    """Another value an option may have; strings (initializers, activations) stay."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return value / 2
    if isinstance(value, int):
        return value + 1
    if isinstance(value, tuple):
        return tuple(map(other_value, value))
    return value


def test_options_other_than_the_defaults_come_back_and_have_their_effect(optimizer):
    options = {
        name: other_value(option.default) for name, option in options_of(type(optimizer)).items()
    }
    made = type(optimizer)(**{**options, "name": "another"})
    copy = type(optimizer).from_config(made.get_config())
    assert copy.name == "another"
    for name in options:
        assert getattr(copy, name) == getattr(made, name)
    params = [tf.ones([3])]
    states = made.initial_state(params), copy.initial_state(params)
    for step in range(2):
        grads = gradients(params, seed=step)
        results = [
            rule.update(params, grads, state)
            for rule, state in zip((made, copy), states, strict=True)
        ]
        states = [state for _, state in results]
        assert_same(results[0], results[1], rtol=1e-6)


def test_learned_weights_are_no_optimizer_variables(optimizer):
    model, x, y = small_model()
    # What is a variable does not depend on a trace, which takes longer.
    model.compile(optimizer=optimizer, loss="mse", run_eagerly=True)
    model.fit(x, y, verbose=0)
    learned = {id(v) for v in optimizer.network.variables}
    assert learned
    assert not learned & {id(v) for v in optimizer.variables}
    assert not learned & {id(v) for v in model.variables}


def test_tensorflows_own_checkpoints_hold_the_learned_weights(optimizer, tmp_path):
    learned = [w.numpy() + 0.5 for w in optimizer.network.weights]
    for weight, value in zip(optimizer.network.weights, learned, strict=True):
        weight.assign(value)
    path = tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    other = type(optimizer)()
    tf.train.Checkpoint(optimizer=other).read(path).expect_partial()
    for weight, value in zip(other.network.weights, learned, strict=True):
        np.testing.assert_array_equal(weight, value)
