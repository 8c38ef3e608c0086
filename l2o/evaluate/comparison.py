"""Compares learned optimizers with the baselines on a problem."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2o.disk.packing import digest
from l2o.evaluate import metrics
from l2o.evaluate.baselines import LEARNED_RATES, RATES, TUNING_SEEDS, best_rate, tune
from l2o.evaluate.cache import Cache
from l2o.evaluate.probe import Probe, probe
from l2o.evaluate.protocol import Protocol
from l2o.evaluate.runs import Run, run
from l2o.evaluate.schedules import SCHEDULES, Rate
from l2o.evaluate.suites import Case
from l2o.evaluate.timing import relative_times
from l2o.optimizer import TrainableOptimizer
from l2o.problems import KerasProblem, Problem
from l2o.problems.held_out import with_validation_split

# Number of steps whose updates a report shows.
PROBED_STEPS = 100

Told = Callable[[str, int, float], None]
# Makes an optimizer of a learning rate or schedule, and of a weight decay; None: its own.
Create = Callable[[Rate, float | None], keras.optimizers.Optimizer]


class Entry(NamedTuple):
    """The results of an optimizer on a problem.

    run: Its run on the scored seeds.
    rates: The mean final loss that tuning minimises, on the tuning seeds, by learning rate (at
        the best weight decay, if that is tuned too); None for a learned optimizer that is not
        tuned.
    time: Wall-clock time of a step of one model, relative to that of Adam; NaN if it diverged.
    weight_decays: `rates` by weight decay; empty if only the learning rate is tuned.
    """

    run: Run
    rates: dict[float, float] | None
    time: float
    weight_decays: Mapping[float, dict[float, float]] = {}

    def setting(self) -> str:
        """Returns what was tuned, in words; nothing if nothing was."""
        return _setting(self.rates, self.weight_decays)


class _Tuned(NamedTuple):
    optimizer: keras.optimizers.Optimizer
    rates: dict[float, float] | None
    weight_decays: Mapping[float, dict[float, float]]

    def setting(self) -> str:
        return _setting(self.rates, self.weight_decays)


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

    def named(self) -> dict[str, Entry]:
        """Returns all results; labels of baselines have no rate, which differs by problem."""
        return {**self.learned, **{k.split(" ")[0]: entry for k, entry in self.baselines.items()}}

    def rate_of(self, baseline: str) -> float:
        """Returns the best learning rate of a baseline, given its name without a rate."""
        rates = self.named()[baseline].rates
        assert rates is not None
        return best_rate(rates)

    def best_by(self, measure: str) -> str:
        """Returns the label of the baseline with the smallest mean of a measure of `Run`."""
        means = {k: _or_inf(getattr(e.run, measure).mean()) for k, e in self.baselines.items()}
        return min(means, key=lambda label: means[label])

    def losses(self) -> list[str]:
        """Returns which of "train_loss" and "test_loss" the problem has."""
        runs = [entry.run for entry in self.entries().values()]
        tested = not all(np.isnan(run.test_loss).all() for run in runs)
        return ["train_loss", "test_loss"] if tested else ["train_loss"]

    def ratio(self, label: str, measure: str = "train_loss") -> metrics.Ratio:
        """Returns the ratio of an optimizer's loss to that of the best baseline by this loss.

        Args:
            label: As in `entries`.
            measure: One of `losses` ["train_loss"].
        """
        other = self.best if measure == "train_loss" else self.best_by(measure)
        return metrics.ratio(self.entries()[label].run, self.baselines[other].run, measure)

    def speed_up(self, label: str) -> metrics.SpeedUp:
        """Returns how many times as many steps Adam takes to the optimizer's final loss."""
        return metrics.speed_up(self.entries()[label].run, self.named()["Adam"].run)


