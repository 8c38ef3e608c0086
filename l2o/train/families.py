"""Families of problems: some options are distributions, and members are drawn from them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from l2o import seeds
from l2o.errors import UserError, nearest
from l2o.options import Count, Option, check, expect_object

# The keys that make a problem's spec that of a family.
SAMPLE, DRAWS = "sample", "draws"
DEFAULT_DRAWS = 8
LONGEST_LIST = 100
# The sections of a config that hold problems. The number of each is part of a member's seed.
SECTIONS = ("problems", "validation_problems")


class Distribution(NamedTuple):
    """A distribution of an option's values.

    form: What a config says, for messages.
    check: (argument, path) -> nothing; raises UserError if the argument is wrong.
    ends: Returns the extreme values for an argument, all of which have to fit the option.
    draw: Draws a value, given an argument.
    """

    form: str
    check: Callable[[Any, str], None]
    ends: Callable[[Any], list[Any]]
    draw: Callable[[Any, np.random.Generator], Any]


def members(spec: Mapping[str, Any], *name: int) -> list[dict[str, Any]]:
    """Returns the specs of the members of a family; a spec that is not of a family alone.

    Args:
        spec: A complete spec, see `resolve_problem`.
        *name: Integers that determine the draws: a seed and the place of the spec.
    """
    if SAMPLE not in spec:
        return [dict(spec)]
    rest = {key: value for key, value in spec.items() if key not in (SAMPLE, DRAWS)}

    def member(k: int) -> dict[str, Any]:
        rng = seeds.generator(*name, k)
        # In the order of names, so that the order in a config does not matter.
        drawn = {option: draw(spec[SAMPLE][option], rng) for option in sorted(spec[SAMPLE])}
        return {**rest, "kwargs": {**spec["kwargs"], **drawn}}

    return [member(k) for k in range(spec[DRAWS])]


def members_of(config: Mapping[str, Any], section: str) -> list[tuple[str, dict[str, Any]]]:
    """Returns the problems of a section of a complete config, and where each stands in it.

    Args:
        config: A complete config.
        section: One of `SECTIONS`.
    """
    names = (config["seed"], seeds.FAMILIES, SECTIONS.index(section))
    return [
        (f"{section}/{i}", member)
        for i, spec in enumerate(config[section])
        for member in members(spec, *names, i)
    ]


def has_families(config: Mapping[str, Any]) -> bool:
    """Returns whether a complete config has a family."""
    return any(SAMPLE in spec for section in SECTIONS for spec in config.get(section, []))


def resolve_family(
    spec: Mapping[str, Any], options: Mapping[str, Option], path: str
) -> dict[str, Any]:
    """Checks what a spec says of a family, and writes the default out.

    Args:
        spec: A problem's spec as it was given.
        options: Those of the problem by name.
        path: Where the spec stands in a config.

    Returns:
        The keys `sample` and `draws`; nothing if the spec has no `sample`.

    Raises:
        UserError: If something is wrong.
    """
    if SAMPLE not in spec:
        if DRAWS in spec:
            raise UserError(f"there is no {path}/{SAMPLE}; expected no {DRAWS}", f"{path}/{DRAWS}")
        return {}
    sample = expect_object(spec[SAMPLE], f"{path}/{SAMPLE}")
    for name, distribution in sample.items():
        place = f"{path}/{SAMPLE}/{name}"
        if name not in options:
            raise UserError(
                f"unknown option{nearest(name, options)}; known here: {', '.join(sorted(options))}",
                place,
            )
        for end in _checked(distribution, place).ends(*distribution.values()):
            check(options[name].annotation, end, place)
    draws = check(Count, spec.get(DRAWS, DEFAULT_DRAWS), f"{path}/{DRAWS}")
    return {SAMPLE: dict(sample), DRAWS: draws}


def draw(distribution: Mapping[str, Any], rng: np.random.Generator) -> Any:
    """Draws a value from a checked distribution, `{name: argument}`."""
    ((name, argument),) = distribution.items()
    return DISTRIBUTIONS[name].draw(argument, rng)


def _checked(given: Any, path: str) -> Distribution:
    known = ", ".join(d.form for d in DISTRIBUTIONS.values())
    if not isinstance(given, Mapping) or len(given) != 1:
        raise UserError(f"expected one of {known}; got {json.dumps(given)}", path)
    ((name, argument),) = given.items()
    if name not in DISTRIBUTIONS:
        raise UserError(
            f"no distribution called {name!r}{nearest(name, DISTRIBUTIONS)}: expected one of "
            f"{known}",
            path,
        )
    DISTRIBUTIONS[name].check(argument, f"{path}/{name}")
    return DISTRIBUTIONS[name]


def _check_choice(values: Any, path: str) -> None:
    if not isinstance(values, list) or not values:
        raise UserError(f"expected a list of at least one value; got {json.dumps(values)}", path)


def _check_interval(ends: Any, path: str) -> None:
    numbers = isinstance(ends, list) and [isinstance(e, (int, float)) for e in ends] == [True] * 2
    if not numbers or any(isinstance(e, bool) for e in ends) or not -math.inf < ends[0] <= ends[1]:
        raise UserError(
            f"expected two numbers, the smaller one first; got {json.dumps(ends)}", path
        )


def _check_positive(ends: Any, path: str) -> None:
    _check_interval(ends, path)
    if ends[0] <= 0:
        raise UserError(f"expected two positive numbers; got {json.dumps(ends)}", path)


def _check_integers(ends: Any, path: str) -> None:
    _check_interval(ends, path)
    if not _are_whole(ends):
        raise UserError(f"expected two integers; got {json.dumps(ends)}", path)


def _check_list(given: Any, path: str) -> None:
    given = expect_object(given, path)
    if set(given) != {"length", "each"}:
        raise UserError(f"expected length and each; got {', '.join(given) or 'nothing'}", path)
    for end in _checked(given["length"], f"{path}/length").ends(*given["length"].values()):
        if not isinstance(end, int) or isinstance(end, bool) or not 0 <= end <= LONGEST_LIST:
            raise UserError(
                f"expected lengths from 0 to {LONGEST_LIST}; got {json.dumps(end)}",
                f"{path}/length",
            )
    _checked(given["each"], f"{path}/each")


def _are_whole(ends: Sequence[Any]) -> bool:
    return all(isinstance(end, int) for end in ends)


def _draw_choice(values: Sequence[Any], rng: np.random.Generator) -> Any:
    return values[int(rng.integers(len(values)))]


def _draw_uniform(ends: Sequence[float], rng: np.random.Generator) -> float:
    low, high = ends
    return float(rng.uniform(low, high))


def _draw_log_uniform(ends: Sequence[float], rng: np.random.Generator) -> float:
    # Whole ends are for counts, such as a width.
    drawn = math.exp(rng.uniform(math.log(ends[0]), math.log(ends[1])))
    drawn = min(max(drawn, ends[0]), ends[1])
    return round(drawn) if _are_whole(ends) else float(drawn)


def _draw_integer(ends: Sequence[int], rng: np.random.Generator) -> int:
    low, high = ends
    return int(rng.integers(low, high, endpoint=True))


def _draw_list(given: Mapping[str, Any], rng: np.random.Generator) -> list[Any]:
    return [draw(given["each"], rng) for _ in range(draw(given["length"], rng))]


def _list_ends(given: Mapping[str, Any]) -> list[Any]:
    def ends(distribution: Mapping[str, Any]) -> list[Any]:
        ((name, argument),) = distribution.items()
        return DISTRIBUTIONS[name].ends(argument)

    return [[value] * length for value in ends(given["each"]) for length in ends(given["length"])]


DISTRIBUTIONS = {
    "choice": Distribution('{"choice": [a, b, ...]}', _check_choice, list, _draw_choice),
    "uniform": Distribution('{"uniform": [low, high]}', _check_interval, list, _draw_uniform),
    "log_uniform": Distribution(
        '{"log_uniform": [low, high]}', _check_positive, list, _draw_log_uniform
    ),
    "integer": Distribution('{"integer": [low, high]}', _check_integers, list, _draw_integer),
    "list": Distribution(
        '{"list": {"length": ..., "each": ...}}', _check_list, _list_ends, _draw_list
    ),
}
