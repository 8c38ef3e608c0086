"""Checks what a problem's functions return, before anything is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from l2o.errors import UserError
from l2o.problems.problem import Batch, Instance, Problem
from l2o.problems.wrappers import Wrapper


def check_problem(problem: Problem) -> None:
    """Checks a problem by tracing its objective once, without computing it.

    The problems of this package are not checked: they fulfil the contract, and tracing a network
    takes a while. Errors that the problem's own code raises are passed on.

    Args:
        problem: The problem; inside a wrapper, the inner problem is checked first.

    Raises:
        UserError: If `init`, `stream` or `objective` returns something else than `Problem` says.
    """
    if isinstance(problem, Wrapper):
        check_problem(problem.problem)
    if type(problem).__module__.startswith("l2o."):
        return
    who = f"problem {getattr(problem, 'name', type(problem).__name__)}"
    per_epoch = problem.steps_per_epoch
    if per_epoch is not None and not (_is_integer(per_epoch) and per_epoch > 0):
        raise UserError(f"{who}: expected steps_per_epoch None or at least 1; got {per_epoch!r}")
    instance = _instance(problem, who)
    batch = _batch(problem, who)

    def trace(params: Any, model_state: Any, batch: Batch) -> None:
        _check_result(problem.objective(params, model_state, batch), model_state, who)

    # Without autograph, because an unroll traces the objective without it too.
    tf.function(trace, autograph=False).get_concrete_function(
        _specs(instance.params), _specs(instance.model_state), batch
    )


def _instance(problem: Problem, who: str) -> Instance:
    instance = problem.init(0)
    if not isinstance(instance, Instance):
        raise UserError(f"{who}: expected init to return an Instance; got {_described(instance)}")
    for name, tensors in instance._asdict().items():
        if not isinstance(tensors, (list, tuple)):
            raise UserError(
                f"{who}: expected {name} of init to be a list of tensors; got {_described(tensors)}"
            )
        for i, tensor in enumerate(tensors):
            if not (tf.is_tensor(tensor) or (name == "model_state" and _is_array(tensor))):
                raise UserError(
                    f"{who}: expected {name} of init to be a list of tensors; entry {i} is "
                    f"{_described(tensor)}"
                )
    if not any(tf.TensorShape(param.shape).num_elements() for param in instance.params):
        raise UserError(f"{who}: expected init to return at least one parameter; got none")
    for i, param in enumerate(instance.params):
        if not tf.as_dtype(param.dtype).is_floating:
            raise UserError(
                f"{who}: expected floating params of init; entry {i} is {_described(param)}"
            )
    return instance


def _batch(problem: Problem, who: str) -> Batch:
    """Returns the specs of a mini-batch."""
    if problem.steps_per_epoch is None:
        return ()
    count = 2
    batches = problem.stream(0, 0, count)
    for leaf in tf.nest.flatten(batches):
        if not _is_array(leaf) or leaf.shape[:1] != (count,):
            raise UserError(
                f"{who}: expected {count} mini-batches, a nest of [{count}, ...] tensors; got "
                f"{_described(leaf)}"
            )
    return tf.nest.map_structure(lambda b: tf.TensorSpec(b.shape[1:], b.dtype), batches)


def _check_result(result: Any, before: Sequence[tf.Tensor], who: str) -> None:
    if not isinstance(result, (list, tuple)) or len(result) != 2:
        raise UserError(
            f"{who}: expected objective to return the loss and the new model_state; got "
            f"{_described(result)}"
        )
    loss, after = result
    if not (tf.is_tensor(loss) and loss.dtype.is_floating and loss.shape.rank in (0, None)):
        raise UserError(
            f"{who}: expected the loss of objective to be a scalar tensor of a floating type; got "
            f"{_described(loss)}"
        )
    if not isinstance(after, (list, tuple)) or len(after) != len(before):
        raise UserError(
            f"{who}: expected objective to return a list of {len(before)} tensors as the new "
            f"model_state, as init does; got {_described(after)}"
        )
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        same = tf.is_tensor(new) and tf.as_dtype(new.dtype) == old.dtype
        if not (same and old.shape.is_compatible_with(new.shape)):
            raise UserError(
                f"{who}: expected objective to keep the shapes and types of model_state; entry "
                f"{i} was {_described(old)} and becomes {_described(new)}"
            )


def _specs(tensors: Sequence[Any]) -> list[tf.TensorSpec]:
    return [tf.TensorSpec(t.shape, t.dtype) for t in tensors]


def _is_array(value: Any) -> bool:
    return tf.is_tensor(value) or isinstance(value, np.ndarray)


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _described(value: Any) -> str:
    if _is_array(value):
        kind = "a tensor" if tf.is_tensor(value) else "a NumPy array"
        shape = "unknown" if value.shape is None else [*value.shape]
        return f"{kind} of shape {shape} and type {tf.as_dtype(value.dtype).name}"
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{type(value).__name__} {value!r}"[:100]
