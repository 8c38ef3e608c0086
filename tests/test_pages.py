"""What holds for every page: its examples are tested, its links lead somewhere."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.pages import CONTINUES, ROOT, blocks, run

PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] + sorted(
    f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")
)
# Each of them is run by the tests of that page.
WITH_EXAMPLES = {
    "README.md", "CONTRIBUTING.md", "docs/evaluation.md", "docs/keras.md", "docs/other-tools.md",
    "docs/sharing.md", "docs/training.md",
    "docs/learned-muon.md",
}  # fmt: skip


def test_every_page_with_examples_is_run():
    assert {page for page in PAGES if blocks(page)} == WITH_EXAMPLES
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    for page in WITH_EXAMPLES:
        assert f'run("{page}")' in tests or f'blocks("{page}")' in tests


@pytest.mark.parametrize("page", sorted(WITH_EXAMPLES))
def test_the_first_block_of_a_page_continues_none(page):
    assert not blocks(page)[0].startswith(CONTINUES)


def test_a_block_has_only_the_names_of_the_block_it_continues(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.pages.ROOT", tmp_path)
    page = "```python\nx = 1\n```\n\n```python\n# Continues the block above.\ny = x\n```\n"
    (tmp_path / "a.md").write_text(page)
    first, second = run("a.md")
    assert "y" not in first
    assert second["y"] == 1
    (tmp_path / "a.md").write_text(page.replace("# Continues the block above.\n", ""))
    with pytest.raises(NameError, match="'x'"):
        run("a.md")


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text("utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text("utf-8")):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(ROOT.resolve()))), link


def test_every_page_is_on_the_site():
    site = (ROOT / "mkdocs.yml").read_text("utf-8")
    cards = [f"cards/{path.parent.name}.md" for path in ROOT.glob("l2o/weights/*/card.md")]
    for page in [*(page.removeprefix("docs/") for page in PAGES if "docs/" in page), *cards]:
        assert len(re.findall(rf"[\s\[]{re.escape(page)}[\s,\]]", site)) == 1, page


# `make docs` does it. It fails for a link that leads nowhere, and for a docstring that is not one.
@pytest.mark.slow
@pytest.mark.parametrize("damage", ["", "[x](nowhere.md)", "[x](runs.md#nowhere)", "[x](../no.md)"])
def test_the_site_is_built_strictly(damage, tmp_path):
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings_handlers.python")
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("docs", "l2o", "config"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    with (tmp_path / "docs/glossary.md").open("a") as page:
        page.write(f"\n{damage}\n")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=tmp_path,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (not damage), done.stderr
    if not damage:
        pages = [path.read_text("utf-8") for path in (tmp_path / "site").rglob("*.html")]
        # Nothing is loaded from elsewhere.
        assert not [
            p for p in pages if re.search(r'<(?:script|img|link)[^>]*(?:src|href)="?http', p)
        ]
        reference = (tmp_path / "site/reference/l2o.html").read_text("utf-8")
        assert "DMOptimizer" in reference
        assert "Loads a trained optimizer" in reference
        # A notebook is a page, with its plots and what it has printed.
        tutorial = (tmp_path / "site/tutorials/rule.html").read_text("utf-8")
        assert 'src="rule-1.png"' in tutorial
        assert "[0.0009999" in tutorial
        assert 'href="compare.html"' in (tmp_path / "site/tutorials/first.html").read_text("utf-8")
        for name in ("rule-1.png", "rule.ipynb"):
            assert (tmp_path / "site/tutorials" / name).stat().st_size
        found = json.loads((tmp_path / "site/search/search_index.json").read_text("utf-8"))
        places = {page["location"] for page in found["docs"]}
        assert {"sharing.html", "tutorials/rule.html#why-it-fails"} <= places


def test_the_glossary_is_sorted_and_linked():
    terms = re.findall(r"^\*\*(.+?)\*\*", (ROOT / "docs/glossary.md").read_text("utf-8"), re.M)
    assert len(terms) >= 20
    assert terms == sorted(terms, key=str.lower)
    assert "(docs/glossary.md)" in (ROOT / "README.md").read_text("utf-8")
