"""Speed of applying an optimizer: milliseconds of a training step of `model.fit`.

    python benchmarks/apply_step.py --optimizer DM,naive-DM,Adam --parameters 15910

The models are MLPs 784-20-10 (15,910 parameters), 784-256-256-10 (269,322), 784-700-700-10
(1,047,210) and, if it is asked for, 784-2800-2800-10 (10,068,810), on batches of 64 random
examples, compiled as Keras does by default. `--parameters 1230944` is another kind of model, a
transformer with 6 blocks of width 128, on batches of 32 windows of 128 characters: its forward and
backward pass takes much longer than that of an MLP of this size. The data set is one repeated
batch, so that it costs nothing. After a `fit` that compiles, a `fit` of one epoch is
timed, which lasts for `--seconds`. Each measurement runs in a process of its own, and all rows
take turns. The table has medians. naive-DM is DM as a plain Keras optimizer that calls its network
for each variable.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common

NAIVE = "naive-DM"
OPTIMIZERS = (*common.LEARNED, NAIVE, "Adam", "AdamW", "Muon", "SGD")
HIDDEN_LAYERS = {
    15910: (20,),
    269322: (256, 256),
    1047210: (700, 700),
    10068810: (2800, 2800),
}
TRANSFORMER = 1_230_944
SIZES = [*HIDDEN_LAYERS, TRANSFORMER]
# Enough to outweigh the start of `fit` and to estimate the number of steps for the given time.
WARM_UP_STEPS = 20


def measure(name: str, parameters: int, seconds: float) -> common.Row:
    """Measures `fit` with one optimizer.

    Args:
        name: One of `OPTIMIZERS`.
        parameters: One of `SIZES`.
        seconds: Duration of the measurement.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from benchmarks.peers.naive_apply import NaiveDM
    from l2o.problems import char_lm

    if name in common.LEARNED:
        optimizer = common.learned(name)
    else:
        # Small enough for random labels; the speed does not depend on them.
        optimizer = {
            NAIVE: NaiveDM,
            "Adam": lambda: keras.optimizers.Adam(1e-3),
            "AdamW": lambda: keras.optimizers.AdamW(1e-3),
            "Muon": lambda: keras.optimizers.Muon(1e-3),
            "SGD": lambda: keras.optimizers.SGD(1e-2),
        }[name]()
    rng = np.random.default_rng(0)
    if parameters == TRANSFORMER:
        problem = char_lm(width=128, depth=6, context=128)
        model = problem.build_model()
        characters = rng.integers(0, 96, size=(2, 32, 128))
        batch = tuple(characters)
    else:
        model = keras.Sequential(
            [
                keras.Input((784,)),
                *(keras.layers.Dense(units, "sigmoid") for units in HIDDEN_LAYERS[parameters]),
                keras.layers.Dense(10),
            ]
        )
        batch = rng.uniform(size=(64, 784)).astype("float32"), rng.integers(0, 10, size=64)
    assert model.count_params() == parameters, model.count_params()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss)
    dataset = tf.data.Dataset.from_tensors(batch).repeat()

    def fit(steps: int) -> float:
        start = time.perf_counter()
        model.fit(dataset, steps_per_epoch=steps, epochs=1, verbose=0)
        return time.perf_counter() - start

    first = fit(WARM_UP_STEPS)
    steps = max(WARM_UP_STEPS, round(WARM_UP_STEPS * seconds / fit(WARM_UP_STEPS)))
    return {
        "ms_per_step": 1000 * fit(steps) / steps,
        "trace_s": first,
        "peak_rss_mb": common.peak_rss_mb(),
    }


def parse() -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--optimizer",
        type=common.listed(str, OPTIMIZERS),
        default=list(OPTIMIZERS),
        metavar="A,B",
        help=f"some of {', '.join(OPTIMIZERS)} [all]",
    )
    parser.add_argument(
        "--parameters",
        type=common.listed(common.positive(int), SIZES),
        default=SIZES[:3],
        metavar="N,M",
        help=f"size of the model, some of {', '.join(map(str, SIZES))} [the first three]",
    )
    parser.add_argument("--worker", choices=OPTIMIZERS, help=argparse.SUPPRESS)
    common.add_common_options(parser, seconds=3)
    return parser.parse_args()


def main() -> None:
    """Runs the measurements that the command line asks for."""
    args = parse()
    if args.worker:
        print(json.dumps(measure(args.worker, args.parameters[0], args.seconds)))
        return
    cases = [
        common.Case(
            {"optimizer": name, "parameters": parameters},
            [
                *(sys.executable, str(Path(__file__).resolve()), "--worker", name),
                *(f"--parameters={parameters}", f"--seconds={args.seconds}"),
            ],
        )
        for parameters in args.parameters
        for name in args.optimizer
    ]
    rows = common.run_alternately(cases, args.repeats, spread="ms_per_step")
    naive = {r["parameters"]: r["ms_per_step"] for r in rows if r["optimizer"] == NAIVE}
    for row in rows:
        reference = naive.get(row["parameters"])
        row["ratio_to_naive"] = reference and row["ms_per_step"] / reference
    common.report(
        rows,
        args.json,
        {
            "optimizer": lambda r: r["optimizer"],
            "parameters": lambda r: f"{r['parameters']:,}",
            "ms per step": lambda r: common.number(r["ms_per_step"]),
            "min - max": common.both_ends("ms_per_step"),
            "first fit s": lambda r: common.number(r["trace_s"]),
            "peak RSS MB": lambda r: common.number(r["peak_rss_mb"]),
            "to naive-DM": lambda r: common.number(r["ratio_to_naive"]),
        },
    )
    if len(rows) < len(cases):
        sys.exit(1)


if __name__ == "__main__":
    main()
