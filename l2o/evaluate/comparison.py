"""Compares learned optimizers with the baselines on a problem."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2o.disk.packing import digest
from l2o.evaluate import metrics
from l2o.evaluate.baselines import BASELINES, TUNING_SEEDS, Baseline, best_rate, tune
from l2o.evaluate.cache import Cache
from l2o.evaluate.probe import Probe, probe
from l2o.evaluate.runs import Run, run
from l2o.evaluate.suites import Case
from l2o.evaluate.timing import relative_times
from l2o.optimizer import TrainableOptimizer
from l2o.problems import KerasProblem, Problem

# Number of steps whose updates a report shows.
PROBED_STEPS = 100

Told = Callable[[str, int, float], None]


class Entry(NamedTuple):
    """The results of an optimizer on a problem.

    run: Its run on the scored seeds.
    rates: The mean final training loss of a baseline on the tuning seeds, by learning rate;
        None for a learned optimizer, which is not tuned.
    time: Wall-clock time of a step of one model, relative to that of Adam; NaN if it diverged.
    """

    run: Run
    rates: dict[float, float] | None
    time: float


class Comparison(NamedTuple):
    """The results of all optimizers on one problem.

    case: The problem.
    learned: The learned optimizers by label; no label is a baseline's.
    baselines: The baselines by label.
    best: Label of the baseline with the smallest mean final training loss.
    target: The loss for `metrics.steps_to`.
    """

    case: Case
    learned: dict[str, Entry]
    baselines: dict[str, Entry]
    best: str
    target: float

    def entries(self) -> dict[str, Entry]:
        """Returns all results by label, those of learned optimizers first."""
        return {**self.learned, **self.baselines}

    def rate_of(self, baseline: str) -> float:
        """Returns the best learning rate of a baseline, given its name without a rate."""
        names = [one.label for one in BASELINES]
        rates = list(self.baselines.values())[names.index(baseline)].rates
        assert rates is not None
        return best_rate(rates)

    def ratio(self, label: str) -> metrics.Ratio:
        """Returns the ratio of an optimizer's training loss to that of the best baseline."""
        return metrics.ratio(self.entries()[label].run, self.baselines[self.best].run)


def compare(
    case: Case,
    problem: Problem,
    learned: Mapping[str, TrainableOptimizer],
    seeds: int,
    cache: Cache,
    target: float | None = None,
    on_steps: Told | None = None,
) -> Comparison:
    """Trains models with learned optimizers and with the baselines, and compares them.

    Args:
        case: The problem and the number of steps.
        problem: The problem of the case.
        learned: The learned optimizers by label.
        seeds: Number of models that each optimizer trains; tuning trains as many others.
        cache: Results that were computed before; new results are added.
        target: A loss for `metrics.steps_to`; None: the final loss of the best baseline [None].
        on_steps: Called with a label and the arguments of `on_steps` of `run` [None].
    """
    about = {**_what(case, problem), "steps": case.steps}
    score, tuning = range(seeds), range(TUNING_SEEDS, TUNING_SEEDS + seeds)

    def told(label: str) -> Callable[[int, float], None] | None:
        return None if on_steps is None else lambda count, loss: on_steps(label, count, loss)

    def scored(label: str, optimizer: keras.optimizers.Optimizer) -> Run:
        key = {"run": about, "optimizer": _content(optimizer), "seeds": list(score)}
        found = cache.get(key)
        if found is None:
            result = run(problem, optimizer, case.steps, score, on_steps=told(label))
            found = {name: np.asarray(v) for name, v in zip(Run._fields, result, strict=True)}
            cache.put(key, found)
        values = [found[name] for name in Run._fields[:-1]]
        return Run._make([*values, float(found["seconds"])])

    def tuned(baseline: Baseline) -> dict[float, float]:
        key = {"tune": about, "optimizer": _content(baseline.create(1.0)), "seeds": list(tuning)}
        found = cache.get(key)
        if found is None:
            rates = tune(problem, baseline, case.steps, tuning, told(f"tuning {baseline.label}"))
            found = {"rates": np.array(list(rates)), "means": np.array(list(rates.values()))}
            cache.put(key, found)
        return dict(zip(found["rates"].tolist(), found["means"].tolist(), strict=True))

    optimizers: dict[str, keras.optimizers.Optimizer] = dict(learned)
    rates: dict[str, dict[float, float]] = {}
    for baseline in BASELINES:
        means = tuned(baseline)
        label = f"{baseline.label} {best_rate(means):g}"
        optimizers[label], rates[label] = baseline.create(best_rate(means)), means
    runs = {label: scored(label, optimizer) for label, optimizer in optimizers.items()}
    adam = next(label for label in rates if label.startswith("Adam "))
    times = _times(_what(case, problem), problem, optimizers, adam, cache)
    entries = {label: Entry(runs[label], rates.get(label), times[label]) for label in runs}
    baselines = {label: entries[label] for label in rates}
    best = min(baselines, key=lambda label: _or_inf(runs[label].train_loss.mean()))
    if target is None:
        target = metrics.target_of(runs[best])
    return Comparison(case, {k: entries[k] for k in learned}, baselines, best, target)


