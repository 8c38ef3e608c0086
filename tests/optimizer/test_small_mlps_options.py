"""The options of AdafacMLP and Celo2, `network/...`."""

import numpy as np
import tensorflow as tf

from l2o.optimizer.celo2 import AdamState
from tests import reference_mlp
from tests.option_cases import Cases, close, documented

cases = Cases()

# Several steps: of a gradient alone, the features are the same at all decays.
BASE = (
    'problems=[{"target":"mlp_classifier","kwargs":{"layers":[3],"batch_size":700}}]',
    "strategy/unroll_distribution=3",
)


def adam_takes(run):
    """Of each parameter, whether its state is that of Adam."""
    return [isinstance(entry, AdamState) for entry in run.first.before.optimizer_state]


def reference(run, options, i, shape):
    weights = list(run.initial)
    if run.config["constructor"] == "AdafacMLP":
        return reference_mlp.Adafac(weights[3:], weights[:3], shape, options)
    if run.config["constructor"] == "LearnedMuon":
        fixed = {"adam_beta_1": 0.9, "adam_beta_2": 0.95, "adam_epsilon": 1e-8}
        own = {**options, **fixed, "adam_multiplier": 3 * np.exp(2 * weights[-1])}
        kind = reference_mlp.LearnedMuon(weights, shape, options) if len(shape) > 1 else None
        return reference_mlp.Adam(shape, own) if adam_takes(run)[i] else kind
    if adam_takes(run)[i]:
        return reference_mlp.Adam(shape, options)
    return reference_mlp.Celo2(weights, shape, options)


def expected_end(run, **changed):
    """Where the first unroll would end, if the options were those of the run but for some."""
    step, options = run.first, {**run.options, **changed}
    params = list(step.before.params)
    rules = [reference(run, options, i, tuple(p.shape)) for i, p in enumerate(params)]
    for t in range(step.length):
        batch = tf.nest.map_structure(lambda b, t=t: b[t], step.batches)
        with tf.GradientTape() as tape:
            tape.watch(params)
            f, _ = step.problem.objective(params, step.before.model_state, batch)
        grads = tape.gradient(f, params)
        for i, rule in enumerate(rules):
            delta = rule.step(*(x.numpy().astype(np.float64) for x in (params[i], grads[i])))
            params[i] += tf.constant(delta, params[i].dtype)
    return np.concatenate([p.numpy().ravel() for p in params])


def seen_end(run):
    return np.concatenate([p.numpy().ravel() for p in run.first.after.params])


def steps_follow(name):
    """A check that the steps are those of the paper with this option, and with no other."""

    def check(run):
        options, constructor = documented(), run.config["constructor"]
        own = f"network/{name} ({constructor})"
        default = options[own if own in options else f"network/{name}"]
        assert close(seen_end(run), expected_end(run), 1e-3, 1e-4)
        assert not close(seen_end(run), expected_end(run, **{name: default.default}), 1e-3, 1e-4)

    return check


def network_has_three_layers_of_five(run):
    shapes = [w.shape for w in run.weights if w.ndim == 2]
    first, last = {"AdafacMLP": (39, 2), "Celo2": (30, 3)}[run.config["constructor"]]
    assert shapes == [(first, 5), (5, 5), (5, 5), (5, last)]
    assert close(seen_end(run), expected_end(run), 1e-3, 1e-4)


def is_called(run):
    assert run.training.optimizer.name == "mine"


# What is typed together shows who changed what: NumPy tells.
LEARNED = (
    "network/hidden_units=5",
    "network/hidden_layers=3",
    "network/momentum_decays=[0.3,0.6,0.8]",
    "network/rms_decay=0.4",
    "network/factored_decays=[0.2,0.5,0.7]",
    "network/step_size=0.1",
    "network/exp_mult=2.0",
    "network/name=mine",
)
CELO2 = ("network/orthogonalize=false", "network/gradient_clip=0.001")
ADAM = (
    "network/adam_beta_1=0.5",
    "network/adam_beta_2=0.3",
    "network/adam_epsilon=0.01",
    "network/adam_multiplier=2.0",
    "network/step_size=0.1",
)

CHECKS = {
    "hidden_units": network_has_three_layers_of_five,
    "hidden_layers": network_has_three_layers_of_five,
    "name": is_called,
}

for _constructor, _options in (
    ("AdafacMLP", LEARNED),
    ("Celo2", (*LEARNED, *CELO2, "network/adam_for_vectors=false")),
):
    for _typed in _options:
        _option = _typed.partition("=")[0].removeprefix("network/")
        if _option == "adam_for_vectors":
            continue
        cases.add(
            f"network/{_option} ({_constructor})" if _typed in LEARNED else f"network/{_option}",
            *BASE,
            *_options,
            check=CHECKS.get(_option) or steps_follow(_option),
            constructor=_constructor,
        )
for _typed in ADAM[:-1]:
    _option = _typed.partition("=")[0].removeprefix("network/")
    cases.add(f"network/{_option}", *BASE, *ADAM, check=steps_follow(_option), constructor="Celo2")


@cases.add(
    "network/adam_for_vectors",
    *BASE,
    *LEARNED,
    *CELO2,
    "network/adam_for_vectors=false",
    constructor="Celo2",
)
def _(run):
    assert adam_takes(run) == [False] * 4
    assert close(seen_end(run), expected_end(run), 1e-3, 1e-4)


@cases.add("network/correct", *BASE, "network/correct=adam", *CELO2, constructor="Celo2")
def _(run):
    assert close(seen_end(run), expected_end(run), 1e-3, 1e-4)
    assert not close(seen_end(run), expected_end(run, correct="nothing"), 1e-3, 1e-4)


@cases.add(
    "network/adam_for (Celo2)", *BASE, 'network/adam_for=["kernel"]', *ADAM, constructor="Celo2"
)
def _(run):
    assert run.config["network"]["adam_for"] == ["kernel"]
    assert adam_takes(run) == [True, False] * 2
    assert close(seen_end(run), expected_end(run), 1e-3, 1e-4)


for _typed in ("network/step_size=0.1", "network/name=mine"):
    _option = _typed.partition("=")[0].removeprefix("network/")
    cases.add(
        f"network/{_option} (LearnedMuon)",
        *BASE,
        _typed,
        check=CHECKS.get(_option) or steps_follow(_option),
        constructor="LearnedMuon",
    )


@cases.add(
    "network/adam_for (LearnedMuon)",
    *BASE,
    'network/adam_for=["kernel"]',
    "network/step_size=0.1",
    constructor="LearnedMuon",
)
def _(run):
    assert run.config["network"]["adam_for"] == ["kernel"]
    assert adam_takes(run) == [True] * 4
    assert close(seen_end(run), expected_end(run), 1e-3, 1e-4)


test_option_changes_what_it_should = cases.test()
test_a_case_fails_if_its_option_is_ignored = cases.test_ignored()
