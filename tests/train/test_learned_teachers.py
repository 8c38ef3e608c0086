"""Trained optimizers as teachers: `{"class_name": "l2o", "config": {"directory": ...}}`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from config.overrides import merge_overrides
from l2o.errors import UserError
from l2o.optimizer import OPTIMIZERS
from l2o.problems import Quadratic
from l2o.train import (
    LossArgs,
    RunDirectory,
    Runner,
    SimpleStrategy,
    Training,
    build_training,
    resolve_config,
)
from l2o.train.losses.learned_teacher import LearnedTeacher, digest
from l2o.train.session import start
from tests.tiny_rule import TinyOptimizer
from tests.train.runs.test_crash import Death

WEIGHTS, OTHERS = [[0.3], [0.2]], [[0.7], [0.1]]
PLACE = "training/teachers/0/config"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """A place with a trained optimizer in `source`."""
    monkeypatch.setitem(OPTIMIZERS.entries, "Tiny", TinyOptimizer)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Runner, "_validate", lambda self, *_: 0.0)
    tiny(WEIGHTS).save("source")
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def tiny(weights, **options):
    optimizer = TinyOptimizer(**options)
    optimizer.set_learned_weights([np.array(weights)])
    return optimizer


def teacher(directory="source", **config):
    return {"class_name": "l2o", "config": {"directory": directory, **config}}


def config(*overrides, teachers=None, **job):
    job = {
        "directory": "run",
        "constructor": "Tiny",
        "problems": [{"target": "Quadratic", "kwargs": {"dimensions": 2}}],
        "optimizer": {"class_name": "SGD", "config": {"learning_rate": 0.1}},
        "loss_args": {"use_log_objective": False},
        "training": {"teachers": teachers or [teacher()], "p_teacher": 1.0},
        "strategy": {"epochs_per_period": 1, "num_periods": 2, "unroll_distribution": 2},
        **job,
    }
    return merge_overrides(job, overrides)


def resume(*overrides):
    read = {**RunDirectory("run").read_config(), "directory": "run"}
    start(merge_overrides(read, overrides), read)


def refused(act, path=f"{PLACE}/directory"):
    with pytest.raises(UserError) as error:
        act()
    assert error.value.path == path
    assert "\n" not in error.value.message
    return error.value.message


def changes(weights, scale=0.1, rate=1.0):
    """What the tiny rule does: a function of the gradient and of the momentum, in NumPy."""
    (a,), (b,) = weights
    return lambda g, m: -rate * scale * np.tanh(a * g + b * m)


def steps(problem, instance, change, count):
    """Parameters after each step."""
    (x,), m, found = [p.numpy() for p in instance.params], 0.0, []
    for _ in range(count):
        point = tf.constant(x, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(point)
            f, _ = problem.objective([point], instance.model_state, ())
        g = tape.gradient(f, point).numpy()
        m = 0.9 * m + g
        x = x + change(g, m)
        found.append(x)
    return found


def imitation_loss(training):
    """The loss of one unroll of 2 steps, and what it is in NumPy for each teacher's steps."""
    starts = []
    problem = training.problems[0]
    original = problem.init
    problem.init = lambda seed: starts.append(original(seed)) or starts[-1]
    rng = np.random.default_rng(0)
    (record,) = training.train(0, rng, lambda rng: 2, p_teacher=1.0)
    return record.loss, lambda change: steps(problem, starts[-1], change, 2)


def distances(a, b):
    return np.array([np.sum((x - y) ** 2) for x, y in zip(a, b, strict=True)])


def of_student(run):
    return run(changes(TinyOptimizer().network.get_weights()[0]))


@pytest.mark.parametrize("strategy", ["mean", "max"])
def test_the_student_follows_what_it_would_do(strategy):
    """One trained and one Keras teacher; the reduction is over teachers in each step."""
    sgd = {"class_name": "SGD", "config": {"learning_rate": 0.05}}
    job = config(f"training/strategy={strategy}", teachers=[teacher(), sgd])
    training = build_training(resolve_config(job))
    loss, run = imitation_loss(training)
    own = of_student(run)
    learned = distances(own, run(changes(WEIGHTS)))
    plain = distances(own, run(lambda g, m: -0.05 * g))
    reduce = {"mean": np.mean, "max": np.max}[strategy]
    np.testing.assert_allclose(loss, reduce([learned, plain], axis=0).sum(), rtol=1e-4)
    assert abs(np.mean([learned, plain]) - np.max([learned, plain], axis=0).mean()) > 1e-3 * loss


def test_the_sources_are_those_of_initial_weights():
    start(config("directory=trained", "training/p_teacher=0", "optimizer/config/learning_rate=0"))
    found = {}
    for source in ("source", "source/optimizer.npz", "trained", "rnnprop-digits"):
        training = build_training(resolve_config(config(teachers=[teacher(source)])))
        found[source] = imitation_loss(training)[0]
    assert found["source"] == found["source/optimizer.npz"]
    assert found["trained"] == 0.0, "the student itself"
    assert len({*found.values()}) == 3


