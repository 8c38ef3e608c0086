"""Every option changes what it should, from what a user types to what a run does.

`CASES` holds one case per option: what is typed and what must then be so. The options
themselves are those of docs/options.md, so that a new one without a case is noticed.
"""

import json
import runpy
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

import l2o
import train as train_script
from config.overrides import merge_overrides
from l2o.inner.batched import take
from l2o.optimizer import OPTIMIZERS
from l2o.problems import PROBLEMS, datasets, regressors
from l2o.problems.keras_model import Picked
from l2o.train import ESTIMATORS, STRATEGIES, RunDirectory, join, resolve_config
from tests.problems.test_analytic import FORMULAS
from tests.problems.test_datasets import drawn, prepare
from tests.running import build_runner

ROOT = Path(__file__).parent.parent
OPTIONS = runpy.run_path(str(ROOT / "docs/make_options.py"))["documented"]()

# Runs: tiny, and with a meta learning rate of 0, so that the weights of two runs are the same.

LSTMS = ("DM", "RNNProp", "ScaleBasic")
NETWORKS = {
    **{name: {"layers": [3]} for name in LSTMS},
    "ScaleHierarchical": {"param_units": 3, "tensor_units": 2, "global_units": 2, "timescales": 3},
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


pytestmark = pytest.mark.usefixtures("graphs_as_traced")


def run(*overrides, constructor="DM", strategy="Simple", prepare=None, validates=False):
    """Runs what a user types as `overrides` on top of `base_config`; each run once."""
    return cached_run(overrides, constructor, strategy, prepare, validates)


@cache
def cached_run(overrides, constructor, strategy, prepare, validates):
    """Is `run`, told everything.

    Validation takes a third of the time, so there is none (all periods are equally good)
    unless a test is about it.
    """
    config = resolve_config(merge_overrides(base_config(constructor, strategy), overrides))
    made = build_runner(config)
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

    def call(*args):
        before, batches, length = args[-3:]
        result, after = original(*args)
        new = bool(fresh)
        fresh.clear()
        if isinstance(batches, Picked):
            examples = meta_step.problem.dataset.train
            batches = examples.take(batches.indices.numpy())
        several = meta_step.instances > 1
        for k in range(meta_step.instances):
            numbers = [np.atleast_1d(v)[k].item() for v in result]
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


# The recurrent cells' first step in NumPy, from the papers' equations.

FUNCTIONS = {
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "relu": lambda x: np.maximum(x, 0),
}


def cells(run):
    """The recurrent cells, whatever the optimizer."""
    network = run.network
    if hasattr(network, "cells"):
        return network.cells
    return [network.param_gru, network.tensor_gru, network.global_gru]


def gates(x, cell, count):
    """What the input adds to each gate; the state before the first step is 0."""
    bias = cell.bias.numpy() if cell.bias is not None else 0
    return np.split(x @ cell.kernel.numpy() + bias, count, axis=-1)


def lstm(x, cell, activation, recurrent):
    i, _, candidate, o = gates(x, cell, 4)
    return recurrent(o) * activation(recurrent(i) * activation(candidate))


def gru(x, cell, activation, recurrent):
    update, _, candidate = gates(x, cell, 3)
    return (1 - recurrent(update)) * activation(candidate)


def dm_inputs(run, options, g):
    if not options["preprocess"]:
        return g[:, None]
    p, size = options["p"], np.abs(g)
    large = size >= np.exp(-p)
    return np.stack(
        [np.where(large, np.log(size) / p, -1), np.where(large, np.sign(g), g * np.exp(p))], -1
    )


def rnnprop_inputs(run, options, g):
    # On the first step both bias-corrected moments are those of g itself.
    relative = g / (np.abs(g) + options["epsilon"])
    kernel, bias = run.initial[:2]
    x = np.stack([relative, relative], -1) @ kernel + bias
    return np.where(x > 0, x, np.expm1(x))


def scale_basic_inputs(run, options, g):
    return np.arcsinh(g / np.sqrt(g**2 + options["epsilon"]))[:, None]


def hierarchical_inputs(run, options, g):
    decays = FUNCTIONS["sigmoid"](2.2) ** (0.5 ** np.arange(options["timescales"]))
    gbar = (1 - decays) * g[:, None]
    lam = gbar**2 + options["epsilon"]
    m, gamma = np.arcsinh(gbar / np.sqrt(lam)), np.log(lam)
    gamma -= gamma.mean(1, keepdims=True)
    eta_bar = run.first.before.optimizer_state.eta_bar.numpy()
    eta = (eta_bar - eta_bar.mean())[:, None]
    return np.concatenate([m, gamma, m[:, :-1] * m[:, 1:], eta], 1)


INPUTS = {
    "DM": dm_inputs,
    "RNNProp": rnnprop_inputs,
    "ScaleBasic": scale_basic_inputs,
    "ScaleHierarchical": hierarchical_inputs,
}


def expected_hidden(run, **changed):
    """Each cell's first output, if the options were those of the run but for some."""
    options = {**run.options, **changed}
    functions = [FUNCTIONS[options[n]] for n in ("activation", "recurrent_activation")]
    x = INPUTS[run.config["constructor"]](run, options, run.first.gradient)
    if run.config["constructor"] in LSTMS:
        outputs = []
        for cell in cells(run):
            x = lstm(x, cell, *functions)
            outputs.append(x)
        return outputs
    param, tensor, whole = cells(run)
    above = np.zeros([1, tensor.units + whole.units])
    h_param = gru(np.hstack([x, above.repeat(len(x), 0)]), param, *functions)
    summary = np.hstack([h_param, x]).mean(0, keepdims=True)
    h_tensor = gru(np.hstack([summary, np.zeros([1, whole.units])]), tensor, *functions)
    return [h_param, h_tensor, gru(h_tensor, whole, *functions)]


def seen_hidden(run):
    state = run.first.after.optimizer_state
    if run.config["constructor"] in LSTMS:
        return [h.numpy().T for h, _ in state.lstm]
    return [state.h_param.numpy(), state.h_tensor.numpy(), state.h_global.numpy()]


def all_close(a, b):
    return len(a) == len(b) and all(close(x, y) for x, y in zip(a, b, strict=True))


# The table.


class Case(NamedTuple):
    """What is typed, what must then be so, and on top of which base it is typed.

    within: Makes the context the run and the check take place in.
    prepare: Changes a strategy before it trains.
    validates: Whether its runs validate.
    """

    typed: tuple[str, ...]
    check: Callable[[Run], None]
    constructor: str = "DM"
    strategy: str = "Simple"
    within: Callable[[Path], Any] = lambda tmp_path: nullcontext()
    prepare: Callable[[Any], None] | None = None
    validates: bool = False


CASES: dict[str, Case] = {}


def case(name, *typed, check=None, **options):
    """Adds a case; as a decorator of its check, or with the check."""

    def add(check):
        assert name not in CASES, name
        CASES[name] = Case(typed, check, **options)
        return check

    return add(check) if check else add


# network


def cells_compute_with(name):
    """A check that the cells' outputs are those of the paper with this option, and no other."""

    def check(run):
        constructor = run.config["constructor"]
        default = resolve_config({**base_config(constructor), "network": {}})["network"][name]
        assert all_close(seen_hidden(run), expected_hidden(run))
        assert not all_close(seen_hidden(run), expected_hidden(run, **{name: default}))

    return check


def base(of, validates=False):
    """The run of the same optimizer with nothing typed."""
    return run(constructor=of.config["constructor"], validates=validates)


def cells_have_no_bias(run):
    assert all(cell.bias is None for cell in cells(run))
    shapes = [w.shape for w in base(run).weights]
    for cell in cells(base(run)):
        shapes.remove(tuple(cell.bias.shape))
    assert [w.shape for w in run.weights] == shapes
    assert all_close(seen_hidden(run), expected_hidden(run))


# One run for all that shows in the weights before training, whose values tell who set them.
WEIGHTS = (
    "network/kernel_initializer=ones",
    "network/recurrent_initializer=zeros",
    "network/bias_initializer=random_normal",
    "network/unit_forget_bias=false",
    "network/name=mine",
)


def kernels_are_one(run):
    assert all((cell.kernel.numpy() == 1).all() for cell in cells(run))


def recurrent_kernels_are_zero(run):
    assert not any(cell.recurrent_kernel.numpy().any() for cell in cells(run))


def remembering_gates(run):
    """Biases of the gates that keep the old state, and of all others."""
    # Keras' order: LSTM input, forget, candidate, output; GRU update, reset, candidate.
    count, gate = (4, 1) if run.config["constructor"] in LSTMS else (3, 0)
    biases = np.concatenate([c.bias.numpy().reshape(count, -1) for c in cells(run)], 1)
    return biases[gate], np.delete(biases, gate, axis=0)


def is_small_and_random(values):
    return values.std() > 0 and 0 < np.abs(values).max() < 0.3


def biases_are_random(run):
    _, others = remembering_gates(run)
    assert is_small_and_random(others)
    _, others = remembering_gates(base(run))
    assert not others.any()


def remembering_gates_are_as_others(run):
    gates, _ = remembering_gates(run)
    assert is_small_and_random(gates)
    gates, _ = remembering_gates(base(run))
    assert (gates == 1).all()


def has_lstm_layers(run):
    assert [cell.units for cell in cells(run)] == [4, 2]
    assert cells(run)[0].kernel.shape[1] == 4 * 4
    assert cells(run)[1].kernel.shape == (4, 4 * 2)
    assert [h.shape for h in seen_hidden(run)] == [(2, 4), (2, 2)]
    shapes = [w.shape for w in run.weights]
    assert (4, 4 * 2) in shapes, "in the checkpoint"
    assert shapes.count((2, 1)) == (3 if run.config["constructor"] == "ScaleBasic" else 1)


def is_called(run):
    assert run.training.optimizer.name == "mine"
    assert run.training.optimizer.get_config()["name"] == "mine"


# One run for all that shows in what the cells compute: NumPy tells who changed what.
CELLS = ("network/activation=softsign", "network/recurrent_activation=hard_sigmoid")

for _constructor in NETWORKS:
    _cells = (
        *CELLS,
        *(["network/p=2"] if _constructor == "DM" else ["network/epsilon=1.0"]),
    )
    for _typed in _cells:
        _option = _typed.partition("=")[0]
        case(
            _option if _option == "network/p" else f"{_option} ({_constructor})",
            *_cells,
            check=cells_compute_with(_option.removeprefix("network/")),
            constructor=_constructor,
        )
    for _typed, _check in zip(
        WEIGHTS,
        (
            kernels_are_one,
            recurrent_kernels_are_zero,
            biases_are_random,
            remembering_gates_are_as_others,
            is_called,
        ),
        strict=True,
    ):
        _option = _typed.partition("=")[0]
        case(f"{_option} ({_constructor})", *WEIGHTS, check=_check, constructor=_constructor)
    case(
        f"network/use_bias ({_constructor})",
        "network/use_bias=false",
        check=cells_have_no_bias,
        constructor=_constructor,
    )
for _constructor in LSTMS:
    case(
        f"network/layers ({_constructor})",
        "network/layers=[4,2]",
        check=has_lstm_layers,
        constructor=_constructor,
    )


@case("network/preprocess", "network/preprocess=false", constructor="DM")
def _(run):
    assert cells(run)[0].kernel.shape[0] == 1
    assert cells(base(run))[0].kernel.shape[0] == 2
    assert all_close(seen_hidden(run), expected_hidden(run))


def steps_are_three_times_as_large(run):
    assert close(run.first.delta, 3 * base(run).first.delta)


case(
    "network/output_scale",
    "network/output_scale=0.3",
    check=steps_are_three_times_as_large,
    constructor="DM",
)
case(
    "network/alpha",
    "network/alpha=0.3",
    check=steps_are_three_times_as_large,
    constructor="RNNProp",
)


BETAS = ("network/beta_1=0.75", "network/beta_2=0.5")


@case("network/beta_1", *BETAS, constructor="RNNProp")
def _(run):
    assert close(run.first.after.optimizer_state.m, 0.25 * run.first.gradient)


@case("network/beta_2", *BETAS, constructor="RNNProp")
def _(run):
    assert close(run.first.after.optimizer_state.v, 0.5 * run.first.gradient**2)


WIDE = "problems/0/kwargs/dimensions=30"


def spread(values, low, high):
    """Whether values fill most of an interval, on a logarithmic scale."""
    return low <= min(values) < low * 1.5 and high / 1.5 < max(values) <= high


@case("network/init_lr (ScaleBasic)", "network/init_lr=[0.01,0.1]", WIDE, constructor="ScaleBasic")
def _(typed):
    rates = typed.first.before.optimizer_state.lr.numpy()
    assert spread(rates, 0.01, 0.1)
    usual = run(WIDE, constructor="ScaleBasic")
    assert close(usual.first.before.optimizer_state.lr, np.ones(30))
    assert close(typed.first.delta, rates * usual.first.delta)


@case(
    "network/init_lr (ScaleHierarchical)",
    "network/init_lr=[0.01,0.1]",
    "problems/0/kwargs/dimensions=3",
    "training/repeat=20",
    "training/depth=1",
    constructor="ScaleHierarchical",
)
def _(typed):
    logs = np.array([step.before.optimizer_state.eta_bar for step in typed.trained])
    assert spread([np.exp(logs.min()), np.exp(logs.max())], 0.01, 0.1)
    # Half of the logarithm is the tensor's own.
    assert np.ptp(logs, axis=1).max() <= np.log(10) / 2


def state_of(run):
    return run.first.after.optimizer_state


def learned_shapes(run):
    network = run.network
    grus = [network.param_gru, network.tensor_gru, network.global_gru]
    shapes = [w.shape for w in run.weights]
    assert all(tuple(gru.kernel.shape) in shapes for gru in grus), "in the checkpoint"
    return [tuple(gru.kernel.shape) for gru in grus]


SIZES = (
    "network/param_units=4",
    "network/tensor_units=3",
    "network/global_units=6",
    "network/timescales=2",
)
hierarchical = partial(case, constructor="ScaleHierarchical")


@hierarchical("network/param_units", *SIZES)
def _(run):
    # A coordinate's inputs: 3 per timescale, and the states above.
    assert learned_shapes(run)[0] == (3 * 2 + 3 + 6, 3 * 4)
    assert state_of(run).h_param.shape == (2, 4)


@hierarchical("network/tensor_units", *SIZES)
def _(run):
    assert learned_shapes(run)[1] == (4 + 3 * 2 + 6, 3 * 3)
    assert state_of(run).h_tensor.shape == (1, 3)


@hierarchical("network/global_units", *SIZES)
def _(run):
    assert learned_shapes(run)[2] == (3, 3 * 6)
    assert state_of(run).h_global.shape == (1, 6)


@hierarchical("network/timescales", *SIZES)
def _(run):
    # Each twice as long as the one before.
    decays = FUNCTIONS["sigmoid"](2.2) ** np.array([1, 0.5])
    assert close(state_of(run).gbar, (1 - decays) * run.first.gradient[:, None])
    assert close(state_of(run).lam, state_of(run).gbar.numpy() ** 2)


# training and loss_args. The objectives f_1, f_2, f_3 come from three unrolls of length 1.

LENGTH_3 = "strategy/unroll_distribution=3"


def objectives():
    """Returns f_0 and [f_1, f_2, f_3] of an unroll of 3."""
    single = run("training/repeat=3").trained
    return single[0].objective_at(single[0].before.params), np.array([s.objective for s in single])


def log_ratios(epsilon=1e-6):
    f_0, f = objectives()
    return np.log(f + epsilon) - np.log(f_0 + epsilon)


@case("training/unroll_weights", "training/unroll_weights=mean", LENGTH_3)
def _(typed):
    assert close(typed.rows[0].meta_loss, log_ratios().sum() / 3)
    assert close(run(LENGTH_3).rows[0].meta_loss, log_ratios().sum())
    last = run("training/unroll_weights=last", LENGTH_3)
    assert close(last.rows[0].meta_loss, log_ratios()[-1])


def teachers(*specs):
    """What is typed for teachers that every unroll imitates."""
    return f"training/teachers={json.dumps(specs)}", "training/p_teacher=1"


def sgd(rate):
    return {"class_name": "SGD", "config": {"learning_rate": rate}}


def distance(step, teacher_change):
    return np.sum((step.delta - teacher_change) ** 2)


def sgd_distances(step, *rates):
    return [distance(step, -rate * step.gradient) for rate in rates]


def imitates(row, distance, epsilon=1e-6):
    assert row.imitation_unrolls == row.unrolls == 1
    assert row.meta_loss is None
    assert close(row.imitation_loss, np.log(distance + epsilon))


@case("training/teachers", *teachers(sgd(0.1), sgd(1.0)))
def _(run):
    imitates(run.rows[0], np.mean(sgd_distances(run.first, 0.1, 1.0)))


@case("training/strategy", "training/strategy=max", *teachers(sgd(0.1), sgd(1.0)))
def _(run):
    imitates(run.rows[0], np.max(sgd_distances(run.first, 0.1, 1.0)))


@case("training/teachers/<i>/class_name", *teachers({"class_name": "SGD"}))
def _(run):
    imitates(run.rows[0], sgd_distances(run.first, 0.01)[0])


@case("training/teachers/<i>/config", *teachers({"config": {"learning_rate": 0.5}}))
def _(run):
    # Adam's first step is the learning rate in each coordinate.
    imitates(run.rows[0], distance(run.first, -0.5 * np.sign(run.first.gradient)))


@case("training/p_teacher", "training/repeat=40", teachers(sgd(0.1))[0], "training/p_teacher=0.5")
def _(run):
    kinds = Counter(step.kind for step in run.trained)
    assert 8 < kinds["imitate"] < 32
    assert run.rows[0].imitation_unrolls == kinds["imitate"]
    assert run.rows[0].unrolls == 40
    assert base(run).rows[0].imitation_unrolls == 0


def iterations(optimizer):
    return int(optimizer.iterations.numpy())


@case(
    "training/imitation_optimizer",
    'training/imitation_optimizer={"class_name": "SGD"}',
    *teachers(sgd(0.1)),
)
def _(typed):
    assert iterations(typed.training.imitation_optimizer) == 1
    assert iterations(typed.training.meta_optimizer) == 0
    assert typed.change.any(), "the meta-optimizer has a learning rate of 0"
    shared = run(*teachers(sgd(0.1)))
    assert iterations(shared.training.meta_optimizer) == 1
    assert not shared.change.any()


@case(
    "training/imitation_optimizer/class_name",
    f"training/imitation_optimizer={json.dumps(sgd(0.5))}",
    *teachers(sgd(0.1)),
)
def _(typed):
    assert close(typed.change, -0.5 * run(*teachers(sgd(0.1))).meta_gradient)


def moves_by(run, rate):
    """Adam's first step is the learning rate wherever there is a gradient."""
    sizes = np.abs(run.change)
    assert close(sizes.max(), rate, rtol=1e-2)
    assert np.mean(sizes > 0.9 * rate) > 0.3


@case(
    "training/imitation_optimizer/config",
    'training/imitation_optimizer={"config": {"learning_rate": 0.02}}',
    *teachers(sgd(0.1)),
)
def _(run):
    moves_by(run, 0.02)


MLP = (
    'problems=[{"target": "mlp_classifier", "kwargs": {"layers": [3], "batch_size": 700}}]',
    "strategy/unroll_distribution=2",
    "strategy/validation_unroll=2",
)


@case("training/epochs", "training/epochs=3", *MLP)
def _(typed):
    # 1437 examples are 2 mini-batches of 700.
    assert [step.length for step in typed.trained] == [2, 2, 2]
    assert [step.length for step in run(*MLP).trained] == [2]
    assert sum(step.fresh for step in typed.trained) == 1


@case("training/depth", "training/depth=2", "training/repeat=4")
def _(typed):
    assert [step.fresh for step in typed.trained] == [True, False, True, False]
    usual = run("training/repeat=4")
    assert [step.fresh for step in usual.trained] == [True, False, False, False]


@case("training/batch_of_problems", "training/batch_of_problems=3")
def _(typed):
    assert len(typed.trained) == typed.rows[0].unrolls == 3
    assert len({step.objective for step in typed.trained}) == 3, "of three optimizees"
    assert close(typed.rows[0].meta_loss, np.mean([step.loss for step in typed.trained]))


@case("training/repeat", "training/repeat=3")
def _(run):
    assert len(run.trained) == run.rows[0].unrolls == 3
    assert len(base(run).trained) == 1
    ends = [step.end for step in run.trained[:2]]
    starts = [step.start for step in run.trained[1:]]
    assert np.array_equal(ends, starts), "of one optimizee"


TWO_OPTIMIZEES = ("strategy/epochs_per_period=2", *teachers(sgd(0.1)))


@case("training/persistent", "training/persistent=true", *TWO_OPTIMIZEES)
def _(typed):
    fresh = run(*TWO_OPTIMIZEES)
    for made, lives_on in ((typed, True), (fresh, False)):
        first, second = made.trained
        assert first.fresh
        assert second.fresh
        ended = tf.nest.flatten(first.after.optimizer_state)
        started = tf.nest.flatten(second.before.optimizer_state)
        same = [close(a, b) for a, b in zip(ended, started, strict=True)]
        assert all(same) if lives_on else not any(same)
        (teacher,) = made.training.steps[0].imitation.teachers
        assert iterations(teacher.optimizers[0]) == (2 if lives_on else 1)


def slope(run):
    """The derivative of the only unroll's loss along its reported meta-gradient, by differences."""
    step, direction = run.first, run.meta_gradient
    losses = []
    for way in (1, -1):
        start = 0
        for variable, weight in zip(run.network.trainable_variables, run.initial, strict=True):
            part = direction[start : start + weight.size].reshape(weight.shape)
            start += weight.size
            variable.assign(weight + way * 1e-3 / np.linalg.norm(direction) * part)
        result, _ = run.training.steps[0].validate(step.before, step.batches, step.length)
        losses.append(float(result.loss))
    for variable, weight in zip(run.network.trainable_variables, run.initial, strict=True):
        variable.assign(weight)
    return (losses[0] - losses[1]) / 2e-3


# Steps so large that the gradients of the next ones matter.
LARGE_STEPS = ("network/alpha=1.0", LENGTH_3)


@case(
    "estimator/second_derivatives",
    "estimator/second_derivatives=true",
    *LARGE_STEPS,
    constructor="RNNProp",
)
def _(typed):
    # Only the true gradient is the loss's slope.
    assert close(slope(typed), np.linalg.norm(typed.meta_gradient), rtol=0.02)
    first_order = run(*LARGE_STEPS, constructor="RNNProp")
    assert not close(slope(first_order), np.linalg.norm(first_order.meta_gradient), rtol=0.05)
    assert typed.rows[0].meta_loss == first_order.rows[0].meta_loss


@case("loss_args/scale_objective", "loss_args/scale_objective=false", LENGTH_3)
def _(run):
    assert close(run.rows[0].meta_loss, np.log(objectives()[1] + 1e-6).sum())


@case("loss_args/use_log_objective", "loss_args/use_log_objective=false", LENGTH_3)
def _(typed):
    f_0, f = objectives()
    assert close(typed.rows[0].meta_loss, (f / (f_0 + 1e-6)).sum())
    imitating = run("loss_args/use_log_objective=false", *teachers(sgd(0.1)))
    assert close(imitating.rows[0].imitation_loss, sgd_distances(imitating.first, 0.1)[0])


@case(
    "loss_args/use_numerator_epsilon",
    "loss_args/use_numerator_epsilon=false",
    LENGTH_3,
    "loss_args/epsilon=1.0",
)
def _(run):
    f_0, f = objectives()
    assert close(run.rows[0].meta_loss, (np.log(f) - np.log(f_0 + 1)).sum())


@case("loss_args/epsilon", "loss_args/epsilon=1.0", LENGTH_3)
def _(run):
    assert close(run.rows[0].meta_loss, log_ratios(epsilon=1.0).sum())


@case("loss_args/obj_train_max_multiplier", "loss_args/obj_train_max_multiplier=0.001", LENGTH_3)
def _(typed):
    assert (typed.first.length, typed.first.steps) == (3, 1)
    assert close(typed.rows[0].meta_loss, log_ratios()[0])
    assert run(LENGTH_3).first.steps == 3
    # Just where f_1 is f_0 + (k - 1) |f_0|.
    f_0, f = objectives()
    for k, steps in ((0.999 * f[0] / f_0, 1), (1.001 * f.max() / f_0, 3)):
        assert run(f"loss_args/obj_train_max_multiplier={k}", LENGTH_3).first.steps == steps


# optimizer


@case("optimizer/class_name", f"optimizer={json.dumps(sgd(0.5))}")
def _(run):
    assert close(run.change, -0.5 * base(run).meta_gradient)


@case("optimizer/config", "optimizer/config/learning_rate=0.02")
def _(run):
    assert not base(run).change.any()
    moves_by(run, 0.02)


# strategy

for _strategy in STRATEGY_OPTIONS:

    @case(
        f"strategy/epochs_per_period ({_strategy})",
        "strategy/epochs_per_period=3",
        strategy=_strategy,
    )
    def _(typed):
        assert [step.fresh for step in typed.trained] == [True] * 3
        assert len(typed.rows) == 1
        assert typed.rows[0].unrolls == 3
        usual = run(strategy=typed.config["strategy_constructor"])
        assert usual.rows[0].unrolls == 1


def dropping(runner):
    """Makes all losses of training not finite."""
    original = runner.training.train

    def train(*args):
        return (unroll._replace(finite=False) for unroll in original(*args))

    runner.training.train = train


for _strategy in STRATEGY_OPTIONS:

    @case(
        f"strategy/max_dropped ({_strategy})",
        "strategy/max_dropped=1",
        strategy=_strategy,
        prepare=dropping,
    )
    def _(typed):
        assert typed.rows[0].dropped == typed.rows[0].unrolls > 0
        with pytest.raises(l2o.UserError, match=r"strategy/max_dropped: .* 1 of its 1 unrolls"):
            run(strategy=typed.config["strategy_constructor"], prepare=dropping)

    @case(
        f"strategy/keep_checkpoints ({_strategy})",
        "strategy/keep_checkpoints=1",
        strategy=_strategy,
    )
    def _(typed):
        # A rate of 0: the first period stays the best.
        periods = {"Simple": "num_periods", "CurriculumLearning": "min_periods"}
        name = typed.config["strategy_constructor"]
        with TemporaryDirectory() as folder:
            config = {**typed.config, "strategy": {**typed.config["strategy"], periods[name]: 4}}
            directory = RunDirectory(folder)
            rows = build_runner(config, directory).train()
            kept = [r.period for r in rows if directory.checkpoint_path(0, r.period).exists()]
            assert (len(rows), kept) == (4, [0, 3])


@case("strategy/num_periods", "strategy/num_periods=2")
def _(run):
    assert [(row.stage, row.period) for row in run.rows] == [(0, 0), (0, 1)]
    assert len(base(run).rows) == 1


@case("strategy/unroll_distribution", "strategy/unroll_distribution=0.5", "training/repeat=200")
def _(typed):
    # Geometric: length n with probability 2^-n.
    lengths = Counter(step.length for step in typed.trained)
    assert [0.35 < lengths[1] / 200 < 0.65, 0.13 < lengths[2] / 200 < 0.38] == [True, True]
    assert max(lengths) > 4
    assert typed.rows[0].inner_steps == sum(n * times for n, times in lengths.items())
    assert [step.length for step in run(LENGTH_3, "training/repeat=4").trained] == [3] * 4


@case(
    "strategy/annealing_schedule",
    "strategy/annealing_schedule=2.302585092994046",
    "strategy/num_periods=2",
    "training/repeat=40",
    *teachers(sgd(0.1)),
)
def _(typed):
    first, second = typed.rows
    # exp(-i log 10) in period i: 40 unrolls, then 4 or so.
    assert first.imitation_unrolls == 40
    assert 0 < second.imitation_unrolls < 13
    listed = run(
        "strategy/annealing_schedule=[0.0,1.0]", "strategy/num_periods=2", *teachers(sgd(0.1))
    )
    assert [row.imitation_unrolls for row in listed.rows] == [0, 1]


@case("strategy/validation_unroll", "strategy/validation_unroll=3", validates=True)
def _(run):
    assert {step.length for step in run.validated} == {3}
    assert {step.length for step in run.trained} == {1}
    assert close(run.rows[0].validation_loss, np.mean([s.loss for s in run.validated[-4:]]))


def lengths(run):
    """Lengths of training and of validation unrolls, each after the other, without repetition."""
    return [list(dict.fromkeys(s.length for s in steps)) for steps in (run.trained, run.validated)]


def improving(runner):
    """Makes the first period of each of two stages validate better than all before."""
    original, calls = runner._validate, Counter()

    def validate(period, report):
        original(period, report)
        calls[period.stage] += 1
        opens_stage = calls[period.stage] == 1
        return 0.0 if opens_stage else (-1.0 if period.stage < 2 else 1.0)

    runner._validate = validate


curriculum = partial(case, strategy="CurriculumLearning")


@curriculum("strategy/schedule", "strategy/schedule=[1,3,4]", prepare=improving, validates=True)
def _(run):
    assert lengths(run) == [[1, 3], [3, 4]]
    assert [row.stage for row in run.rows] == [0, 0, 1, 1]


@curriculum("strategy/schedule/base", "strategy/schedule/base=3", validates=True)
def _(typed):
    assert lengths(typed) == [[3], [6]]
    usual = run(strategy="CurriculumLearning", validates=True)
    assert lengths(usual) == [[1], [2]]


@curriculum(
    "strategy/schedule/power", "strategy/schedule/power=3.0", prepare=improving, validates=True
)
def _(run):
    assert lengths(run) == [[1, 3, 9], [3, 9, 27]]


@curriculum("strategy/min_periods", "strategy/min_periods=3", validates=True)
def _(typed):
    # Nothing is learned, so the stage and the run end as soon as they may.
    assert len(typed.rows) == 3
    assert len(run(strategy="CurriculumLearning", validates=True).rows) == 1


@curriculum("strategy/max_stages", "strategy/max_stages=1", prepare=improving)
def _(typed):
    assert [row.stage for row in typed.rows] == [0, 0]
    usual = run(strategy="CurriculumLearning", prepare=improving)
    assert [row.stage for row in usual.rows] == [0, 0, 1, 1, 2]


# problems


@case("problems/<i>/target", 'problems=[{"target": "Booth"}]')
def _(run):
    formula, *_, (low, high) = FORMULAS["Booth"]
    assert np.all((low <= run.first.start) & (run.first.start <= high))
    assert close(run.first.objective, formula(run.first.end))


@case("problems/<i>/args", 'problems=[{"target": "Quadratic", "args": [3]}]')
def _(run):
    assert run.first.start.shape == (3,)


@case("problems/<i>/kwargs", 'problems=[{"target": "Quadratic", "kwargs": {"dimensions": 3}}]')
def _(run):
    assert run.first.start.shape == (3,)


SCALED_AND_NOISY = [{"target": "RandomScaling"}, {"target": "GradientNoise"}]


def wrapped(*wrappers):
    return f"problems/0/wrappers={json.dumps(wrappers)}"


@case("problems/<i>/wrappers", wrapped(*SCALED_AND_NOISY))
def _(run):
    name, c, *_ = run.first.before.model_state
    assert name.dtype == tf.int32, "the outer: the noise"
    # Same seeds, so the same quadratic below.
    assert close(run.first.start * c, base(run).first.start)


@case("problems/<i>/wrappers/<j>/target", wrapped({"target": "ConvexCombination"}))
def _(run):
    assert [p.shape for p in run.first.before.params] == [(2,), (20,)]


def scales(run, index):
    """log c of the first optimizee."""
    return np.log(run.first.before.model_state[index].numpy())


def scales_half_as_far(run):
    """Same draws, another limit: log c = limit u."""
    usual = scales(run_of_scaling(), 0)
    assert np.abs(usual).max() <= 3
    assert close(scales(run, 0), usual * 1.5 / 3)
    assert close(run.first.start * np.exp(scales(run, 0)), base(run).first.start)


def run_of_scaling():
    return run(wrapped({"target": "RandomScaling"}))


for _name, _given in (
    ("args", {"args": [1.5]}),
    ("kwargs", {"kwargs": {"limit": 1.5}}),
    ("kwargs/limit (RandomScaling)", {"kwargs": {"limit": 1.5}}),
):
    case(
        f"problems/<i>/wrappers/<j>/{_name}",
        wrapped({"target": "RandomScaling", **_given}),
        check=scales_half_as_far,
    )


def convex(**kwargs):
    return wrapped({"target": "ConvexCombination", "kwargs": kwargs})


@case("problems/<i>/wrappers/<j>/kwargs/limit (ConvexCombination)", convex(limit=0.25))
def _(typed):
    usual = scales(run(convex()), 1)
    assert 0.25 < np.abs(usual).max() <= 1
    assert close(scales(typed, 1), usual * 0.25)


@case("problems/<i>/wrappers/<j>/kwargs/dimensions", convex(dimensions=3))
def _(typed):
    x, y = typed.first.after.params
    w, c, *inner = typed.first.before.model_state
    assert y.shape == w.shape == c.shape == (3,)
    quadratic = run().first.problem.objective([x], inner, ())[0]
    assert close(typed.first.objective, quadratic + np.mean((c * y - w) ** 2))


@case(
    "problems/<i>/wrappers/<j>/kwargs/stddev",
    wrapped({"target": "GradientNoise", "kwargs": {"stddev": 0.5}}),
    WIDE,
    constructor="RNNProp",
)
def _(typed):
    # RNNProp's momentum after a step is a tenth of the gradient that it got.
    noise = 10 * state_of(typed).m.numpy() - exact_gradient(typed.first)
    usual = run(wrapped({"target": "GradientNoise"}), WIDE, constructor="RNNProp")
    assert close(typed.first.start, usual.first.start)
    usual_noise = 10 * state_of(usual).m.numpy() - exact_gradient(usual.first)
    assert close(noise, 5 * usual_noise, rtol=1e-2, atol=1e-4)
    assert 0.3 < np.std(noise) < 0.7


def exact_gradient(step):
    """Of the quadratic inside."""
    _, w, y = (s.numpy() for s in step.before.model_state)
    return 2 * w.T @ (w @ step.start - y)


@case("validation_problems", 'validation_problems=[{"target": "Booth"}]', validates=True)
def _(run):
    formula = FORMULAS["Booth"][0]
    assert {type(step.problem) for step in run.trained} == {PROBLEMS.entries["Quadratic"]}
    ratios = [
        np.log(formula(s.end) + 1e-6) - np.log(formula(s.start) + 1e-6) for s in run.validated
    ]
    assert close(run.rows[0].start_loss, np.mean(ratios[:4]))
    assert close(run.rows[0].validation_loss, np.mean(ratios[4:]))


def quadratic(step):
    w, y = step.before.model_state
    return np.sum((w.numpy() @ step.end - y.numpy()) ** 2)


def has_three_coordinates(run):
    name = run.config["problems"][0]["target"]
    assert run.first.start.shape == run.first.end.shape == (3,)
    assert run.first.start.all()
    if name == "Quadratic":
        expected = quadratic(run.first)
    else:
        formula, minimum, *_ = FORMULAS[name]
        expected = formula(run.first.end.astype(float)) - 3 * minimum
    assert close(run.first.objective, expected, rtol=1e-3)


for _name in ("Ackley", "Levy", "Quadratic", "Rastrigin", "Rosenbrock", "StyblinskiTang"):
    case(
        f"problems/<i>/kwargs/dimensions ({_name})",
        f'problems=[{{"target": "{_name}", "kwargs": {{"dimensions": 3}}}}]',
        check=has_three_coordinates,
    )


# Classifiers: 1437 images of 8x8, mini-batches of 700, one unroll of 2.

CONV = (MLP[0].replace("mlp", "conv").replace("[3]", "[2]"), *MLP[1:])


def mlp_loss(params, images, labels, activation):
    *hidden, kernel, bias = params
    x = tf.reshape(images, [len(images), -1])
    for k, b in zip(hidden[::2], hidden[1::2], strict=True):
        x = activation(x @ k + b)
    return cross_entropy(x @ kernel + bias, labels)


def conv_loss(params, images, labels, activation, batch_norm=False):
    (k, *convolution), kernel, bias = params[:-2], *params[-2:]
    x = tf.nn.conv2d(images, k, 1, "SAME")
    if batch_norm:
        gamma, beta = convolution
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        x = gamma * (x - mean) / tf.sqrt(variance + 1e-3) + beta
    else:
        x += convolution[0]
    x = tf.nn.max_pool2d(activation(x), 2, 2, "SAME")
    return cross_entropy(tf.reshape(x, [len(images), -1]) @ kernel + bias, labels)


def cross_entropy(logits, labels):
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def computes(loss, *arguments, **options):
    """A check that the last objective is `loss` at the last parameters and mini-batch."""

    def check(run):
        images, labels = (b[-1] for b in run.first.batches)
        expected = loss(run.first.after.params, images, labels, *arguments, **options)
        return close(run.first.objective, expected)

    return check


def order(run):
    """Which training example stands at each place of the first epoch."""
    images = run.first.batches[0].numpy()[:2].reshape(-1, 64)
    known = {image.tobytes(): i for i, image in enumerate(digits())}
    assert len(known) == 1437
    return np.array([known[image.tobytes()] for image in images])


def digits():
    return datasets.load("digits").train.images.reshape(-1, 64)


def batches_have_500(run):
    assert [b.shape[:2] for b in run.first.batches] == [(3, 500), (3, 500)]


def examples_move_a_little(typed):
    usual = MLP if typed.config["problems"][0]["target"] == "mlp_classifier" else CONV
    places = np.arange(1400)
    assert np.abs(order(typed) - places).max() <= 10
    assert (order(typed) != places).any()
    assert np.abs(order(run(*usual)) - places).max() > 700


def images_are_4_by_4(run):
    images = run.first.batches[0].numpy()[:2]
    # Not shuffled; every pixel is the mean of four.
    blocks = digits()[:1400].reshape(2, 700, 4, 2, 4, 2).mean((3, 5))
    assert close(images[..., 0], blocks)


TINY_SHAPE = (6, 5, 1)


@contextmanager
def tiny_set(tmp_path):
    """A TFDS set of 20 images in 3 classes."""
    import tensorflow_datasets as tfds

    with pytest.MonkeyPatch.context() as patch:
        # TFDS reads its default once, at import.
        patch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
        datasets._load.cache_clear()
        prepare("tiny_set", TINY_SHAPE, {"train": 20, "test": 4}, tmp_path)
        yield
    datasets._load.cache_clear()


def learns_the_tiny_set(run):
    # The same draws as `prepare` makes.
    rng = np.random.default_rng(0)
    written = {drawn(rng, TINY_SHAPE, np.uint8).tobytes() for _ in range(20)}
    images, labels = (b.numpy() for b in run.first.batches)
    seen = np.rint(images.reshape(-1, *TINY_SHAPE) * 255).astype(np.uint8)
    assert {image.tobytes() for image in seen} <= written
    assert labels.max() < 3
    assert run.first.before.params[-1].shape == (3,), "classes"


for _name, _typed in (("mlp_classifier", MLP), ("conv_classifier", CONV)):
    for _option, _value, _check in (
        ("batch_size", 500, batches_have_500),
        ("shuffle_buffer", 10, examples_move_a_little),
    ):
        case(
            f"problems/<i>/kwargs/{_option} ({_name})",
            *_typed,
            f"problems/0/kwargs/{_option}={_value}",
            check=_check,
        )
    case(
        f"problems/<i>/kwargs/image_size ({_name})",
        *_typed,
        "problems/0/kwargs/image_size=4",
        "problems/0/kwargs/shuffle_buffer=0",
        check=images_are_4_by_4,
    )
    case(
        f"problems/<i>/kwargs/dataset ({_name})",
        *_typed,
        "problems/0/kwargs/dataset=tiny_set",
        "problems/0/kwargs/batch_size=10",
        check=learns_the_tiny_set,
        within=tiny_set,
    )


def shapes(run):
    return [tuple(p.shape) for p in run.first.before.params]


@case("problems/<i>/kwargs/layers (mlp_classifier)", *MLP, "problems/0/kwargs/layers=[4,2]")
def _(run):
    assert shapes(run) == [(64, 4), (4,), (4, 2), (2,), (2, 10), (10,)]


@case("problems/<i>/kwargs/layers (conv_classifier)", *CONV, "problems/0/kwargs/layers=[3,2]")
def _(run):
    # Each layer halves the image: 8, 4, 2.
    expected = [(3, 3, 1, 3), (3,), (3, 3, 3, 2), (2,), (2 * 2 * 2, 10), (10,)]
    assert shapes(run) == expected


@case(
    "problems/<i>/kwargs/activation (mlp_classifier)", *MLP, "problems/0/kwargs/activation=softsign"
)
def _(typed):
    assert computes(mlp_loss, tf.nn.softsign)(typed)
    assert not computes(mlp_loss, tf.nn.sigmoid)(typed)
    assert computes(mlp_loss, tf.nn.sigmoid)(run(*MLP))


@case(
    "problems/<i>/kwargs/activation (conv_classifier)",
    *CONV,
    "problems/0/kwargs/activation=softsign",
)
def _(typed):
    assert computes(conv_loss, tf.nn.softsign)(typed)
    assert not computes(conv_loss, tf.nn.relu)(typed)
    assert computes(conv_loss, tf.nn.relu)(run(*CONV))


NOISE = ("problems/0/kwargs/label_noise=0.25", "problems/0/kwargs/shuffle_buffer=0")


@case("problems/<i>/kwargs/label_noise (mlp_classifier)", *MLP, *NOISE)
@case("problems/<i>/kwargs/label_noise (conv_classifier)", *CONV, *NOISE)
def _(run):
    _, labels = run.first.batches
    right = datasets.load("digits").train.labels[:1400].reshape(2, 700)
    # 359 of 1,437 are wrong, which 37 more are not looked at.
    assert 359 - 37 <= (labels.numpy()[:2] != right).sum() <= 359


REGRESSOR = (MLP[0].replace("classifier", "regressor").replace("700", "100"), *MLP[1:])


def squared_error(params, x, y, activation):
    *hidden, kernel, bias = params
    for k, b in zip(hidden[::2], hidden[1::2], strict=True):
        x = activation(x @ k + b)
    return tf.reduce_mean(tf.square(x @ kernel + bias - y))


@case("problems/<i>/kwargs/layers (mlp_regressor)", *REGRESSOR, "problems/0/kwargs/layers=[4,2]")
def _(run):
    assert shapes(run) == [(10, 4), (4,), (4, 2), (2,), (2, 1), (1,)]
    assert computes(squared_error, tf.nn.sigmoid)(run)


@case(
    "problems/<i>/kwargs/activation (mlp_regressor)",
    *REGRESSOR,
    "problems/0/kwargs/activation=softsign",
)
def _(typed):
    assert computes(squared_error, tf.nn.softsign)(typed)
    assert not computes(squared_error, tf.nn.sigmoid)(typed)
    assert computes(squared_error, tf.nn.sigmoid)(run(*REGRESSOR))


@case(
    "problems/<i>/kwargs/batch_size (mlp_regressor)", *REGRESSOR, "problems/0/kwargs/batch_size=50"
)
def _(run):
    assert [b.shape for b in run.first.batches] == [(3, 50, 10), (3, 50, 1)]


@case(
    "problems/<i>/kwargs/shuffle_buffer (mlp_regressor)",
    *REGRESSOR,
    "problems/0/kwargs/shuffle_buffer=0",
)
def _(typed):
    (x, y), _ = regressors._diabetes()
    seen = [b.numpy()[:2].reshape(200, -1) for b in typed.first.batches]
    np.testing.assert_array_equal(seen[0], x[:200])
    np.testing.assert_array_equal(seen[1], y[:200])
    shuffled = run(*REGRESSOR).first.batches[1].numpy()[:2].reshape(200, -1)
    assert (shuffled != y[:200]).any()


@case("problems/<i>/kwargs/kernel_size", *CONV, "problems/0/kwargs/kernel_size=2")
def _(run):
    assert shapes(run)[0] == (2, 2, 1, 2)
    assert computes(conv_loss, tf.nn.relu)(run)


@case("problems/<i>/kwargs/batch_norm", *CONV, "problems/0/kwargs/batch_norm=true")
def _(run):
    # Scale and offset, and no bias before them.
    assert shapes(run) == [(3, 3, 1, 2), (2,), (2,), (4 * 4 * 2, 10), (10,)]
    assert computes(conv_loss, tf.nn.relu, batch_norm=True)(run)
    moving = [s.numpy() for s in run.first.before.model_state]
    assert close(moving, [np.zeros(2), np.ones(2)])
    assert not any(map(close, moving, run.first.after.model_state))


@case("problems/<i>/kwargs/dropout", *CONV, "problems/0/kwargs/dropout=0.75")
def _(typed):
    assert computes(conv_loss, tf.nn.relu)(run(*CONV))
    assert not computes(conv_loss, tf.nn.relu)(typed), "it is on while training"
    # A feature that is dropped has no influence on the last kernel's gradient.
    step = typed.first
    images, labels = (b[0] for b in step.batches)
    seen = dropped = 0
    state = step.before.model_state
    for i in range(20):
        with tf.GradientTape() as tape:
            tape.watch(step.before.params)
            batch = images[i : i + 1], labels[i : i + 1]
            f, state = step.problem.objective(step.before.params, state, batch)
        gradient = tape.gradient(f, step.before.params[-2])
        features = features_of(step, images[i : i + 1])
        gone = tf.reduce_all(gradient == 0, 1).numpy()
        seen += np.sum(features > 0)
        dropped += np.sum(gone & (features > 0))
    assert seen > 100
    assert 0.6 < dropped / seen < 0.9


def features_of(step, images):
    """What reaches the last layer of CONV without dropout."""
    k, b, *_ = step.before.params
    x = tf.nn.relu(tf.nn.conv2d(images, k, 1, "SAME") + b)
    return tf.reshape(tf.nn.max_pool2d(x, 2, 2, "SAME"), [-1]).numpy()


# Top level


@case("directory", "directory={tmp_path}/elsewhere")
def _(run):
    path = Path(run.config["directory"])
    config = path.parent / "config.json"
    config.write_text(json.dumps(base_config()))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        patch.setattr(sys, "argv", ["train.py", "--config", str(config), f"directory={path}"])
        train_script.main()
    assert sorted(p.name for p in path.parent.iterdir()) == ["config.json", "elsewhere"]
    usual = base(run, validates=True)
    assert RunDirectory(path).rows() == usual.rows
    for loaded, weight in zip(l2o.load(path).network.weights, usual.weights, strict=True):
        assert close(loaded.numpy(), weight)


@case("seed", "seed=1", validates=True)
def _(typed):
    again = cached_run.__wrapped__(("seed=1",), "DM", "Simple", None, True)
    usual = run(validates=True)
    assert again.rows == typed.rows != usual.rows
    for a, b, other in zip(typed.initial, again.initial, usual.initial, strict=True):
        assert np.array_equal(a, b)
        assert a.ndim < 2 or not np.array_equal(a, other), "the network"
    for a, b, other in zip(typed.steps, again.steps, usual.steps, strict=True):
        assert np.array_equal(a.start, b.start)
        assert not np.array_equal(a.start, other.start), "the optimizees"


@case("distribute", "distribute=mirrored", "training/batch_of_problems=2", validates=True)
def _(typed):
    replicas = join(typed.config["distribute"])
    made = build_runner(typed.config, replicas=replicas)
    (row,) = made.train()
    assert made.training.replicas.count == 2, "tests have two devices"
    assert row.unrolls == typed.rows[0].unrolls == 2
    assert close(row.meta_loss, typed.rows[0].meta_loss)
    assert close(row.validation_loss, typed.rows[0].validation_loss)


@case("constructor", "constructor=ScaleBasic")
def _(run):
    assert type(run.training.optimizer) is OPTIMIZERS.entries["ScaleBasic"]
    assert run.first.after.optimizer_state._fields == ("ms", "decay", "lr", "lstm")
    assert all_close(seen_hidden(run), expected_hidden(run))


class Through(ESTIMATORS.entries["TruncatedBackprop"]):
    """An estimator without options: TruncatedBackprop with second derivatives."""

    def __init__(self):
        super().__init__(second_derivatives=True)


@contextmanager
def another_estimator(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ESTIMATORS.entries, "Through", Through)
        yield


@case(
    "estimator_constructor",
    "estimator_constructor=Through",
    *LARGE_STEPS,
    constructor="RNNProp",
    within=another_estimator,
)
def _(typed):
    assert typed.config["estimator"] == {}
    same = run("estimator/second_derivatives=true", *LARGE_STEPS, constructor="RNNProp")
    assert np.array_equal(typed.meta_gradient, same.meta_gradient)
    usual = run(*LARGE_STEPS, constructor="RNNProp")
    assert not np.array_equal(typed.meta_gradient, usual.meta_gradient)


TINY_CURRICULUM = (
    "strategy/schedule=[1,2]",
    "strategy/min_periods=1",
    "strategy/epochs_per_period=1",
)


@case(
    "strategy_constructor",
    "strategy_constructor=CurriculumLearning",
    *TINY_CURRICULUM,
    validates=True,
)
def _(typed):
    # The seed documents it inside the section as well.
    inside = run(
        "strategy/strategy_constructor=CurriculumLearning", *TINY_CURRICULUM, validates=True
    )
    for made in (typed, inside):
        assert type(made.runner.strategy) is STRATEGIES.entries["CurriculumLearning"]
        assert lengths(made) == [[1], [2]]


# The tests.


def value_at(config, path):
    """The value of an option in a resolved config."""
    value = config
    for part in path.replace("<i>", "0").replace("<j>", "0").split("/"):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def run_of(case, *typed):
    return run(
        *typed,
        constructor=case.constructor,
        strategy=case.strategy,
        prepare=case.prepare,
        validates=case.validates,
    )


# What conv_classifier hands on as mlp_classifier does, and takes long to trace.
LONG = [
    f"{option} (conv_classifier)"
    for option in ("shuffle_buffer", "batch_size", "activation", "dataset")
]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name.endswith(tuple(LONG)) else name
        for name in CASES
    ],
)
def test_option_changes_what_it_should(name, tmp_path):
    case = CASES[name]
    typed = [text.replace("{tmp_path}", str(tmp_path)) for text in case.typed]
    with case.within(tmp_path):
        made = run_of(case, *typed)
        entry = OPTIONS[name]
        assert value_at(made.config, entry.path) != entry.default, "not a test of it"
        case.check(made)


def test_every_option_has_a_case():
    from tests.optimizer.test_small_mlps_options import CASES as OF_SMALL_MLPS

    assert sorted([*CASES, *OF_SMALL_MLPS]) == sorted(OPTIONS)


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


# `directory` is not for build_runner.
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name != "directory"])
@pytest.mark.slow
def test_a_case_fails_if_its_option_is_ignored(name, tmp_path, monkeypatch):
    real = build_runner

    def build(config, directory=None, replicas=None):
        config = without(config, OPTIONS[name].path)
        return real(config, directory, replicas and join(config["distribute"]))

    cached_run.cache_clear()
    monkeypatch.setitem(globals(), "build_runner", build)
    case = CASES[name]
    with case.within(tmp_path), pytest.raises((AssertionError, ValueError)):
        case.check(run_of(case, *case.typed))
    cached_run.cache_clear()
