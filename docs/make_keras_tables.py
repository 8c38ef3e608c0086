"""Writes the tables of docs/keras.md: `python docs/make_keras_tables.py`."""

import importlib
import re
import sys
from pathlib import Path

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2 as frozen,
)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from l2o.optimizer import OPTIMIZERS, TrainableOptimizer  # noqa: E402
from tests.contract import features  # noqa: E402

PAGE = ROOT / "docs" / "keras.md"
MODULES = ("test_steps", "test_options", "test_saving")
TRANSCENDENTAL = {"Tanh", "Sigmoid", "Exp", "Log", "Elu", "Asinh", "Softplus", "Pow"}


def features_table() -> str:
    """Returns the table of features, with a row for each."""
    for module in MODULES:
        importlib.import_module(f"tests.contract.{module}")
    columns = features.COLUMNS
    ordered = [f for module in MODULES for f in features.FEATURES if f.file == f"{module}.py"]
    rows = [f"| {f.title} | {' | '.join('✓' * len(columns))} | `{f.test}` |" for f in ordered]
    head = [f"| | {' | '.join(columns)} | test |", "|---" * (len(columns) + 2) + "|"]
    return "\n".join([*head, *rows])


def costs_table() -> str:
    """Returns the table of costs per parameter, and of the state for a million parameters."""
    rows = []
    for name, kind in OPTIMIZERS.entries.items():
        size = state_bytes(kind())
        operations, functions = work(kind())
        rows.append(f"| {name} | {size} | {size} MB | {operations:,} | {functions} |")
    head = [
        "| | bytes of state | for a million parameters | operations | functions |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, "| Adam | 8 | 8 MB | | |", *rows])


def state_bytes(optimizer: TrainableOptimizer) -> int:
    """Returns the bytes that one more parameter adds to the state."""

    def whole(n: int) -> int:
        # A matrix: rules that treat vectors differently are for matrices above all.
        leaves = tf.nest.flatten(optimizer.initial_state([tf.TensorSpec([n, 1000])]))
        return sum(leaf.dtype.size * leaf.shape.num_elements() for leaf in leaves)

    return round((whole(1001) - whole(1000)) / 1000)


def work(optimizer: TrainableOptimizer) -> tuple[int, int]:
    """Returns the operations and transcendental functions that one more parameter takes."""
    (a, f), (b, g) = (_work(optimizer, n) for n in (1000, 2000))
    return round((b - a) / 100_000), round((g - f) / 100_000)


def _work(optimizer: TrainableOptimizer, n: int) -> tuple[int, int]:
    shape = [n, 100]
    state = optimizer.initial_state([tf.TensorSpec(shape)])

    def step(g: tf.Tensor, *leaves: tf.Tensor) -> object:
        return optimizer.update([g], [g], tf.nest.pack_sequence_as(state, list(leaves)))

    leaves = [tf.TensorSpec(leaf.shape, leaf.dtype) for leaf in tf.nest.flatten(state)]
    traced = tf.function(step).get_concrete_function(tf.TensorSpec(shape), *leaves)
    graph = frozen(traced).graph
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder.float_operation()
    counted = profiler.profile(graph, options={**options, "output": "none"})
    functions = sum(
        op.outputs[0].shape.num_elements()
        for op in graph.get_operations()
        if op.type in TRANSCENDENTAL
    )
    return counted.total_float_ops, functions


def page() -> str:
    """Returns the page with new tables."""
    text = PAGE.read_text("utf-8")
    for name, table in (("costs", costs_table()), ("features", features_table())):
        text = re.sub(
            rf"<!-- {name} -->\n.*<!-- /{name} -->",
            f"<!-- {name} -->\n\n{table}\n\n<!-- /{name} -->",
            text,
            flags=re.S,
        )
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"{PAGE} is written")
