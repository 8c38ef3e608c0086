"""A problem that breaks the contract is told so in one line, wherever it is given."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o import evaluate
from l2o.errors import UserError
from l2o.problems import Booth, ConvexCombination, GradientNoise, Instance, Problem, RandomScaling
from l2o.problems.contract import check_problem
from l2o.train import LossArgs, Runner, SimpleStrategy, Training

PARAMS = [tf.constant([1.0, 2.0])]


class Theirs(Problem):
    """A problem of somebody else's."""

    name = "Theirs"

    def __init__(self, instance=None, objective=None, batches=(), per_epoch=None):
        self.instance = Instance(PARAMS, []) if instance is None else instance
        self.returned, self.data, self.steps_per_epoch = objective, batches, per_epoch

    def init(self, seed):
        return self.instance

    def objective(self, params, model_state, batch):
        if self.returned:
            return self.returned(params, model_state)
        return sum(tf.cast(tf.reduce_sum(tf.square(p)), tf.float32) for p in params), model_state

    def batches(self, seed, start, count):
        return self.data


def total(params):
    return tf.reduce_sum(tf.square(params[0]))


def of(*model_state, result=None):
    """A problem with this model_state at first, and that one after a step."""
    return Theirs(Instance(PARAMS, [*model_state]), lambda p, _: (total(p), result))


def with_params(*params):
    return Theirs(Instance([*params], []))


def returning(function):
    return Theirs(objective=lambda params, _: function(params))


SCALAR, FLOATING = "scalar tensor of a floating type; got ", "expected floating params of init; "
WRONG = {
    "a vector": (returning(lambda p: (p[0] ** 2, [])), SCALAR + r"a tensor of shape \[2\]"),
    "one entry": (returning(lambda p: (p[0][:1], [])), SCALAR + r"a tensor of shape \[1\]"),
    "a float": (returning(lambda p: (1.0, [])), SCALAR + r"float 1\.0"),
    "a NumPy float": (returning(lambda p: (np.float32(1), [])), SCALAR + "float32 np"),
    "complex": (returning(lambda p: (tf.cast(total(p), tf.complex64), [])), SCALAR + ".*complex64"),
    "integer": (returning(lambda p: (tf.cast(total(p), tf.int32), [])), SCALAR + ".*int32"),
    "None": (returning(lambda p: None), "the loss and the new model_state; got None"),
    "only the loss": (returning(total), "the loss and the new model_state; got a tensor"),
    "three": (returning(lambda p: (total(p), [], 1)), "new model_state; got a tuple of 3"),
    "more state": (of(result=[tf.zeros(2)]), "a list of 0 tensors .* got a list of 1"),
    "less state": (of(tf.zeros(2), result=[]), "a list of 1 tensors .* got a list of 0"),
    "no state": (of(result=None), "a list of 0 tensors .* got None"),
    "shape": (of(tf.zeros(2), result=[tf.zeros(3)]), r"entry 0 was .*\[2\].* becomes .*\[3\]"),
    "type": (of(tf.zeros(2), result=[tf.zeros(2, tf.int32)]), "was .*float32 .*becomes .*int32"),
    "number": (of(tf.zeros([]), result=[1.0]), r"entry 0 was .* becomes float 1\.0"),
    "int params": (with_params(tf.constant([1])), FLOATING + "entry 0 is .*int32"),
    "complex params": (with_params(PARAMS[0], tf.complex(1.0, 1.0)), FLOATING + "entry 1 is .*x64"),
    "no params": (with_params(), "at least one parameter; got none"),
    "empty params": (with_params(tf.zeros([0, 3])), "at least one parameter; got none"),
    "lists": (with_params([1.0, 2.0]), "params of init to be a list of tensors; entry 0 is a list"),
    "arrays": (with_params(np.ones(2)), "params of init .* entry 0 is a NumPy array of shape"),
    "one tensor": (Theirs(Instance(PARAMS[0], [])), "params of init to be a list of tensors; got"),
    "state": (of(3, result=[]), "model_state of init to be a list of tensors; entry 0 is int 3"),
    "a pair": (Theirs((PARAMS, [])), "init to return an Instance; got a tuple of 2"),
    "an epoch": (Theirs(per_epoch=0), "steps_per_epoch None or at least 1; got 0"),
    "epoch": (Theirs(per_epoch="5"), "steps_per_epoch None or at least 1; got '5'"),
    "batches": (Theirs(per_epoch=3, batches=tf.zeros([1, 2])), r"\[2, ...\] tensors; got a tensor"),
    "lists of batches": (Theirs(per_epoch=3, batches=[1, 2]), r"\[2, ...\] tensors; got int 1"),
}  # fmt: skip


