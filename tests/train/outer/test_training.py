"""How optimizees follow each other: epochs, depth, repeat, persistent, imitation."""

import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.errors import UserError
from l2o.problems import ProblemSpec
from l2o.train import LossArgs, Training
from tests.draws import same_draws
from tests.tiny_rule import TinyOptimizer
from tests.train.parabola import TEACHERS, Parabola


def make(problem, **options):
    same_draws(0)
    training = Training(
        TinyOptimizer(),
        [ProblemSpec(lambda: problem)],
        {"class_name": "Adam", "config": {"learning_rate": 0.01}},
        options.pop("loss_args", LossArgs()),
        **options,
    )
    # Not what was asked when the problem was checked.
    for one in (*training.problems, *training.validation_problems):
        if isinstance(one, Parabola):
            one.inits.clear()
            one.windows.clear()
    return training


def run(training, length=5, p_teacher=0.0, seed=0):
    return list(training.train(0, np.random.default_rng(seed), lambda rng: length, p_teacher))


def test_epochs_are_covered_by_whole_unrolls():
    problem = Parabola(size=11)
    unrolls = run(make(problem, epochs=2), length=5)
    assert [u.steps for u in unrolls] == [5, 5, 5, 5, 5], "22 mini-batches"
    # One more than the steps: the last scores, and is the first of the next unroll.
    assert problem.windows == [(0, 6), (5, 6), (10, 6), (15, 6), (20, 6)]
    assert len(problem.inits) == 1, "no reset within an iteration"


def test_an_unroll_longer_than_an_epoch_is_run_whole():
    problem = Parabola(size=3)
    training = make(problem, repeat=3)
    unrolls = run(training, length=8)
    assert [u.steps for u in unrolls] == [8]
    # Nor does `repeat` count those of a problem with data.
    problem.steps_per_epoch = 5
    assert len(run(training)) == 1


def test_repeat_counts_unrolls_of_problems_without_data():
    assert len(run(make(Parabola(), repeat=3, epochs=7))) == 3


def test_depth_counts_unrolls_between_resets_exactly():
    problem = Parabola()
    training = make(problem, repeat=6, depth=4)
    for depth, resets in ((4, 2), (0, 1), (1, 6), (2, 3)):
        # Told anew, it is not traced anew.
        training.depth = depth
        problem.inits.clear()
        run(training)
        assert len(problem.inits) == resets, depth


def test_unrolls_of_one_optimizee_chain(monkeypatch):
    training = make(Parabola(), repeat=4, depth=2)
    (step,) = training.steps
    starts, ends = [], []

    def spy(meta_optimizer, draws, carry, batches, steps, train=step.train):
        starts.append(carry)
        result, end = train(meta_optimizer, draws, carry, batches, steps)
        ends.append(end)
        return result, end

    monkeypatch.setattr(step, "train", spy)
    run(training)
    assert starts[1] is ends[0]
    assert int(starts[1].optimizer_state.t) == 5
    assert starts[2] is not ends[1], "a new optimizee, and a fresh state for it"
    assert int(starts[2].optimizer_state.t) == 0
    assert starts[3] is ends[2]


@pytest.mark.parametrize("persistent", [False, True])
def test_persistent_keeps_the_internal_state_when_the_optimizee_is_replaced(persistent):
    training = make(Parabola(), repeat=2, depth=1, persistent=persistent)
    run(training)
    run(training)
    if persistent:
        assert int(training.state.optimizer_states[0][0].t) == 2 * 2 * 5
    else:
        assert training.state.optimizer_states == [[None]]


def test_a_diverged_optimizee_is_counted_replaced_and_never_learned_from():
    problem = Parabola(explode_from=8)
    training = make(problem, repeat=4, persistent=True)
    before = [w.numpy() for w in training.optimizer.network.weights]
    unrolls = run(training, length=10)
    assert [u.finite for u in unrolls] == [False] * 4
    assert [u.steps for u in unrolls] == [8] * 4, "the eighth update ends it"
    assert len(problem.inits) == 4
    assert training.state.optimizer_states == [[None]]
    for a, b in zip(before, training.optimizer.network.weights, strict=True):
        np.testing.assert_array_equal(a, b.numpy())
    assert int(training.meta_optimizer.iterations) == 0


