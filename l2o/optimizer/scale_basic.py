"""ScaleBasic: the coordinatewise rule in the code of Wichrowska et al. 2017, "Learned optimizers that scale and generalize"."""  # noqa: E501

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from l2o.optimizer import equations
from l2o.optimizer.cells import LSTMState
from l2o.optimizer.lstm import LSTMOptimizer
from l2o.options import Epsilon, Interval, LearningRate

# Bias of the decay's readout; sigmoid(2.2) = 0.9 is the first decay of the second moment.
DECAY_BIAS = 2.2


class ScaleBasicState(NamedTuple):
    """The second moment ms, its decay and the learning rate lr [n], and the LSTMs' state."""

    ms: tf.Tensor
    decay: tf.Tensor
    lr: tf.Tensor
    lstm: LSTMState


@keras.saving.register_keras_serializable("l2o")
class ScaleBasicOptimizer(LSTMOptimizer):
    """The coordinatewise optimizer in the code of Wichrowska et al. (2017).

        ms    = decay ms + (1 - decay) g^2,   ms = g^2 on the first step
        h     = LSTM(asinh(g / sqrt(ms + epsilon)))
        decay = sigmoid(w_d . h + b_d)
        lr    = 2 sigmoid(w_l . h + b_l) lr
        delta = -lr (w . h)

    Args:
        learning_rate: See `TrainableOptimizer` [1.0].
        init_lr: Ends of the interval from which each coordinate's first learning rate is
            drawn, log-uniformly [(1.0, 1.0), so always 1].
        epsilon: Added to the second moment, to keep the divisor above 0 [1e-10].
        name: Name of the optimizer ["ScaleBasicOptimizer"].
        **kwargs: See `LSTMOptimizer`.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1.0,
        *,
        init_lr: Interval = (1.0, 1.0),
        epsilon: Epsilon = 1e-10,
        name: str = "ScaleBasicOptimizer",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, name=name, **kwargs)
        self.init_lr = tuple(init_lr)
        self.epsilon = epsilon
        spread = 0.5 / self.layers[-1] ** 0.5

        def readout(name: str, bias: float | None) -> keras.layers.Dense:
            return keras.layers.Dense(
                1,
                use_bias=bias is not None,
                kernel_initializer=keras.initializers.RandomNormal(0.0, spread),
                bias_initializer=keras.initializers.Constant(bias or 0.0),
                dtype=equations.precision(),
                name=name,
            )

        self.network = self.lstm(
            features=1,
            readouts=[readout("decay", DECAY_BIAS), readout("lr", 0.0), readout("delta", None)],
        )

    def initial_state(self, params: Sequence[tf.Tensor], seed: int = 0) -> ScaleBasicState:
        """See `TrainableOptimizer.initial_state`."""
        n, dtype = equations.count(params), self.network.compute_dtype
        # A decay of 0 makes the first ms equal g^2.
        zeros = tf.zeros([n], dtype)
        lr = tf.exp(equations.log_uniform(n, self.init_lr, [seed, 0], dtype))
        return ScaleBasicState(zeros, zeros, lr, self.network.initial_state(n))

    def update(
        self, params: Sequence[tf.Tensor], grads: Sequence[tf.Tensor], state: ScaleBasicState
    ) -> tuple[list[tf.Tensor], ScaleBasicState]:
        """See `TrainableOptimizer.update`."""
        g = equations.clip_gradient(equations.flatten(grads, self.network.compute_dtype))
        ms = equations.moving_average(state.ms, tf.square(g), state.decay)
        x = tf.asinh(g * tf.math.rsqrt(ms + self.epsilon))
        (decay, lr, delta), lstm = self.network(x[tf.newaxis], state.lstm)
        decay = tf.sigmoid(decay)
        lr = state.lr * 2 * tf.sigmoid(lr)
        return equations.unflatten(-lr * delta, params), ScaleBasicState(ms, decay, lr, lstm)
