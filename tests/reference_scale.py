"""Wichrowska et al. 2017 in NumPy, one coordinate at a time, written independently of l2o."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def double(w):
    """The same weights in float64; lists and tuples keep their nesting."""
    if isinstance(w, list | tuple):
        return [double(v) for v in w]
    return np.asarray(w, np.float64)


def scalar(w):
    return float(np.squeeze(w))


def read(h, kernel, bias=0.0):
    """Dense(1) of one hidden state."""
    return scalar(h @ kernel) + scalar(bias)


def lstm_row(x, h, c, weights):
    """One LSTM step of one row; gates in Keras' order: input, forget, candidate, output."""
    kernel, recurrent, bias = weights
    u = len(h)
    a = x @ kernel + h @ recurrent + bias
    i, f, candidate, o = a[:u], a[u : 2 * u], a[2 * u : 3 * u], a[3 * u :]
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
    return sigmoid(o) * np.tanh(c), c


def gru_row(x, h, weights):
    """One GRU step of one row; Keras' order: update, reset, candidate; reset before U_h."""
    kernel, recurrent, bias = weights
    u = len(h)
    z = sigmoid(x @ kernel[:, :u] + h @ recurrent[:, :u] + bias[:u])
    r = sigmoid(x @ kernel[:, u : 2 * u] + h @ recurrent[:, u : 2 * u] + bias[u : 2 * u])
    new = np.tanh(x @ kernel[:, 2 * u :] + (r * h) @ recurrent[:, 2 * u :] + bias[2 * u :])
    return z * h + (1 - z) * new


class ScaleBasic:
    """The coordinatewise rule in the paper's code."""

    def __init__(self, weights, n, lr, epsilon=1e-10):
        self.w = {name: double(w) for name, w in weights.items()}
        self.n, self.epsilon = n, epsilon
        self.ms, self.decay = np.zeros(n), np.zeros(n)
        self.lr = np.broadcast_to(np.asarray(lr, np.float64), (n,)).copy()
        units = [len(recurrent) for _, recurrent, _ in self.w["lstm"]]
        self.states = [[(np.zeros(u), np.zeros(u)) for u in units] for _ in range(n)]

    def step(self, g):
        w, delta = self.w, np.zeros(self.n)
        for j in range(self.n):
            # ms <- (1 - decay) g^2 + decay ms
            self.ms[j] = (1 - self.decay[j]) * g[j] ** 2 + self.decay[j] * self.ms[j]
            # asinh(g / sqrt(ms + eps))
            x = np.array([np.arcsinh(g[j] / np.sqrt(self.ms[j] + self.epsilon))])
            # the LSTM stack
            for k, cell in enumerate(w["lstm"]):
                self.states[j][k] = lstm_row(x, *self.states[j][k], cell)
                x = self.states[j][k][0]
            # decay <- sigmoid(Dense(1)(h))
            self.decay[j] = sigmoid(read(x, w["decay_kernel"], w["decay_bias"]))
            # lr <- lr * 2 sigmoid(Dense(1)(h))
            self.lr[j] *= 2 * sigmoid(read(x, w["lr_kernel"], w["lr_bias"]))
            # delta = -lr * Dense(1, no bias)(h)
            delta[j] = -self.lr[j] * read(x, w["delta_kernel"])
        return delta


