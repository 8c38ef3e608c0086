"""Limits of this machine: matrix products, tanh and sigmoid, memory bandwidth.

    python benchmarks/roofline.py

The products are those of one LSTM layer of 20 units on n coordinates, [80, 42] x [42, n], and
a square one. Each operation runs in a loop inside a `tf.function`, so that calling it costs
nothing, once as plain TensorFlow (tf) and once compiled (xla). The bandwidth is that of x -> -x,
counted as one read and one write. The table has medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common

PRODUCTS = ((80, 42, 1510), (80, 42, 15910), (1024, 1024, 1024))
# Work (10^9) beyond which the loop of plain TensorFlow, some 30 us a round, does not matter.
SHORT = 0.02
STEPS_PER_ROUND = 16
# 256 KB fit into the cache of a core; 128 MB fit into no cache.
IN_CACHE, LARGE = 2**16, 2**25
MODES = ("tf", "xla")


class Operation(NamedTuple):
    """A step that is repeated.

    Attributes:
        name: Name of the operation.
        shape: Shapes of its inputs.
        step: Maps the tensors of a round of the loop to those of the next.
        start: The tensors of the first round.
        work: Work of one step, in 10^9 of `unit` without "/s".
        unit: Unit of the result.
    """

    name: str
    shape: str
    step: Callable[..., Any]
    start: Any
    work: float
    unit: str


def operations() -> Iterator[Operation]:
    """Yields the operations to measure."""
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)

    def normal(*shape: int) -> tf.Tensor:
        return tf.constant(rng.normal(size=shape), tf.float32)

    for rows, inner, columns in PRODUCTS:
        right = normal(inner, columns)

        def product(left: tf.Tensor, _: tf.Tensor, right: tf.Tensor = right) -> Any:
            result = tf.matmul(left, right)
            # The next factor depends on the result, so that no compiler can skip a round.
            return left + 1e-30 * result[0, 0], result

        yield Operation(
            "matmul",
            f"[{rows}, {inner}] x [{inner}, {columns}]",
            product,
            (normal(rows, inner), tf.zeros([rows, columns])),
            2e-9 * rows * inner * columns,
            "GFLOP/s",
        )
    for name, function in (("tanh", tf.tanh), ("sigmoid", tf.sigmoid)):
        for size in (IN_CACHE, LARGE):
            yield Operation(
                name,
                f"[{size}]",
                lambda x, function=function: (function(x),),
                (normal(size),),
                1e-9 * size,
                "10^9 elements/s",
            )
    yield Operation(
        "negative",
        f"[{LARGE}]",
        lambda x: (-x,),
        (normal(LARGE),),
        # Read and written, 4 bytes each.
        8e-9 * LARGE,
        "GB/s",
    )


def measure(operation: Operation, compiled: bool, seconds: float, repeats: int) -> common.Row:
    """Measures one operation.

    Args:
        operation: The operation.
        compiled: Whether XLA compiles it.
        seconds: Duration of each measurement.
        repeats: Number of measurements.
    """
    import tensorflow as tf

    # XLA would fuse several steps into one pass. Its loop is cheap, so it needs only one.
    steps = STEPS_PER_ROUND if operation.work < SHORT and not compiled else 1

    def round_of_steps(i: tf.Tensor, *now: tf.Tensor) -> Any:
        for _ in range(steps):
            now = operation.step(*now)
        return i + 1, *now

    @tf.function(autograph=False, jit_compile=compiled)
    def loop(rounds: tf.Tensor, start: Any) -> Any:
        _, *end = tf.while_loop(
            lambda i, *_: i < rounds,
            round_of_steps,
            (tf.zeros([], tf.int32), *start),
        )
        return [tensor[:1] for tensor in end]

    def run(rounds: int) -> float:
        count = tf.constant(rounds)
        start = time.perf_counter()
        for tensor in loop(count, operation.start):
            tensor.numpy()
        return time.perf_counter() - start

    run(1)
    rounds = 1
    while (wall := run(rounds)) < seconds / 4:
        rounds *= 2
    rounds = max(1, round(rounds * seconds / wall))
    rates = [rounds * steps * operation.work / run(rounds) for _ in range(repeats)]
    return {
        "operation": operation.name,
        "shape": operation.shape,
        "mode": MODES[compiled],
        "value": statistics.median(rates),
        "value_min": min(rates),
        "value_max": max(rates),
        "unit": operation.unit,
    }


def main() -> None:
    """Runs the measurements that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    common.add_common_options(parser, seconds=0.5)
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    rows = [
        measure(operation, compiled, args.seconds, args.repeats)
        for operation in operations()
        for compiled in (False, True)
    ]
    common.report(
        rows,
        args.json,
        {
            "operation": lambda r: r["operation"],
            "shape": lambda r: r["shape"],
            "mode": lambda r: r["mode"],
            "value": lambda r: common.number(r["value"]),
            "min - max": lambda r: " - ".join(
                common.number(r[f"value_{end}"]) for end in ("min", "max")
            ),
            "unit": lambda r: r["unit"],
        },
    )


if __name__ == "__main__":
    main()
