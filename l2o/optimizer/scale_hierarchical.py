"""ScaleHierarchical: Wichrowska et al. 2017, "Learned optimizers that scale and generalize"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2o.optimizer import equations
from l2o.optimizer.partial import AnyPlace, Place
from l2o.optimizer.trainable import TrainableOptimizer
from l2o.options import Activation, Count, Epsilon, Initializer, Interval, LearningRate

# Initial values in the authors' code: decays of 0.9 and 0.96, a decay of 0.96 for the average of
# the log learning rate, and a learning rate of exp(-1) times that average.
GRADIENT_DECAY_BIAS = 2.2
MOMENT_DECAY_BIAS = 3.2
LR_MOMENTUM = 3.2
LR_OFFSET = -1.0
LARGEST_LOG_LR = 33.0
# Far below the mean square of any direction. The root of 0 would have no finite gradient.
SMALLEST_SQUARE = 1e-20


class ScaleHierarchicalState(NamedTuple):
    """The state of n coordinates in K tensors, with S timescales.

    t: int64, number of steps; t_tensor: int64 [K], number of steps with a gradient of the tensor.
    h_param: [n, param_units], h_tensor: [K, tensor_units], h_global: [1, global_units].
    gbar, lam: [n, S], momentum and second moment at each timescale.
    eta_bar: [n], average of the log learning rate.
    log_beta_g, log_beta_lam: [n], logarithms of the decays at the shortest timescale.
    """

    t: tf.Tensor
    t_tensor: tf.Tensor
    h_param: tf.Tensor
    h_tensor: tf.Tensor
    h_global: tf.Tensor
    gbar: tf.Tensor
    lam: tf.Tensor
    eta_bar: tf.Tensor
    log_beta_g: tf.Tensor
    log_beta_lam: tf.Tensor


@keras.saving.register_keras_serializable("l2o")
class ScaleHierarchicalOptimizer(TrainableOptimizer):
    """The hierarchical optimizer of Wichrowska et al. (2017), sections 3 and D.

    It has a GRU for each coordinate, one for each tensor and one for the whole problem. b_s is
    the decay to the power 2^-s, s = 0 .. timescales - 1. Equation numbers are the paper's:

        gbar_s  = b_s gbar_s + (1 - b_s) g                                 (1)
        lam_s   = b_s lam_s + (1 - b_s) gbar_s^2,  first gbar_s^2          (2)
        m_s     = asinh(gbar_s / sqrt(lam_s + epsilon))                    (3)
        gamma_s = log(lam_s + epsilon), relative to its mean over s        (4)
        x       = [m, gamma, m_s m_(s+1), eta_bar relative to its mean]
        h_param  = GRU([x, h_tensor, h_global])                            (10)
        h_tensor = GRU([mean of h_param and x over the tensor, h_global])  (11)
        h_global = GRU(mean of h_tensor over all tensors)                  (12)
        d       = W_d h_param + w . m, divided by its root mean square over the tensor
        eta     = eta_bar + W_eta h_param                                  (7)
        eta_bar = sigmoid(gamma_lr) eta_bar + (1 - sigmoid(gamma_lr)) eta  (8)
        delta   = -exp(eta - 1) d
        next decays = sigmoid(W h_param)                                   (13)

    Args:
        learning_rate: See `TrainableOptimizer` [1.0].
        param_units: Units of the GRU of a coordinate [10].
        tensor_units: Units of the GRU of a tensor [5].
        global_units: Units of the GRU of the whole problem [5].
        init_lr: Ends of the interval of first learning rates. The logarithm of each is the
            mean of a draw for its tensor and a draw for its coordinate [(1e-6, 1e-2)].
        timescales: Number S of timescales, each twice as long as the one before [5].
        epsilon: Added to the second moment in divisors and logarithms [1e-10].
        activation: Activation of the GRU cells ["tanh"].
        recurrent_activation: Activation of the gates ["sigmoid"].
        use_bias: Whether the cells have biases [True].
        kernel_initializer: Initializer of the input weights ["glorot_uniform"].
        recurrent_initializer: Initializer of the recurrent weights ["orthogonal"].
        bias_initializer: Initializer of the biases ["zeros"].
        unit_forget_bias: Whether the biases of the update gates start at 1, which favours the
            old state [True; the authors' code starts them at 2.2].
        name: Name of the optimizer ["ScaleHierarchicalOptimizer"].
        **kwargs: See `TrainableOptimizer`.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1.0,
        *,
        param_units: Count = 10,
        tensor_units: Count = 5,
        global_units: Count = 5,
        init_lr: Interval = (1e-6, 1e-2),
        timescales: Count = 5,
        epsilon: Epsilon = 1e-10,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        unit_forget_bias: bool = True,
        name: str = "ScaleHierarchicalOptimizer",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, name=name, **kwargs)
        self.param_units = param_units
        self.tensor_units = tensor_units
        self.global_units = global_units
        self.init_lr = tuple(init_lr)
        self.timescales = timescales
        self.epsilon = epsilon
        self.activation = activation
        self.recurrent_activation = recurrent_activation
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.recurrent_initializer = recurrent_initializer
        self.bias_initializer = bias_initializer
        self.unit_forget_bias = unit_forget_bias
        self.network = HierarchicalNetwork(
            param_units,
            tensor_units,
            global_units,
            timescales,
            {
                "activation": activation,
                "recurrent_activation": recurrent_activation,
                "use_bias": use_bias,
                "kernel_initializer": kernel_initializer,
                "recurrent_initializer": recurrent_initializer,
                "bias_initializer": _update_gate_at_one(bias_initializer)
                if unit_forget_bias
                else bias_initializer,
            },
        )

    def initial_state(self, params: Sequence[tf.Tensor], seed: int = 0) -> ScaleHierarchicalState:
        """See `TrainableOptimizer.initial_state`."""
        n, tensors, dtype = equations.count(params), len(params), self.network.compute_dtype
        per_tensor = equations.log_uniform(tensors, self.init_lr, [seed, 0], dtype)
        per_param = equations.log_uniform(n, self.init_lr, [seed, 1], dtype)
        scales = tf.zeros([n, self.timescales], dtype)
        return ScaleHierarchicalState(
            t=tf.zeros([], tf.int64),
            t_tensor=tf.zeros([tensors], tf.int64),
            # The initial hidden states are learned; `update` inserts them in the first step.
            h_param=tf.zeros([n, self.param_units], dtype),
            h_tensor=tf.zeros([tensors, self.tensor_units], dtype),
            h_global=tf.zeros([1, self.global_units], dtype),
            gbar=scales,
            lam=scales,
            eta_bar=(tf.repeat(per_tensor, _sizes(params)) + per_param) / 2,
            log_beta_g=tf.math.log_sigmoid(tf.fill([n], tf.constant(GRADIENT_DECAY_BIAS, dtype))),
            log_beta_lam=tf.math.log_sigmoid(tf.fill([n], tf.constant(MOMENT_DECAY_BIAS, dtype))),
        )

    def update(
        self, params: Sequence[tf.Tensor], grads: Sequence[tf.Tensor], state: ScaleHierarchicalState
    ) -> tuple[list[tf.Tensor], ScaleHierarchicalState]:
        """See `TrainableOptimizer.update`."""
        net, sizes = self.network, _sizes(params)
        tensor_of = np.repeat(np.arange(len(sizes)), sizes)

        def tensor_mean(x: tf.Tensor) -> tf.Tensor:  # [n, ...] -> [K, ...]
            total = tf.math.unsorted_segment_sum(x, tensor_of, len(sizes))
            shape = [-1] + [1] * (x.shape.rank - 1)
            return total / np.maximum(sizes, 1).astype(x.dtype.as_numpy_dtype).reshape(shape)

        def to_params(x: tf.Tensor) -> tf.Tensor:  # [K, ...] -> [n, ...]
            return tf.gather(x, tensor_of)

        g = equations.clip_gradient(equations.flatten(grads, net.compute_dtype))[:, tf.newaxis]
        first_of_tensor = tf.equal(state.t_tensor, 0)[:, tf.newaxis]
        first = to_params(first_of_tensor)
        h_param = tf.where(first, net.h_param, state.h_param)
        h_tensor = tf.where(first_of_tensor, net.h_tensor, state.h_tensor)
        h_global = tf.where(tf.equal(state.t, 0), net.h_global, state.h_global)

        halving = 0.5 ** np.arange(self.timescales, dtype=g.dtype.as_numpy_dtype)
        beta_g = tf.exp(state.log_beta_g[:, tf.newaxis] * halving)
        beta_lam = tf.exp(state.log_beta_lam[:, tf.newaxis] * halving)
        gbar = equations.moving_average(state.gbar, g, beta_g)  # (1)
        square = tf.square(gbar)
        lam = equations.moving_average(state.lam, square, beta_lam)  # (2)
        lam = tf.where(first, square, lam)
        m = tf.asinh(gbar * tf.math.rsqrt(lam + self.epsilon))  # (3)
        gamma = tf.math.log(lam + self.epsilon)  # (4)
        gamma -= tf.reduce_mean(gamma, axis=1, keepdims=True)
        eta_rel = state.eta_bar - tf.reduce_mean(state.eta_bar)
        x = tf.concat([m, gamma, m[:, :-1] * m[:, 1:], eta_rel[:, tf.newaxis]], 1)

        above = tf.concat([h_tensor, tf.repeat(h_global, len(sizes), 0)], 1)
        h_param, _ = net.param_gru(tf.concat([x, to_params(above)], 1), [h_param])  # (10)
        summary = tensor_mean(tf.concat([h_param, x], 1))
        h_tensor, _ = net.tensor_gru(  # (11)
            tf.concat([summary, above[:, self.tensor_units :]], 1), [h_tensor]
        )
        h_global, _ = net.global_gru(  # (12)
            tf.reduce_mean(h_tensor, 0, keepdims=True), [h_global]
        )

        readouts = net.readouts(h_param)
        d = readouts[:, 0] + tf.linalg.matvec(m, net.shortcut)
        d *= to_params(tf.math.rsqrt(tensor_mean(tf.square(d)) + SMALLEST_SQUARE))
        eta = _clip_straight_through(state.eta_bar + readouts[:, 1], LARGEST_LOG_LR)  # (7)
        eta_bar = equations.moving_average(state.eta_bar, eta, tf.sigmoid(net.lr_momentum))  # (8)
        delta = -tf.exp(eta + net.lr_offset) * d
        new = ScaleHierarchicalState(
            t=state.t + 1,
            t_tensor=state.t_tensor + 1,
            h_param=h_param,
            h_tensor=h_tensor,
            h_global=h_global,
            gbar=gbar,
            lam=lam,
            eta_bar=eta_bar,
            log_beta_g=tf.math.log_sigmoid(readouts[:, 2]),  # (13)
            log_beta_lam=tf.math.log_sigmoid(readouts[:, 3]),
        )
        return equations.unflatten(delta, params), new

    def state_places(self, state: ScaleHierarchicalState) -> list[AnyPlace]:
        """See `TrainableOptimizer.state_places`."""
        tensor, coordinate = Place(0, coordinates=False), Place(0, coordinates=True)
        places: dict[str, AnyPlace] = {
            "t": None,
            "t_tensor": tensor,
            "h_tensor": tensor,
            "h_global": None,
        }
        return [places.get(field, coordinate) for field in state._fields]


