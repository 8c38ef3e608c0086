"""Writes docs/options.md, with every option of a config: `python docs/make_options.py`.

Names, types and defaults come from the signatures of the constructors, meanings from their
`Args:`.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

from l2o.optimizer import OPTIMIZERS
from l2o.options import describe, options_of, to_json
from l2o.plain import SPELLINGS
from l2o.problems import PROBLEMS, WRAPPERS
from l2o.train import ESTIMATORS, STRATEGIES, LossArgs, Training
from l2o.train.families import DEFAULT_DRAWS
from l2o.train.resolve import job

PAGE = Path(__file__).parent / "options.md"
# In place of a default.
REQUIRED = "required"

INTRO = """\
# Options

<!-- Written by `python docs/make_options.py` from signatures and docstrings: do not edit it. -->

`l2o train path=value` sets an option. A value that is not JSON is a string. `<i>` and `<j>`
are indices of list entries, from 0. If the type is a list or an object, `path=value` replaces all
of it. The last column names the option's case in the tables of tests,
`tests/**/test_*_options.py`. The terms are explained in the [glossary](glossary.md).
"""


class Entry(NamedTuple):
    """One option of the page.

    path: Its path in a config.
    constructor: The constructor that declares it, by its name on the page.
    type, meaning: Text.
    default: A JSON value.
    """

    path: str
    constructor: str
    type: str
    default: Any
    meaning: str


class Section(NamedTuple):
    """The options of one constructor."""

    title: str
    about: str
    entries: list[Entry]


def _keras_optimizer(path: str, what: str, name: str = "", config: str = "") -> list[Entry]:
    """Returns the two options of each `{"class_name", "config"}`.

    Args:
        path: Where it stands in a config.
        what: What it is.
        name: More about its name [nothing].
        config: More about its arguments [nothing].
    """
    return [
        Entry(
            f"{path}/class_name",
            "",
            "a string",
            "Adam",
            f"Name in `keras.optimizers` of {what}, or `PowerSign` or `AddSign`{name}.",
        ),
        Entry(
            f"{path}/config",
            "",
            "an object",
            {},
            f"Its arguments; others have their defaults.{config}",
        ),
    ]


def _target(path: str, kind: str) -> list[Entry]:
    """Returns the three options of each `{"target", "args", "kwargs"}`."""
    return [
        Entry(f"{path}/target", "", "a string", REQUIRED, f"Name of the {kind}."),
        Entry(f"{path}/args", "", "a list", [], "Its positional arguments."),
        Entry(f"{path}/kwargs", "", "an object", {}, f"Its options: see the {kind} below."),
    ]


def _problem_lists() -> Section:
    """Returns the options that resolve_config reads itself; no constructor declares them."""
    validation = meaning(Training, "validation_problems", [])
    return Section(
        "Lists of problems",
        "At `problems/` and `validation_problems/`. The problems, which are taken in turn.",
        [
            *_target("problems/<i>", "problem"),
            Entry(
                "problems/<i>/wrappers",
                "",
                "a list of objects",
                [],
                "The wrappers around it, the innermost first.",
            ),
            Entry(
                "problems/<i>/sample",
                "",
                "an object of distributions",
                None,
                "Makes it a family: for options by name, what their values are drawn from.",
            ),
            Entry(
                "problems/<i>/draws",
                "",
                "an integer",
                DEFAULT_DRAWS,
                "With `sample`: how many members are drawn, by the run's seed.",
            ),
            *_target("problems/<i>/wrappers/<j>", "wrapper"),
            Entry("validation_problems", "", "a list of objects", [], validation),
        ],
    )


def sections() -> list[Section]:
    """Returns the page's sections, in its order."""
    training = _section("Training", "", Training, "training/")
    training.entries.extend(
        _keras_optimizer(
            "training/teachers/<i>",
            "the teacher",
            "; or `l2o`, a trained optimizer",
            " Of `l2o`: `directory`, as `l2o.load` takes it, and `sha256`, which a run writes.",
        )
    )
    training.entries.extend(
        _keras_optimizer("training/imitation_optimizer", "the imitation optimizer")
    )
    return [
        # Its docstring is for readers of the code.
        _section("Top level", "", job, "")._replace(about="At the top. The job and its directory."),
        *_registered(OPTIMIZERS.entries, "constructor={}", "network/"),
        training,
        _section("LossArgs", "", LossArgs, "loss_args/"),
        *_registered(ESTIMATORS.entries, "estimator_constructor={}", "estimator/"),
        Section(
            "Meta-optimizer",
            "At `optimizer/`. Trains the learned weights.",
            _keras_optimizer("optimizer", "the meta-optimizer"),
        ),
        *_registered(STRATEGIES.entries, "strategy_constructor={}", "strategy/"),
        _problem_lists(),
        *_registered(PROBLEMS.entries, "problems/<i>/target={}", "problems/<i>/kwargs/"),
        *_registered(
            WRAPPERS.entries,
            "problems/<i>/wrappers/<j>/target={}",
            "problems/<i>/wrappers/<j>/kwargs/",
        ),
    ]


