"""Suites: named sets of problems to evaluate on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from l2o.options import options_of
from l2o.problems import PROBLEMS, Problem
from l2o.registry import Registry
from l2o.train.build import build_problem
from l2o.train.families import members
from l2o.train.resolve import resolve_problem


class Case(NamedTuple):
    """A problem and the number of training steps.

    name: Name in tables and file names.
    target: A registered problem.
    kwargs: Options of the problem.
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


def built(case: Case) -> Problem:
    """Returns the problem of a case.

    Raises:
        UserError: If there is no such problem or an option is wrong; its path is the option.
    """
    return build_problem(resolve_problem({"target": case.target, "kwargs": case.kwargs}, ""), "")


class _Mlps:
    """Variants of a classifier."""

    def __init__(self, name: str, base: Mapping[str, Any], steps: int) -> None:
        self.first = resolved(Case(name, "mlp_classifier", dict(base), steps))
        self.width = self.first.kwargs["layers"][0] if self.first.kwargs["layers"] else 20
        self.base, self.steps = dict(base), steps

    def changed(self, name: str, horizon: int = 1, **options: Any) -> Case:
        """Returns the classifier with other options, trained `horizon` times as long."""
        return Case(name, "mlp_classifier", {**self.base, **options}, horizon * self.steps)

    def activations(self) -> list[Case]:
        """Returns the classifier with other activations."""
        return [self.changed(name, activation=name) for name in ("relu", "elu", "tanh")]

    def deep(self, *counts: int) -> list[Case]:
        """Returns the classifier with these numbers of hidden layers."""
        return [self.changed(f"{n}-layers", layers=[self.width] * n) for n in counts]

    def wide(self, *factors: int) -> list[Case]:
        """Returns the classifier with a hidden layer of these multiples of its width."""
        return [self.changed(f"{n}x-wider", layers=[n * self.width]) for n in factors]

    def batches(self, *sizes: int) -> list[Case]:
        """Returns the classifier with other batch sizes."""
        return [self.changed(f"batch-{n}", batch_size=n) for n in sizes]

    def long(self, *horizons: int) -> list[Case]:
        """Returns the classifier, trained for these multiples of its steps."""
        return [self.changed(f"{n}x-steps", n) for n in horizons]

    def tables(self) -> list[Case]:
        """Returns the classifier on small data sets without images."""
        return [
            self.changed(name, dataset=name, image_size=None, batch_size=32)
            for name in ("breast_cancer", "wine")
        ]

    def conv(self, horizon: int = 1) -> Case:
        """Returns a convolutional network on the same data."""
        names = ("dataset", "batch_size", "shuffle_buffer", "image_size", "label_noise")
        shared = {k: self.base[k] for k in names if k in self.base}
        return Case("conv", "conv_classifier", shared, horizon * self.steps)

    def with_first(self, *others: Case) -> list[Case]:
        """Returns the classifier and other cases; cases equal to the classifier are left out."""
        different = [case for case in map(resolved, others) if case[1:] != self.first[1:]]
        return [self.first, *different]


def generalization(name: str, base: Mapping[str, Any], steps: int) -> list[Case]:
    """Returns a classifier and cases that each differ from it in one respect.

    The respects are activation, depth, width, architecture, batch size, steps and data.

    Args:
        name: Name of the classifier that the suite starts from.
        base: Its options, those of `mlp_classifier`.
        steps: Its training steps.

    Returns:
        The classifier and the other cases; cases equal to the classifier are left out.
    """
    mlps = _Mlps(name, base, steps)
    return mlps.with_first(
        *mlps.activations(), *mlps.deep(2, 3, 4), *mlps.wide(5), mlps.conv(),
        *mlps.batches(8, 512), *mlps.long(10, 100), *mlps.tables(),
    )  # fmt: skip


def dm(name: str, base: Mapping[str, Any], steps: int) -> list[Case]:
    """Returns the tests of Andrychowicz et al. 2016 (figures 4 and 5); see `generalization`.

    These are twice the steps, twice the width, two layers and relu.
    """
    mlps = _Mlps(name, base, steps)
    relu = mlps.changed("relu", activation="relu")
    return mlps.with_first(*mlps.long(2), *mlps.wide(2), *mlps.deep(2), relu)


def rnnprop(name: str, base: Mapping[str, Any], steps: int) -> list[Case]:
    """Returns the tests of Lv, Jiang and Li 2017 (tables 1 to 4); see `generalization`.

    These are longer trainings, other activations, more layers and a convolutional network.
    """
    mlps = _Mlps(name, base, steps)
    return mlps.with_first(
        *mlps.long(10, 100), *mlps.activations(), *mlps.deep(2, 3, 4, 5), mlps.conv()
    )


