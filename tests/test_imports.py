"""The shape of the code: imports point one way, names are reachable, start-up is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the top down. A file may import from its own layer and from later ones. A name stands for
# a file, or for a package with all files in it that no other name stands for.
LAYERS = [
    ["l2o", "l2o.__main__"],
    ["l2o.api", "l2o.listing"],
    ["l2o.evaluate"],
    ["l2o.train"],
    ["l2o.train.session", "l2o.train.loading"],
    ["l2o.train.build"],
    ["l2o.train.sources"],
    ["l2o.train.resolve"],
    ["l2o.train.runner"],
    ["l2o.train.strategies"],
    ["l2o.train.outer"],
    ["l2o.train.estimators"],
    ["l2o.train.losses"],
    ["l2o.train.runs"],
    ["l2o.train.families"],
    ["l2o.train.distributed"],
    ["l2o.inner"],
    ["l2o.keras_optimizers", "l2o.sign_optimizers", "l2o.progress"],
    ["l2o.problems"],
    ["l2o.optimizer"],
    ["l2o.registry", "l2o.options", "l2o.seeds", "l2o.disk"],
    ["l2o.errors", "l2o.shell", "l2o.signals", "l2o.starting", "l2o.version"],
    ["l2o.plain"],
]


def layer(module: str) -> int:
    """Returns the layer of the longest name that stands for a module."""
    depths = {name: depth for depth, names in enumerate(LAYERS) for name in names}
    while module not in depths:
        module = module.rpartition(".")[0]
    return depths[module]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports(path: Path) -> set[str]:
    """Returns the modules that a file imports; what runs only for a type checker is left out."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from l2o import seeds` names a module, `from l2o.seeds import draw` does not.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if is_module(name) else node.module for name in names}
    return found


FILES = sorted(p for p in (ROOT / "l2o").rglob("*.py") if p != ROOT / "l2o" / "__init__.py")


def pointing_up(path: Path) -> list[str]:
    module = module_of(path)
    mine = [name for name in imports(path) if name.split(".")[0] in ("l2o", "config")]
    assert "config" not in {name.split(".")[0] for name in mine}, "in the wheel it is l2o.config"
    return sorted(name for name in mine if layer(name) < layer(module))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    assert pointing_up(path) == []


def test_every_file_has_a_layer_of_its_own_package():
    # A new file in l2o/train/ itself would count as the top of it.
    flat = {module_of(p) for p in (ROOT / "l2o" / "train").glob("*.py")}
    assert flat <= {name for names in LAYERS for name in names}
    assert {module_of(p) for p in (ROOT / "l2o").glob("*.py")} <= {n for ns in LAYERS for n in ns}


def test_what_config_and_l2o_share_imports_the_standard_library_only():
    assert {name.split(".")[0] for name in imports(ROOT / "l2o/plain.py")} <= {
        *sys.stdlib_module_names
    }


@pytest.mark.parametrize("path", sorted((ROOT / "config").rglob("*.py")), ids=lambda p: p.name)
def test_config_is_plain_data(path):
    tree = ast.parse(path.read_text())

    def names(nodes):
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            # A relative import: the folder is `config` in the clone and `l2o.config` in the wheel.
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.split(".")[0]

    assert set(names(tree.body)) <= {*sys.stdlib_module_names}
    # Inside functions, after arguments are parsed, or when a shell asks for completions.
    assert set(names(ast.walk(tree))) <= {*sys.stdlib_module_names, "l2o", "argcomplete"}


def test_the_package_and_the_clone_have_one_config():
    assert (ROOT / "l2o/config").is_symlink()
    assert (ROOT / "l2o/config").resolve() == (ROOT / "config").resolve()


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


@pytest.mark.parametrize("script", ["train.py", "-c", "-m"])
def test_another_keras_backend_is_refused_in_one_line(script, tmp_path):
    import os

    directory = f"directory={tmp_path}/w"
    arguments = {"-c": ["-c", "import l2o"], "-m": ["-m", "l2o", "train", directory]}.get(
        script, [script, directory]
    )
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
