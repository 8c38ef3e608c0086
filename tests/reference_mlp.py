"""Metz et al. 2022 and Moudgil et al. 2026 in NumPy, one tensor at a time, independent of l2o."""

import numpy as np

TAUS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


def mean(x, axis):
    return np.mean(x, axis=axis, keepdims=True)


def rsqrt(x):
    return 1 / np.sqrt(x)


def mlp(x, weights):
    """x: [features, ...]; weights: kernel, bias, kernel, bias, ... in float64."""
    weights = [np.asarray(w, np.float64) for w in weights]
    kernels, biases = weights[0::2], weights[1::2]
    x = np.moveaxis(np.array(x), 0, -1)
    for i, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        x = x @ kernel[: x.shape[-1]] + bias
        if i < len(kernels) - 1:
            x = np.maximum(x, 0)
    return np.moveaxis(x, -1, 0)


class Accumulators:
    """The averages of one tensor, one decay after the other."""

    def __init__(self, shape, momentum_decays, rms_decay, factored_decays):
        self.b, self.r, self.a = momentum_decays, rms_decay, factored_decays
        self.m = [np.zeros(shape) for _ in self.b]
        self.v = np.zeros(shape)
        self.f = [np.zeros(shape) for _ in self.a]
        self.axes = None
        if len(shape) >= 2:
            self.d0 = max(range(len(shape)), key=lambda i: (shape[i], i))
            others = [i for i in range(len(shape)) if i != self.d0]
            self.d1 = max(others, key=lambda i: (shape[i], i))
            self.row = [0.0 * mean(self.v, self.d0) for _ in self.a]
            self.col = [0.0 * mean(self.v, self.d1) for _ in self.a]

    def add(self, g):
        square = g**2 + 1e-30
        self.m = [b * m + (1 - b) * g for b, m in zip(self.b, self.m, strict=True)]
        self.v = self.r * self.v + (1 - self.r) * g**2
        self.f = [a * f + (1 - a) * square for a, f in zip(self.a, self.f, strict=True)]
        if self.is_factored:
            for k, a in enumerate(self.a):
                self.row[k] = a * self.row[k] + (1 - a) * mean(square, self.d0)
                self.col[k] = a * self.col[k] + (1 - a) * mean(square, self.d1)

    @property
    def is_factored(self):
        return self.v.ndim >= 2

    def whole(self, averages):
        """Row or column averages, repeated over the tensor."""
        return [np.broadcast_to(x, self.v.shape) for x in averages]

    @property
    def scales(self):
        """R C at each decay."""
        scales = []
        for row, col in zip(self.row, self.col, strict=True):
            share = row / (mean(row, self.d1) + 1e-9)
            scales.append(rsqrt(np.maximum(share, 1e-9)) * rsqrt(np.maximum(col, 1e-9)))
        return scales


class Adafac:
    """AdafacMLP on one tensor; thetas: of the decays of m, v, and row and col."""

    def __init__(self, weights, thetas, shape, options):
        starts = (options["momentum_decays"], options["rms_decay"], options["factored_decays"])
        decays = [
            1 - np.exp(10 * (np.log(1 - np.array(start)) / 10 + np.array(theta, np.float64)))
            for start, theta in zip(starts, thetas, strict=True)
        ]
        self.averages = Accumulators(shape, *decays)
        self.weights, self.options, self.t = weights, options, 0

    def step(self, p, g):
        self.t += 1
        s = self.averages
        s.add(g)
        x = [g, p, *s.m, s.v, *(m * rsqrt(s.v + 1e-6) for m in s.m), rsqrt(s.v + 1e-6)]
        if s.is_factored:
            row, col = s.whole(s.row), s.whole(s.col)
            x += [g * scale for scale in s.scales]
            x += [*row, *col, *(rsqrt(y + 1e-8) for y in [*row, *col])]
            x += [m * scale for m, scale in zip(s.m, s.scales, strict=True)]
        else:
            x += [g * rsqrt(f + 1e-9) for f in s.f]
            x += [*s.f, *s.f, *(rsqrt(f + 1e-8) for f in [*s.f, *s.f])]
            x += [m * rsqrt(f + 1e-6) for m, f in zip(s.m, s.f, strict=True)]
        assert len(x) == 28
        x = [y / np.sqrt(np.mean(y**2) + 1e-5) for y in x]
        x += [np.full(g.shape, np.tanh(self.t / tau - 1)) for tau in TAUS]
        o = mlp(x, self.weights)
        return -self.options["step_size"] * o[0] * np.exp(self.options["exp_mult"] * o[1])