class HierarchicalNetwork(keras.layers.Layer):
    """The learned weights of ScaleHierarchical.

    Args:
        param_units: See `ScaleHierarchicalOptimizer`.
        tensor_units: See `ScaleHierarchicalOptimizer`.
        global_units: See `ScaleHierarchicalOptimizer`.
        timescales: See `ScaleHierarchicalOptimizer`.
        cell: Arguments of every `keras.layers.GRUCell`.
    """

    def __init__(
        self,
        param_units: int,
        tensor_units: int,
        global_units: int,
        timescales: int,
        cell: dict[str, Any],
    ) -> None:
        # A rule keeps its precision when the model that it trains has a mixed policy.
        dtype = equations.precision()
        super().__init__(name="network", dtype=dtype)
        features = 3 * timescales

        def gru(name: str, units: int, inputs: int) -> keras.layers.GRUCell:
            # Its own name does not change the numbers in the names of a model's layers.
            made = keras.layers.GRUCell(units, reset_after=False, dtype=dtype, name=name, **cell)
            made.build((None, inputs))
            return made

        self.param_gru = gru("param_gru", param_units, features + tensor_units + global_units)
        self.tensor_gru = gru("tensor_gru", tensor_units, param_units + features + global_units)
        self.global_gru = gru("global_gru", global_units, tensor_units)
        # One product for four readouts: direction, log learning rate, and the two decays.
        self.readouts = keras.layers.Dense(
            4,
            kernel_initializer=_readout_kernel(0.5 / param_units**0.5),
            bias_initializer=_constants([0.0, 0.0, GRADIENT_DECAY_BIAS, MOMENT_DECAY_BIAS]),
            dtype=dtype,
            name="readouts",
        )
        self.readouts.build((None, param_units))
        near_mean = keras.initializers.RandomNormal(1 / timescales, 0.1 / timescales)
        for name, shape, initializer in (
            ("h_param", (param_units,), "zeros"),
            ("h_tensor", (tensor_units,), "zeros"),
            ("h_global", (global_units,), "zeros"),
            ("shortcut", (timescales,), near_mean),
            ("lr_momentum", (), _constants(LR_MOMENTUM)),
            ("lr_offset", (), _constants(LR_OFFSET)),
        ):
            weight = self.add_weight(shape=shape, initializer=initializer, dtype=dtype, name=name)
            setattr(self, name, weight)
        self.built = True


def _sizes(tensors: Sequence[tf.Tensor]) -> np.ndarray:
    return np.array([t.shape.num_elements() for t in tensors])


def _clip_straight_through(x: tf.Tensor, limit: float) -> tf.Tensor:
    return x + tf.stop_gradient(tf.clip_by_value(x, -limit, limit) - x)


def _constants(values: Any) -> Callable[..., tf.Tensor]:
    return lambda shape, dtype=None: tf.constant(values, dtype)


def _readout_kernel(spread: float) -> Callable[..., tf.Tensor]:
    normal = keras.initializers.RandomNormal(0.0, spread)
    # The column of the log learning rate is 0, so that the learning rate starts at its average.
    return lambda shape, dtype=None: normal(shape, dtype) * tf.constant([1, 0, 1, 1], dtype)


def _update_gate_at_one(name: str) -> Callable[..., tf.Tensor]:
    def bias(shape: Sequence[int], dtype: Any = None) -> tf.Tensor:
        # Keras' order of gates: update, reset, candidate.
        units = shape[0] // 3
        rest = keras.initializers.get(name)(shape, dtype)[units:]
        return tf.concat([tf.ones([units], dtype), rest], 0)

    return bias
