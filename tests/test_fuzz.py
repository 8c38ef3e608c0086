"""Input that nobody would write: one clear line, and no file changed.

`make test-fuzz` tries 2,000 examples of each; the ordinary suite tries a few.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import l2o
from config.overrides import DEFAULT, merge_all, merge_overrides, read_json
from l2o.disk.packing import pack, seal, unpack, unseal
from l2o.errors import UserError
from l2o.optimizer import OPTIMIZERS
from l2o.options import options_of
from l2o.problems import PROBLEMS, WRAPPERS
from l2o.train import (
    STRATEGIES,
    LossArgs,
    RunDirectory,
    Training,
    resolve_config,
)
from l2o.train.resolve import job
from l2o.train.session import start
from tests.running import build_runner, quick_periods

EXAMPLES = int(os.environ.get("L2O_EXAMPLES", "30"))
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 100,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def refused(action):
    """Whether it was refused, which has to be one line that says something."""
    try:
        action()
    except UserError as error:
        line = str(error)
        assert len(line.splitlines()) == 1, line
        assert 10 < len(line) < 2000, line
        return True
    return False


# What stands where something else is expected.
ODD = st.sampled_from(
    [
        None, True, False, 0, 1, -1, 2, 3, 10**9, -(10**9), 10**30, 0.5, -0.5, 1.0, 1e-30, 1e30,
        1e308, "", " ",
         "x", "Adam", "DM", "../x", "é", "\u0000", "\ud800", "{}", "__import__('os')",
        [], [1], [0], [-1], [2, 3], [[1]], ["x"], [None], [1.5, 0.5], {}, {"x": 1}, {"": {}},
        {"class_name": "SGD"}, {"target": "Booth"}, {"base": 2, "power": 2},
        {"module": "os", "class_name": "system", "config": {}}, [{"class_name": "SGD"}],
    ]
)  # fmt: skip
VALUES = st.one_of(
    ODD,
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(max_size=5)),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=6,
    ),
)


def names():
    targets = [job, Training, LossArgs]
    for registry in (OPTIMIZERS, STRATEGIES, PROBLEMS, WRAPPERS):
        targets += registry.entries.values()
        yield from registry.entries
    for target in targets:
        yield from options_of(target)
    yield from ("problems", "network", "strategy", "training", "loss_args", "optimizer", "0", "1")
    yield from ("target", "args", "kwargs", "wrappers", "class_name", "config", "teachers")


NAMES = st.sampled_from(sorted(set(names()))) | st.text(max_size=6)


# Overrides: text that could be one, or nearly.

OVERRIDES = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.builds(
            lambda path, value: f"{'/'.join(path)}={value}",
            st.lists(NAMES, min_size=1, max_size=5),
            VALUES.map(lambda value: json.dumps(value)) | st.text(max_size=10),
        ),
        st.builds("=".join, st.lists(st.text(max_size=4), max_size=4)),
    ),
    max_size=4,
)


@fuzz
@given(OVERRIDES)
def test_override_strings(overrides):
    refused(lambda: json.dumps(resolve_config(merge_all(overrides=overrides))))


@pytest.mark.parametrize(
    "text",
    [
        "a" * 10**6 + "=1",
        "/".join("a" * 5000) + "=1",
        "strategy/num_periods=" + "9" * 5000,
        "problems/" + "9" * 5000 + "=1",
        "network=" + "[" * 10**5,
        "network=" + "[" * 100 + "]" * 100,
        "network/layers=" + json.dumps([10**400]),
        "seed=" + "1" + "0" * 4000,
        "network/layers=[1e400]",
    ],
    ids=range(9),
)
def test_override_strings_that_are_huge(text):
    assert refused(lambda: resolve_config(merge_all(overrides=[text]))) or text.startswith("seed")


# Config files: bytes, and configs in which something has been replaced.


def damaged(content):
    """Bytes of a file after an accident."""
    return st.one_of(
        st.integers(0, len(content)).map(lambda n: content[:n]),
        st.integers(0, 8 * len(content) - 1).map(lambda bit: flipped(content, [bit])),
        st.lists(st.integers(0, 8 * len(content) - 1), max_size=5).map(
            lambda bits: flipped(content, bits)
        ),
        st.tuples(st.integers(0, len(content)), st.binary(max_size=20)).map(
            lambda cut: content[: cut[0]] + cut[1] + content[cut[0] :]
        ),
        st.binary(max_size=200),
    )


def flipped(content, bits):
    changed = bytearray(content)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@fuzz
@given(damaged(DEFAULT.read_bytes()))
def test_config_files(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_bytes(content)
        strict = refused(lambda: read_json(path))
        # The file of a run is read as strictly.
        assert refused(lambda: RunDirectory(folder).read_config()) == strict
        refused(lambda: resolve_config(merge_all(str(path))))
        assert path.read_bytes() == content


TINY = {
    "constructor": "RNNProp",
    "network": {"layers": [2], "alpha": 0.1},
    "problems": [
        {
            "target": "mlp_classifier",
            "args": [],
            "kwargs": {"layers": [2], "batch_size": 700},
            "wrappers": [{"target": "RandomScaling", "kwargs": {"limit": 1.0}}],
        },
        {"target": "Rosenbrock", "args": [2]},
    ],
    "validation_problems": [{"target": "Booth"}],
    "training": {
        "repeat": 1,
        "teachers": [{"class_name": "SGD", "config": {"learning_rate": 0.1}}],
        "p_teacher": 0.5,
        "imitation_optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.1}},
    },
    "loss_args": {"epsilon": 1e-6},
    "optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.1, "clipnorm": 1.0}},
    "strategy": {"num_periods": 1, "epochs_per_period": 1, "unroll_distribution": 2},
}


def places(value, path=()):
    yield path
    if not isinstance(value, (dict, list)):
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield from places(item, (*path, key))


COMPLETE = json.loads(json.dumps(resolve_config(TINY)))
REPLACED = st.lists(
    st.tuples(st.sampled_from(sorted(places(COMPLETE), key=str)), NAMES, VALUES, st.integers(0, 3)),
    min_size=1,
    max_size=2,
)


def changed(config, changes):
    """The config with values replaced, removed, or added under other names."""
    config = json.loads(json.dumps(config))
    for path, name, value, how in changes:
        holder = config
        try:
            for part in path[:-1]:
                holder = holder[part]
            if how == 0 and path:
                del holder[path[-1]]
            elif how == 1 or not path:
                holder[name] = value
            else:
                holder[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            pass  # an earlier change has removed the place
    return config


# Sizes that are right, and of a program that needs more memory than there is.
def too_large(value):
    if isinstance(value, dict):
        return any(map(too_large, value.values()))
    if isinstance(value, list):
        return any(map(too_large, value))
    return not isinstance(value, bool) and isinstance(value, int) and value > 10**3


@fuzz
@given(REPLACED)
def test_configs_with_something_replaced(changes):
    config = changed(COMPLETE, changes)

    def build():
        resolved = resolve_config(config)
        again = json.loads(json.dumps(resolved))
        assert resolve_config(again) == again
        if not too_large(resolved):
            build_runner(resolved)

    refused(build)


# One problem, so that a run takes a second.
SMALL = resolve_config(
    {
        **TINY,
        "problems": [{"target": "Rosenbrock", "wrappers": [{"target": "GradientNoise"}]}],
        "validation_problems": [],
    }
)


@settings(fuzz, max_examples=max(2, EXAMPLES // 10))
@given(st.tuples(st.sampled_from(sorted(places(SMALL), key=str)), NAMES, VALUES, st.integers(2, 3)))
def test_what_can_be_built_trains_or_says_why_not(change):
    config = changed(SMALL, [change])

    def train():
        resolved = resolve_config(config)
        if not too_large(resolved):
            build_runner(resolved).train()

    refused(train)


# Checkpoints: bytes after an accident, of others, with other arrays.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two tiny runs of different optimizers with weights of the same shapes."""
    path = tmp_path_factory.mktemp("trained")
    for name in ("DM", "ScaleBasic"):
        job = {
            "constructor": name,
            "network": {"layers": [2]},
            "problems": [{"target": "Booth"}],
            "strategy": {"num_periods": 2, "epochs_per_period": 1, "unroll_distribution": 2},
        }
        if name == "DM":
            job["network"]["preprocess"] = False
        with quick_periods():
            start(merge_overrides(job, [f"directory={path / name}"]))
    return path


