from functools import partial
from itertools import chain

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2o.errors import UserError
from l2o.inner.batched import Batched, stack
from l2o.inner.rule import Rule
from l2o.inner.trajectory import Carry
from l2o.inner.unroll import Unroll
from l2o.problems import (
    ConvexCombination,
    Gradient,
    GradientNoise,
    RandomScaling,
    datasets,
    keras_model,
    keras_problem,
    mlp_classifier,
)
from l2o.train.losses.teachers import Teacher
from l2o.train.outer.meta_step import MetaStep
from tests import hand_designed, odd_problems
from tests.problems.models import (
    RNG,
    Plain,
    Subclassed,
    X,
    Y,
    functional,
    regression,
    unbuilt,
)


def evaluate(problem, seed=0, index=0):
    params, model_state = problem.init(seed)
    batch = tf.nest.map_structure(lambda b: b[index], problem.batches(0, 0, index + 1))
    with tf.GradientTape() as tape:
        tape.watch(params)
        loss, model_state = problem.objective(params, model_state, batch)
    return batch, loss, tape.gradient(loss, params), model_state


def fitted(problem, rate=0.0, steps=1):
    """What `fit` makes of the model of seed 0: its loss per step, and the model."""
    inputs, targets = problem.batches(0, 0, steps)
    model = problem.model(0)
    # XLA draws other random numbers from the same seed.
    model.compile(keras.optimizers.SGD(rate), problem.loss, jit_compile=False)
    losses = []
    for i in range(steps):
        x = tf.nest.map_structure(lambda b, i=i: b[i], inputs)
        size = problem.batch_size
        history = model.fit(x, targets[i], size, shuffle=False, verbose=0).history
        losses += history["loss"]
    return losses, model


def test_a_regression_on_arrays():
    problem = keras_problem(regression(), (X, Y), "mse", batch_size=8)
    (x, y), loss, grads, _ = evaluate(problem)
    rows = problem.indices(0, 0, 1)[0]
    np.testing.assert_allclose(x, X[rows], rtol=1e-6)
    np.testing.assert_allclose(y, Y[rows], rtol=1e-6)
    w1, b1, w2, b2 = (p.numpy().astype(float) for p in problem.init(0).params)
    hidden = np.tanh(X[rows] @ w1 + b1)
    error = (hidden @ w2 + b2)[:, 0] - Y[rows]
    np.testing.assert_allclose(loss, (error**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(grads[3], [2 * error.mean()], rtol=1e-4)
    np.testing.assert_allclose(grads[2][:, 0], 2 * (error @ hidden) / 8, rtol=1e-4)
    assert problem.steps_per_epoch == 5
    assert problem.name == "keras_problem"
    assert not problem.classifies


@pytest.mark.parametrize(
    "loss",
    [
        "mean_squared_error",
        "MeanSquaredError",
        keras.losses.MeanSquaredError(),
        keras.losses.MeanSquaredError(reduction=None),
        keras.losses.mean_squared_error,
        lambda y_true, y_pred: (y_true - y_pred) ** 2,
        lambda y_true, y_pred: tf.reduce_mean((y_true - y_pred) ** 2),
    ],
)
@pytest.mark.parametrize("targets", [Y, Y[:, None]])
def test_every_way_to_name_a_loss_is_the_same(loss, targets):
    _, expected, *_ = evaluate(keras_problem(regression(), (X, Y), "mse", batch_size=8))
    _, got, *_ = evaluate(keras_problem(regression(), (X, targets), loss, batch_size=8))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_model_whose_output_has_no_last_axis():
    def build_model():
        return keras.Sequential([regression()(), layers.Reshape(())])

    _, expected, *_ = evaluate(keras_problem(regression(), (X, Y), "mse", batch_size=8))

    def squares(y_true, y_pred):
        return (y_true - y_pred) ** 2

    problem = keras_problem(build_model, (X, Y[:, None]), squares, batch_size=8)
    np.testing.assert_allclose(evaluate(problem)[1], expected, rtol=1e-6)


def test_sums_over_the_mini_batch_are_sums():
    loss = keras.losses.MeanSquaredError(reduction="sum")
    _, total, *_ = evaluate(keras_problem(regression(), (X, Y), loss, batch_size=8))
    _, mean, *_ = evaluate(keras_problem(regression(), (X, Y), "mse", batch_size=8))
    np.testing.assert_allclose(total, 8 * mean, rtol=1e-5)


@pytest.mark.parametrize("structure", [tuple, list, dict])
def test_a_model_with_two_inputs(structure):
    def build_model():
        a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
        inputs = {"a": a, "b": b} if structure is dict else structure((a, b))
        return keras.Model(inputs, layers.Dense(1)(layers.Concatenate()([a, b])))

    second = RNG.standard_normal((40, 2))
    x = {"a": X, "b": second} if structure is dict else structure((X, second))
    problem = keras_problem(build_model, (x, Y), "mse", batch_size=8)
    (got, _), loss, _, _ = evaluate(problem)
    assert type(got) is structure
    rows = problem.indices(0, 0, 1)[0]
    kernel, bias = (p.numpy() for p in problem.init(0).params)
    outputs = np.concatenate([X, second], 1)[rows] @ kernel + bias
    np.testing.assert_allclose(loss, ((outputs[:, 0] - Y[rows]) ** 2).mean(), rtol=1e-4)
    np.testing.assert_allclose(loss, fitted(problem)[0][0], rtol=1e-5)


def language_model():
    return keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(11, 4, mask_zero=True),
            layers.LSTM(5, recurrent_dropout=0.2, return_sequences=True),
            layers.Dense(11),
        ]
    )


