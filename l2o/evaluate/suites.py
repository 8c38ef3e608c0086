"""Named sets of problems to evaluate on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from l2o.options import options_of
from l2o.problems import PROBLEMS
from l2o.registry import Registry


class Case(NamedTuple):
    """What models are trained on, and for how long.

    name: For tables and file names.
    target: A registered problem.
    kwargs: Its options.
    steps: Training steps.
    """

    name: str
    target: str
    kwargs: dict[str, Any]
    steps: int


def resolved(case: Case) -> Case:
    """Returns a case with the defaults of its problem's options written out."""
    defaults = {k: o.default for k, o in options_of(PROBLEMS.find(case.target)).items()}
    return case._replace(kwargs={**defaults, **case.kwargs})


def generalization(name: str, base: Mapping[str, Any], steps: int) -> list[Case]:
    """Returns a classifier and what differs from it in one respect each.

    Activation, depth, width, architecture, batch size, horizon and data.

    Args:
        name: Of the classifier it starts from.
        base: Its options, those of `mlp_classifier`.
        steps: Its training steps.

    Returns:
        It and the others; what is equal to it is left out.
    """
    width = (base.get("layers") or [20])[0]

    def mlp(name: str, horizon: int = 1, **changed: Any) -> Case:
        return Case(name, "mlp_classifier", {**base, **changed}, horizon * steps)

    shared = {k: base[k] for k in ("dataset", "batch_size", "shuffle_buffer") if k in base}
    first = resolved(mlp(name))
    others = [
        *(mlp(name, activation=name) for name in ("relu", "elu", "tanh")),
        *(mlp(f"{count}-layers", layers=[width] * count) for count in (2, 3, 4)),
        mlp("5x-wider", layers=[5 * width]),
        Case("conv", "conv_classifier", shared, steps),
        *(mlp(f"batch-{size}", batch_size=size) for size in (8, 512)),
        *(mlp(f"{horizon}x-steps", horizon) for horizon in (10, 100)),
        *(
            mlp(name, dataset=name, image_size=None, batch_size=32)
            for name in ("breast_cancer", "wine")
        ),
    ]
    return [first, *(case for case in map(resolved, others) if case[1:] != first[1:])]


SUITES: Registry[Callable[[str, Mapping[str, Any], int], Sequence[Case]]] = Registry(
    "suite", {"generalization": generalization}
)
