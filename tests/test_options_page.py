"""docs/options.md is what the constructors say, all of it and nothing else."""

import inspect
import re
import runpy
from pathlib import Path

import pytest

from l2o.errors import UserError
from l2o.optimizer import OPTIMIZERS
from l2o.problems import PROBLEMS, WRAPPERS
from l2o.train import ESTIMATORS, STRATEGIES, LossArgs, Training, resolve_config
from l2o.train.outer.perturbation import Perturbation
from l2o.train.resolve import job
from l2o.train.strategies.schedules import Exponential

ROOT = Path(__file__).parent.parent
GENERATOR = runpy.run_path(str(ROOT / "docs/make_options.py"))
PAGE = (ROOT / "docs/options.md").read_text("utf-8")


def test_the_page_is_up_to_date():
    assert GENERATOR["page"]() == PAGE, "run `python docs/make_options.py`"


def test_every_option_has_a_meaning():
    assert [name for name, entry in GENERATOR["documented"]().items() if not entry.meaning] == []


@pytest.mark.parametrize(
    ("text", "default", "meaning"),
    [
        ("What it is [5].", 5, "What it is."),
        ('What it is ["a"].', "a", "What it is."),
        ("What it is [none].", [], "What it is."),
        ("What it is [None].", None, "What it is."),
        ("What it is [(1, 2)].", [1, 2], "What it is."),
        ("What it is [base 5, power 2].", {"base": 5, "power": 2}, "What it is."),
        ("Returns [n] [5].", 5, "Returns [n]."),
        ("What it is [5, as in the paper].", 5, "What it is [5, as in the paper]."),
        ("What it is [6].", 5, "What it is [6]."),
        ("What it is,\n        and more.", 5, "What it is, and more."),
    ],
)
def test_meanings_do_not_repeat_the_default(text, default, meaning):
    def function(option=default):
        pass

    function.__doc__ = f"Does.\n\n    Args:\n        other: Not it.\n        option: {text}\n"
    function.__doc__ += "\n    Returns:\n        option: nothing.\n    "
    # As in a docstring, the continuation is indented below the name.
    function.__doc__ = function.__doc__.replace("\n        and", "\n            and")
    assert GENERATOR["meaning"](function, "option", default) == meaning


# A second look, without the generator: from the signatures, and from the Markdown.


def parameters(target):
    """The names of the options in the signatures of a class and its bases, or of a function."""
    bases = inspect.getmro(target) if inspect.isclass(target) else [target]
    names = set()
    for base in bases:
        if base.__name__ == "TrainableOptimizer":
            # Where it comes first, as in Keras' optimizers, it is what deployment takes.
            names.discard("learning_rate")
            break
        function = vars(base).get("__init__") if inspect.isclass(base) else base
        for name, parameter in inspect.signature(function).parameters.items() if function else ():
            given_by_python = "PYTHON_ONLY" in str(parameter.annotation)
            if parameter.default is not parameter.empty and not given_by_python:
                names.add(name)
    return names


def known_here(config):
    """What an unknown option's message says there is."""
    with pytest.raises(UserError, match="known here") as error:
        resolve_config({"problems": [{"target": "Booth"}], **config})
    return set(re.split(r", ", str(error.value).partition("known here: ")[2]))


