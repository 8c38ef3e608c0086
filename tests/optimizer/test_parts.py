"""Large tensors take other operations through the rules with small MLPs, and XLA compiles parts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o.optimizer import AdafacMLPOptimizer, Celo2Optimizer, mlp
from tests import reference_mlp
from tests.optimizer.small_mlps import SHAPES, assert_follows, randomize

BASE = {"orthogonalize": False, "adam_for_vectors": False}
KINDS = [(AdafacMLPOptimizer, {}), (Celo2Optimizer, BASE), (Celo2Optimizer, {"exp_mult": 0.1})]
# The first two share what is compiled with this one.
FAST = (*KINDS[2], True)
# 26 rows are summed in blocks of 13, 34 in blocks of 2, and those of a vector as they are.
LONG = [(26, 3), (34, 2), (2, 26, 4), (5,), ()]


@pytest.fixture
def all_are_large(monkeypatch):
    monkeypatch.setattr(mlp, "LARGE", 1)


@pytest.mark.parametrize(
    "shapes", [pytest.param(SHAPES, marks=pytest.mark.slow), LONG], ids=["short", "long"]
)
def test_large_tensors_follow_the_equations(all_are_large, shapes):
    adafac, celo2 = AdafacMLPOptimizer(), Celo2Optimizer(**BASE)
    for optimizer in (adafac, celo2):
        randomize(optimizer)
    thetas, weights = adafac.network.get_weights()[:3], adafac.network.get_weights()[3:]
    own = [reference_mlp.Adafac(weights, thetas, s, adafac._own_config()) for s in shapes]
    assert_follows(adafac, own, shapes, 1e-4)
    weights = celo2.network.get_weights()
    own = [reference_mlp.Celo2(weights, s, celo2._own_config()) for s in shapes]
    assert_follows(celo2, own, shapes, 1e-4)


@pytest.mark.xla
@pytest.mark.parametrize(
    ("kind", "options", "large"),
    [
        pytest.param(*case, marks=[] if case == FAST else pytest.mark.slow)
        for case in ((*kind, large) for kind in KINDS for large in (False, True))
    ],
    ids=str,
)
def test_compiled_parts_are_the_rule(monkeypatch, kind, options, large):
    monkeypatch.setattr(mlp, "LARGE", 1 if large else 100)
    optimizer, shapes = kind(**options), [(26, 3), (26, 3), (5,)]
    randomize(optimizer)
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    params, state = [tf.constant(p) for p in start], optimizer.initial_state(start)
    variables = [keras.Variable(p) for p in start]
    step = tf.function(lambda grads: optimizer.apply(grads, variables), autograph=False)
    optimizer.build(variables)
    for _ in range(4):
        grads = [tf.constant(rng.normal(size=shape), tf.float32) for shape in shapes]
        deltas, state = optimizer.update(params, grads, state)
        params = [p + d for p, d in zip(params, deltas, strict=True)]
        step(grads)
    for p, v in zip(params, variables, strict=True):
        np.testing.assert_allclose(v, p, rtol=1e-4, atol=1e-5)
    # The two tensors of one shape share their programs.
    counts = {f.experimental_get_tracing_count() for f in optimizer._compiled_parts.values()}
    assert counts <= {1, 2}
    assert all(f._jit_compile for f in optimizer._compiled_parts.values())
    assert any(name == "_outputs" for name in optimizer._compiled_parts) == large