def content(path):
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}


def arrays_of(blob):
    array = st.builds(
        lambda shape, kind: np.ones(shape, kind),
        st.lists(st.integers(0, 3), max_size=3),
        st.sampled_from(["f4", "f8", "i4", "?", "U3", "M8[s]", "O", "c8"]),
    )
    known = sorted(unpack(blob))
    change = st.tuples(st.sampled_from(known) | st.text(max_size=8), array | st.none())
    return st.lists(change, min_size=1, max_size=3).map(lambda changes: repacked(blob, changes))


def repacked(blob, changes):
    arrays = unpack(blob)
    for name, array in changes:
        arrays.pop(name, None)
        if array is not None:
            arrays[name] = array
    try:
        return pack(arrays)
    except Exception:  # names that no zip file can have
        return b""


@fuzz
@given(st.data())
def test_checkpoints(trained, data):
    original = RunDirectory(trained / "DM").checkpoint_path(0, 1).read_bytes()
    other = RunDirectory(trained / "ScaleBasic").checkpoint_path(0, 1).read_bytes()
    earlier = RunDirectory(trained / "DM").checkpoint_path(0, 0).read_bytes()
    blob = data.draw(
        st.one_of(damaged(original), arrays_of(original), st.sampled_from([other, earlier]))
    )
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder, "run"))
        shutil.copytree(trained / "DM", run.path)
        run.checkpoint_path(0, 1).write_bytes(blob)
        before = content(run.path)
        if not refused(lambda: run.read_checkpoint(0, 1)):
            # What is not seen in a file is not in its arrays either.
            expected, got = unpack(original), unpack(blob)
            assert expected.keys() == got.keys()
            assert all(np.array_equal(expected[name], got[name]) for name in expected)
        else:
            assert refused(lambda: l2o.load(run.path, period=1))
            if data.draw(st.integers(0, 9)) == 0:
                read = {**run.read_config(), "directory": str(run.path)}
                assert refused(lambda: start(read, read))
        assert content(run.path) == before