class Celo2:
    """Celo2 on one tensor that takes the learned way."""

    def __init__(self, weights, shape, options):
        self.averages = Accumulators(
            shape, options["momentum_decays"], options["rms_decay"], options["factored_decays"]
        )
        self.weights, self.options = weights, options

    def step(self, p, g):
        g = np.clip(g, -self.options["gradient_clip"], self.options["gradient_clip"])
        s = self.averages
        s.add(g)
        r = rsqrt(s.v + 1e-8)
        x = [g, np.clip(g, -0.1, 0.1), p, *s.m, s.v, *(m * r for m in s.m), r]
        if s.is_factored:
            row, col = s.whole(s.row), s.whole(s.col)
            x += [*(g * scale for scale in s.scales), g * r, *row, *col]
            x += [rsqrt(y + 1e-8) for y in [*row, *col]]
            x += [m * scale for m, scale in zip(s.m, s.scales, strict=True)]
        else:
            x += [*(g * rsqrt(f + 1e-9) for f in s.f), g * r]
        assert len(x) == (30 if s.is_factored else 15)
        x = [over_rms(y) for y in x]
        o = mlp(x, self.weights)
        o[0] = o[0] + {"nothing": 0, "momentum": x[3], "adam": x[7]}[self.options["correct"]]
        d = o[0] * np.exp(self.options["exp_mult"] * o[1])
        if self.options["orthogonalize"] and g.ndim >= 2:
            d = newton_schulz(d)
        return -self.options["step_size"] * over_rms(d)


def over_rms(x):
    """Over the last two axes, as far as there are any."""
    axes = tuple(range(x.ndim))[-2:]
    return x / np.sqrt(np.mean(x**2, axis=axes, keepdims=True) + 1e-9)


def newton_schulz(x):
    """One matrix after the other."""
    if x.ndim > 2:
        return np.array([newton_schulz(matrix) for matrix in x])
    if x.shape[0] > x.shape[1]:
        return newton_schulz(x.T).T
    x = x / (np.linalg.norm(x) + 1e-8)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


class Adam:
    """The step of Celo2's vectors and embeddings."""

    def __init__(self, shape, options):
        self.m, self.v, self.t, self.options = np.zeros(shape), np.zeros(shape), 0, options

    def step(self, p, g):
        o, self.t = self.options, self.t + 1
        self.m = o["adam_beta_1"] * self.m + (1 - o["adam_beta_1"]) * g
        self.v = o["adam_beta_2"] * self.v + (1 - o["adam_beta_2"]) * g**2
        m = self.m / (1 - o["adam_beta_1"] ** self.t)
        v = self.v / (1 - o["adam_beta_2"] ** self.t)
        return -o["step_size"] * o["adam_multiplier"] * m / (np.sqrt(v) + o["adam_epsilon"])


class LearnedMuon:
    """LearnedMuon on one tensor of two or more axes."""

    def __init__(self, weights, shape, options):
        self.mixture, *thetas, self.size, self.vector_size = (
            np.asarray(w, np.float64) for w in weights
        )
        starts = ((0.9,), 0.95, (0.99,))
        decays = [
            1 / (1 + (1 - np.array(start)) / np.array(start) * np.exp(-2 * theta))
            for start, theta in zip(starts, thetas, strict=True)
        ]
        self.averages, self.options = Accumulators(shape, *decays), options

    def step(self, p, g):
        s = self.averages
        s.add(g)
        (scale,) = s.scales
        plain = [g, *s.m]
        rows = [plain, [x * rsqrt(s.v + 1e-8) for x in plain], [x * scale for x in plain]]
        d = sum(
            w * over_rms(x)
            for weights, row in zip(self.mixture, rows, strict=True)
            for w, x in zip(weights, row, strict=True)
        )
        size = self.options["step_size"] * np.exp(2 * self.size)
        return -size * over_rms(newton_schulz(d))
