"""Ships what runs have learned: `python docs/make_pretrained.py runs/rnnprop-digits ...`."""

import json
import sys
from pathlib import Path

import l2o
from l2o.train import RunDirectory
from l2o.train.loading import SHIPPED


def main(directories: list[str]) -> None:
    """Saves the best period of each run under the run's name."""
    for directory in directories:
        run, name = RunDirectory(directory), Path(directory).name
        l2o.load(directory).save(SHIPPED / name, about(run.read_config(), len(run.rows())))
        print(f"{name}: {l2o.pretrained()[name]}")


def about(config: dict, periods: int) -> str:
    """Says what a run was trained on."""
    problems = [_problem(spec) for spec in config["problems"]]
    return (
        f"{config['constructor']}, trained on {'; '.join(problems)}, each for "
        f"{config['training']['epochs']} epochs. {periods} periods, seed {config['seed']}, "
        "validated without the wrappers."
    )


def _problem(spec: dict) -> str:
    shown = ("dataset", "layers", "activation")
    options = ", ".join(f"{k}={json.dumps(v)}" for k, v in spec["kwargs"].items() if k in shown)
    wrappers = "".join(f" in {w['target']}" for w in spec["wrappers"])
    return f"{spec['target']}({options}){wrappers}"


if __name__ == "__main__":
    main(sys.argv[1:])