def test_a_language_model_on_token_ids():
    tokens = RNG.integers(0, 11, (40, 7))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    problem = keras_problem(language_model, (tokens[:, :-1], tokens[:, 1:]), loss, batch_size=8)
    (x, y), value, _, state = evaluate(problem)
    assert problem.classifies
    assert x.dtype == y.dtype == tf.int64
    np.testing.assert_array_equal(x, tokens[problem.indices(0, 0, 1)[0], :-1])
    losses, model = fitted(problem)
    np.testing.assert_allclose(value, losses[0], rtol=1e-5)
    for a, b in zip(state, model.non_trainable_variables, strict=True):
        np.testing.assert_allclose(a, b.numpy())


# It traces a language model twice.
@pytest.mark.slow
def test_a_language_model_can_be_unrolled_and_taught():
    tokens = RNG.integers(1, 11, (16, 7))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    problem = keras_problem(language_model, (tokens[:, :-1], tokens[:, 1:]), loss, batch_size=8)
    params, model_state = problem.init(0)
    data, rate = problem.batches(0, 0, 3), 0.5
    rule = hand_designed.SGD(rate=rate, momentum=0.0)
    carry = Carry(params, model_state, rule.initial_state(params))
    teacher = Teacher(lambda: keras.optimizers.SGD(rate), problem, params, persistent=False)

    @tf.function(autograph=False)
    def run(steps):
        unroll = Unroll(Rule(rule), Rule(rule).values(), problem, carry, data, steps)
        return unroll.forward(parameters=True), teacher.run(carry, data, steps)

    trajectory, taught = run(tf.constant(2))
    losses, _ = fitted(problem, rate, steps=3)
    np.testing.assert_allclose(trajectory.objectives, losses[1:], rtol=1e-4)
    for a, b in zip(trajectory.parameters, taught, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_penalties_are_part_of_the_objective():
    build_model = regression(
        kernel_regularizer=keras.regularizers.L2(0.3), activity_regularizer="l1"
    )
    problem = keras_problem(build_model, (X, Y), "mse", batch_size=8)
    plain = keras_problem(regression(), (X, Y), "mse", batch_size=8)
    (x, y), loss, grads, _ = evaluate(problem)
    _, plain_loss, plain_grads, _ = evaluate(plain)
    kernel = problem.init(0).params[0]
    assert loss > plain_loss + 0.3 * tf.reduce_sum(kernel**2)
    assert not np.allclose(grads[0], plain_grads[0])
    model = problem.model(0)
    model.compile("sgd", problem.loss)
    with tf.GradientTape() as tape:
        expected = model.compute_loss(x, y, model(x, training=True))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    expected_grads = tape.gradient(expected, [v.value for v in model.trainable_variables])
    for a, b in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    # A second evaluation, and one in a graph, collect nothing of the first.
    np.testing.assert_array_equal(evaluate(problem)[1], loss)
    compiled = tf.function(problem.objective)
    for _ in range(2):
        np.testing.assert_allclose(compiled(*problem.init(0), (x, y))[0], loss, rtol=1e-6)


@pytest.mark.parametrize(
    "build_model",
    [Subclassed, unbuilt, *(pytest.param(b, marks=pytest.mark.slow) for b in (Plain, functional))],
)
def test_layers_and_models_of_ones_own_do_as_in_fit(build_model):
    problem = keras_problem(build_model, (X, Y), "mse", batch_size=8)
    params, model_state = problem.init(0)
    assert [tuple(p.shape) for p in params] == [(3, 4), (4,), (4,), (4,), (4, 1), (1,)]
    inputs, targets = problem.batches(0, 0, 4)
    objective = tf.function(problem.objective)
    got = []
    for batch in zip(inputs, targets, strict=True):
        loss, model_state = objective(params, model_state, batch)
        got.append(loss)
    losses, model = fitted(problem, steps=4)
    np.testing.assert_allclose(got, losses, rtol=1e-4)
    for a, b in zip(model_state, model.non_trainable_variables, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-4)
    trained = not np.array_equal(model_state[0], problem.init(0).model_state[0])
    assert trained == (build_model is not Plain)


def test_init_belongs_to_its_seed_alone():
    problem = keras_problem(Subclassed, (X, Y), "mse", batch_size=8)
    first = problem.init(3)
    keras.utils.set_random_seed(99)
    second, other = problem.init(3), problem.init(4)
    for a, b in zip([*chain(*first)], [*chain(*second)], strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.params[0], other.params[0])
    seeds = [s for s in range(len(first.model_state)) if first.model_state[s].dtype == tf.int64]
    assert seeds
    assert not np.array_equal(first.model_state[seeds[0]], other.model_state[seeds[0]])


def test_a_data_set_by_name_or_as_an_object():
    def build_model():
        return keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)])

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for dataset in ("digits", datasets.load("digits")):
        problem = keras_problem(build_model, dataset, loss, batch_size=100, name="linear")
        assert (problem.name, problem.steps_per_epoch, problem.classifies) == ("linear", 14, True)
        reference = mlp_classifier(batch_size=100).batches(3, 0, 2)
        for a, b in zip(problem.batches(3, 0, 2), reference, strict=True):
            np.testing.assert_array_equal(a, b)


