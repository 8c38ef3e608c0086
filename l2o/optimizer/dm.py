"""DM: Andrychowicz et al. 2016, "Learning to learn by gradient descent by gradient descent"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import keras
import tensorflow as tf
from annotated_types import Gt, Le

from l2o.optimizer import equations
from l2o.optimizer.cells import LSTMState
from l2o.optimizer.lstm import LSTMOptimizer
from l2o.options import LearningRate, Positive


class DMState(NamedTuple):
    """(h [units, n], c [units, n]) for each LSTM layer."""

    lstm: LSTMState


@keras.saving.register_keras_serializable("l2o")
class DMOptimizer(LSTMOptimizer):
    """The LSTM optimizer of Andrychowicz et al. (2016), section 2.1 and Appendix A.

        x     = (log|g| / p, sign(g))   or (-1, exp(p) g) for small g
        h     = LSTM(x)
        delta = output_scale * (w . h + b)

    The seed's default for the name, "RNNPropOptimizer", is a slip: its sample configuration
    says "DMOptimizer".

    Args:
        learning_rate: See `TrainableOptimizer` [1.0].
        preprocess: Whether to split gradients into logarithm and sign; otherwise the
            LSTM sees `g` [True].
        p: Number of e-folds below 1 that the logarithm covers, at most 80 [10, as in
            the paper].
        output_scale: Factor of the readout [0.1, as in the authors' code].
        name: Name of the optimizer ["DMOptimizer"].
        **kwargs: See `LSTMOptimizer`.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1.0,
        *,
        preprocess: bool = True,
        p: Annotated[float, Gt(0), Le(80)] = 10.0,
        output_scale: Positive = 0.1,
        name: str = "DMOptimizer",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, name=name, **kwargs)
        self.preprocess = preprocess
        self.p = p
        self.output_scale = output_scale
        self.network = self.lstm(features=2 if preprocess else 1)

    def initial_state(self, params: Sequence[tf.Tensor], seed: int = 0) -> DMState:
        """See `TrainableOptimizer.initial_state`."""
        return DMState(self.network.initial_state(equations.count(params)))

    def update(
        self, params: Sequence[tf.Tensor], grads: Sequence[tf.Tensor], state: DMState
    ) -> tuple[list[tf.Tensor], DMState]:
        """See `TrainableOptimizer.update`."""
        g = equations.clip_gradient(equations.flatten(grads, self.network.compute_dtype))
        x = equations.log_and_sign(g, self.p) if self.preprocess else g[tf.newaxis]
        (readout,), lstm = self.network(x, state.lstm)
        delta = self.output_scale * readout
        return equations.unflatten(delta, params), DMState(lstm)
