"""Replicas on two devices of one process equal one; see tests/test_workers.py for processes."""

import json
from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from l2o.disk.packing import pack, unpack
from l2o.errors import LostWorkerError, UserError
from l2o.problems import mlp_classifier
from l2o.train import LossArgs, Replicas, Runner, SimpleStrategy, Training, join, use_devices
from l2o.train.distributed.cluster import cluster
from tests.draws import same_draws
from tests.optimizees import CASES, OPTIMIZERS, Cliff, learn, meta_step, optimizer_of


@pytest.fixture(scope="module")
def two():
    replicas = Replicas(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    assert (replicas.count, replicas.local, replicas.first) == (2, 2, 0)
    return replicas


def leaves(carry, count):
    """Per optimizee, the leaves of its part of the carry."""
    carries = carry if isinstance(carry, list) else [carry]
    size = count // len(carries)
    parts = [tf.nest.flatten(c) for c in carries]
    return [[leaf[k] if size > 1 else leaf for leaf in part] for part in parts for k in range(size)]


@pytest.mark.parametrize(
    ("name", "kind", "case", "order", "per_replica"),
    [
        *[
            pytest.param(name, "train", "state", "first", 1, marks=pytest.mark.slow)
            for name in OPTIMIZERS
        ],
        # What differs between rules does not depend on these.
        pytest.param("RNNProp", "train", "data", "first", 2, marks=pytest.mark.slow),
        # Optimizees side by side are those of inner/test_batched.py.
        ("Tiny", "imitate", "state", "first", 1),
        pytest.param("Tiny", "imitate", "data", "first", 2, marks=pytest.mark.slow),
        pytest.param("DM", "imitate", "data", "first", 2, marks=pytest.mark.slow),
        pytest.param("DM", "train", "state", "second", 2, marks=pytest.mark.slow),
    ],
)
def test_two_devices_give_what_one_gives(two, name, kind, case, order, per_replica):
    problem, seeds = CASES[case](), range(2 * per_replica)
    make = partial(meta_step, optimizer_of(name), problem, kind=kind, order=order)
    gradient, result, carry = learn(make(per_replica, replicas=two), kind, seeds)
    expected, wanted, end = learn(make(len(seeds)), kind, seeds)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    for got, one in zip(result[:-1], wanted[:-1], strict=True):
        assert got.dtype == one.dtype
        np.testing.assert_allclose(got, one, rtol=1e-5)
    for mine, other in zip(leaves(carry, len(seeds)), leaves(end, len(seeds)), strict=True):
        for a, b in zip(mine, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


# What replicas give together is above, and one that diverges is in inner/test_batched.py.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "how", "seeds"),
    [
        ("train", "objective", [0, 2, 1, 4]),
        # The only one of its replica.
        ("train", "objective", [0, 1]),
        # What is left out then does not depend on the kind.
        ("train", "gradient", [0, 1]),
        ("imitate", "gradient", [1, 0]),
    ],
)
def test_a_diverged_optimizee_of_one_replica_is_left_out(two, kind, how, seeds):
    make = partial(meta_step, optimizer_of("Tiny"), Cliff(how), kind=kind)
    gradient, result, _ = learn(make(len(seeds) // 2, replicas=two), kind, seeds)
    expected, wanted, _ = learn(make(len(seeds)), kind, seeds)
    healthy = [seed % 2 == 0 for seed in seeds]
    assert result.finite.tolist() == wanted.finite.tolist() == healthy
    assert result.complete.tolist() == healthy
    if how == "objective":
        # One alone meets a gradient that is not finite an update later, in its objective.
        assert result.steps.tolist() == wanted.steps.tolist()
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def training(replicas, problem):
    same_draws(0)
    return Training(
        optimizer_of("RNNProp"),
        [problem],
        {"class_name": "Adam", "config": {"learning_rate": 0.01}},
        LossArgs(),
        teachers=[{"class_name": "SGD", "config": {"learning_rate": 0.1, "momentum": 0.9}}],
        p_teacher=0.5,
        persistent=True,
        batch_of_problems=4,
        depth=2,
        replicas=replicas,
    )


@pytest.mark.slow
def test_a_run_on_two_devices_is_that_on_one_and_goes_on_as_it(two):
    problem = mlp_classifier(layers=[3], batch_size=200)
    options = {"num_periods": 2, "epochs_per_period": 2, "validation_unroll": 3}
    ends = []
    for replicas in (two, None):
        made = training(replicas, problem)
        # As many unrolls of one kind as of the other would not be the same draws.
        rows = Runner(made, SimpleStrategy(unroll_distribution=3, **options)).train()
        ends.append((made, rows))
    (made, rows), (alone, others) = ends
    for row, other in zip(rows, others, strict=True):
        assert row.unrolls == other.unrolls == 4 * 2 * 3
        assert row.imitation_unrolls == other.imitation_unrolls
        assert row.validation_loss == pytest.approx(other.validation_loss, rel=1e-4)
        assert row.meta_loss == pytest.approx(other.meta_loss, rel=1e-4)
    assert 0 < rows[0].imitation_unrolls < rows[0].unrolls
    saved, expected = made.save_state(), alone.save_state()
    assert saved.keys() == expected.keys()
    assert saved["optimizer"] == expected["optimizer"]
    for name in saved.keys() - {"optimizer"}:
        np.testing.assert_allclose(saved[name], expected[name], rtol=1e-3, atol=1e-4, err_msg=name)
    # What one number of replicas has saved another takes.
    for source, target in ((saved, training(None, problem)), (expected, training(two, problem))):
        target.load_state(source, "test")
        again = target.save_state()
        assert again.keys() == source.keys()
        for name in again:
            np.testing.assert_array_equal(again[name], source[name], err_msg=name)


def test_optimizees_that_cannot_be_shared_equally_are_refused(two):
    with pytest.raises(UserError, match=r"training/batch_of_problems: 3 .* a multiple of 2"):
        Training(
            optimizer_of("DM"),
            [CASES["state"]()],
            {"class_name": "Adam"},
            LossArgs(),
            batch_of_problems=3,
            replicas=two,
        )


WORKERS = {"worker": ["a:1", "b:2"]}


@pytest.mark.parametrize(
    ("jobs", "task", "expected"),
    [
        (WORKERS, ("worker", 1), (["a:1", "b:2"], 1)),
        ({**WORKERS, "chief": ["c:3"]}, ("worker", 1), (["c:3", "a:1", "b:2"], 2)),
        ({**WORKERS, "chief": ["c:3"]}, ("chief", 0), (["c:3", "a:1", "b:2"], 0)),
        ({"worker": ["[::1]:2", "10.0.0.1:3"]}, ("worker", 0), (["[::1]:2", "10.0.0.1:3"], 0)),
    ],
)
def test_a_cluster_is_read_with_the_chief_first(jobs, task, expected):
    job, index = task
    assert cluster(json.dumps({"cluster": jobs, "task": {"type": job, "index": index}})) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "distribute=multi_worker needs this"),
        ("", "distribute=multi_worker needs this"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no cluster"),
        ('{"cluster": {}}', "no cluster"),
        ('{"cluster": {"workers": ["a:1"]}}', "did you mean worker"),
        ('{"cluster": {"ps": ["a:1"]}}', "no job of 'ps'"),
        ('{"cluster": {"worker": "a:1"}}', "the addresses of worker are no list"),
        ('{"cluster": {"worker": []}}', "the addresses of worker are no list"),
        ('{"cluster": {"worker": ["a"]}}', "'a' is no host:port"),
        ('{"cluster": {"worker": ["a:b"]}}', "'a:b' is no host:port"),
        ('{"cluster": {"worker": ["a:99999"]}}', "'a:99999' is no host:port"),
        ('{"cluster": {"worker": ["http://a:1"]}}', "no host:port"),
        ('{"cluster": {"worker": [5]}}', "5 is no host:port"),
        ('{"cluster": {"worker": ["a:1"]}, "rpc_layer": "x"}', "rpc_layer 'x' is not grpc"),
        ('{"cluster": {"chief": ["a:1", "b:1"]}}', "more than one chief"),
        ('{"cluster": {"worker": ["a:1"]}}', "its task is none"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "its task"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}', "its task"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": [], "index": 0}}', "its task"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": true}}', "its task"),
    ],
)
def test_a_wrong_tf_config_is_refused(text, words):
    with pytest.raises(UserError, match=r"^TF_CONFIG: ") as caught:
        cluster(text)
    assert words in str(caught.value)
    assert "expected something like {" in str(caught.value)


def test_one_device_needs_no_strategy():
    for replicas in (join("none"), Replicas(tf.distribute.MirroredStrategy(["CPU:0"]))):
        assert (replicas.count, replicas.local, replicas.devices) == (1, 1, [""])
        assert replicas.exchange(b"blob") == [b"blob"]
        assert replicas.is_chief
    assert join("mirrored").count == 2, "all there are"


def test_what_another_worker_breaks_is_told_from_what_this_one_does():
    error = tf.errors.UnavailableError(None, None, "{{node x}} Collective ops is aborted by: gone")
    told = pytest.raises(LostWorkerError, match=r"\(Collective ops is aborted by: gone\)")
    with told, Replicas(processes=2).lost_workers_reported():
        raise error
    with pytest.raises(tf.errors.UnavailableError), Replicas().lost_workers_reported():
        raise error


def test_arrays_are_packed_to_the_last_bit():
    arrays = {"a/0": np.array([-0.0, np.nan, 1e-45], np.float32), "b": np.zeros([0, 2], np.int64)}
    found = unpack(pack(arrays))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].tobytes() == array.tobytes()
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
    for wrong in (b"", b"PK", pack(arrays)[:-30], pack({"o": np.array([{}], object)})):
        with pytest.raises(ValueError, match=r"."):
            unpack(wrong)


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="--gpus: no GPU 3; there are: "):
        use_devices(cpu=False, gpus=[3])
    use_devices(cpu=True, gpus=None)
    assert tf.config.get_visible_devices("GPU") == []
