"""The options of the learned optimizers, `network/...`, and which one it is."""

from functools import partial

import numpy as np

from l2o.optimizer import OPTIMIZERS
from l2o.train import resolve_config
from tests.optimizer.first_step import FUNCTIONS, all_close, cells, expected_hidden, seen_hidden
from tests.option_cases import (
    LSTMS,
    WIDE,
    Cases,
    base,
    base_config,
    close,
    run,
    state_of,
)

cases = Cases()


def cells_compute_with(name):
    """A check that the cells' outputs are those of the paper with this option, and no other."""

    def check(run):
        constructor = run.config["constructor"]
        default = resolve_config({**base_config(constructor), "network": {}})["network"][name]
        assert all_close(seen_hidden(run), expected_hidden(run))
        assert not all_close(seen_hidden(run), expected_hidden(run, **{name: default}))

    return check


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
    readouts = {"Choice": 2, "ScaleBasic": 3}.get(run.config["constructor"], 1)
    assert shapes.count((2, 1)) == readouts


def is_called(run):
    assert run.training.optimizer.name == "mine"
    assert run.training.optimizer.get_config()["name"] == "mine"


# One run for all that shows in what the cells compute: NumPy tells who changed what.
CELLS = ("network/activation=softsign", "network/recurrent_activation=hard_sigmoid")

for _constructor in (*LSTMS, "ScaleHierarchical"):
    _cells = (
        *CELLS,
        *{"Choice": [], "DM": ["network/p=2"]}.get(_constructor, ["network/epsilon=1.0"]),
    )
    for _typed in _cells:
        _option = _typed.partition("=")[0]
        cases.add(
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
        cases.add(f"{_option} ({_constructor})", *WEIGHTS, check=_check, constructor=_constructor)
    cases.add(
        f"network/use_bias ({_constructor})",
        "network/use_bias=false",
        check=cells_have_no_bias,
        constructor=_constructor,
    )
for _constructor in LSTMS:
    cases.add(
        f"network/layers ({_constructor})",
        "network/layers=[4,2]",
        check=has_lstm_layers,
        constructor=_constructor,
    )


@cases.add("network/preprocess", "network/preprocess=false", constructor="DM")
def _(run):
    assert cells(run)[0].kernel.shape[0] == 1
    assert cells(base(run))[0].kernel.shape[0] == 2
    assert all_close(seen_hidden(run), expected_hidden(run))


def steps_are_three_times_as_large(run):
    assert close(run.first.delta, 3 * base(run).first.delta)


cases.add(
    "network/output_scale",
    "network/output_scale=0.3",
    check=steps_are_three_times_as_large,
    constructor="DM",
)
cases.add(
    "network/alpha",
    "network/alpha=0.3",
    check=steps_are_three_times_as_large,
    constructor="RNNProp",
)


POOL = ('network/pool=["SGD","Momentum","AddSign"]', "network/rates=[0.5,0.25,0.125]")


def lies_between(run, factors):
    """Whether the change is a mix of these factors of the gradient, and no single one of them."""
    ratio = run.first.delta / run.first.gradient
    assert (-max(factors) < ratio).all()
    assert (ratio < -min(factors)).all()


@cases.add("network/pool", *POOL, constructor="Choice")
def _(run):
    # On the first step, AddSign doubles the gradient. The readouts start small.
    lies_between(run, [0.25, 0.5])
    assert [len(averages) for averages in state_of(run).pool] == [0, 1, 1]


@cases.add("network/rates", *POOL[:1], "network/rates=[8.0,16.0,16.0]", constructor="Choice")
def _(run):
    lies_between(run, [8.0, 32.0])


BETAS = ("network/beta_1=0.75", "network/beta_2=0.5")


@cases.add("network/beta_1", *BETAS, constructor="RNNProp")
def _(run):
    assert close(run.first.after.optimizer_state.m, 0.25 * run.first.gradient)


@cases.add("network/beta_2", *BETAS, constructor="RNNProp")
def _(run):
    assert close(run.first.after.optimizer_state.v, 0.5 * run.first.gradient**2)


def spread(values, low, high):
    """Whether values fill most of an interval, on a logarithmic scale."""
    return low <= min(values) < low * 1.5 and high / 1.5 < max(values) <= high


@cases.add(
    "network/init_lr (ScaleBasic)", "network/init_lr=[0.01,0.1]", WIDE, constructor="ScaleBasic"
)
def _(typed):
    rates = typed.first.before.optimizer_state.lr.numpy()
    assert spread(rates, 0.01, 0.1)
    usual = run(WIDE, constructor="ScaleBasic")
    assert close(usual.first.before.optimizer_state.lr, np.ones(30))
    assert close(typed.first.delta, rates * usual.first.delta)


@cases.add(
    "network/init_lr (ScaleHierarchical)",
    "network/init_lr=[0.01,0.1]",
    "problems/0/kwargs/dimensions=3",
    "training/repeat=20",
    "training/depth=1",
    constructor="ScaleHierarchical",
    slow=True,
)
def _(typed):
    logs = np.array([step.before.optimizer_state.eta_bar for step in typed.trained])
    assert spread([np.exp(logs.min()), np.exp(logs.max())], 0.01, 0.1)
    # Half of the logarithm is the tensor's own.
    assert np.ptp(logs, axis=1).max() <= np.log(10) / 2


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
hierarchical = partial(cases.add, constructor="ScaleHierarchical")


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


@cases.add("constructor", "constructor=ScaleBasic")
def _(run):
    assert type(run.training.optimizer) is OPTIMIZERS.entries["ScaleBasic"]
    assert run.first.after.optimizer_state._fields == ("ms", "decay", "lr", "lstm")
    assert all_close(seen_hidden(run), expected_hidden(run))


test_option_changes_what_it_should = cases.test()
test_a_case_fails_if_its_option_is_ignored = cases.test_ignored()