def compare(
    case: Case,
    problem: Problem,
    learned: Mapping[str, TrainableOptimizer],
    seeds: int,
    cache: Cache,
    target: float | None = None,
    on_steps: Told | None = None,
    protocol: Protocol = Protocol(),  # noqa: B008  it cannot change
) -> Comparison:
    """Trains models with learned optimizers and with the baselines, and compares them.

    Args:
        case: The problem and the number of steps.
        problem: The problem of the case.
        learned: The learned optimizers by label.
        seeds: Number of models that each optimizer trains.
        cache: Results that were computed before; new results are added.
        target: A loss for `metrics.steps_to`; None: the final loss of the best baseline [None].
        on_steps: Called with a label and the arguments of `on_steps` of `run` [None].
        protocol: The baselines, what is tuned, and the schedule [the default one].
    """
    about = {**_what(case, problem), "steps": case.steps}
    score = range(seeds)
    tuning = range(TUNING_SEEDS, TUNING_SEEDS + (protocol.tuning_seeds or seeds))
    schedule = SCHEDULES.find(protocol.schedule)
    tuning_problem, measure = tuning_of(problem, protocol)

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

    def tuned(
        label: str, create: Create, decay: float | None, numbers: Sequence[int]
    ) -> dict[float, float]:
        def fresh() -> keras.optimizers.Optimizer:
            return create(schedule(1.0, case.steps), decay)

        key = {
            "tune": about,
            "optimizer": _content(fresh()),
            "seeds": list(tuning),
            # `_what` is that of the whole problem.
            **({} if tuning_problem is problem else {"for": "validation"}),
        }
        found = cache.get(key)
        if found is None:
            on = told(f"tuning {label}")
            rates = tune(tuning_problem, fresh, case.steps, tuning, numbers, on, measure)
            found = {"rates": np.array(list(rates)), "means": np.array(list(rates.values()))}
            cache.put(key, found)
        return dict(zip(found["rates"].tolist(), found["means"].tolist(), strict=True))

    def searched(
        label: str, create: Create, decays: Sequence[float | None], numbers: Sequence[int]
    ) -> _Tuned:
        by_decay = {decay: tuned(label, create, decay, numbers) for decay in decays}
        decay = min(by_decay, key=lambda k: _least(by_decay[k]))
        rates = by_decay[decay]
        optimizer = create(schedule(best_rate(rates), case.steps), decay)
        return _Tuned(optimizer, rates, {k: v for k, v in by_decay.items() if k is not None})

    def as_it_is(optimizer: TrainableOptimizer) -> _Tuned:
        scheduled = protocol.schedule != "constant"
        own = with_rate(optimizer, schedule(1.0, case.steps)) if scheduled else optimizer
        return _Tuned(own, None, {})

    chosen: dict[str, _Tuned] = {}
    for label, optimizer in learned.items():
        chosen[label] = (
            searched(label, partial(with_rate, optimizer), protocol.learned_decays(), LEARNED_RATES)
            if protocol.tune_learned
            else as_it_is(optimizer)
        )
    for baseline in protocol.chosen():
        best = searched(baseline.label, baseline.create, baseline.weight_decays or (None,), RATES)
        chosen[f"{baseline.label} {best.setting()}"] = best
    optimizers = {label: one.optimizer for label, one in chosen.items()}
    runs = {label: scored(label, optimizer) for label, optimizer in optimizers.items()}
    adam = next(label for label in chosen if label not in learned and label.startswith("Adam "))
    times = _times(_what(case, problem), problem, optimizers, adam, cache)
    entries = {
        label: Entry(runs[label], one.rates, times[label], one.weight_decays)
        for label, one in chosen.items()
    }
    baselines = {label: entry for label, entry in entries.items() if label not in learned}
    winner = min(baselines, key=lambda label: _or_inf(runs[label].train_loss.mean()))
    if target is None:
        target = metrics.target_of(runs[winner])
    return Comparison(case, {k: entries[k] for k in learned}, baselines, winner, target)


def tuning_of(problem: Problem, protocol: Protocol) -> tuple[Problem, str]:
    """Returns the problem that settings are tuned on, and the measure of `Run` that chooses them.

    Args:
        problem: The problem.
        protocol: How optimizers are made comparable.

    Raises:
        UserError: If the problem has too few examples to hold some out.
    """
    if protocol.tuned_for == "validation" and isinstance(problem, KerasProblem):
        return with_validation_split(problem), "test_loss"
    return problem, "train_loss"


def with_rate(
    optimizer: TrainableOptimizer, learning_rate: Rate, weight_decay: float | None = None
) -> TrainableOptimizer:
    """Returns a learned optimizer with another learning rate, a number or a schedule.

    Args:
        optimizer: The optimizer.
        learning_rate: The learning rate.
        weight_decay: Another weight decay, too; 0: none [None: its own].
    """
    config = {**optimizer.get_config(), "learning_rate": learning_rate}
    if weight_decay is not None:
        # An optimizer without one may have been tuned already.
        config["weight_decay"] = weight_decay or None
    return type(optimizer).from_config(config)


def _setting(
    rates: dict[float, float] | None, weight_decays: Mapping[float, dict[float, float]]
) -> str:
    """Returns the best rate and, if it was tuned too, the best weight decay, in words."""
    if rates is None:
        return ""
    decays = [decay for decay, own in weight_decays.items() if own == rates]
    return f"{best_rate(rates):g}{f' wd {decays[0]:g}' if decays else ''}"


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


def _least(means: Mapping[float, float]) -> float:
    return min(_or_inf(mean) for mean in means.values())


def _or_inf(value: float) -> float:
    return float(value) if np.isfinite(value) else np.inf
