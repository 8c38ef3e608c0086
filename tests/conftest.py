import gc
import os
import runpy
import signal
import sys
import tempfile
from pathlib import Path

# Before anything imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests compile more than they run: without optimization that is a fifth faster.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# Every result is computed; a test of the cache has a folder of its own.
os.environ["L2O_CACHE"] = ""

import pytest
import tensorflow as tf

from l2o.optimizer import TrainableOptimizer
from tests.draws import same_draws

gc.set_threshold(50_000, 50, 50)

# XLA takes longer to compile a rule than most tests take to run it. A test of what is compiled is
# marked with `xla`; scripts that tests start compile as they do for users.
COMPILED = "L2O_XLA" in os.environ
TrainableOptimizer.xla = COMPILED

# Of a graph that runs for a few steps, TensorFlow's optimizer takes a quarter of the time. Scripts
# that tests start have it, as they do for users.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

# Two logical devices, so that one machine can test what happens on several.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(autouse=True, scope="module")
def _what_stays_is_not_looked_at_again():
    """Traces that TensorFlow keeps would be searched for garbage all the time."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _temporary_files_lie_where_pytest_removes_them(tmp_path_factory):
    """TFDS leaves an empty directory for each set that it finds not prepared."""
    path = str(tmp_path_factory.mktemp("temporary"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", path)
        # For the scripts that tests start.
        patch.setenv("TMPDIR", path)
        yield


@pytest.fixture(autouse=True)
def _compiled_where_it_is_asked_for(request, monkeypatch):
    if request.node.get_closest_marker("xla"):
        monkeypatch.setattr(TrainableOptimizer, "xla", True)


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk():
    """What tests write need not outlive the machine; each `fsync` takes 5 ms or more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture
def quick_periods():
    from tests.running import quick_periods

    with quick_periods():
        yield


@pytest.fixture(autouse=True)
def _same_draws_at_each_run():
    """What a test leaves to chance (the first weights of a network) must not decide it."""
    same_draws()


@pytest.fixture
def refuse_here(monkeypatch, capfd):
    """Runs a script in this process; expects exit code 2 and one line, which it returns."""

    def refuse_(cwd, name, *arguments):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as stop:
                runpy.run_path(
                    str(Path(__file__).parent.parent / f"{name}.py"), run_name="__main__"
                )
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        printed = capfd.readouterr()
        assert stop.value.code == 2, printed
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        return line

    return refuse_
