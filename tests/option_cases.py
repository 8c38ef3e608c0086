"""Cases of options: what a user types as one, and what a run must then do.

Each owner of options has a table of cases, in a `test_*_options.py` of its own:

    cases = Cases()

    @cases.add("training/repeat", "training/repeat=3")
    def _(run): ...

    test_option_changes_what_it_should = cases.test()
    test_a_case_fails_if_its_option_is_ignored = cases.test_ignored()

The options are those of docs/options.md. tests/test_every_option.py checks that each has a case.
"""

import json
import runpy
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from config.overrides import merge_overrides
from l2o.inner.batched import take
from l2o.problems import Wrapper
from l2o.problems.keras_model import Picked
from l2o.train import join, resolve_config
from tests.running import build_runner

ROOT = Path(__file__).parent.parent

# Runs: tiny, and with a meta learning rate of 0, so that the weights of two runs are the same.

LSTMS = ("Choice", "DM", "RNNProp", "ScaleBasic")
NETWORKS = {
    **{name: {"layers": [3]} for name in LSTMS},
    "ScaleHierarchical": {"param_units": 3, "tensor_units": 2, "global_units": 2, "timescales": 3},
    "AdafacMLP": {},
    "Celo2": {},
    "LearnedMuon": {},
}
STRATEGY_OPTIONS = {
    "Simple": {"num_periods": 1, "unroll_distribution": 1, "validation_unroll": 1},
    "CurriculumLearning": {"schedule": {"base": 1, "power": 2}, "min_periods": 1},
}


def base_config(constructor="DM", strategy="Simple"):
    return {
        "constructor": constructor,
        "network": NETWORKS[constructor],
        "problems": [{"target": "Quadratic", "kwargs": {"dimensions": 2}}],
        "optimizer": {"config": {"learning_rate": 0.0}},
        "strategy_constructor": strategy,
        "strategy": {"epochs_per_period": 1, **STRATEGY_OPTIONS[strategy]},
    }


class Step(NamedTuple):
    """An unroll as the meta-step saw it; `fresh` if the optimizee is a new one."""

    kind: str
    problem: Any
    before: Any
    after: Any
    batches: Any
    length: int
    loss: float
    objective: float
    steps: int
    fresh: bool

    @property
    def start(self):
        return self.before.params[0].numpy()

    @property
    def end(self):
        return self.after.params[0].numpy()

    @property
    def delta(self):
        return self.end - self.start

    @property
    def gradient(self):
        """The first parameter's, at the start."""
        batch = tf.nest.map_structure(lambda b: b[0], self.batches)
        with tf.GradientTape() as tape:
            tape.watch(self.before.params)
            f, _ = self.problem.objective(self.before.params, self.before.model_state, batch)
        return tape.gradient(f, self.before.params)[0].numpy()

    def objective_at(self, params):
        return float(self.problem.objective(params, self.before.model_state, ())[0])


class Run(NamedTuple):
    """A run of one or a few tiny periods: its weights before and after, and all its unrolls."""

    config: dict[str, Any]
    runner: Any
    initial: list[np.ndarray]
    weights: list[np.ndarray]
    rows: list[Any]
    steps: list[Step]

    @property
    def training(self):
        return self.runner.training

    @property
    def network(self):
        return self.training.optimizer.network

    @property
    def options(self):
        return self.config["network"]

    @property
    def trained(self):
        return [step for step in self.steps if step.kind != "validate"]

    @property
    def validated(self):
        return [step for step in self.steps if step.kind == "validate"]

    @property
    def first(self):
        return self.trained[0]

    @property
    def change(self):
        return np.concatenate(
            [(b - a).ravel() for a, b in zip(self.initial, self.weights, strict=True)]
        )

    @property
    def meta_gradient(self):
        """The gradient of the only unroll, from the first moment of Keras' Adam."""
        assert len(self.trained) == 1
        moments = [v for v in self.training.meta_optimizer.variables if "momentum" in v.path]
        return np.concatenate([m.numpy().ravel() for m in moments]) / (1 - 0.9)


