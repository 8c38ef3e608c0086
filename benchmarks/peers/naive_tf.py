"""Peer: a meta-step of DM in plain TensorFlow, its network called once for each variable.

    python benchmarks/peers/naive_tf.py --features 64 --unroll 20

The work of `meta_step.py` on an MLP features-20-10, as a loop over the variables inside a
`tf.while_loop`. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import common


def measure(features: int, unroll: int, second_derivatives: bool, seconds: float) -> common.Row:
    """Measures meta-steps from a fixed start.

    Args:
        features: Inputs of the optimizee.
        unroll: Inner steps of a meta-step.
        second_derivatives: Whether the meta-gradient goes through the optimizee's gradients.
        seconds: How long.

    Returns:
        The measurement, and `loss`, that of the first meta-step.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from benchmarks.peers.naive_network import NaiveNetwork, mlp_loss

    network = NaiveNetwork()
    learned = [weight.value for weight in network.weights]
    adam = keras.optimizers.Adam(1e-3)
    adam.build(learned)

    rng = np.random.default_rng(0)
    shapes = [(features, 20), (20,), (20, 10), (10,)]
    params = [tf.constant(0.1 * rng.normal(size=shape), tf.float32) for shape in shapes]
    states = [network.initial_state(math.prod(shape)) for shape in shapes]
    x = tf.constant(rng.uniform(size=(unroll, 64, features)), tf.float32)
    y = tf.constant(rng.integers(0, 10, size=(unroll, 64)))

    @tf.function(autograph=False)
    def meta_step(params, states, x, y):
        def inner_step(step, params, states, total):
            with tf.GradientTape() as inner:
                inner.watch(params)
                loss = mlp_loss(params, x[step], y[step])
            moved, kept = [], []
            gradients = inner.gradient(loss, params)
            for param, gradient, state in zip(params, gradients, states, strict=True):
                if not second_derivatives:
                    gradient = tf.stop_gradient(gradient)
                delta, state = network(gradient, state)
                moved.append(param + delta)
                kept.append(state)
            return step + 1, moved, kept, total + loss

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(learned)
            *_, total = tf.while_loop(
                lambda step, *_: step < unroll, inner_step, (0, params, states, 0.0)
            )
        adam.apply(tape.gradient(total, learned), learned)
        return total

    losses: list[float] = []
    first, rate = common.time_calls(
        lambda: losses.append(float(meta_step(params, states, x, y))), seconds
    )
    return {
        "inner_steps_per_s": rate * unroll,
        "trace_s": first,
        "peak_rss_mb": common.peak_rss_mb(),
        "loss": losses[0],
    }


def main() -> None:
    """Measures what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", type=common.positive(int), default=64)
    parser.add_argument("--unroll", type=common.positive(int), default=20)
    parser.add_argument("--second-derivatives", action="store_true")
    parser.add_argument("--seconds", type=common.positive(float), default=3)
    args = parser.parse_args()
    print(json.dumps(measure(**vars(args))))


if __name__ == "__main__":
    main()
