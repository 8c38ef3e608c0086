"""The models of the problems in NumPy, from their papers' equations, and their numbers of weights.

Convolutions are TensorFlow's. Parameters come in the order of `problem.init`.
"""

import itertools
import math

import numpy as np
import tensorflow as tf


def dense(x, kernel, bias):
    return x @ kernel + bias


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def normalised(x, gamma, beta, axes=-1, epsilon=1e-5):
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def cross_entropy(logits, labels):
    right = np.take_along_axis(softmax(logits), labels[..., None], -1)
    return -np.log(right).mean()


class Weights:
    """Hands parameters out in their order, as float64."""

    def __init__(self, params):
        self.left = [np.asarray(p, np.float64) for p in params]

    def take(self, count):
        taken, self.left = self.left[:count], self.left[count:]
        return taken


def attention(x, weights, heads, causal):
    query, key, value = (dense(x, *weights.take(2)) for _ in range(3))
    places, size = x.shape[1], x.shape[2] // heads
    heard = np.zeros_like(x)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = query[..., part] @ key[..., part].transpose(0, 2, 1) / np.sqrt(size)
        for place in range(places if causal else 0):
            scores[:, place, place + 1 :] = -np.inf
        heard[..., part] = softmax(scores) @ value[..., part]
    return dense(heard, *weights.take(2))


def block(x, weights, heads, causal):
    x = x + attention(normalised(x, *weights.take(2)), weights, heads, causal)
    hidden = gelu(dense(normalised(x, *weights.take(2)), *weights.take(2)))
    return x + dense(hidden, *weights.take(2))


def lstm(x, kernel, recurrent, bias):
    h = c = np.zeros((len(x), recurrent.shape[0]))
    out = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.stack(out, 1)


def gru(x, kernel, recurrent, bias):
    h, out = np.zeros((len(x), recurrent.shape[0])), []
    for t in range(x.shape[1]):
        from_x = np.split(x[:, t] @ kernel + bias[0], 3, axis=1)
        from_h = np.split(h @ recurrent + bias[1], 3, axis=1)
        z, r = (sigmoid(from_x[k] + from_h[k]) for k in range(2))
        h = z * h + (1 - z) * np.tanh(from_x[2] + r * from_h[2])
        out.append(h)
    return np.stack(out, 1)


def rnn(x, kernel, recurrent, bias):
    h, out = np.zeros((len(x), recurrent.shape[0])), []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ kernel + h @ recurrent + bias)
        out.append(h)
    return np.stack(out, 1)


def char_lm_logits(params, ids, architecture="transformer", heads=2, depth=1):
    weights = Weights(params)
    (table,) = weights.take(1)
    x = table[ids]
    if architecture == "transformer":
        x = x + weights.take(1)[0]
    for _ in range(depth):
        if architecture == "transformer":
            x = block(x, weights, heads, causal=True)
        else:
            x = {"rnn": rnn, "gru": gru, "lstm": lstm}[architecture](x, *weights.take(3))
    if architecture == "transformer":
        x = normalised(x, *weights.take(2))
    logits = dense(x, *weights.take(2))
    assert not weights.left
    return logits


def char_lm(params, state, ids, targets, **options):
    return cross_entropy(char_lm_logits(params, ids, **options), targets)


def patches(images, size):
    count, height, width, channels = images.shape
    cut = [
        images[:, i : i + size, j : j + size].reshape(count, size * size * channels)
        for i in range(0, height, size)
        for j in range(0, width, size)
    ]
    return np.stack(cut, 1)


def vit_classifier(params, state, images, labels, heads=2, depth=1, patch_size=4):
    weights = Weights(params)
    x = dense(patches(images, patch_size), *weights.take(2))
    x = x + weights.take(1)[0]
    for _ in range(depth):
        x = block(x, weights, heads, causal=False)
    return cross_entropy(dense(normalised(x, *weights.take(2)).mean(1), *weights.take(2)), labels)


def mixer_classifier(params, state, images, labels, depth=1, patch_size=4):
    weights = Weights(params)
    x = dense(patches(images, patch_size), *weights.take(2))
    for _ in range(depth):
        turned = normalised(x, *weights.take(2)).transpose(0, 2, 1)
        turned = dense(gelu(dense(turned, *weights.take(2))), *weights.take(2))
        x = x + turned.transpose(0, 2, 1)
        hidden = gelu(dense(normalised(x, *weights.take(2)), *weights.take(2)))
        x = x + dense(hidden, *weights.take(2))
    return cross_entropy(dense(normalised(x, *weights.take(2)).mean(1), *weights.take(2)), labels)


def relu(x):
    return np.maximum(x, 0)


def softsign(x):
    return x / (1 + np.abs(x))


def convolution(x, kernel, strides=1):
    return tf.nn.conv2d(tf.constant(x), tf.constant(kernel), strides, "SAME").numpy()


