"""The base class of the rules that apply one LSTM stack to every coordinate alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from l2o.optimizer.cells import CoordinatewiseLSTM
from l2o.optimizer.trainable import TrainableOptimizer
from l2o.options import Activation, Initializer, Layers, LearningRate


class LSTMOptimizer(TrainableOptimizer):
    """Base of the rules that apply one stack of LSTM cells to every coordinate.

    Args:
        learning_rate: See `TrainableOptimizer` [1.0].
        layers: Units of each LSTM layer [(20, 20)].
        activation: Activation of the cells ["tanh"].
        recurrent_activation: Activation of the gates ["sigmoid"].
        use_bias: Whether the cells have biases [True].
        kernel_initializer: Initializer of the input weights ["glorot_uniform"].
        recurrent_initializer: Initializer of the recurrent weights ["orthogonal"].
        bias_initializer: Initializer of the biases ["zeros"].
        unit_forget_bias: Whether the forget gates start at bias 1 [True].
        **kwargs: See `TrainableOptimizer`.
    """

    coordinatewise = True

    def __init__(
        self,
        learning_rate: LearningRate = 1.0,
        *,
        layers: Layers = (20, 20),
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        unit_forget_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self.layers = tuple(layers)
        self.activation = activation
        self.recurrent_activation = recurrent_activation
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.recurrent_initializer = recurrent_initializer
        self.bias_initializer = bias_initializer
        self.unit_forget_bias = unit_forget_bias

    def lstm(
        self,
        features: int,
        projection: int | None = None,
        readouts: Sequence[keras.layers.Dense] | None = None,
    ) -> CoordinatewiseLSTM:
        """Returns the network that the options describe, see `CoordinatewiseLSTM`."""
        return CoordinatewiseLSTM(
            features,
            self.layers,
            projection,
            readouts,
            {
                "activation": self.activation,
                "recurrent_activation": self.recurrent_activation,
                "use_bias": self.use_bias,
                "kernel_initializer": self.kernel_initializer,
                "recurrent_initializer": self.recurrent_initializer,
                "bias_initializer": self.bias_initializer,
                "unit_forget_bias": self.unit_forget_bias,
            },
        )
