"""PowerSign and AddSign as Keras optimizers: Bello et al. 2017, "Neural optimizer search with reinforcement learning"."""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from l2o.optimizer import equations, hand_designed


class _SignOptimizer(keras.optimizers.Optimizer):
    """Base of both: compares the gradient's sign with that of its average.

        m     = beta m + (1 - beta) g
        x    <- x - learning_rate factor(sign(g) sign(m)) g

    Args:
        direction: The factor times g, as a function of g, m and alpha.
        alpha: See the subclasses.
        beta: Decay of m.
        **kwargs: See `keras.optimizers.Optimizer`.
    """

    def __init__(
        self,
        direction: Callable[[tf.Tensor, tf.Tensor, float], tf.Tensor],
        alpha: float,
        beta: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not alpha > 0:
            raise ValueError(f"Expected `alpha` above 0. Received: alpha={alpha}")
        if not 0 <= beta < 1:
            raise ValueError(f"Expected `beta` in [0, 1). Received: beta={beta}")
        self._direction = direction
        self.alpha = alpha
        self.beta = beta

    def build(self, variables: list[Any]) -> None:
        """Creates the average of the gradient of each variable."""
        if self.built:
            return
        super().build(variables)
        self._momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        dtype = tf.as_dtype(variable.dtype)
        # A sparse gradient becomes dense: the average of all coordinates decays.
        g = tf.cast(tf.convert_to_tensor(gradient), dtype)
        average = self._momentums[self._get_variable_index(variable)]
        m = equations.moving_average(tf.convert_to_tensor(average), g, self.beta)
        self.assign(average, m)
        step = self._direction(g, m, self.alpha)
        self.assign_sub(variable, tf.cast(learning_rate, dtype) * step)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "alpha": self.alpha, "beta": self.beta}


@keras.saving.register_keras_serializable("l2o")
class PowerSign(_SignOptimizer):
    """`x <- x - learning_rate alpha^(sign(g) sign(m)) g`, with an average m of the gradient g.

    The paper's decay of the sign's product, f(t), is 1 throughout.

    Args:
        learning_rate: A float, schedule or callable [0.1].
        alpha: How much larger a step is where g and m agree [e].
        beta: Decay of m [0.9].
        weight_decay: As the others, see `keras.optimizers.Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        alpha: float = hand_designed.POWER_ALPHA,
        beta: float = hand_designed.SIGN_BETA,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        options = {k: v for k, v in locals().items() if k not in ("self", "kwargs", "__class__")}
        super().__init__(hand_designed.power_sign, **options, **kwargs)


@keras.saving.register_keras_serializable("l2o")
class AddSign(_SignOptimizer):
    """`x <- x - learning_rate (alpha + sign(g) sign(m)) g`, with an average m of the gradient g.

    The paper's decay of the sign's product, f(t), is 1 throughout.

    Args:
        learning_rate: A float, schedule or callable [0.1].
        alpha: The factor where one of g and m is 0 [1.0].
        beta: Decay of m [0.9].
        weight_decay: As the others, see `keras.optimizers.Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        alpha: float = hand_designed.ADD_ALPHA,
        beta: float = hand_designed.SIGN_BETA,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        options = {k: v for k, v in locals().items() if k not in ("self", "kwargs", "__class__")}
        super().__init__(hand_designed.add_sign, **options, **kwargs)