def trained(problem, **options):
    optimizer, args = l2o.DMOptimizer(layers=(2,)), LossArgs(use_log_objective=False)
    return Training(optimizer, [problem], {"class_name": "Adam"}, args, **options)


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_in_one_line(what):
    problem, message = WRONG[what]
    message = "problem Theirs: .*" + message.replace("got None", "got NoneType None")
    for wrap in (lambda p: p, lambda p: GradientNoise(ConvexCombination(RandomScaling(p)))):
        with pytest.raises(UserError, match=message) as error:
            check_problem(wrap(problem))
        assert len(str(error.value).splitlines()) == 1


def test_it_is_told_wherever_a_problem_is_given():
    problem, message = WRONG["a vector"]
    sgd = keras.optimizers.SGD
    for given in (
        lambda: trained(problem),
        lambda: trained(l2o.problems.ProblemSpec(lambda: problem)),
        lambda: trained(Booth(), validation_problems=[problem]),
        lambda: evaluate.run(problem, sgd(0.1), 1, [0]),
        lambda: evaluate.sweep(problem, "SGD", [0.1], 1, [0]),
        lambda: l2o.evaluate.baselines.tune(problem, sgd, 1, [0]),
    ):
        with pytest.raises(UserError, match=message):
            given()


@pytest.mark.parametrize("given", ["Booth", Booth, None, lambda: Booth()])
def test_what_is_no_problem_is_told_where_it_stands(given):
    for path, use in (
        ("problems/0", lambda: trained(given)),
        ("validation_problems/0", lambda: trained(Booth(), validation_problems=[given])),
        ("problem", lambda: RandomScaling(given)),
        ("problem", lambda: evaluate.sweep(given, "SGD", [0.1], 1, [0])),
    ):
        with pytest.raises(UserError, match=f"^{path}: expected a Problem; got "):
            use()


# All other tests train on float32.
@pytest.mark.parametrize(
    "dtype",
    [
        "float16",
        "float64",
        *(pytest.param(d, marks=pytest.mark.slow) for d in ("bfloat16", "float32")),
    ],
)
def test_every_float_type_is_trained_on(dtype, monkeypatch):
    params = [tf.Variable([1, 2], dtype=dtype), tf.constant(1, dtype)]
    model_state = (np.zeros(2), tf.constant(0))

    def objective(params, model_state):
        loss = tf.add_n([tf.reduce_sum(tf.square(p)) for p in params])
        return [loss, (model_state[0] + 1, model_state[1] + 1)]

    problem = Theirs(Instance(params, model_state), objective)
    check_problem(problem)
    strategy = SimpleStrategy(
        num_periods=1, epochs_per_period=1, unroll_distribution=2, validation_unroll=2
    )
    (row,) = Runner(trained(problem), strategy).train()
    assert np.isfinite(row.validation_loss)
    assert row.dropped == 0


def test_an_error_of_the_problem_itself_comes_out_as_it_is():
    def wrong(params):
        raise KeyError("theirs")

    with pytest.raises(KeyError, match="theirs"):
        trained(returning(wrong))


def test_nothing_is_computed():
    def computed(x):
        raise AssertionError

    # Its rank is unknown, which is no reason to refuse it.
    check_problem(returning(lambda p: (tf.py_function(computed, [total(p)], tf.float32), [])))
