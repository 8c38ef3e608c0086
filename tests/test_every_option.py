"""Every option of docs/options.md has a case in a table of tests, see tests/option_cases.py."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_option_has_one_case():
    options = runpy.run_path(str(ROOT / "docs/make_options.py"))["documented"]()
    tables = [
        runpy.run_path(str(path)).get("cases", {})
        for path in (ROOT / "tests").rglob("test_*_options.py")
    ]
    assert sorted(name for table in tables for name in table) == sorted(options)
