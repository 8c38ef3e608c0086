from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o import seeds as seeding
from l2o.errors import UserError
from l2o.evaluate import Run, best, loops, run, runs, sweep
from l2o.inner import batched
from l2o.optimizer import OPTIMIZERS
from l2o.problems import (
    KerasProblem,
    Quadratic,
    RandomScaling,
    conv_classifier,
    keras_problem,
    mlp_classifier,
)
from tests import odd_problems
from tests.evaluate.fitting import fitted


@pytest.fixture(scope="module")
def problem():
    return mlp_classifier(layers=[5])


@pytest.fixture(scope="module")
def adam(problem):
    return run(problem, keras.optimizers.Adam(0.05), steps=4, seeds=[1, 2])


def test_losses_are_those_of_a_loop_written_by_hand(problem):
    got = run(problem, keras.optimizers.Adam(0.05), steps=6, seeds=[4])
    rng = seeding.generator(4, seeding.EVALUATION)
    model = problem.model(seeding.draw(rng))
    images, labels = problem.batches(seeding.draw(rng), 0, 6)
    adam = keras.optimizers.Adam(0.05)
    expected = []
    for x, y in zip(images, labels, strict=True):
        with tf.GradientTape() as tape:
            loss = problem.loss(y, model(x))
        expected.append(float(loss))
        adam.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)
    np.testing.assert_allclose(got.losses[0], expected, rtol=1e-5)
    for split, loss, accuracy in (
        (problem.dataset.train, got.train_loss, got.train_accuracy),
        (problem.dataset.test, got.test_loss, got.test_accuracy),
    ):
        x, y = split.all()
        logits = model(x).numpy()
        np.testing.assert_allclose(loss[0], problem.loss(y, logits), rtol=1e-4)
        np.testing.assert_allclose(accuracy[0], np.mean(logits.argmax(1) == y), atol=1e-6)


def test_every_seed_and_rate_starts_anew(problem, adam):
    swapped = run(problem, keras.optimizers.Adam(0.05), steps=4, seeds=[2, 1])
    np.testing.assert_array_equal(adam.losses, swapped.losses[::-1])
    swept = sweep(problem, "Adam", [0.2, 0.05], steps=4, seeds=[1, 2])
    np.testing.assert_array_equal(swept[0.05].losses, adam.losses)
    assert (swept[0.2].losses[:, -1] != swept[0.05].losses[:, -1]).all()
    given = run(problem, keras.optimizers.Adam(0.2), 4, [1, 2], learning_rate=0.05)
    np.testing.assert_array_equal(given.losses, adam.losses)


