"""The notebooks of docs/tutorials: they run, and their outputs are those of their code."""

import ast
import base64
import hashlib
import json
import os
import re
import subprocess
import sys

import pytest

from tests.pages import ROOT
from tests.test_pages import anchors

BOOKS = sorted((ROOT / "docs/tutorials").glob("*.ipynb"))
books = pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
NAMES = {"first", "keras", "rule", "problem", "compare", "evolution"}


def cells(path, kind):
    found = json.loads(path.read_text("utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def test_there_are_six_and_the_site_has_them():
    assert {path.stem for path in BOOKS} == NAMES
    site = (ROOT / "mkdocs.yml").read_text("utf-8")
    for name in NAMES:
        assert site.count(f"tutorials/{name}.md") == 1
        assert f"(docs/tutorials/{name}.ipynb)" in (ROOT / "README.md").read_text("utf-8")


@books
def test_outputs_are_there_in_order_and_without_errors(path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        kinds = [output["output_type"] for output in cell["outputs"]]
        assert "error" not in kinds, source(cell)
        assert "stderr" not in [output.get("name") for output in cell["outputs"]]
        last = ast.parse(source(cell)).body[-1]
        if isinstance(last, ast.Expr) and not isinstance(last.value, ast.Call):
            assert "execute_result" in kinds, source(cell)
        lines = source(cell).splitlines()
        if "plt.show()" in lines:
            assert "display_data" in kinds, source(cell)
        if any(line.startswith("print(") for line in lines):
            assert "stream" in kinds, source(cell)
    sources = [source(cell) for cell in code]
    digest = hashlib.sha256("\0".join(sources).encode()).hexdigest()
    found = json.loads(path.read_text("utf-8"))["metadata"]["sha256"]
    assert found == digest, "the code has changed: make tutorials"


@books
def test_they_are_small_and_say_nothing_of_the_machine_they_ran_on(path):
    text = path.read_text("utf-8")
    assert len(text) < 150_000
    for word in (os.path.expanduser("~"), "/tmp", "0x7f", "site-packages", "Traceback"):
        assert word not in text, word
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            picture = output.get("data", {}).get("image/png")
            if picture:
                assert base64.b64decode("".join(picture)).startswith(b"\x89PNG")
    assert all(cell["metadata"] == {} for cell in json.loads(text)["cells"])


@books
def test_the_prose_is_short_and_its_links_lead_somewhere(path):
    prose = [source(cell) for cell in cells(path, "markdown")]
    assert prose[0].startswith("# ")
    assert sum(len(text.split()) for text in prose) < 700
    for target in re.findall(r"\]\(([^)\s]+)\)", "\n".join(prose)):
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve()
        assert place.exists(), target
        if anchor:
            assert anchor in anchors(str(place.relative_to(ROOT.resolve()))), target


# In a process of its own, as a kernel is. Each takes one to three minutes.
@pytest.mark.slow
@books
def test_they_run(path, tmp_path):
    program = "\n\n".join(source(cell) for cell in cells(path, "code"))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={
            **os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT),
            "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
