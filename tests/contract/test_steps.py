"""Steps: through `fit`, compiled or not, in loops of one's own, on all variables or some."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.optimizer import TrainableOptimizer
from l2o.optimizer.trainable import MOST_COMPILED
from tests.contract.features import (
    BOTH,
    LEARNED_PARAMETERS,
    NONE,
    close,
    data,
    equal,
    feature,
    fit,
    gradients,
    moved,
    new_model,
    new_variables,
    state,
    steps,
    values,
)
from tests.draws import same_draws


@pytest.mark.traced
@feature("`apply` and `apply_gradients` in a custom training loop")
def test_a_loop_of_ones_own(make):
    expected = fit(new_model(make()), epochs=1)
    for method in ("apply", "apply_gradients"):
        model, optimizer = new_model(), make()
        step = tf.function(_step(model, getattr(optimizer, method)))
        for batch in tf.data.Dataset.from_tensor_slices(data()).batch(8):
            step(*batch)
        close(model.get_weights(), expected)
        assert int(optimizer.iterations) == 4


def _step(model, method):
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.mean_squared_error(y, model(x)))
        variables = model.trainable_variables
        grads = tape.gradient(loss, variables)
        if method.__name__ == "apply":
            method(grads, variables)
        else:
            method(zip(grads, variables, strict=True))

    return step


@pytest.mark.traced
@feature("`jit_compile=True`")
def test_jit_compile(make, monkeypatch):
    expected = fit(new_model(make(), jit_compile=False))
    monkeypatch.setattr(TrainableOptimizer, "xla", True)
    close(fit(new_model(make(), jit_compile=True)), expected, atol=1e-4)


@pytest.mark.traced
@feature("`run_eagerly=True`")
def test_run_eagerly(make):
    expected = fit(new_model(make()), epochs=1)
    close(fit(new_model(make(), run_eagerly=True), epochs=1), expected)


@pytest.mark.traced
@feature("`steps_per_execution`")
def test_steps_per_execution(make):
    optimizer = make()
    close(fit(new_model(optimizer, steps_per_execution=3)), fit(new_model(make())))
    assert int(optimizer.iterations) == 8


@feature("sparse gradients (`IndexedSlices`)")
def test_sparse_gradients(make):
    _sparse(make, [3, 1, 0])


@pytest.mark.parametrize("make", LEARNED_PARAMETERS, indirect=True)
def test_rows_that_repeat_in_a_sparse_gradient_are_summed(make):
    # Keras' Adam squares each of them instead.
    _sparse(make, [3, 1, 3])


def _sparse(make, rows):
    slices = tf.constant([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]])
    sparse = tf.IndexedSlices(slices, tf.constant(rows), tf.constant([5, 2]))
    table, other = (keras.Variable(np.ones((5, 2), np.float32)) for _ in range(2))
    made = make(), make()
    for _ in range(2):
        made[0].apply([sparse], [table])
        made[1].apply([tf.convert_to_tensor(sparse)], [other])
    close([table], [other])


@feature("an `Embedding` layer in `fit`")
def test_an_embedding(make):
    same_draws(7)
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(10, 3),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer=make(), loss="mse")
    before = model.get_weights()
    tokens = np.random.default_rng(0).integers(10, size=(32, 4))
    model.fit(tokens, tokens.sum(1, keepdims=True), batch_size=8, verbose=0)
    moved(model.get_weights(), before)


@feature("variables without a gradient", fast=BOTH)
def test_a_variable_without_a_gradient_takes_no_part(make):
    optimizer, other = make(), make()
    optimizer.build(variables := [*new_variables(), *new_variables()])
    alone = new_variables()
    for step in range(3):
        grads = gradients(variables, step)
        with pytest.warns(UserWarning, match="Gradients do not exist"):
            optimizer.apply([grads[0], None, None, grads[3]], variables)
        other.apply([grads[0], grads[3]], alone)
    equal(values(variables)[1:3], values(new_variables())[::-1])
    close([variables[0], variables[3]], alone)
    moved(values(alone), values(new_variables()))
    with pytest.raises(ValueError, match="No gradients provided"):
        optimizer.apply([None] * 4, variables)


@feature("`apply` to some of the variables at a time", fast=BOTH)
def test_variables_in_turn(make):
    # One optimizer for two halves, as for the two sides of a game.
    both, one = make(), make()
    a, b, c = new_variables(), new_variables(), new_variables()
    both.build([*a, *b])
    for step in range(3):
        both.apply(gradients(a, step), a)
        one.apply(gradients(a, step), c)
    equal(values(b), values(new_variables()))
    close(a, c)
    both.apply(gradients(b, 9)[::-1], b[::-1])
    moved(values(b), values(new_variables()))
    close(a, c)


@feature("gradients in another order than the variables", fast=BOTH)
def test_variables_in_another_order(make):
    ordered, shuffled = make(), make()
    a, b = ([*new_variables(), *new_variables()] for _ in range(2))
    ordered.build(a)
    shuffled.build(b)
    for step, order in enumerate([[0, 1, 2, 3], [3, 2, 1, 0], [2, 0], [3, 0, 1]]):
        grads = gradients(a, step)
        ordered.apply([grads[i] for i in sorted(order)], [a[i] for i in sorted(order)])
        shuffled.apply([grads[i] for i in order], [b[i] for i in order])
        close(a, b)
    moved(values(b), values(new_variables()) * 2)


@feature("gradients of another shape are refused")
def test_a_gradient_of_another_shape(make):
    kernel, bias = new_variables()
    wrong = [tf.ones([2, 3])], [kernel]
    swapped = gradients([bias, kernel]), [kernel, bias]
    for grads, variables in (wrong, swapped):
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
            make().apply(grads, variables)
    equal(values([kernel, bias]), values(new_variables()))


@pytest.mark.traced
@feature("a gradient of another shape is refused, even if its shape is unknown while tracing")
def test_a_gradient_of_another_shape_that_tracing_does_not_know(make):
    (kernel, *_), grads = new_variables(), gradients(new_variables())
    optimizer, expected = make(), new_variables()[:1]

    @tf.function(input_signature=[tf.TensorSpec(None)])
    def step(g):
        optimizer.apply([g], [kernel])

    step(grads[0])
    make().apply(grads[:1], expected)
    equal([kernel], expected)
    for wrong in (tf.transpose(grads[0]), tf.reshape(grads[0], [-1]), tf.reduce_sum(grads[0])):
        if wrong.shape.rank == 0 and isinstance(optimizer, keras.optimizers.Adam):
            continue  # which spreads a number over all coordinates
        with pytest.raises(tf.errors.InvalidArgumentError):
            step(wrong)
    equal([kernel], expected)


@pytest.mark.parametrize("make", LEARNED_PARAMETERS, indirect=True)
def test_variables_that_are_no_real_numbers(make):
    for dtype in ("complex64", "complex128"):
        z = tf.Variable(tf.constant(3 + 2j, dtype), name="z")
        with pytest.raises(ValueError, match=f"Expected real variables.*z.*{dtype}"):
            make().apply([tf.ones([], dtype)], [z])
        assert complex(z.numpy()) == 3 + 2j
    # A number of steps that is one of a model's variables, say: it has no gradient.
    count = keras.Variable(3, dtype="int32")
    (kernel, *_), grads = new_variables(), gradients(new_variables())
    optimizer, expected = make(), new_variables()[:1]
    optimizer.build([count, kernel])
    optimizer.apply([None, grads[0]], [count, kernel])
    make().apply(grads[:1], expected)
    close([kernel], expected)
    with pytest.raises(ValueError, match=r"Expected gradients of floating variables.*int32"):
        optimizer.apply([tf.ones([], tf.int32), grads[0]], [count, kernel])
    assert int(count) == 3


@pytest.mark.parametrize("make", LEARNED_PARAMETERS, indirect=True)
def test_gradients_of_one_variable_are_summed_and_missing_ones_told(make):
    made = make(), make()
    v, w = new_variables()[:1], new_variables()[:1]
    g, h = gradients(v, 1)[0], gradients(v, 2)[0]
    made[0].build(v)
    made[0].apply([g, h], v * 2)
    made[1].apply([g + h], w)
    close(v, w)
    with pytest.raises(ValueError, match="Expected a gradient for each of 2 variables"):
        make().apply([g], new_variables())
    with pytest.raises(ValueError, match=r"gradient of shape \(3, 2\) for kernel.*\(2, 3\)"):
        make().apply([tf.transpose(g)], v)


# Those of Celo2 take twice as long.
@pytest.mark.parametrize("make", LEARNED_PARAMETERS, indirect=True)
def test_ever_other_choices_of_variables_are_not_compiled(make):
    optimizer, other = make(), make()
    variables, others = ([*new_variables(), *new_variables()] for _ in range(2))
    optimizer.build(variables)
    other.build(others)
    other._compiled_update = other.update
    choices = [[i for i in range(4) if number >> i & 1] for number in range(1, 16)]
    for step, choice in enumerate(choices * 2):
        grads = gradients(variables, step)
        optimizer.apply([grads[i] for i in choice], [variables[i] for i in choice])
        other.apply([grads[i] for i in choice], [others[i] for i in choice])
    close(variables, others, atol=1e-4)
    assert optimizer._compiled_update.experimental_get_tracing_count() <= MOST_COMPILED + 1


@feature("constraints of variables")
def test_constraints(make):
    plain = steps(make(), count=1)
    constraint = keras.constraints.MaxNorm(0.5)
    variables = new_variables()
    for v in variables:
        v.constraint = constraint
    equal(steps(make(), variables=variables, count=1), [constraint(p) for p in plain])


@feature("layers that are frozen between trainings")
def test_frozen_layers(make):
    optimizer = make()
    model = new_model(optimizer)
    fit(model)
    for frozen in (0, 1):
        for i, layer in enumerate(model.layers):
            layer.trainable = i != frozen
        model.compile(optimizer=optimizer, loss="mse")
        before = model.get_weights()
        after = fit(model)
        still, free = slice(2 * frozen, 2 * frozen + 2), slice(2 - 2 * frozen, 4 - 2 * frozen)
        equal(after[still], before[still])
        moved(after[free], before[free])


@feature("several models, each with its own optimizer", fast=NONE)
def test_several_models(make):
    expected = fit(new_model(make()))
    models = [new_model(make()) for _ in range(2)]
    for _ in range(2):
        for model in models:
            fit(model, epochs=1)
    for model in models:
        close(model.get_weights(), expected)


@feature("float64 variables")
def test_float64_variables(make):
    variables = new_variables("float64")
    close(steps(make(), variables=variables), steps(make()))
    assert {v.dtype for v in variables} == {"float64"}


@feature("the state is in `variables`, and settable", fast=BOTH)
def test_the_state_is_in_variables(make):
    optimizer, other = make(), make()
    variables = new_variables()
    steps(optimizer, variables=variables)
    other.build(others := new_variables())
    other.set_weights(values(optimizer.variables))
    for v, o in zip(variables, others, strict=True):
        o.assign(v)
    assert len({v.path for v in optimizer.variables}) == len(optimizer.variables)
    equal(steps(optimizer, variables=variables), steps(other, variables=others))


@pytest.mark.traced
@feature("`MirroredStrategy`: two replicas equal one device")
def test_two_replicas_equal_one_device(make):
    devices = [d.name for d in tf.config.list_logical_devices("CPU")]
    results = []
    for strategy in (
        tf.distribute.OneDeviceStrategy(devices[0]),
        tf.distribute.MirroredStrategy(devices[:2]),
    ):
        with strategy.scope():
            optimizer = make()
            model = new_model(optimizer)
        batches = tf.data.Dataset.from_tensor_slices(data()).batch(16).repeat(2)
        model.fit(batches, verbose=0)
        results.append([*model.get_weights(), *state(optimizer)])
    close(*results, rtol=1e-4)


@pytest.mark.parametrize("make", LEARNED_PARAMETERS, indirect=True)
def test_an_optimizer_from_outside_of_a_strategy_is_refused(make):
    devices = [d.name for d in tf.config.list_logical_devices("CPU")]
    optimizer = make()
    with tf.distribute.MirroredStrategy(devices[:2]).scope():
        model = new_model(optimizer)
    with pytest.raises((ValueError, RuntimeError), match=r"[Ss]trategy"):
        model.fit(tf.data.Dataset.from_tensor_slices(data()).batch(16), verbose=0)


@pytest.mark.parametrize(
    "name", ["dm-digits", pytest.param("scale-hierarchical-digits", marks=pytest.mark.slow)]
)
def test_nothing_here_keeps_a_model_that_was_trained(name):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    optimizer = l2o.load(name)
    model.compile(optimizer=optimizer, loss="mse")
    model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    alive = [weakref.ref(o) for o in (model, optimizer, optimizer.network)]
    del model, optimizer
    gc.collect()
    assert [ref() for ref in alive] == [None] * 3