def test_a_second_run_is_identical(problem, adam):
    again = run(problem, keras.optimizers.Adam(0.05), steps=4, seeds=[1, 2])
    for a, b in zip(adam[:-1], again[:-1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert adam.losses.shape == (2, 4)
    assert {a.shape for a in adam[1:-1]} == {(2,)}
    assert adam.seconds > 0


def test_what_a_model_carries_along_starts_anew_too(problem):
    def build_model():
        return keras.Sequential(
            [
                keras.Input(problem.dataset.train.images.shape[1:]),
                keras.layers.Flatten(),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(10),
            ]
        )

    noisy = KerasProblem("noisy", build_model, problem.dataset, 64, 16384)
    got = run(noisy, keras.optimizers.Adam(0.05), steps=3, seeds=[2, 1, 2])
    for values in got[:-1]:
        np.testing.assert_array_equal(values[0], values[2])
    assert (got.losses[0] != got.losses[1]).all()


def test_a_convolutional_network_with_all_it_carries_along():
    problem = conv_classifier([2], batch_norm=True, dropout=0.2)
    got = run(problem, keras.optimizers.Adam(0.05), steps=3, seeds=[2, 1])
    for values in got[:-1]:
        assert np.isfinite(values).all()
    assert ((got.test_accuracy >= 0) & (got.test_accuracy <= 1)).all()


def regression(x, y):
    def build_model():
        return keras.Sequential([keras.layers.Dense(1)])

    return keras_problem(build_model, (x, y), "mse", batch_size=8, shuffle_buffer=0)


def test_what_is_no_classifier_has_no_accuracy():
    x = np.random.default_rng(0).standard_normal((24, 3)).astype(np.float32)
    y = x @ np.float32([1, -2, 0.5])
    got = run(regression(x, y), keras.optimizers.SGD(0.1), steps=4, seeds=[4])
    rng = seeding.generator(4, seeding.EVALUATION)
    w, b = regression(x, y).init(seeding.draw(rng)).params
    w, b = w.numpy()[:, 0], b.numpy()
    for i, loss in enumerate(got.losses[0]):
        batch = slice(8 * (i % 3), 8 * (i % 3) + 8)
        error = x[batch] @ w + b - y[batch]
        np.testing.assert_allclose(loss, np.mean(error**2), rtol=1e-4)
        w, b = w - 0.1 * 2 * error @ x[batch] / 8, b - 0.1 * 2 * error.mean()
    np.testing.assert_allclose(got.train_loss, np.mean((x @ w + b - y) ** 2), rtol=1e-3)
    for measure in (got.train_accuracy, got.test_loss, got.test_accuracy):
        assert np.isnan(measure).all()
    held_out = keras_problem(
        lambda: keras.Sequential([keras.layers.Dense(1)]), ((x, y), (x[:5], y[:5])), "mse", 8, 0
    )
    tested = run(held_out, keras.optimizers.SGD(0.1), steps=4, seeds=[4])
    np.testing.assert_array_equal(tested.losses, got.losses)
    np.testing.assert_allclose(tested.test_loss, np.mean((x[:5] @ w + b - y[:5]) ** 2), rtol=1e-3)


@pytest.mark.parametrize("structure", ["tuple", "dict"])
def test_a_model_with_two_inputs(structure):
    def build_model():
        a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
        inputs = (a, b) if structure == "tuple" else {"a": a, "b": b}
        return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Concatenate()([a, b])))

    rng = np.random.default_rng(0)
    a, b, y = (rng.standard_normal((24, n)) for n in (3, 2, 1))
    two = keras_problem(
        build_model, ((a, b) if structure == "tuple" else {"a": a, "b": b}, y), "mse", 8
    )
    one = keras_problem(
        lambda: keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)]),
        (np.concatenate([a, b], 1), y), "mse", 8,
    )  # fmt: skip
    got, expected = (run(p, keras.optimizers.SGD(0.1), steps=4, seeds=[1]) for p in (two, one))
    np.testing.assert_allclose(got.losses, expected.losses, rtol=1e-5)
    np.testing.assert_allclose(got.train_loss, expected.train_loss, rtol=1e-5)


