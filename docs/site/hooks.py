"""Pages of the site that are no Markdown files in docs/, and links between all of them."""

from __future__ import annotations

import ast
import base64
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
# Files of the repository by the places that they have on the site.
MOVED = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    **{
        f"cards/{path.parent.name}.md": path.relative_to(ROOT).as_posix()
        for path in sorted(ROOT.glob("l2o/weights/*/card.md"))
    },
}
# Notebooks, which were run before: `make tutorials`.
BOOKS = {
    f"tutorials/{path.stem}.md": path.relative_to(ROOT).as_posix()
    for path in sorted(ROOT.glob("docs/tutorials/*.ipynb"))
}
PLACES = {file: page for page, file in {**MOVED, **BOOKS}.items()}
# Packages whose public names have a page, and where the names are listed.
REFERENCE = {
    "l2o": "l2o.api",
    "l2o.optimizer": "l2o.optimizer",
    "l2o.problems": "l2o.problems",
    "l2o.train": "l2o.train",
    "l2o.train.estimators": "l2o.train.estimators",
    "l2o.evaluate": "l2o.evaluate",
}


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Adds the pages."""
    for page, file in MOVED.items():
        text = (ROOT / file).read_text("utf-8")
        files.append(File.generated(config, page, content=text))
    for page, file in BOOKS.items():
        text, pictures = notebook(json.loads((ROOT / file).read_text("utf-8")), Path(file).stem)
        files.append(File.generated(config, page, content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    listed: set[str] = set()
    for package, source in REFERENCE.items():
        names = [name for name in public(source) if name not in listed]
        listed.update(names)
        page = f"reference/{package}.md"
        files.append(File.generated(config, page, content=reference(package, source, names)))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Returns a page with its links as they are on the site."""
    at = page.file.src_uri
    here = Path(MOVED.get(at, f"docs/{at}")).parent

    def moved(match: re.Match[str]) -> str:
        target, hash_, anchor = (match[1] or "").partition("#")
        if not target or ":" in target:
            return match[0]
        file = (ROOT / here / target).resolve().relative_to(ROOT).as_posix()
        place = PLACES.get(file, file.removeprefix("docs/"))
        return f"]({'../' * at.count('/')}{place}{hash_}{anchor})"

    # Code may have `](` too.
    return re.sub(r"^```.*?^```$|\]\(([^)\s]+)\)", moved, markdown, flags=re.DOTALL | re.MULTILINE)


def notebook(book: dict[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """Returns a notebook as Markdown, and its pictures by file name.

    Args:
        book: The notebook, as its file has it.
        name: Of the file, without a suffix.
    """
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in book["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                picture = f"{name}-{len(pictures) + 1}.png"
                pictures[picture] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![The plot that the code above makes]({picture})")
            else:
                text = "".join(output.get("text", data.get("text/plain", ""))).rstrip()
                parts.append(f"```{{.text .output}}\n{text}\n```")
    heading, rest = parts[0].split("\n", 1)
    # A link in Markdown would lead to this page.
    link = f'<a href="{name}.ipynb" download>download it</a>'
    about = f"*This page is a notebook: {link}, and run it in Jupyter (`pip install notebook`).*"
    return "\n\n".join([heading, about, rest.strip(), *parts[1:]]) + "\n", pictures


def public(module: str) -> list[str]:
    """Returns the names in `__all__` that are no modules, without importing anything."""
    for node in tree(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
    return [n for n in names if not n.startswith("_") and not is_module(f"{module}.{n}")]


def tree(module: str) -> ast.Module:
    """Returns the syntax tree of a module."""
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text("utf-8"))


def is_module(name: str) -> bool:
    """Returns whether there is a file or folder for a name; `l2o.api` shows those of `l2o`."""
    path = ROOT.joinpath(*name.replace("l2o.api.", "l2o.").split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def reference(package: str, source: str, names: list[str]) -> str:
    """Returns a page with what the docstrings of public names say."""
    about = ast.get_docstring(tree(package))
    # Functions, which have small letters, come first.
    ordered = sorted(names, key=lambda name: not name[0].islower())
    blocks = "\n\n".join(f"::: {source}.{name}" for name in ordered)
    return f"# {package}\n\n{about}\n\n{blocks}\n"
