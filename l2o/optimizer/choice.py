"""Choice: the policy of Huang et al. 2022, "Optimizer amalgamation"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import keras
import tensorflow as tf
from annotated_types import MinLen

from l2o.errors import UserError
from l2o.optimizer import equations
from l2o.optimizer.cells import LSTMState
from l2o.optimizer.hand_designed import POOL, Averages
from l2o.optimizer.lstm import LSTMOptimizer
from l2o.options import LearningRate, Positive, check_given, one_of

# Steps after which the time has gone from 1 to a half.
HALF_TIME = 1000
# Ranks that the policy tells apart, 1 to 3 and more. A scalar has none of them.
RANKS = 3

PoolMember = Annotated[str, one_of("optimizer in the pool", lambda: tuple(POOL))]


class ChoiceState(NamedTuple):
    """What the pool and the policy carry.

    pool: The averages [n] of each member.
    rank: [n], the rank of the tensor that each coordinate belongs to, at most 3.
    t: int64 scalar, the number of steps taken.
    lstm: The LSTMs' state.
    """

    pool: tuple[Averages, ...]
    rank: tf.Tensor
    t: tf.Tensor
    lstm: LSTMState


@keras.saving.register_keras_serializable("l2o")
class ChoiceOptimizer(LSTMOptimizer):
    """The choice policy of Huang et al. (2022), which mixes the updates of a pool of optimizers.

        u_j    = update of optimizer j of the pool, with its rate eta_j
        x      = (u_1 / eta_1, ..., u_k / eta_k, 1 / (1 + t / 1000), rank of the tensor as one-hot)
        c      = softmax(W LSTM(x) + b)
        delta  = sum_j c_j u_j

    The policy reads each update in units of eta_j, so its inputs do not depend on how the rates are
    tuned. The optimizers' other arguments have Keras' defaults; the momentum of
    Momentum is 0.9.

    Args:
        learning_rate: See `TrainableOptimizer` [1.0].
        pool: What it chooses from: AddSign, Adam, Momentum, PowerSign, RMSprop, SGD
            [("Adam", "RMSprop")].
        rates: The learning rate of each of them [(0.005, 0.002)].
        name: Name of the optimizer ["ChoiceOptimizer"].
        **kwargs: See `LSTMOptimizer`.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1.0,
        *,
        pool: Annotated[Sequence[PoolMember], MinLen(1)] = ("Adam", "RMSprop"),
        rates: Annotated[Sequence[Positive], MinLen(1)] = (0.005, 0.002),
        name: str = "ChoiceOptimizer",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, name=name, **kwargs)
        check_given(ChoiceOptimizer, {"pool": pool, "rates": rates}, "")
        if len(pool) != len(rates):
            raise UserError(
                f"expected a learning rate for each of {len(pool)} optimizers; got {len(rates)}",
                "rates",
            )
        self.pool = tuple(pool)
        self.rates = tuple(rates)
        self._members = [POOL[member] for member in self.pool]
        dtype = equations.precision()
        self.network = self.lstm(
            features=len(self.pool) + 1 + RANKS,
            readouts=[
                keras.layers.Dense(1, dtype=dtype, name=f"choice_{j}")
                for j in range(len(self.pool))
            ],
        )

    def initial_state(self, params: Sequence[tf.Tensor], seed: int = 0) -> ChoiceState:
        """See `TrainableOptimizer.initial_state`."""
        n, dtype = equations.count(params), self.network.compute_dtype
        zeros = tf.zeros([n], dtype)
        ranks = [tf.fill(p.shape, tf.constant(min(p.shape.rank, RANKS), dtype)) for p in params]
        return ChoiceState(
            tuple((zeros,) * member.averages for member in self._members),
            equations.flatten(ranks, dtype),
            tf.zeros([], tf.int64),
            self.network.initial_state(n),
        )

    def update(
        self, params: Sequence[tf.Tensor], grads: Sequence[tf.Tensor], state: ChoiceState
    ) -> tuple[list[tf.Tensor], ChoiceState]:
        """See `TrainableOptimizer.update`."""
        g = equations.clip_gradient(equations.flatten(grads, self.network.compute_dtype))
        t = state.t + 1
        steps = [
            member.step(g, averages, t, rate)
            for member, averages, rate in zip(self._members, state.pool, self.rates, strict=True)
        ]
        u = tf.stack([delta for delta, _ in steps])
        eta = tf.constant(self.rates, g.dtype)[:, tf.newaxis]
        time = tf.ones_like(g) / (1 + tf.cast(state.t, g.dtype) / HALF_TIME)
        ranks = [tf.cast(tf.equal(state.rank, k), g.dtype) for k in range(1, RANKS + 1)]
        x = tf.concat([u / eta, tf.stack([time, *ranks])], 0)
        readouts, lstm = self.network(x, state.lstm)
        c = tf.nn.softmax(tf.stack(readouts), 0)
        delta = tf.reduce_sum(c * u, 0)
        pool = tuple(averages for _, averages in steps)
        return equations.unflatten(delta, params), ChoiceState(pool, state.rank, t, lstm)