def test_a_large_split_is_measured_in_parts(problem, adam, monkeypatch):
    monkeypatch.setattr(runs, "EVALUATION_BATCH", 500)
    parts = run(problem, keras.optimizers.Adam(0.05), steps=4, seeds=[1, 2])
    for a, b in zip(adam[:-1], parts[:-1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_sweep_takes_an_optimizer_of_ones_own(problem):
    def momentum():
        return keras.optimizers.SGD(momentum=0.9)

    swept = sweep(problem, momentum, [0.5, 0.1], steps=4, seeds=[1])
    assert list(swept) == [0.5, 0.1]
    by_hand = run(problem, keras.optimizers.SGD(0.1, momentum=0.9), steps=4, seeds=[1])
    np.testing.assert_array_equal(swept[0.1].losses, by_hand.losses)


def test_wrong_arguments_are_named(problem):
    with pytest.raises(UserError, match=r"did you mean Adam\?"):
        sweep(problem, "Adm", [0.1], steps=1, seeds=[1])
    with pytest.raises(UserError, match="ScheduleFreeAdamW keeps a copy"):
        sweep(problem, "ScheduleFreeAdamW", [0.1], steps=1, seeds=[1])
    with pytest.raises(UserError, match="at least one seed"):
        run(problem, keras.optimizers.Adam(), steps=1, seeds=[])


def test_a_learned_optimizer_goes_the_same_way_and_is_not_changed_by_it(problem, adam):
    learned = l2o.RNNPropOptimizer()
    before = learned.network.get_weights()
    told = []
    got = run(problem, learned, 4, [1, 2], on_steps=lambda *what: told.append(what))
    np.testing.assert_allclose(got.losses[:, 0], adam.losses[:, 0], rtol=1e-6)
    assert (got.losses[:, 2] != adam.losses[:, 2]).all()
    assert told == [(2 * 4, pytest.approx(got.losses[:, -1].mean()))]
    for a, b in zip(before, learned.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


CLIPPED = {"layers": (2,), "learning_rate": 0.5, "global_clipnorm": 0.01}


def averaged():
    return keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)


def clipped():
    return l2o.RNNPropOptimizer(**CLIPPED)


def accumulating():
    return keras.optimizers.Adam(
        0.1, gradient_accumulation_steps=2, global_clipnorm=0.1, use_ema=True, ema_momentum=0.5
    )


def decaying():
    return keras.optimizers.AdamW(0.1, weight_decay=0.5)


IMAGES, TEXT = partial(mlp_classifier, layers=[5]), odd_problems.text
TIED, OUTSIDE = odd_problems.tied, odd_problems.outside
SIDE_BY_SIDE = {
    **{name: (IMAGES, create) for name, create in sorted(OPTIMIZERS.entries.items())},
    "with options of Keras": (IMAGES, clipped),
    "an average": (IMAGES, averaged),
    "scaled": (IMAGES, lambda: keras.optimizers.Adam(0.1, loss_scale_factor=8.0)),
    "text": (TEXT, partial(keras.optimizers.Adam, 0.1)),
    "text with RMSprop": (TEXT, partial(keras.optimizers.RMSprop, 0.1)),
    # Its embedding takes steps of Adam, which Muon knows by the path of the variable.
    "a dense embedding with Muon": (TIED, partial(keras.optimizers.Muon, 0.1)),
    "text with options of Keras": (TEXT, accumulating),
    "text, learned with options of Keras": (TEXT, clipped),
    "a dense embedding": (TIED, partial(keras.optimizers.Adam, 0.1)),
    "a weight outside of the loss": (OUTSIDE, decaying),
}
# One for each way to train models: vectorised with a rule, with Keras' own, and one by one.
FAST = ("with options of Keras", "an average", "text")


@pytest.mark.parametrize(
    ("make", "create"),
    [
        pytest.param(*case, id=name, marks=[] if name in FAST else pytest.mark.slow)
        for name, case in SIDE_BY_SIDE.items()
    ],
)
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_models_side_by_side_are_what_fit_makes_of_each(monkeypatch, make, create):
    problem = make()
    # Two chunks of steps, and groups of two models and of one.
    monkeypatch.setattr(runs, "CHUNK", 3)
    monkeypatch.setattr(runs, "MODELS_AT_ONCE", 2)
    monkeypatch.setattr(runs, "SMALL_MODELS_AT_ONCE", 2)
    optimizer = create()
    for weight in getattr(optimizer, "network", keras.Layer()).trainable_variables:
        weight.assign(weight + 0.05)
    told = []
    got = run(problem, optimizer, 5, [7, 8, 9], on_steps=lambda *what: told.append(what[0]))
    one_by_one = make is TEXT and not isinstance(optimizer, l2o.optimizer.TrainableOptimizer)
    assert told == ([3, 2] * 3 if one_by_one else [6, 4, 3, 2])
    copies = [type(optimizer).from_config(optimizer.get_config()) for _ in range(3)]
    for k, copy in enumerate(copies):
        if isinstance(copy, l2o.optimizer.TrainableOptimizer):
            copy.network.set_weights(optimizer.network.get_weights())
        losses, end = fitted(problem, copy, 5, 7 + k)
        assert np.ptp(losses) > 0
        np.testing.assert_allclose(got.losses[k], losses, rtol=1e-4)
        np.testing.assert_allclose(got.train_loss[k], end, rtol=1e-4)


def test_large_models_are_trained_in_turn(monkeypatch):
    def at_once(optimizer, width):
        trainer = runs._Trainer(mlp_classifier(layers=[width]), 1, None)
        return trainer._at_once(optimizer)

    assert at_once(l2o.DMOptimizer(), 20) == at_once(l2o.Celo2Optimizer(), 20) == 16
    # 3,000,010 parameters of 4 bytes; DM keeps 80 numbers for each, Celo2 4 and Adam 2.
    assert at_once(l2o.DMOptimizer(), 40_000) == 1
    assert at_once(l2o.Celo2Optimizer(), 40_000) == 2**31 // (3_000_010 * 4 * (8 + 6 * 4)) == 5
    assert at_once(keras.optimizers.Adam(), 40_000) == 16
    monkeypatch.setattr(runs, "MEMORY", 1)
    assert at_once(l2o.DMOptimizer(), 20) == at_once(keras.optimizers.Adam(), 20) == 1


@pytest.mark.parametrize("models", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize(
    "create",
    [
        decaying,
        # With another optimizer it takes longer, and is about that optimizer.
        *(
            pytest.param(create, marks=pytest.mark.slow)
            for create in (
                partial(keras.optimizers.Lamb, 0.1, weight_decay=0.5),
                clipped,
                partial(l2o.load, "scale-hierarchical-digits"),
                partial(l2o.load, "rnnprop-digits"),
            )
        ),
    ],
    ids=["AdamW", "Lamb", "learned with options of Keras", "hierarchical", "coordinatewise"],
)
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_weight_outside_of_the_loss_is_what_fit_makes_of_it(monkeypatch, create, models):
    problem, optimizer = OUTSIDE(), create()
    loop = loops.loop_for(problem, optimizer, models, rated=False)
    loop.start([problem.init(k) for k in range(models)], None)
    streams = [problem.stream(0, 0, 4)] * models
    loop.advance(batched.stack(streams, axis=1) if models > 1 else streams[0], 3)
    for k, end in enumerate(loop.end()):
        model, copy = problem.model(k), type(optimizer).from_config(optimizer.get_config())
        model.compile(copy, problem.loss)
        examples = problem.dataset.train.take(problem.indices(0, 0, 3).reshape(-1))
        model.fit(*examples, batch_size=problem.batch_size, shuffle=False, verbose=0)
        for p, v in zip(end.params, model.trainable_variables, strict=True):
            np.testing.assert_allclose(p, v.value, rtol=1e-4, atol=1e-5)
        moved = [np.any(p != q) for p, q in zip(end.params, problem.init(k).params, strict=True)]
        assert moved == odd_problems.TAKING


# It trains four models twice.
@pytest.mark.slow
def test_rates_on_a_text_are_each_what_fit_makes_of_it():
    # What is vectorised has no sparse gradient.
    two = loops.loop_for(TEXT(), keras.optimizers.Adam(), 2, rated=True)
    assert isinstance(two, loops.KerasLoop)
    got = sweep(TEXT(), "Adam", [0.1, 0.01], 4, [3, 4])
    for rate, swept in got.items():
        for k, seed in enumerate((3, 4)):
            losses, end = fitted(TEXT(), keras.optimizers.Adam(rate), 4, seed)
            np.testing.assert_allclose(swept.losses[k], losses, rtol=1e-4)
            np.testing.assert_allclose(swept.train_loss[k], end, rtol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "SGD with momentum",
        *(pytest.param(n, marks=pytest.mark.slow) for n in loops.ELEMENTWISE),
    ],
)
def test_rates_side_by_side_are_each_what_it_is_alone(problem, name):
    kind = getattr(keras.optimizers, name.split()[0])
    more = {"momentum": 0.9, "nesterov": True} if "momentum" in name else {}
    assert loops.is_elementwise(kind(0.1, **more))
    got = sweep(problem, lambda: kind(0.5, **more), [0.1, 0.01], 4, [3, 4])
    for rate, swept in got.items():
        for k, seed in enumerate((3, 4)):
            # One model: with an optimizer of its own, as Keras made it.
            alone = run(problem, kind(rate, **more), 4, [seed])
            np.testing.assert_allclose(swept.losses[k], alone.losses[0], rtol=1e-4)
            np.testing.assert_allclose(swept.train_loss[k], alone.train_loss[0], rtol=1e-4)


def cosine(rate):
    return keras.optimizers.schedules.CosineDecay(rate, 6)


def warmed_up(rate):
    return keras.optimizers.schedules.CosineDecay(rate / 3, 4, warmup_target=rate, warmup_steps=2)


RNNPROP = partial(l2o.RNNPropOptimizer, layers=(2,))
# What has rates, its schedule, and the loop that trains it.
RATED = {
    "learned": (RNNPROP, float, loops.LearnedLoop),
    "learned, cosine": (RNNPROP, cosine, loops.LearnedLoop),
    "learned, warm-up": (RNNPROP, warmed_up, loops.LearnedLoop),
    "learned, decay": (partial(RNNPROP, weight_decay=0.3), warmed_up, loops.LearnedLoop),
    "learned, decay and clipping": (
        partial(RNNPROP, weight_decay=0.1, global_clipnorm=0.5), cosine, loops.KerasLoop
    ),
    "hierarchical": (
        lambda rate: l2o.load("scale-hierarchical-digits", learning_rate=rate),
        warmed_up,
        loops.LearnedLoop,
    ),
    "Adam, cosine": (keras.optimizers.Adam, cosine, loops.ElementwiseLoop),
    "Adam, warm-up": (keras.optimizers.Adam, warmed_up, loops.ElementwiseLoop),
    "Muon, cosine": (keras.optimizers.Muon, cosine, loops.KerasLoop),
}  # fmt: skip
# One for each loop; test_by_keras.py has Adam with a schedule.
FAST_RATED = ("learned, cosine", "learned, decay and clipping")


@pytest.mark.parametrize(
    ("create", "schedule", "kind"),
    [
        pytest.param(*case, id=name, marks=[] if name in FAST_RATED else pytest.mark.slow)
        for name, case in RATED.items()
    ],
)
def test_a_rate_and_a_schedule_are_what_fit_makes_of_them(
    problem, monkeypatch, create, schedule, kind
):
    # A schedule goes on from one chunk to the next.
    monkeypatch.setattr(runs, "CHUNK", 4)
    first = create(schedule(1.0))
    weights = [w + 0.05 for w in first.network.get_weights()] if hasattr(first, "network") else None

    def fresh(rate):
        optimizer = create(schedule(rate))
        if weights:
            optimizer.network.set_weights(weights)
        return optimizer

    assert type(loops.loop_for(problem, fresh(1.0), 2, rated=True)) is kind
    got = sweep(problem, lambda: fresh(1.0), [0.3, 0.03], 6, [3, 4])
    for rate, k in ((0.3, 0), (0.03, 1)):
        losses, end = fitted(problem, fresh(rate), 6, 3 + k)
        np.testing.assert_allclose(got[rate].losses[k], losses, rtol=2e-4)
        np.testing.assert_allclose(got[rate].train_loss[k], end, rtol=2e-4)
    # The last one alone, with a schedule of its own.
    alone = run(problem, fresh(0.03), 6, [4])
    np.testing.assert_allclose(alone.losses[0], losses, rtol=2e-4)
    np.testing.assert_allclose(alone.train_loss[0], end, rtol=2e-4)


def test_a_keras_optimizer_sees_the_paths_of_the_variables():
    problem = TIED()
    (optimizer, _) = loops.loop_for(
        problem, keras.optimizers.Lamb(), 2, rated=False
    )._each.optimizers
    paths = [v.path for v in optimizer._trainable_variables]
    assert paths == list(problem.param_names)
    assert any("embedding" in path for path in paths)


def test_a_second_group_starts_anew(problem, monkeypatch):
    adam = keras.optimizers.Adam(0.05)
    together = run(problem, adam, 4, [1, 2, 3, 4])
    monkeypatch.setattr(runs, "SMALL_MODELS_AT_ONCE", 2)
    apart = run(problem, adam, 4, [1, 2, 3, 4])
    np.testing.assert_allclose(apart.losses, together.losses, rtol=1e-5)
    np.testing.assert_allclose(apart.train_loss, together.train_loss, rtol=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.Adam(clipnorm=1.0),
        keras.optimizers.SGD(global_clipnorm=1.0),
        keras.optimizers.Lamb(),
        keras.optimizers.Adafactor(),
        l2o.DMOptimizer(),
    ],
    ids=lambda o: o.name,
)
def test_what_looks_at_several_coordinates_is_not_elementwise(optimizer):
    assert not loops.is_elementwise(optimizer)


def test_a_problem_without_data_is_measured_by_its_objective():
    problem = Quadratic(dimensions=3)
    got = run(problem, keras.optimizers.SGD(0.01), 5, [1, 2])
    rng = seeding.generator(2, seeding.EVALUATION)
    (theta,), (w, y) = problem.init(seeding.draw(rng))
    theta, w, y = (np.array(t, np.float64) for t in (theta, w, y))
    for i in range(5):
        error = w @ theta - y
        np.testing.assert_allclose(got.losses[1, i], error @ error, rtol=1e-4)
        theta = theta - 0.01 * 2 * w.T @ error
    error = w @ theta - y
    np.testing.assert_allclose(got.train_loss[1], error @ error, rtol=1e-4)
    for measure in (got.train_accuracy, got.test_loss, got.test_accuracy):
        assert np.isnan(measure).all()
    learned = run(problem, l2o.DMOptimizer(layers=(3,)), 5, [1, 2])
    np.testing.assert_allclose(learned.losses[:, 0], got.losses[:, 0], rtol=1e-6)


def test_a_wrapper_with_data_is_not_measured(problem):
    with pytest.raises(UserError, match="neither a Keras model nor a problem without data"):
        run(RandomScaling(problem), keras.optimizers.SGD(0.01), 5, [1])


def test_a_model_that_diverges_with_a_learned_optimizer_does_not_stop_the_others(monkeypatch):
    class Cliff(keras.losses.MeanSquaredError):
        def __call__(self, y_true, y_pred, sample_weight=None):
            f = super().__call__(y_true, y_pred, sample_weight)
            return tf.where(f > limit, np.inf, f)

    monkeypatch.setattr(runs, "CHUNK", 4)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 3)), rng.standard_normal((64, 1))

    def problem():
        return keras_problem(
            lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]), (x, y), Cliff(), 8
        )

    limit = np.inf
    learned, seeds = l2o.RNNPropOptimizer(), [1, 2, 3, 4]
    learned.network.set_weights([3 * w for w in learned.network.get_weights()])
    plain = run(problem(), learned, 10, seeds)
    worst = plain.losses.max(1)
    limit = np.sort(worst)[-2:].mean()
    got = run(problem(), learned, 10, seeds)
    ended = worst > limit
    assert ended.tolist().count(True) == 1
    np.testing.assert_allclose(got.losses[~ended], plain.losses[~ended], rtol=1e-4)
    first = int(np.argmax(plain.losses[ended][0] > limit))
    assert first > 0
    np.testing.assert_allclose(
        got.losses[ended][0, :first], plain.losses[ended][0, :first], rtol=1e-4
    )
    assert not np.isfinite(got.losses[ended][0, first:]).any()
    assert not np.isfinite(got.train_loss[ended]).any()
    np.testing.assert_allclose(got.train_loss[~ended], plain.train_loss[~ended], rtol=1e-4)


