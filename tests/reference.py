"""The papers' equations in NumPy, written down independently of l2o."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, h, c, kernel, recurrent, bias):
    """One LSTM step; gates in Keras' order: input, forget, candidate, output."""
    i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


class Rule:
    """A rule over a flat vector of coordinates, with the weights of a Keras network."""

    def __init__(self, weights, n, layers):
        self.weights = [np.asarray(w, np.float64) for w in weights]
        self.states = [(np.zeros((n, u)), np.zeros((n, u))) for u in layers]
        self.layers = layers

    def network(self, x, weights):
        for k, (h, c) in enumerate(self.states):
            kernel, recurrent, bias = weights[3 * k : 3 * k + 3]
            h, c = lstm(x, h, c, kernel, recurrent, bias)
            self.states[k] = (h, c)
            x = h
        readout, bias = weights[3 * len(self.states) :]
        return (x @ readout + bias)[:, 0]


class DM(Rule):
    """Andrychowicz et al. 2016, Appendix A."""

    def __init__(self, weights, n, layers, p=10.0, scale=0.1, preprocess=True):
        super().__init__(weights, n, layers)
        self.p, self.scale, self.preprocess = p, scale, preprocess

    def step(self, g):
        x = np.empty((len(g), 2))
        for row, value in zip(x, g, strict=True):
            if abs(value) >= np.exp(-self.p):
                row[:] = np.log(abs(value)) / self.p, np.sign(value)
            else:
                row[:] = -1, np.exp(self.p) * value
        return self.scale * self.network(x if self.preprocess else g[:, None], self.weights)


class RNNProp(Rule):
    """Lv et al. 2017, section 4."""

    def __init__(self, weights, n, layers, beta_1=0.9, beta_2=0.9, alpha=0.1, epsilon=1e-10):
        super().__init__(weights, n, layers)
        self.beta_1, self.beta_2, self.alpha, self.epsilon = beta_1, beta_2, alpha, epsilon
        self.m, self.v, self.t = np.zeros(n), np.zeros(n), 0

    def step(self, g):
        self.t += 1
        self.m = self.beta_1 * self.m + (1 - self.beta_1) * g
        self.v = self.beta_2 * self.v + (1 - self.beta_2) * g**2
        m_hat = self.m / (1 - self.beta_1**self.t)
        v_hat = self.v / (1 - self.beta_2**self.t)
        s = np.sqrt(v_hat) + self.epsilon
        x = np.stack([m_hat / s, g / s], -1)
        projection, bias = self.weights[:2]
        x = x @ projection + bias
        x = np.where(x > 0, x, np.expm1(x))  # ELU
        return -self.alpha * np.tanh(self.network(x, self.weights[2:]))