def residual_classifier(params, state, images, labels, depth=1, activation=relu):
    """In training: with the moments of the mini-batch."""
    weights = Weights(params)

    def norm(x, gamma, beta):
        return normalised(x, gamma, beta, axes=(0, 1, 2), epsilon=1e-3)

    kernel, *affine = weights.take(3)
    x = activation(norm(convolution(images.astype(np.float64), kernel), *affine))
    for i in range(depth):
        kernel, *affine = weights.take(3)
        y = activation(norm(convolution(x, kernel, 2 if i else 1), *affine))
        if i:  # Keras orders layers by their depth in the graph
            around, kernel, *affine_around = weights.take(4)
            x = norm(convolution(x, around, 2), *affine_around)
            affine = weights.take(2)
        else:
            kernel, *affine = weights.take(3)
        x = activation(x + norm(convolution(y, kernel), *affine))
    return cross_entropy(dense(x.mean((1, 2)), *weights.take(2)), labels)


def encoded(weights, x, architecture, depth, activation):
    for _ in range(depth):
        kernel, bias = weights.take(2)
        if architecture == "mlp":
            x = activation(dense(x.reshape(len(x), -1), kernel, bias))
        else:
            x = activation(convolution(x, kernel, 2) + bias)
    return x.reshape(len(x), -1)


def decoded(weights, z, shape, architecture, depth, activation):
    for _ in range(depth if architecture == "mlp" else 1):
        z = activation(dense(z, *weights.take(2)))
    if architecture == "mlp":
        return dense(z, *weights.take(2)).reshape(len(z), *shape)
    rows, columns = (math.ceil(side / 2**depth) for side in shape[:2])
    x = z.reshape(len(z), rows, columns, -1)
    for i in range(depth):
        kernel, bias = weights.take(2)
        size = [len(x), 2 * x.shape[1], 2 * x.shape[2], len(bias)]
        x = tf.nn.conv2d_transpose(tf.constant(x), tf.constant(kernel), size, 2).numpy() + bias
        x = activation(x) if i < depth - 1 else x
    return x[:, : shape[0], : shape[1]]


def autoencoder(params, state, images, targets, architecture="mlp", depth=1, activation=relu):
    weights, x = Weights(params), images.astype(np.float64)
    code = dense(encoded(weights, x, architecture, depth, activation), *weights.take(2))
    out = decoded(weights, code, x.shape[1:], architecture, depth, activation)
    assert not weights.left
    return np.mean((out - targets) ** 2)


def vae(params, state, images, targets, architecture="mlp", depth=1, activation=relu):
    weights, x = Weights(params), images.astype(np.float64)
    features = encoded(weights, x, architecture, depth, activation)
    mean, log_variance = (dense(features, *weights.take(2)) for _ in range(2))
    noise = tf.random.stateless_normal(mean.shape, tf.cast(state[0], tf.int32)).numpy()
    z = mean + np.exp(log_variance / 2) * noise
    p = sigmoid(decoded(weights, z, x.shape[1:], architecture, depth, activation))
    assert not weights.left
    likelihood = targets * np.log(p) + (1 - targets) * np.log(1 - p)
    # The divergence of N(m, s^2) from N(0, 1) is log(1 / s) + (s^2 + m^2) / 2 - 1 / 2.
    divergence = -log_variance / 2 + (np.exp(log_variance) + mean**2) / 2 - 0.5
    return (divergence.sum(1) - likelihood.sum((1, 2, 3))).mean()


# Numbers of weights.


def of_dense(*sizes):
    return sum(a * b + b for a, b in itertools.pairwise(sizes))


def of_block(width):
    return 4 * of_dense(width, width) + of_dense(width, 4 * width, width) + 4 * width


def count_char_lm(classes, architecture, width, depth, context):
    ends = classes * width + of_dense(width, classes)
    if architecture == "transformer":
        return ends + context * width + depth * of_block(width) + 2 * width
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[architecture]
    biases = 2 if architecture == "gru" else 1
    return ends + depth * gates * (2 * width * width + biases * width)


def count_vit(width, depth, patch_size, side=8, channels=1, classes=10):
    tokens = (side // patch_size) ** 2
    first = of_dense(patch_size**2 * channels, width) + tokens * width
    return first + depth * of_block(width) + 2 * width + of_dense(width, classes)


def count_mixer(width, depth, patch_size, side=8, channels=1, classes=10):
    tokens = (side // patch_size) ** 2
    mlps = of_dense(tokens, width // 2, tokens) + of_dense(width, 4 * width, width)
    first = of_dense(patch_size**2 * channels, width)
    return first + depth * (mlps + 4 * width) + 2 * width + of_dense(width, classes)


def count_residual(width, depth, channels=1, classes=10):
    stem = 9 * channels * width + 2 * width
    block = 2 * (9 * width * width + 2 * width)
    around = (depth - 1) * (width * width + 2 * width)
    return stem + depth * block + around + of_dense(width, classes)


def count_autoencoder(architecture, width, depth, latent, codes=1, side=8, channels=1):
    """`codes`: 2 of a VAE, for mean and variance."""
    if architecture == "mlp":
        pixels, hidden = side * side * channels, [width] * depth
        ends = of_dense(pixels, *hidden) + of_dense(latent, *hidden, pixels)
        return ends + codes * of_dense(width, latent)
    features = math.ceil(side / 2**depth) ** 2 * width
    inner = (depth - 1) * (9 * width * width + width)
    convolutions = 9 * channels * width + width + inner
    transposed = inner + 9 * channels * width + channels
    return (
        convolutions + codes * of_dense(features, latent) + of_dense(latent, features) + transposed
    )
