"""Configs and checkpoints from a stranger: nothing runs, nothing is imported, nothing escapes."""

import io
import json
import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import l2o
from config.overrides import merge_all
from l2o.disk.packing import pack, seal, unpack
from l2o.errors import UserError
from l2o.train import RunDirectory, resolve_config
from l2o.train.session import start
from tests.running import build_runner, quick_periods

pytestmark = pytest.mark.usefixtures("quick_periods")

JOB = {
    "constructor": "DM",
    "network": {"layers": [2]},
    "problems": [{"target": "Booth"}],
    "strategy": {"num_periods": 1, "epochs_per_period": 1, "unroll_distribution": 2},
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """In a folder `here`, beside which nothing may appear."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def go_on(run, **strategy):
    """As resume.py does."""
    read = {**run.read_config(), "directory": str(run.path)}
    start({**read, "strategy": {**read["strategy"], **strategy}}, read)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The directory of a run that was trained, to be copied."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trained"))
        with quick_periods():
            start({**JOB, "directory": "run"})
        return Path("run").absolute()


@pytest.fixture
def trained(_here, original):
    shutil.copytree(original, "run")
    return RunDirectory("run")


@pytest.mark.parametrize(
    "directory", ["../escaped", "a/../../escaped", "{outside}/escaped", "link/escaped", "loop/x"]
)
def test_a_config_file_may_not_write_elsewhere(tmp_path, directory):
    outside = tmp_path / "outside"
    outside.mkdir()
    os.symlink(outside, "link")
    os.symlink("loop", "loop")
    directory = directory.replace("{outside}", str(outside))
    config = tmp_path / "here/stranger.json"
    config.write_text(json.dumps({**JOB, "directory": directory}))
    with pytest.raises(UserError, match=r"directory: .*outside of this directory"):
        merge_all(str(config))
    # Its user may, and the file may name what is here.
    said = merge_all(str(config), overrides=[f"directory={outside}/run"])
    assert said["directory"] == f"{outside}/run"
    config.write_text(json.dumps({**JOB, "directory": "a/b"}))
    assert merge_all(str(config))["directory"] == "a/b"
    assert list(outside.iterdir()) == []


def test_the_place_in_a_run_s_config_is_not_where_it_goes_on(tmp_path, trained):
    config = trained.read_config()
    trained.write_config({**config, "directory": str(tmp_path / "escaped")})
    go_on(trained, num_periods=2)
    assert len(trained.rows()) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here"]


class Payload:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def archive(name, content):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(name, content)
    return packed.getvalue()


@pytest.mark.parametrize("kind", ["array", "member", "file", "sealed"])
def test_a_checkpoint_with_a_pickle_runs_nothing(tmp_path, trained, kind):
    payload = Payload()
    payload.path = tmp_path / "escaped"
    objects = np.empty(1, object)
    objects[0] = payload
    path = trained.checkpoint_path(0, 0)
    if kind == "array":
        path.write_bytes(pack({**unpack(path.read_bytes()), "network/0": objects}))
    elif kind == "member":
        path.write_bytes(archive("network/0.npy", pickle.dumps(payload)))
    elif kind == "file":
        path.write_bytes(pickle.dumps(payload))
    else:
        path.write_bytes(pack({**unpack(path.read_bytes()), "seal": objects}))
    for read in (lambda: l2o.load("run"), lambda: go_on(trained)):
        with pytest.raises(UserError, match=r"checkpoint run/.* is damaged"):
            read()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here"]


@pytest.mark.parametrize("kind", ["array", "member", "file", "sealed"])
def test_a_saved_optimizer_with_a_pickle_runs_nothing(tmp_path, kind):
    payload = Payload()
    payload.path = tmp_path / "escaped"
    objects = np.empty(1, object)
    objects[0] = payload
    l2o.DMOptimizer(layers=(2,)).save("saved")
    path = tmp_path / "here/saved/optimizer.npz"
    whole = unpack(path.read_bytes())
    path.write_bytes(
        {
            "array": lambda: pack({**whole, "0": objects}),
            "member": lambda: archive("0.npy", pickle.dumps(payload)),
            "file": lambda: pickle.dumps(payload),
            "sealed": lambda: pack({**whole, "seal": objects}),
        }[kind]()
    )
    with pytest.raises(UserError, match=r"is not a saved optimizer, or is damaged"):
        l2o.load("saved")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here"]


@pytest.mark.parametrize(
    "name", ["builtins>eval", "os>system", "keras>Adam", "keras.optimizers.Adam"]
)
def test_the_class_of_a_saved_optimizer_is_one_that_is_registered(name, tmp_path):
    optimizer = l2o.DMOptimizer(layers=(2,))
    weights = {str(i): w for i, w in enumerate(optimizer.network.get_weights())}
    before = set(sys.modules)
    (tmp_path / "here/optimizer.npz").write_bytes(
        seal(weights, {"kind": name, "options": {}, "about": ""})
    )
    with pytest.raises(UserError, match="not registered here"):
        l2o.load(".")
    assert set(sys.modules) == before


def test_members_with_paths_are_names_and_no_files(tmp_path, trained):
    path = trained.checkpoint_path(0, 0)
    arrays = {**unpack(path.read_bytes()), "../../../escaped": np.ones(1), "/tmp/x": np.ones(1)}
    path.write_bytes(pack(arrays))
    with pytest.raises(UserError, match="content was changed"):
        l2o.load("run")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here"]


def test_a_bomb_is_not_unpacked():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("network/0.npy", b"\0" * 10**8)
    assert len(packed.getvalue()) < 10**6
    with pytest.raises(ValueError, match="compressed"):
        unpack(packed.getvalue())


def header(shape):
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        array, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return array.getvalue()


@pytest.mark.parametrize("shape", [(10**15,), (2**62, 2**62), (-1,), (2**31, 2**31, 2**31)])
def test_a_shape_that_is_not_there_is_refused(shape):
    with pytest.raises(ValueError, match=r"\w"):
        unpack(archive("network/0.npy", header(shape)))


NO_CODE = {"class_name": "function", "config": {}}
# Each with the path that its refusal names.
CODE = [
    ({"constructor": "os.system"}, "constructor"),
    ({"strategy_constructor": "__import__('os')"}, "strategy_constructor"),
    ({"problems": [{"target": "os:mkdir", "args": ["escaped"]}]}, "problems/0/target"),
    ({"problems": [{"target": "l2o.problems.Booth"}]}, "problems/0/target"),
    (
        {"problems": [{"target": "mlp_classifier", "kwargs": {"activation": "os.system"}}]},
        "problems/0/kwargs/activation",
    ),
    (
        {"problems": [{"target": "mlp_classifier", "kwargs": {"dataset": "../../x"}}]},
        "problems/0/kwargs/dataset",
    ),
    (
        {"problems": [{"target": "mlp_classifier", "kwargs": {"dataset": "stranger:code"}}]},
        "problems/0/kwargs/dataset",
    ),
    ({"optimizer": {"class_name": "antigravity.Optimizer"}}, "optimizer/class_name"),
    (
        {"optimizer": {"config": {"learning_rate": {**NO_CODE, "module": "antigravity"}}}},
        "optimizer/config/learning_rate/module",
    ),
    (
        {"optimizer": {"config": {"learning_rate": {**NO_CODE, "registered_name": "function"}}}},
        "optimizer/config/learning_rate/registered_name",
    ),
    (
        {"optimizer": {"config": {"learning_rate": NO_CODE}}},
        "optimizer/config/learning_rate/class_name",
    ),
    ({"network": {"kernel_initializer": {"class_name": "Lambda"}}}, "network/kernel_initializer"),
    ({"training": {"teachers": [{"class_name": "os.system"}]}}, "training/teachers/0/class_name"),
    ({"training": {"unroll_weights": "lambda n: 1"}}, "training/unroll_weights"),
    ({"strategy": {"schedule": "lambda i: 1"}}, "strategy/schedule"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "path"), CODE, ids=[path for _, path in CODE])
def test_a_config_imports_and_runs_nothing(tmp_path, monkeypatch, change, path):
    (tmp_path / "here/stranger.py").write_text("open('../escaped', 'w')")
    monkeypatch.syspath_prepend(tmp_path / "here")
    before = {*sys.modules}
    with pytest.raises(UserError) as error:
        build_runner(resolve_config({**JOB, **change}))
    assert error.value.path == path
    assert not {"stranger", "antigravity", "os:mkdir"} & ({*sys.modules} - before)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here"]


@pytest.mark.parametrize(
    "name", [".lock", "log.csv", "config.json", pytest.param("summary.csv", marks=pytest.mark.slow)]
)
def test_links_in_a_run_directory_are_not_written_through(tmp_path, trained, name):
    outside = tmp_path / "outside"
    outside.write_bytes((trained.path / name).read_bytes() if name != ".lock" else b"theirs")
    before = outside.read_bytes()
    (trained.path / name).unlink(missing_ok=True)
    (trained.path / name).symlink_to(outside)
    if name in (".lock", "log.csv"):
        with pytest.raises(UserError, match=r"cannot write run.*: .*symbolic"):
            go_on(trained, num_periods=2)
    else:
        go_on(trained, num_periods=2)
        assert len(trained.rows()) == 2
        assert not (trained.path / name).is_symlink()
    assert outside.read_bytes() == before


def test_a_checkpoint_folder_that_is_a_link_gets_nothing(tmp_path, trained):
    outside = tmp_path / "outside"
    (trained.path / "checkpoints").rename(outside)
    (trained.path / "checkpoints").symlink_to(outside)
    before = {p: p.read_bytes() for p in outside.iterdir()}
    with pytest.raises(UserError, match="checkpoints is a link, expected a folder of its own"):
        go_on(trained, num_periods=3, keep_checkpoints=1)
    assert {p: p.read_bytes() for p in outside.iterdir()} == before