# The path of the option that `build` ignores, if it does.
_ignored: list[str] = []


def build(config, directory=None, replicas=None):
    """Does what `build_runner` does, but ignores an option if a test says so."""
    if _ignored:
        config = without(config, _ignored[0])
        # Joined here, because the one who asks has read the option.
        replicas = replicas and join(config["distribute"])
    return build_runner(config, directory, replicas)


def run(*overrides, constructor="DM", strategy="Simple", prepare=None, validates=False):
    """Runs what a user types as `overrides` on top of `base_config`; each run once."""
    traced = not tf.config.functions_run_eagerly()
    return cached_run(overrides, constructor, strategy, prepare, validates, traced)


@cache
def cached_run(overrides, constructor, strategy, prepare, validates, traced):
    """Does what `run` does, told everything.

    Validation takes a third of the time, so there is none (all periods are equally good)
    unless a test is about it.
    """
    config = resolve_config(merge_overrides(base_config(constructor, strategy), overrides))
    made = build(config)
    if not validates:
        made._validate = lambda period, report: 0.0
    if prepare:
        prepare(made)
    initial = weights_of(made)
    steps = spy(made.training)
    rows = made.train()
    return Run(config, made, initial, weights_of(made), rows, steps)


def weights_of(runner):
    """The learned weights, as a checkpoint has them."""
    state = runner.training.save_state()
    return [state[f"network/{i}"] for i in range(sum(n.startswith("network/") for n in state))]


def spy(training):
    """Returns a list to which every unroll of `training` will be added."""
    steps, fresh = [], []
    meta_steps = {id(s): s for s in [*training.steps, *training.validation_steps]}
    for meta_step in meta_steps.values():
        for kind in ("train", "imitate", "validate"):
            setattr(meta_step, kind, _spied(meta_step, kind, steps, fresh))
    for problem in {id(s.problem): s.problem for s in meta_steps.values()}.values():
        problem.init = _counted(problem.init, fresh)
    return steps


def _spied(meta_step, kind, steps, fresh):
    original = getattr(meta_step, kind)

    def call(*args, **seed):
        before, batches, length = args[-3:]
        result, after = original(*args, **seed)
        new = bool(fresh)
        fresh.clear()
        if isinstance(batches, Picked):
            inner = meta_step.problem
            while isinstance(inner, Wrapper):
                inner = inner.problem
            batches = inner.dataset.train.take(batches.indices.numpy())
        several = meta_step.optimizees > 1
        for k in range(meta_step.optimizees):
            *of_optimizees, _ = result
            numbers = [np.atleast_1d(v)[k].item() for v in of_optimizees]
            carries = (take(carry, k) if several else carry for carry in (before, after))
            own = tf.nest.map_structure(lambda b, k=k: b[:, k] if several else b, batches)
            numbers = [numbers[0], numbers[1], numbers[-1]]
            steps.append(Step(kind, meta_step.problem, *carries, own, length, *numbers, new))
        return result, after

    return call


def _counted(init, fresh):
    def call(seed):
        fresh.append(seed)
        return init(seed)

    return call


def close(a, b, rtol=1e-4, atol=1e-6):
    return np.shape(a) == np.shape(b) and bool(np.allclose(a, b, rtol, atol))


def base(of, validates=False):
    """The run of the same optimizer with nothing typed."""
    return run(constructor=of.config["constructor"], validates=validates)


# What several tables type, and what they look at.

LENGTH_3 = "strategy/unroll_distribution=3"
WIDE = "problems/0/kwargs/dimensions=30"
MLP = (
    'problems=[{"target": "mlp_classifier", "kwargs": {"layers": [3], "batch_size": 700}}]',
    "strategy/unroll_distribution=2",
    "strategy/validation_unroll=2",
)
# Steps so large that the gradients of the next ones matter.
LARGE_STEPS = ("network/alpha=1.0", LENGTH_3)


