"""Saves what runs have learned for l2o: `python docs/make_pretrained.py runs/rnnprop-digits ...`.

See `make pretrained`. docs/make_reproduction.py adds the results to the cards.
"""

import csv
import json
import sys
from collections import Counter
from pathlib import Path

import l2o
from l2o.options import options_of
from l2o.problems import PROBLEMS, WRAPPERS
from l2o.train import RunDirectory
from l2o.train.loading import SHIPPED


def main(directories: list[str]) -> None:
    """Saves the best period of each run under the run's name, with a card."""
    for directory in directories:
        run, name = RunDirectory(directory), Path(directory).name
        config = run.read_config()
        l2o.load(directory).save(SHIPPED / name, about(name, config))
        (SHIPPED / name / "card.md").write_text(card(name, run, config), "utf-8")
        # The card that is to be filled in.
        (SHIPPED / name / "README.md").unlink()
        print(f"{name}: {l2o.pretrained()[name]}")


def about(name: str, config: dict) -> str:
    """Returns a line with the optimizer and what it was trained on."""
    kinds: Counter[str] = Counter()
    for spec in config["problems"]:
        dataset = f" ({spec['kwargs']['dataset']})" if "dataset" in spec["kwargs"] else ""
        kinds[spec["target"] + dataset] += spec.get("draws", 1) if spec.get("sample") else 1
    problems = ", ".join(
        f"{count} x {kind}" if count > 1 else kind for kind, count in kinds.items()
    )
    return (
        f"{config['constructor']}, trained on {problems}; preset {name}, "
        f"{config['strategy']['num_periods']} periods, seed {config['seed']}"
    )


def card(name: str, run: RunDirectory, config: dict) -> str:
    """Returns the model card of a run, without results."""
    best, rows = run.best(), run.rows()
    with run.log_path.open() as file:
        log = list(csv.DictReader(file))
    minutes = sum(float(row["seconds"]) for row in log if row["seconds"]) / 60
    problems = "\n".join(f"* {_problem(spec)}" for spec in config["problems"])
    # The same problem several times makes a validation less noisy.
    times = Counter(_problem(spec) for spec in config["validation_problems"])
    validated = "\n".join(f"* {n} x {p}" if n > 1 else f"* {p}" for p, n in times.items())
    cores = (
        "one of 2 cores" if config["estimator_constructor"] == "TruncatedBackprop" else "2 cores"
    )
    return f"""# {name}

    model.compile(optimizer=l2o.load("{name}"), ...)

{config["constructor"]}, trained by one command, with the options of the preset of that name:

    l2o train --preset {name} directory=runs/{name}

## Training

| | |
|---|---|
| periods | {len(rows)} |
| unrolls | {sum(row.unrolls for row in rows):,} |
| inner steps | {sum(row.inner_steps for row in rows):,} |
| seed | {config["seed"]} |
| imitates at first | {_teachers(config)} |
{_start(config)}| time | {minutes:.0f} minutes on {cores} |

Trained on

{problems}

The learned weights are those of period {best.period}. It has the smallest validation loss,
{best.validation_loss:.3f}. The validation loss is the mean of {_scored(config)}
{config["strategy"]["validation_unroll"]} steps of

{validated}
"""


def _scored(config: dict) -> str:
    args = config["loss_args"]
    loss = "log(f / f at the start)" if args["scale_objective"] else "log f"
    held_out = " on held-out examples" if args["split"] == "held_out" else ""
    tail = config["training"]["unroll_weights"] == "tail"
    return f"{loss}{held_out} over {'the last tenth of ' if tail else ''}".rstrip()


def _start(config: dict) -> str:
    start = config["initial_weights"]
    return f"| starts from | {start} |\n" if start else ""


def _teachers(config: dict) -> str:
    training = config["training"]
    if not training["p_teacher"]:
        return "nothing"
    return ", ".join(
        f"{teacher['class_name']}, learning rate {json.dumps(teacher['config']['learning_rate'])}"
        for teacher in training["teachers"]
    )


def _problem(spec: dict) -> str:
    defaults = {k: o.default for k, o in options_of(PROBLEMS.find(spec["target"])).items()}
    options = ", ".join(
        f"{k}={json.dumps(v)}"
        for k, v in spec["kwargs"].items()
        if k in ("dataset", "layers", "activation", "batch_size") or v != defaults[k]
    )
    wrappers = "".join(f" in {_wrapper(w)}" for w in spec["wrappers"])
    if spec.get("sample"):
        drawn = ", ".join(f"{k}={_distribution(v)}" for k, v in spec["sample"].items())
        options = f"{options}, {drawn}" if options else drawn
    count = f"{spec['draws']} drawn of " if spec.get("sample") else ""
    return f"{count}{spec['target']}({options}){wrappers}"


def _distribution(spec: dict) -> str:
    ((kind, of),) = spec.items()
    return f"one of {json.dumps(of)}" if kind == "choice" else json.dumps(spec)


def _wrapper(spec: dict) -> str:
    defaults = {k: o.default for k, o in options_of(WRAPPERS.find(spec["target"])).items()}
    options = ", ".join(
        f"{k}={v if isinstance(v, str) else f'{v:g}'}"
        for k, v in spec["kwargs"].items()
        if not isinstance(v, str) or v != defaults[k]
    )
    return f"{spec['target']}({options})"


if __name__ == "__main__":
    main(sys.argv[1:])
