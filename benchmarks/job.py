"""A whole job on MNIST: its rate against that of its meta-steps alone, and when it begins.

    TFDS_DATA_DIR=DIRECTORY python benchmarks/job.py --json

The job is the sample configuration, config/presets/sample.json, which imitates Adam: DM on an MLP
784-20-10, batches of 8, geometric unroll lengths with a mean of 20. Its rate is that of the unrolls
as `l2o train` runs them, with everything between them. The meta-step is that of meta_step.py with
the same options. "time in meta-steps" is the share of the job's time in which a compiled meta-step
ran: on a busy machine it says more than two rates. "first" is the time from the command to the end
of the first meta-step: "cold" without the cache of decoded images, and then with it. All take
turns, each in a process of its own. The table has medians. `--profile FILE` writes where one start
spends its time instead.
"""

from __future__ import annotations

import time

STARTED = time.monotonic()

import argparse  # noqa: E402
import cProfile  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import common  # noqa: E402

SAMPLE = ROOT / "config/presets/sample.json"
# The first unrolls are traced.
TRACED = 5
META_STEP = (
    "--worker=DM", "--imitation", "--features=784", "--batch=8", "--unroll=20", "--geometric",
)  # fmt: skip


def work(seconds: float, cold: bool) -> common.Row:
    """Runs the job as `l2o train` does, until its unrolls were timed for some seconds."""
    with tempfile.TemporaryDirectory() as folder:
        if cold:
            os.environ["L2O_CACHE"] = f"{folder}/cache"
        from config.command_line import import_quietly
        from config.overrides import merge_all

        config = merge_all(SAMPLE, [], [f"directory={folder}/run"])
        import_quietly()
        from l2o.train import Training
        from l2o.train.outer.meta_step import MetaStep
        from l2o.train.session import start

        times, steps, busy = [], [], []
        train, run = Training.train, MetaStep._run

        class Done(BaseException):
            """Ends the job."""

        def timed(self: Any, *args: Any) -> Iterator[Any]:
            for unroll in train(self, *args):
                times.append(time.monotonic())
                steps.append(unroll.steps)
                if len(times) > TRACED and times[-1] - times[TRACED - 1] > seconds:
                    raise Done
                yield unroll

        def computed(self: Any, *args: Any) -> Any:
            begun = time.monotonic()
            result = run(self, *args)
            busy.append(time.monotonic() - begun)
            return result

        Training.train = timed  # type: ignore[method-assign]
        MetaStep._run = computed  # type: ignore[method-assign]
        printed, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115
        try:
            start(config)
        except Done:
            pass
        finally:
            sys.stdout = printed
        seconds = times[-1] - times[TRACED - 1]
        return {
            "inner_steps_per_s": sum(steps[TRACED:]) / seconds,
            "in_meta_steps": sum(busy[TRACED - len(times) :]) / seconds,
            "first_s": times[0] - STARTED,
        }


def main() -> None:
    """Runs the measurements that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", metavar="FILE", help="for pstats; of one start")
    parser.add_argument("--worker", choices=("cold", "warm"), help=argparse.SUPPRESS)
    common.add_common_options(parser, seconds=20)
    args = parser.parse_args()
    if args.profile:
        cProfile.runctx("work(0.1, False)", globals(), {}, args.profile)
        return
    if args.worker:
        print(json.dumps(work(args.seconds, args.worker == "cold")))
        return
    own = [sys.executable, str(Path(__file__).resolve()), f"--seconds={args.seconds}"]
    meta_step = [sys.executable, str(ROOT / "benchmarks/meta_step.py"), *META_STEP]
    cases = [
        common.Case({"what": "meta-step"}, [*meta_step, f"--seconds={args.seconds}"]),
        *(
            common.Case({"what": f"job, {cache}"}, [*own, f"--worker={cache}"])
            for cache in ("cold", "warm")
        ),
    ]
    rows = common.run_alternately(cases, args.repeats, spread="inner_steps_per_s")
    if len(rows) < len(cases):
        sys.exit(1)
    for row in rows:
        row["ratio"] = row["inner_steps_per_s"] / rows[0]["inner_steps_per_s"]
    common.report(
        rows,
        args.json,
        {
            "what": lambda r: r["what"],
            "inner steps/s": lambda r: common.number(r["inner_steps_per_s"]),
            "min - max": common.both_ends("inner_steps_per_s"),
            "of the meta-step": lambda r: common.number(r["ratio"]),
            "time in meta-steps": lambda r: common.number(r.get("in_meta_steps")),
            "first s": lambda r: common.number(r.get("first_s")),
        },
    )


if __name__ == "__main__":
    main()