class SecondExplodes(Parabola):
    """Only the second optimizee ever made does."""

    def init(self, seed):
        made = super().init(seed)
        y, count = made.model_state
        later = 0.0 if len(self.inits) == 2 else 1e6
        return made._replace(model_state=[y, count - later])


def test_of_optimizees_side_by_side_only_the_diverged_one_is_replaced():
    problem = SecondExplodes(explode_from=8)
    training = make(problem, repeat=2, persistent=True, batch_of_problems=3)
    unrolls = run(training, length=10)
    assert [u.finite for u in unrolls] == [True, False, True, True, True, True]
    assert [u.steps for u in unrolls] == [10, 8, 10, 10, 10, 10]
    assert len(set(problem.inits)) == 4
    states = training.state.optimizer_states[0]
    assert [int(state.t) for state in states] == [20, 10, 20], "a fresh one for a fresh optimizee"
    assert int(training.meta_optimizer.iterations) == 2
    for a, b in zip(states[0].m, states[2].m, strict=True):
        assert (a.numpy() != b.numpy()).any(), "each has its own"


def test_training_improves_and_validation_changes_nothing():
    training = make(Parabola(), repeat=20, depth=1)

    def validate():
        rngs = np.random.default_rng(7).spawn(4)
        return [u.loss for u in training.validate(0, rngs, 10)]

    first = validate()
    state = training.save_state()
    assert validate() == first
    for name, array in training.save_state().items():
        np.testing.assert_array_equal(array, state[name])
    for seed in range(5):
        run(training, length=10, seed=seed)
    assert np.mean(validate()) < np.mean(first) - 0.1


def test_imitation_has_its_own_optimizer():
    training = make(
        Parabola(),
        repeat=6,
        teachers=TEACHERS,
        p_teacher=1.0,
        imitation_optimizer={"class_name": "SGD", "config": {"learning_rate": 0.01}},
    )
    assert all(u.imitation for u in run(training, p_teacher=1.0))
    assert int(training.imitation_optimizer.iterations) == 6
    assert int(training.meta_optimizer.iterations) == 0
    run(training, p_teacher=0.0)
    assert int(training.imitation_optimizer.iterations) == 6
    assert int(training.meta_optimizer.iterations) == 6


# inner/test_unroll.py has its gradient.
@pytest.mark.slow
def test_imitation_brings_the_student_to_its_teacher():
    training = make(Parabola(), repeat=20, depth=1, teachers=TEACHERS, p_teacher=1.0)
    first = np.mean([u.loss for u in run(training, p_teacher=1.0, seed=99)])
    for seed in range(10):
        run(training, p_teacher=1.0, seed=seed)
    last = np.mean([u.loss for u in run(training, p_teacher=1.0, seed=99)])
    assert last < first - 2, "a log of a squared distance, summed over 5 steps"


# Many unrolls; the option `training/p_teacher` has a case in the fast tier.
@pytest.mark.slow
def test_the_probability_to_imitate_is_that_of_the_coin():
    training = make(Parabola(), repeat=200, depth=1, teachers=TEACHERS, p_teacher=1.0)
    share = np.mean([u.imitation for u in run(training, length=1, p_teacher=0.3)])
    assert 0.2 < share < 0.4


def test_imitation_without_a_teacher_is_refused():
    with pytest.raises(UserError, match="training/p_teacher"):
        make(Parabola(), p_teacher=0.5)


def test_a_teacher_that_cannot_start_where_the_student_is_is_refused():
    with pytest.raises(UserError, match="training/teachers/1/class_name: ScheduleFreeAdamW"):
        make(Parabola(), teachers=[*TEACHERS, {"class_name": "ScheduleFreeAdamW"}])


