"""The options of evolution strategies, `estimator/...`, and which trainings they are drawn for."""

import numpy as np
import tensorflow as tf

from l2o import seeds
from l2o.train.outer.meta_step import MetaStep
from tests.by_loop import factors_of, loop
from tests.option_cases import LENGTH_3, Cases, close, run

cases = Cases()


def unit_perturbation(run):
    """The standard normal draw of the only unroll."""
    rng = seeds.generator(run.config["seed"], seeds.TRAINING, 0, 0, 0, 0)
    seed = seeds.draw(rng.spawn(1)[0].spawn(1)[0])
    return tf.random.stateless_normal([run.change.size], [seed, 0], alg="philox").numpy()


def loss_with(run, e):
    """The loss of the only unroll with learned weights theta + e."""
    step, start = run.first, 0
    for variable, weight in zip(run.network.trainable_variables, run.initial, strict=True):
        variable.assign(weight + e[start : start + weight.size].reshape(weight.shape))
        start += weight.size
    carry = getattr(step.before, "plus", step.before)
    meta_step = run.training.steps[0]
    plain = MetaStep(run.training.optimizer, step.problem, meta_step.loss)
    result, _ = plain.validate(carry, step.batches, step.length)
    for variable, weight in zip(run.network.trainable_variables, run.initial, strict=True):
        variable.assign(weight)
    return float(result.loss)


def gradient_is(run, sigma, change=lambda difference: difference):
    """Checks the meta-gradient of the only unroll against two losses."""
    e = sigma * unit_perturbation(run)
    difference = loss_with(run, e) - loss_with(run, -e)
    expected = e * change(difference) / (2 * sigma**2)
    assert np.abs(expected).max() > 0
    assert close(run.meta_gradient, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


for _name in ("ES", "PES", "FullES"):

    @cases.add(
        f"estimator/sigma ({_name})",
        f"estimator_constructor={_name}",
        "estimator/sigma=0.5",
        LENGTH_3,
    )
    def _(run):
        gradient_is(run, 0.5)


@cases.add(
    "estimator/clip",
    "estimator_constructor=FullES",
    "estimator/sigma=0.5",
    "estimator/clip=0.001",
    LENGTH_3,
)
def _(run):
    gradient_is(run, 0.5, lambda difference: np.sign(difference) * 0.001)


@cases.add(
    "estimator/sign",
    "estimator_constructor=FullES",
    "estimator/sigma=0.5",
    "estimator/sign=true",
    LENGTH_3,
)
def _(run):
    gradient_is(run, 0.5, np.sign)


def perturbations(run):
    return np.array([step.after.e for step in run.trained])


@cases.add(
    "estimator/refresh",
    "estimator_constructor=PES",
    "estimator/refresh=2",
    "training/repeat=4",
)
def _(typed):
    first, second, third, fourth = perturbations(typed)
    assert np.array_equal(first, second)
    assert np.array_equal(third, fourth)
    assert not np.array_equal(second, third)
    usual = perturbations(run("estimator_constructor=PES", "training/repeat=4"))
    assert len(np.unique(usual[:, 0])) == 4


# With so small a sigma, the run of theta + e is that of theta.
for _name, _more in (("TruncatedBackprop", ()), ("FullES", ("estimator/sigma=1e-6",))):

    @cases.add(
        f"estimator/schedule ({_name})",
        f"estimator_constructor={_name}",
        "estimator/schedule=warmup_cosine",
        "strategy/unroll_distribution=5",
        *_more,
    )
    def _(run):
        optimizer, step = run.training.optimizer, run.first
        _, params, _ = loop(optimizer, step.problem, step.before, factors_of("warmup_cosine", 5))
        assert close(step.delta, params[0].numpy() - step.start, rtol=1e-3, atol=0)


for _strategy in ("Simple", "CurriculumLearning"):

    @cases.add(
        f"strategy/horizon ({_strategy})",
        "strategy/horizon=[3,3]",
        "training/repeat=8",
        strategy=_strategy,
    )
    def _(typed):
        fresh = [k for k, step in enumerate(typed.trained) if step.fresh]
        assert fresh[0] == 0
        assert len(fresh) > 2
        assert fresh[1] <= 3
        assert set(np.diff(fresh[1:])) == {3}
        assert typed.rows[0].replaced == len(fresh) - 1


test_option_changes_what_it_should = cases.test()
test_a_case_fails_if_its_option_is_ignored = cases.test_ignored()