def scale(name: str, base: Mapping[str, Any], steps: int) -> list[Case]:
    """Returns other kinds of problems and long trainings; see `generalization`.

    Wichrowska et al. 2017 test on such problems.
    """
    mlps = _Mlps(name, base, steps)
    regression = Case("regression", "mlp_regressor", {}, 10 * steps)
    tables = [case._replace(steps=10 * steps) for case in mlps.tables()]
    return mlps.with_first(*mlps.long(10, 100), mlps.conv(horizon=10), *tables, regression)


def refutation(name: str, base: Mapping[str, Any], steps: int) -> list[Case]:
    """Returns cases on which a learned optimizer is likely to fail; see `generalization`.

    These are other data, a regression, ten times the width, wrong labels, and very small and
    large batches.
    """
    mlps = _Mlps(name, base, steps)
    regression = Case("regression", "mlp_regressor", {}, steps)
    noise = mlps.changed("label-noise", label_noise=0.3)
    return mlps.with_first(*mlps.tables(), regression, *mlps.wide(10), noise, *mlps.batches(8, 512))


def modern(name: str, base: Mapping[str, Any], steps: int) -> list[Case]:
    """Returns models of today, small enough for two cores.

    The recipes ending in `-held-out` and `rnnprop-wide` train on the regression. No recipe trains
    on any other.

    Args:
        name: Not used.
        base: Not used.
        steps: Most problems are trained for three times as many.
    """
    small = {"width": 16, "batch_size": 32}
    # The losses of a whole text would take longer than the training.
    language = {"width": 32, "depth": 1, "batch_size": 8, "context": 16, "characters": 50_000}
    relu = {"layers": [32, 32], "activation": "relu"}
    return [
        Case("char-transformer", "char_lm", {**language, "heads": 2}, 3 * steps),
        Case("char-lstm", "char_lm", {**language, "architecture": "lstm"}, 3 * steps),
        Case("vit", "vit_classifier", {**small, "heads": 2}, 3 * steps),
        Case("mixer", "mixer_classifier", small, 3 * steps),
        Case(
            "residual", "residual_classifier", {"width": 8, "depth": 1, "batch_size": 32}, 3 * steps
        ),
        Case("autoencoder", "autoencoder", {}, 3 * steps),
        Case("vae", "vae", {}, 3 * steps),
        Case("batch-norm", "mlp_classifier", {**relu, "normalization": "batch"}, 3 * steps),
        Case("million", "mlp_classifier", {**relu, "layers": [4096, 170]}, max(1, steps // 2)),
        Case("long", "mlp_classifier", relu, 10 * steps),
        Case("regression", "mlp_regressor", {}, 3 * steps),
        Case("mnist", "mlp_classifier", {**relu, "dataset": "mnist", "image_size": 8}, 3 * steps),
    ]


# What `families` draws from: specs of problems, see `families.resolve_family`.
MIXTURE: Sequence[Mapping[str, Any]] = (
    {
        "target": "mlp_classifier",
        "sample": {
            "layers": {"list": {"length": {"integer": [1, 3]}, "each": {"log_uniform": [8, 64]}}},
            "activation": {"choice": ["relu", "tanh", "gelu"]},
            "normalization": {"choice": ["none", "none", "layer"]},
            "batch_size": {"choice": [16, 32, 64]},
            "transform": {"choice": [None, "inverted", "shifted", "projected"]},
        },
        "draws": 12,
    },
    {
        "target": "conv_classifier",
        "sample": {
            "layers": {"list": {"length": {"integer": [1, 2]}, "each": {"log_uniform": [4, 16]}}},
            "activation": {"choice": ["relu", "gelu"]},
            "batch_size": {"choice": [16, 32]},
            "transform": {"choice": [None, "inverted", "shifted"]},
        },
        "draws": 5,
    },
    {
        "target": "autoencoder",
        "sample": {
            "width": {"log_uniform": [16, 64]},
            "latent": {"integer": [4, 12]},
            "transform": {"choice": [None, "inverted", "shifted"]},
        },
        "draws": 3,
    },
)
# Runs draw their members with their own seeds.
FAMILIES_SEED = 1_000_000


def families(name: str, base: Mapping[str, Any], steps: int) -> list[Case]:
    """Returns 20 members of families of small image problems, always the same.

    Args:
        name: Not used.
        base: Not used.
        steps: They are trained for three times as many.
    """
    return [
        Case(
            f"{spec['target'].partition('_')[0]}-{k + 1}",
            spec["target"],
            member["kwargs"],
            3 * steps,
        )
        for i, spec in enumerate(MIXTURE)
        for k, member in enumerate(members({"kwargs": {}, **spec}, FAMILIES_SEED, i))
    ]


SUITES: Registry[Callable[[str, Mapping[str, Any], int], Sequence[Case]]] = Registry(
    "suite",
    {
        "dm": dm,
        "families": families,
        "generalization": generalization,
        "modern": modern,
        "refutation": refutation,
        "rnnprop": rnnprop,
        "scale": scale,
    },
)
# Suites whose cases are any registered problems instead of an `mlp_classifier` and its variants.
# They get no options.
FIXED = frozenset({"families", "modern"})
