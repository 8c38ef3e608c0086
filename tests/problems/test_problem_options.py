"""The options of problems without data and of wrappers, `problems/...`."""

import json

import numpy as np
import tensorflow as tf

from l2o.problems import PROBLEMS
from tests.option_cases import WIDE, Cases, base, close, run, state_of
from tests.problems.formulas import FORMULAS

cases = Cases()


@cases.add("problems/<i>/target", 'problems=[{"target": "Booth"}]')
def _(run):
    formula, *_, (low, high) = FORMULAS["Booth"]
    assert np.all((low <= run.first.start) & (run.first.start <= high))
    assert close(run.first.objective, formula(run.first.end))


@cases.add("problems/<i>/args", 'problems=[{"target": "Quadratic", "args": [3]}]')
def _(run):
    assert run.first.start.shape == (3,)


@cases.add("problems/<i>/kwargs", 'problems=[{"target": "Quadratic", "kwargs": {"dimensions": 3}}]')
def _(run):
    assert run.first.start.shape == (3,)


def drawn(draws):
    sample = {"target": "Quadratic", "sample": {"dimensions": {"choice": [3]}}, "draws": draws}
    return f"problems={json.dumps([sample])}"


@cases.add("problems/<i>/sample", drawn(1))
def _(run):
    assert [step.start.shape for step in run.trained] == [(3,)]


@cases.add("problems/<i>/draws", drawn(4))
def _(run):
    assert [step.start.shape for step in run.trained] == [(3,)] * 4


SCALED_AND_NOISY = [{"target": "RandomScaling"}, {"target": "GradientNoise"}]


def wrapped(*wrappers):
    return f"problems/0/wrappers={json.dumps(wrappers)}"


@cases.add("problems/<i>/wrappers", wrapped(*SCALED_AND_NOISY))
def _(run):
    name, c, *_ = run.first.before.model_state
    assert name.dtype == tf.int32, "the outer: the noise"
    # Same seeds, so the same quadratic below.
    assert close(run.first.start * c, base(run).first.start)


@cases.add("problems/<i>/wrappers/<j>/target", wrapped({"target": "ConvexCombination"}))
def _(run):
    assert [p.shape for p in run.first.before.params] == [(2,), (20,)]


def scales(run, index):
    """log c of the first optimizee."""
    return np.log(run.first.before.model_state[index].numpy())


def scales_half_as_far(run):
    """Same draws, another limit: log c = limit u."""
    usual = scales(run_of_scaling(), 0)
    assert np.abs(usual).max() <= 3
    assert close(scales(run, 0), usual * 1.5 / 3)
    assert close(run.first.start * np.exp(scales(run, 0)), base(run).first.start)


def run_of_scaling():
    return run(wrapped({"target": "RandomScaling"}))


for _name, _given in (
    ("args", {"args": [1.5]}),
    ("kwargs", {"kwargs": {"limit": 1.5}}),
    ("kwargs/limit (RandomScaling)", {"kwargs": {"limit": 1.5}}),
):
    cases.add(
        f"problems/<i>/wrappers/<j>/{_name}",
        wrapped({"target": "RandomScaling", **_given}),
        check=scales_half_as_far,
    )


@cases.add(
    "problems/<i>/wrappers/<j>/kwargs/level",
    wrapped({"target": "RandomScaling", "kwargs": {"level": "global"}}),
)
def _(run):
    c = run.first.before.model_state[0]
    assert c.shape == ()
    assert close(run.first.start * c, base(run).first.start)


def convex(**kwargs):
    return wrapped({"target": "ConvexCombination", "kwargs": kwargs})


@cases.add("problems/<i>/wrappers/<j>/kwargs/limit (ConvexCombination)", convex(limit=0.25))
def _(typed):
    usual = scales(run(convex()), 1)
    assert 0.25 < np.abs(usual).max() <= 1
    assert close(scales(typed, 1), usual * 0.25)


@cases.add("problems/<i>/wrappers/<j>/kwargs/dimensions", convex(dimensions=3))
def _(typed):
    x, y = typed.first.after.params
    w, c, *inner = typed.first.before.model_state
    assert y.shape == w.shape == c.shape == (3,)
    quadratic = run().first.problem.objective([x], inner, ())[0]
    assert close(typed.first.objective, quadratic + np.mean((c * y - w) ** 2))


@cases.add(
    "problems/<i>/wrappers/<j>/kwargs/stddev",
    wrapped({"target": "GradientNoise", "kwargs": {"stddev": 0.5}}),
    WIDE,
    constructor="RNNProp",
)
def _(typed):
    # RNNProp's momentum after a step is a tenth of the gradient that it got.
    noise = 10 * state_of(typed).m.numpy() - exact_gradient(typed.first)
    usual = run(wrapped({"target": "GradientNoise"}), WIDE, constructor="RNNProp")
    assert close(typed.first.start, usual.first.start)
    usual_noise = 10 * state_of(usual).m.numpy() - exact_gradient(usual.first)
    assert close(noise, 5 * usual_noise, rtol=1e-2, atol=1e-4)
    assert 0.3 < np.std(noise) < 0.7


def exact_gradient(step):
    """Of the quadratic inside."""
    _, w, y = (s.numpy() for s in step.before.model_state)
    return 2 * w.T @ (w @ step.start - y)


@cases.add("validation_problems", 'validation_problems=[{"target": "Booth"}]', validates=True)
def _(run):
    formula = FORMULAS["Booth"][0]
    assert {type(step.problem) for step in run.trained} == {PROBLEMS.entries["Quadratic"]}
    ratios = [
        np.log(formula(s.end) + 1e-6) - np.log(formula(s.start) + 1e-6) for s in run.validated
    ]
    assert close(run.rows[0].start_loss, np.mean(ratios[:4]))
    assert close(run.rows[0].validation_loss, np.mean(ratios[4:]))


def quadratic(step):
    w, y = step.before.model_state
    return np.sum((w.numpy() @ step.end - y.numpy()) ** 2)


def has_three_coordinates(run):
    name = run.config["problems"][0]["target"]
    assert run.first.start.shape == run.first.end.shape == (3,)
    assert run.first.start.all()
    if name == "Quadratic":
        expected = quadratic(run.first)
    else:
        formula, minimum, *_ = FORMULAS[name]
        expected = formula(run.first.end.astype(float)) - 3 * minimum
    assert close(run.first.objective, expected, rtol=1e-3)


for _name in ("Ackley", "Levy", "Quadratic", "Rastrigin", "Rosenbrock", "StyblinskiTang"):
    cases.add(
        f"problems/<i>/kwargs/dimensions ({_name})",
        f'problems=[{{"target": "{_name}", "kwargs": {{"dimensions": 3}}}}]',
        check=has_three_coordinates,
    )


test_option_changes_what_it_should = cases.test()
test_a_case_fails_if_its_option_is_ignored = cases.test_ignored()