def test_a_persistent_teacher_that_diverges_teaches_again_later():
    rate = {"class_name": "SGD", "config": {"learning_rate": 1e30, "momentum": 0.9}}
    training = make(Parabola(), repeat=2, depth=2, persistent=True, teachers=[rate], p_teacher=1.0)
    assert [u.finite for u in run(training, p_teacher=1.0)] == [False, False]
    (teacher,) = training.steps[0].imitation.teachers
    ((optimizer,),) = teacher.optimizers
    assert all(np.isfinite(v.numpy()).all() for v in optimizer.variables)
    # One that stays finite lives on.
    optimizer.learning_rate = 0.1
    assert all(u.finite for u in run(training, p_teacher=1.0))
    assert any((v.numpy() != 0).any() for v in optimizer.variables if "momentum" in v.path)


def test_state_survives_saving_and_loading_to_the_last_bit():
    options = {
        "repeat": 4,
        "persistent": True,
        "teachers": TEACHERS,
        "p_teacher": 0.5,
        "imitation_optimizer": {"class_name": "Adam"},
    }
    training, other = make(Parabola(), **options), make(Parabola(), **options)
    run(training, p_teacher=0.5)
    saved = training.save_state()
    run(training, p_teacher=0.5, seed=1)
    other.load_state(saved, "test")
    run(other, p_teacher=0.5, seed=1)
    expected, got = training.save_state(), other.save_state()
    assert expected.keys() == got.keys()
    assert any("teacher" in name for name in got)
    assert any("state" in name for name in got)
    for name in got:
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing():
    training = make(Parabola())
    saved = training.save_state()
    wrong = {**saved, "network/0": np.zeros([1, 1], np.float32)}
    missing = {k: v for k, v in saved.items() if k != "meta_optimizer/0"}
    for bad in (wrong, missing):
        with pytest.raises(UserError, match="does not belong"):
            training.load_state(bad, "test")
    for name, array in training.save_state().items():
        np.testing.assert_array_equal(array, saved[name])


def test_each_optimizee_starts_from_learning_rates_of_its_own():
    training = Training(
        l2o.ScaleBasicOptimizer(layers=(4,), init_lr=(1e-3, 1e-1)),
        [ProblemSpec(Parabola)],
        {"class_name": "Adam"},
        LossArgs(),
        repeat=3,
        depth=1,
    )
    (step,) = training.steps
    starts = []
    start = step.start
    step.start = lambda *args: starts.append(start(*args)) or starts[-1]
    run(training)
    rates = [carry.optimizer_state.lr.numpy() for carry in starts]
    assert len(rates) == 3
    assert (rates[0] != rates[1]).all()
    assert (rates[1] != rates[2]).all()


def test_problems_may_be_given_as_they_are():
    problem, other = Parabola(), Parabola(size=7)
    training = Training(
        TinyOptimizer(),
        [problem],
        {"class_name": "Adam"},
        LossArgs(),
        validation_problems=[other],
        repeat=1,
    )
    assert training.problems == [problem]
    assert training.validation_problems == [other]
    assert all(u.finite for u in run(training))


def test_objectives_in_another_precision_than_the_parameters():
    class Half(Parabola):
        def objective(self, params, model_state, batch):
            f, state = super().objective(params, model_state, batch)
            return tf.cast(f, tf.float16), state

    training = make(Half(), repeat=4, teachers=TEACHERS, p_teacher=0.5)
    unrolls = run(training, p_teacher=0.5)
    assert {u.imitation for u in unrolls} == {True, False}
    assert all(u.finite for u in unrolls)


def test_validation_runs_on_problems_of_its_own():
    problem, other = Parabola(), Parabola(size=7)
    training = make(problem, repeat=3, validation_problems=[ProblemSpec(lambda: other)])
    unrolls = list(training.validate(0, np.random.default_rng(0).spawn(4), 4))
    assert len(unrolls) == 2 * 4, "7 mini-batches are two unrolls of 4, of each optimizee"
    assert len(set(other.inits)) == 4
    assert len(other.windows) == 2 * 4
    assert problem.windows == []
    run(training)
    assert len(other.windows) == 2 * 4
    assert len(problem.windows) == 3