def test_arrays_keep_their_integers_and_are_not_scaled():
    images = RNG.integers(0, 256, (10, 2, 2), dtype=np.uint8)

    def build_model():
        return keras.Sequential([keras.Input((2, 2)), layers.Flatten(), layers.Dense(1)])

    held_out = (images[:3], np.zeros(3, np.float16))
    data = ((images, np.arange(10) > 4), held_out)
    problem = keras_problem(build_model, data, "mse", batch_size=2, shuffle_buffer=0)
    x, y = problem.batches(0, 0, 5)
    assert (x.dtype, y.dtype) == (tf.uint8, tf.bool)
    np.testing.assert_array_equal(tf.reshape(x, [10, 2, 2]), images)
    x, y = problem.dataset.test.all()
    np.testing.assert_array_equal(x, images[:3])
    assert y.dtype == tf.float32


def test_a_meta_step_trains_on_any_model():
    problem = keras_problem(Subclassed, (X, Y), "mse", batch_size=8)
    step = MetaStep(hand_designed.SGD(rate=0.1, momentum=0.0), problem)
    result, carry = step.validate(step.start(problem.init(0)), problem.batches(0, 0, 4), 3)
    assert np.isfinite(result.loss)
    params, model_state = problem.init(0)
    assert not np.array_equal(carry.params[0], params[0])
    assert not np.array_equal(carry.model_state[0], model_state[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"build_model": lambda: "a model"}, "expected to get a keras.Model; got str"),
        ({"dataset": (X, Y[:-1])}, "as many inputs as targets; got 40 and 39"),
        ({"dataset": ({"a": X, "b": X[:7]}, Y)}, "as many inputs as targets; got 7 and 40"),
        ({"dataset": ((X, Y), (X[:3], Y[:2]))}, "as many inputs as targets; got 3 and 2"),
        ({"batch_size": 41}, "batch_size 41 is larger than the 40 training examples"),
        (
            {"build_model": lambda: keras.Sequential([keras.Input((3,)), layers.Flatten()])},
            "no weights to train",
        ),
        ({"loss": "mean_squared_eror"}, r"did you mean mean_squared_error\?"),
        ({"loss": None}, "expected a Keras loss, its name or a function; got None"),
        ({"dataset": X}, "got ndarray"),
        ({"dataset": "digts"}, r"did you mean digits\?"),
        ({"dataset": (X, 3.0)}, r"arrays of numbers .* shape \[\]"),
        ({"dataset": (np.array(["a"] * 40), Y)}, "arrays of numbers"),
        ({"dataset": (X[:0], Y[:0])}, "at least one example; got none"),
        ({"dataset": ((X, Y), (X[:0], Y[:0]))}, "at least one example; got none"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, message):
    arguments = {"build_model": regression(), "dataset": (X, Y), "loss": "mse", **arguments}
    with pytest.raises(UserError, match=message) as error:
        keras_problem(**{"batch_size": 8, **arguments})
    assert "\n" not in str(error.value)


