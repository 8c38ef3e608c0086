"""What holds for every page: its examples are tested, its links lead somewhere."""

import re

import pytest

from tests.pages import CONTINUES, ROOT, blocks, run

PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] + sorted(
    f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")
)
# Each of them is run by the tests of that page.
WITH_EXAMPLES = {
    "README.md", "CONTRIBUTING.md", "docs/evaluation.md", "docs/keras.md", "docs/training.md",
}  # fmt: skip


def test_every_page_with_examples_is_run():
    assert {page for page in PAGES if blocks(page)} == WITH_EXAMPLES
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    for page in WITH_EXAMPLES:
        assert f'run("{page}")' in tests


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


def test_the_glossary_is_sorted_and_linked():
    terms = re.findall(r"^\*\*(.+?)\*\*", (ROOT / "docs/glossary.md").read_text("utf-8"), re.M)
    assert len(terms) >= 20
    assert terms == sorted(terms, key=str.lower)
    assert "(docs/glossary.md)" in (ROOT / "README.md").read_text("utf-8")