class ScaleHierarchical:
    """The three-level rule of the paper."""

    def __init__(self, weights, sizes, eta_bar, timescales=5, epsilon=1e-10):
        self.w = w = {name: double(v) for name, v in weights.items()}
        n, self.S, self.epsilon, self.t = sum(sizes), timescales, epsilon, 0
        ends = np.cumsum(sizes)
        self.tensors = [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        self.eta_bar = np.broadcast_to(np.asarray(eta_bar, np.float64), (n,)).copy()
        self.beta_g, self.beta_lambda = np.full(n, sigmoid(2.2)), np.full(n, sigmoid(3.2))
        self.gbar, self.lam = np.zeros((n, timescales)), np.zeros((n, timescales))
        self.h_param = [w["param_h0"].copy() for _ in range(n)]
        self.h_tensor = [w["tensor_h0"].copy() for _ in sizes]
        self.h_global = w["global_h0"].copy()

    def features(self, j, g, mean_eta_bar):
        """Move the momenta of coordinate j and return its scaled momenta and its features."""
        for s in range(self.S):
            # eq. 1: gbar_s <- b_s gbar_s + (1 - b_s) g, b_s = beta_g^(0.5^s)
            b = self.beta_g[j] ** (0.5**s)
            self.gbar[j, s] = b * self.gbar[j, s] + (1 - b) * g
            # eq. 2: the same on gbar_s^2; the value itself on the first step
            b = 0.0 if self.t == 1 else self.beta_lambda[j] ** (0.5**s)
            self.lam[j, s] = b * self.lam[j, s] + (1 - b) * self.gbar[j, s] ** 2
        # eq. 3: m_s = asinh(gbar_s / sqrt(lambda_s + eps))
        root = [np.sqrt(v + self.epsilon) for v in self.lam[j]]
        m = [np.arcsinh(self.gbar[j, s] / root[s]) for s in range(self.S)]
        # eq. 4: gamma_s = log(lambda_s + eps) - mean_s log(lambda + eps)
        logs = [np.log(v + self.epsilon) for v in self.lam[j]]
        gamma = [v - sum(logs) / self.S for v in logs]
        # products of neighbouring scales
        products = [m[s] * m[s + 1] for s in range(self.S - 1)]
        # relative log learning rate
        eta_rel = self.eta_bar[j] - mean_eta_bar
        return np.array(m), np.array([*m, *gamma, *products, eta_rel])

    def step(self, g):
        w, n = self.w, len(g)
        self.t += 1
        delta, d, new_tensor = np.zeros(n), np.zeros(n), []
        mean_eta_bar = sum(self.eta_bar) / n  # of the whole problem, before any moves
        for tensor, h_tensor in zip(self.tensors, self.h_tensor, strict=True):
            total = 0
            for j in tensor:
                m, x = self.features(j, g[j], mean_eta_bar)
                # eq. 10: the coordinate GRU, under the old h_tensor and h_global
                x_param = np.concatenate([x, h_tensor, self.h_global])
                self.h_param[j] = h = gru_row(x_param, self.h_param[j], w["param"])
                total = total + np.concatenate([h, x])
                # D.3, B.1: d = Dense(1)(h_param) + w . m
                d[j] = read(h, w["direction_kernel"], w["direction_bias"])
                d[j] += sum(w["shortcut"][s] * m[s] for s in range(self.S))
            # eq. 11: the tensor GRU, on the mean over its coordinates and the old h_global
            x_tensor = np.concatenate([total / len(tensor), self.h_global])
            new_tensor.append(gru_row(x_tensor, h_tensor, w["tensor"]))
            # d / its root mean square over the tensor
            rms = np.sqrt(sum(d[j] ** 2 for j in tensor) / len(tensor) + 1e-20)
            for j in tensor:
                delta[j] = -self.rate(j) * d[j] / rms
        self.h_tensor = new_tensor
        # eq. 12: the global GRU, on the mean of all tensors
        mean = sum(self.h_tensor) / len(self.h_tensor)
        self.h_global = gru_row(mean, self.h_global, w["global"])
        return delta

    def rate(self, j):
        """Move the learning rate and the decays of coordinate j; return exp(eta + offset)."""
        w, h = self.w, self.h_param[j]
        # eq. 7: eta = eta_bar + Dense(1)(h_param), clipped
        eta = min(max(self.eta_bar[j] + read(h, w["lr_kernel"], w["lr_bias"]), -33.0), 33.0)
        # eq. 8: eta_bar <- sigmoid(gamma_lr) eta_bar + (1 - sigmoid(gamma_lr)) eta
        keep = sigmoid(scalar(w["lr_momentum"]))
        self.eta_bar[j] = keep * self.eta_bar[j] + (1 - keep) * eta
        # eq. 13: the decays of the next step
        self.beta_g[j] = sigmoid(read(h, w["beta_g_kernel"], w["beta_g_bias"]))
        self.beta_lambda[j] = sigmoid(read(h, w["beta_lambda_kernel"], w["beta_lambda_bias"]))
        return np.exp(eta + scalar(w["offset"]))
