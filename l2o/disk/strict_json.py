"""JSON as in its standard, without the extensions that Python's parser accepts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NoReturn

# Far below the limit of Python's recursion.
DEEPEST = 50


def parse_object(text: bytes) -> dict[str, Any]:
    """Returns a JSON object.

    Raises:
        ValueError: If it is not one, is not UTF-8, is nested too deeply, names a key twice or
            holds a number that is not finite or too large.
    """
    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_not_finite,
            parse_float=_finite,
            parse_int=_whole,
        )
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("expected an object of options")
    if _depth(value) > DEEPEST:
        raise ValueError("it is nested too deeply")
    return value


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_depth, inner), default=0) if isinstance(value, (dict, list)) else 0


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(text)


def _whole(text: str) -> int:
    # Larger integers do not fit a float either.
    if len(text) > 20 or abs(int(text)) >= 2**63:
        raise ValueError(f"expected whole numbers of at most 63 bits; got {text[:40]}")
    return int(text)


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"expected finite numbers; got {text[:40]}")