def teachers(*specs):
    """What is typed for teachers that every unroll imitates."""
    return f"training/teachers={json.dumps(specs)}", "training/p_teacher=1"


def sgd(rate):
    return {"class_name": "SGD", "config": {"learning_rate": rate}}


def state_of(run):
    return run.first.after.optimizer_state


# The tables.


class Case(NamedTuple):
    """What is typed, what must then be so, and on top of which base it is typed.

    within: Makes the context the run and the check take place in.
    prepare: Changes a strategy before it trains.
    validates: Whether its runs validate.
    traced: Whether its runs are traced. Runs of few steps take longer to trace than to run.
    built: Whether `build` reads the option, so that it can ignore it.
    slow: Whether it takes long, and another case or test is close to it.
    """

    typed: tuple[str, ...]
    check: Callable[[Run], None]
    constructor: str = "DM"
    strategy: str = "Simple"
    within: Callable[[Path], Any] = lambda tmp_path: nullcontext()
    prepare: Callable[[Any], None] | None = None
    validates: bool = False
    traced: bool = False
    built: bool = True
    slow: bool = False

    def made(self, tmp_path):
        """The run of what is typed."""
        return run(
            *(text.replace("{tmp_path}", str(tmp_path)) for text in self.typed),
            constructor=self.constructor,
            strategy=self.strategy,
            prepare=self.prepare,
            validates=self.validates,
        )


class Cases(dict[str, Case]):
    """A table of cases by the names of the options, as docs/options.md has them."""

    def add(self, name, *typed, check=None, **options):
        """Adds a case; as a decorator of its check, or with the check."""

        def add(check):
            assert name not in self, name
            self[name] = Case(typed, check, **options)
            return check

        return add(check) if check else add

    def test(self):
        """The test that each option changes what it should."""

        @pytest.mark.parametrize(
            "name",
            [
                pytest.param(name, marks=pytest.mark.slow) if case.slow else name
                for name, case in self.items()
            ],
        )
        def test(name, tmp_path):
            case, entry = self[name], documented()[name]
            with case.within(tmp_path), _traced(case.traced):
                made = case.made(tmp_path)
                assert value_at(made.config, entry.path) != entry.default, "not a test of it"
                case.check(made)

        return test

    def test_ignored(self):
        """The test that a check fails if the option does nothing."""

        @pytest.mark.slow
        @pytest.mark.parametrize("name", [name for name, case in self.items() if case.built])
        def test(name, tmp_path):
            case = self[name]
            with (
                _ignoring(documented()[name].path),
                case.within(tmp_path),
                _traced(case.traced),
                pytest.raises((AssertionError, ValueError)),
            ):
                case.check(case.made(tmp_path))

        return test


@cache
def documented():
    """The options of docs/options.md by their names."""
    return runpy.run_path(str(ROOT / "docs/make_options.py"))["documented"]()


@contextmanager
def _traced(traced):
    tf.config.run_functions_eagerly(not traced)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@contextmanager
def _ignoring(path):
    cached_run.cache_clear()
    _ignored.append(path)
    try:
        yield
    finally:
        _ignored.clear()
        cached_run.cache_clear()


def value_at(config, path):
    """The value of an option in a resolved config."""
    value = config
    for part in path.replace("<i>", "0").replace("<j>", "0").split("/"):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def without(config, path):
    """A resolved config in which an option has its default again."""
    config = json.loads(json.dumps(config))
    *parents, name = path.replace("<i>", "0").replace("<j>", "0").split("/")
    owner = value_at(config, "/".join(parents)) if parents else config
    if owner is None:
        return config  # a run to compare with, without it
    del owner[name]
    if name == "class_name":  # what only the other class takes
        owner["config"] = {"learning_rate": owner["config"]["learning_rate"]}
    return resolve_config(config)
