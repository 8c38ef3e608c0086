"""Optimizees side by side: each is as it would be alone, and one that diverges spoils none."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o.inner import lanes, unroll
from l2o.inner.batched import Batched, stack, value_and_gradients
from l2o.problems import analytic, conv_classifier, keras_problem, mlp_classifier
from l2o.problems.wrappers import ConvexCombination, GradientNoise, RandomScaling
from tests.optimizees import CASES, OPTIMIZERS, STEPS, Cliff, learn, meta_step, optimizer_of
from tests.problems import tiny

# What is side by side does not depend on the rule, and those of l2o take long to trace.
TINY_FIRST = ["Tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in OPTIMIZERS)]


@pytest.mark.parametrize(
    ("kind", "case", "order"),
    [
        # Each with each of another column but one, which the kinds and cases have in common.
        pytest.param("train", "data", "first", marks=pytest.mark.slow),
        pytest.param("train", "state", "second", marks=pytest.mark.slow),
        pytest.param("train", "outside", "second", marks=pytest.mark.slow),
        # "train" and "state" are those of one that diverges below.
        ("imitate", "data", "first"),
        pytest.param("imitate", "outside", "first", marks=pytest.mark.slow),
        pytest.param("imitate", "data", "second", marks=pytest.mark.slow),
        pytest.param("imitate", "state", "first", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "name", ["Tiny", *(pytest.param(n, marks=pytest.mark.slow) for n in ("DM", "RNNProp"))]
)
def test_the_gradient_is_the_mean_of_those_of_each_alone(monkeypatch, name, kind, case, order):
    check_mean(monkeypatch, optimizer_of(name), kind, case, order)


@pytest.mark.parametrize(
    ("kind", "case", "order"),
    [
        ("train", "data", "second"),
        # What belongs to the kind does not depend on the rule, and these take long to trace.
        pytest.param("train", "state", "first", marks=pytest.mark.slow),
        pytest.param("imitate", "data", "first", marks=pytest.mark.slow),
        pytest.param("imitate", "outside", "second", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "name", [pytest.param("ScaleBasic", marks=pytest.mark.slow), "ScaleHierarchical"]
)
@pytest.mark.slow
def test_that_of_the_others_is_too(monkeypatch, name, kind, case, order):
    check_mean(monkeypatch, optimizer_of(name), kind, case, order)


# test_scripts.py trains with a compiled rule, as users do.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["Tiny", *OPTIMIZERS])
def test_that_of_the_compiled_rule_is_too(monkeypatch, name):
    check_mean(monkeypatch, optimizer_of(name, xla=True), "train", "state", "first")


def check_mean(monkeypatch, optimizer, kind, case, order):
    # Lanes that cut optimizees apart, and states that are recomputed.
    monkeypatch.setattr(lanes, "cores", lambda: 2)
    monkeypatch.setattr(lanes, "SMALLEST_LANE", 10)
    monkeypatch.setattr(unroll, "MEMORY", 0 if case == "state" else unroll.MEMORY)
    problem = CASES[case]()
    make = partial(meta_step, optimizer, problem, kind=kind, order=order)
    alone = make(optimizees=1)
    expected = [learn(alone, kind, [seed]) for seed in range(3)]
    gradient, result, carry = learn(make(optimizees=3), kind, range(3))
    mean = np.mean([g for g, *_ in expected], 0)
    assert np.abs(mean).max() > 0
    np.testing.assert_allclose(gradient, mean, rtol=1e-5, atol=1e-5 * np.abs(mean).max())
    assert result.complete.all()
    for k, (_, one, end) in enumerate(expected):
        for got, wanted in zip(result[:-1], one[:-1], strict=True):
            np.testing.assert_allclose(got[k], wanted[0], rtol=1e-4, atol=1e-6)
        both = zip(tf.nest.flatten(carry), tf.nest.flatten(end), strict=True)
        for got, wanted in both:
            np.testing.assert_allclose(got[k], wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "order", "how"),
    [
        ("train", "first", "objective"),
        pytest.param("train", "second", "gradient", marks=pytest.mark.slow),
        pytest.param("imitate", "first", "gradient", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", TINY_FIRST)
def test_one_that_diverges_spoils_none_and_is_reported(name, order, kind, how):
    optimizer, problem = optimizer_of(name), Cliff(how)
    make = partial(meta_step, optimizer, problem, kind=kind, order=order)
    seeds = [0, 1, 2, 4]
    alone = make(optimizees=1)
    each = [learn(alone, kind, [seed]) for seed in seeds]
    healthy = [one for seed, one in zip(seeds, each, strict=True) if seed % 2 == 0]
    gradient, result, carry = learn(make(optimizees=len(seeds)), kind, seeds)
    mean = np.mean([g for g, *_ in healthy], 0)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient, mean, rtol=1e-5, atol=1e-5 * np.abs(mean).max())
    assert result.finite.tolist() == [True, False, True, True]
    assert result.complete.tolist() == [True, False, True, True]
    assert result.steps.tolist() == [STEPS, 3, STEPS, STEPS]
    if how == "objective":
        for got, wanted in zip(carry.params, each[1][2].params, strict=True):
            np.testing.assert_allclose(got[1], wanted, rtol=1e-4, atol=1e-5)


def unruly_model():
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1),
        ]
    )


def unruly():
    rng = np.random.default_rng(0)
    data = [rng.normal(size=(40, n)).astype(np.float32) for n in (4, 1)]
    return keras_problem(unruly_model, tuple(data), "mse", batch_size=8)


KINDS = {
    "convolutions": lambda: conv_classifier(batch_size=8),
    "noise and scaling": lambda: GradientNoise(RandomScaling(mlp_classifier(batch_size=8))),
    "convex": lambda: ConvexCombination(RandomScaling(analytic.Quadratic(3))),
    "dropout, normalization": unruly,
    **tiny.PROBLEMS,
    **tiny.WRAPPED,
}
# They have layers that no other has.
FAST = [
    "convolutions", "noise and scaling", "convex", "dropout, normalization", "transformer", "lstm",
    "vae", "labels",
]  # fmt: skip


@pytest.mark.parametrize(
    "kind", [k if k in FAST else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]
)
def test_every_kind_of_problem_is_evaluated_as_alone(kind):
    problem = KINDS[kind]()
    optimizees = [problem.init(seed) for seed in range(3)]
    streams = [problem.stream(seed, 0, 1) for seed in range(3)]
    params, model_state = stack([(list(p), list(s)) for p, s in optimizees])
    batch = tf.nest.map_structure(lambda b: b[0], stack(streams, axis=1))
    run = tf.function(value_and_gradients, autograph=False)
    together = run(Batched(problem, 3), params, model_state, batch)
    for k in range(3):
        own = tf.nest.map_structure(lambda b: b[0], streams[k])
        alone = run(problem, list(optimizees[k].params), list(optimizees[k].model_state), own)
        both = zip(tf.nest.flatten(together), tf.nest.flatten(alone), strict=True)
        for got, wanted in both:
            np.testing.assert_allclose(got[k], wanted, rtol=1e-4, atol=1e-5)
