"""The benchmarks run, say what they promise, and compare with the same computation."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from benchmarks import common
from benchmarks.peers.naive_apply import NaiveDM
from benchmarks.peers.naive_network import NaiveNetwork

ROOT = Path(__file__).parent.parent
SHAPES = [(3, 4), (4,), (4, 2), (2,)]


def run(script, *options):
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}.py", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done, [json.loads(line) for line in done.stdout.splitlines()]


TINY = ("--repeats", "1", "--seconds", "0.1", "--json")


@pytest.mark.slow
def test_meta_step():
    done, rows = run(
        "meta_step", "--no-peers", "--optimizer", "DM", "--features", "8", "--unroll", "2", *TINY
    )
    assert done.returncode == 0, done.stderr
    (row,) = rows
    assert (row["optimizer"], row["features"], row["unroll"]) == ("DM", 8, 2)
    assert all(row[key] > 0 for key in ("inner_steps_per_s", "trace_s", "peak_rss_mb"))


@pytest.mark.slow
def test_the_steps_of_unrolls_of_drawn_lengths_are_counted():
    done, (row,) = run(
        "meta_step", "--no-peers", "--optimizer=DM", "--features=8", "--unroll=3", "--geometric",
        "--imitation", "--batch=8", *TINY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert row["inner_steps_per_s"] > 0


@pytest.mark.slow
def test_apply_step():
    done, rows = run("apply_step", "--optimizer", "naive-DM,DM", "--parameters", "15910", *TINY)
    assert done.returncode == 0, done.stderr
    assert [(row["optimizer"], row["parameters"]) for row in rows] == [
        ("naive-DM", 15910),
        ("DM", 15910),
    ]
    for row in rows:
        assert all(row[key] > 0 for key in ("ms_per_step", "peak_rss_mb", "ratio_to_naive"))


@pytest.mark.slow
def test_workers():
    done, rows = run(
        "workers", "--optimizer", "DM", "--optimizees", "1", "--repeats", "1", "--json"
    )
    assert done.returncode == 0, done.stderr
    one, two = rows
    assert (one["workers"], two["workers"]) == (1, 2)
    assert one["all_reduce_ms"] == 0 < two["all_reduce_ms"]
    assert all(row["inner_steps_per_s"] > 0 for row in rows)
    # The weights, how many optimizees, and five results of each.
    weights = l2o.DMOptimizer().network.count_params()
    assert two["kilobytes"] == pytest.approx(4 * (weights + 1 + 2 * 5) / 1e3, rel=1e-3)


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        ("meta_step", ["--optimizer", "DM,Adam"], "'Adam'"),
        ("meta_step", ["--unroll", "20,x"], "'x'"),
        ("apply_step", ["--parameters", "7"], "'7'"),
        ("roofline", ["--seconds", "nan"], "'nan'"),
        ("workers", ["--workers", "0"], "'0'"),
        ("meta_step", ["--batch", "0"], "'0'"),
        ("job", ["--seconds", "0"], "'0'"),
    ],
)
def test_wrong_options_are_refused(script, options, message):
    done, _ = run(script, *options)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]


def test_a_case_that_fails_is_left_out(capfd):
    cases = [
        common.Case({"name": "bad"}, [sys.executable, "-c", "raise ValueError('no luck')"]),
        common.Case({"name": "good"}, [sys.executable, "-c", "print('{\"speed\": 2}')"]),
    ]
    rows = common.run_alternately(cases, 2, spread="speed")
    assert rows == [{"name": "good", "speed": 2, "speed_min": 2, "speed_max": 2}]
    assert "bad failed (1): ValueError: no luck" in capfd.readouterr().err


def random(rng, scale):
    return [tf.constant(scale * rng.normal(size=shape), tf.float32) for shape in SHAPES]


@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_the_naive_network_is_our_dm(scale):
    ours, naive = l2o.DMOptimizer(), NaiveNetwork()
    for mine, other in zip(ours.network.trainable_variables, naive.weights, strict=True):
        # The changes of a fresh one are as small as what is allowed to differ.
        mine.assign(3 * mine)
        other.assign(mine)
    rng = np.random.default_rng(0)
    params = random(rng, 1)
    state = ours.initial_state(params)
    states = [naive.initial_state(int(np.prod(shape))) for shape in SHAPES]
    for _ in range(3):
        grads = random(rng, scale)
        deltas, state = ours.update(params, grads, state)
        others, states = zip(*map(naive, grads, states), strict=True)
        for mine, other in zip(deltas, others, strict=True):
            np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5)
            assert np.abs(other).max() > 1e-4, "compares something"


def test_the_naive_keras_optimizer_is_our_dm():
    optimizers = [l2o.DMOptimizer(), NaiveDM()]
    weights = optimizers[0].network.trainable_variables
    for mine, other in zip(weights, optimizers[1].network.weights, strict=True):
        other.assign(mine)
    rng = np.random.default_rng(0)
    start, grads = random(rng, 1), [random(rng, 1) for _ in range(3)]
    ends = []
    for optimizer in optimizers:
        variables = [keras.Variable(value) for value in start]
        for g in grads:
            optimizer.apply(g, variables)
        ends.append([v.numpy() for v in variables])
    for mine, other, before in zip(*ends, start, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5)
        assert np.abs(other - before).max() > 1e-4, "has moved"
    # iteration, learning rate, and h and c of two cells for each variable
    assert len(optimizers[1].variables) == 2 + 4 * len(SHAPES)