def test_each_optimizee_has_its_own():
    single, together = (
        build_training(resolve_config(config(f"training/batch_of_problems={k}"))) for k in (1, 2)
    )
    (teachers,) = (step.imitation.teachers for step in together.steps)
    (first,), (second,) = teachers[0].optimizers
    assert first is not second
    np.testing.assert_array_equal(first.network.get_weights(), second.network.get_weights())
    ((alone,),) = single.steps[0].imitation.teachers[0].optimizers
    np.testing.assert_array_equal(alone.network.get_weights(), [np.float32(WEIGHTS)])
    records = list(together.train(0, np.random.default_rng(0), lambda rng: 2, 1.0))
    assert len({record.loss for record in records}) == 2


@pytest.mark.parametrize(
    ("given", "place", "words"),
    [
        (teacher("nowhere"), "/directory", "nowhere is not a run directory"),
        (teacher("rnnprop-digit"), "/directory", "did you mean rnnprop-digits?"),
        (teacher("source", sha256="0" * 64), "/directory", "source is another optimizer than"),
        (teacher("source", sha256="0"), "/sha256", "expected 64 hexadecimal digits"),
        (teacher("source", module="os"), "/module", "unknown option"),
        (teacher(5), "/directory", "expected a string or null; got 5"),
        ({"class_name": "l2o"}, "/directory", "expected where the trained optimizer is"),
    ],
)
def test_what_does_not_fit_is_one_line_and_writes_nothing(given, place, words):
    assert words in refused(lambda: start(config(teachers=[given])), f"{PLACE}{place}")
    assert not RunDirectory("run").path.exists()


def test_a_class_that_is_not_registered_is_not_imported():
    from l2o.optimizer import saved

    found = saved.read("source")
    saved.write("foreign", found._replace(kind="os>system"))
    message = refused(lambda: start(config(teachers=[teacher("foreign")])))
    assert "is of the class 'os>system', which is not registered here" in message


def die_in_period(number):
    """Starts a run that dies when this period is trained, but not written."""
    write = RunDirectory.write_period

    def dying(run, row, *args):
        if row.period == number:
            raise Death
        write(run, row, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunDirectory, "write_period", dying)
        with pytest.raises(Death):
            start(config())


def files(directory):
    run = RunDirectory(directory)
    checkpoints = [p.read_bytes() for p in sorted(run.path.glob("checkpoints/*.npz"))]
    return run.summary_path.read_bytes(), checkpoints


@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_run_ends_as_an_undisturbed_one(number):
    start(config("directory=whole"))
    die_in_period(number)
    recorded = RunDirectory("run").read_config()["training"]["teachers"]
    assert recorded == [teacher(sha256=digest(tiny(WEIGHTS)))]
    resume()
    assert files("run") == files("whole")
    start(config())


@pytest.mark.parametrize("number", [0, 1])
def test_a_run_does_not_go_on_with_another_teacher(number):
    die_in_period(number)
    for other in (tiny(OTHERS), tiny(WEIGHTS, scale=0.2)):
        other.save("source")
        sha256 = digest(other)
        message = refused(resume)
        assert message == (
            f"source is another optimizer than before: its SHA-256 is {sha256}; expected "
            f"{digest(tiny(WEIGHTS))}, as {PLACE}/sha256 says"
        )
        assert f"differs in {PLACE}/sha256" in refused(lambda: start(config()), "")
    tiny(WEIGHTS).save("source", about="other words")
    resume()
    assert len(RunDirectory("run").rows()) == 2


def from_python(*teachers, periods=1, path="python"):
    training = Training(
        TinyOptimizer(),
        [Quadratic(dimensions=2)],
        keras.optimizers.SGD(0.1),
        LossArgs(use_log_objective=False),
        teachers=teachers,
        p_teacher=1.0,
    )
    strategy = SimpleStrategy(num_periods=periods, epochs_per_period=1, unroll_distribution=2)
    return training, Runner(training, strategy, RunDirectory(path))


def test_an_optimizer_is_a_teacher_in_python():
    of_config = imitation_loss(build_training(resolve_config(config())))[0]
    assert imitation_loss(from_python(l2o.load("source"))[0])[0] == of_config
    training, _ = from_python(l2o.load("source", learning_rate=0.25))
    loss, run = imitation_loss(training)
    slow = run(changes(WEIGHTS, rate=0.25))
    np.testing.assert_allclose(loss, distances(of_student(run), slow).sum(), rtol=1e-4)
    message = refused(lambda: from_python(teacher()), "training/teachers/0")
    assert "such as l2o.load(...)" in message


def test_a_run_from_python_goes_on_with_the_same_teacher():
    from_python(l2o.load("source"))[1].train()
    assert len(from_python(l2o.load("source"), periods=2)[1].train()) == 2
    for other in (tiny(OTHERS), tiny(WEIGHTS, scale=0.2), l2o.load("source", clipnorm=1.0)):
        with pytest.raises(UserError, match="training/teachers/0/config/sha256"):
            from_python(other, periods=3)[1].train()


def test_what_was_learned_and_all_options_are_told_apart():
    same = [digest(tiny(WEIGHTS)), digest(tiny(WEIGHTS, name="other")), digest(l2o.load("source"))]
    same.append(digest(LearnedTeacher(l2o.load("source")).make()))
    others = [tiny(OTHERS), tiny(WEIGHTS, scale=0.2), l2o.load("source", learning_rate=0.5)]
    assert len({*same}) == 1
    assert len({*same, *map(digest, others)}) == 4
