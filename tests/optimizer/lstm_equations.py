"""The stack of LSTM cells in NumPy, and what compares an optimizer with it."""

import numpy as np
import tensorflow as tf

SHAPES = [(2, 3), (), (4,)]
COUNT = 11
FUNCTIONS = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
}


def randomize(optimizer):
    """Gives every weight some size, so that none can go missing unseen."""
    rng = np.random.default_rng(1)
    shapes = [w.shape for w in optimizer.network.get_weights()]
    optimizer.network.set_weights([0.6 * rng.normal(size=s) for s in shapes])


def numpy_stack(
    optimizer, weights, activation="tanh", recurrent_activation="sigmoid", use_bias=True, **_
):
    """Returns x -> readout, a stack of LSTM cells that remembers; gates i, f, c, o."""
    act, gate = FUNCTIONS[activation], FUNCTIONS[recurrent_activation]
    weights = list(weights)
    cells = []
    for units in optimizer.layers:
        kernel, recurrent = weights.pop(0), weights.pop(0)
        bias = weights.pop(0) if use_bias else np.zeros(4 * units)
        cells.append([kernel, recurrent, bias, np.zeros((COUNT, units)), np.zeros((COUNT, units))])
    readout, readout_bias = weights

    def call(x):
        for cell in cells:
            kernel, recurrent, bias, h, c = cell
            i, f, candidate, o = np.split(x @ kernel + h @ recurrent + bias, 4, axis=1)
            c = gate(f) * c + gate(i) * act(candidate)
            x = gate(o) * act(c)
            cell[3:] = x, c
        return (x @ readout + readout_bias)[:, 0]

    return call


def gradients(steps=5):
    """Ordinary, tiny (below exp(-10)), zero, and just at the threshold."""
    rng = np.random.default_rng(0)
    for _ in range(steps):
        g = rng.normal(size=COUNT) * 10.0 ** rng.integers(-8, 3, COUNT)
        g[:4] = 0.0, np.exp(-10), -np.exp(-10) * (1 - 1e-6), 1e-9
        yield g


def split(flat):
    sizes = np.cumsum([int(np.prod(s)) for s in SHAPES])[:-1]
    return [tf.constant(v.reshape(s)) for v, s in zip(np.split(flat, sizes), SHAPES, strict=True)]


def assert_follows(optimizer, expected):
    """Five updates of `optimizer` equal `expected(g)`, a function of flat gradients."""
    params = split(np.ones(COUNT))
    state = optimizer.initial_state(params)
    for g in gradients():
        deltas, state = optimizer.update(params, split(g), state)
        assert [tuple(d.shape) for d in deltas] == SHAPES
        flat = np.concatenate([np.ravel(d) for d in deltas])
        np.testing.assert_allclose(flat, expected(g), rtol=1e-8, atol=1e-11)


CELLS = [
    {},
    {"layers": (5,)},
    {"layers": (3, 4, 5)},
    {"activation": "relu"},
    {"recurrent_activation": "hard_sigmoid"},
    {"use_bias": False},
]
