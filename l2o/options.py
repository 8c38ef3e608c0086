"""Constructor signatures are the one source of options: names, types, defaults, limits.

An option is a parameter with a default, unless it is marked `PYTHON_ONLY`. A constructor
that takes `**kwargs` has the options of its base class too. Types are annotations that
pydantic understands; a config value must fit them strictly (`"5"` is not an integer).
"""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import keras
import numpy as np
import pydantic
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import AfterValidator

from l2o.errors import UserError, nearest


def one_of(kind: str, names: Callable[[], Sequence[str]]) -> AfterValidator:
    """Returns what makes an annotated string one of a few names.

    Args:
        kind: What the names stand for, in messages (`"activation"`).
        names: Returns them.
    """

    def check(name: str) -> str:
        if name not in names():
            raise ValueError(
                f"no {kind} called {name!r}{nearest(name, names())}; expected one of: "
                f"{', '.join(sorted(names()))}"
            )
        return name

    return AfterValidator(check)


@cache
def activation_names() -> tuple[str, ...]:
    """Returns the names `keras.activations.get` knows."""
    # The last of these needs an argument.
    special = {"get", "serialize", "deserialize", "threshold"}
    functions = (n for n, member in vars(keras.activations).items() if callable(member))
    return tuple(n for n in functions if not n.startswith("_") and n not in special)


# Keras' initializers that need no argument.
INITIALIZERS = (
    "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "identity", "lecun_normal",
    "lecun_uniform", "ones", "orthogonal", "random_normal", "random_uniform", "truncated_normal",
    "variance_scaling", "zeros",
)  # fmt: skip


# In inner steps. A 32-bit count, and memory, hold this with room to spare.
LONGEST_UNROLL = 10**6

