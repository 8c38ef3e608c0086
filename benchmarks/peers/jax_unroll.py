"""Peer: a meta-step of DM in plain JAX, one jitted function with a scan in it.

    python benchmarks/peers/jax_unroll.py --features 64 --unroll 20

The work of `meta_step.py` on an MLP features-20-10, all coordinates in one batch along
the last axis. Needs `jax` and no TensorFlow. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import common

UNITS = 20
P = 10.0


def measure(
    features: int, unroll: int, second_derivatives: bool, checkpoint: bool, seconds: float
) -> common.Row:
    """Measures meta-steps from a fixed start.

    Args:
        features: Inputs of the optimizee.
        unroll: Inner steps of a meta-step.
        second_derivatives: Whether the meta-gradient goes through the optimizee's gradients.
        checkpoint: Whether the backward pass computes the rule again instead of storing it.
        seconds: How long.

    Returns:
        The measurement, and `loss`, that of the first meta-step.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    shapes = {"w1": (features, 20), "b1": (20,), "w2": (20, 10), "b2": (10,)}
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    coordinates = int(ends[-1])

    def loss_of(flat: Any, batch: Any) -> Any:
        x, y = batch
        parts = jnp.split(flat, ends[:-1])
        mlp = {k: p.reshape(shapes[k]) for k, p in zip(shapes, parts, strict=True)}
        hidden = jax.nn.sigmoid(x @ mlp["w1"] + mlp["b1"])
        log_p = jax.nn.log_softmax(hidden @ mlp["w2"] + mlp["b2"])
        return -jnp.take_along_axis(log_p, y[:, None], axis=1).mean()

    def cell(weights: Any, inputs: Any, state: Any) -> Any:
        h, c = state
        gates = weights["kernel"].T @ jnp.concatenate([inputs, h]) + weights["bias"][:, None]
        enter, forget, candidate, leave = gates.reshape(4, UNITS, -1)
        c = jax.nn.sigmoid(forget + 1) * c + jax.nn.sigmoid(enter) * jnp.tanh(candidate)
        return jax.nn.sigmoid(leave) * jnp.tanh(c), c

    def rule(learned: Any, g: Any, states: Any) -> Any:
        size = jnp.abs(g)
        normal = size >= math.exp(-P)
        h = jnp.stack(
            [
                jnp.where(normal, jnp.log(size + 1e-38) / P, -1.0),
                jnp.where(normal, jnp.sign(g), math.exp(P) * g),
            ]
        )
        new = []
        for weights, state in zip(learned["cells"], states, strict=True):
            state = cell(weights, h, state)
            h = state[0]
            new.append(state)
        return 0.1 * (learned["readout"] @ h + learned["offset"]), new

    if checkpoint:
        rule = jax.checkpoint(rule)

    def unrolled(learned: Any, flat: Any, states: Any, batches: Any) -> Any:
        def inner_step(carry: Any, batch: Any) -> Any:
            flat, states = carry
            loss, g = jax.value_and_grad(loss_of)(flat, batch)
            delta, states = rule(
                learned, g if second_derivatives else jax.lax.stop_gradient(g), states
            )
            return (flat + delta, states), loss

        end, losses = jax.lax.scan(inner_step, (flat, states), batches)
        return jnp.sum(losses), end

    @jax.jit
    def meta_step(learned: Any, moments: Any, flat: Any, states: Any, batches: Any) -> Any:
        (loss, end), grads = jax.value_and_grad(unrolled, has_aux=True)(
            learned, flat, states, batches
        )
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], grads)
        square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, moments[1], grads)
        learned = jax.tree.map(
            lambda w, m, v: w - 1e-3 * m / (jnp.sqrt(v) + 1e-8), learned, mean, square
        )
        return loss, learned, (mean, square), end

    rng = np.random.default_rng(0)

    def drawn(rows: int, columns: int) -> Any:
        return jnp.asarray(
            rng.normal(size=(rows, columns)) * math.sqrt(2 / (rows + columns)), jnp.float32
        )

    learned = {
        "cells": [
            {"kernel": drawn(inputs + UNITS, 4 * UNITS), "bias": jnp.zeros(4 * UNITS)}
            for inputs in (2, UNITS)
        ],
        "readout": drawn(UNITS, 1)[:, 0],
        "offset": jnp.zeros(()),
    }
    zeros = jax.tree.map(jnp.zeros_like, learned)
    flat = jnp.asarray(0.1 * rng.normal(size=coordinates), jnp.float32)
    states = [(jnp.zeros((UNITS, coordinates)), jnp.zeros((UNITS, coordinates))) for _ in "12"]
    x = jnp.asarray(rng.uniform(size=(unroll, 64, features)), jnp.float32)
    y = jnp.asarray(rng.integers(0, 10, size=(unroll, 64)))

    losses: list[float] = []

    def call() -> None:
        out = meta_step(learned, (zeros, zeros), flat, states, (x, y))
        losses.append(float(jax.block_until_ready(out)[0]))

    first, rate = common.time_calls(call, seconds)
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
    parser.add_argument("--checkpoint", action="store_true")
    parser.add_argument("--seconds", type=common.positive(float), default=3)
    args = parser.parse_args()
    print(json.dumps(measure(**vars(args))))


if __name__ == "__main__":
    main()