class Scores(keras.Model):
    """A model without symbolic outputs."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


@pytest.mark.parametrize("build_model", [Scores, lambda: keras.Sequential([layers.Dense(3)])])
@pytest.mark.parametrize(
    ("wrong", "of"), [(3, "train"), (-1, "train"), (7, "test"), (0.5, "train")]
)
def test_a_label_that_is_no_output_is_refused(build_model, wrong, of):
    labels = np.arange(40) % 3
    bad = np.where(np.arange(40) == 5, wrong, labels)
    data = ((X, bad), (X, labels)) if of == "train" else ((X, labels), (X, bad))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with pytest.raises(UserError, match=rf"dataset: the label {wrong} of .* expected 0 to 2"):
        keras_problem(build_model, data, loss, batch_size=8)
    keras_problem(build_model, (X, labels), loss, batch_size=8)
    if wrong == 0.5:
        return
    ignoring = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=wrong)
    keras_problem(build_model, data, ignoring, batch_size=8)


def test_a_model_whose_number_of_outputs_is_not_known():
    def build_model():
        return keras.Sequential([keras.Input((None, 5)), layers.Dense(5)])

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, axis=1)
    # The labels may be right, and Keras cannot say more.
    with pytest.raises(ValueError, match="Only axis=-1"):
        keras_problem(build_model, (np.zeros((8, 3, 5)), np.ones((8, 5))), loss, batch_size=8)


class Named(Scores):
    """A model that returns more than one thing."""

    def call(self, inputs):
        return {"scores": self.dense(inputs)}


def test_a_model_that_returns_no_tensor_is_refused():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with pytest.raises(UserError, match="expected a model with one output"):
        keras_problem(Named, (X, np.arange(40) % 3), loss, batch_size=8)


def test_labels_of_an_axis_that_is_not_the_last():
    def build_model():
        return keras.Sequential([keras.Input((3,)), layers.Dense(8), layers.Reshape((4, 2))])

    labels = np.tile([0, 3], (40, 1))
    first = keras.losses.SparseCategoricalCrossentropy(from_logits=True, axis=1)
    with pytest.raises(ValueError, match="Only axis=-1"):
        keras_problem(build_model, (X, labels), first, batch_size=8)
    last = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with pytest.raises(UserError, match=r"the label 3 .* expected 0 to 1"):
        keras_problem(build_model, (X, np.tile([0, 3, 1, 0], (40, 1))), last, batch_size=8)


def test_a_model_with_two_outputs_is_refused():
    def build_model():
        x = keras.Input((3,))
        return keras.Model(x, [layers.Dense(1)(x), layers.Dense(1)(x)])

    with pytest.raises(UserError, match="expected a model with one output"):
        keras_problem(build_model, (X, Y), "mse", batch_size=8)


def test_a_loss_without_a_name_can_be_traced():
    problem = keras_problem(
        regression(), (X, Y), lambda a, b: keras.losses.mean_squared_error(a, b), batch_size=8
    )
    batch = tf.nest.map_structure(lambda b: b[0], problem.batches(0, 0, 1))
    f, _ = tf.function(problem.objective)(*problem.init(0), batch)
    assert np.isfinite(f)


def test_a_model_that_is_not_fresh_is_refused():
    model = regression()()
    for build_model in (lambda: model, lambda: keras.Model(model.inputs, model.outputs)):
        problem = keras_problem(build_model, (X, Y), "mse", batch_size=8)
        with pytest.raises(UserError, match="expected a fresh model"):
            problem.init(0)


@pytest.mark.parametrize("limit", [0, 2**30], ids=["large", "in graph"])
def test_a_stream_is_the_batches_wherever_they_are_gathered(monkeypatch, limit):
    monkeypatch.setattr(keras_model, "LARGEST_IN_GRAPH", limit)
    for problem in (
        mlp_classifier(batch_size=100),
        keras_problem(regression(), (X, Y), "mse", batch_size=8),
        RandomScaling(mlp_classifier(batch_size=100)),
    ):
        stream, batches = (f(3, 1, 2) for f in (problem.stream, problem.batches))
        instance = problem.init(0)
        assert isinstance(stream, keras_model.Picked) == bool(limit)

        @tf.function(autograph=False)
        def losses(nest, problem=problem, instance=instance):
            return [
                problem.objective(*instance, tf.nest.map_structure(lambda b, i=i: b[i], nest))[0]
                for i in range(2)
            ]

        np.testing.assert_allclose(losses(stream), losses(batches), rtol=1e-6)
        # The set is fed to the graph, not written into it.
        graph = losses.get_concrete_function(stream).graph
        sizes = [
            op.outputs[0].shape.num_elements()
            for op in graph.get_operations()
            if op.type == "Const"
        ]
        assert max(sizes) < 1000


class Clips(layers.Dense):
    """Clips its own kernel, in training or always."""

    def call(self, x, training=None):
        if training or self.name == "always":
            self.kernel.assign(keras.ops.clip(self.kernel, -0.1, 0.1))
        return super().call(x)


class Decays(layers.Dense):
    """Assigns by a difference."""

    def call(self, x):
        self.bias.assign_sub(0.1 * self.bias)
        return super().call(x)


class Stopped(keras.Model):
    """No weight has a gradient."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)

    def call(self, x):
        return keras.ops.stop_gradient(self.dense(x))


