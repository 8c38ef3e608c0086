"""Speed of meta-training: inner steps per second, with plain JAX and TensorFlow for comparison.

    python benchmarks/meta_step.py --optimizer DM --unroll 20 --jax-python ~/jax/bin/python

A meta-step unrolls an MLP features-20-10 (sigmoid, or relu with other `--units` than 20; cross
entropy, batches of 64 random examples),
computes the gradient of the sum of its objectives through all steps, and takes an Adam step on the
learned weights. Each measurement runs in a process of its own, and all rows take turns. The table
has medians. The peers run DM on the meta-loss: naive-tf (calls the network once for each
variable), jax (one jitted scan) and jax-checkpoint (recomputes the rule in the backward pass).
With an estimator of evolution strategies, `--optimizees` counts pairs, and the inner steps of both
unrolls of a pair count.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common

OPTIMIZERS = common.LEARNED
PEERS = ("naive-tf", "jax", "jax-checkpoint")
# Unrolls of each optimizee in a meta-step.
UNROLLS = {"TruncatedBackprop": 1, "ES": 3, "PES": 2, "FullES": 2}
BATCH = 64
# How many lengths of unrolls are drawn.
LENGTHS = 100
CLASSES = 10
# About as many as `digits` has.
EXAMPLES = 1408


def measure(args: argparse.Namespace, features: int, unroll: int, optimizees: int) -> common.Row:
    """Measures meta-steps of `args.worker` from a fixed start."""
    names = ("second_derivatives", "imitation", "units", "estimator", "batch", "geometric")
    options = {name: getattr(args, name) for name in names}
    call = prepare(args.worker, features, unroll, optimizees, **options)
    steps: list[int] = []
    first, rate = common.time_calls(lambda: steps.append(call()), args.seconds)
    mean = sum(steps[1:]) / (len(steps) - 1)
    return {
        "inner_steps_per_s": rate * mean * optimizees * UNROLLS[args.estimator],
        "trace_s": first,
        "peak_rss_mb": common.peak_rss_mb(),
    }


def prepare(
    name: str,
    features: int,
    unroll: int,
    optimizees: int,
    *,
    units: int = 20,
    estimator: str = "TruncatedBackprop",
    second_derivatives: bool = False,
    imitation: bool = False,
    batch: int = BATCH,
    geometric: bool = False,
    replicas: Any = None,
) -> Callable[[], int]:
    """Returns a function that takes a meta-step from the same start at each call.

    The function returns the number of inner steps.

    Args:
        name: The optimizer.
        features: Inputs of the optimizee.
        unroll: Inner steps.
        optimizees: Optimizees of each replica.
        units: Hidden units of the optimizee.
        estimator: The estimator of meta-gradients.
        second_derivatives: As for `TruncatedBackprop`.
        imitation: Whether on the imitation loss.
        batch: Examples in a mini-batch.
        geometric: Whether each unroll has a length of its own, geometric with the mean `unroll`.
        replicas: As for `MetaStep`.
    """
    import keras
    import numpy as np

    from l2o.problems import keras_problem
    from l2o.train import LossArgs, Replicas
    from l2o.train.estimators import ESTIMATORS, TruncatedBackprop
    from l2o.train.losses.imitation import ImitationLoss
    from l2o.train.losses.meta import MetaLoss
    from l2o.train.losses.teachers import Teacher
    from l2o.train.outer.meta_step import MetaStep

    replicas = replicas or Replicas()

    def build_model() -> keras.Model:
        return keras.Sequential(
            [
                keras.Input((features,)),
                keras.layers.Dense(units, "sigmoid" if units == 20 else "relu"),
                keras.layers.Dense(CLASSES),
            ]
        )

    rng = np.random.default_rng(0)
    x = rng.random(size=(EXAMPLES, features), dtype="float32")
    y = rng.integers(0, CLASSES, size=EXAMPLES)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    problem = keras_problem(build_model, (x, y), loss, batch_size=batch)
    instance = problem.init(0)
    optimizer = common.learned(name)
    args = LossArgs(scale_objective=False, use_log_objective=False)
    meta = MetaStep(
        optimizer,
        problem,
        MetaLoss(args, "sum"),
        estimator=(
            TruncatedBackprop(second_derivatives=True)
            if second_derivatives
            else ESTIMATORS.find(estimator)()
        ),
        optimizees=optimizees,
        replicas=replicas,
    )
    if imitation:
        create = functools.partial(keras.optimizers.Adam, 0.01)
        meta.imitation = meta.layout.make(
            lambda: ImitationLoss(
                args,
                "sum",
                teachers=[
                    Teacher(create, meta.optimizee, instance.params, False, meta.estimator.copies)
                ],
            )
        )
    adam = keras.optimizers.Adam(1e-3)
    adam.build(optimizer.network.trainable_variables)
    own = meta.layout.own
    state = meta.layout.stack([meta.start(problem.init(seed), seed=seed) for seed in own])
    drawn = rng.geometric(1 / unroll, LENGTHS).tolist() if geometric else [unroll]
    unrolls = itertools.cycle([(meta.stream(own, 0, n + 1), n) for n in drawn])
    draws = meta.seeds(own)
    step = meta.imitate if imitation else meta.train

    def call() -> int:
        batches, length = next(unrolls)
        result, _ = step(adam, draws, state, batches, length)
        # An unroll that ended early, or was not applied, is less work.
        if not (np.all(result.complete) and np.all(result.finite)):
            raise SystemExit("the unroll diverged: nothing was measured")
        return length

    return call


def peers(args: argparse.Namespace) -> list[str]:
    """Returns the peers to run; tells on stderr which are left out and why."""
    if args.no_peers:
        return []
    alike = not args.imitation and args.optimizees == [1] and args.units == 20
    alike = alike and args.estimator == "TruncatedBackprop"
    alike = alike and args.batch == BATCH and not args.geometric
    if not alike or "DM" not in args.optimizer:
        print(
            "peers are left out: they run DM by truncated backpropagation on the meta-loss, with "
            "one optimizee of 20 units, unrolls of one length and batches of 64",
            file=sys.stderr,
        )
        return []
    try:
        tried = subprocess.run(
            [args.jax_python, "-c", "import jax"], capture_output=True, check=False
        )
    except OSError:
        tried = None
    if tried is None or tried.returncode:
        print(
            f"jax and jax-checkpoint are left out: {args.jax_python} cannot import jax "
            "(--jax-python PATH names an interpreter that can)",
            file=sys.stderr,
        )
        return ["naive-tf"]
    return list(PEERS)


def command(
    args: argparse.Namespace, name: str, features: int, unroll: int, optimizees: int
) -> list[str]:
    """Returns the command that measures one row once."""
    here = Path(__file__).resolve()
    if name == "naive-tf":
        start = [sys.executable, str(here.parent / "peers" / "naive_tf.py")]
    elif name in PEERS:
        start = [args.jax_python, str(here.parent / "peers" / "jax_unroll.py")]
        start += ["--checkpoint"] * (name == "jax-checkpoint")
    else:
        start = [sys.executable, str(here), "--worker", name]
        start += [f"--optimizees={optimizees}", f"--units={args.units}"]
        start += [f"--estimator={args.estimator}"]
        start += ["--imitation"] * args.imitation + ["--geometric"] * args.geometric
        start += [f"--batch={args.batch}"]
    return [
        *start,
        *(f"--features={features}", f"--unroll={unroll}", f"--seconds={args.seconds}"),
        *["--second-derivatives"] * args.second_derivatives,
    ]


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
    for name, default, text in (
        ("--features", "64,784", "inputs of the optimizee"),
        ("--unroll", "20,100", "inner steps of a meta-step"),
        ("--optimizees", "1", "optimizees of a meta-step; inner steps are summed over them"),
    ):
        parser.add_argument(
            name,
            type=common.listed(common.positive(int)),
            default=default,
            metavar="N,M",
            help=f"{text} [%(default)s]",
        )
    parser.add_argument(
        "--units", type=common.positive(int), default=20, help="hidden units of the optimizee [20]"
    )
    parser.add_argument(
        "--estimator",
        choices=list(UNROLLS),
        default="TruncatedBackprop",
        help="the estimator of meta-gradients [%(default)s]",
    )
    parser.add_argument(
        "--second-derivatives",
        action="store_true",
        help="differentiate the optimizee's gradients too",
    )
    parser.add_argument(
        "--imitation", action="store_true", help="train on the imitation loss, with Adam 0.01"
    )
    parser.add_argument(
        "--batch", type=common.positive(int), default=BATCH, help="examples in a mini-batch [64]"
    )
    parser.add_argument(
        "--geometric",
        action="store_true",
        help="draw the length of each unroll, geometric with the mean --unroll",
    )
    parser.add_argument("--no-peers", action="store_true", help="measure only this project")
    parser.add_argument(
        "--jax-python",
        default=sys.executable,
        metavar="PATH",
        help="an interpreter that has jax [this one]",
    )
    parser.add_argument("--worker", choices=OPTIMIZERS, help=argparse.SUPPRESS)
    common.add_common_options(parser, seconds=3)
    args = parser.parse_args()
    if args.second_derivatives and args.estimator != "TruncatedBackprop":
        parser.error(f"{args.estimator} has no --second-derivatives")
    return args


def main() -> None:
    """Runs the measurements that the command line asks for."""
    args = parse()
    if args.worker:
        print(json.dumps(measure(args, args.features[0], args.unroll[0], args.optimizees[0])))
        return
    peer_names = peers(args)
    kind = {
        "estimator": args.estimator,
        "second_derivatives": args.second_derivatives,
        "imitation": args.imitation,
    }
    cases = [
        common.Case(
            {"optimizer": name, "features": features, "unroll": unroll, "optimizees": optimizees},
            command(args, name, features, unroll, optimizees),
        )
        for features in args.features
        for unroll in args.unroll
        for optimizees in args.optimizees
        for name in (*args.optimizer, *peer_names)
    ]
    rows = common.run_alternately(cases, args.repeats, spread="inner_steps_per_s")
    for row in rows:
        row.pop("loss", None)
        fastest = max(
            (
                r["inner_steps_per_s"]
                for r in rows
                if r["optimizer"] in PEERS
                and (r["features"], r["unroll"]) == (row["features"], row["unroll"])
            ),
            default=None,
        )
        row["ratio_to_fastest_peer"] = fastest and row["inner_steps_per_s"] / fastest
        row.update(kind)
    common.report(
        rows,
        args.json,
        {
            "optimizer": lambda r: r["optimizer"],
            "features": lambda r: str(r["features"]),
            "unroll": lambda r: str(r["unroll"]),
            "optimizees": lambda r: str(r["optimizees"]),
            "inner steps/s": lambda r: common.number(r["inner_steps_per_s"]),
            "min - max": common.both_ends("inner_steps_per_s"),
            "first call s": lambda r: common.number(r["trace_s"]),
            "peak RSS MB": lambda r: common.number(r["peak_rss_mb"]),
            "to fastest peer": lambda r: common.number(r["ratio_to_fastest_peer"]),
        },
    )
    if len(rows) < len(cases):
        sys.exit(1)


if __name__ == "__main__":
    main()