def _registered(entries: dict[str, Any], choice: str, prefix: str) -> Iterator[Section]:
    for name in sorted(entries):
        yield _section(name, choice.format(name), entries[name], prefix)


def _section(title: str, choice: str, target: Any, prefix: str) -> Section:
    entries = list(_entries(title, target, prefix))
    place = f"At `{prefix}`" if prefix else "At the top"
    if choice:
        place += f", with `{choice}`"
    about = inspect.cleandoc(target.__doc__).splitlines()[0]
    return Section(title, f"{place}. {about}", entries)


def _entries(constructor: str, target: Any, prefix: str) -> Iterator[Entry]:
    for name, option in options_of(target).items():
        default = to_json(option.default)
        yield Entry(
            prefix + name,
            constructor,
            describe(option.annotation),
            default,
            meaning(target, name, default),
        )
        for kind in get_args(option.annotation):
            if inspect.isclass(kind) and is_dataclass(kind):
                yield from _entries(constructor, kind, f"{prefix}{name}/")


def meaning(target: Any, name: str, default: Any) -> str:
    """Returns the meaning of an option in a docstring, or "" if it has none.

    Args:
        target: A class, whose bases are searched too, or a function.
        name: The option.
        default: Its default; a trailing `[default]` is removed, other remarks are not.
    """
    for declaring in inspect.getmro(target) if inspect.isclass(target) else [target]:
        text = _arguments(declaring.__doc__ or "").get(name)
        if text:
            remark = re.search(r"\s*\[([^\[\]]*|.*\[.*\].*)\]\.$", text)
            if remark and _repeats(remark[1], default):
                return text[: remark.start()] + "."
            return text
    return ""


def _arguments(docstring: str) -> dict[str, str]:
    """Returns the texts of a Google docstring's `Args:` section by name."""
    found: dict[str, str] = {}
    _, _, section = inspect.cleandoc(docstring).partition("\nArgs:\n")
    name = ""
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break  # the next section
        start = re.match(r" {4}(\w+): (.*)", line)
        if start:
            name, found[start[1]] = start[1], start[2]
        elif name and line.startswith(" " * 8):
            found[name] += " " + line.strip()
    return found


def _repeats(remark: str, default: Any) -> bool:
    words = {"none": (None, []), "true": (True,), "false": (False,)}
    if remark.lower() in words:
        return default in words[remark.lower()]
    if isinstance(default, dict):  # "base 50, power 2"
        return remark == ", ".join(f"{key} {value}" for key, value in default.items())
    try:
        return to_json(ast.literal_eval(remark)) == default
    except (ValueError, SyntaxError):
        return False


def documented() -> dict[str, Entry]:
    """Returns every option by the id of its test.

    The id is the path, with the constructor if several have an option of this path.
    """
    entries = [entry for section in sections() for entry in section.entries]
    paths = [entry.path for entry in entries]
    return {
        entry.path if paths.count(entry.path) == 1 else f"{entry.path} ({entry.constructor})": entry
        for entry in entries
    }


def page() -> str:
    """Returns the content of docs/options.md."""
    ids = {(entry.path, entry.constructor): name for name, entry in documented().items()}
    parts = [INTRO]
    for section in sections():
        parts.append(f"## {section.title}\n\n{section.about}\n")
        rows = [_row(entry, ids[entry.path, entry.constructor]) for entry in section.entries]
        head = ["| option | type | default | meaning | test |", "|---|---|---|---|---|"]
        parts.append("\n".join([*head, *rows]) + "\n" if rows else "It has no options.\n")
    parts.append("## Other spellings\n\nThese paths are accepted too.\n")
    spellings = ((f"`{'/'.join(path)}`" for path in pair) for pair in SPELLINGS.items())
    parts.append("".join(f"* {spelling}: see {place}\n" for spelling, place in spellings))
    return "\n".join(parts)


def _row(entry: Entry, test: str) -> str:
    default = REQUIRED if entry.default == REQUIRED else f"`{json.dumps(entry.default)}`"
    cells = (f"`{entry.path}`", entry.type, default, entry.meaning, f"`{test}`")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE} is written")