def probed(case: Case, problem: Problem, optimizer: TrainableOptimizer, cache: Cache) -> Probe:
    """Returns the result of `probe` on the first steps of a case, at most `PROBED_STEPS`.

    Args:
        case: The problem and the number of steps.
        problem: The problem of the case.
        optimizer: As for `probe`.
        cache: As for `compare`.
    """
    steps = min(PROBED_STEPS, case.steps)
    key = {"probe": _what(case, problem), "steps": steps, "optimizer": _content(optimizer)}
    found = cache.get(key)
    if found is None:
        found = probe(problem, optimizer, steps)._asdict()
        cache.put(key, found)
    return Probe(**found)


def _what(case: Case, problem: Problem) -> dict[str, Any]:
    """Returns everything that determines a problem, for a key of the cache."""
    return {"target": case.target, "kwargs": case.kwargs, "data": _data(problem)}


def _times(
    about: Mapping[str, Any],
    problem: Problem,
    optimizers: Mapping[str, keras.optimizers.Optimizer],
    adam: str,
    cache: Cache,
) -> dict[str, float]:
    """Returns the time of a step of one model by label, relative to that of `adam`."""
    machine = f"{platform.node()} {platform.machine()}, {os.cpu_count()} cores"
    about = {**about, "machine": machine}
    keys = {label: {"time": about, "optimizer": _content(o)} for label, o in optimizers.items()}
    known = {label: cache.get(key) for label, key in keys.items()}
    found = {label: float(v["ratio"]) for label, v in known.items() if v is not None}
    found[adam] = 1.0
    new = [label for label in optimizers if label not in found]
    if not new:
        return found
    for label, ratio in relative_times(
        problem, {label: optimizers[label] for label in [adam, *new]}, adam
    ).items():
        found[label] = ratio
        if label != adam:
            cache.put(keys[label], {"ratio": np.array(ratio)})
    return found


def _data(problem: Problem) -> str | None:
    if not isinstance(problem, KerasProblem):
        return None
    splits = (problem.dataset.train, problem.dataset.test)
    leaves = tf.nest.flatten([list(split) for split in splits if split])
    return digest({str(i): np.asarray(leaf) for i, leaf in enumerate(leaves)})


def _content(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """Returns everything that determines an optimizer, learned weights included, for a key."""
    config = optimizer.get_config()
    # The name has a number that depends on how many optimizers were made before.
    del config["name"]
    if "learned" in config:
        config["learned"] = hashlib.sha256(repr(config["learned"]).encode()).hexdigest()
    return {"class": type(optimizer).__name__, "config": config}


def _or_inf(value: float) -> float:
    return float(value) if np.isfinite(value) else np.inf