def of_layers(*made):
    return lambda: keras.Sequential([keras.Input((3,)), *[make() for make in made]])


def float8():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.layers[0].quantize("float8")
    return model


@pytest.mark.parametrize(
    ("build_model", "message"),
    [
        (
            of_layers(lambda: layers.Dense(1, kernel_constraint="unit_norm")),
            r"without a constraint.*kernel has one",
        ),
        (
            of_layers(lambda: layers.SpectralNormalization(layers.Dense(1))),
            r"only the optimizer changes.*dense.*/kernel",
        ),
        (of_layers(lambda: Clips(1)), r"only the optimizer changes.*/clips.*/kernel"),
        (of_layers(lambda: Clips(1, name="always")), r"the model assigns .*always/kernel"),
        (of_layers(lambda: Decays(1)), r"the model assigns .*/decays.*/bias"),
        (float8, r"only the optimizer changes.*overwritten"),
        (Stopped, r"does not depend on its parameters"),
    ],
    ids=["constraint", "spectral", "clips", "always", "decays", "float8", "stopped"],
)
def test_a_model_whose_weights_an_optimizee_cannot_have_is_refused(build_model, message):
    with pytest.raises(UserError, match=message):
        keras_problem(build_model, (X, Y), "mse", batch_size=8)


def test_what_a_model_assigns_to_other_variables_is_its_state():
    build_model = of_layers(lambda: Clips(2, trainable=False), lambda: layers.Dense(1))
    _, _, _, state = evaluate(keras_problem(build_model, (X, Y), "mse", batch_size=8))
    assert np.abs(state[0]).max() <= np.float32(0.1)


