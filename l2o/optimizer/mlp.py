"""The small network that the rules of 2022 and later share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from l2o.optimizer import equations
from l2o.optimizer.cells import dense

# The features of tensors with at least so many coordinates are not written to memory.
LARGE = 32_768


class CoordinatewiseMLP(keras.layers.Layer):
    """Dense layers with relu between them, applied to every coordinate of a tensor alike.

    Weights start from a normal distribution of deviation 1 / sqrt(inputs), truncated at two
    deviations, and biases at 0.

    Args:
        features: Number of input features per coordinate.
        units: Units of each hidden layer.
        layers: Number of hidden layers.
        outputs: Number of outputs.
    """

    def __init__(self, features: int, units: int, layers: int, outputs: int) -> None:
        # A rule keeps its precision when the model that it trains has a mixed policy.
        dtype = equations.precision()
        super().__init__(name="network", dtype=dtype)
        sizes = [features, *[units] * layers, outputs]
        self.stack = []
        for i, (inputs, width) in enumerate(itertools.pairwise(sizes)):
            # Its own name does not change the numbers in the names of a model's layers.
            layer = keras.layers.Dense(
                width,
                activation="relu" if i < layers else None,
                kernel_initializer=keras.initializers.TruncatedNormal(stddev=inputs**-0.5),
                dtype=dtype,
                name=f"dense_{i}",
            )
            layer.build((None, inputs))
            self.stack.append(layer)
            # TensorFlow's checkpoints find attributes, not the entries of lists.
            setattr(self, f"part_{i}", layer)
        self.built = True

    def call(self, groups: Sequence[tf.Tensor]) -> tf.Tensor:
        """Applies the layers.

        Args:
            groups: The features in the order of the first layer's rows: groups [k, ...] that
                broadcast to the shape of the tensor. If there are fewer features than rows, the
                last rows are not used.

        Returns:
            [outputs, ...], the other axes being those of the tensor.
        """
        shape = tf.TensorShape([])
        for group in groups:
            shape = tf.broadcast_static_shape(shape, group.shape[1:])
        if is_large(shape):
            return self._elementwise(groups)
        first, *others = self.stack
        x = first.activation(spread(first.kernel, first.bias, groups))
        shape = x.shape[1:]
        x = tf.reshape(x, [x.shape[0], -1 if shape.num_elements() else 0])
        for layer in others:
            x = dense(layer, x)
        return tf.reshape(x, [x.shape[0], *shape])

    def _elementwise(self, groups: Sequence[tf.Tensor]) -> tf.Tensor:
        """Does what `call` does, as a sum of products for each unit. XLA makes one loop of them.

        A product of matrices would write all features to memory, and the outputs of all layers.
        """
        x = [feature for group in groups for feature in tf.unstack(group, axis=0)]
        # What is constant along an axis is added up before it is repeated.
        order = sorted(range(len(x)), key=lambda i: x[i].shape.num_elements())
        for layer in self.stack:
            kernel, bias = tf.convert_to_tensor(layer.kernel), tf.convert_to_tensor(layer.bias)
            x = [
                layer.activation(_sums([(kernel[i, unit], x[i]) for i in order], bias[unit]))
                for unit in range(layer.units)
            ]
            order = list(range(len(x)))
        return tf.stack(x)


def is_large(shape: Sequence[int]) -> bool:
    """Returns whether so many coordinates do not fit in a core's cache with their features."""
    return math.prod(shape) >= LARGE


def _sums(products: Sequence[tuple[tf.Tensor, tf.Tensor]], start: tf.Tensor) -> tf.Tensor:
    """Returns `start + sum_i w_i x_i`. Those of one shape, in a row, are added up first."""
    total, shape_of, same = start, None, None
    for w, x in products:
        if same is not None and x.shape != shape_of:
            total, same = total + same, None
        same = w * x if same is None else same + w * x
        shape_of = x.shape
    return total if same is None else total + same


def spread(kernel: tf.Tensor, bias: tf.Tensor, groups: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns `sum_i kernel[i] x_i + bias`, [units, ...], for features x_i that broadcast.

    Features of one shape are one product. What is constant along an axis is multiplied before it
    is repeated.

    Args:
        kernel: [features, units].
        bias: [units].
        groups: Groups [k, ...] of features, see `CoordinatewiseMLP.call`.
    """
    of_shape: dict[tuple[int, ...], list[tuple[tf.Tensor, tf.Tensor]]] = {}
    row = 0
    for group in groups:
        rows = kernel[row : row + group.shape[0]]
        of_shape.setdefault(tuple(group.shape[1:]), []).append((rows, group))
        row += group.shape[0]
    rank = groups[0].shape.rank - 1
    total = tf.reshape(bias, [-1] + [1] * rank)
    for shape, parts in of_shape.items():
        rows, x = (tf.concat(tensors, 0) for tensors in zip(*parts, strict=True))
        flat = tf.reshape(x, [x.shape[0], tf.TensorShape(shape).num_elements()])
        product = tf.matmul(rows, flat, transpose_a=True)
        total += tf.reshape(product, [rows.shape[1], *shape])
    return total