def expected():
    """Every (section, path) that should be on the page."""
    sources = {
        ("Top level", ""): parameters(job),
        ("Training", "training/"): parameters(Training),
        ("LossArgs", "loss_args/"): parameters(LossArgs),
        ("CurriculumLearning", "strategy/schedule/"): parameters(Exponential),
        ("Training", "training/perturbation/"): parameters(Perturbation),
        ("Meta-optimizer", "optimizer/"): known_here({"optimizer": {"?": 0}}),
    }
    for path in ("teachers/<i>", "imitation_optimizer"):
        given = [{"?": 0}] if path.startswith("teachers") else {"?": 0}
        names = known_here({"training": {path.partition("/")[0]: given}})
        sources["Training", f"training/{path}/"] = names
    wrapper = {"target": "Booth", "wrappers": [{"?": 0}]}
    for path, problem in (("problems/<i>", {"?": 0}), ("problems/<i>/wrappers/<j>", wrapper)):
        sources["Lists of problems", f"{path}/"] = known_here({"problems": [problem]})
    for registry, prefix in (
        (OPTIMIZERS, "network/"),
        (STRATEGIES, "strategy/"),
        (ESTIMATORS, "estimator/"),
        (PROBLEMS, "problems/<i>/kwargs/"),
        (WRAPPERS, "problems/<i>/wrappers/<j>/kwargs/"),
    ):
        for name, target in registry.entries.items():
            sources[name, prefix] = parameters(target)
    rows = {(s, prefix + name) for (s, prefix), names in sources.items() for name in names}
    return {*rows, ("Lists of problems", "validation_problems")}


def on_the_page(page):
    """Every (section, path) in the tables of `page`."""
    rows, section = [], ""
    for line in page.splitlines():
        section = line.removeprefix("## ") if line.startswith("## ") else section
        cell = re.match(r"\| `([^`]+)` \|", line)
        if cell:
            rows.append((section, cell[1]))
    return rows


def missing_and_invented(page):
    seen = on_the_page(page)
    assert len(seen) == len(set(seen))
    return sorted(expected() - set(seen)), sorted(set(seen) - expected())


def test_the_page_has_every_option_and_no_other():
    assert missing_and_invented(PAGE) == ([], [])


def test_every_constructor_has_a_section():
    for registry in (OPTIMIZERS, STRATEGIES, ESTIMATORS, PROBLEMS, WRAPPERS):
        for name in registry.entries:
            assert f"\n## {name}\n" in PAGE


def test_every_top_level_name_is_on_the_page():
    for name in known_here({"?": 0}):
        assert re.search(rf"\| `{name}(/[^`]+)?` \|", PAGE), name


def test_pages_name_options_that_there_are():
    known = {path for _, path in on_the_page(PAGE)}
    named = {
        path
        for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        if page.name != "options.md"
        for path in re.findall(
            r"(?<![\w/])((?:training|strategy|loss_args|estimator)/\w+)", page.read_text("utf-8")
        )
    }
    assert len(named) > 20
    # The example of wrong input.
    assert named - known == {"strategy/num_period"}


def test_a_missing_and_an_invented_row_are_noticed():
    row = next(line for line in PAGE.splitlines() if line.startswith("| `network/alpha`"))
    assert missing_and_invented(PAGE.replace(row + "\n", "")) == (
        [("RNNProp", "network/alpha")],
        [],
    )
    invented = row.replace("alpha", "alpah")
    assert missing_and_invented(PAGE.replace(row, f"{row}\n{invented}")) == (
        [],
        [("RNNProp", "network/alpah")],
    )


def test_a_new_option_is_noticed(monkeypatch):
    class Changed(OPTIMIZERS.entries["DM"]):
        """With one option more."""

        def __init__(self, *, momentum: float = 0.5, **kwargs):
            super().__init__(**kwargs)

    monkeypatch.setitem(OPTIMIZERS.entries, "DM", Changed)
    assert missing_and_invented(PAGE) == ([("DM", "network/momentum")], [])
    entries = {entry.path: entry for entry in GENERATOR["documented"]().values()}
    assert entries["network/momentum"].meaning == ""
    assert GENERATOR["page"]() != PAGE


def test_tables_have_five_columns():
    for line in PAGE.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 6, line


def test_the_script_writes_the_page(tmp_path, monkeypatch):
    script = (ROOT / "docs/make_options.py").read_text("utf-8")
    (tmp_path / "make_options.py").write_text(script)
    runpy.run_path(str(tmp_path / "make_options.py"), run_name="__main__")
    assert (tmp_path / "options.md").read_text("utf-8") == PAGE