ABOUT = {"kind": "l2o>DMOptimizer", "options": {"layers": [2], "preprocess": False}, "about": ""}
SEALED = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["l2o>DMOptimizer", "l2o>ScaleBasicOptimizer"]) | VALUES,
        "options": st.dictionaries(NAMES, VALUES, max_size=3) | VALUES,
        "about": VALUES,
        "weights": VALUES,
    },
)


def resealed(blob):
    try:
        return seal(unpack(blob), ABOUT)
    except ValueError:  # objects, which no seal holds
        return blob


@fuzz
@given(st.data())
def test_saved_optimizers(trained, data):
    checkpoint = RunDirectory(trained / "DM").checkpoint_path(0, 1).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "optimizer.npz")
        original = l2o.load(trained / "DM", period=1)
        original.save(folder)
        whole = path.read_bytes()
        weights = original.network.get_weights()
        arrays, _ = unseal(whole)
        sealed = SEALED.map(lambda changes: seal(arrays, {**ABOUT, **changes}))
        others = arrays_of(pack(arrays)).map(resealed)
        blob = data.draw(
            st.one_of(damaged(whole), arrays_of(whole), st.just(checkpoint), sealed, others)
        )
        path.write_bytes(blob)
        before, loaded = content(Path(folder)), []
        if not refused(lambda: loaded.append(l2o.load(folder))):
            for a, b in zip(weights, loaded[0].network.get_weights(), strict=True):
                assert a.shape == b.shape
        assert before[path] == blob
        assert content(Path(folder)) == before


@fuzz
@given(st.data())
def test_summaries(trained, data):
    original = (trained / "DM/summary.csv").read_bytes()
    blob = data.draw(damaged(original))
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder, "run"))
        shutil.copytree(trained / "DM", run.path)
        run.summary_path.write_bytes(blob)
        before = content(run.path)

        def load():
            row = run.find()
            run.read_checkpoint(row.stage, row.period)

        if not refused(load) and blob != original:
            # A row that is missing, or one that nothing is read from.
            assert run.find() in RunDirectory(trained / "DM").rows()
        assert content(run.path) == before
