"""The recurrent cells' first step in NumPy, from the papers' equations."""

import numpy as np

from tests.option_cases import LSTMS, close

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


def choice_inputs(run, options, g):
    # Adam's debiased moments of the first step are g and g^2, but for epsilon. The parameters are
    # a vector.
    adam = -g / (np.abs(g) + 1e-7 / np.sqrt(0.001))
    rmsprop = -g / np.sqrt(0.1 * g**2 + 1e-7)
    others = np.tile([1.0, 1.0, 0.0, 0.0], (len(g), 1))
    return np.hstack([np.stack([adam, rmsprop], 1), others])


INPUTS = {
    "Choice": choice_inputs,
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
