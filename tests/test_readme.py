"""The README's examples work as they stand there, and so do the commands of all pages."""

import re
import shlex

import numpy as np
import pytest
import tensorflow as tf

import l2o
from config.command_line import Parser
from config.main import COMMANDS
from config.overrides import merge_all
from l2o.train import resolve_config
from tests.pages import ROOT, run

PAGES = [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(scope="module")
def examples(directory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        return run("README.md")


def test_a_model_is_trained_with_a_learned_optimizer(examples):
    names, _ = examples
    assert isinstance(names["model"].optimizer, l2o.RNNPropOptimizer)
    assert names["model"].evaluate(names["x"] / 16, names["y"], verbose=0) < np.log(10) / 2


def test_an_optimizer_is_loaded_saved_and_called_as_functions(examples, directory):
    _, names = examples
    optimizer = names["optimizer"]
    assert float(optimizer.learning_rate) == 0.5
    same = l2o.load(directory / "my-optimizer")
    for a, b in zip(same.network.get_weights(), optimizer.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    start = tf.constant([1.0, 2.0])
    expected, _ = optimizer.update([start], names["grads"], optimizer.initial_state([start]))
    np.testing.assert_allclose(names["params"][0], start + expected[0], rtol=1e-6)
    assert np.all(np.sign(expected[0]) == [-1, 1])


def test_it_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 150


def commands(page):
    """The shell lines of a page that call `l2o`, or a script as `l2o` is called."""
    text = (ROOT / page).read_text("utf-8").replace("\\\n", " ")
    fenced = re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M)
    indented = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    lines = re.findall(r"^(?:l2o|python \w+\.py) .*", "".join(fenced), re.M)
    for line in [*lines, *re.findall(r"^    ((?:l2o|python \w+\.py) .*)", indented, re.M)]:
        # A line that says which arguments there are is no example.
        if "[--" not in line and "..." not in line:
            words = shlex.split(line.removeprefix("python "), comments=True)
            yield [words[0].removesuffix(".py"), *words[1:]] if words[0] != "l2o" else words[1:]


@pytest.mark.parametrize(
    "words",
    [w for page in ("README.md", *PAGES) for w in commands(page)],
    ids=lambda words: " ".join(words)[:60],
)
def test_commands_have_arguments_that_there_are(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    command = COMMANDS[words[0]]
    args = Parser(f"l2o {words[0]}", command).parse_intermixed_args(words[1:])
    # The page of families shows what is in that file.
    if words[0] == "train" and args.config != "family.json":
        presets = [name for name in args.preset.split(",") if name]
        resolve_config(merge_all(args.config, presets, args.overrides))


def test_commands_are_found():
    assert len(list(commands("README.md"))) == 2
    assert len(list(commands("docs/command-line.md"))) >= 9
