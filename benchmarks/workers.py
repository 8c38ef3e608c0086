"""Speed of meta-training with worker processes of one core each, on the loopback interface.

    python benchmarks/workers.py --optimizer DM --optimizees 4

The meta-steps are those of meta_step.py (64 features, unroll 20); `--optimizees` is the number of
optimizees of each worker. One worker on one core is the reference for the others. "all-reduce" is
the time of only the sum of the gradients and the results over all workers.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from benchmarks.meta_step import OPTIMIZERS, prepare

FEATURES, UNROLL = 64, 20
WARM_UP, CALLS, SUMS = 5, 100, 300


def measure(name: str, optimizees: int) -> common.Row:
    """Measures the speed of all workers together, from within one of them."""
    import tensorflow as tf

    import l2o
    from l2o.train import join

    replicas = join("multi_worker" if "TF_CONFIG" in os.environ else "none", lambda text: None)
    call = prepare(name, FEATURES, UNROLL, optimizees, replicas=replicas)
    weights = getattr(l2o, f"{name}Optimizer")().network.trainable_variables
    numbers = sum(w.shape.num_elements() for w in weights) + 1 + 5 * optimizees * replicas.count

    @tf.function(autograph=False)
    def total() -> tf.Tensor:
        return replicas.total([[tf.ones([numbers])]])[0]

    def seconds(function, times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            function()
        return (time.perf_counter() - start) / times

    # All workers make the same number of calls, because they wait for each other.
    seconds(call, WARM_UP)
    seconds(total, WARM_UP)
    return {
        "inner_steps_per_s": UNROLL * optimizees * replicas.count / seconds(call, CALLS),
        "all_reduce_ms": 1e3 * seconds(total, SUMS) if replicas.count > 1 else 0.0,
        "kilobytes": 4 * numbers / 1e3,
    }


def start(name: str, optimizees: int, count: int) -> None:
    """Runs `count` workers, each on its own core, and prints the measurement of the first."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, __file__, f"--measure={name}", f"--optimizees={optimizees}"]
    workers = []
    for i in range(count):
        environment = dict(os.environ)
        if count > 1:
            task = {"type": "worker", "index": i}
            environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        os.sched_setaffinity(0, {cores[i % len(cores)]})
        workers.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE))
    outputs = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        sys.exit(1)
    print(outputs[0].decode().splitlines()[-1])


def main() -> None:
    """Runs the measurements that the command line asks for."""
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
    for option, default, text in (
        ("--optimizees", "4", "optimizees of each worker"),
        ("--workers", "1,2", "number of workers"),
    ):
        parser.add_argument(
            option,
            type=common.listed(common.positive(int)),
            default=default,
            metavar="N,M",
            help=f"{text} [%(default)s]",
        )
    parser.add_argument("--measure", choices=OPTIMIZERS, help=argparse.SUPPRESS)
    parser.add_argument("--start", choices=OPTIMIZERS, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=common.positive(int), default=3, help="[%(default)s]")
    parser.add_argument("--json", action="store_true", help="one JSON line per row, no table")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.optimizees[0])))
        return
    if args.start:
        start(args.start, args.optimizees[0], args.workers[0])
        return
    cases = [
        common.Case(
            {"optimizer": name, "optimizees": optimizees, "workers": workers},
            [
                sys.executable,
                __file__,
                f"--start={name}",
                f"--optimizees={optimizees}",
                f"--workers={workers}",
            ],
        )
        for name in args.optimizer
        for optimizees in args.optimizees
        for workers in args.workers
    ]
    rows = common.run_alternately(cases, args.repeats, spread="inner_steps_per_s")
    common.report(
        rows,
        args.json,
        {
            "optimizer": lambda r: r["optimizer"],
            "optimizees of each": lambda r: str(r["optimizees"]),
            "workers": lambda r: str(r["workers"]),
            "inner steps/s": lambda r: common.number(r["inner_steps_per_s"]),
            "min - max": common.both_ends("inner_steps_per_s"),
            "all-reduce ms": lambda r: common.number(r["all_reduce_ms"]),
            "kB": lambda r: common.number(r["kilobytes"]),
        },
    )
    if len(rows) < len(cases):
        sys.exit(1)


if __name__ == "__main__":
    main()
