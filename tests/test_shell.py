"""Commands that are printed do what they say when somebody pastes them into a shell."""

import json
import os
import re
import subprocess
import sys

import pytest

from config.commands.evaluate import EVALUATE
from config.commands.resume import RESUME
from config.overrides import merge_all, parse_override
from l2o import load
from l2o.errors import UserError
from l2o.evaluate.evaluation import Request
from l2o.shell import command, directory_option, operand, step
from l2o.train import RunDirectory, resolve_config
from l2o.train.runs.claim import Claim
from l2o.train.session import start

ODD = [
    "plain", "with space", "two  spaces", "-x", "--help", "a'b", 'a"b', "a'$HOME\"b", "$(touch x)",
    "`x`", "a;b&c|d", "~", "*", "a\\b", "#x", "!x", "a=b", "-a=b", "é", "{a,b}", "5", "null",
]  # fmt: skip
UNPRINTABLE = ["a\nb", "\ttab\\'\n", "a\x1b[0m", os.fsdecode(b"\xff'\xfe"), "zero\u200bwidth"]


def pasted(line):
    """The arguments that bash gives to the program of a command."""
    script = f'f() {{ printf "%s\\0" "$@"; }}; f {line}'
    done = subprocess.run(["bash", "-c", os.fsencode(script)], capture_output=True, check=True)
    return [os.fsdecode(part) for part in done.stdout.split(b"\0")[:-1]]


def printed_command(text, name):
    """What follows `l2o name` in a message, up to its end."""
    return text[text.index(f"l2o {name}") :].splitlines()[0]


def test_a_shell_reads_the_words_that_were_given():
    words = [*ODD, *UNPRINTABLE, ""]
    line = command("python", *words)
    assert line.isprintable()
    assert pasted(line) == ["python", *words]


@pytest.mark.parametrize("name", ["-x", "--", "-", "plain", "/-x"])
def test_an_operand_is_no_flag_and_the_same_place(name):
    assert not operand(name).startswith("-")
    assert os.path.normpath(operand(name)) == name


@pytest.mark.parametrize("name", [*ODD, "true", "1e5", "NaN", '"a"', "[1]", " 5", "[" * 10**5])
def test_the_directory_of_an_override_is_a_string(name):
    (word,) = (
        pasted(command(directory_option(name))) if len(name) < 99 else [directory_option(name)]
    )
    path, value = parse_override(word)
    assert path == ("directory",)
    assert isinstance(value, str)
    assert os.path.normpath(value) == name


@pytest.mark.parametrize("name", ODD)
def test_the_commands_of_a_run_lead_to_it(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    job = {"directory": name, "problems": [{"target": "Booth"}]}
    # Prepared by train.py --initialize: what is next?
    start(job, initialize=True)
    line = printed_command(capsys.readouterr().out, "resume")
    assert resumed_by(pasted(line)[2:], monkeypatch)["directory"] in (name, f"./{name}")
    run = RunDirectory(name)
    # Without a trained period.
    with pytest.raises(UserError, match="has no trained weights yet") as error:
        run.find()
    line = printed_command(str(error.value), "resume")
    assert os.path.normpath(pasted(line)[2]) == name
    # Another config in the same directory.
    with pytest.raises(UserError, match="holds a run with another config") as error:
        Claim(resolve_config({**job, "seed": 1}), run, None, resolve_config)._changed()
    go_on, extend = re.findall(r": (l2o resume .*?)(?:, or|$)", str(error.value))
    assert os.path.normpath(pasted(go_on)[2]) == name
    assert pasted(extend) == [*pasted(go_on), "key/path=value"]
    # Where there is none.
    os.remove(run.config_path)
    for missing in (run.read_config, lambda: load(name)):
        with pytest.raises(UserError, match="is not a run directory") as error:
            missing()
        config = merge_all(overrides=pasted(printed_command(str(error.value), "train"))[2:])
        assert os.path.normpath(config["directory"]) == name


def resumed_by(words, monkeypatch):
    """The config that `l2o resume` would start with these arguments."""
    found = []
    monkeypatch.setattr("l2o.train.session.start", lambda config, **_: found.append(config))
    monkeypatch.setattr("config.commands.resume.begin", lambda _: None)
    RESUME.main("l2o resume", words)
    return found[0]


@pytest.mark.parametrize("name", [*ODD, *UNPRINTABLE])
def test_the_command_of_an_evaluation_asks_for_the_same(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A word with an equals sign is an option, unless there is such a directory.
    for path in (operand(name), "-other"):
        os.mkdir(path)
    options = {"dataset": "5", "activation": "relu", "layers": [2, 3], "image_size": None}
    asked = Request([name, "-other"], "mlp_classifier", options=options, steps=7, output=name)
    found = []
    monkeypatch.setattr("l2o.evaluate.session.evaluate", found.append)
    monkeypatch.setattr("config.commands.evaluate.begin", lambda _: None)
    EVALUATE.main("l2o evaluate", pasted(asked.command())[2:])
    (got,) = found
    assert [os.path.normpath(text) for text in got.given] == asked.given
    assert os.path.normpath(got.output) == name
    changed = ("given", "output")
    assert got._replace(**dict.fromkeys(changed)) == asked._replace(**dict.fromkeys(changed))


def test_a_config_that_writes_elsewhere_may_be_told_to(tmp_path):
    config, name = tmp_path / "config.json", str(tmp_path / "a  $b 'c")
    config.write_text(json.dumps({"directory": name}))
    with pytest.raises(UserError, match="outside of this directory") as error:
        merge_all(str(config))
    words = pasted(str(error.value).partition("say so: ")[2])
    assert merge_all(str(config), overrides=words)["directory"] == name


@pytest.mark.parametrize(
    ("started", "from_a_clone", "program"),
    [
        ("clone/train.py", True, "python resume.py"),
        ("evaluate.py", True, "python resume.py"),
        # A program of somebody else.
        ("train.py", False, "l2o resume"),
        ("bin/l2o", False, "l2o resume"),
        ("", False, "l2o resume"),
        ("lib/l2o/__main__.py", False, "python -m l2o resume"),
        ("lib/other/__main__.py", False, "l2o resume"),
    ],
)
def test_the_next_step_is_typed_as_this_one_was(started, from_a_clone, program, monkeypatch):
    monkeypatch.setattr("sys.argv", [started])
    if not from_a_clone:
        monkeypatch.delitem(sys.modules, "config.commands")
    assert step("resume", "a b") == f"{program} 'a b'"