@pytest.mark.parametrize("models", [1, 2])
def test_the_mini_batch_after_the_last_step_is_of_no_account(models):
    y = np.zeros((24, 1))
    y[16:] = np.nan
    problem = regression(np.ones((24, 3)), y)
    loop = loops.loop_for(problem, l2o.DMOptimizer(layers=(3,)), models, rated=False)
    loop.start([problem.init(k) for k in range(models)], None)
    streams = [problem.stream(0, 0, 3)] * models
    batches = batched.stack(streams, axis=1) if models > 1 else streams[0]
    assert np.isfinite(loop.advance(batches, 2)).all()
    ends = loop.end()
    assert len(ends) == models
    assert all(np.isfinite(p).all() for end in ends for p in end.params)


def of(*train_losses):
    ones = np.ones(len(train_losses))
    return Run(np.ones((len(train_losses), 3)), np.array(train_losses), ones, ones, ones, 1.0)


def test_the_best_rate_has_the_smallest_mean_and_no_diverged_seed():
    assert best({0.1: of(2.0, 4.0), 0.2: of(1.0, 4.0), 0.3: of(0.0, np.nan)}) == 0.2
    with pytest.raises(UserError, match=r"no learning rate of 0\.1, 1 converges"):
        best({0.1: of(np.inf), 1.0: of(np.nan)})


def test_a_diverging_model_does_not_stop_the_others(problem):
    got = sweep(problem, "SGD", [1e38, 0.1], steps=4, seeds=[1])
    assert got[1e38].losses.shape == (1, 4)
    assert np.isfinite(got[1e38].losses[:, 0]).all(), "before the first step"
    assert not np.isfinite(got[1e38].losses[:, -1]).any()
    assert not np.isfinite(got[1e38].train_loss).any()
    assert np.isfinite(got[0.1].train_loss).all()