D, S, N = Gradient.DENSE, Gradient.SPARSE, Gradient.NONE


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: keras_problem(regression(), (X, Y), "mse", batch_size=8), [D, D, D, D]),
        (odd_problems.text, [S, D, D]),
        (odd_problems.tied, [D, D, D]),
        (odd_problems.outside, [D, D, N, N, D, D]),
        (lambda: RandomScaling(odd_problems.text()), [D, D, D]),
        (lambda: RandomScaling(odd_problems.outside()), [D, D, N, N, D, D]),
        (lambda: ConvexCombination(odd_problems.text()), [S, D, D, D]),
        (lambda: GradientNoise(odd_problems.outside()), [D] * 6),
    ],
)
def test_which_gradients_a_problem_has(make, expected):
    problem = make()
    params, model_state = problem.init(0)
    batch = tf.nest.map_structure(lambda b: b[0], problem.batches(0, 0, 1))
    assert list(problem.gradient_kinds(params, model_state, batch)) == expected
    # As `fit` would get them.
    with tf.GradientTape() as tape:
        tape.watch(params)
        f, _ = problem.objective(params, model_state, batch)
    kinds = {tf.IndexedSlices: S, type(None): N}
    assert [kinds.get(type(g), D) for g in tape.gradient(f, params)] == expected


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (odd_problems.text, 1),
        pytest.param(odd_problems.text, 2, marks=pytest.mark.slow),
        pytest.param(odd_problems.outside, 1, marks=pytest.mark.slow),
        pytest.param(odd_problems.outside, 2, marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_teacher_does_what_fit_does(make, count):
    problem, steps = make(), 4
    create = partial(keras.optimizers.AdamW, 0.1, weight_decay=0.5)
    instances = [problem.init(k) for k in range(count)]
    data = [problem.batches(k, 0, steps) for k in range(count)]
    optimizee = problem if count == 1 else Batched(problem, count)
    start = instances[0] if count == 1 else stack(instances)
    teacher = Teacher(create, optimizee, instances[0].params, persistent=False)
    run = tf.function(lambda n: teacher.run(Carry(*start, []), together, n), autograph=False)
    together = data[0] if count == 1 else stack(data, axis=1)
    got = run(tf.constant(steps))
    for k in range(count):
        model = problem.model(k)
        model.compile(create(), problem.loss)
        for i in range(steps):
            model.train_on_batch(*tf.nest.map_structure(lambda b, i=i: b[i], data[k]))
            for array, variable in zip(got, model.trainable_variables, strict=True):
                value = array[i] if count == 1 else array[i, k]
                np.testing.assert_allclose(value, variable.value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("build_model", [regression(), functional, Subclassed, unbuilt])
def test_optimizees_leave_nothing_in_tensorflow(build_model):
    # What TensorFlow keeps, it keeps for each name of a variable.
    names = set()

    def spy(create, **options):
        variable = create(**options)
        names.add(variable.name)
        return variable

    problem = keras_problem(build_model, (X, Y), "mse", batch_size=8)
    with tf.variable_creator_scope(spy):
        problem.model(0)
        before = set(names)
        for seed in range(5):
            problem.model(seed)
            problem.init(seed)
    assert before
    assert names == before
