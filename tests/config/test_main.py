"""The command `l2o`, in this process and as a process."""

import json
import os
import re
import subprocess
import sys

import pytest

import l2o
from config.main import COMMANDS, main
from config.overrides import preset_names
from l2o.evaluate.baselines import BASELINES
from l2o.evaluate.protocol import LEARNED_DECAYS, PROTOCOLS, TUNED_FOR
from l2o.evaluate.schedules import SCHEDULES
from l2o.evaluate.suites import SUITES
from l2o.optimizer import OPTIMIZERS
from l2o.problems import PROBLEMS
from tests.scripts import ROOT, TINY, files

NAMES = ["train", "resume", "evaluate", "baseline", "list", "card"]


def called(*words, cwd=None, **environment):
    """Runs `python -m l2o`."""
    return subprocess.run(
        [sys.executable, "-m", "l2o", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), **environment},
    )


@pytest.fixture
def l2o_(monkeypatch, capfd):
    """Runs `l2o ...` in this process; returns its exit code and what it printed."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["/somewhere/bin/l2o", *words])
        monkeypatch.setattr("signal.signal", lambda *_: None)
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capfd.readouterr()

    return run


def test_help_lists_every_command_with_an_example(l2o_):
    code, printed, _ = l2o_("--help")
    assert code == 0
    assert list(COMMANDS) == NAMES
    for name in NAMES:
        assert re.search(rf"^  {name} +[A-Z]", printed, re.M)
        assert f"\n  l2o {name}" in printed
    assert l2o_() == (0, printed, ""), "without a command too"
    assert l2o_("--version") == (0, f"l2o {l2o.__version__}\n", "")


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_command_has_its_examples(l2o_, name):
    code, printed, _ = l2o_(name, "--help")
    assert code == 0
    assert printed.startswith(f"usage: l2o {name} ")
    for i in range(len(COMMANDS[name].examples)):
        assert f"\n  {COMMANDS[name].example(f'l2o {name}', i)}\n" in printed


def test_the_help_of_evaluate_names_what_there_is(l2o_):
    """Its text cannot be built from the code, which imports TensorFlow."""
    text = " ".join(l2o_("evaluate", "--help")[1].split())
    *suites, last = sorted(SUITES.entries)
    assert f"--suite NAME {', '.join(suites)} or {last} --" in text
    assert f"for all optimizers: {', '.join(SCHEDULES.entries)} --" in text
    assert f"some of {', '.join(BASELINES.entries)}; " in text
    assert f"with their rate: {', '.join(f'{d:g}' for d in LEARNED_DECAYS)} --" in text
    assert re.findall(r"(\w+) \((?:baselines|learned)", text) == [*PROTOCOLS.entries]
    assert re.findall(r"minimises: (\w+), or (\w+) \(", text) == [TUNED_FOR]


def test_the_page_shows_what_is_said_of_wrong_input(l2o_):
    page = (ROOT / "docs/command-line.md").read_text("utf-8")
    ((words, error),) = re.findall(r"^\$ l2o (.*)\n(.*)$", page, re.M)
    assert l2o_(*words.split()) == (2, "", f"{error}\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], ["l2o: no command called 'trian' (did you mean train?)", "baseline, list"]),
        (["--quiet", "train"], ["l2o: no command called '--quiet'"]),
        (["train", "--perod"], ["l2o train: unrecognized arguments: --perod"]),
        (["train", "--preset", "dm"], ["l2o train: --preset: no preset called 'dm'", "dm-paper"]),
        (["train", "num_periods"], ["l2o train: 'num_periods' is not an override"]),
        (["train", "strategy/num_period=5"], ["l2o train: strategy/num_period: unknown option"]),
        (["resume", "x", "directory=y"], ["l2o resume: directory=y: the directory of a run"]),
        (["resume", "nowhere"], ["l2o resume: nowhere is not", "with: l2o train directory=now"]),
        (["evaluate", "a=1"], ["l2o evaluate: expected a DIRECTORY"]),
        (["evaluate", "dm-digit"], ["l2o evaluate: dm-digit is not", "did you mean dm-digits?"]),
        (["baseline", "--seeds", "0"], ["l2o baseline: argument --seeds: expected 1 to"]),
        (["list", "problem"], ["l2o list: nothing called 'problem'", "did you mean problems?"]),
        (["card", "dm-digit"], ["l2o card: no optimizer called 'dm-digit' (did you mean dm-di"]),
        (["card", "."], ["l2o card: . has no card.md"]),
        (["card"], ["l2o card: the following arguments are required: NAME"]),
    ],
)
def test_wrong_input_is_one_line(l2o_, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    code, printed, error = l2o_(*words)
    assert (code, printed) == (2, "")
    (line,) = error.splitlines()
    for part in expected:
        assert part in line
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    "words", [[], ["--version"], ["train", "--help"], ["trian"], ["train", "x"]]
)
def test_tensorflow_is_not_imported_for_help_and_wrong_arguments(words, tmp_path):
    for start in ("-m l2o", "bin/l2o", "a link"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = ["-m", "l2o"]
        if start != "-m l2o":
            # What pip writes for the entry point.
            command = [str(tmp_path / "l2o")]
            (tmp_path / "l2o").write_text("from l2o.__main__ import main\nmain()\n")
        if start == "a link":
            command = [str(tmp_path / "other")]
            (tmp_path / "other").symlink_to("l2o")
        done = subprocess.run(
            [sys.executable, "-X", "importtime", *command, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert done.returncode == (2 if words in (["trian"], ["train", "x"]) else 0), done.stderr
        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "l2o.config.main" in imported
        assert imported.isdisjoint({"tensorflow", "keras", "numpy", "l2o.api"})


# Stands in for `l2o.api`, which imports TensorFlow: that takes seconds.
STAND_IN = (
    "import importlib.util, sys\n"
    "class Finder:\n"
    "    def find_spec(self, name, *_):\n"
    "        if name == 'l2o.api':\n"
    "            return importlib.util.spec_from_file_location(name, sys.path[-1] + '/api.py')\n"
    "sys.path.append({folder!r})\n"
    "sys.meta_path.insert(0, Finder())\n"
    "import l2o\n"
)


@pytest.fixture
def stand_in(tmp_path):
    (tmp_path / "api.py").write_text("__all__ = ['load']\nload = 'loaded'\n")
    return STAND_IN.format(folder=str(tmp_path))


def test_a_program_that_is_not_the_command_gets_all_of_l2o_at_once(tmp_path, stand_in):
    """So that Keras knows the classes in the file of a model."""
    code = stand_in + "print('l2o.api' in sys.modules and vars(l2o)['load'] == 'loaded')"
    (tmp_path / "other.py").write_text(code)
    (tmp_path / "package").mkdir()
    # Python imports it as it imports l2o for `python -m l2o`.
    (tmp_path / "package/__init__.py").write_text(code)
    (tmp_path / "package/__main__.py").write_text("")
    for command in (["-c", code], ["other.py"], ["-m", "package", "l2o"]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.stdout == "True\n"


# It imports TensorFlow.
@pytest.mark.slow
def test_all_of_l2o_has_the_classes(tmp_path):
    code = "import sys, l2o; print('l2o.optimizer.dm' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "True\n"


def test_within_the_command_names_are_looked_up_when_they_are_used(tmp_path, stand_in):
    (tmp_path / "l2o").write_text(
        f"{stand_in}"
        "assert 'l2o.api' not in sys.modules\n"
        "assert not hasattr(l2o, '__all__') and 'l2o.api' not in sys.modules\n"
        "assert l2o.load == 'loaded' and 'l2o.api' in sys.modules\n"
        "assert not hasattr(l2o, 'nothing')\n"
    )
    subprocess.run(
        [sys.executable, str(tmp_path / "l2o")],
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


# It imports TensorFlow.
@pytest.mark.slow
def test_within_the_command_names_are_loaded_when_they_are_used(tmp_path):
    (tmp_path / "l2o").write_text(
        "import sys, l2o\n"
        "assert 'tensorflow' not in sys.modules\n"
        "assert not hasattr(l2o, '__all__') and 'tensorflow' not in sys.modules\n"
        "assert l2o.load('dm-digits').name == l2o.DMOptimizer().name\n"
        "from l2o import train, optimizer\n"
        "assert not hasattr(l2o, 'nothing')\n"
    )
    subprocess.run(
        [sys.executable, str(tmp_path / "l2o")],
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_list_has_what_the_registries_have(l2o_):
    code, printed, error = l2o_("list")
    assert (code, error) == (0, "")
    sections = {block.partition(":")[0]: block for block in printed.split("\n\n")}
    names = {
        kind: [line.split()[0] for line in block.splitlines()[1:]]
        for kind, block in sections.items()
    }
    assert names["pretrained"] == sorted(l2o.pretrained())
    assert names["optimizers"] == list(OPTIMIZERS.entries)
    assert names["problems"] == list(PROBLEMS.entries)
    assert names["presets"] == preset_names()
    assert "generalization" in names["suites"]
    assert "PES" in names["estimators"]
    assert re.search(r"^  dm-paper +DM$", sections["presets"], re.M)
    for kind, block in sections.items():
        for line in block.splitlines()[1:]:
            assert len(line.split()) > 1, f"{kind}: {line}"
    assert l2o_("list", "suites", "presets", "suites")[1] == (
        f"{sections['suites']}\n\n{sections['presets']}"
    )


def test_card_prints_the_card(l2o_, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "l2o/weights/dm-digits/card.md").read_text()
    assert l2o_("card", "dm-digits") == (0, text, "")
    # A directory of that name comes first, as in l2o.load.
    (tmp_path / "dm-digits").mkdir()
    (tmp_path / "dm-digits/card.md").write_text("mine\n")
    assert l2o_("card", "dm-digits/") == (0, "mine\n", "")


@pytest.mark.slow
def test_a_run_of_the_command_is_a_run_of_the_script(tmp_path):
    arguments = ["constructor=RNNProp", *TINY, "directory=run"]
    done = called("train", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "next: python -m l2o evaluate run --problem mlp_classifier" in done.stdout
    # The script takes it for the same run.
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "going on after 2 periods" in done.stdout
    assert "next: python evaluate.py run" in done.stdout
    assert json.loads((tmp_path / "run/config.json").read_text())["directory"] == "run"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("l2o tr", ["train "]),
        ("l2o card rnnprop-d", ["rnnprop-digits "]),
        ("l2o train --preset rnnprop-p", ["rnnprop-paper "]),
        ("l2o list opt", ["optimizers "]),
        ("l2o evaluate scale-basic-d", ["scale-basic-digits "]),
        ("l2o evaluate dm-digits --sui", ["--suite "]),
    ],
)
def test_a_shell_completes(line, expected, tmp_path):
    pytest.importorskip("argcomplete")
    (tmp_path / "l2o").write_text("from l2o.__main__ import main\nmain()\n")
    environment = {
        "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer"), "_ARGCOMPLETE_IFS": "\n",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }  # fmt: skip
    subprocess.run(
        [sys.executable, str(tmp_path / "l2o")],
        cwd=tmp_path,
        check=True,
        env={**os.environ, **environment},
    )
    assert (tmp_path / "answer").read_text().split("\n") == expected


@pytest.mark.parametrize("words", [["--help"], ["list", "presets"], ["card", "dm-digits"]])
def test_an_output_that_is_closed_or_not_read_is_no_traceback(words):
    line = f"{sys.executable} -m l2o {' '.join(words)}"
    for redirected in (">&-", "> /dev/full", "| true"):
        done = subprocess.run(
            ["bash", "-c", f"{line} {redirected}"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) <= 1


def test_a_terminal_that_lacks_a_character_gets_the_others(tmp_path):
    (tmp_path / "card.md").write_text("0.1 \u00b1 0.2\n", "utf-8")
    done = called("card", str(tmp_path), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0.1 ? 0.2\n", "")
