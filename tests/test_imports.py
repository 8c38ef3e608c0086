"""The shape of the code: imports point one way, names are reachable, start-up is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the top down; a file may import what stands in a later layer, or its own.
LAYERS = [
    ["l2o"],
    ["l2o.evaluate"],
    ["l2o.train"],
    ["l2o.inner"],
    ["l2o.keras_optimizers", "l2o.progress"],
    ["l2o.problems"],
    ["l2o.optimizer"],
    ["l2o.registry", "l2o.options", "l2o.seeds", "l2o.disk"],
    ["l2o.errors", "l2o.shell", "l2o.signals", "l2o.version"],
]


def layer(module: str) -> int:
    for depth, names in enumerate(LAYERS[1:], start=1):
        if any(module == name or module.startswith(name + ".") for name in names):
            return depth
    assert module == "l2o", f"{module} belongs to no layer"
    return 0


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from l2o import seeds` names a module, `from l2o.seeds import draw` does not.
            found |= (
                {f"l2o.{alias.name}" for alias in node.names}
                if node.module == "l2o"
                else {node.module}
            )
    return found


FILES = sorted(p for p in (ROOT / "l2o").rglob("*.py") if p != ROOT / "l2o" / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for imported in imports(path):
        if imported.split(".")[0] == "l2o":
            assert layer(imported) >= layer(module), f"{module} imports {imported}"


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.py")), ids=lambda p: p.name)
def test_config_is_plain_data(path):
    allowed = {"config", *sys.stdlib_module_names}
    lazy = {"l2o", "l2o.errors"}  # inside functions, after arguments are parsed
    tree = ast.parse(path.read_text())
    top = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert {name.split(".")[0] for name in top} <= allowed
    assert {name for name in imports(path) if name.startswith("l2o")} <= {*lazy, "l2o.errors"}


@pytest.mark.parametrize("script", ["train", "resume", "evaluate", "baseline"])
def test_help_answers_without_tensorflow(script):
    code = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_path('{script}.py', run_name='__main__')\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert 'tensorflow' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"python {script}.py" in done.stdout, "an example"


def test_scripts_are_thin():
    for script in ("train", "resume", "evaluate", "baseline"):
        assert len((ROOT / f"{script}.py").read_text().splitlines()) < 50


@pytest.mark.parametrize("script", ["train.py", "-c"])
def test_another_keras_backend_is_refused_in_one_line(script, tmp_path):
    import os

    arguments = [script, "import l2o"] if script == "-c" else [script, f"directory={tmp_path}/w"]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    assert done.returncode == (1 if script == "-c" else 2)
    assert "KERAS_BACKEND is 'jax'" in done.stderr.splitlines()[-1]
    if script != "-c":
        assert len(done.stderr.splitlines()) == 1


def test_public_names():
    import keras

    import l2o

    assert issubclass(l2o.DMOptimizer, l2o.optimizer.TrainableOptimizer)
    assert issubclass(l2o.RNNPropOptimizer, l2o.optimizer.TrainableOptimizer)
    assert issubclass(l2o.optimizer.TrainableOptimizer, keras.optimizers.Optimizer)
    assert isinstance(l2o.DMOptimizer().network, keras.layers.Layer)
    assert callable(l2o.load)