Count = Annotated[int, Ge(1), Le(2**31 - 1)]
Seed = Annotated[int, Ge(0)]
Length = Annotated[int, Ge(1), Le(LONGEST_UNROLL)]
# Powers of smaller values underflow in float32, and rules divide by them.
Epsilon = Annotated[float, Ge(1e-20)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Decay = Annotated[float, Ge(0), Lt(1)]
Decays = tuple[Decay, Decay, Decay]
Probability = Annotated[float, Ge(0), Le(1)]


def _ascending(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"expected the smaller end first; got {list(ends)}")
    return ends


def _path(text: str) -> str:
    if not text.isprintable() or any(len(part.encode()) > 255 for part in text.split("/")):
        raise ValueError(f"expected the path of a directory; got {_short(text)}")
    return text


def _sha256(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError(f"expected 64 hexadecimal digits; got {_short(text)}")
    return text


# The two ends of an interval: of lengths, and of positive numbers.
LengthInterval = Annotated[tuple[Length, Length], AfterValidator(_ascending)]
Interval = Annotated[tuple[Positive, Positive], AfterValidator(_ascending)]
Directory = Annotated[str, MinLen(1), MaxLen(1000), AfterValidator(_path)]
SHA256 = Annotated[str, AfterValidator(_sha256)]
Name = Annotated[str, MinLen(1)]
Layers = Annotated[Sequence[Count], MinLen(1)]
Activation = Annotated[str, one_of("activation", activation_names)]
Initializer = Annotated[str, one_of("initializer", lambda: INITIALIZERS)]


# Marks a parameter that only Python callers may give, not a config.
PYTHON_ONLY = "python only"
# A number, a schedule or a callable: the first argument of Keras' optimizers.
LearningRate = float | Callable[..., Any]


class Option(NamedTuple):
    """One option: its annotation and its default."""

    annotation: Any
    default: Any


def options_of(target: Any) -> dict[str, Option]:
    """Returns the options of a class, base classes included, or of a function.

    Args:
        target: A class or a function. The bases of a class count as long as each constructor
            takes `**kwargs`, up to `TrainableOptimizer` or the first class of Keras.

    Returns:
        Options by name, those of the bases first.
    """
    if not inspect.isclass(target):
        return _signature_options(target)
    found: dict[str, Option] = {}
    for base in target.__mro__:
        if "__init__" not in vars(base):
            continue
        # The arguments of TrainableOptimizer and Keras are for deployment, not for a config.
        if base.__name__ == "TrainableOptimizer":
            found.pop("learning_rate", None)
            break
        if base.__module__.startswith("keras."):
            break
        init = vars(base)["__init__"]
        found = {**_signature_options(init), **found}
        kinds = [p.kind for p in inspect.signature(init).parameters.values()]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return found


def _signature_options(function: Callable[..., Any]) -> dict[str, Option]:
    hints = get_type_hints(function, include_extras=True)
    return {
        name: Option(hints.get(name, Any), parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty
        and PYTHON_ONLY not in getattr(hints.get(name), "__metadata__", ())
    }


def resolve(target: Any, given: Any, path: str) -> dict[str, Any]:
    """Checks `given` against the options of `target` and writes every default out.

    Args:
        target: A class or function, see `options_of`.
        given: The section of the config, JSON values.
        path: Where it stands in the config (`network`).

    Returns:
        Every option with its value, JSON values only.

    Raises:
        UserError: For an unknown option (names the nearest) or a value that does not fit
            (says what was expected).
    """
    options = options_of(target)
    given = expect_object(given, path)
    for name in given:
        if name not in options:
            close = nearest(_join(path, name), [_join(path, option) for option in options])
            raise UserError(
                f"unknown option{close}; known here: {', '.join(sorted(options)) or 'none'}",
                _join(path, name),
            )
    resolved = {name: to_json(option.default) for name, option in options.items()}
    for name, value in given.items():
        place = _join(path, name)
        nested = _nested(options[name].annotation)
        if nested and isinstance(value, Mapping):
            resolved[name] = resolve(nested, value, place)
        else:
            resolved[name] = check(options[name].annotation, value, place)
    return resolved


def _nested(annotation: Any) -> Any:
    """Returns the dataclass among the types of an annotation, whose fields are options."""
    kinds = get_args(annotation) or (annotation,)
    # `Ge(1)` and other limits are instances of dataclasses too.
    return next((k for k in kinds if inspect.isclass(k) and is_dataclass(k)), None)


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def expect_object(value: Any, path: str) -> Mapping[str, Any]:
    """Returns `value` if it is a JSON object, or raises UserError."""
    if not isinstance(value, Mapping):
        raise UserError(f"expected an object of options; got {_short(value)}", path)
    return value


def check(annotation: Any, value: Any, path: str) -> Any:
    """Returns a JSON value converted to an annotation: 1 becomes 1.0 for a float.

    Raises:
        UserError: If the value does not fit.
    """
    adapter = pydantic.TypeAdapter(annotation)
    try:
        return to_json(adapter.validate_json(json.dumps(value), strict=True))
    except pydantic.ValidationError as error:
        found = error.errors()
        limits = [e for e in found if e["type"] not in _TYPE_ERRORS]
        if len(limits) == 1:
            place = "/".join([path, *(str(w) for w in limits[0]["loc"] if isinstance(w, int))])
            if limits[0]["type"] == "value_error":
                raise UserError(limits[0]["msg"].removeprefix("Value error, "), place) from None
            if limits[0]["type"] == "json_invalid":
                raise UserError(
                    f"expected {describe(annotation)} that JSON can hold; got {_short(value)}", path
                ) from None
            # pydantic says "Input should be greater than or equal to 1".
            reason = limits[0]["msg"].replace("Input should be", "expected a value")
            raise UserError(f"{reason}; got {_short(limits[0]['input'])}", place) from None
        hint = nearest(value, _names(annotation)) if isinstance(value, str) else ""
        raise UserError(
            f"expected {describe(annotation)}; got {_short(value)}{hint}", path
        ) from None


def _names(annotation: Any) -> list[str]:
    """Returns the strings among the values that an annotation lists."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return [a for a in arguments if isinstance(a, str)]
    return [name for a in arguments for name in _names(a)]


def check_given(target: Any, given: Mapping[str, Any], path: str) -> None:
    """Checks options that Python code gives, as `resolve` checks those of a config.

    A function fits if the annotation has a callable. NumPy's numbers and arrays count as
    Python's.

    Args:
        target: A class or function, see `options_of`.
        given: Values by name; other names than those of options are ignored.
        path: Where the options stand in a config (`strategy`).

    Raises:
        UserError: For a value that does not fit; names the option.
    """
    for name, option in options_of(target).items():
        if name in given:
            check_value(option.annotation, given[name], _join(path, name))


def check_value(annotation: Any, value: Any, path: str) -> None:
    """Checks one value that Python code gives; see `check_given`.

    Raises:
        UserError: If it does not fit.
    """
    if callable(value) and _takes_function(annotation):
        return
    try:
        plain = json.loads(json.dumps(value, default=_plain, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise UserError(f"expected {describe(annotation)}; got {_short(value)}", path) from None
    check(annotation, plain, path)


def expect(kind: type, value: Any, path: str) -> None:
    """Checks the class of an object that Python code gives.

    Raises:
        UserError: If the object is not an instance of `kind`.
    """
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        raise UserError(f"expected {article} {kind.__name__}; got {_short(value)}", path)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if is_dataclass(value) and not inspect.isclass(value):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(type(value).__name__)


def _takes_function(annotation: Any) -> bool:
    arguments = get_args(annotation)
    return get_origin(annotation) is Callable or any(map(_takes_function, arguments))


_TYPE_ERRORS = {
    "int_type", "int_from_float", "float_type", "string_type", "bool_type", "list_type",
    "tuple_type", "dict_type", "none_required", "callable_type", "literal_error",
    "is_instance_of", "dataclass_type", "missing", "too_long", "needs_python_object",
}  # fmt: skip


def _short(value: Any) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= 80 else text[:77] + "..."


def describe(annotation: Any) -> str:
    """Returns an annotation in words: `a number or a list of numbers`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe(arguments[0])
    if origin in (Union, types.UnionType):
        kinds = [a for a in arguments if not (a is int and float in arguments)]
        words = [w for w in (describe(a) for a in kinds) if w]
        return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
    if origin is Literal:
        return " or ".join(json.dumps(a) for a in arguments)
    if origin is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)} ({', '.join(describe(a) for a in arguments)})"
    if origin is Callable:
        return ""  # callables are for the Python API, not for configs
    if inspect.isclass(annotation) and issubclass(annotation, keras.optimizers.Optimizer):
        return ""  # and so are objects
    if origin in (Sequence, list, tuple):
        item = describe(arguments[0])
        return f"a list of {item.removeprefix('an ').removeprefix('a ')}s"
    if origin in (Mapping, dict) or annotation is dict:
        return "an object"
    if is_dataclass(annotation):
        return f"an object of {' and '.join(options_of(annotation))}"
    names = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
    if annotation in (None, type(None)):
        return "null"
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def to_json(value: Any) -> Any:
    """Returns a default as the JSON value in a config; a tuple becomes a list."""
    return json.loads(json.dumps(value, default=asdict))
