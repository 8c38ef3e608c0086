"""What XLA compiles of a rule."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import platform
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import tensorflow as tf

Function = TypeVar("Function", bound=Callable[..., Any])

_in_parts: contextvars.ContextVar[bool] = contextvars.ContextVar("in parts", default=False)


def compiled(function: Callable[..., Any], xla: bool) -> Callable[..., Any]:
    """Returns a function of tensors as one compiled operation.

    Args:
        function: What to compile.
        xla: Whether XLA compiles it, where TensorFlow has XLA.
    """
    # TensorFlow has no XLA on Apple's processors; Keras makes the same exception.
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return tf.function(function, jit_compile=xla and not apple, autograph=False)


def part(method: Function) -> Function:
    """Marks a method of tensors that `in_parts` compiles by itself.

    Elsewhere, and inside another part, it is an ordinary method. Each optimizer compiles a part
    once for all tensors of the same shapes.
    """

    @functools.wraps(method)
    def call(self: Any, *args: Any) -> Any:
        if not _in_parts.get():
            return method(self, *args)

        def plain(*args: Any) -> Any:
            with _parts(False):
                return method(self, *args)

        parts = self.__dict__.setdefault("_compiled_parts", {})
        if method.__name__ not in parts:
            parts[method.__name__] = compiled(plain, xla=True)
        return parts[method.__name__](*args)

    return call  # type: ignore[return-value]


def in_parts(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of tensors, traced once, of which XLA compiles each `part` by itself.

    One program for all variables of a model takes long to compile. It is also slower for large
    tensors: XLA writes to memory what two loops of a program read, but computes in a loop what only
    this loop reads.
    """

    def run(*args: Any) -> Any:
        with _parts(True):
            return function(*args)

    return tf.function(run, autograph=False)


@contextlib.contextmanager
def _parts(value: bool) -> Iterator[None]:
    token = _in_parts.set(value)
    try:
        yield
    finally:
        _in_parts.reset(token)
