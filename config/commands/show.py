"""`list` and `card`: what comes with l2o."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from ..command_line import Command, Parser, import_quietly
from ..overrides import DEFAULT, PRESETS, preset_names, read_json
from ..plain import UserError, nearest, plain

# The folder of l2o, whether this file is installed inside of it or lies beside it in a clone.
WEIGHTS = Path(plain.__file__).parent / "weights"
KINDS = (
    "pretrained", "optimizers", "problems", "wrappers", "strategies", "estimators", "suites",
    "presets",
)  # fmt: skip
# Bytes.
LARGEST_CARD = 2**20


def list_arguments(parser: Parser) -> None:
    """Adds the arguments of `list`."""
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)} [all]")


def list_all(parser: Parser, args: argparse.Namespace) -> None:
    """Prints each name with what it stands for."""
    for kind in args.kinds:
        if kind not in KINDS:
            parser.error(
                f"nothing called {kind!r} to list{nearest(kind, KINDS)}; expected some of: "
                f"{', '.join(KINDS)}"
            )
    kinds = list(dict.fromkeys(args.kinds or KINDS))
    sections: dict[str, tuple[str, Mapping[str, str]]] = {"presets": ("--preset", _presets())}
    if kinds != ["presets"]:
        import_quietly()
        from l2o.listing import sections as registered

        sections.update(registered())
    print("\n\n".join(_section(kind, *sections[kind]) for kind in kinds))


def _section(kind: str, use: str, names: Mapping[str, str]) -> str:
    width = max(map(len, names))
    return "\n".join(
        [f"{kind}: {use}", *(f"  {name:{width}}  {about}" for name, about in names.items())]
    )


def _presets() -> dict[str, str]:
    """Returns the constructor that each preset chooses, by the name of the preset."""
    default = read_json(DEFAULT)["constructor"]
    return {
        name: read_json(PRESETS / f"{name}.json").get("constructor", default)
        for name in preset_names()
    }


def card_arguments(parser: Parser) -> None:
    """Adds the arguments of `card`."""
    parser.add_argument(
        "name", metavar="NAME", help="a trained optimizer: its directory, or a name of `list`"
    )


def card(parser: Parser, args: argparse.Namespace) -> None:
    """Prints a model card."""
    names = sorted(path.parent.name for path in WEIGHTS.glob("*/card.md"))
    path = Path(args.name) / "card.md"
    if not path.is_file() and args.name.rstrip("/") in names:
        path = WEIGHTS / args.name.rstrip("/") / "card.md"
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_CARD).decode("utf-8", errors="replace")
    except FileNotFoundError:
        if path.parent.is_dir():
            raise UserError(
                f"{args.name} has no card.md; those that come with l2o: {', '.join(names)}"
            ) from None
        raise UserError(
            f"no optimizer called {args.name!r}{nearest(args.name, names)}; expected a directory "
            f"with a card.md, or one of: {', '.join(names)}"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    print(text.rstrip("\n"))


LIST = Command(
    "list",
    "List trained optimizers, what can be trained on what, suites and presets.",
    ["", "pretrained problems"],
    list_arguments,
    list_all,
    computes=False,
)
CARD = Command(
    "card",
    "Print the model card of a trained optimizer: how it was made, and where it loses.",
    ["rnnprop-digits"],
    card_arguments,
    card,
    computes=False,
)
